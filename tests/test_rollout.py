"""Sampling: a response depends on its own row alone, and what is recorded is what scoring finds."""

import pytest
import torch
from conftest import SMALL
from torch.func import functional_call

from bridge_min.bridge import policy_logprobs
from bridge_min.config import generator
from bridge_min.losses import token_logprobs
from bridge_min.model import build, init_params
from bridge_min.rollout import choose, pack, sample, texts
from bridge_min.tokenizer import EOS, PAD, byte_tokenizer

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [5, 6]]
GROUP, MAX_NEW = 6, 12


@pytest.fixture(scope="module")
def policy():
    """Random weights that like to end: about a fifth of the tokens are EOS, so that rows leave all the
    time."""
    theta = init_params(SMALL, generator(3, 0, "init"))
    direction = torch.randn(SMALL.hidden_size, generator=generator(3, 0, "direction"))
    theta["model.embed_tokens.weight"] *= 0.5
    theta["model.embed_tokens.weight"][EOS] = 2.0 * direction
    theta["model.norm.weight"] = 1.0 + 0.4 * direction.sign()
    return build(SMALL), theta


@pytest.fixture(scope="module")
def uniforms():
    return torch.rand(len(PROMPTS) * GROUP, MAX_NEW, generator=generator(0, 0, "uniforms"))


@pytest.fixture(scope="module")
def rollouts(policy, uniforms):
    return sample(*policy, PROMPTS, uniforms, 0.9)


def response(rollouts, row):
    return rollouts.tokens[row][rollouts.mask[row]].tolist()


def test_the_fixture_mixes_lengths_and_endings(rollouts):
    lengths = rollouts.mask.sum(1)
    assert len(set(lengths.tolist())) > 3
    assert rollouts.finished.any() and not rollouts.finished.all()


def test_a_row_is_the_same_alone_in_any_batch_and_in_any_order(policy, uniforms, rollouts):
    order = [2, 0, 3, 1]
    shuffled_uniforms = torch.cat([uniforms[p * GROUP : (p + 1) * GROUP] for p in order])
    shuffled = sample(*policy, [PROMPTS[p] for p in order], shuffled_uniforms, 0.9)
    for place, p in enumerate(order):
        for g in range(GROUP):
            row = p * GROUP + g
            alone = sample(*policy, [PROMPTS[p]], uniforms[row : row + 1], 0.9)
            assert response(rollouts, row) == response(shuffled, place * GROUP + g) == response(alone, 0)
            torch.testing.assert_close(
                rollouts.logp[row][rollouts.mask[row]], alone.logp[0][alone.mask[0]], atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize("temperature", [0.9, 1.0, 0.0])
def test_recorded_log_probs_are_the_scored_ones(policy, uniforms, temperature):
    rollouts = sample(*policy, PROMPTS, uniforms, temperature)
    scored = policy_logprobs(policy[0], 1.0, policy[1], None, rollouts.tokens, temperature)
    assert float(((rollouts.logp - scored) * rollouts.mask).abs().max()) < 1e-5
    assert float((rollouts.logp * ~rollouts.mask).abs().max()) == 0


def test_rows_are_prompt_then_response_then_padding(rollouts):
    for row in range(len(rollouts)):
        prompt, tokens = PROMPTS[row // GROUP], rollouts.tokens[row].tolist()
        length = int(rollouts.mask[row].sum())
        assert tokens[: len(prompt)] == prompt
        assert rollouts.mask[row].nonzero().flatten().tolist() == list(
            range(len(prompt), len(prompt) + length)
        )
        assert set(tokens[len(prompt) + length :]) <= {PAD}
        assert rollouts.finished[row] == (response(rollouts, row)[-1] == EOS)
        assert EOS not in response(rollouts, row)[:-1]
        assert length == MAX_NEW or rollouts.finished[row]
    assert rollouts.tokens.shape[1] == int(rollouts.length().max())


def test_sampling_is_the_inverse_of_the_cumulative_distribution(policy, uniforms, rollouts):
    """By hand, token by token, without a cache."""
    for row in (0, GROUP, 2 * GROUP + 1):
        tokens = list(PROMPTS[row // GROUP])
        for t in range(MAX_NEW):
            logits = functional_call(*policy, (torch.tensor([tokens]),))[0, -1].double()
            cumulative = (logits / 0.9).softmax(-1).cumsum(-1)
            tokens.append(int((cumulative <= uniforms[row, t]).sum()))
            if tokens[-1] == EOS:
                break
        assert tokens[len(PROMPTS[row // GROUP]) :] == response(rollouts, row)


def test_frequencies_follow_the_probabilities():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    u = (torch.arange(10000) + 0.5) / 10000
    for temperature in (1.0, 2.0):
        token, logp = choose(probabilities.log().expand(10000, -1), u, temperature)
        expected = probabilities ** (1 / temperature) / (probabilities ** (1 / temperature)).sum()
        assert token.bincount(minlength=4).tolist() == pytest.approx((10000 * expected).tolist(), abs=1)
        torch.testing.assert_close(logp.exp(), expected[token])


def test_the_largest_random_number_never_picks_an_impossible_token():
    logits = torch.full((2, 1000), -torch.inf)
    logits[:, 3] = 0.0
    token, logp = choose(logits, torch.tensor([0.0, 1 - 2**-24]), 1.0)
    assert token.tolist() == [3, 3] and logp.tolist() == [0, 0]


def test_weights_that_have_diverged_are_said_to_have(policy, uniforms):
    theta = {**policy[1], "model.norm.weight": torch.full_like(policy[1]["model.norm.weight"], torch.nan)}
    for temperature in (1.0, 0.0):
        with pytest.raises(FloatingPointError, match="diverged"):
            sample(policy[0], theta, PROMPTS, uniforms, temperature)


def test_greedy_takes_the_likeliest_token_whatever_the_random_numbers(policy, uniforms):
    a, b = (sample(*policy, PROMPTS, u, 0.0) for u in (uniforms, 1 - uniforms))
    assert torch.equal(a.tokens, b.tokens)
    logits = functional_call(*policy, (a.tokens,))
    likeliest = torch.nn.functional.pad(logits.argmax(-1)[:, :-1], (1, 0))
    assert torch.equal(likeliest[a.mask], a.tokens[a.mask])


def test_ended_rows_are_not_computed(policy, uniforms, rollouts, monkeypatch):
    """The rows that go through the network after the prompt are those still speaking, and none after the last
    end."""
    computed, forward = [], type(policy[0]).forward
    monkeypatch.setattr(
        type(policy[0]),
        "forward",
        lambda self, t, **kw: (computed.append(t.shape), forward(self, t, **kw))[1],
    )
    sample(*policy, PROMPTS, uniforms, 0.9)
    lengths = rollouts.mask.sum(1) - rollouts.finished.long()  # an EOS is never fed back
    speaking = [int((lengths > t).sum()) for t in range(MAX_NEW - 1)]
    assert computed[0] == (len(PROMPTS), max(map(len, PROMPTS)))
    assert [n for n, _ in computed[1:]] == [n for n in speaking if n]


def test_select_and_micro_batches_keep_rows_whole(rollouts):
    parts = rollouts.micro_batches(5)
    assert sorted(len(part) for part in parts) == [4, 5, 5, 5, 5]
    assert sum(float(part.weights.sum()) for part in parts) == pytest.approx(1)
    rows = {
        tuple(part.tokens[i][: int(part.length()[i])].tolist()) for part in parts for i in range(len(part))
    }
    whole = {tuple(rollouts.tokens[i][: int(rollouts.length()[i])].tolist()) for i in range(len(rollouts))}
    assert rows == whole
    assert all(part.tokens.shape[1] == int(part.length().max()) for part in parts)
    assert parts[0].tokens.shape[1] < rollouts.tokens.shape[1]
    assert len(rollouts.select(torch.tensor([], dtype=torch.long)).micro_batches(5)) == 0


def test_packed_demonstrations_mask_the_response_with_its_end():
    batch = pack([[1, 2], [3]], [[4, EOS], [5, 6, EOS]])
    assert batch.tokens.tolist() == [[1, 2, 4, EOS], [3, 5, 6, EOS]]
    assert batch.mask.tolist() == [[False, False, True, True], [False, True, True, True]]
    torch.testing.assert_close(batch.weights[batch.mask], torch.full((5,), 0.2))


def test_tokenizer_round_trip_and_distinct_specials():
    tokenizer = byte_tokenizer()
    text = "7+5=12\n#### 12 é 数 <|end|>"
    tokens = tokenizer.encode_ordinary(text)
    assert tokenizer.decode(tokens) == text and max(tokens) < 256  # text never makes a special token
    assert PAD != EOS and tokenizer.n_vocab == 258


def test_texts_leave_out_the_end_and_survive_any_tokens(rollouts):
    tokenizer = byte_tokenizer()
    for row, text in enumerate(texts(rollouts, tokenizer)):
        kept = [token for token in response(rollouts, row) if token != EOS]
        assert text == tokenizer.decode(kept)  # PAD, if sampled, is a token like any other


def test_log_probs_of_a_sampled_padding_token_count():
    logits = torch.zeros(1, 3, 258)
    assert float(token_logprobs(logits, torch.tensor([[1, PAD, EOS]]))[0, 1]) == pytest.approx(
        -float(torch.tensor(258.0).log())
    )
