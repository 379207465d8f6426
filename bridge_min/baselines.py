"""The rivals, a few lines each, over the terms that BRIDGE uses: each one is an objective for theta alone.

A step's demonstrations or rollouts are None where the method does without (`needs`). METHODS is what
`method=` chooses from. Read on in train.py.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from .bridge import (
    Objective,
    Players,
    Stats,
    Step,
    Term,
    Update,
    bridge,
    finite,
    gradients,
    j_rl,
    j_sft,
    means,
    mix,
    weighted,
)
from .config import Config
from .losses import group_advantages
from .model import Params
from .rollout import Demos, Rollouts

MU = (0.9, 0.05)  # CHORD-mu: the weight of SFT at the first step and at the last
MU_PHI = 0.1  # CHORD-phi: the same, constant
GAMMA = 0.1  # LUFFY: of the shaping p / (p + gamma)


def sft(s: Step) -> Objective:
    """Supervised fine-tuning: J_SFT only."""
    return weighted((1.0, j_sft(s)))


def grpo(s: Step) -> Objective:
    """Reinforcement learning from the base: J_RL only (GRPO, 2402.03300)."""
    return weighted((1.0, j_rl(s)))


def by_turns(s: Step) -> Objective:
    """SFT in steps that have demonstrations, RL in steps that have rollouts: the two-stage cold start, and
    the alternation."""
    return sft(s) if s.rollouts is None else grpo(s)


def chord_mu(s: Step) -> Objective:
    """(1 - mu) J_RL + mu J_SFT, with mu falling along a cosine (CHORD, 2508.11408, section 3)."""
    first, last = MU
    mu = last + (first - last) * (1 + math.cos(math.pi * s.number / s.config.steps)) / 2
    return weighted((mu, j_sft(s)), (1 - mu, j_rl(s)))


def chord_phi(s: Step) -> Objective:
    """The same with a constant mu, and each demonstrated token's term weighted by p (1 - p), p = pi(token)
    held fixed: neither what is known nor what is far off counts (CHORD, 2508.11408, section 3)."""
    return weighted((MU_PHI, j_sft(s, phi=lambda logp: logp.exp() * (1 - logp.exp()))), (1 - MU_PHI, j_rl(s)))


def luffy(s: Step) -> Objective:
    """Each demonstration joins its prompt's group as an off-policy rollout with a reward of its own. Its
    ratio, the behaviour's probability taken as 1, is p = pi(token), shaped by p / (p + gamma) and unclipped
    (LUFFY, 2504.14945, section 3)."""
    demos, rollouts = join_groups(s)
    return weighted((1.0, j_rl(s, rollouts)), (1.0, j_off_policy(s, demos, lambda p: p / (p + GAMMA))))


def srft(s: Step) -> Objective:
    """SFT weighted by 0.5 exp(-H), demonstrations as off-policy rollouts too, and the positive rollouts
    weighted by 0.1 exp(H) (SRFT, 2506.19767, section 3). H, the policy's entropy per token in nats, is
    estimated by the recorded -log pi of the sampled tokens, which is known already."""
    H = -float((s.rollouts.logp * s.rollouts.mask).sum() / s.rollouts.mask.sum())
    demos, rollouts = join_groups(s)
    A = rollouts.advantages
    rollouts = replace(rollouts, advantages=A.where(A <= 0, 0.1 * math.exp(H) * A))
    off_policy = j_off_policy(s, demos, lambda p: p)
    return weighted((0.5 * math.exp(-H), j_sft(s)), (1.0, j_rl(s, rollouts)), (1.0, off_policy))


def hpt(s: Step) -> Objective:
    """SFT where the prompt's whole group failed, RL where not (HPT, 2509.04419, with the gate at 0). A group
    that failed has advantage 0, so it takes no part in J_RL but for a KL term."""
    failed = s.rollouts.rewards.view(-1, s.config.group)[: len(s.demos)].amax(1) == 0  # (N,)
    demos = replace(s.demos, weights=s.demos.weights * failed[:, None])
    return weighted((1.0, j_sft(s, demos)), (1.0, j_rl(s)))


def join_groups(s: Step) -> tuple[Demos, Rollouts]:
    """Both with advantages over the joint groups, G rollouts and the demonstration of their prompt, and with
    token weights that sum to 1 over both, shared out by tokens. Groups without a demonstration keep their
    advantages."""
    demos, rollouts, N, G = s.demos, s.rollouts, len(s.demos), s.config.group
    joint = torch.cat((rollouts.rewards[: N * G].view(N, G), demos.rewards[:, None]), dim=1)  # (N, G + 1)
    A = group_advantages(joint.flatten(), G + 1, s.config.scale_by_std).view(N, G + 1)
    own, shown = rollouts.mask.sum(), demos.mask.sum()
    advantages = torch.cat((A[:, :G].flatten(), rollouts.advantages[N * G :]))
    return (
        replace(demos, advantages=A[:, G], weights=demos.weights * shown / (own + shown)),
        replace(rollouts, advantages=advantages, weights=rollouts.weights * own / (own + shown)),
    )


def j_off_policy(s: Step, demos: Demos, shape: Callable[[Tensor], Tensor]) -> list[Term]:
    """The surrogate of demonstrations as rollouts of somebody else: shape(pi) x advantage."""

    def term(part: Demos, theta: Params, w: Params) -> tuple[Tensor, Stats]:
        p = s.logprobs(theta, w, part, s.config.temperature).exp()  # (N, T)
        value = (part.weights * shape(p) * part.advantages[:, None]).sum()
        return finite("J_RL of the demonstrations", value, part), {}

    return [partial(term, part) for part in demos.micro_batches(s.config.micro_batch)]


def rival(objective: Callable[[Step], Objective], s: Step, players: Players) -> Update:
    """The direction of theta alone."""
    g_theta, _, stats = gradients(objective(s), players["theta"], {})
    return {"theta": g_theta}, means(stats)


OBJECTIVES = {
    "sft": sft,
    "grpo": grpo,
    "two_stage": by_turns,
    "alternate": by_turns,
    "chord_mu": chord_mu,
    "chord_phi": chord_phi,
    "luffy": luffy,
    "srft": srft,
    "hpt": hpt,
}
METHODS = {name: partial(rival, objective) for name, objective in OBJECTIVES.items()}
METHODS |= {"mix": mix, "bridge": bridge}


def stage(config: Config, step: int) -> tuple[int, int]:
    """The number of update `step` within its stage, and the stage's length: each of the two stages of a cold
    start has a warm-up and a decay of its own, all others are one stage."""
    cold = round(config.cold_start * config.steps) if config.method == "two_stage" else 0
    return (step, cold) if step < cold else (step - cold, config.steps - cold)


def needs(config: Config, step: int) -> tuple[bool, bool]:
    """Whether update `step` (from 0) uses demonstrations, and whether it uses rollouts."""
    supervised = {
        "sft": True,
        "grpo": False,
        "two_stage": step < round(config.cold_start * config.steps),
        "alternate": step % 2 == 0,
    }.get(config.method)
    return (True, True) if supervised is None else (supervised, not supervised)
