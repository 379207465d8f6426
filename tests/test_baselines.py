"""The rivals, tested as hard as BRIDGE: every gradient against float64 finite differences of the objective
written naively; examples by hand over a policy that is a table; limits; invariances."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import assert_gradient, gap, size, table_policy
from naive import naive_j_rl, naive_j_sft, naive_logp

from bridge_min.baselines import METHODS, join_groups, needs, stage
from bridge_min.config import CHOICES, Config
from bridge_min.losses import sequence_weights


def seen(step):
    """The step as training makes it, without what the method does not use."""
    demos, rollouts = needs(step.config, step.number)
    return replace(step, demos=step.demos if demos else None, rollouts=step.rollouts if rollouts else None)


def direction(world, method, number=0, **changes):
    return METHODS[method](seen(world.step(number, method=method, **changes)), world.players)[0]["theta"]


def tokens_of(method, demos, groups, **settings):
    """What each token weighs in the method's gradient: rows of demonstrations, rows of rollouts."""
    step, theta = table_policy(demos, groups, method=method, **settings)
    grads = METHODS[method](seen(step), {"theta": theta})[0]["theta"]["table"]
    lengths = [len(p) for group in [demos, *groups] for p, _ in group]
    rows = [row[1 : 1 + n].tolist() for row, n in zip(grads, lengths, strict=True)]
    assert all(row[0] == 0 and not row[1 + n :].any() for row, n in zip(grads, lengths, strict=True))
    return rows[: len(demos)], rows[len(demos) :]


# The objectives as their definitions say.


def naive_joint_advantages(world):
    """By hand over each group of three and its demonstration; the last group has none."""
    rewards, shown = world.rollouts.rewards.tolist(), world.demos.rewards.tolist()
    own, joined = [], []
    for group in range(4):
        r = rewards[3 * group : 3 * group + 3] + shown[group : group + 1]
        mean = sum(r) / len(r)
        std = math.sqrt(sum((x - mean) ** 2 for x in r) / len(r))
        A = [(x - mean) / (std + 1e-4 if world.config.scale_by_std else 1) for x in r]
        own, joined = own + A[:3], joined + A[3:]
    return torch.tensor(own, dtype=torch.float64), joined


def naive_joined(world, theta, shape, scale=lambda A: A):
    """The rollouts' surrogate, each advantage through `scale`, and shape(p) A of demonstrated tokens."""
    A, shown = naive_joint_advantages(world)
    own, others = int(world.rollouts.mask.sum()), int(world.demos.mask.sum())
    value = naive_j_rl(world, theta, {}, torch.stack([scale(a) for a in A])) * own / (own + others)
    for n, t in world.demos.mask.nonzero().tolist():
        logp = naive_logp(world, theta, {}, world.demos.tokens[n], world.config.temperature)[t]
        value = value + shape(logp.exp()) * shown[n] / (own + others)
    return value


def naive_objective(world, method, theta, number=0):
    sft, rl = partial(naive_j_sft, world, theta, {}), partial(naive_j_rl, world, theta, {})
    if method == "sft" or (method, number) in (("two_stage", 2), ("alternate", 2)):
        return sft()
    if method == "grpo" or (method, number) in (("two_stage", 3), ("alternate", 3)):
        return rl()
    if method == "mix":
        return 0.6 * sft() + 0.4 * rl()
    if method == "chord_mu":
        mu = 0.05 + 0.85 * (1 + math.cos(math.pi * number / 10)) / 2
        return mu * sft() + (1 - mu) * rl()
    if method == "chord_phi":
        held = [naive_logp(world, world.theta, {}, tokens) for tokens in world.demos.tokens]
        phi = lambda n, t, logp: float(held[n][t].exp()) * (1 - float(held[n][t].exp()))
        return 0.1 * sft(phi) + 0.9 * rl()
    if method == "luffy":
        return naive_joined(world, theta, lambda p: p / (p + 0.1))
    if method == "srft":
        recorded = [float(world.rollouts.logp[n, t]) for n, t in world.rollouts.mask.nonzero().tolist()]
        H = -sum(recorded) / len(recorded)
        positive = lambda A: 0.1 * math.exp(H) * A if A > 0 else A
        return 0.5 * math.exp(-H) * sft() + naive_joined(world, theta, lambda p: p, positive)
    if method == "hpt":
        failed = [max(world.rollouts.rewards[3 * n : 3 * n + 3].tolist()) == 0 for n in range(3)]
        return sft(lambda n, t, logp: float(failed[n])) + rl()


OTHER = {"kl": 0.3, "temperature": 0.7, "normaliser": "sequence", "scale_by_std": False, "micro_batch": 5}
CASES = [(method, number, {}) for method in ("two_stage", "alternate") for number in (2, 3)]
CASES += [(method, 0, {}) for method in METHODS if method not in ("two_stage", "alternate", "bridge")]
CASES += [("chord_mu", 7, {}), *((method, 0, OTHER) for method in ("chord_phi", "luffy", "srft", "hpt"))]


@pytest.mark.parametrize("method, number, changes", CASES, ids=str)
def test_gradients_of_the_rivals(world, method, number, changes):
    config = world.with_config(steps=10, cold_start=0.3, **changes)
    world.reward(world.rollouts.rewards.tolist())  # advantages with or without the standard deviation
    if config.kl:
        world.rollouts.ref_logp = world.logprobs(world.reference, None, world.rollouts)
    if config.normaliser == "sequence":
        world.rollouts.weights = sequence_weights(world.rollouts.mask.double())
    found = direction(world, method, number)
    assert size(found) > 1e-3
    assert_gradient(lambda theta: naive_objective(world, method, theta, number), world.theta, found)


def test_every_method_that_can_be_chosen_is_there():
    assert set(METHODS) == set(CHOICES["method"])


def test_two_stages_are_sft_and_then_grpo(world):
    world.with_config(steps=10, cold_start=0.3)
    sft, grpo = direction(world, "sft"), direction(world, "grpo")
    assert gap(sft, grpo) > 1e-3
    for number in range(10):
        assert gap(direction(world, "two_stage", number), sft if number < 3 else grpo) == 0
        assert gap(direction(world, "alternate", number), grpo if number % 2 else sft) == 0
    assert gap(direction(world, "two_stage", 0, cold_start=0.0), grpo) == 0
    assert gap(direction(world, "two_stage", 9, cold_start=1.0), sft) == 0


@pytest.mark.parametrize("cold_start", [0.0, 0.01, 0.07, 0.29, 0.3, 0.55, 0.99, 1.0])
def test_the_cold_start_has_its_share_of_the_steps(cold_start):
    config = Config(demos_per_step=8, method="two_stage", cold_start=cold_start, steps=100)
    uses = [needs(config, step) for step in range(100)]
    supervised = round(100 * cold_start)
    assert uses == [(True, False)] * supervised + [(False, True)] * (100 - supervised)


def test_what_each_method_uses():
    for method in METHODS:
        uses = [needs(Config(demos_per_step=8, method=method), step) for step in range(2)]
        first, second = {
            "sft": ((True, False), (True, False)),
            "grpo": ((False, True), (False, True)),
            "two_stage": ((True, False), (True, False)),
            "alternate": ((True, False), (False, True)),
        }.get(method, ((True, True), (True, True)))
        assert uses == [first, second], method


def test_chord_goes_from_supervision_to_reinforcement(world):
    """mu, read off the direction: mu g_sft + (1 - mu) g_rl."""
    world.with_config(steps=100)
    sft, rl, found = direction(world, "sft"), direction(world, "grpo"), []
    apart = {name: sft[name] - rl[name] for name in sft}
    for number in (0, 1, 25, 50, 75, 99):
        g = direction(world, "chord_mu", number)
        along = sum(float(((g[name] - rl[name]) * apart[name]).sum()) for name in g)
        found.append(along / sum(float(value.square().sum()) for value in apart.values()))
        assert gap(g, {name: rl[name] + found[-1] * apart[name] for name in g}) < 1e-12
    assert sorted(found, reverse=True) == found
    assert found[0] == pytest.approx(0.9) and found[3] == pytest.approx(0.475)
    assert found[-1] == pytest.approx(0.05, abs=1e-3)


def test_mixing_is_the_mean_of_both_gradients(world):
    sft, rl = direction(world, "sft"), direction(world, "grpo")
    for lam in (0.0, 0.3, 1.0):
        expected = {name: (1 - lam) * sft[name] + lam * rl[name] for name in sft}
        assert gap(direction(world, "mix", lam=lam), expected) < 1e-12


def test_chord_phi_leaves_out_what_is_known_and_what_is_far_off():
    known, far_off = 1 - 1e-9, 1e-9
    group = [([0.5], 1.0), ([0.5], 0.0)]
    (row,), rollouts = tokens_of("chord_phi", [([known, 0.5, far_off, 0.2], 1.0)], [group])
    assert row == pytest.approx([0, 0.1 * 0.25 / 4, 0, 0.1 * 0.16 / 4], abs=1e-9)
    assert rollouts == [[pytest.approx(0.9 * 0.25)], [pytest.approx(-0.9 * 0.25)]]


def test_luffy_by_hand():
    """Eleven tokens in all, each weighs 1/11. d/dlogp of p / (p + 0.1) is 0.1 p / (p + 0.1)^2, a quarter
    where p = 0.1. Advantages over the joint groups: a wrong demonstration in a solved group is pushed away, a
    right one in a failed group is pulled, one that agrees with its group does nothing."""
    demos = [([0.1], 0.0), ([0.4], 1.0), ([0.1], 1.0)]
    groups = [
        [([0.5], 1.0), ([0.9], 1.0)],
        [([0.5], 0.0)] * 2,
        [([0.5], 1.0)] * 2,
        [([0.2], 1.0), ([0.3], 0.0)],
    ]
    shown, own = tokens_of("luffy", demos, groups)
    assert shown == [[pytest.approx(-2 / 3 / 4 / 11)], [pytest.approx(2 / 3 * 0.04 / 0.25 / 11)], [0.0]]
    A = [1 / 3, 1 / 3, -1 / 3, -1 / 3, 0, 0, 1 / 2, -1 / 2]
    assert [row[0] for row in own] == pytest.approx([a / 11 for a in A])


def test_the_shaping_of_luffy_favours_what_the_policy_would_not_say():
    """Against the plain ratio p, whose gradient vanishes with p, f'(0) / f'(1) is 11^2."""
    slopes = []
    for p in (1e-6, 1 - 1e-6):
        (row,), _ = tokens_of("luffy", [([p], 1.0)], [[([0.5], 0.0)] * 2])
        slopes.append(row[0] / p)
    assert slopes[0] / slopes[1] == pytest.approx(121, rel=1e-3)


@pytest.mark.parametrize("weigh", [None, sequence_weights])
def test_joint_groups_weigh_one_in_all_and_stand_on_their_own(world, weigh):
    if weigh:
        world.rollouts.weights = weigh(world.rollouts.mask.double())
    weights = world.demos.weights.clone(), world.rollouts.weights.clone()
    demos, rollouts = join_groups(world.step())
    assert float(demos.weights.sum() + rollouts.weights.sum()) == pytest.approx(1)
    share = world.demos.mask.sum() / (world.demos.mask.sum() + world.rollouts.mask.sum())
    assert float(demos.weights.sum()) == pytest.approx(float(share))
    own, shown = naive_joint_advantages(world)
    torch.testing.assert_close(rollouts.advantages, own)
    assert demos.advantages.tolist() == pytest.approx(shown)
    assert shown[1] > 0 > shown[2]  # right where all failed, wrong where all are right
    assert torch.equal(rollouts.advantages[9:], world.rollouts.advantages[9:])
    assert torch.equal(weights[0], world.demos.weights) and torch.equal(weights[1], world.rollouts.weights)


def test_srft_by_hand():
    """The tokens' probabilities have the geometric mean 1/4, so H = log 4: SFT weighs 0.5 / 4, the positive
    rollouts 0.1 x 4. Advantages 2/3, -1/3 and -1/3 for the wrong demonstration; five tokens in all."""
    (row,), (good, bad) = tokens_of("srft", [([0.3, 0.6], 0.0)], [[([1 / 2, 1 / 8], 1.0), ([1 / 4], 0.0)]])
    assert good == pytest.approx([0.4 * 2 / 3 / 5] * 2) and bad == pytest.approx([-1 / 3 / 5])
    assert row == pytest.approx([0.125 / 2 - p / 3 / 5 for p in (0.3, 0.6)])


def test_hpt_supervises_failed_groups_and_reinforces_the_others():
    demos = [([0.3, 0.6], 1.0), ([0.3, 0.6], 1.0), ([0.2], 1.0)]
    groups = [[([0.5], 1.0), ([0.9], 0.0)], [([0.5], 0.0)] * 2, [([0.5], 1.0)] * 2, [([0.5], 0.0)] * 2]
    shown, own = tokens_of("hpt", demos, groups)
    assert shown == [[0.0, 0.0], [pytest.approx(1 / 5)] * 2, [0.0]]
    assert [row[0] for row in own] == pytest.approx([1 / 16, -1 / 16, *[0] * 6])


def test_hpt_is_grpo_where_no_group_failed_and_sft_where_all_did(world):
    world.reward([1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0])  # the last group has no demonstration
    assert gap(direction(world, "hpt"), direction(world, "grpo")) == 0
    world.reward([0] * 12)
    assert gap(direction(world, "hpt"), direction(world, "sft")) == 0


def test_where_rewards_agree_the_joint_methods_have_no_policy_gradient(world):
    """Demonstrations included: luffy stands still, srft keeps its supervision, chord its share mu."""
    world.reward([1] * 12)
    world.demos.rewards = torch.ones(3, dtype=torch.float64)
    assert size(direction(world, "luffy")) == 0
    sft = direction(world, "sft")
    entropy = -float(world.rollouts.logp.sum() / world.rollouts.mask.sum())
    scaled = {name: 0.5 * math.exp(-entropy) * g for name, g in sft.items()}
    assert gap(direction(world, "srft"), scaled) < 1e-12
    assert gap(direction(world, "chord_mu"), {name: 0.9 * g for name, g in sft.items()}) < 1e-12


@pytest.mark.parametrize("method", list(METHODS))
def test_micro_batches_order_and_padding_change_nothing(world, method):
    def run(demos, rollouts, micro_batch, number):
        world.demos, world.rollouts = demos, rollouts
        step = seen(world.step(number, method=method, micro_batch=micro_batch, steps=2, cold_start=0.5))
        return METHODS[method](step, world.players)[0]

    whole, order = (world.demos, world.rollouts), torch.tensor([2, 0, 1, 3])  # of groups
    within = torch.tensor([[2, 0, 1], [0, 1, 2], [1, 2, 0], [2, 1, 0]])
    moved = world.demos.select(order[:3]), world.rollouts.select((order[:, None] * 3 + within).flatten())
    padded = [batch.select(torch.arange(len(batch))) for batch in whole]
    for batch in padded:
        for name, value in vars(batch).items():
            if value is not None and value.dim() == 2:
                setattr(batch, name, torch.nn.functional.pad(value, (0, 3)))
    for number in range(2):
        expected = run(*whole, 64, number)
        for batches, micro_batch in ((whole, 1), (whole, 2), (moved, 64), (moved, 2), (padded, 64)):
            found = run(*batches, micro_batch, number)
            for player in found:
                assert gap(found[player], expected[player]) < 1e-12
        assert size(expected["theta"]) > 1e-3


def test_each_stage_of_the_cold_start_has_a_schedule_of_its_own():
    config = Config(method="two_stage", steps=10, cold_start=0.4)
    assert [stage(config, step) for step in range(10)] == [(k, 4) for k in range(4)] + [
        (k, 6) for k in range(6)
    ]
    assert [stage(replace(config, method="mix"), step) for step in (0, 9)] == [(0, 10), (9, 10)]
