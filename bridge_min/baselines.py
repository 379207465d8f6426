"""The rivals, a few lines each, over the losses that BRIDGE uses.

Each gives a direction for theta alone; w is empty. METHODS is what `method=` chooses from. Read on in
train.py.
"""

from .bridge import LogProbs, Players, Update, bridge, gradients, j_rl, j_sft, means, weighted
from .config import Config
from .rollout import Batch, Rollouts


def sft(config: Config, logprobs: LogProbs, players: Players, demos: Batch, rollouts: None) -> Update:
    """Supervised fine-tuning: J_SFT only."""
    objective = weighted((1.0, j_sft(logprobs, demos, config.micro_batch)))
    g_theta, _, stats = gradients(objective, players["theta"], {})
    return {"theta": g_theta}, means(stats)


def grpo(config: Config, logprobs: LogProbs, players: Players, demos: None, rollouts: Rollouts) -> Update:
    """Reinforcement learning from the base: J_RL only (GRPO, 2402.03300)."""
    g_theta, _, stats = gradients(weighted((1.0, j_rl(logprobs, rollouts, config))), players["theta"], {})
    return {"theta": g_theta}, means(stats)


METHODS = {"bridge": bridge, "grpo": grpo, "sft": sft}
