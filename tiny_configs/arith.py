"""Toy arithmetic, from nothing to a table in minutes on one CPU core. Every key: bridge_min/config.py."""

out = "out/arith"
threads = 1

# The world: chains of 2 to 4 small sums, half of them with a product; 300 demonstrations, half of them sound.
task = "arith"
chain = (2, 4)
hard_chain = (5, 6)

# The base: a Llama of 128,000 parameters, which can work through a chain but mostly blurts out an answer.
model = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
base_steps = 600
base_target = 1.0
base_batch = 128
base_lr = 5e-3
worked_share = 0.55
direct_share = 0.3

# Post-training
method = "bridge"
steps = 100
prompts = 8
demos_per_step = 8
max_new = 48
lr = 5e-4
lr_lora = 5e-4
