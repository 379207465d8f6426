"""Selection by gain: supervise what helps the reward, leave out what costs it. Ours to add, not the paper's.

A demonstration's gain is measured twice. At its own prompt, by rewards: imitating it can add what its reward
has over the mean of the policy's responses, less the more often the policy succeeds (`added_reward`).
Everywhere else, by gradients: to first order, what its token t adds to the reward of a joint step over an
RL-only step is alpha (1 - lam) <grad_W J_RL, grad_W log pi_W(token)>. All of these inner products, for every
token of every demonstration, are one Jacobian-vector product (`token_gains`). Relatives: learning to reweight
examples (1803.09050), gradient surgery (2001.06782), LESS (2402.04333).

One step's policy gradient is noisy, and a long demonstration of many harmless tokens hides the one that
does harm. So a demonstration is judged by its weakest token, by the mean over all the times it was drawn, and
against the other demonstrations: what is below their average is not supervised (`worth`). Read on in
logic.py.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..bridge import Stats, Step, policy_logprobs
from ..config import Config
from ..model import GPT, Params, build
from ..optimizer import State
from ..rollout import Rows


def selection(config: Config) -> tuple[Callable[[Step, Params, Params], tuple[Rows, Stats]], State]:
    """What Step.select is, and what it remembers of each demonstration: the sum of its gains, and how often
    it was drawn, (demos,) each, changed in place and saved with the run.

    `select` returns the demonstrations that are supervised, each weighted by what it can add; what is left
    out still counts in the normaliser. "reward": no gradient is asked. "token": the tokens whose own gain is
    positive. "demo": whole demonstrations, see `worth`. Only the direction of G, the gradient of J_RL in the
    acting weights W, matters; it is this process's part.
    """
    memory = {name: torch.zeros(config.demos, device=config.device) for name in ("gain", "draws")}

    def select(s: Step, W: Params, G: Params) -> tuple[Rows, Stats]:
        demos, total = s.demos, s.runtime.total
        added = added_reward(demos.rewards, s.rollouts.rewards.view(-1, config.group))  # (N,)
        weights = demos.weights * added[:, None]  # (N, T)
        if config.select != "reward":
            whole = {name: total(g) for name, g in G.items()}
            gains = token_gains(s.runtime.model, W, demos, whole, config.micro_batch)
            if config.select == "demo":
                gains = worth(gains, demos, memory, total)[:, None]
            weights = weights * (gains > 0)
        kept = weights > 0
        stats = {"added": added.sum() / config.demos_per_step, "kept": kept.sum() / total(demos.mask.sum())}
        return replace(demos, weights=weights).take(kept.any(1).nonzero()[:, 0]), stats

    return select, {"memory": memory} if config.select == "demo" else {}


def token_gains(model: GPT, W: Params, demos: Rows, direction: Params, at_once: int) -> Tensor:
    """<direction, grad_W log pi_W(token)> for every response token, (N, T), and 0 elsewhere; `at_once`
    demonstrations at a time. By the plain network: recomputation and fused attention have no forward mode."""
    plain, W = build(model.config), {name: value.to(direction[name]) for name, value in W.items()}
    gains = [torch.zeros_like(demos.weights[:0])]
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        for at in range(0, len(demos), at_once):
            part = demos.each(lambda value, at=at: value[at : at + at_once])
            gains.append(jvp(lambda W, part=part: policy_logprobs(plain, W, part), (W,), (direction,))[1])
    return torch.cat(gains)


def added_reward(rewards: Tensor, groups: Tensor) -> Tensor:
    """What imitating each demonstration can add to the reward at its prompt, (N,): its own reward, rewards
    (N,), over the mean of its prompt's group, groups (P, G), P >= N; not below 0. Where rewards are flipped
    with probability p the expected difference shrinks by 1 - 2p, unshifted; what the clamp leaves of it is
    then above 0 for a useless demonstration too."""
    return (rewards - groups[: len(rewards)].mean(1)).clamp(min=0)


def worth(gains: Tensor, demos: Rows, memory: Params, total: Callable[[Tensor], Tensor]) -> Tensor:
    """By how much each demonstration's remembered gain is above the average of all seen so far, (N,).

    A demonstration's gain is that of its weakest token, in units of the step's mean, since the length of the
    policy gradient differs from step to step; a step without any counts as average. memory changes in place,
    in all processes alike.
    """
    weakest = gains.masked_fill(~demos.mask, torch.inf).amin(1)  # (N,)
    mine = weakest.new_zeros(2, len(memory["gain"]))
    mine[0, demos.index], mine[1, demos.index] = weakest, 1.0
    gain, draws = total(mine)
    memory["gain"] += gain / (gain.abs().sum() / draws.sum()).clamp(min=1e-30)
    memory["draws"] += draws
    seen, mean = memory["draws"] > 0, memory["gain"] / memory["draws"]
    return mean[demos.index] - mean[seen].mean()
