"""Log-probabilities and the two losses. Pure functions of log-probs and weights: they know nothing of models.

Every loss is a sum over tokens of weight x objective, with weights (N, T) that sum to 1 over the *whole*
batch and are zero outside responses (`token_weights`, `sequence_weights`). So a micro-batch is a slice of
rows, rows known to give no gradient may be left out, and the normaliser still counts them. Read on in
bridge.py.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def token_logprobs(
    hidden: Tensor,
    head: Tensor,
    tokens: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    at_once: int = 16384,
) -> Tensor:
    """log pi(tokens[:, t] | tokens[:, :t]) where mask is true, 0 elsewhere, as (N, T), float32 at least.

    The logits are hidden head^T / temperature, for hidden (N, T, C), head (vocab, C) and tokens (N, T); those
    of prompts and padding, which no loss asks for, are never made. mask (N, T) is false in column 0, which
    nothing predicts. `at_once` tokens' logits exist at a time; if there are more, the backward pass makes
    them again: a batch's logits over 150,000 words are larger than the network. Score at the temperature the
    tokens were sampled at; 0, greedy, is 1.
    """
    part = partial(next_logprobs, temperature=temperature)
    place = mask.flatten().nonzero()[:, 0]  # (n,) of the response tokens; the one before predicts each
    before, following = hidden.flatten(0, 1).index_select(0, place - 1), tokens.flatten()[place]
    parts = list(zip(before.split(at_once), following.split(at_once), strict=True))  # (n, C), (n,)
    if len(parts) > 1 and torch.is_grad_enabled():
        part = partial(checkpoint, part, use_reentrant=False, preserve_rng_state=False)
    logp = torch.cat([part(h, head, f) for h, f in parts])  # (n,)
    return logp.new_zeros(tokens.numel()).index_copy(0, place, logp).view(tokens.shape)  # (N, T)


def next_logprobs(hidden: Tensor, head: Tensor, following: Tensor, temperature: float) -> Tensor:
    """log pi of the token that follows, (n,), for hidden (n, C) and following (n,)."""
    logits = wide(F.linear(hidden, head))  # (n, vocab)
    if temperature not in (0, 1):
        logits = logits / temperature
    return -F.cross_entropy(logits, following, reduction="none")


def wide(logits: Tensor) -> Tensor:
    """float32 at least: a softmax over a vocabulary is summed there, whatever the network computes in."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def token_weights(mask: Tensor) -> Tensor:
    """Every response token of the batch weighs the same (DAPO, 2503.14476, section 3.3). mask (N, T)."""
    return mask / mask.sum()


def sequence_weights(mask: Tensor) -> Tensor:
    """Every response weighs the same, its tokens share it (GRPO, 2402.03300, equation 3)."""
    return mask / mask.sum(1, keepdim=True).clamp(min=1) / len(mask)


def sft_loss(logp: Tensor, weights: Tensor) -> Tensor:
    """-J_SFT: the mean negative log-likelihood of the demonstrations' response tokens."""
    return -(logp * weights).sum()


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


def grpo_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    weights: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ref_logp: Tensor | None = None,
    kl: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """-J_RL and its statistics: the clipped surrogate min(rho A, clip(rho) A) minus kl x KL(pi || pi_ref).

    logp, old_logp, ref_logp, weights (N, T); advantages (N,). rho = exp(logp - old_logp) is 1 in the first
    update after sampling: then the loss is about 0 and its gradient is the policy gradient. clip_high >
    clip_low is DAPO's clip-higher. The statistics are weighted sums, so that those of micro-batches add up.
    KL by the k3 estimator exp(d) - d - 1, d = ref_logp - logp: never negative, unbiased
    (http://joschu.net/blog/kl-approx.html).
    """
    response = weights > 0
    ratio = (logp - old_logp).where(response, 0.0).exp()  # (N, T)
    A = advantages[:, None]  # (N, 1)
    surrogate = torch.minimum(ratio * A, ratio.clamp(1 - clip_low, 1 + clip_high) * A)  # (N, T)
    clipped = (A > 0) & (ratio > 1 + clip_high) | (A < 0) & (ratio < 1 - clip_low)
    stats = {"ratio": (weights * ratio).sum(), "clipped": (weights * clipped).sum(), "weight": weights.sum()}
    if kl:
        d = (ref_logp - logp).where(response, 0.0)  # (N, T)
        k3 = d.exp() - d - 1
        surrogate = surrogate - kl * k3
        stats["kl"] = (weights * k3).sum()
    return -(weights * surrogate).sum(), {name: value.detach() for name, value in stats.items()}
