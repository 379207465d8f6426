"""To disk and back, whole or not at all: safetensors and JSON, no pickle.

A file is written beside its place, synced and renamed, so a crash leaves the old one. It carries a digest of
all its bytes; a file that was cut or changed is refused by name.
"""

import hashlib
import json
import os
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .config import Config, ModelConfig, make, to_json
from .model import Params, build
from .tokenizer import EOS, PAD

NO_DIGEST = "0" * 64


class CheckpointError(ValueError):
    """A file that cannot be used; the message names it, says why and what to do."""


def write(path: Path, data: bytes) -> None:
    """Atomically: beside, synced, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two runs may make the same base
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)  # the rename itself
    os.close(folder)


def write_tensors(path: Path, tensors: Params, **metadata: str) -> None:
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    data = save(tensors, {**metadata, "digest": NO_DIGEST})
    write(path, data.replace(NO_DIGEST.encode(), hashlib.sha256(data).hexdigest().encode(), 1))


def read_tensors(path: Path) -> tuple[Params, dict[str, str]]:
    """Tensors, in the order of their names (the file has none, and sums over tensors must not depend on
    chance), and metadata. Raises CheckpointError if the file is missing, unreadable, or not what was
    written."""
    try:
        data = path.read_bytes()
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read, it may be cut off: {error}") from None
    digest = metadata.get("digest", "")
    if digest and hashlib.sha256(data.replace(digest.encode(), NO_DIGEST.encode(), 1)).hexdigest() != digest:
        raise CheckpointError(f"{path} is damaged: not the bytes that were written; restore it from a copy")
    return {name: tensors[name] for name in sorted(tensors)}, metadata


def check_shapes(path: Path, found: Params, expected: Params) -> None:
    """Raises CheckpointError that names the first tensor which is missing, too much, or of another shape."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CheckpointError(f"{path}: tensor {name} is missing")
        if name not in expected:
            raise CheckpointError(f"{path}: tensor {name} is not part of this model or run")
        if found[name].shape != expected[name].shape:
            shapes = f"{tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path}: tensor {name} has shape {shapes}")


def save_model(folder: Path, theta: Params, config: ModelConfig) -> None:
    """theta (w merged) as a Hugging Face folder: model.safetensors and config.json."""
    settings = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"}
    settings |= {**asdict(config), "torch_dtype": "float32", "pad_token_id": PAD, "eos_token_id": EOS}
    write(folder / "config.json", json.dumps(settings, indent=2).encode())
    write_tensors(folder / "model.safetensors", theta, format="pt", config=to_json(config))


def load_model(folder: Path) -> tuple[ModelConfig, Params]:
    """The network's shape and weights. Raises CheckpointError that names the file and the tensor at fault."""
    path = folder / "config.json"
    try:
        given = json.loads(path.read_text())
        config = make(ModelConfig, {f.name: given[f.name] for f in fields(ModelConfig)})
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: {folder} is not a checkpoint folder") from None
    except KeyError as error:
        raise CheckpointError(f"{path}: key {error} is missing") from None
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    theta, metadata = read_tensors(folder / "model.safetensors")
    if metadata.get("config", to_json(config)) != to_json(config):
        raise CheckpointError(f"{path} is not the one that model.safetensors was written with")
    check_shapes(folder / "model.safetensors", theta, dict(build(config).named_parameters()))
    return config, theta


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
    tensors, metadata = read_tensors(path)
    if not {"digest", "step"} <= metadata.keys():
        raise CheckpointError(f"{path} is no checkpoint of a run, or its header is damaged")
    step, expected = int(metadata["step"]), {}
    for player, params in players.items():
        for name, value in params.items():
            expected[f"{player}/{name}"] = value
            if step and player in optimizers:
                moments = {"step": torch.zeros(()), "exp_avg": value, "exp_avg_sq": value}
                expected |= {f"{player}/{name}/{key}": moment for key, moment in moments.items()}
    check_shapes(path, tensors, expected)
    for player, params in players.items():
        for name, value in params.items():
            value.copy_(tensors[f"{player}/{name}"])
            if step and player in optimizers:
                keys = ("step", "exp_avg", "exp_avg_sq")
                optimizers[player].state[value] = {key: tensors[f"{player}/{name}/{key}"] for key in keys}
    return step
