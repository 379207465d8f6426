"""To disk and back, whole or not at all: safetensors and JSON, no pickle.

A file is written beside its place, synced and renamed, so a crash leaves the old one. It carries a digest of
all its bytes; a file that was cut or changed is refused by name. Tensors are read one at a time. Read on in
pretrained.py, where these files make a checkpoint in Hugging Face's format.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .config import Config, to_json
from .model import Params

NO_DIGEST = "0" * 64
PIECE = 1 << 22  # bytes read at a time


class CheckpointError(ValueError):
    """A file that cannot be used; the message names it, says why and what to do."""


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path to write to. What was written there is synced and then takes the place of `path`, at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two runs may make the same base
    try:
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
    finally:
        draft.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    with beside(path) as draft:
        draft.write_bytes(data)


def write_tensors(path: Path, tensors: Params, **metadata: str) -> None:
    tensors = {name: value.detach().contiguous() for name, value in tensors.items()}
    with beside(path) as draft:
        save_file(tensors, draft, {**metadata, "digest": NO_DIGEST})
        digest = digest_of(draft, NO_DIGEST)
        with open(draft, "r+b") as file:
            file.seek(header_of(draft).index(NO_DIGEST.encode()))
            file.write(digest.encode())


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


def save_run(path: Path, step: int, config: Config, players: dict, optimizers: dict) -> None:
    """What is needed to go on after `step` updates. Randomness needs nothing: it follows from (seed,
    step)."""
    write_tensors(path, state_of(players, optimizers), step=str(step), config=to_json(config))


def load_run(path: Path, players: dict, optimizers: dict) -> int:
    """Fills players and optimizers, made as for a new run, in place; returns the number of updates done.
    Raises CheckpointError and then leaves them as they were."""
    with open_tensors(path) as (file, metadata):
        if not {"digest", "step"} <= metadata.keys():
            raise CheckpointError(f"{path} is no checkpoint of a run, or its header is damaged")
        step, expected = int(metadata["step"]), {}
        for player, params in players.items():
            for name, value in params.items():
                expected[f"{player}/{name}"] = tuple(value.shape)
                if step and player in optimizers:
                    moments = {"step": (), "exp_avg": tuple(value.shape), "exp_avg_sq": tuple(value.shape)}
                    expected |= {f"{player}/{name}/{key}": shape for key, shape in moments.items()}
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        check_shapes(path, found, expected)
        for player, params in players.items():
            for name, value in params.items():
                value.copy_(file.get_tensor(f"{player}/{name}"))
                if step and player in optimizers:
                    optimizers[player].state[value] = {
                        key: file.get_tensor(f"{player}/{name}/{key}").to(value.device, copy=True)
                        for key in ("step", "exp_avg", "exp_avg_sq")
                    }
    return step
