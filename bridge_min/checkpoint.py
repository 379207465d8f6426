"""To disk and back, whole or not at all: safetensors and JSON, no pickle.

A file is written beside its place, synced and renamed, so a crash leaves the old one. It carries a digest of
all its bytes; a file that was cut or changed is refused by name. Tensors are read one at a time. A run keeps
its last two checkpoints, and goes back to the older where the newer is of no use. Read on in pretrained.py,
where these files make a checkpoint in Hugging Face's format.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from .config import Config, to_json
from .model import Params
from .sharding import anyone, first_says, gathered, rank, spread

RUN = "checkpoint-"  # what the files of a run's checkpoints begin with
SHARD = 4 << 30  # bytes of one safetensors file, at most (a larger tensor has one of its own)
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW
NO_DIGEST = "0" * 64
PIECE = 1 << 22  # bytes read at a time


class CheckpointError(ValueError):
    """A file that cannot be used; the message names it, says why and what to do."""


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path to write to. What was written there is synced and then takes the place of `path`, at once.
    Raises CheckpointError if that cannot be done (no room, no permission); then `path` is as it was."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two runs may make the same base
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
        mode = draft.stat().st_mode
        yield draft
        os.chmod(draft, mode)  # safetensors lets nobody else read
        for renamed in (False, True):
            if renamed:
                os.replace(draft, path)
            handle = os.open(path.parent if renamed else draft, os.O_RDONLY)
            os.fsync(handle)  # the bytes, then the rename itself
            os.close(handle)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} could not be written: {error}; what was saved before is kept"
        ) from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Of many processes the first one writes."""
    if rank() == 0:
        with beside(path) as draft:
            draft.write_bytes(data)


def write_tensors(path: Path, tensors: Params, **metadata: str) -> str:
    """Returns the digest. Of many processes the first one writes."""
    if rank():
        return ""
    tensors = {name: value.detach().contiguous() for name, value in tensors.items()}
    with beside(path) as draft:
        save_file(tensors, draft, {**metadata, "digest": NO_DIGEST})
        digest = digest_of(draft, NO_DIGEST)
        with open(draft, "r+b") as file:
            file.seek(header_of(draft).index(NO_DIGEST.encode()))
            file.write(digest.encode())
    return digest


def header_of(path: Path) -> bytes:
    """The bytes before the tensors' own: the header's length, 8 bytes, and the header, JSON."""
    with open(path, "rb") as file:
        length = file.read(8)
        return length + file.read(min(int.from_bytes(length, "little"), path.stat().st_size))


def digest_of(path: Path, written: str) -> str:
    """SHA-256 of the file with the digest `written` in its header counted as zeros."""
    header = header_of(path)
    found = hashlib.sha256(header.replace(written.encode(), NO_DIGEST.encode(), 1))
    with open(path, "rb") as file:
        file.seek(len(header))
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()


@contextmanager
def open_tensors(path: Path) -> Iterator[tuple[safe_open, dict[str, str]]]:
    """The file, whose tensors can be taken one at a time, and its metadata. Raises CheckpointError if it is
    missing, unreadable, or not what was written; a file without digest is somebody else's and passes."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            digest = metadata.get("digest", "")
            if digest and digest_of(path, digest) != digest:
                raise CheckpointError(
                    f"{path} is damaged: not the bytes that were written; restore it from a copy"
                )
            yield file, metadata
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read, it may be cut off: {error}") from None


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def check_shapes(
    path: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises CheckpointError that names the first tensor which is missing, too much, or of another shape."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CheckpointError(f"{path}: tensor {name} is missing")
        if name not in expected:
            raise CheckpointError(f"{path}: tensor {name} is not part of this model or run")
        if found[name] != expected[name]:
            raise CheckpointError(f"{path}: tensor {name} has shape {found[name]}, not {expected[name]}")


def sharded(tensors: Params) -> Iterator[Params]:
    """The tensors in their order, as many at a time as a file of SHARD bytes holds."""
    shard, size = {}, 0
    for name, value in tensors.items():
        nbytes = value.numel() * value.element_size()
        if shard and size + nbytes > SHARD:
            yield shard
            shard, size = {}, 0
        shard[name], size = value, size + nbytes
    yield shard


def state_of(players: dict[str, Params], optimizers: dict[str, torch.optim.Optimizer]) -> Params:
    """All tensors of a run under flat names: "theta/<name>", "theta/<name>/exp_avg", ... Only what has an
    optimizer has moments."""
    tensors = {}
    for player, params in players.items():
        state = optimizers[player].state if player in optimizers else {}
        for name, value in params.items():
            tensors[f"{player}/{name}"] = value
            tensors |= {f"{player}/{name}/{key}": moment for key, moment in state.get(value, {}).items()}
    return tensors


def run_file(out: Path, step: int) -> Path:
    """The head of the checkpoint after `step` updates."""
    return out / f"{RUN}{step:06}.safetensors"


def saved_runs(out: Path) -> dict[int, Path]:
    """Updates done -> the checkpoint's head, oldest first. A checkpoint without its head, which is written
    last, was never finished."""
    heads = {path.name.removeprefix(RUN).removesuffix(".safetensors"): path for path in out.glob(f"{RUN}*")}
    return dict(sorted((int(step), path) for step, path in heads.items() if step.isdecimal()))


def save_run(
    out: Path, step: int, config: Config, players: dict, optimizers: dict, before: int | None = None
) -> None:
    """What is needed to go on after `step` updates, as checkpoint-<step>.safetensors in the folder `out`.
    Randomness needs nothing: it follows from (seed, step). What does not fit one file stands in parts, which
    the head lists with their digests. Of the older checkpoints only the one after `before` updates is kept.
    Each tensor is whole in the file, however many processes share it."""
    head, *others = sharded(state_of(players, optimizers))
    path, parts = run_file(out, step), {}
    for number, shard in enumerate(others, 1):
        part = path.with_suffix(f".part{number:04}.safetensors")
        parts[part.name] = write_tensors(part, gathered(shard))
    settings = {"step": str(step), "config": to_json(config), "parts": json.dumps(parts)}
    write_tensors(path, gathered(head), **settings)
    if rank() == 0:
        keep = tuple(run_file(out, kept).stem + "." for kept in (step, before) if kept is not None)
        for old in out.glob(f"{RUN}*.safetensors"):
            if not old.name.startswith(keep):
                old.unlink()


def load_latest(out: Path, players: dict, optimizers: dict) -> int | None:
    """Fills players and optimizers, made as for a new run, from the newest checkpoint that is whole; returns
    the number of updates done, None if nothing was ever saved. One that is torn or damaged is named on
    standard error, and the one before it is taken. Many processes take the same: the first one's newest that
    all can read. Raises CheckpointError if none can be used."""
    faults, steps = [], first_says(list(saved_runs(out))[::-1])
    for step in steps:
        path, fault = run_file(out, step), ""
        try:
            load_run(path, players, optimizers)
        except CheckpointError as error:
            fault = str(error)
        if anyone(bool(fault)):
            faults.append(fault or f"{path}: another process cannot use it")
            continue
        if faults:
            print(f"WARNING: {'; '.join(faults)}\nWARNING: going back to {path}", file=sys.stderr)
        return step
    if faults:
        raise CheckpointError("no checkpoint can be used: " + "; ".join(faults))
    return None


def load_run(path: Path, players: dict, optimizers: dict) -> int:
    """Fills players and optimizers in place from one checkpoint; returns the number of updates done. Raises
    CheckpointError and then leaves them as they were."""
    with ExitStack() as files:
        tensors, metadata = files.enter_context(open_tensors(path))
        if not {"digest", "step", "parts"} <= metadata.keys():
            raise CheckpointError(f"{path} is no checkpoint of a run, or its header is damaged")
        step, of = int(metadata["step"]), dict.fromkeys(tensors.keys(), tensors)  # tensor -> its file
        for name, digest in json.loads(metadata["parts"]).items():
            tensors, about = files.enter_context(open_tensors(path.with_name(name)))
            if about.get("digest") != digest:
                raise CheckpointError(
                    f"{path.with_name(name)} is not the part that {path.name} was saved with"
                )
            of |= dict.fromkeys(tensors.keys(), tensors)
        expected = {}
        for player, params in players.items():
            for name, value in params.items():
                expected[f"{player}/{name}"] = tuple(value.shape)
                if step and player in optimizers:
                    shapes = ((), tuple(value.shape), tuple(value.shape))
                    expected |= {f"{player}/{name}/{key}": s for key, s in zip(MOMENTS, shapes, strict=True)}
        check_shapes(path, {name: tuple(of[name].get_slice(name).get_shape()) for name in of}, expected)
        read = lambda name, like: placed(of[name].get_tensor(name), like)
        for player, params in players.items():
            for name, value in params.items():
                value.copy_(read(f"{player}/{name}", value))
                if step and player in optimizers:
                    state = {key: read(f"{player}/{name}/{key}", value) for key in MOMENTS}
                    optimizers[player].state[value] = state
    return step


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """A copy of the tensor where `like` is; the slice of it, where each process keeps one. Numbers are no
    one's slice."""
    tensor = tensor.to(like.device, copy=True)
    return spread(tensor) if isinstance(like, DTensor) and tensor.dim() else tensor
