"""The network: causal, the same with and without a cache, and by its formula."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL, filled
from torch.func import functional_call

from bridge_min.config import generator
from bridge_min.model import Cache, build, rotary_table, stretched

FAMILIES = {
    "llama": SMALL,
    "llama 3": replace(SMALL, tie_word_embeddings=False, rope_scaling=(8.0, 1.0, 4.0, 32.0), head_dim=6),
    "qwen2": replace(SMALL, family="qwen2", hidden_size=16, num_attention_heads=4, num_key_value_heads=2),
    "qwen3": replace(SMALL, family="qwen3", num_key_value_heads=2, attention_bias=True),
    "gpt2": replace(SMALL, family="gpt2", num_key_value_heads=2),
}


def random_params(config):
    """In general position: biases and norms too."""
    theta = filled(config, 0)
    return {k: v + 0.1 * torch.randn(v.shape, generator=generator(1, 0, k)) for k, v in theta.items()}


@pytest.fixture(params=FAMILIES)
def policy(request):
    config = FAMILIES[request.param]
    return build(config), random_params(config)


def random_tokens(n, t):
    return torch.randint(SMALL.vocab_size, (n, t), generator=generator(0, 0, "tokens"))


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_a_token_sees_itself_and_the_past_only(policy):
    tokens = random_tokens(2, 7)
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % SMALL.vocab_size
    a, b = (functional_call(*policy, (x,)) for x in (tokens, changed))
    assert torch.equal(a[:, :4], b[:, :4])
    assert ((a - b)[:, 4:].abs().amax(-1) > 1e-6).all()


def test_cached_equals_uncached_for_rows_of_any_length(policy):
    """Prompts of 2, 5 and 4 tokens, then a token at a time; the cache's rows are exchanged on the way."""
    model, theta = policy
    tokens, cache = random_tokens(3, 12), Cache.empty(model.config, 3, 12, torch.zeros(1))
    full = functional_call(model, theta, (tokens,))
    close(functional_call(model, theta, (tokens[:, :5], None, cache)), full[:, :5])
    order, cache.length = torch.tensor([2, 0, 0, 1]), torch.tensor([2, 5, 4])
    cache.take(order)
    for _ in range(6):
        at = cache.length
        close(functional_call(model, theta, (tokens[order, at][:, None], None, cache))[:, 0], full[order, at])
        cache.length = at + 1


def test_query_heads_share_a_key_as_if_it_were_repeated():
    grouped = FAMILIES["qwen2"]  # 4 query heads, 2 of keys and values
    theta, tokens = random_params(grouped), random_tokens(2, 6)

    def repeated(W):
        return W.view(2, grouped.hd, -1).repeat_interleave(2, 0).reshape(4 * grouped.hd, *W.shape[1:])

    many = {k: repeated(v) if "k_proj" in k or "v_proj" in k else v for k, v in theta.items()}
    expected = functional_call(build(replace(grouped, num_key_value_heads=4)), many, (tokens,))
    close(functional_call(build(grouped), theta, (tokens,)), expected)


def test_llama_3_slows_long_waves_keeps_short_ones_and_mixes_between():
    """Within 64 tokens: less than one turn is slowed by 8, more than four are kept."""
    turns = torch.tensor([0.5, 1.0, 2.5, 4.0, 9.0])
    turn = turns * 2 * torch.pi / 64
    expected = turn * torch.tensor([1 / 8, 1 / 8, (1 / 8 + 1) / 2, 1.0, 1.0])
    torch.testing.assert_close(stretched(turn, 8.0, 1.0, 4.0, 64.0), expected)
    config = FAMILIES["llama 3"]
    angle = rotary_table(torch.tensor([[1]]), config)[1].asin().flatten()[: config.hd // 2]
    plain = config.rope_theta ** (-torch.arange(config.hd // 2) * 2 / config.hd)
    torch.testing.assert_close(angle, stretched(plain, *config.rope_scaling))


def test_the_network_is_its_formula_written_out():
    """One block, one row of tokens, every operation by hand."""
    config = replace(SMALL, num_hidden_layers=1, num_attention_heads=1)
    theta, tokens = random_params(config), random_tokens(1, 5)
    layer = {k.removeprefix("model.layers.0."): v for k, v in theta.items()}

    def norm(x, weight):
        return x / (x.square().mean(-1, keepdim=True) + config.rms_norm_eps).sqrt() * weight

    x = theta["model.embed_tokens.weight"][tokens[0]]
    h = norm(x, layer["input_layernorm.weight"])
    q, k, v = (h @ layer[f"self_attn.{name}_proj.weight"].T for name in "qkv")
    turn = torch.arange(5)[:, None] / 10000 ** (torch.arange(4) / 4)  # channel i turns with channel i + 4
    turn = torch.polar(torch.ones(5, 4), turn)
    q, k = (torch.view_as_complex(y.view(5, 2, 4).mT.contiguous()) * turn for y in (q, k))
    q, k = (torch.view_as_real(y).flatten(1) for y in (q, k))
    scores = (q @ k.T / config.hd**0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    x = x + scores.softmax(-1) @ v @ layer["self_attn.o_proj.weight"].T
    h = norm(x, layer["post_attention_layernorm.weight"])
    gate, up = (h @ layer[f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
    x = x + (F.silu(gate) * up) @ layer["mlp.down_proj.weight"].T
    expected = norm(x, theta["model.norm.weight"]) @ theta["model.embed_tokens.weight"].T
    close(functional_call(build(config), theta, (tokens,))[0], expected)
