"""The teacher's weights w: a handwritten LoRA (2106.09685), and the only place where w meets theta.

w holds, for every targeted matrix W (out, in) of theta, A (rank, in) and B (out, rank). The policy that acts
has the weights W + scale * B A. A merged forward needs no change to the model: sampling, scoring, the shadow
and the export run the same code, at the cost of one small product per matrix. Read on in losses.py.
"""

from collections.abc import Sequence

import torch

from .config import require
from .model import Params


def init_lora(theta: Params, targets: Sequence[str], rank: int, generator: torch.Generator) -> Params:
    """A uniform in +-1/sqrt(in), B zero: at first the policy is the base, and only B's gradient is not zero.

    targets: ends of module names, for example ("q_proj", "v_proj"). Raises ConfigError if one matches no
    matrix.
    """
    w: Params = {}
    modules = [name.removesuffix(".weight") for name, W in theta.items() if W.dim() == 2]
    modules = [name for name in modules if "embed" not in name]  # tables, which PEFT has in another form
    ends = sorted({name.split(".")[-1] for name in modules})
    for target in targets:
        require(target in ends, f"lora_targets: {target!r} names no matrix; there are {', '.join(ends)}")
        for name in (name for name in modules if name.split(".")[-1] == target):
            W = theta[name + ".weight"]
            bound = W.shape[1] ** -0.5
            A = torch.empty(rank, W.shape[1]).uniform_(-bound, bound, generator=generator)
            w[name + ".lora_A.weight"] = A.to(W.device, W.dtype)
            w[name + ".lora_B.weight"] = W.new_zeros(len(W), rank)
    return w


def merge(theta: Params, w: Params, scale: float) -> Params:
    """The weights that act: W + scale * B A where w has a pair, W elsewhere."""
    merged = dict(theta)
    for name, A in w.items():
        if name.endswith(".lora_A.weight"):
            module, B = name.removesuffix(".lora_A.weight"), w[name.replace("lora_A", "lora_B")]
            merged[f"{module}.weight"] = theta[f"{module}.weight"] + scale * (B @ A)
    return merged
