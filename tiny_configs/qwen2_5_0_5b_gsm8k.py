"""Qwen2.5-0.5B, the base model, on grade-school problems, on one GPU. Every key: bridge_min/config.py.

    python train.py tiny_configs/qwen2_5_0_5b_gsm8k.py

Needs Qwen2.5-0.5B in models/qwen2.5-0.5b, and gsm8k_train.jsonl and gsm8k_test.jsonl in data
(bridge_min/real/jsonl.py says in what form).
"""

out = "out/qwen2_5_0_5b_gsm8k"
device = "cuda"
dtype = "bfloat16"
recompute = True
micro_batch = 16
sample_rows = 256

base = "models/qwen2.5-0.5b"
task = "jsonl"
data = "data"
train_file = "gsm8k_train.jsonl"
test_files = ("gsm8k_test.jsonl",)
prompt = """<|im_start|>system
Please reason step by step. The last line is #### and the answer.<|im_end|>
<|im_start|>user
{problem}<|im_end|>
<|im_start|>assistant
"""
end = ("<|im_end|>", "<|endoftext|>")
train_problems = 7273
val_problems = 200
test_problems = 1319
demos = 3000

method = "bridge"
lam = 0.5
steps = 200
prompts = 32
demos_per_step = 16
group = 8
max_new = 400
lr = 1e-6
lr_lora = 1e-5
table = "trained"
