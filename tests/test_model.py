"""The network: causal, blind to padding, the same with and without a cache."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL
from torch.func import functional_call

from bridge_min.config import ConfigError, generator
from bridge_min.lora import init_lora, merge
from bridge_min.model import Cache, build, init_params, rotary_table, rotate

CONFIGS = {
    "tied, grouped": SMALL,
    "untied, one key per query": replace(SMALL, tie_word_embeddings=False, num_key_value_heads=2),
    "two groups of two": replace(SMALL, hidden_size=16, num_attention_heads=4, num_key_value_heads=2),
}


@pytest.fixture(params=CONFIGS)
def policy(request):
    config = CONFIGS[request.param]
    return build(config), init_params(config, generator(0, 0, "init"))


def run(policy, tokens, **kwargs):
    return functional_call(policy[0], policy[1], (tokens,), kwargs)


def random_tokens(n, t, seed=0):
    return torch.randint(SMALL.vocab_size, (n, t), generator=generator(seed, 0, "tokens"))


def test_logits_have_one_shape_and_every_tensor_is_used(policy):
    theta = {name: value.clone().requires_grad_() for name, value in policy[1].items()}
    logits = functional_call(policy[0], theta, (random_tokens(3, 5),))
    assert logits.shape == (3, 5, SMALL.vocab_size)
    for name, gradient in zip(theta, torch.autograd.grad(logits.square().sum(), theta.values()), strict=True):
        assert gradient.abs().sum() > 0, name


def test_a_token_sees_itself_and_the_past_only(policy):
    tokens = random_tokens(2, 7)
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % SMALL.vocab_size
    a, b = run(policy, tokens), run(policy, changed)
    assert torch.equal(a[:, :4], b[:, :4])
    assert ((a - b)[:, 4:].abs().amax(-1) > 1e-6).all()


def test_padding_on_either_side_changes_nothing(policy):
    tokens = random_tokens(1, 6)
    alone = run(policy, tokens)
    junk = random_tokens(1, 3, seed=1)
    torch.testing.assert_close(run(policy, torch.cat((tokens, junk), 1))[:, :6], alone, atol=1e-5, rtol=1e-5)
    left = run(policy, torch.cat((junk, tokens), 1), start=torch.tensor([3]))
    torch.testing.assert_close(left[:, 3:], alone, atol=1e-5, rtol=1e-5)
    assert left.isfinite().all()


def test_positions_count_from_each_row_s_first_real_token(policy, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "bridge_min.model.rotary_table",
        lambda position, config: (seen.append(position.tolist()), rotary_table(position, config))[1],
    )
    cache = Cache.empty(policy[0].config, 2, 4, torch.zeros(1), torch.tensor([0, 2]))
    run(policy, random_tokens(2, 3), cache=cache)
    run(policy, random_tokens(2, 1), cache=cache)
    assert seen == [[[0, 1, 2], [0, 0, 0]], [[3], [1]]]


@pytest.mark.parametrize("start", [None, [0, 2, 3]])
def test_cached_equals_uncached(policy, start):
    tokens = random_tokens(3, 9)
    start = None if start is None else torch.tensor(start)
    full = run(policy, tokens, start=start)
    cache = Cache.empty(policy[0].config, 3, 9, torch.zeros(1), start)
    pieces = [run(policy, tokens[:, a:b], cache=cache) for a, b in ((0, 4), (4, 5), (5, 8), (8, 9))]
    real = torch.arange(9)[None] >= (start[:, None] if start is not None else torch.zeros(3, 1))
    torch.testing.assert_close(torch.cat(pieces, 1)[real], full[real], atol=1e-5, rtol=1e-5)


def test_rotary_positions_are_relative_and_turn_at_their_wavelengths():
    config = replace(SMALL, hidden_size=16)  # head_dim 8
    q, k = torch.randn(2, 1, 1, 1, 8, generator=generator(0, 0, "qk"))

    def product(i, j):
        turned = [rotate(x, rotary_table(torch.tensor([[p]]), config)) for x, p in ((q, i), (k, j))]
        return float((turned[0] * turned[1]).sum())

    assert product(7, 3) == pytest.approx(product(14, 10), abs=1e-5)
    assert product(7, 3) != pytest.approx(product(8, 3), abs=1e-3)
    one = torch.zeros(8)
    one[1] = 1.0  # channel 1 turns with channel 5 by position / 10000^(2/8)
    turned = rotate(one[None, None, None], rotary_table(torch.tensor([[3]]), config)).flatten()
    angle = torch.tensor(3 / 10000**0.25)
    torch.testing.assert_close(turned[[1, 5]], torch.stack((angle.cos(), angle.sin())))


def test_the_network_is_its_formula_written_out():
    """One block, one token sequence, every operation by hand."""
    config = replace(SMALL, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
    theta, tokens = init_params(config, generator(0, 0, "init")), random_tokens(1, 5)
    theta = {k: v + 0.1 * torch.randn(v.shape, generator=generator(1, 0, k)) for k, v in theta.items()}
    layer = {k.removeprefix("model.layers.0."): v for k, v in theta.items()}

    def norm(x, weight):
        return x / (x.square().mean(-1, keepdim=True) + config.rms_norm_eps).sqrt() * weight

    x = theta["model.embed_tokens.weight"][tokens[0]]
    h = norm(x, layer["input_layernorm.weight"])
    q, k, v = (h @ layer[f"self_attn.{name}_proj.weight"].T for name in "qkv")
    rotary = rotary_table(torch.arange(5)[None], config)
    q, k = (rotate(y[None, None], rotary)[0, 0] for y in (q, k))
    scores = (q @ k.T / config.hd**0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    x = x + scores.softmax(-1) @ v @ layer["self_attn.o_proj.weight"].T
    h = norm(x, layer["post_attention_layernorm.weight"])
    x = (
        x
        + (F.silu(h @ layer["mlp.gate_proj.weight"].T) * (h @ layer["mlp.up_proj.weight"].T))
        @ layer["mlp.down_proj.weight"].T
    )
    expected = norm(x, theta["model.norm.weight"]) @ theta["model.embed_tokens.weight"].T
    torch.testing.assert_close(
        functional_call(build(config), theta, (tokens,))[0], expected, atol=1e-5, rtol=1e-5
    )


def test_impossible_shapes_and_lengths_are_refused_by_name(policy):
    with pytest.raises(ConfigError, match="num_key_value_heads"):
        replace(SMALL, num_key_value_heads=3)
    with pytest.raises(ConfigError, match="hidden_size"):
        replace(SMALL, hidden_size=9)
    with pytest.raises(ConfigError, match="num_hidden_layers"):
        replace(SMALL, num_hidden_layers=0)
    with pytest.raises(ValueError, match="max_position_embeddings"):
        run(policy, random_tokens(1, SMALL.max_position_embeddings + 1))


def test_merged_equals_unmerged(policy):
    """A merged layer gives W x + scale B (A x), the adapter applied beside the layer."""
    theta = policy[1]
    w = init_lora(theta, ("q_proj", "down_proj"), 3, generator(0, 0, "lora"))
    w = {k: v + 0.1 * torch.randn(v.shape, generator=generator(0, 0, k)) for k, v in w.items()}
    merged = merge(theta, w, 1.7)
    for name in theta:
        module = name.removesuffix(".weight")
        x = torch.randn(4, theta[name].shape[-1], generator=generator(2, 0, name))
        if module + ".lora_A.weight" in w:
            beside = x @ w[module + ".lora_A.weight"].T @ w[module + ".lora_B.weight"].T
            torch.testing.assert_close(
                x @ merged[name].T, x @ theta[name].T + 1.7 * beside, atol=1e-5, rtol=1e-5
            )
        else:
            assert merged[name] is theta[name]
    assert len(w) == 2 * 2 * policy[0].config.num_hidden_layers


def test_the_reference_is_theta_and_lora_starts_there(policy):
    theta = policy[1]
    w = init_lora(theta, ("q_proj",), 2, generator(0, 0, "lora"))
    for merged in (merge(theta, None, 2.0), merge(theta, {}, 2.0), merge(theta, w, 2.0)):
        assert all(torch.equal(merged[name], theta[name]) for name in theta)


def test_a_target_that_names_nothing_is_refused(policy):
    with pytest.raises(ValueError, match=r"'qproj' names no matrix; there are .*q_proj"):
        init_lora(policy[1], ("qproj",), 2, generator(0, 0, "lora"))
