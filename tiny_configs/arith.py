"""Toy arithmetic, from nothing to a table in minutes on one CPU core. Every key: bridge_min/config.py."""

out = "out/arith"
threads = 1

# The world: chains of 2 to 4 small sums, half of them with a product; of 300 demonstrations 90 are sound.
task = "arith"
wrong_demos = 0.2
far_demos = 0.5

# The base: a Llama of 128,000 parameters, which can work through a chain but mostly blurts out an answer.
model = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
base_steps = 700
base_batch = 128
base_lr = 5e-3

# Post-training
method = "bridge"
steps = 100
eval_every = 10
prompts = 8
demos_per_step = 8  # so every prompt has a demonstration
max_new = 48
lr = 2.5e-4
lr_lora = 2.5e-4
lam = 0.8
