"""A real checkpoint learns to add, on CPU: the whole path in little. Every key: bridge_min/config.py.

    python -m bridge_min.real.make_sums data
    python train.py tiny_configs/smollm2_sums.py

Needs SmolLM2-135M-Instruct in models/smollm2.
"""

out = "out/smollm2_sums"
micro_batch = 16
sample_rows = 64

base = "models/smollm2"
task = "jsonl"
data = "data"
train_file = "sums_train.jsonl"
test_files = ("sums_test.jsonl",)
prompt = """<|im_start|>user
What is 26 + 57?<|im_end|>
<|im_start|>assistant
26 + 57 = 83
#### 83<|im_end|>
<|im_start|>user
{problem}<|im_end|>
<|im_start|>assistant
"""
end = ("<|im_end|>", "<|endoftext|>")
train_problems = 1900
val_problems = 32
test_problems = 100
demos = 500

method = "bridge"
lam = 0.5
steps = 40
eval_every = 10
log_every = 1
prompts = 4
demos_per_step = 4
group = 8
max_new = 24
lr = 1e-5
lr_lora = 1e-4
samples = 2
