"""Toy arithmetic, from nothing to a table in minutes on two CPU cores. Every key: bridge_min/config.py."""

out = "out/arith"
threads = 1

# The base: a Llama of 90,000 parameters, stopped while it still errs.
model = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
base_steps = 600
base_batch = 128
base_lr = 5e-3

# Post-training
method = "bridge"
steps = 150
demos_per_step = 16
micro_batch = 64
