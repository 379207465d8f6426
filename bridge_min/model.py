"""The policy: one decoder-only transformer, a pure function of a dictionary of tensors.

Built as today's open checkpoints are: RMSNorm before each block, rotary positions, grouped-query attention,
SwiGLU, a head that may share the embedding. Qwen2 adds biases, Qwen3 norms of queries and keys; GPT-2 has
LayerNorm, learned positions and a plain GELU block instead. Configuration fields and tensor names are those
of a Hugging Face Llama folder; pretrained.py renames the others'. The network holds no weights of its own (it
lives on torch's "meta" device); `torch.func.functional_call(model, theta, (tokens,))` supplies them. Read on
in lora.py, where theta meets w.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from .config import ModelConfig

Params = dict[str, Tensor]
Rotary = tuple[Tensor, Tensor]  # cos and sin


@dataclass
class Cache:
    """Keys and values of the tokens seen so far, in memory laid out once for all `slots` of N rows.

    Prompts of mixed lengths are padded on the left, so that every row writes the same slot; `start` is each
    row's first real one. `length` counts the slots written.
    """

    k: Tensor  # (layers, N, Hkv, slots, hd)
    v: Tensor  # (layers, N, Hkv, slots, hd)
    start: Tensor | None  # (N,) int64; None: no row is padded
    length: int = 0

    @staticmethod
    def empty(
        config: ModelConfig, rows: int, slots: int, like: Tensor, start: Tensor | None = None
    ) -> "Cache":
        """Room for the keys and values of `rows` rows, in the precision and on the device of `like`."""
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, slots, config.hd)
        return Cache(like.new_zeros(shape), like.new_zeros(shape), start)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes k, v (N, Hkv, T, hd) behind the tokens seen; returns all of the layer's keys and values so
        far."""
        end = self.length + k.shape[2]
        self.k[layer, :, :, self.length : end] = k
        self.v[layer, :, :, self.length : end] = v
        return self.k[layer, :, :, :end], self.v[layer, :, :, :end]  # (N, Hkv, end, hd)

    def fork(self, times: int, slots: int) -> "Cache":
        """Each row `times` times over, with room for `slots`: a group's responses share one prefilled
        prompt."""
        layers, rows, heads, _, hd = self.k.shape
        new = []
        for seen in (self.k, self.v):
            memory = seen.new_zeros(layers, rows * times, heads, slots, hd)
            memory[:, :, :, : self.length] = seen[:, :, :, : self.length].repeat_interleave(times, dim=1)
            new.append(memory)
        return Cache(*new, None if self.start is None else self.start.repeat_interleave(times), self.length)

    def keep(self, holes: Tensor, movers: Tensor, rows: int) -> None:
        """Rows `movers` take the places `holes`, then only the first `rows` stay: only what moves is
        copied."""
        for name in ("k", "v"):
            memory = getattr(self, name)
            memory[:, holes] = memory[:, movers]
            setattr(self, name, memory[:, :rows])
        if self.start is not None:
            self.start[holes] = self.start[movers]
            self.start = self.start[:rows]


class Attention(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads, self.kv_heads, self.hd = config.num_attention_heads, config.num_key_value_heads, config.hd
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.hd, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.hd, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.hd, bias=config.qkv_bias)
        self.o_proj = nn.Linear(self.heads * self.hd, config.hidden_size, bias=config.o_bias)
        self.q_norm = self.k_norm = None
        if config.family == "qwen3":
            self.q_norm, self.k_norm = (nn.RMSNorm(self.hd, eps=config.rms_norm_eps) for _ in range(2))

    def forward(
        self, x: Tensor, rotary: Rotary | None, mask: Tensor | None, layer: int, cache: Cache | None
    ) -> Tensor:
        N, T, _ = x.shape
        q = self.q_proj(x).view(N, T, self.heads, self.hd)
        k = self.k_proj(x).view(N, T, self.kv_heads, self.hd)
        v = self.v_proj(x).view(N, T, self.kv_heads, self.hd).transpose(1, 2)  # (N, Hkv, T, hd)
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = q.transpose(1, 2), k.transpose(1, 2)  # (N, H, T, hd), (N, Hkv, T, hd)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        if cache is not None:
            k, v = cache.append(layer, k, v)  # (N, Hkv, S, hd)
        if T == 1:
            y = attend_one(q, k, v, mask)
        else:
            if q.is_cuda:  # whose fast kernels, given a mask or float32, want as many keys as queries
                k, v = (x.repeat_interleave(self.heads // self.kv_heads, dim=1) for x in (k, v))
            y = F.scaled_dot_product_attention(
                q, k, v, mask, is_causal=mask is None, enable_gqa=not q.is_cuda
            )
        return self.o_proj(y.transpose(1, 2).reshape(N, T, self.heads * self.hd))  # (N, T, C)


class SwiGLU(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # (N, T, C)


class GELU(nn.Module):
    """GPT-2's feed-forward block."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))  # (N, T, C)


def norm(config: ModelConfig) -> nn.Module:
    kind = nn.LayerNorm if config.family == "gpt2" else nn.RMSNorm
    return kind(config.hidden_size, eps=config.rms_norm_eps)


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.input_layernorm = norm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = norm(config)
        self.mlp = GELU(config) if config.family == "gpt2" else SwiGLU(config)

    def forward(
        self, x: Tensor, rotary: Rotary | None, mask: Tensor | None, layer: int, cache: Cache | None
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary, mask, layer, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """All but the head."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.family == "gpt2":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = norm(config)

    def forward(
        self,
        tokens: Tensor,
        start: Tensor | None = None,
        cache: Cache | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """Hidden states (N, T, C); the head makes logits of them. Arguments as of `GPT.forward`; recompute:
        activation checkpointing, each block is computed again in the backward pass instead of kept."""
        T = tokens.shape[1]
        seen = 0 if cache is None else cache.length
        if seen + T > self.config.max_position_embeddings:
            limit = f"max_position_embeddings = {self.config.max_position_embeddings}"
            raise ValueError(f"{seen + T} tokens do not fit {limit}")
        slot = torch.arange(seen, seen + T, device=tokens.device)[None]  # (1, T)
        start = start if cache is None else cache.start
        if start is None and seen and T > 1:  # attention's own causal mask counts from the first key
            start = tokens.new_zeros(len(tokens))
        position = slot if start is None else (slot - start[:, None]).clamp(min=0)  # (N, T)
        mask = None if start is None else visible(slot, start)
        x = self.embed_tokens(tokens)  # (N, T, C)
        if self.config.family == "gpt2":
            x, rotary = x + self.embed_positions(position), None
        else:
            rotary = rotary_table(position, self.config)
        for layer, block in enumerate(self.layers):
            if recompute and torch.is_grad_enabled():
                # The weights are handed over: when the block runs again, `functional_call` has left it.
                weights = dict(block.named_parameters())
                x = checkpoint(
                    functional_call,
                    block,
                    weights,
                    (x, rotary, mask, layer, None),
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                x = block(x, rotary, mask, layer, cache)
        if cache is not None:
            cache.length += T
        return self.norm(x)


class GPT(nn.Module):
    """The decoder. Create it under `torch.device("meta")`, or by `build`, which does."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, tokens: Tensor, start: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Next-token logits (N, T, vocab), always of this shape, for tokens (N, T) int64.

        `start` (N,): each row's first real token, where rows are padded on the left; None where none is
        (padding on the right needs no mask: attention is causal). With a cache the tokens stand behind those
        it has seen, and `start` is the cache's.
        """
        return F.linear(self.model(tokens, start, cache), self.head)  # (N, T, vocab)

    @property
    def head(self) -> Tensor:
        """(vocab, C)"""
        return (self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head).weight


def head_name(config: ModelConfig) -> str:
    """Which tensor makes logits (N, T, vocab) of hidden states (N, T, C)."""
    return "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"


def hidden_states(model: GPT, params: Params, tokens: Tensor, recompute: bool = False) -> Tensor:
    """What the head reads, (N, T, C): all of the network's work but the logits, which are large."""
    trunk = {
        name.removeprefix("model."): value for name, value in params.items() if name.startswith("model.")
    }
    return functional_call(model.model, trunk, (tokens,), {"recompute": recompute})


def build(config: ModelConfig) -> GPT:
    """The network without weights."""
    with torch.device("meta"):
        return GPT(config)


def init_params(config: ModelConfig, generator: torch.Generator) -> Params:
    """Fresh weights: norms 1, biases 0, matrices normal with deviation 1 / sqrt(in), the embedding 0.1.

    A narrow network learns many times slower from the usual 0.02, which is 1 / sqrt(in) for a width of 2500.
    """
    theta = {}
    for name, param in build(config).named_parameters():
        std = 0.1 if name == "model.embed_tokens.weight" else param.shape[-1] ** -0.5
        noise = torch.randn(param.shape, generator=generator)
        theta[name] = (
            noise * std if param.dim() == 2 else torch.full(param.shape, float(not name.endswith("bias")))
        )
    return theta


def visible(slot: Tensor, start: Tensor) -> Tensor:
    """(N, 1, T, S) bool: which of the slots 0..S-1 each query may see. A padding slot sees itself: softmax
    over nothing would be NaN."""
    query, key = (
        slot.mT[None],
        torch.arange(int(slot[0, -1]) + 1, device=slot.device)[None, None],
    )  # (1, T, 1), (1, 1, S)
    return ((key <= query) & (key >= start[:, None, None]) | (key == query))[:, None]


def attend_one(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of one new token, which sees all: query heads that share a key are rows of one product, a
    third faster than the fused kernel, which is made for many queries. q (N, H, 1, hd), k and v (N, Hkv, S,
    hd)."""
    wide = torch.promote_types(q.dtype, torch.float32)  # as the fused kernel has its scores
    shared = q.view(len(q), k.shape[1], -1, q.shape[-1])  # (N, Hkv, H / Hkv, hd)
    scores = shared.to(wide) @ k.mT.to(wide) * q.shape[-1] ** -0.5  # (N, Hkv, H / Hkv, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1).to(v.dtype) @ v).view(q.shape)


def rotary_table(position: Tensor, config: ModelConfig) -> Rotary:
    """cos and sin (N, 1, T, hd) of RoPE (2104.09864): channel i and i + hd/2 turn together."""
    half = torch.arange(0, config.hd, 2, device=position.device, dtype=torch.float32)
    turn = config.rope_theta ** (-half / config.hd)  # (hd / 2,) radians per token
    if config.rope_scaling:
        turn = stretched(turn, *config.rope_scaling)
    angle = position[:, None, :, None] * turn  # (N, 1, T, hd / 2)
    return torch.cat((angle.cos(),) * 2, dim=-1), torch.cat((angle.sin(),) * 2, dim=-1)


def stretched(turn: Tensor, factor: float, low: float, high: float, before: float) -> Tensor:
    """Llama 3's frequencies (2407.21783, section 3.4): channels that turn less than `low` times within
    `before` tokens are slowed by `factor`, those that turn more than `high` times are kept, and between them
    it is a mixture."""
    kept = ((before * turn / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
    return turn / factor * (1 - kept) + turn * kept


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)
