"""Checkpoints in Hugging Face's format, in and out: GPT-2, Llama, Qwen2, Qwen3. No transformers needed.

A family is a map from its config.json to ours and from its tensors' names to ours; the network is the same
(model.py). A family, activation, rope or tensor that is not known is refused by name: a model that is almost
right answers almost well, and nobody notices. Read on in adapter.py for the teacher's weights, in
tokenizer.py for the text.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import CheckpointError, beside, check_shapes, read_tensors, write_tensors
from ..config import ConfigError, ModelConfig, make, require
from ..model import Params, build

FAMILIES = ("llama", "qwen2", "qwen3", "gpt2")
SIZES = str.split("vocab_size hidden_size num_hidden_layers num_attention_heads max_position_embeddings")
SIZES += ["rms_norm_eps"]
GPT2_SIZES = str.split("vocab_size n_embd n_layer n_head n_positions layer_norm_epsilon")
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
OFF = str.split("mlp_bias use_sliding_window scale_attn_by_inverse_layer_idx add_cross_attention")
ONLY = {  # keys that change what is computed -> the values that this network computes
    **{"hidden_act": ("silu",), "activation_function": ("gelu_new", "gelu_pytorch_tanh")},
    **{"partial_rotary_factor": (1.0,), "scale_attn_weights": (True,), "quantization_config": (None,)},
    **{"layer_types": ({"full_attention"},), **dict.fromkeys(OFF, (False,))},
}
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # computed, not learnt; in old files
WEIGHTS, INDEX, QKV = "model.safetensors", "model.safetensors.index.json", ("q_proj", "k_proj", "v_proj")
TOKENIZER_FILES = ("*token*.json", "vocab.json", "merges.txt", "chat_template.jinja")


def load_pretrained(folder: Path, device: str = "cpu") -> tuple[ModelConfig, Params]:
    """The network's shape and weights, in float32; says on standard error which file it reads. Raises
    CheckpointError that names the file, and the key or tensor at fault."""
    shape, theta = read_config(folder), {}
    index, one = folder / INDEX, folder / WEIGHTS  # which goes first, as in transformers
    with naming(index):
        files = [WEIGHTS] if one.exists() or not index.exists() else read_json(index)["weight_map"].values()
        paths = [folder / name for name in sorted({Path(file).name for file in files})]
    for path in paths:
        print(f"reading {path}", file=sys.stderr)
        for name, tensor in read_tensors(path):
            if name.endswith(BUFFERS):
                continue
            with naming(path):
                whole = tensor.is_floating_point() and tensor.itemsize > 1
                require(whole, f"tensor {name} is {tensor.dtype}, quantized: not supported")
                require(tensor.isfinite().all(), f"tensor {name} holds NaN or infinity")
            parts = from_gpt2(name, tensor) if shape.family == "gpt2" else {name: tensor}
            for ours, part in parts.items():
                theta[ours] = part.to(device, torch.float32, copy=True).contiguous()
    head = theta.pop("lm_head.weight", None) if shape.tie_word_embeddings else None  # the embedding once more
    check_shapes(folder, theta, dict(build(shape).named_parameters()))
    if head is not None and not torch.equal(head, theta["model.embed_tokens.weight"]):
        raise CheckpointError(f"{folder}: lm_head.weight is not the embedding, but config.json ties them")
    return shape, {name: theta[name] for name in sorted(theta)}  # sums over tensors must not depend on files


def save_pretrained(folder: Path, W: Params, shape: ModelConfig, base: Path | None, ends: tuple = ()) -> None:
    """The weights W (w merged) as a folder that transformers and vLLM load, whole and in place of the old:
    config.json, one file of weights with the family's names; `ends`, ids that end a response, and what is
    never sampled; and the tokenizer's files, copied from the checkpoint `base`, if there is one. How that was
    best sampled (penalties, top-k) is left out: nothing was trained so. Raises CheckpointError."""
    settings = write_config(shape) if base is None else read_json(base / "config.json")
    settings.pop("torch_dtype", None)  # the older name of dtype
    settings["dtype"] = str(next(iter(W.values())).dtype).removeprefix("torch.")
    end, words = {"eos_token_id": list(ends) or None}, shape.words or shape.vocab_size
    never = {"suppress_tokens": [*range(words, shape.vocab_size)] or None}  # ids that no text has
    with beside(folder) as draft:
        draft.mkdir()
        for path in [path for name in TOKENIZER_FILES for path in base.glob(name)] if base else ():
            (draft / path.name).write_bytes(path.read_bytes())
        (draft / "config.json").write_text(json.dumps(settings | end, indent=2))
        (draft / "generation_config.json").write_text(json.dumps(end | never, indent=2))
        print(f"writing {folder / WEIGHTS}", file=sys.stderr)
        write_tensors(draft / WEIGHTS, to_gpt2(W) if shape.family == "gpt2" else W, format="pt")


def read_json(path: Path) -> dict[str, Any]:
    """What a file holds that must be a JSON object. Raises CheckpointError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        require(isinstance(found, dict), "it is no JSON object")
        return found
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


@contextmanager
def naming(path: Path, kind: type[ValueError] = CheckpointError) -> Iterator[None]:
    """What is wrong with a file's settings becomes an error of this kind that names the file."""
    try:
        yield
    except KeyError as error:
        raise kind(f"{path}: key {error} is missing") from None
    except (ConfigError, TypeError, AttributeError) as error:
        raise kind(f"{path}: {error}") from None


# --- config.json --------------------------------------------------------------------------------------------


def read_config(folder: Path) -> ModelConfig:
    """The network's shape from config.json, as transformers 4 or 5 writes it. Raises CheckpointError for a
    key that is missing, or one that asks for what this network does not do."""
    given = read_json(folder / "config.json")
    with naming(folder / "config.json"):
        check_known(given)
        return make(ModelConfig, our_settings(given))


def check_known(given: dict[str, Any]) -> None:
    """Raises ConfigError that names what this network does not compute."""
    family = given.get("model_type")
    require(family in FAMILIES, f"model_type {family!r} is not one of {', '.join(FAMILIES)}")
    for key, values in ONLY.items():
        found = given.get(key, values[0])
        found = set(found or values[0]) if key == "layer_types" else found
        require(found in values, f"{key} = {found!r} is not supported, only {values}")


def our_settings(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of ModelConfig. Raises KeyError, or ConfigError for a rope that is not known."""
    family = given["model_type"]
    if family == "gpt2":
        given = given | {ours: given[theirs] for ours, theirs in zip(SIZES, GPT2_SIZES, strict=True)}
        given |= {"intermediate_size": given.get("n_inner") or 4 * given["n_embd"]}
    fields = {"family": family, **{name: given[name] for name in (*SIZES, "intermediate_size")}}
    fields["num_key_value_heads"] = given.get("num_key_value_heads") or given["num_attention_heads"]
    fields["head_dim"] = given.get("head_dim") or (128 if family == "qwen3" else 0)
    fields["attention_bias"] = family != "qwen2" and given.get("attention_bias", False)
    fields["tie_word_embeddings"] = given.get("tie_word_embeddings", family == "gpt2")
    # transformers 5 keeps all of rope in one place, 4 the base at the top and the rest in rope_scaling
    rope = given.get("rope_parameters") or given.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    require(kind in ("default", "llama3"), f"rope_type {kind!r} is not supported, only default and llama3")
    fields["rope_theta"] = rope.get("rope_theta", given.get("rope_theta", 10000.0))  # the oldest name none
    fields["rope_scaling"] = tuple(float(rope[name]) for name in LLAMA3) if kind == "llama3" else ()
    return fields


def write_config(shape: ModelConfig) -> dict[str, Any]:
    """config.json of a network made here, in the layout that transformers 4 and 5 read."""
    settings = {**asdict(shape), "model_type": shape.family, "head_dim": shape.hd}
    rope = dict(zip(LLAMA3, shape.rope_scaling, strict=False))  # there may be none
    settings["rope_scaling"] = {"rope_type": "llama3", **rope} if rope else None
    if shape.family == "gpt2":
        settings |= {theirs: settings[ours] for ours, theirs in zip(SIZES, GPT2_SIZES, strict=True)}
        settings["n_inner"] = shape.intermediate_size
    return settings


# --- Tensors ------------------------------------------------------------------------------------------------

GPT2_NAMES = {  # theirs -> ours, parts of names; c_attn holds q, k and v
    **{"transformer.wte.": "model.embed_tokens.", "transformer.wpe.": "model.embed_positions."},
    **{"transformer.ln_f.": "model.norm.", "transformer.h.": "model.layers."},
    **{".ln_1.": ".input_layernorm.", ".ln_2.": ".post_attention_layernorm."},
    **{".attn.c_attn.": ".self_attn.qkv.", ".attn.c_proj.": ".self_attn.o_proj."},
    **{".mlp.c_fc.": ".mlp.up_proj.", ".mlp.c_proj.": ".mlp.down_proj."},
}


def turned(name: str, tensor: Tensor) -> Tensor:
    """GPT-2's matrices are (in, out), but for its embeddings and the head; ours are (out, in)."""
    return tensor.T if tensor.dim() == 2 and ".layers." in name else tensor


def from_gpt2(name: str, tensor: Tensor) -> Params:
    """A tensor of GPT-2 under our name, or names; the prefix may be missing. A name that nothing here knows
    stays, to be refused by name."""
    name = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
    for theirs, ours in GPT2_NAMES.items():
        name = name.replace(theirs, ours)
    parts = turned(name, tensor).chunk(3 if ".qkv." in name else 1)
    return {name.replace(".qkv.", f".{x}_proj."): part for x, part in zip("qkv", parts, strict=False)}


def to_gpt2(params: Params) -> Params:
    """The inverse of `from_gpt2`, for all tensors."""
    tensors = {name: turned(name, W) for name, W in params.items() if name.split(".")[-2] not in QKV}
    for name in params:
        if ".q_proj." in name:
            joined = torch.cat([params[name.replace("q_proj", part)] for part in QKV])
            tensors[name.replace("q_proj", "qkv")] = turned(name, joined)
    for theirs, ours in GPT2_NAMES.items():
        tensors = {name.replace(ours, theirs): tensor for name, tensor in tensors.items()}
    return tensors
