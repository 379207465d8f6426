"""Sampling: a response depends on its own row alone, and what is recorded is what scoring finds."""

import itertools
import random

import pytest
import torch
from conftest import SMALL
from torch.func import functional_call

from bridge_min.bridge import policy_logprobs
from bridge_min.config import Config, generator
from bridge_min.losses import token_logprobs
from bridge_min.model import build, init_params
from bridge_min.rollout import PAD, PASS, NotFinite, choose, join, pack, sample, similar, texts
from bridge_min.tokenizer import EOS, byte_tokenizer

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
    return sample(*policy, PROMPTS, uniforms, (EOS,), 0.9)


def response(rollouts, row):
    return rollouts.tokens[row][rollouts.mask[row]].tolist()


def test_the_fixture_mixes_lengths_and_endings(rollouts):
    lengths = rollouts.mask.sum(1)
    assert len(set(lengths.tolist())) > 3
    assert rollouts.finished.any() and not rollouts.finished.all()


def test_a_row_is_the_same_alone_in_any_batch_and_in_any_order(policy, uniforms, rollouts):
    order = [2, 0, 3, 1]
    shuffled_uniforms = torch.cat([uniforms[p * GROUP : (p + 1) * GROUP] for p in order])
    shuffled = sample(*policy, [PROMPTS[p] for p in order], shuffled_uniforms, (EOS,), 0.9)
    for place, p in enumerate(order):
        for g in range(GROUP):
            row = p * GROUP + g
            alone = sample(*policy, [PROMPTS[p]], uniforms[row : row + 1], (EOS,), 0.9)
            assert response(rollouts, row) == response(shuffled, place * GROUP + g) == response(alone, 0)
            torch.testing.assert_close(
                rollouts.logp[row][rollouts.mask[row]], alone.logp[0][alone.mask[0]], atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize("temperature", [0.9, 1.0, 0.0])
def test_recorded_log_probs_are_the_scored_ones(policy, uniforms, temperature):
    rollouts = sample(*policy, PROMPTS, uniforms, (EOS,), temperature)
    scored = policy_logprobs(policy[0], Config(), policy[1], None, rollouts, temperature)
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
        with pytest.raises(NotFinite, match="sampled tokens are not finite") as error:
            sample(policy[0], theta, PROMPTS, uniforms, (EOS,), temperature)
        assert error.value.batch.prompts()[:: len(uniforms) // len(PROMPTS)] == PROMPTS


def test_greedy_takes_the_likeliest_token_whatever_the_random_numbers(policy, uniforms):
    a, b = (sample(*policy, PROMPTS, u, (EOS,), 0.0) for u in (uniforms, 1 - uniforms))
    assert torch.equal(a.tokens, b.tokens)
    logits = functional_call(*policy, (a.tokens,))
    likeliest = torch.nn.functional.pad(logits.argmax(-1)[:, :-1], (1, 0))
    assert torch.equal(likeliest[a.mask], a.tokens[a.mask])


def test_ended_rows_are_not_computed(policy, uniforms, rollouts, monkeypatch):
    """The rows that go through the network after the prompt are those still speaking, and none after the last
    end."""
    trunk = type(policy[0].model)
    computed, forward = [], trunk.forward
    monkeypatch.setattr(
        trunk,
        "forward",
        lambda self, t, **kw: (computed.append(t.shape), forward(self, t, **kw))[1],
    )
    sample(*policy, PROMPTS, uniforms, (EOS,), 0.9)
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


def test_each_of_several_ends_ends_a_response(policy, uniforms, rollouts):
    """And is part of it; nothing else changes."""
    seen = rollouts.tokens[rollouts.mask].tolist()
    other = max(set(seen) - {EOS}, key=seen.count)
    both = sample(*policy, PROMPTS, uniforms, (EOS, other), 0.9)
    assert any(response(both, row)[-1] == other for row in range(len(both)))
    for row in range(len(both)):
        long, short = response(rollouts, row), response(both, row)
        cut = next((t + 1 for t, token in enumerate(long) if token in (EOS, other)), len(long))
        assert short == long[:cut] and both.finished[row] == (short[-1] in (EOS, other))


def test_sampling_in_several_calls_is_sampling_in_one(policy, uniforms, rollouts):
    parts = [
        sample(*policy, PROMPTS[a:b], uniforms[a * GROUP : b * GROUP], (EOS,), 0.9)
        for a, b in ((0, 1), (1, 3), (3, 4))
    ]
    joined = join(parts)
    for name in ("tokens", "mask", "finished", "weights"):
        assert torch.equal(getattr(joined, name), getattr(rollouts, name)), name
    torch.testing.assert_close(joined.logp, rollouts.logp)


def test_sampling_in_bfloat16_records_its_own_log_probs(policy, uniforms):
    """In float32, of what the network computed: those of scoring it again, as far as bfloat16 goes."""
    theta = {name: value.bfloat16() for name, value in policy[1].items()}
    rollouts = sample(policy[0], theta, PROMPTS, uniforms, (EOS,), 0.9)
    assert rollouts.logp.dtype == torch.float32
    config = Config(dtype="bfloat16", master="bfloat16")
    scored = policy_logprobs(policy[0], config, theta, None, rollouts, 0.9)
    difference = ((rollouts.logp - scored) * rollouts.mask).abs()
    assert scored.dtype == torch.float32 and 0 < float(difference.max()) < 0.2


def test_tokenizer_round_trip_and_distinct_specials():
    tokenizer = byte_tokenizer()
    text = "7+5=12\n#### 12 é 数 <|end|>"
    tokens = tokenizer.encode_response(text)[:-1]
    assert tokenizer.decode(tokens) == text and max(tokens) < 256  # text never makes a special token
    assert tokenizer.encode_response("5") == [53, EOS] and tokenizer.ends == (EOS,)
    assert tokenizer.encode("5<|end|>") == [53, EOS] and tokenizer.n_vocab == 258


def test_texts_leave_out_the_end_and_survive_any_tokens(rollouts):
    tokenizer = byte_tokenizer()
    for row, text in enumerate(texts(rollouts, tokenizer)):
        kept = [token for token in response(rollouts, row) if token != EOS]
        assert text == tokenizer.decode(kept)  # PAD, if sampled, is a token like any other


def test_log_probs_of_a_sampled_padding_token_count():
    logits = torch.zeros(1, 3, 258)
    assert float(
        token_logprobs(
            logits, torch.eye(258), torch.tensor([[1, PAD, EOS]]), torch.tensor([[False, True, True]])
        )[0, 1]
    ) == pytest.approx(-float(torch.tensor(258.0).log()))


def cost(lengths, counts):
    ends = itertools.accumulate(counts)
    return sum(n * lengths[end - 1] + PASS for n, end in zip(counts, ends, strict=True))


def test_rows_go_together_such_that_all_passes_cost_least():
    """Against every way to cut a few rows; never more than `rows` at once, nobody left out."""
    draw = random.Random(0)
    for _ in range(30):
        lengths, rows = sorted(draw.choices(range(1, 400), k=8)), draw.choice([2, 3, 8])

        every = []
        for cuts in itertools.product([0, 1], repeat=7):
            places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), 8]
            every.append([b - a for a, b in itertools.pairwise(places)])
        allowed = [counts for counts in every if max(counts) <= rows]
        found = similar(lengths, rows)
        assert found in allowed and cost(lengths, found) == min(cost(lengths, counts) for counts in allowed)
    assert similar([100] * 5, 64) == [5] and similar([10] * 3 + [500] * 3, 64) == [3, 3]
    assert similar([5000 + 5 * i for i in range(32)], 32) == [32]  # another pass would save little of it


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_micro_batches_hold_every_row_once_and_pad_little(rollouts, rows):
    parts = rollouts.micro_batches(rows)
    assert sum(map(len, parts)) == len(rollouts) and max(map(len, parts)) <= rows
    of = lambda batch: sorted(
        (*t[:n].tolist(), round(float(logp.sum()), 4))
        for t, n, logp in zip(batch.tokens, batch.length(), batch.logp, strict=True)
    )
    assert sorted(row for part in parts for row in of(part)) == of(rollouts)
    assert all(part.tokens.shape[1] == int(part.length().max()) for part in parts)
    total = sum(float(part.weights.sum()) for part in parts)
    assert total == pytest.approx(float(rollouts.weights.sum()))
