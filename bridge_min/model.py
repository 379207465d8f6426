"""The policy: one decoder-only transformer, a pure function of a dictionary of tensors.

Built as today's open checkpoints are: RMSNorm before each block, rotary positions, grouped-query attention,
SwiGLU, a head that may share the embedding. Qwen2 adds biases, Qwen3 norms of queries and keys; GPT-2 has
LayerNorm, learned positions and a plain GELU block instead. Settings and tensor names are those of a Hugging
Face Llama folder. The network holds no weights of its own (it lives on torch's "meta" device):
`torch.func.functional_call(model, theta, (tokens,))` supplies them. Read on in lora.py, where theta meets w.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig

Params = dict[str, Tensor]
Rotary = tuple[Tensor, Tensor]  # cos and sin


@dataclass
class Cache:
    """Keys and values of the tokens that each row has seen. A token's slot is its position; what lies in the
    slots from `length` on is not looked at. Whoever calls the network moves `length` on."""

    kv: list[Tensor]  # of each layer, (2, N, Hkv, slots, hd)
    length: Tensor  # (N,) int64

    @staticmethod
    def empty(config: ModelConfig, rows: int, slots: int, like: Tensor) -> "Cache":
        """Room for `rows` rows of up to `slots` tokens, in the precision and on the device of `like`."""
        shape = (2, rows, config.num_key_value_heads, slots, config.hd)
        kv = [like.new_zeros(shape) for _ in range(config.num_hidden_layers)]
        return Cache(kv, torch.zeros(rows, dtype=torch.int64, device=like.device))

    def append(self, layer: int, k: Tensor, v: Tensor) -> Tensor:
        """Writes k, v (N, Hkv, T, hd) behind the tokens seen; returns the layer's slots that are in use,
        (2, N, Hkv, S, hd)."""
        row = torch.arange(len(k), device=k.device)[:, None]  # (N, 1)
        slot = self.length[:, None] + torch.arange(k.shape[2], device=k.device)  # (N, T)
        for memory, new in zip(self.kv[layer].transpose(2, 3), (k, v), strict=True):
            memory[row, slot] = new.transpose(1, 2)
        return self.kv[layer][..., : int(slot.max()) + 1, :]

    def take(self, index: Tensor) -> None:
        """Keeps the rows with these indices, in their order; a row may be kept several times."""
        for layer, memory in enumerate(self.kv):
            self.kv[layer] = memory[:, index]
        self.length = self.length[index]


class Attention(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads, self.kv_heads, self.hd = config.num_attention_heads, config.num_key_value_heads, config.hd
        C, biased = config.hidden_size, config.attention_bias or config.family in ("gpt2", "qwen2")
        self.q_proj = nn.Linear(C, self.heads * self.hd, bias=biased)
        self.k_proj = nn.Linear(C, self.kv_heads * self.hd, bias=biased)
        self.v_proj = nn.Linear(C, self.kv_heads * self.hd, bias=biased)
        self.o_proj = nn.Linear(self.heads * self.hd, C, bias=biased and config.family != "qwen2")
        self.q_norm = self.k_norm = nn.Identity()
        if config.family == "qwen3":
            self.q_norm, self.k_norm = (nn.RMSNorm(self.hd, eps=config.rms_norm_eps) for _ in "qk")

    def forward(self, x: Tensor, rotary: Rotary | None, layer: int, cache: Cache | None) -> Tensor:
        N, T, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(N, T, self.heads, self.hd)).transpose(1, 2)  # (N, H, T, hd)
        k = self.k_norm(self.k_proj(x).view(N, T, self.kv_heads, self.hd)).transpose(1, 2)  # (N, Hkv, T, hd)
        v = self.v_proj(x).view(N, T, self.kv_heads, self.hd).transpose(1, 2)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        seen = None if cache is None else cache.append(layer, k, v)  # (2, N, Hkv, S, hd)
        if seen is not None and T == 1:
            y = attend_one(q, *seen, cache.length)
        else:
            if q.is_cuda:  # whose fast kernels want as many keys as queries
                k, v = (kv.repeat_interleave(self.heads // self.kv_heads, dim=1) for kv in (k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=not q.is_cuda)
        return self.o_proj(y.transpose(1, 2).reshape(N, T, self.heads * self.hd))  # (N, T, C)


def attend_one(q: Tensor, k: Tensor, v: Tensor, last: Tensor) -> Tensor:
    """Attention of one new token: query heads that share a key are rows of one product, a third faster than
    the fused kernel, which is made for many queries. q (N, H, 1, hd), k and v (N, Hkv, S, hd); last (N,):
    the last slot that each row may see."""
    shared = q.view(len(q), k.shape[1], -1, q.shape[-1])  # (N, Hkv, H / Hkv, hd)
    scores = float32_at_least(shared) @ float32_at_least(k).mT * q.shape[-1] ** -0.5  # (N, Hkv, H / Hkv, S)
    hidden = torch.arange(k.shape[2], device=k.device) > last[:, None]  # (N, S)
    scores = scores.masked_fill(hidden[:, None, None], -torch.inf)
    return (scores.softmax(-1).to(v.dtype) @ v).view(q.shape)


class MLP(nn.Module):
    """SwiGLU (2002.05202), or GPT-2's plain GELU."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        C, inner, plain = config.hidden_size, config.intermediate_size, config.family == "gpt2"
        self.gate_proj = None if plain else nn.Linear(C, inner, bias=False)
        self.up_proj, self.down_proj = nn.Linear(C, inner, bias=plain), nn.Linear(inner, C, bias=plain)

    def forward(self, x: Tensor) -> Tensor:
        up = self.up_proj(x)  # (N, T, inner)
        up = F.silu(self.gate_proj(x)) * up if self.gate_proj else F.gelu(up, approximate="tanh")
        return self.down_proj(up)


def norm(config: ModelConfig) -> nn.Module:
    kind = nn.LayerNorm if config.family == "gpt2" else nn.RMSNorm
    return kind(config.hidden_size, eps=config.rms_norm_eps)


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.input_layernorm = norm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = norm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotary: Rotary | None, layer: int, cache: Cache | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary, layer, cache)
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

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Hidden states (N, T, C) of tokens (N, T) int64."""
        position = torch.arange(tokens.shape[1], device=tokens.device)[None]  # (1, T)
        if cache is not None:
            position = cache.length[:, None] + position  # (N, T)
        x, learned = self.embed_tokens(tokens), self.config.family == "gpt2"  # (N, T, C)
        x = x + self.embed_positions(position) if learned else x
        rotary = None if learned else rotary_table(position, self.config)
        for layer, block in enumerate(self.layers):
            x = block(x, rotary, layer, cache)
        return self.norm(x)


class GPT(nn.Module):
    """The decoder. `build` makes it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def head(self) -> Tensor:
        """(vocab, C)"""
        return (self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head).weight

    def forward(self, tokens: Tensor, where: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Next-token logits (N, T, words) for tokens (N, T) int64; or (n, words), only at the n places where
        `where` (N, T) is true. Rows are padded on the right: attention is causal, so that needs no mask.

        With an empty cache the tokens are written there too; behind those that it has seen, one token of each
        row can follow at a time.
        """
        x = self.model(tokens, cache)  # (N, T, C)
        if where is not None:
            x = x.flatten(0, 1).index_select(0, where.flatten().nonzero()[:, 0])  # (n, C)
        return F.linear(x, self.head)[..., : self.config.words or None]


def build(config: ModelConfig) -> GPT:
    """The network without weights."""
    with torch.device("meta"):
        return GPT(config)


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


def float32_at_least(x: Tensor) -> Tensor:
    """The sums of a softmax need it, whatever the network computes in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
