"""Knights and knaves, 3 to 5 people, from nothing to a table in minutes on one CPU core. Every key:
bridge_min/config.py."""

out = "out/logic"
threads = 1

# The world: who lies, from what each says of the next; of 300 demonstrations half are sound.
task = "logic"
wrong_demos = 0.2
far_demos = 0.3

# The base: it can do a step, mostly guesses at the whole, and has read few puzzles of 5 people.
model = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "rope_theta": 50.0,
}
base_steps = 600
base_batch = 64
base_lr = 5e-3

# Post-training
method = "bridge"
steps = 100
prompts = 16
demos_per_step = 16
max_new = 72
lr = 3e-4
lr_lora = 3e-4
lam = 0.8
