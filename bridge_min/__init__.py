"""BRIDGE (arXiv 2509.06948): supervised fine-tuning that teaches reinforcement learning. Begin with train.py."""
