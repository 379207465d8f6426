"""The teacher's weights w in PEFT's format, out and in.

An adapter belongs to theta, not to the merged model: a run saves theta beside it, so that what PEFT loads is
the merged model again. What PEFT can say and `merge` cannot do is refused by name. Read on in lora.py.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint import CheckpointError, open_tensors, write, write_tensors
from .config import ModelConfig
from .model import Params
from .pretrained import module_names, read_json

PREFIX = "base_model.model."  # PEFT's, before a module's name
READ = ("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights")
NO_MATTER = (  # what says where the matrices came from, or is said by the tensors' names and shapes too
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
    *("lora_dropout", "megatron_core", "qalora_group_size", "ensure_weight_tying"),
)
INITS = (True, False, "gaussian")  # init_lora_weights; others change theta, too


def save_adapter(
    folder: Path, w: Params, theta: Params, scale: float, config: ModelConfig, base: str
) -> None:
    """w as adapter_config.json and adapter_model.safetensors, on top of theta, which lies in the folder
    `base`."""
    pairs = {
        name.removesuffix(".lora_A.weight"): (A, w[name.replace("lora_A", "lora_B")])
        for name, A in w.items()
        if name.endswith(".lora_A.weight")
    }
    pairs = as_family(config, pairs, theta)
    ranks = {module: len(A) for module, (A, _) in pairs.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {module: r for module, r in ranks.items() if r != rank}
    settings = {
        **{"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base},
        **{
            "r": rank,
            "lora_alpha": scale * rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "inference_mode": True,
        },
        **{"target_modules": sorted(ranks), "fan_in_fan_out": config.family == "gpt2"},
        **{"rank_pattern": others, "alpha_pattern": {module: scale * r for module, r in others.items()}},
    }
    write(folder / "adapter_config.json", json.dumps(settings, indent=2).encode())
    tensors = {
        f"{PREFIX}{m}.lora_{X}.weight": pair[k] for m, pair in pairs.items() for k, X in enumerate("AB")
    }
    write_tensors(folder / "adapter_model.safetensors", tensors, format="pt")


Pairs = dict[str, tuple[Tensor, Tensor]]  # module -> A (rank, in), B (out, rank)


def as_family(config: ModelConfig, pairs: Pairs, theta: Params) -> Pairs:
    """The pairs under the family's names. Where a module of theirs holds several of ours, their A are stacked
    and their B are blocks on the diagonal: the same product, of a higher rank."""
    found, left = {}, dict(pairs)
    for theirs, ours in module_names(config).items():
        members = [(o, left.pop(o)) for o in ours if o in left]
        if members:
            heights = [len(theta[f"{o}.weight"]) for o in ours]
            A = torch.cat([A for _, (A, _) in members])  # (rank of all, in)
            B, rank = A.new_zeros(sum(heights), len(A)), 0  # (out of all, rank of all)
            for o, (_, block) in members:
                top = sum(heights[: ours.index(o)])
                B[top : top + len(block), rank : rank + block.shape[1]] = block
                rank += block.shape[1]
            found[theirs] = (A, B)
    return found | left


def load_adapter(folder: Path, theta: Params, scale: float, config: ModelConfig) -> Params:
    """w from a PEFT folder, such that `merge(theta, w, scale)` is what PEFT computes: where its own scales
    differ from `scale`, B takes the quotient. Raises CheckpointError that names the key or the tensor."""
    path, w = folder / "adapter_config.json", {}
    given = read_json(path)
    for key, value in given.items():
        if key not in READ + NO_MATTER and value not in (None, False, "none", {}, []):
            raise CheckpointError(f"{path}: {key} = {value!r} is not supported")
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(given.get(key) or {}, dict):
            raise CheckpointError(f"{path}: {key} = {given[key]!r} is no map from names to numbers")
    if given.get("peft_type") != "LORA" or given.get("init_lora_weights", True) not in INITS:
        raise CheckpointError(f"{path}: only LORA adapters that leave the base as it is are supported")
    names = module_names(config)
    for module, (A, B) in read_pairs(folder / "adapter_model.safetensors").items():
        r = pattern(path, given.get("rank_pattern"), module, given.get("r"))
        alpha = pattern(path, given.get("alpha_pattern"), module, given.get("lora_alpha"))
        if len(A) != r or B.shape[1] != r:
            raise CheckpointError(f"{folder}: {module} has rank {len(A)} and {B.shape[1]}, not {r}")
        own = alpha / (r**0.5 if given.get("use_rslora") else r)
        ours = names.get(module, [module])
        for name, block in zip(ours, B.chunk(len(ours)), strict=True):
            W = theta.get(f"{name}.weight")
            if W is None or W.shape != (len(block), A.shape[1]):
                shape = None if W is None else tuple(W.shape)
                raise CheckpointError(f"{folder}: {module} does not fit this base, whose {name} is {shape}")
            w[f"{name}.lora_A.weight"] = A.to(W.device, W.dtype, copy=True)
            w[f"{name}.lora_B.weight"] = (block * (own / scale)).to(W.device, W.dtype).contiguous()
    return w


def read_pairs(path: Path) -> Pairs:
    with open_tensors(path) as (file, _):
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    pairs = {}
    for name in tensors:
        module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight").removesuffix(".lora_B.weight")
        pair = [f"{PREFIX}{module}.lora_{X}.weight" for X in "AB"]
        if name not in pair:
            raise CheckpointError(f"{path}: tensor {name} is not a LoRA matrix")
        if not set(pair) <= tensors.keys():
            raise CheckpointError(f"{path}: {module} has no lora_A or no lora_B")
        pairs[module] = (tensors[pair[0]], tensors[pair[1]])
    return pairs


def pattern(path: Path, patterns: dict[str, Any] | None, module: str, default: Any) -> Any:
    """PEFT's per-module settings: the first key that is the module's name, or its end."""
    for key, value in (patterns or {}).items():
        if not all(char.isalnum() or char in "._" for char in key):
            raise CheckpointError(f"{path}: {key!r} is a regular expression; only names are supported")
        if f".{module}".endswith(f".{key}"):
            default = value
            break
    if type(default) not in (int, float) or default <= 0:
        raise CheckpointError(f"{path}: r and lora_alpha must be numbers above 0, not {default!r}")
    return default
