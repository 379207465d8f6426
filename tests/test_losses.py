"""Losses against their definitions, written out with loops; limits; what the end of text gets."""

import math
from functools import partial

import pytest
import torch

from bridge_min.losses import (
    group_advantages,
    grpo_loss,
    sequence_weights,
    sft_loss,
    token_logprobs,
    token_weights,
)

MASK = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0]], dtype=torch.bool)


EACH = torch.tensor([[False, True, True, True]] * 2)  # all that can be predicted


def random_logp(seed, scale=0.5):
    g = torch.Generator().manual_seed(seed)
    return (-1 - scale * torch.rand(MASK.shape, generator=g, dtype=torch.float64)) * MASK


def test_token_logprobs_are_those_of_the_next_token_at_the_temperature():
    g = torch.Generator().manual_seed(0)
    logits, tokens = torch.randn(2, 4, 5, generator=g), torch.randint(5, (2, 4), generator=g)
    for temperature in (1.0, 0.7):
        logp = token_logprobs(logits, torch.eye(5), tokens, EACH, temperature)
        assert logp[:, 0].tolist() == [0, 0]
        for n in range(2):
            for t in range(1, 4):
                expected = torch.log_softmax(logits[n, t - 1] / temperature, -1)[tokens[n, t]]
                assert logp[n, t] == pytest.approx(float(expected), abs=1e-6)
    score = partial(token_logprobs, logits, torch.eye(5), tokens)
    assert torch.equal(score(EACH, 0), score(EACH, 1.0))
    torch.testing.assert_close(score(MASK), score(EACH) * MASK)


@pytest.mark.parametrize("mask", [EACH, MASK], ids=["each", "response"])
@pytest.mark.parametrize("at_once", [1, 3, 8, 100])
def test_token_logprobs_do_not_depend_on_how_many_logits_exist_at_once(at_once, mask):
    g = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in ((2, 4, 6), (5, 6)))
    tokens = torch.randint(5, (2, 4), generator=g)
    hidden.requires_grad_(), head.requires_grad_()
    slope = torch.randn(2, 4, generator=g, dtype=torch.float64)
    expected = torch.zeros(2, 4, dtype=torch.float64)
    expected[:, 1:] = (hidden @ head.T / 0.7).log_softmax(-1)[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]
    expected = expected * mask
    logp = token_logprobs(hidden, head, tokens, mask, 0.7, at_once)
    torch.testing.assert_close(logp, expected)
    for found, wanted in zip(
        *(torch.autograd.grad((x * slope).sum(), (hidden, head)) for x in (logp, expected)), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_no_tensor_of_all_logits_exists_in_either_pass():
    """Not even for a moment: every tensor that any operation returns is watched."""
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(
                x.numel()
                for x in (out if isinstance(out, tuple | list) else (out,))
                if isinstance(x, torch.Tensor)
            )
            return out

    hidden, head = torch.randn(4, 25, 6, requires_grad=True), torch.randn(50, 6, requires_grad=True)
    tokens, mask = torch.randint(50, (4, 25)), torch.arange(25)[None].repeat(4, 1) >= 5
    for at_once, most in ((10, 10 * 50), (80, 80 * 50), (100, 80 * 50)):  # of 100 tokens 80 are asked for
        sizes.clear()
        with Watch():
            token_logprobs(hidden, head, tokens, mask, 0.7, at_once).sum().backward()
        assert max(sizes) == max(most, hidden.numel())


def test_the_backward_pass_keeps_no_logits_where_they_come_in_parts():
    hidden, head = torch.randn(4, 25, 6, requires_grad=True), torch.randn(50, 6, requires_grad=True)
    tokens, kept, mask = torch.randint(50, (4, 25)), {}, torch.arange(25)[None].repeat(4, 1) > 0
    for at_once in (50, 100):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):  # noqa: B023
            token_logprobs(hidden, head, tokens, mask, 0.7, at_once)
        kept[at_once] = sum(sizes)
    assert kept[100] > 4 * 24 * 50 > 2 * kept[50]


def test_weights_sum_to_one_and_share_by_token_or_by_sequence():
    assert token_weights(MASK)[MASK].tolist() == pytest.approx([1 / 4] * 4)
    assert sequence_weights(MASK)[MASK].tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    for weights in (token_weights(MASK), sequence_weights(MASK)):
        assert weights[~MASK].abs().sum() == 0


def test_sft_loss_is_the_mean_over_response_tokens():
    logp = random_logp(1)
    assert float(sft_loss(logp, token_weights(MASK))) == pytest.approx(-float(logp[MASK].mean()))


def test_advantages_by_hand():
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 0.0, 0.0])
    A = group_advantages(rewards, 4)
    std = math.sqrt(3 / 16)
    assert A[:4].tolist() == pytest.approx([0.75 / (std + 1e-4)] + [-0.25 / (std + 1e-4)] * 3)
    assert A[4:8].tolist() == [0, 0, 0, 0]
    assert group_advantages(torch.full((3,), 0.9), 3).tolist() == [
        0,
        0,
        0,
    ]  # exactly, though the mean is rounded
    assert A[8:].tolist() == pytest.approx([0.5 / 0.5001, 0.5 / 0.5001, -0.5 / 0.5001, -0.5 / 0.5001])
    assert group_advantages(rewards, 4, scale_by_std=False)[:4].tolist() == pytest.approx(
        [0.75, -0.25, -0.25, -0.25]
    )


def test_advantages_do_not_blow_up_when_rewards_almost_agree():
    A = group_advantages(torch.tensor([1.0, 1.0 + 1e-6]), 2)
    assert A.abs().max() < 0.01


def test_advantages_do_not_see_other_groups_nor_a_shift_of_rewards():
    a, b = torch.rand(2, 6, generator=torch.Generator().manual_seed(3))
    both = group_advantages(torch.cat((a, b)), 6)
    assert torch.equal(both[:6], group_advantages(a, 6))
    assert torch.equal(both[6:], group_advantages(b, 6))
    torch.testing.assert_close(group_advantages(a + 5, 6), group_advantages(a, 6), atol=1e-4, rtol=1e-4)


def naive_grpo(logp, old, A, weights, low, high, ref=None, kl=0.0):
    value = 0.0
    for n, t in MASK.nonzero().tolist():
        rho = math.exp(logp[n, t] - old[n, t])
        surrogate = min(rho * A[n], min(max(rho, 1 - low), 1 + high) * A[n])
        d = float(ref[n, t] - logp[n, t]) if kl else 0.0
        value += weights[n, t] * (surrogate - kl * (math.exp(d) - d - 1))
    return float(-value)


@pytest.mark.parametrize("weigh", [token_weights, sequence_weights])
@pytest.mark.parametrize("high", [0.05, 0.3])
@pytest.mark.parametrize("kl", [0.0, 0.2])
def test_grpo_loss_is_its_definition(weigh, high, kl):
    logp, old, ref = random_logp(1), random_logp(2), random_logp(3)
    for A in ([1.0, -0.5], [-2.0, 0.7], [0.0, 1.0]):
        loss, stats = grpo_loss(logp, old, torch.tensor(A), weigh(MASK).double(), 0.1, high, ref, kl)
        assert float(loss) == pytest.approx(
            naive_grpo(logp, old, A, weigh(MASK).double(), 0.1, high, ref, kl)
        )
        outside = [
            weigh(MASK)[n, t] * (rho > 1 + high if A[n] > 0 else rho < 0.9 and A[n] < 0)
            for n, t in MASK.nonzero().tolist()
            for rho in [math.exp(logp[n, t] - old[n, t])]
        ]
        assert float(stats["clipped"]) == pytest.approx(float(sum(outside)))


def test_on_policy_the_ratio_is_one_and_the_gradient_is_the_policy_gradient():
    logp = random_logp(1).requires_grad_()
    A, weights = torch.tensor([1.5, -0.5], dtype=torch.float64), token_weights(MASK).double()
    loss, stats = grpo_loss(logp, logp.detach(), A, weights)
    (gradient,) = torch.autograd.grad(loss, logp)
    assert float(stats["ratio"]) == pytest.approx(1)
    torch.testing.assert_close(gradient, -A[:, None] * weights)


def test_clipping_stops_the_gradient_only_where_it_would_go_further():
    old, weights = torch.full((2, 1), -1.0), torch.full((2, 1), 0.5)
    for rho, A, moves in ((1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False)):
        logp = (old + math.log(rho)).requires_grad_()
        loss, _ = grpo_loss(logp, old, torch.full((2,), A), weights, 0.2, 0.2)
        (gradient,) = torch.autograd.grad(loss, logp)
        assert bool(gradient.abs().sum() > 0) is moves


def test_kl_is_never_negative_and_pulls_towards_the_reference():
    ref, weights = random_logp(3), token_weights(MASK).double()
    for seed in range(5):
        logp = random_logp(seed).requires_grad_()
        loss, stats = grpo_loss(
            logp, logp.detach(), torch.zeros(2, dtype=torch.float64), weights, ref_logp=ref, kl=1.0
        )
        (gradient,) = torch.autograd.grad(loss, logp)
        assert stats["kl"] >= 0
        apart = ((logp - ref).abs() > 1e-9) & MASK
        assert ((gradient * (logp - ref).detach())[apart] > 0).all()  # descending lowers the distance
    _, stats = grpo_loss(ref, ref, torch.zeros(2, dtype=torch.float64), weights, ref_logp=ref, kl=1.0)
    assert float(stats["kl"]) == 0


def test_kl_estimator_is_of_the_policy_against_the_reference():
    """Averaged over the policy's own samples k3 is KL(pi || ref), the sum of p log(p / q); not KL(ref ||
    pi)."""
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    one, weights = torch.zeros(1), torch.ones(1, 1)
    estimate = sum(
        float(p[i])
        * float(
            grpo_loss(
                p[i].log().view(1, 1),
                p[i].log().view(1, 1),
                one,
                weights,
                ref_logp=q[i].log().view(1, 1),
                kl=1.0,
            )[1]["kl"]
        )
        for i in range(3)
    )
    assert estimate == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)


def test_tokens_outside_the_response_change_nothing():
    old, ref, weights = random_logp(2), random_logp(3), token_weights(MASK).double()
    logp = random_logp(1)
    wild = torch.where(MASK, logp, 1000.0)
    A = torch.tensor([1.0, -1.0])
    for x in (logp, wild):
        assert sft_loss(x, weights) == sft_loss(logp, weights)
        assert (
            grpo_loss(x, old, A, weights, ref_logp=ref, kl=0.1)[0]
            == grpo_loss(logp, old, A, weights, ref_logp=ref, kl=0.1)[0]
        )
