"""Estimates against counting, intervals against their definition."""

import itertools
import math

import pytest

from bridge_min import evaluate
from bridge_min.config import Config, ModelConfig, generator
from bridge_min.evaluate import mean_and_half_width, pass_at_k, score, wilson
from bridge_min.model import build, init_params
from bridge_min.tasks import load_task
from bridge_min.tokenizer import byte_tokenizer


def test_pass_at_k_is_the_share_of_subsets_with_a_right_response():
    for n in range(1, 7):
        for right in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(itertools.combinations([1] * right + [0] * (n - right), k))
                assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_wilson_holds_the_shares_that_a_test_would_not_reject():
    for right, n in ((0, 50), (3, 50), (25, 50), (50, 50)):
        low, high = wilson(right, n)
        assert 0 <= low <= right / n <= high <= 1
        for p in (low, high):
            if 0 < p < 1:  # the ends lie 1.96 standard errors of *p* from the estimate
                assert abs(right / n - p) == pytest.approx(1.96 * math.sqrt(p * (1 - p) / n), abs=1e-9)


def test_mean_and_half_width():
    mean, half = mean_and_half_width([0.0, 1.0, 1.0, 0.0])
    assert mean == 0.5 and half == pytest.approx(1.96 * math.sqrt((4 * 0.25 / 3) / 4))
    assert mean_and_half_width([0.7]) == (0.7, 0.0)


def test_greedy_is_greedy_and_pass_at_k_is_sampled(monkeypatch):
    model = ModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = Config(model=model, temperature=0.8, samples=3, max_new=4, test_problems=5, demos_per_step=8)
    temperatures, original = [], evaluate.sample
    monkeypatch.setattr(evaluate, "sample", lambda *args: (temperatures.append(args[-1]), original(*args))[1])
    theta = init_params(model, generator(0, 0, "init"))
    found = score(config, build(model), theta, byte_tokenizer(), load_task(config).tests["math"])
    assert temperatures == [0.0, 0.8] and list(found.pass_at) == [1, 2, 3]


def test_evaluation_never_flips_a_reward():
    """An untrained policy solves nothing, also where every training reward is flipped."""
    model = ModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = Config(model=model, samples=2, max_new=4, test_problems=5, demos_per_step=8, reward_flip=1.0)
    theta = init_params(model, generator(0, 0, "init"))
    found = score(config, build(model), theta, byte_tokenizer(), load_task(config).tests["math"])
    assert found.greedy == 0 and found.pass_at[2] == (0.0, 0.0)
