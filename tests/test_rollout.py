"""Sampling: a response depends on its own row alone, and what is recorded is what scoring finds."""

import pytest
import torch
from conftest import EOS
from test_model import FAMILIES, random_params
from torch.func import functional_call

from bridge_min.bridge import policy_logprobs
from bridge_min.config import generator
from bridge_min.model import build
from bridge_min.rollout import PAD, draw_token, pack, sample

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [5, 6]]
GROUP, MAX_NEW, HEAT = 6, 12, 0.7  # HEAT: the temperature
UNIFORMS = torch.rand(len(PROMPTS) * GROUP, MAX_NEW, generator=generator(0, 0, "uniforms"))


def talkative(config):
    """Random weights that like to end: about a fifth of the tokens are EOS."""
    theta = random_params(config)
    theta["model.embed_tokens.weight"] *= 5
    head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    theta[head][EOS] = 3.0 * torch.randn(config.hidden_size, generator=generator(3, 0, "direction"))
    return theta


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request):
    config = FAMILIES[request.param]
    return build(config), talkative(config)


@pytest.fixture(scope="module")
def rollouts(policy):
    rows = sample(*policy, PROMPTS, UNIFORMS, (EOS,), HEAT)
    assert len(rows.mask.sum(1).unique()) > 3 and rows.finished.any() and not rows.finished.all()
    return rows


def response(rows, n):
    return rows.tokens[n][rows.mask[n]].tolist()


def test_cached_sampling_is_the_inverse_of_the_uncached_distribution(policy, rollouts):
    """By hand, token by token: tokens and log-probs, at a temperature."""
    for n in (0, GROUP, 2 * GROUP + 1, 3 * GROUP + 2):
        tokens, recorded = list(PROMPTS[n // GROUP]), rollouts.logp[n][rollouts.mask[n]]
        for t, token in enumerate(response(rollouts, n)):
            logits = functional_call(*policy, (torch.tensor([tokens]),))[0, -1].double()
            logps = (logits / HEAT).log_softmax(-1)
            assert token == int((logps.exp().cumsum(-1) <= UNIFORMS[n, t]).sum())
            assert float(recorded[t]) == pytest.approx(float(logps[token]), abs=2e-5)
            tokens.append(token)


def test_rows_do_not_depend_on_the_batch_around_them(policy, rollouts):
    for n in range(0, len(rollouts), 5):
        alone = sample(*policy, [PROMPTS[n // GROUP]], UNIFORMS[n : n + 1], (EOS,), HEAT)
        assert response(alone, 0) == response(rollouts, n)
        recorded = rollouts.logp[n][rollouts.mask[n]]
        torch.testing.assert_close(alone.logp[alone.mask], recorded, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.7, 0.0])
def test_scoring_at_the_temperature_finds_the_recorded_log_probs(policy, temperature):
    """Greedy responses have theirs at temperature 1."""
    rows = sample(*policy, PROMPTS, UNIFORMS, (EOS,), temperature)
    scored = policy_logprobs(*policy, rows, temperature or 1.0)
    torch.testing.assert_close(scored, rows.logp, atol=2e-5, rtol=1e-5)
    assert not rows.logp[~rows.mask].any()


def test_rows_are_prompt_then_response_with_its_end_then_padding(rollouts):
    for n in range(len(rollouts)):
        prompt, said, length = PROMPTS[n // GROUP], response(rollouts, n), int(rollouts.mask[n].sum())
        padding = [PAD] * (rollouts.tokens.shape[1] - len(prompt) - length)
        assert rollouts.tokens[n].tolist() == prompt + said + padding
        assert rollouts.finished[n] == (said[-1] == EOS) and EOS not in said[:-1]
        assert length == MAX_NEW or rollouts.finished[n]
    assert rollouts.tokens.shape[1] == int(rollouts.length().max())


def test_greedy_takes_the_likeliest_token_whatever_the_random_numbers(policy):
    a, b = (sample(*policy, PROMPTS, u, (EOS,), 0.0) for u in (UNIFORMS, 1 - UNIFORMS))
    assert torch.equal(a.tokens, b.tokens)
    likeliest = functional_call(*policy, (a.tokens,)).argmax(-1).roll(1, dims=1)
    assert torch.equal(likeliest[a.mask], a.tokens[a.mask])


def test_each_of_several_ends_ends_a_response_and_is_part_of_it(policy, rollouts):
    seen = rollouts.tokens[rollouts.mask].tolist()
    ends = (EOS, max(set(seen) - {EOS}, key=seen.count))
    both = sample(*policy, PROMPTS, UNIFORMS, ends, HEAT)
    last = [response(both, n)[-1] for n in range(len(both))]
    assert set(ends) <= set(last) and both.finished.tolist() == [token in ends for token in last]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_frequencies_follow_the_probabilities(temperature):
    p, u = torch.tensor([0.5, 0.0, 0.3, 0.2]), (torch.arange(10000) + 0.5) / 10000
    token, logp = draw_token(p.log().expand(10000, -1), u, temperature)
    expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
    assert token.bincount(minlength=4).tolist() == pytest.approx((10000 * expected).tolist(), abs=1)
    torch.testing.assert_close(logp.exp(), expected[token])


def test_the_smallest_and_the_largest_random_number_pick_no_impossible_token():
    logits = torch.full((2, 1000), -torch.inf)
    logits[:, 3] = 0.0
    token, logp = draw_token(logits, torch.tensor([0.0, 1 - 2**-24]), 1.0)
    assert token.tolist() == [3, 3] and logp.tolist() == [0, 0]


def test_packed_responses_are_masked_with_their_end_and_padding_is_not():
    """Even where a response has the token that padding is made of."""
    rows = pack([[1, 2], [3]], [[4, EOS], [5, PAD, EOS]])
    assert rows.tokens.tolist() == [[1, 2, 4, EOS], [3, 5, PAD, EOS]]
    assert rows.mask.int().tolist() == [[0, 0, 1, 1], [0, 1, 1, 1]]
    assert pack([[1], [2]], [[3], [4, EOS]]).mask.int().tolist() == [[0, 1, 0], [0, 1, 1]]
    torch.testing.assert_close(rows.weights, rows.mask / 5)


def test_micro_batches_hold_every_row_once_and_are_parted_again_where_that_saves_an_eighth():
    rows = pack([[1]] * 7, [[n] * n for n in (8, 7, 19, 6, 8, 18, 1)])
    parts = list(rows.batches(3))
    assert [part.tokens[:, -1].amax() for part in parts] == [1, 7, 8, 19]
    assert [part.mask.sum(1).tolist() for part in parts] == [[1], [6, 7], [8, 8], [18, 19]]
    assert sum(float(part.weights.sum()) for part in parts) == pytest.approx(1)
    assert [len(part) for part in rows.take(torch.arange(0)).batches(3)] == [0]
