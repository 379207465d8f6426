"""Many processes, on one machine or several: the one file that knows of more than one.

    torchrun --nproc_per_node=4 train.py tiny_configs/arith.py

Each process keeps a slice of every tensor of the players, of its gradient and of its moments: DTensors,
`Shard(0)`. `whole` gathers them inside the loss, where the network needs them, so that plain autograd brings
the gradients back summed over the processes and sliced again. Each process samples some of the prompts and
scores some of the rows, and `together` tells all of them what each found: a batch's statistics, advantages
and weights are then computed by everyone as if there was nobody else. Since randomness is data, the run is
the same with any number of processes, up to the order in which sums are rounded. In a single process every
function here returns what it is given. Read on in train.py.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from .config import require

Params = dict[str, Tensor]
TIMEOUT = timedelta(minutes=30)  # that one process waits for another, which may be saving or sampling
solo = False


@contextmanager
def joined(device: str) -> Iterator[None]:
    """In here, the processes that torchrun has started work together, and when all have come to its end, they
    end; without torchrun there is one. device: where the network computes; with "cuda" each process has a GPU
    of its own. Raises ConnectionError if one of the others is lost: with gloo at once if it died, after
    TIMEOUT if it is stuck."""
    if not dist.is_torchelastic_launched():
        yield
        return
    gpu, local = device == "cuda", int(os.environ["LOCAL_RANK"])
    if gpu:
        found = torch.cuda.device_count()
        require(local < found, f"process {local} here has no GPU of its own: torch sees {found}")
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=TIMEOUT)
    try:
        yield
        wait()  # who leaves early tears the connections of the others
        if gpu:
            dist.destroy_process_group()
        sys.stdout.flush()
        os._exit(0)  # a thread of gloo that comes late to Python's own clean-up aborts the process
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise ConnectionError(f"process {dist.get_rank()}: another process was lost ({error})") from None
        raise


@contextmanager
def alone() -> Iterator[None]:
    """In here, a process works by itself, whatever the others do."""
    global solo
    solo = True
    try:
        yield
    finally:
        solo = False


def world() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() and not solo else 1


def rank() -> int:
    """Which of them this one is; 0 is the one that writes and prints."""
    return dist.get_rank() if world() > 1 else 0


@cache
def mesh(device: str) -> DeviceMesh:
    return init_device_mesh(device, (dist.get_world_size(),))


def spread(W: Tensor) -> Tensor:
    """This process's slice of W, as a DTensor of W's shape. Everyone must hold the same W: nothing is
    sent."""
    if world() == 1:
        return W
    pieces = W.chunk(world())
    own = pieces[rank()].clone() if rank() < len(pieces) else W[:0].clone()
    return as_slices(own, W)


def as_slices(own: Tensor, like: Tensor) -> DTensor:
    """Everyone's slices as one tensor of the shape of `like`."""
    stride = torch.empty(like.shape, device="meta").stride()
    placed = mesh(own.device.type), [Shard(0)]
    return DTensor.from_local(own, *placed, run_check=False, shape=like.shape, stride=stride)


def everywhere(W: Tensor) -> Tensor:
    """W, held in full by every process, as a factor of sharded tensors; its gradient is summed and sliced."""
    return W.redistribute(placements=[Replicate()]) if isinstance(W, DTensor) else W


def whole(W: Tensor, dtype: torch.dtype | None = None, device: str | None = None) -> Tensor:
    """All of W as an ordinary tensor, in the precision and on the device where it is used. It is gathered
    there. Its gradient, to which each process contributes its rows' part, comes back summed and sliced."""
    if not isinstance(W, DTensor):
        return W.to(device=device, dtype=dtype)
    slices = as_slices(W.to_local().to(device=device, dtype=dtype), W)
    return slices.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])


def gathered(params: Params) -> Params:
    """All tensors in full, where they live. No gradient."""
    with torch.no_grad():
        return {name: whole(W) for name, W in params.items()}


def own(n: int) -> Tensor:
    """Which of n things this process does: every world-th one. All have as many, so that they meet in every
    gathering: places from n on stand for no thing, and the one at `place % n` is done for nothing."""
    return torch.arange(rank(), -(-n // world()) * world(), world())


def together(x: Tensor, n: int) -> Tensor:
    """What everyone found for its `own(n)`, x (len(own(n)), ...) in CPU memory, in the order of the n things.
    Where some have longer rows, the others' are filled up with zeros."""
    if world() == 1:
        return x
    if x.dtype == torch.bool:  # which gloo does not send
        return together(x.byte(), n).bool()
    longest = torch.tensor(x.shape[-1] if x.dim() > 1 else 0)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    if x.dim() > 1:
        x = F.pad(x, (0, int(longest) - x.shape[-1]))
    parts = [torch.empty_like(x) for _ in range(world())]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)[:n]  # (n, ...)


def summed(stats: Params) -> Params:
    """Each number's sum over the processes."""
    if world() == 1 or not stats:
        return stats
    total = torch.stack([value.double() for value in stats.values()])
    dist.all_reduce(total)
    return dict(zip(stats, total, strict=True))


def anyone(flag: bool) -> bool:
    """Whether it is so for any process."""
    return bool(summed({"flag": torch.tensor(float(flag))})["flag"])


def first_says(numbers: list[int]) -> list[int]:
    """The first process's numbers."""
    if world() == 1:
        return numbers
    count = torch.tensor(len(numbers))
    dist.broadcast(count, 0)
    told = torch.tensor(numbers if rank() == 0 else [0] * int(count), dtype=torch.int64)
    dist.broadcast(told, 0)
    return told.tolist()


def wait() -> None:
    """Until all processes have come this far."""
    anyone(False)
