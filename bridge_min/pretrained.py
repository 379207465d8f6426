"""Checkpoints in Hugging Face's format, in and out: GPT-2, Llama, Qwen2, Qwen3. No transformers needed.

A family is a map from its config.json to ours and from its tensors' names to ours; the network is the same
(model.py). A family, activation, rope or tensor that is not known is refused by name: a model that is almost
right answers almost well, and nobody notices. Read on in adapter.py for the teacher's weights in PEFT's
format.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint import CheckpointError, check_shapes, open_tensors, shapes_of, sharded, write, write_tensors
from .config import ConfigError, ModelConfig, make
from .model import GPT, Params, build
from .sharding import rank
from .tokenizer import EOS, PAD

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
KEYS = {  # ours -> the family's, where they differ
    "gpt2": {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
        "rms_norm_eps": "layer_norm_epsilon",
    }
}
ONLY = {  # keys that change what is computed -> the values that this network computes
    "hidden_act": ("silu",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "partial_rotary_factor": (1.0,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "quantization_config": (None,),
}
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # computed, not learnt; in old files
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "generation_config.json", "chat_template.jinja"),
)


def load_pretrained(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    place: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> tuple[GPT, Params]:
    """The network and its weights: `functional_call(model, theta, (tokens,))` gives logits (N, T, vocab).
    place: what becomes of each tensor as soon as it is read (`spread`, where each process keeps a slice).
    Raises CheckpointError that names the file, and the key or tensor at fault."""
    model = build(read_config(folder))
    theta: Params = {}
    for path in weight_files(folder):
        with open_tensors(path) as (file, metadata):
            if metadata.get("config", as_written(model.config)) != as_written(model.config):
                raise CheckpointError(
                    f"{folder / 'config.json'} is not the one that {path.name} was written with"
                )
            for name in sorted(file.keys()):
                if name.endswith(BUFFERS):
                    continue
                tensor = file.get_tensor(name)
                if not tensor.is_floating_point():
                    raise CheckpointError(
                        f"{path}: tensor {name} is {tensor.dtype}; quantized weights are not read"
                    )
                for ours, part in renamed(model.config, name, tensor):
                    theta[ours] = place(part.to(device, dtype, copy=True).contiguous())
    if model.config.tie_word_embeddings:
        theta.pop("lm_head.weight", None)  # the embedding once more
    check_shapes(folder, shapes_of(theta), shapes_of(dict(model.named_parameters())))
    return model, {name: theta[name] for name in sorted(theta)}  # sums over tensors must not depend on files


def save_pretrained(folder: Path, theta: Params, config: ModelConfig, source: Path | None = None) -> None:
    """theta (w merged) as a folder that transformers and vLLM load: config.json, safetensors with the
    family's names, in shards if large; and the tokenizer's files, copied from the checkpoint `source`."""
    dtype = str(next(iter(theta.values())).dtype).removeprefix("torch.")
    settings = write_config(config) if source is None else read_json(source / "config.json")
    settings["dtype" if "dtype" in settings else "torch_dtype"] = dtype
    if source is not None:
        for name in TOKENIZER_FILES:
            if (source / name).exists():
                write(folder / name, (source / name).read_bytes())
    write(folder / "config.json", json.dumps(settings, indent=2).encode())
    shards = list(sharded(family_tensors(config, theta)))
    names = [f"model-{k:05}-of-{len(shards):05}.safetensors" for k in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else ["model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if rank() == 0:
        index.unlink(missing_ok=True)  # of a larger model that was saved here before
    for name, shard in zip(names, shards, strict=True):
        write_tensors(folder / name, shard, format="pt", config=as_written(config))
    if len(shards) > 1:
        weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        write(index, json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2).encode())


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors: those that the index names, or the one there is."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    names = sorted(set(map(str, weight_map.values())))
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(f"{index}: {name!r} does not lie in this folder")
    return [folder / name for name in names]


# --- config.json ------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: {path.parent} is not a checkpoint folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} does not hold settings")
    return found


def read_config(folder: Path) -> ModelConfig:
    """The network's shape from config.json, as transformers 4 or 5 writes it. Raises CheckpointError for a
    key that is missing, or one that asks for what this network does not do."""
    path = folder / "config.json"
    try:
        return understood(path, read_json(path))
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def understood(path: Path, given: dict[str, Any]) -> ModelConfig:
    family = given.get("model_type")
    if family not in ARCHITECTURES:
        raise CheckpointError(f"{path}: model_type {family!r} is not one of {', '.join(ARCHITECTURES)}")
    for name in given.get("architectures") or []:
        if name != ARCHITECTURES[family]:
            raise CheckpointError(f"{path}: architecture {name} is not {ARCHITECTURES[family]}")
    for key, values in ONLY.items():
        if given.get(key, values[0]) not in values:
            raise CheckpointError(f"{path}: {key} = {given[key]!r} is not supported, only {values}")
    if set(given.get("layer_types") or ()) - {"full_attention"}:
        raise CheckpointError(f"{path}: layer_types other than full_attention are not supported")

    def key(ours: str) -> Any:
        theirs = KEYS.get(family, {}).get(ours, ours)
        if theirs not in given:
            raise CheckpointError(f"{path}: key {theirs!r} is missing")
        return given[theirs]

    fields = {"family": family, "tie_word_embeddings": given.get("tie_word_embeddings", family == "gpt2")}
    sizes = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    )
    fields |= {name: key(name) for name in (*sizes, "rms_norm_eps")}
    if family == "gpt2":
        fields["num_key_value_heads"] = fields["num_attention_heads"]
        fields["intermediate_size"] = given.get("n_inner") or 4 * fields["hidden_size"]
    else:
        fields["num_key_value_heads"] = given.get("num_key_value_heads") or fields["num_attention_heads"]
        fields["intermediate_size"] = key("intermediate_size")
        fields["head_dim"] = given.get("head_dim") or (128 if family == "qwen3" else 0)
        fields["attention_bias"] = family != "qwen2" and given.get("attention_bias", False)
        fields["rope_theta"], fields["rope_scaling"] = rope(path, given)
    return make(ModelConfig, fields, "")


def rope(path: Path, given: dict[str, Any]) -> tuple[float, tuple[float, ...]]:
    """rope_theta, and Llama 3's four numbers or none. transformers 5 keeps all in `rope_parameters`, 4 the
    base at the top and the rest in `rope_scaling`."""
    scaling = given.get("rope_parameters") or given.get("rope_scaling") or {}
    theta = scaling.get("rope_theta", given.get("rope_theta"))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if theta is None:
        raise CheckpointError(f"{path}: key 'rope_theta' is missing")
    if kind == "default":
        return float(theta), ()
    if kind != "llama3":
        raise CheckpointError(f"{path}: rope_type {kind!r} is not supported, only default and llama3")
    try:
        return float(theta), tuple(float(scaling[name]) for name in LLAMA3)
    except KeyError as error:
        raise CheckpointError(f"{path}: key {error} of llama3's rope is missing") from None


def write_config(config: ModelConfig) -> dict[str, Any]:
    """config.json of a network made here, in the layout that transformers 4 and 5 read."""
    settings = {"architectures": [ARCHITECTURES[config.family]], "model_type": config.family}
    settings |= {"vocab_size": config.vocab_size, "tie_word_embeddings": config.tie_word_embeddings}
    if config.family == "gpt2":
        settings |= {theirs: getattr(config, ours) for ours, theirs in KEYS["gpt2"].items()}
        settings |= {"n_inner": config.intermediate_size, "activation_function": "gelu_new"}
    else:
        ours = {name: value for name, value in asdict(config).items() if name != "family"}
        settings |= {**ours, "head_dim": config.hd, "hidden_act": "silu", "rope_scaling": None}
    if config.rope_scaling:
        numbers = dict(zip(LLAMA3, config.rope_scaling, strict=True))
        settings["rope_scaling"] = {"rope_type": "llama3", **numbers}
    return {**settings, "torch_dtype": "float32", "pad_token_id": PAD, "eos_token_id": EOS}


def as_written(config: ModelConfig) -> str:
    """What a weight file says of the network that it belongs to."""
    return json.dumps(write_config(config), sort_keys=True)


# --- tensors ----------------------------------------------------------------------------------------------

GPT2_TOP = {"wte": "embed_tokens", "wpe": "embed_positions", "ln_f": "norm"}  # theirs -> ours
GPT2_BLOCK = {  # theirs -> ours, within a block; theirs may hold several
    "ln_1": ("input_layernorm",),
    "attn.c_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.c_proj": ("self_attn.o_proj",),
    "ln_2": ("post_attention_layernorm",),
    "mlp.c_fc": ("mlp.up_proj",),
    "mlp.c_proj": ("mlp.down_proj",),
}


def module_names(config: ModelConfig) -> dict[str, list[str]]:
    """The family's name of each module -> ours, where they differ."""
    if config.family != "gpt2":
        return {}
    names = {f"transformer.{theirs}": [f"model.{ours}"] for theirs, ours in GPT2_TOP.items()}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in GPT2_BLOCK.items():
            names[f"transformer.h.{layer}.{theirs}"] = [f"model.layers.{layer}.{part}" for part in ours]
    return names


def turned(module: str, tensor: Tensor) -> Tensor:
    """GPT-2's matrices are (in, out), but for its embeddings; ours are (out, in)."""
    return tensor.T if tensor.dim() == 2 and ".h." in module else tensor


def renamed(config: ModelConfig, name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """A tensor of a file under our name, or names, where the family holds several in one. A name that nothing
    here knows stays, to be refused by name."""
    names = module_names(config)
    module, _, kind = name.rpartition(".")
    theirs = module if module in names else f"transformer.{module}"  # the prefix may be missing
    if theirs not in names:
        return [(name, tensor)]
    parts = turned(theirs, tensor).chunk(len(names[theirs]))
    return [(f"{ours}.{kind}", part) for ours, part in zip(names[theirs], parts, strict=True)]


def family_tensors(config: ModelConfig, theta: Params) -> Params:
    """The inverse of `renamed`: theta under the family's names."""
    tensors, left = {}, dict(theta)
    for theirs, ours in module_names(config).items():
        for kind in ("weight", "bias"):
            if f"{ours[0]}.{kind}" in left:
                tensors[f"{theirs}.{kind}"] = turned(
                    theirs, torch.cat([left.pop(f"{o}.{kind}") for o in ours])
                )
    return tensors | left
