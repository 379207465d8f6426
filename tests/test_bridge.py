"""The update: every direction against float64 finite differences of the objectives written naively; limits;
invariances; the optimizer step."""

from functools import partial

import pytest
import torch
from conftest import EOS, assert_gradient, double, gap, size
from naive import naive_j_rl, naive_j_sft

from bridge_min import bridge
from bridge_min.bridge import METHODS, gradients, j_rl, j_sft
from bridge_min.config import generator
from bridge_min.lora import init_lora
from bridge_min.losses import sequence_weights
from bridge_min.optimizer import ascend, moments, schedule, total_norm

METAS = pytest.mark.parametrize("meta", ["first_order", "unrolled"])


def directions(world, method="first_order", **changes):
    return METHODS[method].update(world.step(**changes), world.players)


def naive_joint(world, theta, w):
    lam = world.config.lam
    return (1 - lam) * naive_j_sft(world, theta, w) + lam * naive_j_rl(world, theta, w)


def assert_both_gradients(world, term, naive):
    """Of one objective, in theta and in w; returns its statistics."""
    g_theta, g_w, stats = gradients(world.step(), [term], world.theta, world.w)
    assert_gradient(lambda theta: naive(world, theta, world.w), world.theta, g_theta)
    assert_gradient(lambda w: naive(world, world.theta, w), world.w, g_w)
    return stats


# --- The objectives and the three players -------------------------------------------------------------------


def test_gradients_of_j_sft(world):
    stats = assert_both_gradients(world, j_sft(world.step()), naive_j_sft)
    assert float(stats["sft_loss"]) == pytest.approx(-float(naive_j_sft(world, world.theta, world.w)))


OPTIONS = ({}, {"clip_low": 0.05, "clip_high": 0.06}, {"kl": 0.3}, {"normaliser": "sequence"})


@pytest.mark.parametrize("changes", [*OPTIONS, {"temperature": 0.7}], ids=str)
def test_gradients_of_j_rl(world, changes):
    config = world.with_config(**changes)
    if config.kl:
        world.rollouts.ref_logp = world.run.logprobs(world.reference, world.rollouts) + 0.1
    if config.normaliser == "sequence":
        world.rollouts.weights = sequence_weights(world.rollouts.mask.double())
    stats = assert_both_gradients(world, j_rl(world.step()), naive_j_rl)
    assert float(stats["j_rl"]) == pytest.approx(float(naive_j_rl(world, world.theta, world.w)))
    if config.clip_low < 0.1:
        logp = world.run.logprobs(world.run.acting(world.theta, world.w), world.rollouts)
        rho, A = (logp - world.rollouts.logp).exp(), world.rollouts.advantages[:, None]
        high, low, weights = (A > 0) & (rho > 1.06), (A < 0) & (rho < 0.95), world.rollouts.weights
        assert high.any() and low.any()
        assert float(stats["clipped"]) == pytest.approx(float(weights[high | low].sum()))
        assert float(stats["ratio"]) == pytest.approx(float((weights * rho * (A != 0)).sum()))


def test_first_order_directions_are_the_three_equations(world):
    found, stats = directions(world)
    lam, theta, theta_hat, w = world.config.lam, world.theta, world.theta_hat, world.w

    gain = lambda w: naive_j_rl(world, theta, w) - naive_j_rl(world, theta_hat, w)
    teacher = lambda w: (1 - lam) * naive_j_sft(world, theta, w) + lam * gain(w)
    assert_gradient(lambda theta: naive_joint(world, theta, w), theta, found["theta"])
    assert_gradient(lambda theta_hat: naive_j_rl(world, theta_hat, w), theta_hat, found["theta_hat"])
    assert_gradient(teacher, w, found["w"])
    assert float(stats["gain"]) == pytest.approx(float(gain(w)))


def test_unrolled_teacher_is_the_hypergradient(world):
    """Of the objective after one inner step, whose own gradients come from plain autograd."""
    found, stats = directions(world, "unrolled")
    lam, eta = world.config.lam, world.config.eta

    def inner_step(objective, theta, w):
        theta = {name: value.clone().requires_grad_() for name, value in theta.items()}
        g = torch.autograd.grad(objective(theta, w), list(theta.values()))
        return {k: (v + eta * step).detach() for (k, v), step in zip(theta.items(), g, strict=True)}

    def after_one_step(w):
        theta_plus = inner_step(partial(naive_joint, world), world.theta, w)
        theta_hat_plus = inner_step(partial(naive_j_rl, world), world.theta_hat, w)
        return naive_joint(world, theta_plus, w) - lam * naive_j_rl(world, theta_hat_plus, w)

    assert_gradient(after_one_step, world.w, found["w"], directions=2, rel=1e-5)
    first, first_stats = directions(world)
    assert all(gap(found[player], first[player]) < 1e-10 for player in ("theta", "theta_hat"))
    assert gap(stats, first_stats) < 1e-12


def test_the_rivals_here_climb_theta_alone(world):
    """SFT, GRPO and their mixture, as if there were no w."""
    for method, naive in {"sft": naive_j_sft, "grpo": naive_j_rl, "mix": naive_joint}.items():
        (g,) = directions(world, method)[0].values()
        assert_gradient(lambda theta, naive=naive: naive(world, theta, {}), world.theta, g, 1)


def test_a_new_method_is_a_function_and_a_line(world, monkeypatch):
    """GRPO with an entropy bonus, estimated on the rollouts' tokens."""

    def with_entropy(s):
        bonus = lambda logp, part: (-(part.weights * logp).sum(), {})
        return [j_rl(s), bridge.Term(0.01, bonus, s.rollouts)]

    monkeypatch.setitem(METHODS, "entropy", bridge.Method(partial(bridge.climb, with_entropy)))

    def naive(theta):
        logp, own = world.run.logprobs(theta, world.rollouts), world.rollouts.mask
        return naive_j_rl(world, theta, {}) - 0.01 * logp[own].mean()

    assert_gradient(naive, world.theta, directions(world, "entropy")[0]["theta"])


# --- Limits -------------------------------------------------------------------------------------------------


@METAS
def test_rl_only_is_grpo_and_with_the_shadow_at_the_student_teaches_nothing(world, meta):
    world.players["theta_hat"] = world.theta
    found, stats = directions(world, meta, lam=1.0)
    assert size(found["w"]) == 0 and float(stats["gain"]) == 0
    g_theta, _, _ = gradients(world.step(), [j_rl(world.step())], world.theta, world.w)
    assert gap(found["theta"], g_theta) < 1e-12 and gap(found["theta_hat"], g_theta) < 1e-12


def test_with_the_shadow_at_the_student_the_gain_s_part_vanishes(world):
    world.players["theta_hat"] = world.theta
    found, _ = directions(world)
    _, g_w, _ = gradients(world.step(), [j_sft(world.step(), 0.6)], world.theta, world.w)
    assert gap(found["w"], g_w) < 1e-12 and size(g_w) > 1e-3


def test_sft_only_is_sft(world):
    found, _ = directions(world, lam=0.0)
    g_theta, g_w, _ = gradients(world.step(), [j_sft(world.step())], world.theta, world.w)
    assert gap(found["theta"], g_theta) == 0 and gap(found["w"], g_w) == 0


@METAS
def test_equal_rewards_give_exactly_zero(world, meta):
    world.reward([1, 1, 1, 0, 0, 0] * 2)
    found, stats = directions(world, meta)
    assert stats["gain"] == 0 and size(found["theta_hat"]) == 0
    g_theta, g_w, _ = gradients(world.step(), [j_sft(world.step(), 0.6)], world.theta, world.w)
    assert gap(found["theta"], g_theta) < 1e-12 and (meta == "unrolled" or gap(found["w"], g_w) < 1e-12)
    assert size(directions(world, "grpo")[0]["theta"]) == 0


@METAS
def test_the_shadow_gets_no_demonstrations(world, meta):
    before, _ = directions(world, meta)
    world.demos.tokens = (world.demos.tokens + 1) % 9
    after, _ = directions(world, meta)
    assert gap(before["theta_hat"], after["theta_hat"]) == 0
    assert gap(before["theta"], after["theta"]) > 1e-6 and gap(before["w"], after["w"]) > 1e-6


@pytest.mark.parametrize("objective", [j_sft, j_rl])
def test_the_end_of_text_gets_gradient(world, objective):
    """Its part of the gradient is there, and makes it likelier where it is good."""
    rows = world.demos if objective == j_sft else world.rollouts
    rows.weights = rows.weights * (rows.tokens == EOS)
    g = gradients(world.step(), [objective(world.step())], world.theta, world.w)[0]
    moved = {name: world.theta[name] + 1e-3 * g[name] for name in g}
    logp = lambda theta: world.run.logprobs(world.run.acting(theta, world.w), rows)[0]
    assert size(g) > 1e-3 and (logp(moved) > logp(world.theta))[rows.tokens[0] == EOS].all()


# --- Invariances --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*METHODS])
def test_micro_batches_order_and_padding_change_nothing(world, method):
    expected, demos, rollouts = directions(world, method)[0], world.demos, world.rollouts
    order = torch.tensor([2, 0, 1, 3])  # of groups
    within = torch.tensor([[2, 0, 1], [0, 1, 2], [1, 2, 0], [2, 1, 0]])
    moved = demos.take(order[:3]), rollouts.take((order[:, None] * 3 + within).flatten())
    pad = lambda value: torch.nn.functional.pad(value, (0, 3)) if value.dim() == 2 else value
    padded = demos.each(pad), rollouts.each(pad)
    for rows, micro_batch in (((demos, rollouts), 1), (moved, 64), (moved, 2), (padded, 64)):
        world.demos, world.rollouts = rows
        found, _ = directions(world, method, micro_batch=micro_batch)
        for player in found:
            assert gap(found[player], expected[player]) < 1e-12
    assert size(expected["theta"]) > 1e-3


def test_rows_without_advantage_are_not_computed_unless_there_is_a_kl_term(world):
    assert len(j_rl(world.step()).rows) == 6 and len(j_rl(world.step(kl=0.1)).rows) == 12


# --- The optimizer step -------------------------------------------------------------------------------------


def test_with_b_zero_the_gradient_of_a_is_exactly_zero_and_from_then_on_it_is_not(world):
    theta = {name: value.float() for name, value in world.theta.items()}
    w = world.players["w"] = double(init_lora(theta, ("q_proj", "v_proj"), 2, generator(5, 0, "lora")))
    for step in range(2):
        found = directions(world)[0]["w"]
        A, B = ([size({0: g}) for k, g in found.items() if matrix in k] for matrix in ("lora_A", "lora_B"))
        assert min(B) > 0 and ((max(A) == 0) if step == 0 else (min(A) > 0))
        ascend({"w": w, **moments({"w": w})}, "w", found, total_norm(found), 1e-2, 1.0, 0)


@pytest.mark.parametrize("a, b, clipped", [(3.0, 4.0, (0.6, 0.8)), (0.0, 0.5, (0.0, 0.5))])
def test_a_direction_is_clipped_to_the_norm_of_all_its_tensors_and_is_else_kept(a, b, clipped):
    g = {"a": torch.tensor([a, 0.0]), "b": torch.tensor([b])}
    w = {name: torch.zeros_like(value) for name, value in g.items()}
    state = {"w": w, **moments({"w": w})}
    ascend(state, "w", g, total_norm(g), 1.0, 1.0, 0)
    assert [float(state["w.m"][k][0]) / -0.1 for k in "ab"] == pytest.approx(clipped)  # Adam descends -g


def test_the_step_is_adam_uphill():
    """As torch.optim has it, over three steps."""
    params = {"a": torch.randn(5, generator=generator(0, 0, "a")), "b": torch.ones(2, 2)}
    theirs = {name: value.clone() for name, value in params.items()}
    optimizer = torch.optim.AdamW(theirs.values(), 0.01, (0.9, 0.95), weight_decay=0.0, maximize=True)
    state = {"w": params, **moments({"w": params})}
    for number in range(3):
        g = {k: torch.randn(v.shape, generator=generator(0, number, k)) for k, v in params.items()}
        for name, value in theirs.items():
            value.grad = g[name].clone()
        optimizer.step()
        ascend(state, "w", g, total_norm(g), 0.01, 100.0, number)
    torch.testing.assert_close(params, theirs)


def test_the_step_size_warms_up_and_decays_to_a_tenth():
    pace = [schedule(step, 100, 10) for step in range(101)]
    assert pace[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert pace[10] == 1 and sorted(pace[10:], reverse=True) == pace[10:] and pace[100] == pytest.approx(0.1)
