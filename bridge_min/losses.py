"""Log-probabilities, advantages and the GRPO objective: pure functions of tensors, no models in sight.

An objective, to be maximized, is a sum over tokens of weight x term, with weights (N, T) that sum to 1 over
the *whole* batch and are zero outside responses. So a micro-batch is a slice of rows, and rows known to give
no gradient may be left out: the weights count them all the same. Read on in rollout.py.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import float32_at_least

MOST = 1.0986123  # log of an importance ratio of 3: a token beyond has no gradient


def token_logprobs(logits: Tensor, tokens: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """log pi(tokens[:, t] | tokens[:, :t]) where mask is true, 0 elsewhere, as (N, T), float32 at least.

    logits (n, vocab) predict the n tokens of the mask, row by row; tokens and mask (N, T), false in column 0,
    which nothing predicts. Score at the temperature the tokens were sampled at.
    """
    place = mask.flatten().nonzero()[:, 0]  # (n,)
    logits = float32_at_least(logits) / temperature
    logp = -F.cross_entropy(logits, tokens.flatten()[place], reduction="none")  # (n,)
    return logp.new_zeros(tokens.numel()).index_copy(0, place, logp).view(tokens.shape)  # (N, T)


def token_weights(mask: Tensor, total: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """Every response token of the batch weighs the same (DAPO, 2503.14476, section 3.3). mask (N, T); total:
    a number's sum over all processes that share the batch."""
    return mask / total(mask.sum()).clamp(min=1)


def sequence_weights(mask: Tensor, total: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """Every response weighs the same, its tokens share it (GRPO, 2402.03300, equation 3)."""
    return mask / mask.sum(1, keepdim=True).clamp(min=1) / total(mask.any(1).sum()).clamp(min=1)


def group_advantages(rewards: Tensor, group: int, scale_by_std: bool = True, eps: float = 1e-4) -> Tensor:
    """A_i = (r_i - mean) / (std + eps) within each prompt's group of consecutive rows; rewards and result
    (N,).

    std is the group's own (divided by G). scale_by_std=False leaves it out (Dr. GRPO, 2503.20783). Equal
    rewards give exactly zero, so that their rows can be left out of the policy gradient.
    """
    r = rewards.view(-1, group)  # (P, G)
    centred = r - r.mean(1, keepdim=True)
    if scale_by_std:
        centred = centred / (centred.square().mean(1, keepdim=True).sqrt() + eps)
    return centred.masked_fill((r == r[:, :1]).all(1, keepdim=True), 0.0).flatten()  # (N,)


def grpo_objective(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    weights: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ref_logp: Tensor | None = None,
    kl: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """J_RL and its statistics: the clipped surrogate min(rho A, clip(rho) A) minus kl x KL(pi || pi_ref).

    logp, old_logp, ref_logp, weights (N, T); advantages (N,). rho = exp(logp - old_logp) is 1 in the first
    update after sampling: then J_RL is the mean advantage, which says nothing, and its gradient is the policy
    gradient. The shadow has other ratios; rho is cut off at 3, as a negative A has no other bound (dual clip,
    1912.09729). clip_high > clip_low is DAPO's clip-higher. The statistics are weighted sums, so that those
    of micro-batches add up.

    KL by rho (exp(d) - d - 1), d = ref_logp - logp (2512.02556, section 3.1): value and gradient, -rho d per
    log-prob, are in the mean those of the KL at each token, whoever sampled, up to a rho of 3. Without rho
    the gradient would be that of KL(pi_ref || pi), and explode where pi is far below pi_ref.
    """
    log_ratio = (logp - old_logp).where(weights > 0, 0.0).clamp(max=MOST)  # (N, T)
    A, ratio = advantages[:, None], log_ratio.exp()  # (N, 1), (N, T)
    surrogate = torch.minimum(ratio * A, ratio.clamp(1 - clip_low, 1 + clip_high) * A)  # (N, T)
    clipped = (A > 0) & (ratio > 1 + clip_high) | (A < 0) & ((ratio < 1 - clip_low) | (log_ratio >= MOST))
    stats = {"ratio": (weights * ratio).sum(), "clipped": (weights * clipped).sum(), "weight": weights.sum()}
    if kl:
        d_old = (ref_logp - old_logp).where(weights > 0, 0.0)  # (N, T)
        divergence = d_old.exp() - ratio * (1 + d_old - log_ratio)  # the same, without exp(d)
        surrogate, stats["kl"] = surrogate - kl * divergence, (weights * divergence).sum()
    return (weights * surrogate).sum(), {name: value.detach() for name, value in stats.items()}
