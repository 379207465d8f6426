"""BRIDGE (arXiv 2509.06948): student theta, shadow theta_hat, teacher w, and how each of them moves.

    student   theta     += alpha grad_theta     [ (1-lam) J_SFT(theta, w) + lam J_RL(theta, w) ]
    shadow    theta_hat += alpha grad_theta_hat   J_RL(theta_hat, w)
    teacher   w         += beta  grad_w         [ (1-lam) J_SFT(theta, w)
                                                  + lam (J_RL(theta, w) - J_RL(theta_hat, w)) ]

The last bracket is the cooperative gain: what joint training has over RL alone, on the same rollouts. An
objective is a list of (coefficient, term), to be maximized; a term is one micro-batch's share as a function
of (theta, w). Read on in baselines.py for the rivals and in train.py for the run.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call, grad, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from .config import Config
from .lora import merge
from .losses import grpo_loss, sft_loss, token_logprobs
from .model import GPT, Params
from .rollout import Batch, Rollouts

Stats = dict[str, Tensor]
Term = Callable[[Params, Params], tuple[Tensor, Stats]]
Objective = list[tuple[float, Term]]
Players = dict[str, Params]  # "theta", and with BRIDGE "theta_hat" and "w"
Update = tuple[Players, dict[str, float]]  # a direction for each player, what the log shows
LogProbs = Callable[..., Tensor]  # (theta, w, tokens, temperature) -> (N, T)


def policy_logprobs(
    model: GPT, scale: float, theta: Params, w: Params | None, tokens: Tensor, temperature: float = 1.0
) -> Tensor:
    """log pi_{theta + w} of each token given those before it, (N, T)."""
    logits = functional_call(model, merge(theta, w, scale), (tokens,))  # (N, T, vocab)
    return token_logprobs(logits, tokens, temperature)


def j_sft(logprobs: LogProbs, demos: Batch, micro_batch: int) -> list[Term]:
    """J_SFT, the mean log-likelihood of the demonstrations' response tokens, in micro-batches."""

    def term(part: Batch, theta: Params, w: Params) -> tuple[Tensor, Stats]:
        loss = sft_loss(logprobs(theta, w, part.tokens), part.weights)
        return -loss, {"sft_loss": loss.detach()}

    return [partial(term, part) for part in demos.micro_batches(micro_batch)]


def j_rl(logprobs: LogProbs, rollouts: Rollouts, config: Config) -> list[Term]:
    """J_RL, the GRPO surrogate on sampled and scored rollouts, in micro-batches.

    Rows with advantage zero have gradient zero: without a KL term they are left out, though their tokens
    still count in the weights.
    """

    def term(part: Rollouts, theta: Params, w: Params) -> tuple[Tensor, Stats]:
        logp = logprobs(theta, w, part.tokens, config.temperature)
        clips, reference = (config.clip_low, config.clip_high), (part.ref_logp, config.kl)
        loss, stats = grpo_loss(logp, part.logp, part.advantages, part.weights, *clips, *reference)
        return -loss, {"j_rl": -loss.detach(), **stats}

    if not config.kl:
        rollouts = rollouts.select(rollouts.advantages.nonzero()[:, 0])
    return [partial(term, part) for part in rollouts.micro_batches(config.micro_batch)]


def weighted(*parts: tuple[float, list[Term]]) -> Objective:
    """The objective sum of coefficient x terms; what has coefficient 0 is not computed."""
    return [(coefficient, term) for coefficient, terms in parts if coefficient for term in terms]


def gradients(objective: Objective, theta: Params, w: Params) -> tuple[Params, Params, Stats]:
    """grad_theta and grad_w of the objective from the same backward passes, one micro-batch in memory at a
    time; and the terms' statistics, summed. By `vjp` without grad mode: `grad` would record the backward pass
    as well, for a second derivative that nobody takes here."""
    g_theta = {name: torch.zeros_like(value) for name, value in theta.items()}
    g_w = {name: torch.zeros_like(value) for name, value in w.items()}
    stats: Stats = {}
    for coefficient, term in objective:
        value, backward, found = vjp(term, theta, w, has_aux=True)
        with torch.no_grad():
            grads = backward(torch.full_like(value, coefficient), retain_graph=False)
        for sums, part in zip((g_theta, g_w), grads, strict=True):
            for name, g in part.items():
                sums[name] += g
        stats |= {name: stats.get(name, 0) + found[name] for name in found}
    return g_theta, g_w, stats


def total(objective: Objective, theta: Params, w: Params) -> tuple[Tensor, Stats]:
    """The objective's value in one graph, differentiable as often as one likes."""
    value, stats = torch.zeros(()), {}
    for coefficient, term in objective:
        part, found = term(theta, w)
        value = value + coefficient * part
        stats |= {name: stats.get(name, 0) + found[name] for name in found}
    return value, stats


def first_order(
    joint: Objective, rl: Objective, theta: Params, theta_hat: Params, w: Params, config: Config
) -> tuple[Players, Stats, Stats]:
    """The three directions, with theta and theta_hat held fixed while w is differentiated. Two backward
    passes: the student's and the teacher's gradients at (theta, w) belong to one scalar, and so do those at
    (theta_hat, w)."""
    g_theta, g_w, stats = gradients(joint, theta, w)
    h_hat, h_w, stats_hat = gradients(rl, theta_hat, w)
    teacher = {name: g_w[name] - config.lam * h_w[name] for name in w}
    return {"theta": g_theta, "theta_hat": h_hat, "w": teacher}, stats, stats_hat


def unrolled(
    joint: Objective, rl: Objective, theta: Params, theta_hat: Params, w: Params, config: Config
) -> tuple[Players, Stats, Stats]:
    """The three directions, where w sees its own effect through one inner step of size eta:

        theta+(w)     = theta     + eta grad joint(theta, w)
        theta_hat+(w) = theta_hat + eta grad J_RL(theta_hat, w)
        teacher       = grad_w [ joint(theta+(w), w) - lam J_RL(theta_hat+(w), w) ]

    A gradient through gradients, so attention runs without its fused kernel, and the whole batch is one
    graph.
    """

    def after_one_step(w: Params):
        g_theta, stats = grad(partial(total, joint), has_aux=True)(theta, w)
        h_hat, stats_hat = grad(partial(total, rl), has_aux=True)(theta_hat, w)
        theta_plus = {name: theta[name] + config.eta * g for name, g in g_theta.items()}
        theta_hat_plus = {name: theta_hat[name] + config.eta * h for name, h in h_hat.items()}
        value = total(joint, theta_plus, w)[0] - config.lam * total(rl, theta_hat_plus, w)[0]
        return value, (g_theta, h_hat, stats, stats_hat)

    with sdpa_kernel(SDPBackend.MATH):
        teacher, (g_theta, h_hat, stats, stats_hat) = grad(after_one_step, has_aux=True)(w)
    return {"theta": g_theta, "theta_hat": h_hat, "w": teacher}, stats, stats_hat


def bridge(config: Config, logprobs: LogProbs, players: Players, demos: Batch, rollouts: Rollouts) -> Update:
    """BRIDGE's directions for theta, theta_hat and w. The cooperative gain is J_RL(theta, w) -
    J_RL(theta_hat, w) on the same rollouts; ratio_hat is the shadow's mean importance ratio."""
    sft, rl = j_sft(logprobs, demos, config.micro_batch), j_rl(logprobs, rollouts, config)
    joint = weighted((1 - config.lam, sft), (config.lam, rl))
    teach = {"first_order": first_order, "unrolled": unrolled}[config.meta]
    directions, stats, stats_hat = teach(joint, weighted((1.0, rl)), **players, config=config)
    found, found_hat = means(stats), means(stats_hat)
    if config.lam:  # at lam = 0 nothing is computed at (theta, w); where no row is left, J_RL is 0
        found["gain"] = found.get("j_rl", 0.0) - found_hat.get("j_rl", 0.0)
    if "ratio" in found_hat:
        found["ratio_hat"] = found_hat["ratio"]
    return directions, found


def means(stats: Stats) -> dict[str, float]:
    """Statistics as numbers; the ratio and the clipped share as means over the tokens that were computed."""
    found = {name: float(value) for name, value in stats.items()}
    weight = found.pop("weight", 0.0)
    return found | ({name: found[name] / weight for name in ("ratio", "clipped")} if weight else {})


def acting(config: Config, players: Players, name: str = "theta") -> Params:
    """The weights of the policy pi_{theta + w}, or of the shadow's with name = "theta_hat"."""
    return merge(players[name], players.get("w"), config.lora_scale)


def adamw(params: Params, weight_decay: float = 0.0) -> torch.optim.AdamW:
    """AdamW that climbs, on the dictionary's own tensors."""
    betas = (0.9, 0.95)
    return torch.optim.AdamW(
        params.values(), betas=betas, weight_decay=weight_decay, maximize=True, fused=True
    )


def schedule(step: int, steps: int, warmup: int) -> float:
    """The share of the peak step size: linear warm-up, then cosine decay to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.55 + 0.45 * math.cos(math.pi * progress)


def ascend(
    optimizer: torch.optim.Optimizer, params: Params, direction: Params, lr: float, max_norm: float
) -> None:
    """One optimizer step along the direction, clipped to max_norm. params change in place."""
    norm = torch.nn.utils.get_total_norm(direction.values())
    for name, value in params.items():
        value.grad = direction[name] * (max_norm / (norm + 1e-6)).clamp(max=1.0)
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
