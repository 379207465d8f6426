"""Weights, advantages and the surrogate by hand; whole objectives and their gradients: see test_bridge.py."""

import math

import pytest
import torch

from bridge_min import losses
from bridge_min.losses import group_advantages, grpo_objective, token_weights

MASK = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0]], dtype=torch.bool)
WEIGHTS = token_weights(MASK.double())


def random_logp(seed, scale=0.5):
    g = torch.Generator().manual_seed(seed)
    return (-1 - scale * torch.rand(MASK.shape, generator=g, dtype=torch.float64)) * MASK


def test_weights_sum_to_one_and_share_by_token_or_by_sequence():
    assert token_weights(MASK)[MASK].tolist() == pytest.approx([1 / 4] * 4)
    assert losses.sequence_weights(MASK)[MASK].tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    for weigh in (token_weights, losses.sequence_weights):
        assert not weigh(MASK)[~MASK].any() and not weigh(MASK[:0]).any() and not weigh(~MASK & MASK).any()


def test_advantages_by_hand():
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    std = math.sqrt(3 / 16) + 1e-4
    expected = [0.75 / std, *[-0.25 / std] * 3, 0.5 / 0.5001, 0.5 / 0.5001, -0.5 / 0.5001, -0.5 / 0.5001]
    assert group_advantages(rewards, 4).tolist() == pytest.approx(expected)
    unscaled = [0.75, -0.25, -0.25, -0.25, 0.5, 0.5, -0.5, -0.5]
    assert group_advantages(rewards, 4, scale_by_std=False).tolist() == unscaled


def test_equal_rewards_have_advantage_exactly_zero_though_the_mean_is_rounded():
    """And those that almost agree have a small one."""
    assert group_advantages(torch.tensor([0.9, 0.9, 0.9]), 3).tolist() == [0, 0, 0]
    assert group_advantages(torch.tensor([1.0, 1.0 + 1e-6]), 2).abs().max() < 0.01


def gradient(logp, *arguments, **options):
    logp = logp.clone().requires_grad_()
    return torch.autograd.grad(grpo_objective(logp, *arguments, **options)[0], logp)[0]


def test_on_policy_the_gradient_is_the_policy_gradient():
    logp, A = random_logp(1), torch.tensor([1.5, -0.5], dtype=torch.float64)
    torch.testing.assert_close(gradient(logp, logp, A, WEIGHTS), A[:, None] * WEIGHTS)


def test_clipping_stops_the_gradient_only_where_it_would_go_further():
    old, weights = torch.full((2, 1), -1.0), torch.full((2, 1), 0.5)
    for rho, A, moves in ((1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False)):
        found = gradient(old + math.log(rho), old, torch.full((2,), A), weights)
        assert bool(found.abs().sum() > 0) is moves


def test_a_negative_advantage_pushes_no_token_beyond_thrice_its_probability():
    """Where one became 19,930 times as likely, it would have the step to itself."""
    old, A, weights = torch.full((1, 3), -10.0), torch.tensor([-1.0]), torch.full((1, 3), 1 / 3)
    logp = old + torch.tensor([2.9, 3.1, 19930.0]).log()
    assert gradient(logp, old, A, weights)[0].tolist() == pytest.approx([-2.9 / 3, 0, 0], rel=1e-5)
    J, stats = grpo_objective(logp, old, A, weights)
    assert float(J) == pytest.approx(-8.9 / 3) and float(stats["clipped"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("old", [(1.0, 0.5, -0.5, -1.0), (0.6, 0.7, 0.0, -0.6)], ids=["on policy", "off it"])
def test_the_kl_and_its_gradient_are_those_of_the_policy_against_the_reference(old):
    """In the mean over who sampled, of a vocabulary of four; not KL(ref || pi), whose gradient k3 has."""
    z = torch.tensor([1.0, 0.5, -0.5, -1.0], dtype=torch.float64, requires_grad=True)
    old, ref = (torch.tensor(x, dtype=z.dtype).log_softmax(0)[:, None] for x in (old, [-2.0, 0.0, 1.0, 1.5]))
    logp = z.log_softmax(0)[:, None]  # (4, 1)
    exact = (logp.exp() * (logp - ref)).sum()
    J, stats = grpo_objective(logp, old, torch.zeros(4), old.exp(), ref_logp=ref, kl=1.0)
    torch.testing.assert_close(stats["kl"], exact.detach())
    torch.testing.assert_close(*(torch.autograd.grad(f, z, retain_graph=True)[0] for f in (-J, exact)))


def test_the_kl_s_gradient_is_bounded_however_far_the_policy_goes():
    """Also where exp(ref_logp - logp) is infinite."""
    logp = torch.linspace(-300, 0, 3001)[:, None]  # (N, 1)
    for old, ref in ((-1.0, 0.0), (-1.0, -8.0), (-20.0, -1.0)):
        same = torch.ones_like(logp)
        found = gradient(logp, old * same, torch.zeros(3001), same, ref_logp=ref * same, kl=1.0)
        assert found.isfinite().all() and found.abs().max() < 3 * (abs(ref - old) + math.log(3))


def test_what_stands_outside_the_response_changes_nothing():
    logp, A = random_logp(1), torch.tensor([1.0, -1.0])
    wild = torch.where(MASK, logp, 1000.0)
    rest = (random_logp(2), A, WEIGHTS, 0.2, 0.2, random_logp(3), 0.1)
    assert grpo_objective(wild, *rest) == grpo_objective(logp, *rest)
