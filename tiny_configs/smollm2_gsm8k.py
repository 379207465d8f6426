"""SmolLM2-135M on grade-school problems, on CPU: slow, but it runs. Every key: bridge_min/config.py.

    python train.py tiny_configs/smollm2_gsm8k.py

Needs SmolLM2-135M in models/smollm2, and gsm8k_train.jsonl and gsm8k_test.jsonl in data
(bridge_min/real/jsonl.py says in what form).
"""

out = "out/smollm2_gsm8k"
recompute = True
micro_batch = 8
sample_rows = 128

base = "models/smollm2"
task = "jsonl"
data = "data"
train_file = "gsm8k_train.jsonl"
test_files = ("gsm8k_test.jsonl",)
prompt = """<|im_start|>system
Reason step by step. The last line is #### and the answer.<|im_end|>
<|im_start|>user
{problem}<|im_end|>
<|im_start|>assistant
"""
end = ("<|im_end|>", "<|endoftext|>")
train_problems = 7373
val_problems = 100
test_problems = 1319
demos = 3000

method = "bridge"
lam = 0.5
steps = 100
prompts = 8
demos_per_step = 8
group = 8
max_new = 256
lr = 1e-5
lr_lora = 1e-4
table = "trained"
