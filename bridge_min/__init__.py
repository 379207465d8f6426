"""BRIDGE (arXiv 2509.06948): supervised fine-tuning that teaches reinforcement learning. See train.py."""
