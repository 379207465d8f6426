"""To disk and back, whole or not at all: safetensors and JSON, no pickle.

A folder is written beside its place, synced and renamed. It holds tensors, what they are about, and a
manifest with the SHA-256 of every file in it, so that what was cut or changed is refused by name. A run keeps
its last two checkpoints and goes back to the older where the newer is of no use. Read on in base.py.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .bridge import Runtime
from .model import Params
from .optimizer import State

MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A file that cannot be used; the message names it, says why and what to do."""


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A place for a file or a folder. What was written there is synced and then takes the place of `path`.
    Raises CheckpointError if that cannot be done (no room, no permission); then `path` is as it was."""
    draft = path.with_name(f"{path.name}.{os.urandom(4).hex()}.tmp")  # two runs may make the same base
    old = draft.with_suffix(".old.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        for file in [*draft.glob("*"), draft]:
            file.chmod(0o755 if file.is_dir() else 0o644)  # safetensors lets nobody else read
            sync(file)
        if path.is_dir():  # os.replace refuses a folder that is not empty
            os.replace(path, old)
        os.replace(draft, path)
        remove(old, strict=False)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise CheckpointError(f"{path} could not be written: {error}; what was there is kept") from None
    finally:
        if draft.exists():
            remove(draft)


def remove(path: Path, strict: bool = True) -> None:
    """A file, a folder, or a link but not what it leads to. Not strict: a folder that cannot go may stay."""
    folder = path.is_dir() and not path.is_symlink()
    shutil.rmtree(path, ignore_errors=not strict) if folder else path.unlink(missing_ok=True)


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


def save_folder(folder: Path, parts: Iterable[tuple[str, Params]], about: dict) -> None:
    """Parts, each a file of tensors, and what they are about, JSON, as one folder: whole or not at all."""
    with beside(folder) as draft:
        draft.mkdir()
        (draft / "about.json").write_text(json.dumps(about, indent=2))
        for name, tensors in parts:
            write_tensors(draft / f"{name}.safetensors", tensors)
        sums = {file.name: sha256(file) for file in sorted(draft.iterdir())}
        (draft / MANIFEST).write_text(json.dumps(sums, indent=2))


def load_folder(folder: Path) -> tuple[dict, dict[str, Iterator[tuple[str, torch.Tensor]]]]:
    """What a folder is about, and its parts, whose tensors come one at a time. Raises CheckpointError that
    names the file if one is missing or not what was written."""
    try:
        sums = json.loads((folder / MANIFEST).read_bytes())
        damaged = [name for name, digest in sums.items() if sha256(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder} is not whole: {error}; restore it from a copy") from None
    if damaged or "about.json" not in sums:
        name = damaged[0] if damaged else MANIFEST
        raise CheckpointError(f"{folder / name} is damaged: not what was written; restore it from a copy")
    about = json.loads((folder / "about.json").read_bytes())
    return about, {path.stem: read_tensors(path) for path in sorted(folder.glob("*.safetensors"))}


def read_tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of a safetensors file, one at a time, by name. Raises CheckpointError."""
    try:
        with safe_open(path, "pt") as file:
            for name in sorted(file.keys()):
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def sha256(path: Path) -> str:
    return hashlib.sha256(np.memmap(path, np.uint8, "r") if path.stat().st_size else b"").hexdigest()


def check_shapes(where: Path, found: Params, expected: Params) -> None:
    """Raises CheckpointError that names the first tensor which is missing, too much, or of another shape."""
    for name in sorted(expected.keys() | found.keys()):
        a, b = (tuple(p[name].shape) if name in p else "missing" for p in (found, expected))
        if a != b:
            raise CheckpointError(f"{where}: tensor {name} is {a}, the model or run has it {b}")


# --- A run's checkpoints ------------------------------------------------------------------------------------


def save_run(out: Path, done: int, state: State, runtime: Runtime, before: int | None) -> int:
    """The state after `done` updates, as checkpoint-<done>/; returns `done`. Randomness needs nothing: it
    follows from (seed, step). Of the older ones only that after `before` updates is kept. Every tensor is
    whole in the files, however many processes share it; the first one writes."""
    parts = ((name, runtime.full(params)) for name, params in state.items())
    if runtime.rank:
        for _ in parts:  # takes part in the gathering
            pass
        return done
    save_folder(out / f"checkpoint-{done:06}", parts, {"done": done})
    for step, old in saved_runs(out).items():
        if step not in (done, before):
            remove(old, strict=False)
    return done


def saved_runs(out: Path) -> dict[int, Path]:
    """Updates done -> the checkpoint's folder, newest first."""
    folders = {path.name.removeprefix("checkpoint-"): path for path in out.glob("checkpoint-*")}
    steps = sorted(filter(str.isdecimal, folders), key=int, reverse=True)
    return {int(step): folders[step] for step in steps}


def load_latest(out: Path, state: State, runtime: Runtime) -> int | None:
    """Fills the state, made as for a new run, from the newest checkpoint that is whole; returns the number of
    updates done, None if nothing was ever saved. One that is damaged is named on standard error, and the one
    before it is taken. Raises CheckpointError if none can be used."""
    faults = []
    for step, folder in saved_runs(out).items():
        fault = ""
        try:
            load_run(folder, state, runtime)
        except CheckpointError as error:
            fault = str(error)
        if runtime.total(torch.tensor(float(bool(fault)))):  # all processes take the same
            faults.append(fault or f"{folder}: another process cannot use it")
            continue
        if faults:
            print(f"WARNING: {'; '.join(faults)}\nWARNING: going back to {folder}", file=sys.stderr)
        return step
    if faults:
        raise CheckpointError("no checkpoint can be used: " + "; ".join(faults))
    return None


def load_run(folder: Path, state: State, runtime: Runtime) -> None:
    """Fills the state in place from one checkpoint. Raises CheckpointError."""
    parts = load_folder(folder)[1]
    for name, params in state.items():
        found = runtime.keep(dict(parts.get(name, ())))
        check_shapes(folder / f"{name}.safetensors", found, params)
        for key, value in params.items():
            value.copy_(found[key])
