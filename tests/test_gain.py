"""Selection by gain: inner products against one backward pass per token, the rule by hand, and what a step
then supervises."""

import pytest
import torch
from conftest import assert_gradient, double_rows, gap
from naive import naive_j_rl, naive_j_sft
from test_rivals import in_processes, summed
from torch.func import vjp

from bridge_min.bridge import METHODS, gradients, j_rl, policy_logprobs
from bridge_min.rollout import pack
from bridge_min.study import gain
from bridge_min.study.gain import select, token_gains

RULES = ("reward", "gain", "ours")


def gains_one_by_one(world, W, G):
    """(row, column) -> inner product of G with the token's gradient, from its own backward pass."""
    logp, pull = vjp(lambda W: policy_logprobs(world.model, W, world.demos), W)
    found = {}
    for n, t in world.demos.mask.nonzero().tolist():
        one = torch.zeros_like(logp)
        one[n, t] = 1.0
        (g,) = pull(one)
        found[n, t] = sum(float((G[name] * g[name]).sum()) for name in G)
    return found


def acting(world, w):
    """The acting weights and the gradient of J_RL in them."""
    W = world.run.acting(world.theta, w)
    return W, gradients(world.step(), [j_rl(world.step())], W, {})[0]


def test_gains_are_inner_products_with_each_tokens_gradient(world):
    W, G = acting(world, world.w)
    gains, expected = token_gains(world.model, W, world.demos, G, 2), gains_one_by_one(world, W, G)
    assert min(expected.values()) < -1e-3 and max(expected.values()) > 1e-3
    for (n, t), value in expected.items():
        assert float(gains[n, t]) == pytest.approx(value, rel=1e-9)
    assert not gains[~world.demos.mask].any()


RULE = {"reward": [0, 1, 2], "gain": [0, 2, 3], "ours": [0, 2]}


@pytest.mark.parametrize("rule, kept", RULE.items())
def test_the_rule_by_hand(world, monkeypatch, rule, kept):
    """One token of five pushed down; two of them; two that are as good as flat; none, without a reward. The
    policy gradient has length 5. What stays has the weight that it had."""
    demos = double_rows(pack([[1]] * 4, [[7, 8, 6, 5, 4], [9, 8, 6, 5, 4], [3, 2, 6, 5, 4], [1]]))
    demos.rewards = torch.tensor([1.0, 1.0, 0.5, 0.0])
    step = world.step(select=rule, prompts=4, group=2, demos_per_step=4)
    step.demos, flat, down = demos, -5 * gain.FLAT, -5.01 * gain.FLAT
    found = [[9 * down, flat, 0, 9, 1], [9, down, 0, 9, down], [9, flat, 0, flat, 9], [flat]]
    gains = torch.zeros(demos.mask.shape).masked_scatter(
        demos.mask, torch.tensor([g for row in found for g in row])
    )
    monkeypatch.setattr(gain, "token_gains", lambda *_: gains)
    rows, stats = select(step, {}, {"x": torch.tensor([3.0]), "y": torch.tensor([[4.0]])})
    assert rows.tokens[:, 1].tolist() == [[7, 9, 3, 1][n] for n in kept]
    assert rows.weights.sum() == demos.weights[kept].sum() and float(stats["kept"]) == len(kept) / 4


def test_without_a_policy_gradient_there_is_no_opinion(world):
    W, G = acting(world, world.w)
    none = {name: torch.zeros_like(g) for name, g in G.items()}
    assert len(select(world.step(select="gain"), W, none)[0]) == 3


def two_harmful(world, monkeypatch, w):
    """Sets the bounds so that two demonstrations of three are left out; returns which ones."""
    W, G = acting(world, w)
    gains = gains_one_by_one(world, W, G)
    length = sum(float((g * g).sum()) for g in G.values()) ** 0.5
    rows = [sorted(value / length for (n, _), value in gains.items() if n == row) for row in range(3)]
    decisive = [values[int(0.3 * len(values))] for values in rows]  # at it, more than the share
    monkeypatch.setattr(gain, "SHARE", 0.3)
    monkeypatch.setattr(gain, "FLAT", -sum(sorted(decisive)[1:]) / 2)
    return [value < -gain.FLAT for value in decisive]


@pytest.mark.parametrize("rule", RULES)
def test_bridge_supervises_what_was_kept(world, monkeypatch, rule):
    """theta and w climb the naive objective of what is kept; unrolled selects the same."""
    harmful = two_harmful(world, monkeypatch, world.w)
    keep = {"reward": [1, 1, 0], "gain": [not harm for harm in harmful]}
    keep["ours"] = [not harmful[0], not harmful[1], 0]  # the third one has no reward
    update = lambda meta: METHODS[meta].update(world.step(select=rule, choose=select), world.players)

    def objective(theta, w):
        sft = naive_j_sft(world, theta, w, lambda n, t, logp: keep[rule][n])
        return 0.6 * sft + 0.4 * naive_j_rl(world, theta, w)

    found, stats = update("first_order")
    assert_gradient(lambda theta: objective(theta, world.w), world.theta, found["theta"], directions=1)
    gained = lambda w: objective(world.theta, w) - 0.4 * naive_j_rl(world, world.theta_hat, w)
    assert_gradient(gained, world.w, found["w"], directions=1)
    other, same = update("unrolled")
    assert gap(other["theta"], found["theta"]) < 1e-12 and same["kept"] == stats["kept"]


@pytest.mark.parametrize("rule", RULES)
def test_processes_select_as_one(world, monkeypatch, rule):
    two_harmful(world, monkeypatch, {})
    step, update = world.step(select=rule, choose=select), METHODS["mix"].update
    whole, stats = update(step, world.players)
    parts = in_processes(step, world.players, update, [[0, 1], [3], [2]])
    assert gap(summed([directions["theta"] for directions, _ in parts]), whole["theta"]) < 1e-12
    assert sum(float(found["kept"]) for _, found in parts) == pytest.approx(float(stats["kept"]))
