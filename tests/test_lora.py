"""w: where it starts, and what the merged policy is."""

import pytest
import torch
from conftest import SMALL

from bridge_min.base import init_params
from bridge_min.config import ConfigError, generator
from bridge_min.lora import init_lora, merge

THETA = init_params(SMALL, generator(0, 0, "init"))


def lora(*targets, rank=3):
    return init_lora(THETA, targets, rank, generator(0, 0, "lora"))


def test_merged_equals_unmerged():
    """A merged layer gives W x + scale B (A x), the adapter beside the layer; others are as before."""
    w = {name: value + 0.1 for name, value in lora("q_proj", "down_proj").items()}
    merged = merge(THETA, w, 1.7)
    for name, W in THETA.items():
        A, B = (w.get(name.replace(".weight", f".lora_{matrix}.weight")) for matrix in "AB")
        if name.split(".")[-2] in ("q_proj", "down_proj"):
            x = torch.randn(4, W.shape[1], generator=generator(2, 0, name))
            torch.testing.assert_close(x @ merged[name].T, x @ W.T + 1.7 * (x @ A.T @ B.T))
        else:
            assert merged[name] is W and A is B is None


def test_without_w_and_at_first_the_policy_is_theta():
    for merged in (merge(THETA, {}, 2.0), merge(THETA, lora("q_proj"), 2.0)):
        assert all(torch.equal(merged[name], W) for name, W in THETA.items())


@pytest.mark.parametrize("target, inputs, outputs", [("down_proj", 12, 8), ("k_proj", 8, 4)])
def test_a_is_uniform_within_one_over_the_root_of_its_inputs(target, inputs, outputs):
    w = lora(target, rank=300)
    A, B = (w[name] for name in list(w)[:2])
    assert A.shape == (300, inputs) and B.shape == (outputs, 300) and not B.any()
    assert float(A.abs().max()) == pytest.approx(inputs**-0.5, rel=0.01)
    assert float(A.var()) == pytest.approx(1 / inputs / 3, rel=0.1)


@pytest.mark.parametrize("target", ["qproj", "embed_tokens", "norm"])
def test_a_target_that_names_no_matrix_is_refused(target):
    with pytest.raises(ConfigError, match=rf"'{target}' names no matrix; there are .*q_proj"):
        lora(target)
