"""Sampling: G responses for each prompt, with a KV cache, reproducible row by row.

The prompt is computed once per group. A row that has ended gives its place to the last live one, so it costs
nothing more. Randomness is one number in [0, 1) per row and position, drawn beforehand, that is looked up in
the cumulative distribution: a response depends on its own row alone, not on the batch around it (on a GPU, up
to rounding). Read on in losses.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .losses import token_weights, wide
from .model import GPT, Cache, Params, build
from .sharding import own, world
from .tokenizer import Tokenizer

PASS = 128  # what a forward and backward pass costs before its first token, in tokens: measured on the toys
PAD = 0  # fills up rows; a token like any other, since masks say what is real


@dataclass
class Batch:
    """Rows of prompt + response, padded on the right."""

    tokens: Tensor  # (N, T) int64
    mask: Tensor  # (N, T) bool: response tokens, the end of text among them
    weights: Tensor  # (N, T) float32: each token's share of a loss; 1 in all over the whole batch

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, index: Tensor) -> "Batch":
        """The rows with these indices."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v[index] for name, v in values.items() if v is not None})

    def select(self, index: Tensor) -> "Batch":
        """The rows with these indices, cut to the longest of them."""
        part, T = self.rows(index), int(self.length()[index].max()) if len(index) else 0
        cut = {name: v[:, :T] for name, v in vars(part).items() if v is not None and v.dim() == 2}
        return replace(part, **cut)

    def length(self) -> Tensor:
        """Tokens of each row's prompt and response, (N,)."""
        return (torch.arange(self.mask.shape[1] + 1) * F.pad(self.mask, (1, 0))).amax(1)

    def prompts(self) -> list[list[int]]:
        """Each row's tokens before its response."""
        before = self.mask.cumsum(1) == 0  # (N, T)
        return [row[own].tolist() for row, own in zip(self.tokens, before, strict=True)]

    def micro_batches(self, rows: int) -> list["Batch"]:
        """The same rows, at most `rows` at a time, of similar length together: little padding, bounded
        memory. Of many processes each has its share, as many as the others: what fills up has no weight."""
        length = self.length()
        order, parts = length.argsort(stable=True), []
        for alike in torch.split(order, similar(length[order].tolist(), rows * world())):
            place = own(len(alike))
            part = self.select(alike[place % len(alike)])
            part.weights[place >= len(alike)] = 0.0
            parts.append(part)
        return parts


class NotFinite(FloatingPointError):
    """A number is NaN or infinite: what was computed, and on which rows."""

    def __init__(self, what: str, batch: Batch):
        super().__init__(what)
        self.what, self.batch = what, batch


@dataclass
class Rollouts(Batch):
    """Sampled rows; a prompt's group is G rows in succession."""

    logp: Tensor  # (N, T) float32: log-probs recorded while sampling, 0 outside the response
    finished: Tensor  # (N,) bool: ended by itself, not cut off at max_new
    rewards: Tensor | None = None  # (N,) float32, once rewarded
    advantages: Tensor | None = None  # (N,) float32, once rewarded
    ref_logp: Tensor | None = None  # (N, T) float32: the frozen reference's log-probs, for a KL term


@dataclass
class Demos(Batch):
    """Demonstrations; row i shows how the prompt of a step's i-th group may be answered."""

    rewards: Tensor  # (N,) float32: the reward of the demonstration itself
    index: Tensor  # (N,) int64: which of the task's demonstrations
    kinds: Tensor  # (N,) int64: index into problem.KINDS, for the log alone
    advantages: Tensor | None = None  # (N,) float32, for methods that let it join the group


def similar(lengths: list[int], rows: int) -> list[int]:
    """How many rows, of those from the shortest to the longest and at most `rows`, go together such that all
    passes cost least: each as many tokens as its rows have, padded to its longest, and PASS. Where there is
    much to do, another pass must save a sixty-fourth of it, since weights may have to be moved for it."""
    more = max(PASS, sum(lengths) // 64)
    best = [(0, 0)]  # for the first 0, 1, ... rows: the least cost, and where its last pass begins
    for end, longest in enumerate(lengths, 1):
        starts = range(max(0, end - rows), end)
        best.append(min((best[at][0] + (end - at) * longest + more, at) for at in starts))
    counts, end = [], len(lengths)
    while end:
        counts.append(end - best[end][1])
        end = best[end][1]
    return counts[::-1]


def pack(prompts: list[list[int]], responses: list[list[int]]) -> Batch:
    """Token lists to a Batch; the responses bring their own EOS."""
    T = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    tokens = torch.full((len(prompts), T), PAD)  # (N, T)
    mask = torch.zeros(len(prompts), T, dtype=torch.bool)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        end = len(prompt) + len(response)
        tokens[row, :end] = torch.tensor(prompt + response)
        mask[row, len(prompt) : end] = True
    return Batch(tokens, mask, token_weights(mask))


@torch.inference_mode()
def sample(
    model: GPT,
    params: Params,
    prompts: list[list[int]],
    uniforms: Tensor,
    ends: Sequence[int],
    temperature: float = 1.0,
) -> Rollouts:
    """Samples from pi_params: N / P responses for each of the P prompts.

    prompts: P lists of tokens, none empty. uniforms (N, max_new) float32 in [0, 1): the random number of each
    row and position; a prompt's rows stand together. ends: the tokens that end a response. Temperature 0 is
    greedy, with log-probs at 1. The network computes where params lie and in their precision; the rollouts
    are in CPU memory. Raises NotFinite if a log-prob is not.
    """
    N, max_new = uniforms.shape
    if N % len(prompts):
        raise ValueError(f"{N} rows of random numbers do not share out among {len(prompts)} prompts")
    group, width = N // len(prompts), max(map(len, prompts))
    policy = build(model.config)  # takes the weights once, where functional_call would at every token
    policy.load_state_dict(params, assign=True)
    head = policy.head.detach()  # (vocab, C)
    device, stops = head.device, torch.tensor(ends)
    start = torch.tensor([width - len(prompt) for prompt in prompts])  # (P,)
    left = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])  # (P, width)
    cache = Cache.empty(model.config, len(prompts), width, head, start.to(device) if start.any() else None)
    hidden = policy.model(left.to(device), cache=cache)[:, -1].repeat_interleave(group, dim=0)  # (N, C)
    cache = cache.fork(group, width + max_new)

    response, mask = torch.full((N, max_new), PAD), torch.zeros(N, max_new, dtype=torch.bool)
    logp, finished = torch.zeros(N, max_new), torch.zeros(N, dtype=torch.bool)
    rows = torch.arange(N)  # which response each live row of the cache writes
    for t in range(max_new):
        logits = wide(F.linear(hidden, head))  # (n, vocab)
        token, chosen = (
            x.cpu() for x in choose(logits, uniforms[rows, t].to(device), temperature)
        )  # (n,), (n,)
        response[rows, t], logp[rows, t], mask[rows, t] = token, chosen, True
        ended = torch.isin(token, stops)  # (n,)
        if ended.any():
            finished[rows[ended]] = True
            live = len(rows) - int(ended.sum())
            holes = ended[:live].nonzero()[:, 0]
            movers = live + (~ended[live:]).nonzero()[:, 0]
            rows[holes], token[holes] = rows[movers], token[movers]
            rows, token = rows[:live], token[:live]
            cache.keep(holes, movers, live)
        if len(rows) == 0 or t + 1 == max_new:
            break
        hidden = policy.model(token[:, None].to(device), cache=cache)[:, 0]  # (n, C)

    start, left = start.repeat_interleave(group), left.repeat_interleave(group, dim=0)  # (N,), (N, width)
    mask = align(torch.zeros_like(left, dtype=torch.bool), mask, start, False)  # (N, T)
    logp = align(torch.zeros(left.shape), logp, start, 0.0)  # (N, T)
    rollouts = Rollouts(align(left, response, start, PAD), mask, token_weights(mask), logp, finished)
    wrong = (~logp.isfinite()).any(1).nonzero()[:, 0]
    if len(wrong):
        raise NotFinite("the log-probs of sampled tokens are not finite", rollouts.rows(wrong))
    return rollouts.select(torch.arange(N))


def join(parts: list[Rollouts]) -> Rollouts:
    """Rows sampled in several calls as one batch, whose token weights sum to 1 over all."""
    T = max(part.tokens.shape[1] for part in parts)
    wide = lambda name: torch.cat(
        [F.pad(getattr(part, name), (0, T - part.tokens.shape[1])) for part in parts]
    )
    mask, finished = wide("mask"), torch.cat([part.finished for part in parts])
    return Rollouts(wide("tokens"), mask, token_weights(mask), wide("logp"), finished)


def choose(logits: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """One token per row and its log-prob, (n,) each, for logits (n, vocab) and uniform (n,): the first token
    whose cumulative probability exceeds the random number. Summed in float64, so that the last one does for
    any below 1."""
    logps = (logits / (temperature or 1.0)).log_softmax(-1)  # (n, vocab)
    if temperature == 0:
        token = logps.argmax(-1)
    else:
        cumulative = logps.exp().cumsum(-1, dtype=torch.float64)  # (n, vocab)
        token = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
        token = token.clamp(max=logits.shape[1] - 1)  # only where the policy is not finite; `sample` says so
    return token, logps.gather(1, token[:, None])[:, 0]


def align(left: Tensor, right: Tensor, start: Tensor, fill: float) -> Tensor:
    """[left | right] (N, width + max_new) with every row moved to the left by its padding start (N,)."""
    both = torch.cat((left, right), dim=1)
    column = torch.arange(both.shape[1]) + start[:, None]  # (N, width + max_new)
    moved = both.gather(1, column.clamp(max=both.shape[1] - 1))
    return moved.masked_fill(column >= both.shape[1], fill)


def texts(rollouts: Rollouts, tokenizer: Tokenizer) -> list[str]:
    """Each row's response, without its end-of-text token."""
    rows = zip(rollouts.tokens.tolist(), rollouts.mask.tolist(), rollouts.finished.tolist(), strict=True)
    responses = [
        [t for t, own in zip(tokens, mask, strict=True) if own][: -1 if done else None]
        for tokens, mask, done in rows
    ]
    return [tokenizer.decode(response) for response in responses]
