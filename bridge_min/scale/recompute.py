"""Less memory for a third more time: the backward pass computes blocks and logits again.

torch.utils.checkpoint is refused by torch.func, a custom autograd.Function is not. It has no forward mode:
selection by gain uses the plain network.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, vjp

from ..losses import token_logprobs
from ..model import GPT, Block, Params, Rotary
from ..rollout import Rows

AT_ONCE = 2048  # tokens whose logits exist at once: over 150,000 words they are larger than the network


class Recompute(torch.autograd.Function):
    """f(*inputs), of which only the inputs are kept for the backward pass."""

    @staticmethod
    def forward(f: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return f(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.f = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        return (None, *vjp(ctx.f, *ctx.saved_tensors)[1](g))


def recompute_blocks(model: GPT) -> None:
    """From now on the model's blocks keep their inputs only, wherever they are differentiated."""
    for block in model.model.layers:
        block.forward = partial(again, block, copy.deepcopy(block))


def again(block: Block, plain: Block, x: Tensor, rotary: Rotary | None, layer: int, cache: None) -> Tensor:
    """block(x) by its unchanged twin. The weights are handed over as inputs: when the block runs again,
    `functional_call` has left it."""
    names, weights = zip(*block.named_parameters(), strict=True)
    run = lambda x, *W: functional_call(plain, dict(zip(names, W, strict=True)), (x, rotary, layer, cache))
    return Recompute.apply(run, x, *weights)


def chunked_logprobs(model: GPT, W: Params, rows: Rows, temperature: float = 1.0) -> Tensor:
    """As bridge.policy_logprobs, with the logits of AT_ONCE tokens at a time."""
    trunk = {name.removeprefix("model."): value for name, value in W.items() if name.startswith("model.")}
    head = W["model.embed_tokens.weight" if model.config.tie_word_embeddings else "lm_head.weight"]
    hidden = functional_call(model.model, trunk, (rows.tokens,)).flatten(0, 1)  # (N T, C)
    place, tokens = rows.mask.flatten().nonzero()[:, 0], rows.tokens.flatten()

    def score(h: Tensor, head: Tensor, said: Tensor) -> Tensor:
        logits = F.linear(h, head)[:, : model.config.words or None]
        return token_logprobs(logits, said, torch.ones_like(said).bool(), temperature)

    # each token is predicted by the one before
    some = lambda at: Recompute.apply(partial(score, said=tokens[at]), hidden.index_select(0, at - 1), head)
    logp = torch.cat([some(at) for at in place.split(AT_ONCE)])  # (n,)
    return logp.new_zeros(tokens.numel()).index_copy(0, place, logp).view(rows.tokens.shape)  # (N, T)
