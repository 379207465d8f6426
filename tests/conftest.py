"""A policy small enough to differentiate by hand: two blocks, grouped queries, in float64; and rows to feed
it."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from bridge_min.bridge import Step, policy_logprobs
from bridge_min.config import Config, ModelConfig, generator
from bridge_min.gain import new_memory
from bridge_min.lora import init_lora
from bridge_min.losses import group_advantages, token_weights
from bridge_min.model import build, init_params
from bridge_min.rollout import Demos, Rollouts, pack
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


@pytest.fixture(autouse=True)
def one_thread():
    """Runs set as many as their config says; on matrices this small two are slower than one."""
    torch.set_num_threads(1)


def double(params, noise=0.0, seed=0):
    """A float64 copy, moved by a little noise."""
    g = generator(seed, 0, "noise")
    return {
        k: v.double() + noise * torch.randn(v.shape, generator=g, dtype=torch.float64)
        for k, v in params.items()
    }


def table_policy(demos, groups, number=0, **settings):
    """A Step over a policy that is a table of log-probs, and the table as theta: a gradient's entry is then
    what its token weighs. demos: (probabilities of the response's tokens, reward); groups: lists of the same.
    Advantages are not divided by a standard deviation; the rollouts are on policy. Row i of the table is
    demonstration i, then come the rollouts."""
    rows = [row for group in [demos, *groups] for row in group]
    batch = pack([[row] for row in range(len(rows))], [[1] * len(p) for p, _ in rows])
    theta = torch.zeros(batch.tokens.shape, dtype=torch.float64)
    for row, (p, _) in enumerate(rows):
        theta[row, 1 : 1 + len(p)] = torch.tensor(p, dtype=torch.float64).log()
    rewards = torch.tensor([reward for _, reward in rows], dtype=torch.float64)

    def part(at, to):
        mask = batch.mask[at:to]
        return {"tokens": batch.tokens[at:to], "mask": mask, "weights": token_weights(mask.double())}

    N, G = len(demos), len(groups[0])
    index, kinds = torch.arange(N), torch.zeros(N, dtype=torch.int64)
    shown = Demos(**part(0, N), rewards=rewards[:N], index=index, kinds=kinds)
    finished = torch.ones(len(rows) - N, dtype=torch.bool)
    rollouts = Rollouts(**part(N, None), logp=theta[N:].clone(), finished=finished, rewards=rewards[N:])
    rollouts.advantages = group_advantages(rewards[N:], G, False)
    sizes = {"prompts": len(groups), "group": G, "demos_per_step": N}
    config = Config(**{**sizes, "scale_by_std": False, **settings})
    logprobs = lambda theta, w, part, temperature=1.0: theta["table"][
        part.tokens[:, 0], : part.tokens.shape[1]
    ]
    return Step(config, logprobs, shown, rollouts, number, new_memory(N)), {"table": theta}


class World:
    """theta, theta_hat and w in general position (no zeros, no ties), and four groups of three rollouts:
    mixed, failed, solved, and mixed without a demonstration. The first three have one: right, far, wrong."""

    def __init__(self, model_config=SMALL):
        base = init_params(model_config, generator(1, 0, "init"))
        self.model = build(model_config)
        self.theta = double(base, 0.05, 1)
        self.theta_hat = double(base, 0.05, 2)
        self.w = double(
            init_lora(base, ("q_proj", "v_proj", "down_proj"), 2, generator(1, 0, "lora")), 0.1, 3
        )
        self.reference = double(base)
        sizes = {"micro_batch": 64, "prompts": 4, "group": 3, "demos_per_step": 3}
        precise = {"dtype": "float64", "master": "float64"}
        self.config = Config(model=model_config, lora_scale=1.5, lam=0.4, eta=0.3, **sizes, **precise)
        prompts = [[1, 2, 3], [4, 5], [6, 1, 1, 2], [3, 4, 5]]
        demos = pack(prompts[:3], [[7, 8, EOS], [9, 3, 2, EOS], [1, EOS]])
        self.demos = Demos(
            **{**vars(demos), "weights": token_weights(demos.mask.double())},
            rewards=torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64),
            index=torch.tensor([4, 0, 2]),
            kinds=torch.tensor([0, 2, 1]),
        )
        ends = [[6, 7, EOS], [8, EOS], [9, 9, 1, EOS], [5], [2, EOS], [3, 3, EOS]]
        ends += [[1, EOS], [1, 4, EOS], [EOS], [2, 7, EOS], [5, 6, 6], [9, EOS]]
        batch = pack([prompt for prompt in prompts for _ in range(3)], ends)
        logp = self.logprobs(self.reference, None, batch)
        finished = torch.tensor([end[-1] == EOS for end in ends])
        weights = token_weights(batch.mask.double())
        self.rollouts = Rollouts(batch.tokens, batch.mask, weights, logp, finished)
        self.reward([1, 0, 0.25, 0, 0, 0, 1, 1, 1, 0, 0, 1])
        self.players = {"theta": self.theta, "theta_hat": self.theta_hat, "w": self.w}

    @property
    def logprobs(self):
        return partial(policy_logprobs, self.model, self.config)

    def reward(self, rewards):
        self.rollouts.rewards = torch.tensor(rewards, dtype=torch.float64)
        self.rollouts.advantages = group_advantages(self.rollouts.rewards, 3, self.config.scale_by_std)

    def with_config(self, **changes):
        self.config = replace(self.config, **changes)
        return self.config

    def step(self, number=0, memory=None, **changes):
        memory = new_memory(5) if memory is None else memory
        config = self.with_config(**changes)
        return Step(config, self.logprobs, self.demos, self.rollouts, number, memory)


@pytest.fixture
def world():
    return World()


def gap(a, b):
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def size(a):
    return max(float(value.abs().max()) for value in a.values())


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
