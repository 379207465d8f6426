"""What makes the same code serve large models: another Runtime for the loop. Precision is here; recomputation
is in recompute.py, many processes are in processes.py."""

import os

import torch

from ..bridge import Runtime, gradients, policy_logprobs
from ..config import Config
from ..lora import merge
from ..model import GPT, Params
from ..rollout import Rows
from .processes import shared_runtime
from .recompute import chunked_logprobs, recompute_blocks


def scaled_runtime(model: GPT, config: Config) -> Runtime:
    """The runtime that `dtype` and `recompute` ask for, shared by the processes that torchrun has started."""
    dtype, score = getattr(torch, config.dtype), policy_logprobs
    cast = lambda params: {name: W.to(dtype) for name, W in params.items()}
    if config.recompute:
        recompute_blocks(model)
        score = chunked_logprobs

    def logprobs(W: Params, rows: Rows, temperature: float = 1.0) -> torch.Tensor:
        """As bridge.policy_logprobs. Cast in here, so that gradients are summed as precisely as theta is."""
        return score(model, cast(W), rows, temperature)

    def acting(theta: Params, w: Params) -> Params:
        with torch.no_grad():
            return cast(merge(theta, w, config.lora_scale))

    runtime = Runtime(model, logprobs, gradients, acting)
    return shared_runtime(runtime, config) if "TORCHELASTIC_RUN_ID" in os.environ else runtime
