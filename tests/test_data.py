"""One step's data: demonstrations end in EOS, advantages follow from rewards, all from (seed, step)."""

from dataclasses import replace

import pytest
import torch

from bridge_min.config import Config, ConfigError, ModelConfig, generator
from bridge_min.data import check_fit, draw_demonstrations, encode, reward, roll_out
from bridge_min.losses import group_advantages, sequence_weights, token_weights
from bridge_min.model import build, init_params
from bridge_min.rollout import Rollouts, pack, texts
from bridge_min.tasks import load_task
from bridge_min.tokenizer import EOS, byte_tokenizer

CONFIG = Config(
    model=ModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
    **{"train_problems": 40, "val_problems": 5, "test_problems": 5, "demos": 20, "demos_per_step": 8},
    **{"prompts": 4, "group": 3, "max_new": 10},
)
TOKENIZER, TASK = byte_tokenizer(), load_task(CONFIG)


def test_a_demonstration_is_prompt_solution_and_end():
    batch = draw_demonstrations(CONFIG, 0, TASK.demos, TOKENIZER)
    known = {demo.prompt: demo.solution for demo in TASK.demos}
    assert len(batch) == 8
    assert not torch.equal(
        batch.tokens[:, 0], draw_demonstrations(CONFIG, 1, TASK.demos, TOKENIZER).tokens[:, 0]
    )
    for tokens, mask in zip(batch.tokens, batch.mask, strict=True):
        response = tokens[mask].tolist()
        prompt = TOKENIZER.decode(tokens[: int(mask.nonzero().min())].tolist())
        assert response.pop() == EOS
        assert TOKENIZER.decode(response) == known[prompt]


def test_lengths_that_cannot_fit_are_refused_before_anything_is_computed():
    check_fit(CONFIG, CONFIG.model, TOKENIZER, TASK)
    with pytest.raises(ConfigError, match=r"max_new = 250.*max_position_embeddings = 256"):
        check_fit(replace(CONFIG, max_new=250), CONFIG.model, TOKENIZER, TASK)
    with pytest.raises(ConfigError, match=r"solutions up to \d+.*max_position_embeddings = 30"):
        check_fit(CONFIG, replace(CONFIG.model, max_position_embeddings=30), TOKENIZER, TASK)
    with pytest.raises(ConfigError, match="vocab_size = 100"):
        check_fit(CONFIG, replace(CONFIG.model, vocab_size=100), TOKENIZER, TASK)


def test_only_a_finished_response_is_rewarded():
    problems = TASK.train[:2]
    responses = [text for problem in problems for text in (problem.solution, problem.solution, "#### 1000")]
    tokens = [TOKENIZER.encode_ordinary(text) for text in responses]
    batch = pack(encode(TOKENIZER, [problems[0]] * 3 + [problems[1]] * 3), tokens)
    finished = torch.tensor([True, False, True, False, True, True])
    rollouts = Rollouts(batch.tokens, batch.mask, batch.weights, torch.zeros(batch.tokens.shape), finished)
    assert reward(rollouts, responses, problems) == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("normaliser, weigh", [("token", token_weights), ("sequence", sequence_weights)])
def test_rollouts_carry_their_advantages_and_weights(monkeypatch, normaliser, weigh):
    theta = init_params(CONFIG.model, generator(0, 0, "init"))
    monkeypatch.setattr(
        "bridge_min.data.reward", lambda rollouts, responses, problems: [float(len(r) % 2) for r in responses]
    )
    config = replace(CONFIG, normaliser=normaliser)
    rollouts, metrics = roll_out(config, 3, build(CONFIG.model), theta, TASK.train, TOKENIZER)
    torch.rand(5)  # global randomness is not used
    again, _ = roll_out(config, 3, build(CONFIG.model), theta, TASK.train, TOKENIZER)
    other, _ = roll_out(config, 4, build(CONFIG.model), theta, TASK.train, TOKENIZER)
    assert torch.equal(rollouts.tokens, again.tokens)
    assert not torch.equal(rollouts.tokens[:, 0], other.tokens[:, 0])
    rewards = torch.tensor([float(len(text) % 2) for text in texts(rollouts, TOKENIZER)])
    assert 0 < metrics["reward"] < 1
    assert metrics["reward"] == pytest.approx(float(rewards.mean()))
    assert torch.equal(rollouts.advantages, group_advantages(rewards, 3))
    assert torch.equal(rollouts.weights, weigh(rollouts.mask))
