"""Knights and knaves, 3 to 5 people, from nothing to a table in four minutes on one CPU core. Every key:
bridge_min/config.py."""

out = "out/logic"
threads = 1

# The world: who lies, from what each says of the next. 150 of 4000 puzzles have a demonstration, all sound.
task = "logic"
demos = 150
wrong_demos = 0.0
far_demos = 0.0

# The base: it can work out a puzzle without the word "unlike", but mostly guesses.
model = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "rope_theta": 50.0,
}
base_steps = 1000
base_batch = 32
base_lr = 2.2e-3

# Post-training
method = "bridge"
steps = 150
prompts = 16
demos_per_step = 12
max_new = 72
lr = 4e-4
lr_lora = 4e-4
lam = 0.8
versus = "grpo"
