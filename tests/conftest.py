"""A policy small enough to differentiate by hand: two blocks, grouped queries, in float64; and rows to feed
it."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from bridge_min.bridge import policy_logprobs
from bridge_min.config import Config, ModelConfig, generator
from bridge_min.lora import init_lora
from bridge_min.losses import token_weights
from bridge_min.model import build, init_params
from bridge_min.rollout import Rollouts, pack
from bridge_min.tokenizer import EOS

SMALL = ModelConfig(
    vocab_size=258,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=64,
)
torch.set_num_threads(1)


def double(params, noise=0.0, seed=0):
    """A float64 copy, moved by a little noise."""
    g = generator(seed, 0, "noise")
    return {
        k: v.double() + noise * torch.randn(v.shape, generator=g, dtype=torch.float64)
        for k, v in params.items()
    }


class World:
    """theta, theta_hat and w in general position (no zeros, no ties), demonstrations and rewarded
    rollouts."""

    def __init__(self, model_config=SMALL):
        base = init_params(model_config, generator(1, 0, "init"))
        self.model = build(model_config)
        self.theta = double(base, 0.05, 1)
        self.theta_hat = double(base, 0.05, 2)
        self.w = double(
            init_lora(base, ("q_proj", "v_proj", "down_proj"), 2, generator(1, 0, "lora")), 0.1, 3
        )
        self.reference = double(base)
        self.config = Config(model=model_config, lora_scale=1.5, micro_batch=64, lam=0.4, eta=0.3)
        self.logprobs = partial(policy_logprobs, self.model, 1.5)
        demos = pack([[1, 2, 3], [4, 5], [6, 1, 1, 2]], [[7, 8, EOS], [9, 3, 2, EOS], [1, EOS]])
        self.demos = replace(demos, weights=token_weights(demos.mask.double()))
        ends = [[6, 7, EOS], [8, EOS], [9, 9, 1, EOS], [5], [2, EOS], [3, 3, EOS]]
        batch = pack([[1, 2]] * 3 + [[3, 4, 5]] * 3, ends)
        logp = self.logprobs(self.reference, None, batch.tokens) * batch.mask
        advantages = torch.tensor([1.2, -0.4, -0.8, 0.0, 0.0, 0.0], dtype=torch.float64)
        finished = torch.tensor([True, True, True, False, True, True])
        weights = token_weights(batch.mask.double())
        self.rollouts = Rollouts(batch.tokens, batch.mask, weights, logp, finished, advantages)
        self.players = {"theta": self.theta, "theta_hat": self.theta_hat, "w": self.w}

    def with_config(self, **changes):
        self.config = replace(self.config, **changes)
        return self.config


@pytest.fixture
def world():
    return World()


def directional(f, params, seed, step=1e-6):
    """(f(x + h d) - f(x - h d)) / 2h for a random direction d, and d."""
    g = generator(seed, 0, "direction")
    d = {k: torch.randn(v.shape, generator=g, dtype=v.dtype) for k, v in params.items()}
    plus, minus = ({k: v + s * step * d[k] for k, v in params.items()} for s in (1, -1))
    return float(f(plus) - f(minus)) / (2 * step), d


def assert_gradient(f, params, gradient, directions=4, rel=1e-6):
    """`gradient` is f's at params: against central differences in float64 along random directions, and tensor
    by tensor, so that no tensor's error hides behind a larger one."""
    for seed in range(directions):
        slope, d = directional(f, params, seed)
        assert sum(float((gradient[k] * d[k]).sum()) for k in params) == pytest.approx(
            slope, rel=rel, abs=1e-8
        )
    for name in params:
        slope, d = directional(lambda part: f({**params, **part}), {name: params[name]}, 99)
        assert float((gradient[name] * d[name]).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-8), name
