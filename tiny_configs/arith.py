"""Toy arithmetic, from nothing to a table in minutes on two CPU cores. Every key: bridge_min/config.py."""

out = "out/arith"
threads = 1

# The base: a Llama of 128,000 parameters, which can do a step but mostly guesses when there are several. With
# two layers some seeds do not learn to work through a sum in this time.
model = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
base_steps = 1000
base_batch = 128
base_lr = 5e-3

# Post-training
method = "bridge"
steps = 150
demos_per_step = 16
micro_batch = 64
