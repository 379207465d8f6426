"""Toy arithmetic: from nothing to a table on two CPU cores."""

out = "out/arith"
model = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
base_steps = 400
base_batch = 128
base_lr = 5e-3
micro_batch = 32
threads = 1
