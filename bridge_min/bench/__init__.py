"""Where a step's time and memory go: a table of medians and ratios, all from one run, in __main__.py; and the
rivals in peers.py, transformers' `generate` and TRL's trainer, where they are installed."""
