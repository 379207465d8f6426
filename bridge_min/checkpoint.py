"""To disk and back, whole or not at all: safetensors and JSON, no pickle.

A file is written beside its place, synced and renamed. A folder is too: it holds tensors and settings, and a
manifest with the SHA-256 of every file in it, so that what was cut or changed is refused by name. A run keeps
its last two checkpoint folders and goes back to the older where the newer is of no use. Read on in run.py.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .bridge import Runtime
from .model import Params

MANIFEST = "manifest.json"
PIECE = 1 << 22  # bytes read at a time


class CheckpointError(ValueError):
    """A file that cannot be used; the message names it, says why and what to do."""


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A place to write a file or a folder. What was written there is synced and then takes the place of
    `path`. Raises CheckpointError if that cannot be done (no room, no permission); then `path` is as it
    was."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two runs may make the same base
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        for file in [*draft.iterdir(), draft] if draft.is_dir() else [draft]:
            sync(file)
        if draft.is_dir() and path.exists():  # os.replace refuses a folder that is not empty
            shutil.rmtree(path)
        os.replace(draft, path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} could not be written: {error}; what was saved before is kept"
        ) from None
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def write(path: Path, data: bytes) -> None:
    """One file, whole or not at all."""
    with beside(path) as draft:
        draft.write_bytes(data)


def write_tensors(path: Path, tensors: Params, **metadata: str) -> None:
    """One safetensors file, whole or not at all."""
    with beside(path) as draft:
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, draft, metadata or None)
        os.chmod(draft, 0o666 & ~UMASK)  # safetensors lets nobody else read


UMASK = os.umask(0)
os.umask(UMASK)


def read_tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of a safetensors file, one at a time, by name. Raises CheckpointError."""
    try:
        with safe_open(path, "pt") as file:
            for name in sorted(file.keys()):
                yield name, file.get_tensor(name)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read, it may be cut off: {error}") from None


def check_shapes(where: Path, found: Params, expected: Params) -> None:
    """Raises CheckpointError that names the first tensor which is missing, too much, or of another shape."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CheckpointError(f"{where}: tensor {name} is missing")
        if name not in expected:
            raise CheckpointError(f"{where}: tensor {name} is not part of this model or run")
        if found[name].shape != expected[name].shape:
            shapes = f"{tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
            raise CheckpointError(f"{where}: tensor {name} has shape {shapes}")


# --- Folders ------------------------------------------------------------------------------------------------


def save_folder(folder: Path, parts: Iterable[tuple[str, Params]], about: dict) -> None:
    """Parts, each a file of tensors, and what they are about, JSON, as one folder: whole or not at all."""
    with beside(folder) as draft:
        draft.mkdir()
        for name, tensors in parts:
            write_tensors(draft / f"{name}.safetensors", tensors)
        write(draft / "about.json", json.dumps(about, indent=2).encode())
        sums = {file.name: sha256(file) for file in sorted(draft.iterdir())}
        write(draft / MANIFEST, json.dumps(sums, indent=2).encode())


def load_folder(folder: Path) -> tuple[dict, dict[str, Iterator[tuple[str, torch.Tensor]]]]:
    """What a folder is about, and its parts, whose tensors come one at a time. Raises CheckpointError that
    names the file if one is missing or not what was written."""
    try:
        sums = json.loads((folder / MANIFEST).read_bytes())
        for name, digest in sums.items():
            if sha256(folder / name) != digest:
                raise CheckpointError(
                    f"{folder / name} is damaged: not what was written; restore it from a copy"
                )
        parts = {
            Path(name).stem: read_tensors(folder / name) for name in sums if name.endswith(".safetensors")
        }
        return json.loads((folder / "about.json").read_bytes()), parts
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename} does not exist") from None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder / MANIFEST} cannot be read: {error}") from None


def sha256(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()


# --- A run's checkpoints ------------------------------------------------------------------------------------

State = dict[str, Params]  # what a run has learnt, by name: the players, and what selection remembers
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW; its step count is the number of updates


def save_run(out: Path, done: int, state: State, optimizers: dict, run: Runtime, before: int | None) -> None:
    """What is needed to go on after `done` updates, as checkpoint-<done>/. Randomness needs nothing: it
    follows from (seed, step). Of the older ones only that after `before` updates is kept. Every tensor is
    whole in the files, however many processes share it; the first one writes."""

    def parts() -> Iterator[tuple[str, Params]]:
        for name, params in state.items():
            yield name, run.full(params) if name in optimizers else params
            for key in MOMENTS if name in optimizers else ():
                moments = {k: optimizers[name].state[value][key] for k, value in params.items()}
                yield f"{name}.{key}", run.full(moments)

    if run.rank:
        for _ in parts():
            pass
        return
    save_folder(out / f"checkpoint-{done:06}", parts(), {"done": done})
    for step, old in saved_runs(out).items():
        if step not in (done, before):
            shutil.rmtree(old)


def saved_runs(out: Path) -> dict[int, Path]:
    """Updates done -> the checkpoint's folder, newest first."""
    folders = {path.name.removeprefix("checkpoint-"): path for path in out.glob("checkpoint-*")}
    return dict(
        sorted(((int(step), path) for step, path in folders.items() if step.isdecimal()), reverse=True)
    )


def load_latest(out: Path, state: State, optimizers: dict, run: Runtime) -> int | None:
    """Fills state and optimizers, made as for a new run, from the newest checkpoint that is whole; returns
    the number of updates done, None if nothing was ever saved. One that is damaged is named on standard
    error, and the one before it is taken. Raises CheckpointError if none can be used."""
    faults = []
    for step, folder in saved_runs(out).items():
        try:
            fault, _ = "", load_run(folder, state, optimizers, run)
        except CheckpointError as error:
            fault = str(error)
        if run.total(torch.tensor(float(bool(fault)))):  # all processes take the same
            faults.append(fault or f"{folder}: another process cannot use it")
            continue
        if faults:
            print(f"WARNING: {'; '.join(faults)}\nWARNING: going back to {folder}", file=sys.stderr)
        return step
    if faults:
        raise CheckpointError("no checkpoint can be used: " + "; ".join(faults))
    return None


def load_run(folder: Path, state: State, optimizers: dict, run: Runtime) -> None:
    """Fills state and optimizers in place from one checkpoint. Raises CheckpointError."""
    about, parts = load_folder(folder)
    for name, params in state.items():
        found = {key: dict(parts.get(key, ())) for key in (name, *(f"{name}.{moment}" for moment in MOMENTS))}
        if name in optimizers:
            found = {key: run.keep(tensors) for key, tensors in found.items()}
        for key, tensors in found.items():
            if key == name or name in optimizers:
                check_shapes(folder / f"{key}.safetensors", tensors, params)
        for k, value in params.items():
            value.copy_(found[name][k])
            if name in optimizers:
                moments = {key: found[f"{name}.{key}"][k].to(value.device) for key in MOMENTS}
                optimizers[name].state[value] = {"step": torch.tensor(float(about["done"])), **moments}
