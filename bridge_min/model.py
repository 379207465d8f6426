"""The policy: one decoder-only transformer, a pure function of a dictionary of tensors.

Built as today's open checkpoints are: RMSNorm before each block, rotary positions, grouped-query attention,
SwiGLU, a head that may share the embedding. Configuration fields and tensor names are those of a Hugging Face
Llama folder, so that `model.safetensors` needs no renaming. The network holds no weights of its own (it lives
on torch's "meta" device); `torch.func.functional_call(model, theta, (tokens,))` supplies them. Read on in
lora.py, where theta meets w.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig

Params = dict[str, Tensor]


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
    def empty(config: ModelConfig, rows: int, slots: int, start: Tensor | None = None) -> "Cache":
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, slots, config.head_dim)
        return Cache(torch.zeros(shape), torch.zeros(shape), start)

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
        self.heads, self.kv_heads, self.hd = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.hd, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.hd, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.hd, bias=False)
        self.o_proj = nn.Linear(self.heads * self.hd, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, layer: int, cache: Cache | None
    ):
        N, T, _ = x.shape
        q = rotate(self.q_proj(x).view(N, T, self.heads, self.hd).transpose(1, 2), rotary)  # (N, H, T, hd)
        k = rotate(
            self.k_proj(x).view(N, T, self.kv_heads, self.hd).transpose(1, 2), rotary
        )  # (N, Hkv, T, hd)
        v = self.v_proj(x).view(N, T, self.kv_heads, self.hd).transpose(1, 2)  # (N, Hkv, T, hd)
        if cache is not None:
            k, v = cache.append(layer, k, v)  # (N, Hkv, S, hd)
        if T == 1:
            y = attend_one(q, k, v, mask)
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(N, T, self.heads * self.hd))  # (N, T, C)


class SwiGLU(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # (N, T, C)


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, layer: int, cache: Cache | None
    ):
        x = x + self.self_attn(self.input_layernorm(x), rotary, mask, layer, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class GPT(nn.Module):
    """The decoder. Create it under `torch.device("meta")`, or by `build`, which does."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(config.vocab_size, config.hidden_size),
                "layers": nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers)),
                "norm": nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps),
            }
        )
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, tokens: Tensor, start: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Next-token logits (N, T, vocab), always of this shape, for tokens (N, T) int64.

        `start` (N,): each row's first real token, where rows are padded on the left; None where none is
        (padding on the right needs no mask: attention is causal). With a cache the tokens stand behind those
        it has seen, and `start` is the cache's.
        """
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
        rotary = rotary_table(position, self.config)
        x = self.model.embed_tokens(tokens)  # (N, T, C)
        for layer, block in enumerate(self.model.layers):
            x = block(x, rotary, mask, layer, cache)
        if cache is not None:
            cache.length += T
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        return F.linear(self.model.norm(x), head.weight)  # (N, T, vocab)


def build(config: ModelConfig) -> GPT:
    """The network without weights."""
    with torch.device("meta"):
        return GPT(config)


def init_params(config: ModelConfig, generator: torch.Generator) -> Params:
    """Fresh weights: norms 1, matrices normal with deviation 1 / sqrt(in), the embedding 0.1.

    A narrow network learns many times slower from the usual 0.02, which is 1 / sqrt(in) for a width of 2500.
    """
    theta = {}
    for name, param in build(config).named_parameters():
        std = 0.1 if name == "model.embed_tokens.weight" else param.shape[-1] ** -0.5
        noise = torch.randn(param.shape, generator=generator)
        theta[name] = noise * std if param.dim() == 2 else torch.ones(param.shape)
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
    shared = q.view(len(q), k.shape[1], -1, q.shape[-1])  # (N, Hkv, H / Hkv, hd)
    scores = shared @ k.mT * q.shape[-1] ** -0.5  # (N, Hkv, H / Hkv, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1) @ v).view(q.shape)


def rotary_table(position: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos and sin (N, 1, T, hd) of RoPE (2104.09864): channel i and i + hd/2 turn together."""
    half = torch.arange(0, config.head_dim, 2, device=position.device, dtype=torch.float32)
    angle = position[:, None, :, None] * config.rope_theta ** (-half / config.head_dim)  # (N, 1, T, hd / 2)
    return torch.cat((angle.cos(),) * 2, dim=-1), torch.cat((angle.sin(),) * 2, dim=-1)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)
