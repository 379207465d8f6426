"""Losses against their definitions, written out with loops, and their limits."""

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


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_the_next_token_at_the_temperature(temperature):
    g = torch.Generator().manual_seed(0)
    logits, tokens = torch.randn(2, 4, 5, generator=g), torch.randint(5, (2, 4), generator=g)
    found = losses.token_logprobs(logits[MASK.roll(-1, 1)], tokens, MASK, temperature)
    expected = torch.zeros(2, 4)
    for n, t in MASK.nonzero().tolist():
        expected[n, t] = (logits[n, t - 1] / temperature).log_softmax(-1)[tokens[n, t]]
    torch.testing.assert_close(found, expected)


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


def test_j_rl_is_its_definition():
    logp, old, ref, high, kl = random_logp(1), random_logp(2), random_logp(3), 0.05, 0.2
    for A in ([1.0, -0.5], [-2.0, 0.7], [0.0, 1.0]):
        value, clipped, kls = 0.0, 0.0, 0.0
        for n, t in MASK.nonzero().tolist():
            rho, d = math.exp(logp[n, t] - old[n, t]), float(ref[n, t] - logp[n, t])
            value += min(rho * A[n], min(max(rho, 0.9), 1 + high) * A[n]) / 4
            clipped += (rho > 1 + high if A[n] > 0 else rho < 0.9 and A[n] < 0) / 4
            kls += (math.exp(d) - d - 1) / 4
        J, stats = grpo_objective(logp, old, torch.tensor(A), WEIGHTS, 0.1, high, ref, kl)
        assert float(J) == pytest.approx(value - kl * kls)
        assert float(stats["clipped"]) == pytest.approx(clipped)
        assert float(stats["kl"]) == pytest.approx(kls)


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


def test_the_kl_is_of_the_policy_against_the_reference():
    """Averaged over the policy's own samples k3 is KL(pi || ref), not KL(ref || pi)."""
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    logp, ref = p.log()[:, None], q.log()[:, None]
    _, stats = grpo_objective(logp, logp, torch.zeros(3), p[:, None], ref_logp=ref, kl=1.0)
    assert float(stats["kl"]) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)


def test_what_stands_outside_the_response_changes_nothing():
    logp, A = random_logp(1), torch.tensor([1.0, -1.0])
    wild = torch.where(MASK, logp, 1000.0)
    rest = (random_logp(2), A, WEIGHTS, 0.2, 0.2, random_logp(3), 0.1)
    assert grpo_objective(wild, *rest) == grpo_objective(logp, *rest)
