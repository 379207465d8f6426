"""The rivals, a few lines each, over the terms that BRIDGE uses: each one is an objective for theta alone. At
the end two of BRIDGE's ablations.

RIVALS is what `method=` chooses from, beside bridge.METHODS (sft, grpo, mix). A step's demonstrations are
those of its first groups, row i of group i; statistics of the whole batch go through `total`, as a process
may hold only some of the groups, and perhaps none with a demonstration. Read on in gain.py.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..bridge import Method, Objective, Players, Stats, Step, Term, climb, j_rl, j_sft, joint
from ..config import Config
from ..losses import group_advantages
from ..rollout import Rows

MU = (0.9, 0.05)  # CHORD-mu: the weight of SFT at the first step and at the last
MU_PHI = 0.1  # CHORD-phi: the same, constant
GAMMA = 0.1  # LUFFY: of the shaping p / (p + gamma)


def by_turns(s: Step) -> Objective:
    """SFT in steps that have demonstrations, RL in steps that have rollouts: the two-stage cold start, and
    the alternation."""
    return [j_sft(s)] if s.rollouts is None else [j_rl(s)]


def chord_mu(s: Step) -> Objective:
    """(1 - mu) J_RL + mu J_SFT, with mu falling along a cosine (CHORD, 2508.11408, section 3)."""
    first, last = MU
    mu = last + (first - last) * (1 + math.cos(math.pi * s.number / s.config.steps)) / 2
    return [j_sft(s, mu), j_rl(s, 1 - mu)]


def chord_phi(s: Step) -> Objective:
    """The same with a constant mu, and each demonstrated token's term weighted by p (1 - p), p = pi(token)
    held fixed: neither what is known nor what is far off counts (CHORD, 2508.11408, section 3)."""
    phi = lambda logp: logp.exp() * (1 - logp.exp())
    return [j_sft(s, MU_PHI, phi=phi), j_rl(s, 1 - MU_PHI)]


def luffy(s: Step) -> Objective:
    """Each demonstration joins its prompt's group as an off-policy rollout with a reward of its own. Its
    ratio, the behaviour's probability taken as 1, is p = pi(token), shaped by p / (p + gamma) and unclipped
    (LUFFY, 2504.14945, section 3)."""
    demos, rollouts = join_groups(s)
    return [j_rl(s, rollouts=rollouts), j_off_policy(s, demos, lambda p: p / (p + GAMMA))]


def srft(s: Step) -> Objective:
    """SFT weighted by 0.5 exp(-H), demonstrations as off-policy rollouts too, and the positive rollouts
    weighted by 0.1 exp(H) (SRFT, 2506.19767, section 3). H, the policy's entropy per token in nats, is
    estimated by the recorded -log pi of the sampled tokens, which is known already."""
    logp, tokens = s.runtime.total(torch.stack((s.rollouts.logp.double().sum(), s.rollouts.mask.sum())))
    H = -float(logp / tokens)
    demos, rollouts = join_groups(s)
    A = rollouts.advantages
    rollouts = replace(rollouts, advantages=A.where(A <= 0, 0.1 * math.exp(H) * A))
    return [j_sft(s, 0.5 * math.exp(-H)), j_rl(s, rollouts=rollouts), j_off_policy(s, demos, lambda p: p)]


def hpt(s: Step) -> Objective:
    """SFT where the prompt's whole group failed, RL where not (HPT, 2509.04419, with the gate at 0). A group
    that failed has advantage 0, so it takes no part in J_RL but for a KL term."""
    best = s.rollouts.rewards.view(-1, s.config.group).amax(1)[: len(s.demos)]  # (N,)
    failed = s.demos.take((best == 0).nonzero()[:, 0])  # the others still count in the weights
    return [j_sft(s, demos=failed), j_rl(s)]


def join_groups(s: Step) -> tuple[Rows, Rows]:
    """Demonstrations and rollouts with advantages over the joint groups, G rollouts and the demonstration of
    their prompt, and with token weights that sum to 1 over both, shared out by tokens. Groups without a
    demonstration keep their advantages."""
    demos, rollouts, N, G = s.demos, s.rollouts, len(s.demos), s.config.group
    joint = torch.cat((rollouts.rewards[: N * G].view(N, G), demos.rewards[:, None]), dim=1)  # (N, G + 1)
    A = group_advantages(joint.flatten(), G + 1, s.config.scale_by_std).view(N, G + 1)
    shown, own = s.runtime.total(torch.stack((demos.mask.sum(), rollouts.mask.sum())).double())
    advantages = torch.cat((A[:, :G].flatten(), rollouts.advantages[N * G :]))
    return (
        replace(demos, advantages=A[:, G], weights=demos.weights * (shown / (shown + own))),
        replace(rollouts, advantages=advantages, weights=rollouts.weights * (own / (shown + own))),
    )


def j_off_policy(s: Step, demos: Rows, shape: Callable[[Tensor], Tensor]) -> Term:
    """The surrogate of demonstrations as rollouts of somebody else: shape(pi) x advantage."""

    def value(logp: Tensor, part: Rows) -> tuple[Tensor, Stats]:
        return (part.weights * shape(logp.exp()) * part.advantages[:, None]).sum(), {}

    return Term(1.0, value, demos, s.config.temperature)


def cold_needs(config: Config, step: int) -> tuple[bool, bool]:
    """Demonstrations for the cold start's share of the steps, then rollouts."""
    supervised = step < round(config.cold_start * config.steps)
    return supervised, not supervised


def cold_stage(config: Config, step: int) -> tuple[int, int]:
    """Each of the two stages has a warm-up and a decay of its own."""
    cold = round(config.cold_start * config.steps)
    return (step, cold) if step < cold else (step - cold, config.steps - cold)


def no_shadow(s: Step, players: Players) -> tuple[Players, Stats]:
    """BRIDGE without its shadow: w climbs the joint objective, as theta does."""
    g_theta, g_w, stats = s.runtime.gradients(s, joint(s), players["theta"], players["w"])
    return {"theta": g_theta, "w": g_w}, stats


def no_gain(s: Step, players: Players) -> tuple[Players, Stats]:
    """BRIDGE without its cooperative gain: what is left for w to climb is (1 - lam) J_SFT."""
    theta, w = players["theta"], players["w"]
    g_theta, _, stats = s.runtime.gradients(s, joint(s), theta, w)
    _, g_w, _ = s.runtime.gradients(s, [j_sft(s, 1 - s.config.lam)], theta, w)
    return {"theta": g_theta, "w": g_w}, stats


RIVALS = {
    "two_stage": Method(partial(climb, by_turns), needs=cold_needs, stage=cold_stage),
    "alternate": Method(partial(climb, by_turns), needs=lambda config, step: (step % 2 == 0, step % 2 == 1)),
    "chord_mu": Method(partial(climb, chord_mu)),
    "chord_phi": Method(partial(climb, chord_phi)),
    "luffy": Method(partial(climb, luffy)),
    "srft": Method(partial(climb, srft)),
    "hpt": Method(partial(climb, hpt)),
    "no_shadow": Method(no_shadow, ("theta", "w")),
    "no_gain": Method(no_gain, ("theta", "w")),
}
