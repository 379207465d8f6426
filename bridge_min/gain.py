"""Selection by gain: supervise what helps the reward, leave out what costs it. Ours to add, not the paper's.

A demonstration's gain is measured twice. At its own prompt, by rewards: imitating it can add what its reward
has over the mean of the policy's responses, less the more often the policy succeeds (`added_reward`).
Everywhere else, by gradients: to first order, what its token t adds to the reward of a joint step over an
RL-only step is alpha (1 - lam) <grad_theta J_RL, grad_theta log pi(token)>. All of these inner products, for
every token of every demonstration, are one Jacobian-vector product (`token_gains`). Relatives: learning to
reweight examples (1803.09050), gradient surgery (2001.06782), LESS (2402.04333).

One step's policy gradient is noisy, and a long demonstration of many harmless tokens hides the one that does
harm. So a demonstration is judged by its weakest token, by the mean over all the times it was drawn, and
against the other demonstrations: what is below their average is not supervised (`worth`). Read on in
baselines.py.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from .model import Params
from .problem import KINDS
from .rollout import Demos
from .sharding import own, together


def token_gains(
    logprobs: Callable[..., Tensor], theta: Params, w: Params, demos: Demos, g_rl: Params, rows: int
) -> Tensor:
    """<g_rl, grad_theta log pi_{theta + w}(token)> for every response token, (N, T), and 0 elsewhere; `rows`
    demonstrations at a time. theta, w and g_rl in full. Attention runs without its fused kernel, which has no
    forward mode."""
    N = len(demos)
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        gains = [
            jvp(lambda theta, part=part: logprobs(theta, w, part), (theta,), (g_rl,))[1]
            for part in map(demos.rows, (own(N) % N).split(rows))
        ]
    return together(torch.cat(gains), N) * demos.mask


def added_reward(rewards: Tensor, groups: Tensor) -> Tensor:
    """What imitating each demonstration can add to the reward at its prompt, (N,): its own reward, rewards
    (N,), over the mean of its prompt's group, groups (P, G), P >= N; not below 0. Where rewards are flipped
    with probability p the expected difference shrinks by 1 - 2p, unshifted; what the clamp leaves of it is
    then above 0 for a useless demonstration too."""
    return (rewards - groups[: len(rewards)].mean(1)).clamp(min=0)


def new_memory(demos: int) -> Params:
    """Of each demonstration: the sum of its gains, and how often it was drawn; (demos,) each."""
    return {"gain": torch.zeros(demos), "draws": torch.zeros(demos)}


def select_by_gain(
    select: str, gains: Tensor, demos: Demos, memory: Params
) -> tuple[Demos, dict[str, float]]:
    """The demonstrations with weight only where supervision has a gain; and, of each kind, the share of the
    tokens that keep theirs. What is left out still counts in the normaliser.

    select = "token": the tokens whose own gain is positive. "demo": whole demonstrations, see `worth`.
    """
    kept = demos.mask & (
        gains > 0 if select == "token" else worth(gains, demos, memory)[:, None] > 0
    )  # (N, T)
    shares = {}
    for index, kind in enumerate(KINDS):
        rows = demos.kinds == index
        if rows.any():
            shares[f"kept_{kind}"] = float(kept[rows].sum() / demos.mask[rows].sum())
    return replace(demos, weights=demos.weights * kept), shares


def worth(gains: Tensor, demos: Demos, memory: Params) -> Tensor:
    """By how much each demonstration's remembered gain is above the average of all seen so far, (N,).

    A demonstration's gain is that of its weakest token, in units of the step's mean, since the length of the
    policy gradient differs from step to step; a step without any counts as average. memory changes in place.
    """
    weakest = gains.masked_fill(~demos.mask, torch.inf).amin(1)  # (N,)
    memory["gain"][demos.index] += weakest / weakest.abs().mean().clamp(min=1e-30)
    memory["draws"][demos.index] += 1
    seen = memory["draws"] > 0
    mean = memory["gain"][seen] / memory["draws"][seen]
    return memory["gain"][demos.index] / memory["draws"][demos.index] - mean.mean()
