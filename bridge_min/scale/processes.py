"""Many processes, on one machine or several.

    torchrun --nproc_per_node=4 train.py tiny_configs/arith.py

Each keeps a slice of every tensor of the players and of their moments (of its numbers, in one row), and
whole groups from sampling to loss. Weights are gathered before a gradient and the gradient is summed and
sliced after it, at its edges, so that processes may have different numbers of passes, also none. What else
crosses is sums. Since randomness is drawn for the whole batch and then sliced, N processes make the run of
one, up to the order of rounding.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..bridge import Objective, Runtime, Stats, Step
from ..config import Config, require
from ..model import Params


@contextmanager
def joined(device: str) -> Iterator[None]:
    """In here, the processes that torchrun has started work together; the first one prints. With "cuda" each
    has a GPU of its own. Raises ConnectionError if one of the others is lost: with gloo at once if it died,
    after half an hour if it is stuck."""
    local = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        require(local < torch.cuda.device_count(), f"process {local} here has no GPU of its own")
        torch.cuda.set_device(local)
    patience = timedelta(minutes=30)  # with another process, which may be saving or sampling
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=patience)
    if dist.get_rank():
        sys.stdout = open(os.devnull, "w")
    try:
        yield
        dist.barrier()  # who leaves early tears the connections of the others
        os._exit(0)  # a thread of gloo that comes late to Python's own clean-up aborts the process
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise ConnectionError(f"process {dist.get_rank()}: another process was lost ({error})") from None
        raise


def shared_runtime(runtime: Runtime, config: Config) -> Runtime:
    """The runtime's functions for players that are kept in slices. Raises ConfigError for what processes
    cannot share."""
    rank, processes, shapes = dist.get_rank(), dist.get_world_size(), {}
    require(config.meta != "unrolled" or config.method != "bridge", "meta = 'unrolled': take one process")
    require(config.prompts >= processes, f"prompts = {config.prompts} do not reach for {processes} processes")

    def keep(params: Params) -> Params:
        shapes.update({name: W.shape for name, W in params.items()})
        padded = {name: F.pad(W.flatten(), (0, -W.numel() % processes)) for name, W in params.items()}
        return {name: W.chunk(processes)[rank].clone() for name, W in padded.items()}

    def full(params: Params) -> Params:
        return {name: together(mine.detach(), shapes[name]) for name, mine in params.items()}

    def together(mine: Tensor, shape: torch.Size) -> Tensor:
        slices = [torch.empty_like(mine) for _ in range(processes)]
        dist.all_gather(slices, mine)
        return torch.cat(slices)[: shape.numel()].view(shape)

    def total(x: Tensor) -> Tensor:
        x = x.detach().clone()
        dist.all_reduce(x)
        return x

    def gradients(s: Step, objective: Objective, theta: Params, w: Params) -> tuple[Params, Params, Stats]:
        g_theta, g_w, stats = runtime.gradients(s, objective, full(theta), full(w))
        for g in (*g_theta.values(), *g_w.values()):
            dist.all_reduce(g)
        return keep(g_theta), keep(g_w), stats

    acting = lambda theta, w: runtime.acting(full(theta), full(w))
    changed = {"gradients": gradients, "acting": acting, "keep": keep, "full": full, "total": total}
    return replace(runtime, **changed, rank=rank, processes=processes)
