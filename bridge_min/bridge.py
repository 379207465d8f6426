"""BRIDGE (arXiv 2509.06948): student theta, shadow theta_hat, teacher w, and how each of them moves.

    student   theta     += alpha grad_theta     [ (1-lam) J_SFT(theta, w) + lam J_RL(theta, w) ]
    shadow    theta_hat += alpha grad_theta_hat   J_RL(theta_hat, w)
    teacher   w         += beta  grad_w         [ (1-lam) J_SFT(theta, w)
                                                  + lam (J_RL(theta, w) - J_RL(theta_hat, w)) ]

The last bracket is the cooperative gain: what joint training has over RL alone, on the same rollouts. An
objective is a list of (coefficient, term), to be maximized; a term is one micro-batch's share as a function
of (theta, w). Read on in gain.py for the selection of demonstrations, in baselines.py for the rivals and in
train.py for the run.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.func import grad
from torch.nn.attention import SDPBackend, sdpa_kernel

from .config import Config
from .gain import added_reward, select_by_gain, token_gains
from .lora import merge
from .losses import grpo_loss, sft_loss, token_logprobs
from .model import GPT, Params, head_name, hidden_states
from .rollout import Batch, Demos, NotFinite, Rollouts
from .sharding import gathered, summed

Stats = dict[str, Tensor]
Term = partial  # of a function of (micro-batch, theta, w) -> (value, statistics)
Objective = list[tuple[float, Term]]
Players = dict[str, Params]  # "theta", and with BRIDGE "theta_hat" and "w"
Update = tuple[Players, dict[str, float]]  # a direction for each player, what the log shows
LogProbs = Callable[..., Tensor]  # (theta, w, batch, temperature) -> (N, T)


@dataclass
class Step:
    """What one update looks at. demos or rollouts is None where the method does without."""

    config: Config
    logprobs: LogProbs
    demos: Demos | None
    rollouts: Rollouts | None
    number: int = 0  # updates done before this one
    memory: Params = field(default_factory=dict)  # what selection by gain remembers, changed in place


def policy_logprobs(
    model: GPT, config: Config, theta: Params, w: Params | None, batch: Batch, temperature: float = 1.0
) -> Tensor:
    """log pi_{theta + w} of each response token given those before it, 0 elsewhere, (N, T) in CPU memory, as
    the tokens are."""
    # torch.func's derivatives of derivatives know no checkpointing: then all logits exist at once.
    at_once = batch.tokens.numel() if config.meta == "unrolled" else config.logit_tokens
    params = acting_params(config, theta, w)
    tokens, mask = batch.tokens.to(config.device), batch.mask.to(config.device)
    hidden = hidden_states(model, params, tokens, config.recompute)  # (N, T, C)
    return token_logprobs(hidden, params[head_name(model.config)], tokens, mask, temperature, at_once).cpu()


def j_sft(s: Step, demos: Demos | None = None, phi: Callable[[Tensor], Tensor] | None = None) -> list[Term]:
    """J_SFT, the mean log-likelihood of the demonstrations' response tokens, in micro-batches. phi, if given,
    is a weight for each token from its log-prob, held fixed."""

    def term(part: Demos, theta: Params, w: Params) -> tuple[Tensor, Stats]:
        logp = s.logprobs(theta, w, part)
        weights = part.weights * phi(logp.detach()) if phi else part.weights
        value = finite("J_SFT", -sft_loss(logp, weights), part)
        return value, {"sft_loss": sft_loss(logp.detach(), part.weights)}

    demos = s.demos if demos is None else demos
    return [partial(term, part) for part in demos.micro_batches(s.config.micro_batch)]


def j_rl(s: Step, rollouts: Rollouts | None = None) -> list[Term]:
    """J_RL, the GRPO surrogate on sampled and scored rollouts, in micro-batches.

    Rows with advantage zero have gradient zero: without a KL term they are left out, though their tokens
    still count in the weights.
    """
    config, rollouts = s.config, s.rollouts if rollouts is None else rollouts

    def term(part: Rollouts, theta: Params, w: Params) -> tuple[Tensor, Stats]:
        logp = s.logprobs(theta, w, part, config.temperature)
        clips, reference = (config.clip_low, config.clip_high), (part.ref_logp, config.kl)
        loss, stats = grpo_loss(logp, part.logp, part.advantages, part.weights, *clips, *reference)
        return finite("J_RL", -loss, part), {"j_rl": -loss.detach(), **stats}

    if not config.kl:
        rollouts = rollouts.select(rollouts.advantages.nonzero()[:, 0])
    return [partial(term, part) for part in rollouts.micro_batches(config.micro_batch)]


def finite(what: str, value: Tensor, part: Batch) -> Tensor:
    """The value, or NotFinite."""
    if not value.isfinite():
        raise NotFinite(f"{what} is {float(value.detach())}", part)
    return value


def weighted(*parts: tuple[float, list[Term]]) -> Objective:
    """The objective sum of coefficient x terms; what has coefficient 0 is not computed."""
    return [(coefficient, term) for coefficient, terms in parts if coefficient for term in terms]


def gradients(objective: Objective, theta: Params, w: Params) -> tuple[Params, Params, Stats]:
    """grad_theta and grad_w of the objective from the same backward passes, one micro-batch in memory at a
    time; and the terms' statistics, summed. By plain `backward`, which knows activation checkpointing and
    adds each gradient to its sum at once; `torch.func` is for derivatives of derivatives. Raises NotFinite,
    with the micro-batch, if a value or a gradient is not."""
    leaves = [{name: value.detach().requires_grad_() for name, value in p.items()} for p in (theta, w)]
    stats: Stats = {}
    for coefficient, term in objective:
        value, found = term(*leaves)
        (coefficient * value).backward()
        stats |= {name: stats.get(name, 0) + found[name] for name in found}
    g_theta, g_w = (
        {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in p.items()}
        for p in leaves
    )
    if objective and not math.isfinite(total_norm(g_theta) + total_norm(g_w)):
        for one in objective if len(objective) > 1 else []:
            gradients([one], theta, w)  # raises where that one is at fault
        *_, (_, term) = objective
        raise NotFinite("the value is finite, the gradient is not", term.args[0])
    return g_theta, g_w, summed({name: value.detach() for name, value in stats.items()})


def total_norm(g: Params) -> float:
    """Of all the tensors together; in many processes, of their slices everywhere."""
    return float(torch.nn.utils.get_total_norm(g.values())) if g else 0.0


def total(objective: Objective, theta: Params, w: Params) -> tuple[Tensor, Stats]:
    """The objective's value in one graph, differentiable as often as one likes."""
    value, stats = torch.zeros(()), {}
    for coefficient, term in objective:
        part, found = term(theta, w)
        value = value + coefficient * part
        stats |= {name: stats.get(name, 0) + found[name] for name in found}
    return value, stats


def joint(s: Step, theta: Params, w: Params) -> tuple[Params, Params, Params, Stats]:
    """grad_theta of (1-lam) J_SFT + lam J_RL, then the two parts of its grad_w, (1-lam) grad_w J_SFT and
    grad_w J_RL. J_RL comes first, since it decides which demonstrations are supervised (`select`)."""
    lam = s.config.lam
    g_theta, g_w, stats = gradients(weighted((1.0, j_rl(s))), theta, w)
    demos, kept = selected(s, theta, w, g_theta)
    s_theta, s_w, found = gradients(weighted((1 - lam, j_sft(s, demos))), theta, w)
    for name, g in g_theta.items():  # in place: each of them is as large as theta
        s_theta[name] += g.mul_(lam)
    return s_theta, s_w, g_w, {**stats, **found, **kept}


def selected(s: Step, theta: Params, w: Params, g_rl: Params) -> tuple[Demos, dict[str, float]]:
    """The demonstrations that `select` (ours) lets be supervised: each weighted by what it can add to its own
    prompt's reward, and only where it has a gain along grad_theta J_RL."""
    if s.config.select == "none":
        return s.demos, {}
    added = added_reward(s.demos.rewards, s.rollouts.rewards.view(-1, s.config.group))
    demos, kept = replace(s.demos, weights=s.demos.weights * added[:, None]), {"added": float(added.mean())}
    if s.config.select == "reward":
        return demos, kept
    players = gathered(theta), gathered(w)
    gains = token_gains(s.logprobs, *players, demos, gathered(g_rl), s.config.micro_batch)
    demos, shares = select_by_gain(s.config.select, gains, demos, s.memory)
    return demos, {**kept, **shares}


def mix(s: Step, players: Players) -> Update:
    """SFT + RL, naive mixing on theta: BRIDGE without its meta objective, without w and theta_hat."""
    g_theta, _, _, stats = joint(s, players["theta"], {})
    return {"theta": g_theta}, means(stats)


def first_order(s: Step, players: Players) -> Update:
    """The three directions, with theta and theta_hat held fixed while w is differentiated. Two backward
    passes over the rollouts: the student's and the teacher's gradients at (theta, w) belong to one scalar,
    and so do those at (theta_hat, w)."""
    lam, w = s.config.lam, players["w"]
    g_theta, s_w, g_w, stats = joint(s, players["theta"], w)
    h_hat, h_w, stats_hat = gradients(weighted((1.0, j_rl(s))), players["theta_hat"], w)
    teacher = {name: s_w[name] + lam * (g_w[name] - h_w[name]) for name in w}
    return {"theta": g_theta, "theta_hat": h_hat, "w": teacher}, cooperation(stats, stats_hat)


def no_shadow(s: Step, players: Players) -> Update:
    """Ablation: w climbs the joint objective, as theta does; nobody asks what RL alone would have given."""
    g_theta, s_w, g_w, stats = joint(s, players["theta"], players["w"])
    return {"theta": g_theta, "w": {name: s_w[name] + s.config.lam * g_w[name] for name in g_w}}, means(stats)


def unrolled(s: Step, players: Players) -> Update:
    """The three directions, where w sees its own effect through one inner step of size eta:

        theta+(w)     = theta     + eta grad joint(theta, w)
        theta_hat+(w) = theta_hat + eta grad J_RL(theta_hat, w)
        teacher       = grad_w [ joint(theta+(w), w) - lam J_RL(theta_hat+(w), w) ]

    A gradient through gradients, so attention runs without its fused kernel, and the whole batch is one
    graph.
    """
    theta, theta_hat, lam, eta = players["theta"], players["theta_hat"], s.config.lam, s.config.eta
    demos, kept = s.demos, {}
    if s.config.select != "none":
        demos, kept = selected(
            s, theta, players["w"], gradients(weighted((1.0, j_rl(s))), theta, players["w"])[0]
        )
    rl = weighted((1.0, j_rl(s)))
    both = weighted((1 - lam, j_sft(s, demos)), (lam, j_rl(s)))

    def after_one_step(w: Params):
        g_theta, stats = grad(partial(total, both), has_aux=True)(theta, w)
        h_hat, stats_hat = grad(partial(total, rl), has_aux=True)(theta_hat, w)
        theta_plus = {name: theta[name] + eta * g for name, g in g_theta.items()}
        theta_hat_plus = {name: theta_hat[name] + eta * h for name, h in h_hat.items()}
        value = total(both, theta_plus, w)[0] - lam * total(rl, theta_hat_plus, w)[0]
        return value, (g_theta, h_hat, stats, stats_hat)

    with sdpa_kernel(SDPBackend.MATH):
        teacher, (g_theta, h_hat, stats, stats_hat) = grad(after_one_step, has_aux=True)(players["w"])
    directions = {"theta": g_theta, "theta_hat": h_hat, "w": teacher}
    return directions, cooperation({**stats, **kept}, stats_hat)


def bridge(s: Step, players: Players) -> Update:
    """BRIDGE's directions for theta, theta_hat and w, by the reading of the teacher that `meta` names."""
    return {"first_order": first_order, "unrolled": unrolled, "no_shadow": no_shadow}[s.config.meta](
        s, players
    )


def cooperation(stats: Stats, stats_hat: Stats) -> dict[str, float]:
    """What the log shows: the cooperative gain J_RL(theta, w) - J_RL(theta_hat, w) on the same rollouts, and
    ratio_hat, the shadow's mean importance ratio. Where no row is left, J_RL is 0."""
    found, found_hat = means(stats), means(stats_hat)
    found["gain"] = found.get("j_rl", 0.0) - found_hat.get("j_rl", 0.0)
    return found | ({"ratio_hat": found_hat["ratio"]} if "ratio" in found_hat else {})


def means(stats: Stats) -> dict[str, float]:
    """Statistics as numbers; the ratio and the clipped share as means over the tokens that were computed."""
    found = {name: float(value) for name, value in stats.items()}
    weight = found.pop("weight", 0.0)
    return found | ({name: found[name] / weight for name in ("ratio", "clipped")} if weight else {})


def acting_params(config: Config, theta: Params, w: Params | None) -> Params:
    """The weights of pi_{theta + w}, where and in what precision the network computes."""
    return merge(theta, w, config.lora_scale, getattr(torch, config.dtype), config.device)


def acting(config: Config, players: Players, name: str = "theta") -> Params:
    """The weights of the policy pi_{theta + w}, or of the shadow's with name = "theta_hat"."""
    with torch.no_grad():
        return acting_params(config, players[name], players.get("w"))


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
    """One optimizer step along the direction, clipped to max_norm. params and direction change in place."""
    norm = torch.nn.utils.get_total_norm(direction.values())
    for name, value in params.items():
        value.grad = direction[name].mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
