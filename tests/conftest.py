"""What the tests share: a policy small enough to differentiate by hand (two blocks, grouped queries, float64)
with rows to feed it, a policy that is a table of log-probs, and gradients by finite differences. Read on in
naive.py."""

from dataclasses import replace

import pytest
import torch
from runs import TINY

from bridge_min import arith
from bridge_min.base import init_params
from bridge_min.bridge import Runtime, Step, gradients, plain_runtime
from bridge_min.config import Config, ModelConfig, generator
from bridge_min.lora import init_lora
from bridge_min.losses import group_advantages, token_weights
from bridge_min.model import build
from bridge_min.rollout import pack

EOS = 257  # of the bytes tokenizer
SMALL = ModelConfig(
    **{"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "max_position_embeddings": 64},
    **{"num_attention_heads": 2, "num_key_value_heads": 1},
)


@pytest.fixture(autouse=True)
def one_thread():
    """Runs set as many as their config says; on matrices this small two are slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Of all runs of a session, with their config: their base is made once."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.py").write_text(TINY)
    return folder


def double(params, noise=0.0, seed=0):
    """A float64 copy, moved by a little noise."""
    g = generator(seed, 0, "noise")
    drawn = lambda v: torch.randn(v.shape, generator=g, dtype=torch.float64)
    return {k: v.double() + noise * drawn(v) for k, v in params.items()}


def double_rows(rows):
    """Rows whose weights are float64: float32 ones would round the gradients."""
    return replace(rows, weights=token_weights(rows.mask.double()))


def table_policy(demos, groups, number=0, **settings):
    """A Step over a policy that is a table of log-probs, and the table as theta: a gradient's entry is then
    what its token weighs. demos: (probabilities of the response's tokens, reward); groups: lists of the same.
    Advantages are not divided by a standard deviation; the rollouts are on policy. Row i of the table is
    demonstration i, then come the rollouts; a row's first token is its number, and its prompt."""
    rows = [row for group in [demos, *groups] for row in group]
    batch = pack([[row] for row in range(len(rows))], [[1] * len(p) for p, _ in rows])
    table = torch.zeros(batch.tokens.shape, dtype=torch.float64)
    for row, (p, _) in enumerate(rows):
        table[row, 1 : 1 + len(p)] = torch.tensor(p, dtype=torch.float64).log()
    batch.rewards = torch.tensor([reward for _, reward in rows], dtype=torch.float64)

    N, G = len(demos), len(groups[0])
    shown, rollouts = (double_rows(batch.each(lambda v, at=at: v[at])) for at in (slice(N), slice(N, None)))
    rollouts.logp = table[N:].clone()
    rollouts.finished = rollouts.mask.any(1)
    rollouts.advantages = group_advantages(rollouts.rewards, G, scale_by_std=False)
    sizes = {"prompts": len(groups), "group": G, "demos_per_step": N}
    config = Config(**{**sizes, "scale_by_std": False, **settings})
    logprobs = lambda W, part, temperature=1.0: W["table"][part.tokens[:, 0], : part.tokens.shape[1]]
    runtime = Runtime(None, logprobs, gradients, lambda theta, w: theta)
    return Step(config, runtime, shown, rollouts, number), {"table": table}


def filled(config, seed):
    """Fresh weights, and those that begin as 0 drawn like the others."""
    theta, draw = init_params(config, generator(seed, 0, "init")), generator(seed, 0, "init")
    noise = {name: torch.randn(W.shape, generator=draw) * W.shape[-1] ** -0.5 for name, W in theta.items()}
    return {name: W if W.any() or W.dim() == 1 else noise[name] for name, W in theta.items()}


class World:
    """theta, theta_hat and w in general position (no zeros, no ties), and four groups of three rollouts:
    mixed, failed, solved, and mixed without a demonstration. Of the demonstrations the third is wrong."""

    def __init__(self, model_config=SMALL):
        base = filled(model_config, 1)
        self.model = build(model_config)
        w = init_lora(base, ("q_proj", "v_proj", "down_proj"), 2, generator(1, 0, "lora"))
        self.theta, self.theta_hat, self.w = double(base, 0.05, 1), double(base, 0.05, 2), double(w, 0.1, 3)
        self.reference = double(base)
        self.players = {"theta": self.theta, "theta_hat": self.theta_hat, "w": self.w}
        sizes = {"micro_batch": 64, "prompts": 4, "group": 3, "demos_per_step": 3}
        self.config = Config(model=model_config, dtype="float64", lora_scale=1.5, lam=0.4, eta=0.3, **sizes)
        prompts = [[1, 2, 3], [4, 5], [6, 1, 1, 2], [3, 4, 5]]
        self.demos = double_rows(pack(prompts[:3], [[7, 8, EOS], [9, 3, 2, EOS], [1, EOS]]))
        self.demos.rewards = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
        ends = [[6, 7, EOS], [8, EOS], [9, 9, 1, EOS], [5], [2, EOS], [3, 3, EOS]]
        ends += [[1, EOS], [1, 4, EOS], [EOS], [2, 7, EOS], [5, 6, 6], [9, EOS]]
        self.rollouts = double_rows(pack([prompt for prompt in prompts for _ in range(3)], ends))
        self.rollouts.logp = self.run.logprobs(self.reference, self.rollouts)
        self.rollouts.finished = torch.tensor([end[-1] == EOS for end in ends])
        self.reward([1, 0, 0.25, 0, 0, 0, 1, 1, 1, 0, 0, 1])

    @property
    def run(self):
        return plain_runtime(self.model, self.config)

    def reward(self, rewards):
        self.rollouts.rewards = torch.tensor(rewards, dtype=torch.float64)
        self.rollouts.advantages = group_advantages(self.rollouts.rewards, 3, self.config.scale_by_std)

    def with_config(self, **changes):
        self.config = replace(self.config, **changes)
        return self.config

    def step(self, number=0, choose=None, run=None, **changes):
        config = self.with_config(**changes)
        return Step(config, run or self.run, self.demos, self.rollouts, number, choose)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def few_chains(monkeypatch):
    """An arithmetic world so small that the same chains are drawn again and again."""
    for name, value in {"TRAIN_STEPS": (2, 2), "STEPS": (2, 2), "HARD_STEPS": (2, 3), "LARGEST": 4}.items():
        monkeypatch.setattr(arith, name, value)


def gap(a, b):
    """The largest difference of two dictionaries of tensors."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def size(a):
    """The largest entry."""
    return max(float(value.abs().max()) for value in a.values())


def directional(f, params, seed, step=1e-6):
    """(f(x + h d) - f(x - h d)) / 2h for a random direction d, and d."""
    g = generator(seed, 0, "direction")
    d = {k: torch.randn(v.shape, generator=g, dtype=v.dtype) for k, v in params.items()}
    plus, minus = ({k: v + s * step * d[k] for k, v in params.items()} for s in (1, -1))
    return float(f(plus) - f(minus)) / (2 * step), d


def assert_gradient(f, params, gradient, directions=3, rel=1e-6):
    """`gradient` is f's at params: against central differences in float64 along random directions of all
    tensors together. So close a slope shows an error in any one of them, as each of them counts."""
    assert gradient.keys() == params.keys()
    total = float(sum(g.square().sum() for g in gradient.values())) ** 0.5
    for seed in range(directions):
        slope, d = directional(f, params, seed)
        found = sum(float((gradient[k] * d[k]).sum()) for k in params)
        assert found == pytest.approx(slope, rel=rel, abs=rel * total)
    assert min(float(g.norm()) for g in gradient.values()) > 1e-4 * total
