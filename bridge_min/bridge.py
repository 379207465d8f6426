"""BRIDGE (arXiv 2509.06948): student theta, shadow theta_hat, teacher w, and how each of them moves.

    student   theta     += alpha grad_theta     [ (1-lam) J_SFT(theta, w) + lam J_RL(theta, w) ]
    shadow    theta_hat += alpha grad_theta_hat   J_RL(theta_hat, w)
    teacher   w         += beta  grad_w         [ (1-lam) J_SFT(theta, w)
                                                  + lam (J_RL(theta, w) - J_RL(theta_hat, w)) ]

The last bracket is the cooperative gain: what joint training has over RL alone, on the same rollouts.
`first_order` below is these lines; what comes before it are the objectives and their gradients, what comes
after it the other readings, and METHODS. Read on in optimizer.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from .config import Config
from .lora import merge
from .losses import grpo_objective, token_logprobs
from .model import GPT, Params
from .rollout import Rows

Stats = dict[str, Tensor]  # sums over this process's rows
Players = dict[str, Params]  # "theta", and with BRIDGE "theta_hat" and "w"


def policy_logprobs(model: GPT, W: Params, rows: Rows, temperature: float = 1.0) -> Tensor:
    """log pi_W of each response token given those before it, 0 elsewhere, (N, T)."""
    before = rows.mask.roll(-1, dims=1)  # each token is predicted by the one before
    logits = functional_call(model, W, (rows.tokens, before))  # (n, vocab)
    return token_logprobs(logits, rows.tokens, rows.mask, temperature)


@dataclass
class Term:
    """coefficient x value(log-probs, rows), a part of an objective that is to be maximized."""

    coefficient: float
    value: Callable[[Tensor, Rows], tuple[Tensor, Stats]]
    rows: Rows
    temperature: float = 1.0
    choose: Callable[[Params, Params], tuple[Rows, Stats]] | None = None  # rows, by W and the gradient so far


Objective = list[Term]


@dataclass
class Runtime:
    """How the loop computes: plain PyTorch on one device, or what scale/ puts in its place."""

    model: GPT
    logprobs: Callable[..., Tensor]  # (W, rows, temperature) -> (N, T)
    gradients: Callable[..., tuple[Params, Params, Stats]]  # (step, objective, theta, w)
    acting: Callable[[Params, Params], Params]  # (theta, w) -> W, in full
    keep: Callable[[Params], Params] = lambda params: params  # this process's slices, where scale/ slices
    full: Callable[[Params], Params] = lambda params: params  # the inverse: all slices together
    total: Callable[[Tensor], Tensor] = lambda x: x  # a sum over all processes
    rank: int = 0
    processes: int = 1

    def mine(self, things: Any) -> Any:
        """Of a whole batch's things, in their order, those that are this process's."""
        return things[self.rank :: self.processes]


def plain_runtime(model: GPT, config: Config) -> Runtime:
    acting = torch.no_grad()(partial(merge, scale=config.lora_scale))
    return Runtime(model, partial(policy_logprobs, model), gradients, acting)


@dataclass
class Step:
    """What one update looks at. demos or rollouts is None where the method does without."""

    config: Config
    runtime: Runtime
    demos: Rows | None
    rollouts: Rows | None
    number: int = 0  # updates done before this one
    select: Callable[["Step", Params, Params], tuple[Rows, Stats]] | None = None  # which demos count (study/)


def j_sft(s: Step, coefficient: float = 1.0, demos: Rows | None = None, phi: Callable | None = None) -> Term:
    """J_SFT, the mean log-likelihood of the demonstrations' response tokens. phi, if given, is a weight for
    each token from its log-prob, held fixed."""

    def value(logp: Tensor, part: Rows) -> tuple[Tensor, Stats]:
        weights = part.weights * phi(logp.detach()) if phi else part.weights
        return (logp * weights).sum(), {"sft_loss": -(logp.detach() * part.weights).sum()}

    choose = partial(s.select, s) if s.select else None
    return Term(coefficient, value, s.demos if demos is None else demos, choose=choose)


def j_rl(s: Step, coefficient: float = 1.0, rollouts: Rows | None = None) -> Term:
    """J_RL, the GRPO surrogate. Rows with advantage zero have gradient zero: without a KL term they are left
    out, though their tokens still count in the weights."""
    c, rollouts = s.config, s.rollouts if rollouts is None else rollouts

    def value(logp: Tensor, part: Rows) -> tuple[Tensor, Stats]:
        clips = (c.clip_low, c.clip_high)
        J, stats = grpo_objective(logp, part.logp, part.advantages, part.weights, *clips, part.ref_logp, c.kl)
        return J, {"j_rl": J.detach(), **stats}

    if not c.kl:
        rollouts = rollouts.take(rollouts.advantages.nonzero()[:, 0])
    return Term(coefficient, value, rollouts, c.temperature)


def term_value(s: Step, term: Term, rows: Rows, W: Params) -> tuple[Tensor, Stats]:
    """What these rows add to the objective, and statistics; nothing but zeros where there are none."""
    logp = s.runtime.logprobs(W, rows, term.temperature) if len(rows) else torch.zeros_like(rows.weights)
    J, stats = term.value(logp, rows)
    return term.coefficient * J, stats


def gradients(s: Step, objective: Objective, theta: Params, w: Params) -> tuple[Params, Params, Stats]:
    """grad_theta and grad_w of an objective, and its statistics. The network is differentiated in the weights
    that act, one micro-batch in memory at a time; the sum is pulled back through the merge, to both players
    at once."""
    W, back = vjp(partial(merge, scale=s.config.lora_scale), theta, w)
    grad_W, stats = {name: torch.zeros_like(value) for name, value in W.items()}, {}
    for term in objective:
        rows, found = term.choose(W, grad_W) if term.choose else (term.rows, {})
        add(stats, found)
        for part in rows.batches(s.config.micro_batch):
            with torch.no_grad():  # or vjp would record its own backward pass, a third slower
                J, pull, found = vjp(partial(term_value, s, term, part), W, has_aux=True)
                add(grad_W, pull(torch.ones_like(J), retain_graph=False)[0])
            add(stats, found)
            del pull  # what it still holds must go before the next micro-batch is computed
    return *back(grad_W), stats


def add(sums: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    for name, value in more.items():
        sums[name] = sums[name].add_(value) if name in sums else value.clone()


# --- BRIDGE -------------------------------------------------------------------------------------------------


def first_order(s: Step, players: Players) -> tuple[Players, Stats]:
    """The three directions, theta and theta_hat held fixed while w is differentiated (the paper's rule). Two
    gradients give all: the student's and the teacher's at (theta, w) belong to one scalar, and so do the
    shadow's and the teacher's at (theta_hat, w)."""
    theta, theta_hat, w, lam = players["theta"], players["theta_hat"], players["w"], s.config.lam
    g_theta, g_w, stats = s.runtime.gradients(s, joint(s), theta, w)
    h_hat, h_w, stats_hat = s.runtime.gradients(s, [j_rl(s)], theta_hat, w)
    teacher = {name: g_w[name] - lam * h_w[name] for name in w}
    return {"theta": g_theta, "theta_hat": h_hat, "w": teacher}, cooperation(stats, stats_hat)


def joint(s: Step) -> Objective:
    """lam J_RL + (1-lam) J_SFT; J_RL first, as its gradient may choose which demonstrations count."""
    return [j_rl(s, s.config.lam), j_sft(s, 1 - s.config.lam)]


def unrolled(s: Step, players: Players) -> tuple[Players, Stats]:
    """The three directions, where w sees its own effect through one inner step of size eta:

        theta+(w)     = theta     + eta grad joint(theta, w)
        theta_hat+(w) = theta_hat + eta grad J_RL(theta_hat, w)
        teacher       = grad_w [ joint(theta+(w), w) - lam J_RL(theta_hat+(w), w) ]

    A gradient through gradients, so attention runs without its fused kernel, and the whole batch is one
    graph.
    """
    theta, theta_hat, lam, eta = players["theta"], players["theta_hat"], s.config.lam, s.config.eta
    objective, kept = joint(s), {}
    if s.select:
        g_rl = s.runtime.gradients(s, [j_rl(s)], theta, players["w"])[0]
        objective[1].rows, kept = s.select(s, s.runtime.acting(theta, players["w"]), g_rl)

    def value(objective: Objective, theta: Params, w: Params) -> tuple[Tensor, Stats]:
        W, J, stats = merge(theta, w, s.config.lora_scale), torch.zeros(()), {}
        for term in objective:
            part, found = term_value(s, term, term.rows, W)
            J, stats = J + part, stats | found
        return J, stats

    def after_one_step(w: Params) -> tuple[Tensor, tuple]:
        g_theta, stats = grad(partial(value, objective), has_aux=True)(theta, w)
        h_hat, stats_hat = grad(partial(value, [j_rl(s)]), has_aux=True)(theta_hat, w)
        theta_plus = {name: theta[name] + eta * g for name, g in g_theta.items()}
        theta_hat_plus = {name: theta_hat[name] + eta * h for name, h in h_hat.items()}
        gain = value(objective, theta_plus, w)[0] - lam * value([j_rl(s)], theta_hat_plus, w)[0]
        return gain, (g_theta, h_hat, stats, stats_hat)

    with sdpa_kernel(SDPBackend.MATH):
        teacher, (g_theta, h_hat, stats, stats_hat) = grad(after_one_step, has_aux=True)(players["w"])
    return {"theta": g_theta, "theta_hat": h_hat, "w": teacher}, cooperation(stats | kept, stats_hat)


def cooperation(stats: Stats, stats_hat: Stats) -> Stats:
    """What the log shows: the cooperative gain J_RL(theta, w) - J_RL(theta_hat, w) on the same rollouts, and
    the shadow's importance ratio."""
    hat = {f"{name}_hat": stats_hat[name] for name in ("ratio", "weight")}
    return {**stats, **hat, "gain": stats["j_rl"] - stats_hat["j_rl"]}


# --- What `method` chooses from -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """A rule, and what it needs. To add one: a function, and a line in METHODS."""

    update: Callable[[Step, Players], tuple[Players, Stats]]
    players: tuple[str, ...] = ("theta",)
    needs: Callable[[Config, int], tuple[bool, bool]] = lambda config, step: (True, True)  # demos, rollouts
    stage: Callable[[Config, int], tuple[int, int]] = lambda config, step: (step, config.steps)  # of schedule
    selects: bool = False  # `select` may choose its demonstrations


def climb(objective: Callable[[Step], Objective], s: Step, players: Players) -> tuple[Players, Stats]:
    """The direction of theta alone."""
    g_theta, _, stats = s.runtime.gradients(s, objective(s), players["theta"], {})
    return {"theta": g_theta}, stats


ALL = ("theta", "theta_hat", "w")
METHODS = {  # by `method`; the first two are "bridge", by `meta`
    "first_order": Method(first_order, ALL, selects=True),
    "unrolled": Method(unrolled, ALL, selects=True),
    "mix": Method(partial(climb, joint), selects=True),
    "sft": Method(partial(climb, lambda s: [j_sft(s)]), needs=lambda config, step: (True, False)),
    "grpo": Method(partial(climb, lambda s: [j_rl(s)]), needs=lambda config, step: (False, True)),
}
