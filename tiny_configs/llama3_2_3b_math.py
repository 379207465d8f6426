"""Llama-3.2-3B-Instruct on MATH, levels 3 to 5: a row of the paper's table. Every key: bridge_min/config.py.

    torchrun --nproc_per_node=4 train.py tiny_configs/llama3_2_3b_math.py
    python eval.py out/llama3_2_3b_math --splits=math500,minerva_math,olympiadbench,aime24,amc23 --samples=32

Needs Llama-3.2-3B-Instruct in models/llama-3.2-3b-instruct, and in data the files named below
(bridge_min/real/jsonl.py says in what form). Four GPUs of 80 GB, by the README's formula. Never run.
"""

out = "out/llama3_2_3b_math"
device = "cuda"
dtype = "bfloat16"
recompute = True
micro_batch = 32
sample_rows = 64

base = "models/llama-3.2-3b-instruct"
task = "jsonl"
data = "data"
train_file = "math8k_level3to5.jsonl"
test_files = ("math500.jsonl", "minerva_math.jsonl", "olympiadbench.jsonl", "aime24.jsonl", "amc23.jsonl")
prompt = """<|begin_of_text|><|start_header_id|>system<|end_header_id|>

Please reason step by step, and put your final answer within \\boxed{}.<|eot_id|>\
<|start_header_id|>user<|end_header_id|>

{problem}<|eot_id|><|start_header_id|>assistant<|end_header_id|>

"""
end = ("<|eot_id|>", "<|end_of_text|>")
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
