"""Rows of tokens, and sampling: G responses for each prompt, with a KV cache, reproducible row by row.

The prompt is computed once per group. Randomness is one number in [0, 1) per row and position, drawn
beforehand, that is looked up in the cumulative distribution: a response depends on its own row alone, not on
the batch around it (up to rounding). Read on in bridge.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .losses import token_weights
from .model import GPT, Cache, Params, build, float32_at_least

PAD = 0  # fills up rows; a token like any other, since masks say what is real
COMPACT_BELOW = 0.75  # share of the cache's rows that still sample; below it the others are taken out


@dataclass
class Rows:
    """N rows of prompt + response, padded on the right: rollouts, a prompt's group in succession, or
    demonstrations, row i for the prompt of the i-th group."""

    tokens: Tensor  # (N, T) int64
    mask: Tensor  # (N, T) bool: response tokens, the end of text among them
    weights: Tensor  # (N, T): each token's share of an objective; 1 in all over the whole batch
    logp: Tensor | None = None  # (N, T) float32: log-probs recorded while sampling, 0 outside the response
    ref_logp: Tensor | None = None  # (N, T): the frozen reference's, for a KL term
    finished: Tensor | None = None  # (N,) bool: ended by itself, not cut off at max_new
    rewards: Tensor | None = None  # (N,)
    advantages: Tensor | None = None  # (N,)

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, index: Tensor) -> "Rows":
        """The rows with these indices, cut to the longest of them."""
        T = int(self.length()[index].max()) if len(index) else 1
        return self.each(lambda value: value[index, :T] if value.dim() == 2 else value[index])

    def each(self, change: Callable[[Tensor], Tensor]) -> "Rows":
        """The same change made to every tensor."""
        changed = {name: change(value) for name, value in vars(self).items() if value is not None}
        return replace(self, **changed)

    def length(self) -> Tensor:
        """Tokens of each row's prompt and response, (N,)."""
        return (self.mask * torch.arange(1, self.mask.shape[1] + 1, device=self.mask.device)).amax(1)

    def batches(self, most: int) -> Iterator["Rows"]:
        """The same rows, at most `most` at a time, those of similar length together: little padding, bounded
        memory. Each batch is cut once more where that saves an eighth of its positions, since a pass has its
        price. No rows are one batch of none."""
        order = self.length().argsort(stable=True)
        for part in order.tensor_split(-(-len(self) // most) or 1):
            length = self.length()[part]  # ascending
            saved = torch.arange(1, len(part) + 1, device=part.device) * (length[-1:] - length)  # by each cut
            cut = [int(saved.argmax()) + 1] if (8 * saved > len(part) * length[-1:]).any() else []
            yield from map(self.take, part.tensor_split(cut))


def pack(prompts: list[list[int]], responses: list[list[int]]) -> Rows:
    """Token lists to Rows; the responses bring their own end of text."""
    rows = [p + r for p, r in zip(prompts, responses, strict=True)]
    tokens = torch.full((len(rows), max(map(len, rows), default=1)), PAD)  # (N, T)
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for n, row in enumerate(rows):
        tokens[n, : len(row)] = torch.tensor(row)
        mask[n, len(prompts[n]) : len(row)] = True
    return Rows(tokens, mask, token_weights(mask))


@torch.inference_mode()
def sample(
    model: GPT,
    W: Params,
    prompts: list[list[int]],
    uniforms: Tensor,
    ends: Sequence[int],
    temperature: float = 1.0,
) -> Rows:
    """Samples from pi_W: N / P responses for each of the P prompts.

    prompts: P lists of tokens, none empty. uniforms (N, max_new) float32 in [0, 1): the random number of each
    row and position; a prompt's rows stand together. ends: the tokens that end a response. Temperature 0 is
    greedy, with log-probs at 1. The rows are where W is.
    """
    N, max_new = uniforms.shape
    policy = build(model.config)  # takes the weights once, where functional_call would at every token
    policy.load_state_dict(W, assign=True)
    device, stops = policy.head.device, torch.tensor(ends, device=policy.head.device)
    asked = pack(prompts, [[]] * len(prompts)).tokens.to(device)  # (P, width)
    length = torch.tensor([len(prompt) for prompt in prompts], device=device)  # (P,)
    last = torch.arange(asked.shape[1], device=device) == length[:, None] - 1  # (P, width)
    cache = Cache.empty(model.config, len(prompts), asked.shape[1] + max_new, policy.head.detach())
    logits = policy(asked, last, cache)  # (P, vocab)
    cache.length = length
    prompt_of = torch.arange(len(prompts), device=device).repeat_interleave(N // len(prompts))  # (N,)
    cache.take(prompt_of)
    logits, length, uniforms = logits[prompt_of], length[prompt_of], uniforms.to(device)

    tokens = F.pad(asked[prompt_of], (0, max_new), value=PAD)  # (N, T)
    mask, logp = torch.zeros_like(tokens, dtype=torch.bool), torch.zeros(tokens.shape, device=device)
    finished = torch.zeros(N, dtype=torch.bool, device=device)
    live = torch.arange(N, device=device)  # (n,): which response each row of the cache writes
    for t in range(max_new):
        token, chosen = draw_token(logits, uniforms[live, t], temperature)  # (n,), (n,)
        going = ~finished[live]
        row = live[going]
        at = (row, length[row] + t)
        tokens[at], logp[at], mask[at] = token[going], chosen[going].float(), True
        finished[row] = torch.isin(token[going], stops)
        keep = (~finished[live]).nonzero()[:, 0]
        if len(keep) == 0 or t + 1 == max_new:
            break
        if len(keep) < COMPACT_BELOW * len(live):
            cache.take(keep)
            live, token = live[keep], token[keep]
        logits = policy(token[:, None], None, cache)[:, 0]  # (n, vocab)
        cache.length = cache.length + 1
    rows = Rows(tokens, mask, token_weights(mask), logp=logp, finished=finished)
    return rows.take(torch.arange(N, device=device))


def draw_token(logits: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """One token per row and its log-prob, (n,) each, for logits (n, vocab) and uniform (n,): the first token
    whose cumulative probability exceeds the random number. Summed in float64, so that the last one does for
    any below 1."""
    logps = (float32_at_least(logits) / (temperature or 1.0)).log_softmax(-1)  # (n, vocab)
    if temperature == 0:
        token = logps.argmax(-1)
    else:
        cumulative = logps.exp().cumsum(-1, dtype=torch.float64)  # (n, vocab)
        token = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
        token = token.clamp(max=logits.shape[1] - 1)  # only where the policy is not finite
    return token, logps.gather(1, token[:, None])[:, 0]
