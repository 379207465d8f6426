"""Selection by gain: the inner products against explicit ones, the memory by hand, and what a step then
supervises."""

from dataclasses import replace

import pytest
import torch
from conftest import assert_gradient, gap, size, table_policy
from naive import naive_j_rl, naive_j_sft, naive_logp

from bridge_min.bridge import bridge, gradients, j_rl, mix, weighted
from bridge_min.gain import added_reward, new_memory, select_by_gain, token_gains, worth
from bridge_min.rollout import Demos


def naive_gains(world, theta, w, g_rl):
    """One backward pass per token, (row, column) -> inner product."""
    gains, leaves = {}, {name: value.clone().requires_grad_() for name, value in theta.items()}
    for n, t in world.demos.mask.nonzero().tolist():
        logp = naive_logp(world, leaves, w, world.demos.tokens[n])[t]
        grads = torch.autograd.grad(logp, list(leaves.values()))
        gains[n, t] = sum(float((g_rl[name] * g).sum()) for name, g in zip(leaves, grads, strict=True))
    return gains


def g_rl_at(world, w):
    return gradients(weighted((1.0, j_rl(world.step()))), world.theta, w)[0]


@pytest.mark.parametrize("with_w", [False, True])
def test_gains_are_inner_products_with_each_tokens_gradient(world, with_w):
    w = world.w if with_w else {}
    g_rl = g_rl_at(world, w)
    gains = token_gains(world.logprobs, world.theta, w, world.demos, g_rl, 2)
    expected = torch.zeros_like(gains)
    for (n, t), gain in naive_gains(world, world.theta, w, g_rl).items():
        expected[n, t] = gain
    assert (expected > 1e-3).any() and (expected < -1e-3).any()
    torch.testing.assert_close(gains, expected, rtol=1e-9, atol=1e-12)


def demos_of(gains, index, kinds=None):
    """Rows of gains to a Demos of their lengths, after one column of prompt, and the gains as (N, T)."""
    N, T = len(gains), 1 + max(map(len, gains))
    table, mask = torch.zeros(N, T), torch.zeros(N, T, dtype=torch.bool)
    for row, values in enumerate(gains):
        table[row, 1 : 1 + len(values)], mask[row, 1 : 1 + len(values)] = torch.tensor(values), True
    kinds = torch.tensor(kinds or [0] * N)
    ones = torch.ones(N)
    tokens = torch.zeros(N, T, dtype=torch.int64)
    return Demos(tokens, mask, mask / mask.sum(), ones, torch.tensor(index), kinds), table


def test_worth_by_hand_over_two_steps():
    """Step one draws 0 and 2 of four, with weakest tokens 1 and -1, step two draws 2 and 1, with 4 and 2: in
    units of the step's mean 1, -1, and 4/3, 2/3. Prompt and padding, whose gains are 0, do not count."""
    memory = new_memory(4)
    demos, gains = demos_of([[3.0, 1.0], [5.0, -1.0, 2.0]], [0, 2])
    assert worth(gains, demos, memory).tolist() == pytest.approx([1, -1])
    assert memory["gain"].tolist() == pytest.approx([1, 0, -1, 0])
    assert memory["draws"].tolist() == [1, 0, 1, 0]
    demos, gains = demos_of([[4.0, 6.0, 9.0], [2.0]], [2, 1])
    mean = (1 + 2 / 3 + (-1 + 4 / 3) / 2) / 3  # of the three seen, each by its own mean; the fourth is not in
    assert worth(gains, demos, memory).tolist() == pytest.approx([1 / 6 - mean, 2 / 3 - mean])
    assert memory["gain"].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert memory["draws"].tolist() == [1, 1, 2, 0]


def test_only_the_weakest_token_and_not_the_length_of_the_gradient_counts():
    rows = [[[0.5, 2.0, -0.1], [0.2, 0.3]], [[-3.0, 1.0], [0.4, 0.2, 0.1]]]
    for longer in (1.0, 10.0):
        found, memory = [], new_memory(2)
        for step, factor in zip(rows, (1.0, longer), strict=True):
            demos, gains = demos_of(step, [0, 1])
            found.append(worth(factor * gains, demos, memory).tolist())
        a, b = (-1 / 1.5 - 3 / 1.55) / 2, (2 / 1.5 + 0.1 / 1.55) / 2
        assert found[0] == pytest.approx([-1, 1])
        assert found[1] == pytest.approx([(a - b) / 2, (b - a) / 2])
    demos, gains = demos_of([[0.0], [0.0]], [0, 1])  # no policy gradient: no opinion
    assert worth(gains, demos, new_memory(2)).tolist() == [0, 0]


def test_tokens_with_a_positive_gain_are_kept_and_no_other():
    demos, gains = demos_of([[0.5, -0.5, 1e-20], [0.0, 2.0], [-1.0]], [0, 1, 2])
    for factor in (1.0, 10.0):
        kept, _ = select_by_gain("token", factor * gains, demos, new_memory(3))
        share = 1 / 6  # of all tokens there were
        expected = [[0, share, 0, share], [0, 0, share, 0], [0, 0, 0, 0]]
        torch.testing.assert_close(kept.weights, torch.tensor(expected))
    torch.testing.assert_close(demos.weights.sum(), torch.tensor(1.0))


def test_whole_demonstrations_are_kept_or_dropped():
    rows = [[9.0, 9.0, -1.0], [0.5], [2.0, 0.1]]
    demos, gains = demos_of(rows, [0, 1, 2])
    for factor in (1.0, 10.0):
        kept, _ = select_by_gain("demo", factor * gains, demos, new_memory(3))
        assert not kept.weights[0].any()
        assert torch.equal(kept.weights[1:], demos.weights[1:])


def test_the_kept_shares_are_counted_in_tokens_by_kind():
    rows = [[1.0, -1.0, 1.0], [1.0], [-1.0, -1.0, -1.0, 1.0], [2.0, -2.0]]
    demos, gains = demos_of(rows, [0, 1, 2, 3], kinds=[0, 0, 2, 0])
    _, shares = select_by_gain("token", gains, demos, new_memory(4))
    assert shares == {"kept_right": pytest.approx(4 / 6), "kept_far": pytest.approx(1 / 4)}
    demos.kinds = torch.tensor([1, 1, 1, 2])
    _, shares = select_by_gain("demo", gains, demos, new_memory(4))  # only the second is above the average
    assert shares == {"kept_wrong": pytest.approx(1 / 8), "kept_far": 0.0}


def linear_policy(features, groups, **settings):
    """A Step whose log-probs are features @ v, so a token's gradient is its feature; and theta = {"v": 0}."""
    demos = [([0.5] * len(rows), 1.0) for rows in features]
    step, _ = table_policy(demos, [[([0.5], r) for _, r in group] for group in groups], **settings)
    vectors = torch.zeros(*(len(step.demos) + len(step.rollouts), step.demos.tokens.shape[1], 2))
    vectors = vectors.double()
    for row, values in enumerate([*features, *([vector] for group in groups for vector, _ in group)]):
        vectors[row, 1 : 1 + len(values)] = torch.tensor(values, dtype=torch.float64)
    logprobs = lambda theta, w, part, temperature=1.0: (
        vectors[part.tokens[:, 0], : part.tokens.shape[1]] @ theta["v"]
    )
    step.rollouts.logp = torch.zeros_like(step.rollouts.logp)
    return replace(step, logprobs=logprobs), {"theta": {"v": torch.zeros(2, dtype=torch.float64)}}


FAILED = [([0.0, 0.0], 0.0), ([0.0, 0.0], 0.0)]
TELLING = [([1.0, 0.0], 1.0), ([0.0, 0.0], 0.0)]  # the reward's gradient is along the first axis


@pytest.mark.parametrize("select", ["demo", "token"])
def test_what_goes_against_the_reward_is_dropped_and_what_goes_along_is_kept(select):
    """Two prompts that failed, one whose demonstration is parallel to the policy gradient and one against it;
    a third group tells where the reward is. Weights: six tokens of rollouts, two of demonstrations."""
    along, against = [[2.0, 1.0]], [[-2.0, 1.0]]
    for features, kept in (([along, against], along), ([against, along], along)):
        step, players = linear_policy(features, [FAILED, FAILED, TELLING], select=select, lam=0.5)
        update, stats = mix(step, players)
        rl = torch.tensor([0.5 / 6, 0.0])
        expected = 0.5 * rl + 0.5 * torch.tensor(kept[0]) / 2
        assert update["theta"]["v"].tolist() == pytest.approx(expected.tolist())
        assert stats["kept_right"] == 0.5
    step, players = linear_policy(features, [FAILED, FAILED, TELLING], select="none", lam=0.5)
    expected = 0.5 * rl + 0.5 * torch.tensor([0.0, 1.0])
    assert mix(step, players)[0]["theta"]["v"].tolist() == pytest.approx(expected.tolist())


def test_a_bad_token_drops_its_demonstration_whole_or_alone():
    features = [[[2.0, 0.0], [-1.0, 0.0]], [[0.5, 0.0], [0.5, 0.0]]]
    for select, expected in (("demo", 0.5 + 0.5), ("token", 2.0 + 0.5 + 0.5)):
        step, players = linear_policy(features, [FAILED, FAILED, TELLING], select=select, lam=0.5)
        (v, _) = mix(step, players)[0]["theta"]["v"].tolist()
        assert v == pytest.approx(0.5 * 0.5 / 6 + 0.5 * expected / 4)


def test_a_demonstration_adds_what_its_reward_has_over_its_group():
    rewards = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.5])
    groups = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 0], [1, 1], [0.5, 0], [1, 1]])
    assert added_reward(rewards, groups).tolist() == [1, 0.5, 0, 0, 0, 0.25]


def test_where_the_policy_succeeds_there_is_less_to_supervise():
    """Both demonstrations go along the policy gradient. The first prompt's group is right by half: it counts
    half; the third, solved, not at all, and a wrong one nowhere."""
    features = [[[2.0, 1.0]], [[3.0, 1.0]], [[4.0, 1.0]]]
    SOLVED = [([0.0, 0.0], 1.0), ([0.0, 0.0], 1.0)]
    step, players = linear_policy(features, [TELLING, FAILED, SOLVED], select="token", lam=0.5)
    v = lambda: mix(step, players)[0]["theta"]["v"].tolist()
    rl = 0.5 * 0.5 / 6
    assert v() == pytest.approx([rl + 0.5 * (0.5 * 2 + 3) / 3, 0.5 * (0.5 + 1) / 3])
    step.demos.rewards = torch.tensor([1.0, 0.0, 0.0])
    assert v() == pytest.approx([rl + 0.5 * 0.5 * 2 / 3, 0.5 * 0.5 / 3])


def kept_by_hand(world, select, w):
    """(row, column) -> weight, from gradients token by token of the naive objective and the rewards."""
    leaves = {name: value.clone().requires_grad_() for name, value in world.theta.items()}
    grads = torch.autograd.grad(naive_j_rl(world, leaves, w), list(leaves.values()))
    gains = naive_gains(world, world.theta, w, dict(zip(leaves, grads, strict=True)))
    weakest = [min(gain for (n, _), gain in gains.items() if n == row) for row in range(3)]
    added = []
    for n, shown in enumerate(world.demos.rewards.tolist()):
        own = world.rollouts.rewards[3 * n : 3 * n + 3].tolist()
        added.append(max(0, shown - sum(own) / 3))
    return {
        (n, t): added[n] * float((gain if select == "token" else weakest[n] - sum(weakest) / 3) > 0)
        for (n, t), gain in gains.items()
    }


def with_something_to_add(world):
    """In general position: every demonstration is better than its group."""
    world.reward([1, 0, 0.25, 0, 0, 0, 0, 0, 0.5, 0, 0, 1])
    world.demos.rewards = torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("select", ["demo", "token"])
def test_selection_mixes_and_cooperates_with_what_it_kept(world, select):
    """mix at theta, both readings of BRIDGE at (theta, w): the naive objective with the weights held
    fixed."""
    with_something_to_add(world)

    def objective(theta, w, keep):
        sft = naive_j_sft(world, theta, w, lambda n, t, logp: keep[n, t])
        return 0.6 * sft + 0.4 * naive_j_rl(world, theta, w)

    keep = kept_by_hand(world, select, {})
    assert 0 < sum(map(bool, keep.values())) < len(keep)
    found = mix(world.step(select=select), world.players)[0]["theta"]
    assert_gradient(lambda theta: objective(theta, {}, keep), world.theta, found, directions=2)

    keep = kept_by_hand(world, select, world.w)
    assert 0 < sum(map(bool, keep.values())) < len(keep)
    first, stats = bridge(world.step(select=select), world.players)
    assert_gradient(lambda theta: objective(theta, world.w, keep), world.theta, first["theta"], directions=2)
    gained = lambda w: objective(world.theta, w, keep) - 0.4 * naive_j_rl(world, world.theta_hat, w)
    assert_gradient(gained, world.w, first["w"], directions=2)

    unrolled, unrolled_stats = bridge(world.step(select=select, meta="unrolled"), world.players)
    assert gap(unrolled["theta"], first["theta"]) < 1e-10
    assert unrolled_stats == pytest.approx(stats)
    still, _ = bridge(world.step(select=select, meta="unrolled", eta=0.0), world.players)
    assert gap(still["w"], first["w"]) < 1e-12


@pytest.mark.parametrize("meta", ["first_order", "unrolled", "no_shadow"])
def test_each_step_adds_one_draw_to_the_memory_whatever_the_reading(world, meta):
    with_something_to_add(world)
    memory, index = new_memory(5), world.demos.index
    for draws in (1, 2):
        bridge(world.step(memory=memory, select="demo", meta=meta), world.players)
        assert memory["draws"].tolist() == [draws, 0, draws, 0, draws]
    gains = token_gains(world.logprobs, world.theta, world.w, world.demos, g_rl_at(world, world.w), 2)
    weakest = torch.stack([row[own].min() for row, own in zip(gains, world.demos.mask, strict=True)])
    expected = 2 * weakest / weakest.abs().mean()
    torch.testing.assert_close(memory["gain"][index], expected.float())


def test_the_memory_decides_what_this_step_alone_would_not(world):
    """A demonstration that was good ten times is kept when it is bad once."""
    demos, gains = demos_of([[1.0], [-1.0]], [0, 1])
    memory = {"gain": torch.tensor([-10.0, 10.0]), "draws": torch.tensor([10.0, 10.0])}
    kept, _ = select_by_gain("demo", gains, demos, memory)
    assert not kept.weights[0].any() and torch.equal(kept.weights[1], demos.weights[1])


@pytest.mark.parametrize("select", ["demo", "token"])
def test_selection_does_not_depend_on_order_or_micro_batches(world, select):
    with_something_to_add(world)
    expected, _ = bridge(world.step(select=select), world.players)
    order = torch.tensor([2, 0, 1, 3])
    rows = (order[:, None] * 3 + torch.arange(3)).flatten()
    world.demos, world.rollouts = world.demos.select(order[:3]), world.rollouts.select(rows)
    for micro_batch in (64, 2):
        found, _ = bridge(world.step(select=select, micro_batch=micro_batch), world.players)
        for player in found:
            assert gap(found[player], expected[player]) < 1e-12
    assert size(expected["theta"]) > 1e-3


def test_selection_by_reward_alone_weighs_by_what_can_be_added(world):
    """A demonstration's term weighs max(0, own reward - mean of the group), whatever its gradient says."""
    groups = world.rollouts.rewards.view(-1, world.config.group)
    pairs = zip(world.demos.rewards, groups, strict=False)
    added = [max(0.0, float(reward) - float(group.mean())) for reward, group in pairs]
    assert any(added)
    found = mix(world.step(select="reward"), world.players)[0]["theta"]
    world.demos.weights = world.demos.weights * torch.tensor(added, dtype=torch.float64)[:, None]
    assert gap(found, mix(world.step(select="none"), world.players)[0]["theta"]) < 1e-12
