"""The rivals, tested as hard as BRIDGE: every gradient against float64 finite differences of the objective
written naively; limits; and many processes against one."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier, Lock

import pytest
import torch
from conftest import assert_gradient, gap, size
from naive import naive_j_rl, naive_j_sft, naive_logp

from bridge_min.bridge import METHODS
from bridge_min.config import Config
from bridge_min.losses import sequence_weights
from bridge_min.study.rivals import RIVALS

EVERY = METHODS | RIVALS
OTHER = {"kl": 0.3, "temperature": 0.7, "normaliser": "sequence", "scale_by_std": False, "micro_batch": 5}


def seen(step, method):
    """The step as training makes it, without what the method does not use."""
    demos, rollouts = EVERY[method].needs(step.config, step.number)
    return replace(step, demos=step.demos if demos else None, rollouts=step.rollouts if rollouts else None)


def direction(world, method, number=0, **changes):
    return EVERY[method].update(seen(world.step(number, **changes), method), world.players)[0]["theta"]


def in_processes(step, players, update, groups):
    """The update by as many threads as lists of groups, each with its groups' rows and a `total` over all;
    what each returns. One runs at a time, until its next sum."""
    mail, turn, barrier = [None] * len(groups), Lock(), Barrier(len(groups), timeout=30)

    def wait():
        turn.release()
        barrier.wait()
        turn.acquire()

    def total(rank, x):
        mail[rank] = x
        wait()
        everything = sum(mail)
        wait()
        return everything

    def work(rank):
        mine, run = torch.tensor(groups[rank]), replace(step.runtime, total=partial(total, rank))
        demos = step.demos.take(mine[mine < len(step.demos)])
        rollouts = step.rollouts.take((mine[:, None] * 3 + torch.arange(3)).flatten())
        with turn:
            return update(replace(step, runtime=run, demos=demos, rollouts=rollouts), players)

    with ThreadPoolExecutor(len(groups)) as pool:
        return list(pool.map(work, range(len(groups))))


def summed(parts):
    return {name: sum(part[name] for part in parts) for name in parts[0]}


# --- The objectives as their definitions say ----------------------------------------------------------------


def naive_joined(world, theta, shape, scale=lambda A: A):
    """The rollouts' surrogate, each advantage through `scale`, and shape(p) A of demonstrated tokens, with
    advantages over each group of three and its demonstration; the last group has none."""
    rewards, shown, own, joined = world.rollouts.rewards.tolist(), world.demos.rewards.tolist(), [], []
    for group in range(4):
        r = rewards[3 * group : 3 * group + 3] + shown[group : group + 1]
        mean = sum(r) / len(r)
        std = math.sqrt(sum((x - mean) ** 2 for x in r) / len(r))
        A = [(x - mean) / (std + 1e-4 if world.config.scale_by_std else 1) for x in r]
        own, joined = own + A[:3], joined + A[3:]
    tokens, others = int(world.rollouts.mask.sum()), int(world.demos.mask.sum())
    A = torch.tensor([scale(a) for a in own], dtype=torch.float64)
    value = naive_j_rl(world, theta, {}, A) * tokens / (tokens + others)
    for n, t in world.demos.mask.nonzero().tolist():
        logp = naive_logp(world, theta, {}, world.demos.tokens[n], world.config.temperature)[t]
        value = value + shape(logp.exp()) * joined[n] / (tokens + others)
    return value


def naive_objective(world, method, theta, number):
    sft, rl = partial(naive_j_sft, world, theta, {}), partial(naive_j_rl, world, theta, {})
    if method == "chord_mu":
        mu = 0.05 + 0.85 * (1 + math.cos(math.pi * number / 10)) / 2
        return mu * sft() + (1 - mu) * rl()
    if method == "chord_phi":
        held = [naive_logp(world, world.theta, {}, tokens) for tokens in world.demos.tokens]
        return 0.1 * sft(lambda n, t, logp: float(held[n][t].exp() * (1 - held[n][t].exp()))) + 0.9 * rl()
    if method == "luffy":
        return naive_joined(world, theta, lambda p: p / (p + 0.1))
    if method == "srft":
        recorded = [float(world.rollouts.logp[n, t]) for n, t in world.rollouts.mask.nonzero().tolist()]
        H = -sum(recorded) / len(recorded)
        positive = lambda A: 0.1 * math.exp(H) * A if A > 0 else A
        return 0.5 * math.exp(-H) * sft() + naive_joined(world, theta, lambda p: p, positive)
    failed = [max(world.rollouts.rewards[3 * n : 3 * n + 3].tolist()) == 0 for n in range(3)]  # hpt
    return sft(lambda n, t, logp: float(failed[n])) + rl()


JOINT = ("chord_mu", "chord_phi", "luffy", "srft", "hpt")
CASES = [
    ("chord_mu", 7, {}),
    *((method, 0, {}) for method in JOINT),
    *((method, 3, OTHER) for method in JOINT),
]


@pytest.mark.parametrize("method, number, changes", CASES, ids=str)
def test_a_rivals_direction_is_its_objectives_gradient(world, method, number, changes):
    config = world.with_config(steps=10, **changes)
    world.reward(world.rollouts.rewards.tolist())  # advantages with or without the standard deviation
    if config.kl:
        world.rollouts.ref_logp = world.run.logprobs(world.reference, world.rollouts)
    if config.normaliser == "sequence":
        world.rollouts.weights = sequence_weights(world.rollouts.mask.double())
    found = direction(world, method, number)
    objective = lambda theta: naive_objective(world, method, theta, number)
    assert_gradient(objective, world.theta, found, directions=2)


@pytest.mark.parametrize("method", ["mix", "no_shadow", "no_gain", *JOINT])
def test_processes_that_hold_whole_groups_make_the_direction_of_one(world, method):
    """Also one without a demonstration, and one whose group agrees and has no policy gradient."""
    whole, _ = EVERY[method].update(world.step(), world.players)
    parts = in_processes(world.step(), world.players, EVERY[method].update, [[0, 1], [3], [2]])
    for player, g in whole.items():
        assert gap(summed([directions[player] for directions, _ in parts]), g) < 1e-12


# --- Schedules ----------------------------------------------------------------------------------------------


def test_by_turns_are_sft_and_grpo(world):
    world.with_config(steps=10, cold_start=0.3)
    sft, grpo = direction(world, "sft"), direction(world, "grpo")
    for number in range(6):
        assert gap(direction(world, "two_stage", number), sft if number < 3 else grpo) == 0
        assert gap(direction(world, "alternate", number), grpo if number % 2 else sft) == 0


@pytest.mark.parametrize("cold_start", [0.0, 0.29, 0.55, 1.0])
def test_the_cold_start_has_its_share_of_the_steps_and_each_stage_its_schedule(cold_start):
    config, cold, rule = Config(cold_start=cold_start), round(100 * cold_start), RIVALS["two_stage"]
    assert [rule.needs(config, k) for k in range(100)] == [(k < cold, k >= cold) for k in range(100)]
    stages = [(k, cold) for k in range(cold)] + [(k, 100 - cold) for k in range(100 - cold)]
    assert [rule.stage(config, k) for k in range(100)] == stages


# --- Limits -------------------------------------------------------------------------------------------------


def test_hpt_is_grpo_where_no_group_failed_and_sft_where_all_did(world):
    world.reward([1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0])  # the last group has no demonstration
    assert gap(direction(world, "hpt"), direction(world, "grpo")) == 0
    world.reward([0] * 12)
    assert gap(direction(world, "hpt"), direction(world, "sft")) == 0


def test_luffy_stands_still_where_all_rewards_agree(world):
    world.reward([1] * 12)
    world.demos.rewards = torch.ones(3, dtype=torch.float64)
    assert size(direction(world, "luffy")) == 0


@pytest.mark.parametrize("method", ["no_shadow", "no_gain"])
def test_bridge_without_a_part(world, method):
    """theta climbs the joint objective; w too without the shadow, and (1 - lam) J_SFT without the gain."""
    found, _ = EVERY[method].update(world.step(), world.players)
    sft = lambda theta, w: 0.6 * naive_j_sft(world, theta, w)
    joint = lambda theta, w: sft(theta, w) + 0.4 * naive_j_rl(world, theta, w)
    climbed = {"no_shadow": joint, "no_gain": sft}[method]
    assert found.keys() == {"theta", "w"}
    assert_gradient(lambda theta: joint(theta, world.w), world.theta, found["theta"])
    assert_gradient(lambda w: climbed(world.theta, w), world.w, found["w"])
