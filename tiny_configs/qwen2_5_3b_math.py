"""Qwen2.5-3B on MATH, levels 3 to 5: a row of the paper's table. Every key: bridge_min/config.py.

    torchrun --nproc_per_node=4 train.py tiny_configs/qwen2_5_3b_math.py
    python eval.py out/qwen2_5_3b_math --splits=math500,minerva_math,olympiadbench,aime24,amc23 --samples=32

Needs Qwen2.5-3B in models/qwen2.5-3b, and in data the files named below
(bridge_min/real/jsonl.py says in what form). Four GPUs of 80 GB, by the README's formula. Never run.
"""

out = "out/qwen2_5_3b_math"
device = "cuda"
dtype = "bfloat16"
recompute = True
micro_batch = 32
sample_rows = 128

base = "models/qwen2.5-3b"
task = "jsonl"
data = "data"
train_file = "math8k_level3to5.jsonl"
test_files = ("math500.jsonl", "minerva_math.jsonl", "olympiadbench.jsonl", "aime24.jsonl", "amc23.jsonl")
prompt = r"""<|im_start|>system
Please reason step by step, and put your final answer within \boxed{}.<|im_end|>
<|im_start|>user
{problem}<|im_end|>
<|im_start|>assistant
"""
end = ("<|im_end|>", "<|endoftext|>")
train_problems = 8419
val_problems = 100
test_problems = 675
demos = 2875  # of the 2,935 with a solution; a few are taken for validation

method = "bridge"
lam = 0.5
steps = 200
prompts = 128
demos_per_step = 64
group = 8
max_new = 3072
lr = 1e-6
lr_lora = 1e-5
table = "trained"
