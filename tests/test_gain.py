"""Selection by gain: inner products against one backward pass per token, the memory by hand, and what a step
then supervises."""

import pytest
import torch
from conftest import assert_gradient, gap
from naive import naive_j_rl, naive_j_sft
from test_rivals import in_processes, summed
from torch.func import vjp

from bridge_min.bridge import METHODS, gradients, j_rl, policy_logprobs
from bridge_min.config import Config
from bridge_min.rollout import Rows
from bridge_min.study import gain
from bridge_min.study.gain import added_reward, selection, token_gains, worth


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


def selecting(world, select, **changes):
    """A step of the world that selects, and the memory. Every demonstration is better than its group."""
    world.reward([1, 0, 0.25, 0, 0, 0, 0, 0, 0.5, 0, 0, 1])
    world.demos.rewards = torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)
    choose, state = selection(world.with_config(select=select, demos=5, **changes))
    return world.step(select=choose), state


def demos_of(gains, index):
    """Rows of gains to demonstrations of their lengths, after a token of prompt; and the gains as (N, T)."""
    N, T = len(gains), 1 + max(map(len, gains))
    table, mask = torch.zeros(N, T), torch.zeros(N, T, dtype=torch.bool)
    for row, values in enumerate(gains):
        table[row, 1 : 1 + len(values)], mask[row, 1 : 1 + len(values)] = torch.tensor(values), True
    rows = Rows(torch.zeros(N, T, dtype=torch.int64), mask, mask / mask.sum(), index=torch.tensor(index))
    return rows, table


def worth_of(gains, index, memory):
    demos, table = demos_of(gains, index)
    return worth(table, demos, memory, lambda x: x).tolist()


def new_memory(demos):
    return selection(Config(select="demo", demos=demos, demos_per_step=1))[1]["memory"]


def test_gains_are_inner_products_with_each_tokens_gradient(world):
    W, G = acting(world, world.w)
    gains, expected = token_gains(world.model, W, world.demos, G, 2), gains_one_by_one(world, W, G)
    assert min(expected.values()) < -1e-3 and max(expected.values()) > 1e-3
    for (n, t), value in expected.items():
        assert float(gains[n, t]) == pytest.approx(value, rel=1e-9)
    assert not gains[~world.demos.mask].any()


def test_a_demonstrations_worth_by_hand_over_two_steps():
    """Step one draws 0 and 2 of four, with weakest tokens 1 and -1, step two draws 2 and 1, with 4 and 2: in
    units of the step's mean 1, -1, and 4/3, 2/3, however long the policy gradient is. Prompt and padding,
    whose gains are 0, do not count."""
    memory = new_memory(4)
    assert worth_of([[3.0, 1.0], [5.0, -1.0, 2.0]], [0, 2], memory) == pytest.approx([1, -1])
    mean = (1 + 2 / 3 + (-1 + 4 / 3) / 2) / 3  # of the three seen, each by its own mean; the fourth is not in
    found = worth_of([[40.0, 60.0, 90.0], [20.0]], [2, 1], memory)
    assert found == pytest.approx([1 / 6 - mean, 2 / 3 - mean])
    assert memory["gain"].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert memory["draws"].tolist() == [1, 1, 2, 0]


def test_without_a_policy_gradient_there_is_no_opinion():
    assert worth_of([[0.0], [0.0]], [0, 1], new_memory(2)) == [0, 0]


def test_the_memory_decides_what_this_step_alone_would_not():
    memory = {"gain": torch.tensor([-10.0, 10.0]), "draws": torch.tensor([10.0, 10.0])}
    bad, good = worth_of([[1.0], [-1.0]], [0, 1], memory)
    assert bad < 0 < good


def test_a_demonstration_adds_what_its_reward_has_over_its_group():
    rewards = torch.tensor([1.0, 1.0, 0.0, 0.5])
    groups = torch.tensor([[0, 0], [1, 0], [1, 0], [0.5, 0], [1, 1]])
    assert added_reward(rewards, groups).tolist() == [1, 0.5, 0, 0.25]


@pytest.mark.parametrize("select, kept", [("token", [[5, 0], [2, 2], [0]]), ("demo", [[0, 0], [2, 2], [0]])])
def test_what_is_left_out_has_no_weight_and_still_counts_in_the_normaliser(world, monkeypatch, select, kept):
    """Weights in units of a token's share; the demonstrations add 0.5, 0.2 and 0.1."""
    demos, table = demos_of([[1.0, -1.0], [0.5, 0.5], [-0.5]], [4, 0, 2])
    step, _ = selecting(world, select)
    demos.rewards, step.demos = torch.tensor([0.5, 0.2, 0.1]), demos
    step.rollouts.rewards = torch.zeros(12)
    monkeypatch.setattr(gain, "token_gains", lambda *_: table)
    rows, stats = step.select(step, {}, {})
    expected = [[weight / 10 / 5 for weight in row] for row in kept if any(row)]
    found = [row[mask].tolist() for row, mask in zip(rows.weights, rows.mask, strict=True)]
    assert found == [pytest.approx(row) for row in expected]  # rows without weight cost no pass
    assert float(stats["kept"]) == pytest.approx(sum(bool(weight) for row in kept for weight in row) / 5)
    assert float(stats["added"]) == pytest.approx(0.8 / 3)


def keep_by_hand(world, select, w):
    """(row, column) -> weight, from the gains one by one and the rewards."""
    gains = gains_one_by_one(world, *acting(world, w))
    weakest = [min(value for (n, _), value in gains.items() if n == row) for row in range(3)]
    judge = {"reward": lambda n, t: 1, "token": lambda n, t: gains[n, t]}
    judge["demo"] = lambda n, t: weakest[n] - sum(weakest) / 3
    means = [sum(world.rollouts.rewards[3 * n : 3 * n + 3].tolist()) / 3 for n in range(3)]
    return {(n, t): (float(world.demos.rewards[n]) - means[n]) * (judge[select](n, t) > 0) for n, t in gains}


@pytest.mark.parametrize("select", ["reward", "token", "demo"])
def test_bridge_supervises_what_was_kept(world, select):
    """theta and w climb the naive objective with the kept weights held fixed; unrolled selects the same."""
    step, _ = selecting(world, select)
    keep = keep_by_hand(world, select, world.w)
    assert any(keep.values()) and (select == "reward" or not all(keep.values()))

    def objective(theta, w):
        sft = naive_j_sft(world, theta, w, lambda n, t, logp: keep[n, t])
        return 0.6 * sft + 0.4 * naive_j_rl(world, theta, w)

    found, stats = METHODS["first_order"].update(step, world.players)
    assert_gradient(lambda theta: objective(theta, world.w), world.theta, found["theta"], directions=1)
    gained = lambda w: objective(world.theta, w) - 0.4 * naive_j_rl(world, world.theta_hat, w)
    assert_gradient(gained, world.w, found["w"], directions=1)
    other, same = METHODS["unrolled"].update(selecting(world, select)[0], world.players)
    assert gap(other["theta"], found["theta"]) < 1e-12 and same["kept"] == stats["kept"]


@pytest.mark.parametrize("select", ["reward", "token", "demo"])
def test_processes_select_as_one_and_remember_the_same(world, select):
    step, state = selecting(world, select)
    whole, stats = METHODS["mix"].update(step, world.players)
    states = []

    def update(step, players):
        step.select, mine = selection(step.config)
        states.append(mine.get("memory", {}))
        return METHODS["mix"].update(step, players)

    parts = in_processes(step, world.players, update, [[0, 1], [3], [2]])
    assert gap(summed([directions["theta"] for directions, _ in parts]), whole["theta"]) < 1e-12
    assert sum(float(found["kept"]) for _, found in parts) == pytest.approx(float(stats["kept"]))
    for memory in states:
        torch.testing.assert_close(memory, state["memory"] if select == "demo" else {})
