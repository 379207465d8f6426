"""One step's data: demonstrations end in EOS, advantages follow from rewards, all from (seed, step)."""

import itertools
from dataclasses import replace

import pytest
import torch

from bridge_min.config import Config, ConfigError, ModelConfig, generator
from bridge_min.data import check_fit, choose, demonstrate, encode, flipped, longest_rows, reward, roll_out
from bridge_min.losses import group_advantages, sequence_weights, token_weights
from bridge_min.model import build, init_params
from bridge_min.problem import KINDS
from bridge_min.rollout import Rollouts, pack, texts
from bridge_min.tasks import load_task
from bridge_min.tokenizer import EOS, byte_tokenizer

CONFIG = Config(
    model=ModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
    **{"train_problems": 40, "val_problems": 5, "test_problems": 5, "demos": 20, "demos_per_step": 3},
    **{"prompts": 4, "group": 3, "max_new": 10, "wrong_demos": 0.4, "far_demos": 0.3},
)
TOKENIZER, TASK = byte_tokenizer(), load_task(CONFIG)


def test_a_step_tries_the_prompts_of_its_demonstrations_first():
    often = torch.zeros(40)
    for step in range(400):
        shown, tried = choose(CONFIG, step)
        assert len(set(shown)) == 3 and set(shown) <= set(range(20))
        assert tried[:3] == shown and len(set(tried)) == 4 and set(tried[3:]) <= set(range(20, 40))
        often[tried] += 1
    assert often[:20].min() > 30 and often[20:].min() > 5  # 60 and 20 times on average
    assert choose(CONFIG, 5) == choose(CONFIG, 5) != choose(CONFIG, 6)
    assert choose(CONFIG, 5) != choose(replace(CONFIG, seed=1), 5)


def test_a_demonstration_is_prompt_solution_and_end():
    index = [7, 0, 19, 3, 11, 5, 1, 2, *range(12, 19)]
    batch = demonstrate(CONFIG, 0, index, TASK.demos, TOKENIZER)
    assert len(batch) == 15 and batch.index.tolist() == index
    assert torch.equal(batch.weights, token_weights(batch.mask))
    for row, i in enumerate(index):
        tokens, mask = batch.tokens[row], batch.mask[row]
        response = tokens[mask].tolist()
        prompt = TOKENIZER.decode(tokens[: int(mask.nonzero().min())].tolist())
        assert response.pop() == EOS
        demo = TASK.demos[i]
        assert (prompt, TOKENIZER.decode(response)) == (demo.prompt, demo.solution)
        assert KINDS[batch.kinds[row]] == demo.kind
        assert batch.rewards[row] == (demo.kind != "wrong")
    assert {0.0, 1.0} == set(batch.rewards.tolist())


def test_lengths_that_cannot_fit_are_refused_before_anything_is_computed():
    check_fit(CONFIG, CONFIG.model, TOKENIZER, TASK)
    with pytest.raises(ConfigError, match=r"max_new = 250.*max_position_embeddings = 256"):
        check_fit(replace(CONFIG, max_new=250), CONFIG.model, TOKENIZER, TASK)
    longest = longest_rows(CONFIG, TOKENIZER, TASK)
    solutions = [len(TOKENIZER.encode_response(d.prompt + d.solution)) for d in TASK.demos]
    assert longest[1] == max(solutions) and longest[0] == CONFIG.max_new + max(
        len(p.prompt) for p in (*TASK.train, *TASK.val, *itertools.chain(*TASK.tests.values()))
    )
    short = replace(CONFIG.model, max_position_embeddings=longest[1] - 1)
    with pytest.raises(ConfigError, match=f"up to {longest[1]} tokens.*max_position_embeddings"):
        check_fit(replace(CONFIG, max_new=1), short, TOKENIZER, TASK)
    with pytest.raises(ConfigError, match="vocab_size = 100"):
        check_fit(CONFIG, replace(CONFIG.model, vocab_size=100), TOKENIZER, TASK)


def test_only_a_finished_response_is_rewarded():
    problems = TASK.train[:2]
    responses = [text for problem in problems for text in (problem.solution, problem.solution, "#### 1000")]
    tokens = [TOKENIZER.encode(text) for text in responses]
    batch = pack(encode(TOKENIZER, [problems[0]] * 3 + [problems[1]] * 3), tokens)
    finished = torch.tensor([True, False, True, False, True, True])
    rollouts = Rollouts(batch.tokens, batch.mask, batch.weights, torch.zeros(batch.tokens.shape), finished)
    assert reward(rollouts, responses, problems) == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def rolled_out(config, step=3):
    theta = init_params(CONFIG.model, generator(0, 0, "init"))
    return roll_out(config, step, build(CONFIG.model), theta, TASK.train[:4], TOKENIZER)


def by_length(rollouts, responses, problems):
    """A reward that differs from row to row even where nothing is solved."""
    return [float(len(response) % 2) for response in responses]


@pytest.mark.parametrize("normaliser, weigh", [("token", token_weights), ("sequence", sequence_weights)])
def test_rollouts_carry_their_advantages_and_weights(monkeypatch, normaliser, weigh):
    monkeypatch.setattr("bridge_min.data.reward", by_length)
    config = replace(CONFIG, normaliser=normaliser)
    rollouts, metrics = rolled_out(config)
    torch.rand(5)  # global randomness is not used
    again, _ = rolled_out(config)
    other, _ = rolled_out(config, step=4)
    assert torch.equal(rollouts.tokens, again.tokens)
    assert texts(rollouts, TOKENIZER) != texts(other, TOKENIZER)
    rewards = torch.tensor([float(len(text) % 2) for text in texts(rollouts, TOKENIZER)])
    assert 0 < metrics["reward"] < 1
    assert metrics["reward"] == pytest.approx(float(rewards.mean()))
    assert torch.equal(rollouts.rewards, rewards)
    assert torch.equal(rollouts.advantages, group_advantages(rewards, 3))
    assert torch.equal(rollouts.weights, weigh(rollouts.mask))


def test_training_sees_flipped_rewards_and_the_log_the_true_ones(monkeypatch):
    monkeypatch.setattr("bridge_min.data.reward", by_length)
    true, metrics = rolled_out(CONFIG)
    for chance in (0.5, 1.0):
        config = replace(CONFIG, reward_flip=chance)
        noisy, seen = rolled_out(config)
        assert torch.equal(noisy.tokens, true.tokens) and seen["reward"] == metrics["reward"]
        changed = noisy.rewards != true.rewards
        assert changed.all() if chance == 1 else 0 < changed.sum() < 12
        assert torch.equal(noisy.rewards[changed], 1 - true.rewards[changed])
        assert torch.equal(noisy.advantages, group_advantages(noisy.rewards, 3))


def test_demonstrations_have_flipped_rewards_too():
    true = demonstrate(CONFIG, 0, [0, 1, 2], TASK.demos, TOKENIZER)
    noisy = demonstrate(replace(CONFIG, reward_flip=1.0), 0, [0, 1, 2], TASK.demos, TOKENIZER)
    assert torch.equal(noisy.rewards, 1 - true.rewards) and torch.equal(noisy.tokens, true.tokens)
    draws = [
        demonstrate(replace(CONFIG, reward_flip=0.5), step, [0], TASK.demos, TOKENIZER).rewards
        for step in range(40)
    ]
    assert 8 < sum(float(draw) != float(true.rewards[0]) for draw in draws) < 32  # anew at every step


def test_flips_are_exact_at_the_ends_and_come_with_their_probability():
    rewards = torch.tensor([0.0, 1.0, 0.25] * 4000)
    flip = lambda chance, step=0, purpose="rollouts", seed=0: flipped(
        replace(CONFIG, reward_flip=chance, seed=seed), step, purpose, rewards
    )
    assert torch.equal(flip(0.0), rewards) and torch.equal(flip(1.0), 1 - rewards)
    for chance in (0.1, 0.4):
        changed = flip(chance) != rewards
        for value in (0.0, 1.0, 0.25):
            assert float(changed[rewards == value].float().mean()) == pytest.approx(chance, abs=0.03)
        assert torch.equal(flip(chance), flip(chance))
        others = (flip(chance, step=1), flip(chance, seed=1), flip(chance, purpose="demonstrations"))
        for other in others:  # independent: both change by chance^2
            both = float((changed & (other != rewards)).float().mean())
            assert both == pytest.approx(chance**2, abs=0.03)
