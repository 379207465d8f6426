"""The update: every gradient against float64 finite differences of the objective written naively; limits;
invariances."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import World, assert_gradient, double, gap, size
from naive import naive_j_rl, naive_j_sft

from bridge_min.baselines import METHODS
from bridge_min.bridge import (
    adamw,
    ascend,
    bridge,
    first_order,
    gradients,
    j_rl,
    j_sft,
    mix,
    schedule,
    total,
    weighted,
)
from bridge_min.config import generator
from bridge_min.lora import init_lora, merge
from bridge_min.losses import sequence_weights
from bridge_min.model import Block, hidden_states
from bridge_min.tokenizer import EOS


def everything(world, **changes):
    return bridge(world.step(**changes), world.players)


def test_gradients_of_the_sft_objective(world):
    objective = weighted((1.0, j_sft(world.step())))
    g_theta, g_w, stats = gradients(objective, world.theta, world.w)
    assert float(stats["sft_loss"]) == pytest.approx(-float(naive_j_sft(world, world.theta, world.w)))
    assert_gradient(lambda theta: naive_j_sft(world, theta, world.w), world.theta, g_theta)
    assert_gradient(lambda w: naive_j_sft(world, world.theta, w), world.w, g_w)


OPTIONS = (
    {},
    {"clip_low": 0.02, "clip_high": 0.06},
    {"kl": 0.3},
    {"normaliser": "sequence"},
    {"temperature": 0.7},
)


@pytest.mark.parametrize("changes", OPTIONS, ids=str)
def test_gradients_of_the_rl_objective(world, changes):
    config = world.with_config(**changes)
    if config.kl:
        world.rollouts.ref_logp = world.logprobs(world.reference, None, world.rollouts)
    if config.normaliser == "sequence":
        world.rollouts.weights = sequence_weights(world.rollouts.mask.double())
    objective = weighted((1.0, j_rl(world.step())))
    g_theta, g_w, stats = gradients(objective, world.theta, world.w)
    assert float(stats["j_rl"]) == pytest.approx(float(naive_j_rl(world, world.theta, world.w)))
    assert_gradient(lambda theta: naive_j_rl(world, theta, world.w), world.theta, g_theta)
    assert_gradient(lambda w: naive_j_rl(world, world.theta, w), world.w, g_w)


def test_first_order_directions_are_the_three_equations(world):
    """The two-pass form against the three-term formula, each term naively and by finite differences."""
    directions, stats = everything(world)
    lam, theta, theta_hat, w = 0.4, world.theta, world.theta_hat, world.w

    def student(theta):
        return (1 - lam) * naive_j_sft(world, theta, w) + lam * naive_j_rl(world, theta, w)

    def teacher(w):
        gain = naive_j_rl(world, theta, w) - naive_j_rl(world, theta_hat, w)
        return (1 - lam) * naive_j_sft(world, theta, w) + lam * gain

    assert_gradient(student, theta, directions["theta"])
    assert_gradient(lambda theta_hat: naive_j_rl(world, theta_hat, w), theta_hat, directions["theta_hat"])
    assert_gradient(teacher, w, directions["w"])
    gain = naive_j_rl(world, theta, w) - naive_j_rl(world, theta_hat, w)
    assert float(stats["gain"]) == pytest.approx(float(gain))
    r = world.rollouts.select(world.rollouts.advantages.nonzero()[:, 0])
    for name, params in (("ratio", theta), ("ratio_hat", theta_hat)):
        rho = (world.logprobs(params, w, r) - r.logp).exp()[r.mask]
        assert stats[name] == pytest.approx(float(rho.mean()))


def test_two_backward_passes_per_micro_batch(world):
    """Demonstrations once, rollouts once at theta and once at theta_hat; and the naive three-term sum
    agrees."""
    calls = []
    logprobs = lambda *args: (calls.append(args[0] is not None), world.logprobs(*args))[1]
    directions, _ = bridge(replace(world.step(), logprobs=logprobs), world.players)
    assert len(calls) == 3
    sft_terms = weighted((1.0, j_sft(world.step())))
    rl_terms = weighted((1.0, j_rl(world.step())))
    s, g, h = (
        gradients(objective, theta, world.w)[1]
        for objective, theta in (
            (sft_terms, world.theta),
            (rl_terms, world.theta),
            (rl_terms, world.theta_hat),
        )
    )
    expected = {name: 0.6 * s[name] + 0.4 * (g[name] - h[name]) for name in world.w}
    assert gap(directions["w"], expected) < 1e-12


def test_unrolled_teacher_is_the_hypergradient(world):
    """Finite differences of the objective after one inner step, whose own gradients come from plain
    autograd."""
    directions, stats = everything(world, meta="unrolled", micro_batch=2)
    lam, eta = world.config.lam, world.config.eta

    def inner_step(objective, theta, w):
        theta = {name: value.clone().requires_grad_() for name, value in theta.items()}
        grads = torch.autograd.grad(objective(theta, w), list(theta.values()))
        return {
            name: (value + eta * g).detach() for (name, value), g in zip(theta.items(), grads, strict=True)
        }

    def joint(theta, w):
        return (1 - lam) * naive_j_sft(world, theta, w) + lam * naive_j_rl(world, theta, w)

    def after_one_step(w):
        theta_plus = inner_step(joint, world.theta, w)
        theta_hat_plus = inner_step(partial(naive_j_rl, world), world.theta_hat, w)
        return joint(theta_plus, w) - lam * naive_j_rl(world, theta_hat_plus, w)

    assert_gradient(after_one_step, world.w, directions["w"], directions=2, rel=1e-5)
    first, first_stats = everything(world, meta="first_order", micro_batch=64)
    assert stats == pytest.approx(first_stats)
    assert gap(directions["theta"], first["theta"]) < 1e-10
    assert gap(directions["theta_hat"], first["theta_hat"]) < 1e-10


def test_first_order_and_unrolled_agree_as_eta_vanishes(world):
    first, _ = everything(world)
    gaps = [gap(everything(world, meta="unrolled", eta=eta)[0]["w"], first["w"]) for eta in (1e-3, 1e-4, 0.0)]
    assert gaps[2] < 1e-12
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.1)  # the difference is of first order in eta


@pytest.mark.parametrize("meta", ["first_order", "unrolled"])
def test_rl_only_with_the_shadow_at_the_student_teaches_nothing(world, meta):
    world.players["theta_hat"] = world.theta
    directions, stats = everything(world, lam=1.0, meta=meta)
    assert size(directions["w"]) == 0 and float(stats["gain"]) == 0
    assert size(directions["theta"]) > 0


def test_sft_only_is_sft(world):
    directions, _ = everything(world, lam=0.0)
    assert size(directions["w"]) > 0
    g_theta, g_w, _ = gradients(weighted((1.0, j_sft(world.step()))), world.theta, world.w)
    assert gap(directions["theta"], g_theta) == 0 and gap(directions["w"], g_w) == 0
    rewarded = world.rollouts.advantages
    world.rollouts.advantages = -3 * rewarded
    assert gap(everything(world, lam=0.0)[0]["theta"], g_theta) == 0


@pytest.mark.parametrize("meta", ["first_order", "unrolled"])
def test_equal_rewards_give_a_zero_policy_gradient(world, meta):
    world.reward([1, 1, 1, 0, 0, 0] * 2)
    directions, stats = everything(world, meta=meta)
    assert stats["gain"] == 0
    assert size(directions["theta_hat"]) == 0
    only_sft = gradients(weighted((0.6, j_sft(world.step()))), world.theta, world.w)[0]
    assert gap(directions["theta"], only_sft) < 1e-12
    assert size(METHODS["grpo"](world.step(), world.players)[0]["theta"]) == 0


@pytest.mark.parametrize("meta", ["first_order", "unrolled"])
def test_the_shadow_never_sees_a_demonstration(world, meta):
    before, _ = everything(world, meta=meta)
    world.demos.tokens = (world.demos.tokens + 1) % 9
    after, _ = everything(world, meta=meta)
    assert gap(before["theta_hat"], after["theta_hat"]) == 0
    assert gap(before["theta"], after["theta"]) > 1e-6 and gap(before["w"], after["w"]) > 1e-6


def test_rows_without_advantage_are_left_out_but_counted(world):
    seen = []
    logprobs = lambda theta, w, part, *rest: (
        seen.append(len(part)),
        world.logprobs(theta, w, part, *rest),
    )[1]
    pruned, _ = bridge(replace(world.step(), logprobs=logprobs), world.players)
    assert sorted(seen) == [3, 6, 6]  # three demonstrations; six of twelve rollouts, twice
    whole = world.rollouts
    objective = [(1.0, partial(lambda part, theta, w: (naive_j_rl(world, theta, w), {}), whole))]
    assert gap(pruned["theta_hat"], gradients(objective, world.theta_hat, world.w)[0]) < 1e-12
    world.rollouts.ref_logp = world.logprobs(world.reference, None, whole)
    seen.clear()
    bridge(replace(world.step(kl=0.1), logprobs=logprobs), world.players)
    assert sorted(seen) == [3, 12, 12]  # with a KL term every row counts


@pytest.mark.parametrize(
    "changes", [{"recompute": True}, {"logit_tokens": 5}, {"micro_batch": 2}, {"offload": True}], ids=str
)
@pytest.mark.parametrize("select", ["none", "demo"])
def test_what_saves_memory_changes_nothing(world, changes, select):
    whole, stats = everything(world, select=select)
    saving, same = everything(world, select=select, **changes)
    for player, direction in whole.items():
        assert gap(saving[player], direction) < 1e-13 * max(1, size(direction)), player
    assert same == pytest.approx(stats, rel=1e-12)


def test_recompute_computes_each_block_twice_and_keeps_little(world, monkeypatch):
    """Of a block the backward pass needs a hundred numbers per token; of its input, one residual stream."""
    runs, forward, kept = [], Block.forward, {}
    monkeypatch.setattr(Block, "forward", lambda self, *args: (runs.append(1), forward(self, *args))[1])
    theta = {name: value.requires_grad_() for name, value in double(world.theta).items()}
    for recompute in (False, True):
        runs.clear()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):  # noqa: B023
            hidden = hidden_states(world.model, theta, world.rollouts.tokens, recompute)
            kept[recompute] = sum(sizes)
        assert len(runs) == 2
        hidden.sum().backward()
        assert len(runs) == (4 if recompute else 2)
    assert kept[True] < 0.1 * kept[False]


def test_bfloat16_directions_are_those_of_float64_roughly(world):
    """And a float32 master keeps float32 gradients."""
    exact, _ = everything(world)
    players = {name: {k: v.float() for k, v in params.items()} for name, params in world.players.items()}
    rough, _ = bridge(world.step(dtype="bfloat16", master="float32"), players)
    for player in ("theta", "theta_hat"):
        a, b = (
            torch.cat([d[k].double().flatten() for k in exact[player]])
            for d in (exact[player], rough[player])
        )
        assert {value.dtype for value in rough[player].values()} == {torch.float32}
        assert float(torch.cosine_similarity(a, b, dim=0)) > 0.995


@pytest.mark.parametrize("objective", ["sft", "rl"])
def test_the_end_of_text_gets_gradient(world, objective):
    """The part of the gradient that comes from the end of text is there, and makes it likelier where it is
    good."""
    batch = world.demos if objective == "sft" else world.rollouts
    row, end = 0, int(batch.mask[0].nonzero().max())
    assert batch.tokens[row, end] == EOS

    def logprob(theta):
        return float(world.logprobs(theta, world.w, batch)[row, end])

    def direction():
        terms = {"sft": j_sft, "rl": j_rl}[objective](world.step())
        return gradients(weighted((1.0, terms)), world.theta, world.w)[0]

    whole = direction()
    batch.weights = batch.weights.index_put(
        (torch.tensor(row), torch.tensor(end)), torch.zeros((), dtype=torch.float64)
    )
    without = direction()
    eos_part = {name: whole[name] - without[name] for name in whole}
    assert size(eos_part) > 1e-4
    moved = {name: world.theta[name] + 1e-3 * eos_part[name] for name in whole}
    assert logprob(moved) > logprob(world.theta)


def test_without_the_shadow_theta_and_w_climb_the_joint_objective(world):
    """theta as mixing moves it, at the weights that act; w by the joint objective too."""
    directions, stats = everything(world, meta="no_shadow")
    assert directions.keys() == {"theta", "w"} and "gain" not in stats
    mixed, _ = mix(world.step(), {"theta": merge(world.theta, world.w, 1.5)})
    assert gap(directions["theta"], mixed["theta"]) < 1e-12
    first, _ = first_order(world.step(), world.players)
    assert gap(directions["theta"], first["theta"]) == 0 and gap(directions["w"], first["w"]) > 1e-6

    def joint(w):
        return 0.6 * naive_j_sft(world, world.theta, w) + 0.4 * naive_j_rl(world, world.theta, w)

    assert_gradient(joint, world.w, directions["w"])


def test_lora_a_is_still_at_first_and_then_everything_moves():
    """With B = 0 the gradient in A is exactly zero; after one step of w it is not. All tensors of all players
    move."""
    world = World()
    world.players["w"] = double(init_lora(world.theta, ("q_proj", "v_proj"), 2, generator(5, 0, "lora")))
    players = world.players
    before = {player: {k: v.clone() for k, v in params.items()} for player, params in players.items()}
    optimizers = {name: adamw(params) for name, params in players.items()}
    for step in range(2):
        directions, _ = everything(world)
        A = [float(v.abs().max()) for name, v in directions["w"].items() if "lora_A" in name]
        B = [float(v.abs().max()) for name, v in directions["w"].items() if "lora_B" in name]
        assert (max(A) == 0) if step == 0 else (min(A) > 0)
        assert min(B) > 0
        for name, params in players.items():
            ascend(optimizers[name], params, directions[name], 1e-2, 1.0)
    for player, params in players.items():
        for name, value in params.items():
            assert not torch.equal(value, before[player][name]), (player, name)


def test_one_step_of_each_player_climbs_its_own_objective(world):
    joint = weighted(
        (0.6, j_sft(world.step())),
        (0.4, j_rl(world.step())),
    )
    rl = weighted((1.0, j_rl(world.step())))
    before = float(total(joint, world.theta, world.w)[0]), float(total(rl, world.theta_hat, world.w)[0])
    directions, _ = everything(world)
    for name in ("theta", "theta_hat"):
        params = world.players[name]
        ascend(adamw(params), params, directions[name], 1e-4, 1.0)
    assert float(total(joint, world.theta, world.w)[0]) > before[0]
    assert float(total(rl, world.theta_hat, world.w)[0]) > before[1]


def test_clipping_keeps_the_direction_and_bounds_the_norm():
    params = {"a": torch.zeros(3), "b": torch.zeros(2)}
    direction = {"a": torch.tensor([3.0, 0.0, 0.0]), "b": torch.tensor([0.0, 4.0])}
    optimizer = torch.optim.SGD(params.values(), lr=1.0, maximize=True)
    ascend(optimizer, params, direction, 0.5, 1.0)
    torch.testing.assert_close(params["a"], torch.tensor([0.3, 0.0, 0.0]))
    torch.testing.assert_close(params["b"], torch.tensor([0.0, 0.4]))
    ascend(optimizer, params, {"a": torch.zeros(3), "b": torch.tensor([0.5, 0.0])}, 1.0, 1.0)
    torch.testing.assert_close(params["b"], torch.tensor([0.5, 0.4]))  # within the norm nothing is scaled


def test_weight_decay_shrinks_what_has_no_gradient():
    params = {"a": torch.ones(3)}
    ascend(adamw(params, 0.1), params, {"a": torch.zeros(3)}, 0.5, 1.0)
    torch.testing.assert_close(params["a"], torch.full((3,), 0.95))


def test_schedule_warms_up_and_decays_to_a_tenth():
    pace = [schedule(step, 100, 10) for step in range(100)]
    assert pace[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert sorted(pace[10:], reverse=True) == pace[10:]
    assert schedule(100, 100, 10) == pytest.approx(0.1)
