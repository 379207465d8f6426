"""tiny_configs/arith.py under stress, from the same base: 70 % of the demonstrations are bad."""

out = "out/arith_bad_demos"
threads = 1

task = "arith"
demos = 300
wrong_demos = 0.2  # one step is false
far_demos = 0.5  # the right answer by a leap

# All else is that of arith.py.
model = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_key_value_heads": 4}
base_steps = 1200
base_batch = 32
base_lr = 2.2e-3

# Post-training
method = "bridge"
steps = 150
eval_every = 50
prompts = 16
demos_per_step = 4
max_new = 48
lr = 6e-4
lr_lora = 6e-4
lam = 0.7
