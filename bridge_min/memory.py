"""What a run needs of memory, said before it begins, and what it used.

    python -m bridge_min.memory tiny_configs/qwen2_5_3b_math.py 3584      # rows of up to so many tokens
    python -m bridge_min.memory tiny_configs/qwen2_5_3b_math.py 3584 --processes=8 --offload=False

The sum of what must exist at once: the players, their optimizers and the weights that act all the time, and
on top of them either an update (gradients, activations, logits) or sampling (keys and values). A micro-batch
is counted as if all its rows were as long as the longest. Read on in train.py.
"""

import ctypes
import resource
import sys
from pathlib import Path

import torch

from .checkpoint import CheckpointError
from .config import Config, ConfigError, ModelConfig, load_config
from .lora import init_lora
from .model import build
from .pretrained import read_config

GIB = 2**30
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
BYTES = {"float32": 4, "bfloat16": 2, "float64": 8}


def predict(
    config: Config, shape: ModelConfig, longest: tuple[int, int], processes: int = 1
) -> dict[str, dict[str, float]]:
    """GiB by device and part, of each process; a device's sum is its peak. longest: tokens of the longest
    rollout and demonstration with their prompts. Not foreseen: the unrolled update, which keeps the whole
    batch's graph; an adapter of another rank than lora_rank; what many prompts need while they are read."""
    theta = dict(build(shape).named_parameters())
    held, used = BYTES[config.master], BYTES[config.dtype]  # of a number of the players, of the network
    size, largest = sum(value.numel() for value in theta.values()), shape.vocab_size * shape.hidden_size
    bridge, shadow = config.method == "bridge", config.method == "bridge" and config.meta != "no_shadow"
    w = {}
    if bridge:
        w = init_lora(theta, config.lora_targets, config.lora_rank, torch.Generator())
    lora = sum(value.numel() for value in w.values())
    touched = sum(theta[name.replace("lora_A.weight", "weight")].numel() for name in w if "lora_A" in name)

    home = {"theta": size * held, "theta_hat": shadow * size * held, "w": lora * held}
    home["moments"] = 2 * (size * (1 + shadow) + lora) * held
    home["reference"] = bool(config.kl) * size * held
    gradients = {"gradients": (2 if bridge or config.method == "mix" else 1) * (size + lora) * held}
    home, gradients = ({k: n / processes for k, n in part.items()} for part in (home, gradients))

    moved = processes > 1 or (config.dtype, config.device) != (config.master, config.home)
    copied = size if moved else touched
    always = {"weights that act": copied * used}  # theta + w, in the network's precision, where it computes
    tokens, prompts = config.micro_batch * max(longest), -(-config.prompts // processes)
    rows = min(config.sample_rows, prompts * config.group)
    update = {"largest gradient": 2 * largest * used}  # the embedding's, as a table and as the head
    update["activations"] = activations(shape, config.recompute) * tokens * used
    update["logits"] = (
        3 * min(config.logit_tokens, tokens) * shape.vocab_size * 4
    )  # with softmax and gradient
    key = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.hd  # numbers per token
    sampling = {"keys and values": rows * longest[0] * key * used}
    sampling["sampling"] = rows * shape.vocab_size * 28  # logits, probabilities and, in float64, their sums
    if processes > 1 and config.select in ("demo", "token"):
        update["selection, which needs all of theta and a gradient"] = 2 * size * held
    if config.home == config.device:
        update = gradients | update  # which do not exist while it samples
    busy = max(update, sampling, key=lambda part: sum(part.values()))
    if config.home == config.device:
        parts = {config.device: home | always | busy}
    else:
        parts = {config.device: always | busy, config.home: home | gradients}
    if "cpu" in parts:
        parts["cpu"]["the process itself"] = peak("cpu") * GIB
    return {device: {name: n / GIB for name, n in part.items()} for device, part in parts.items()}


def activations(shape: ModelConfig, recompute: bool) -> float:
    """Numbers that the backward pass needs per token of a micro-batch, by what torch keeps of each block."""
    C, heads, shared = (
        shape.hidden_size,
        shape.num_attention_heads * shape.hd,
        shape.num_key_value_heads * shape.hd,
    )
    attention = 3 * heads + 2 * shared  # queries, keys, values, their result in two layouts
    feed_forward = (2 if shape.family == "gpt2" else 4) * shape.intermediate_size
    block = 4 * C + attention + feed_forward  # two residual streams and their norms
    layers = shape.num_hidden_layers
    return layers * C + block + 2 * C if recompute else layers * block + 2 * C


def fixed_limit() -> None:
    """glibc keeps what is freed below a limit that it raises to 32 MiB by itself, and a run then uses a fifth
    more than it needs. A limit that is set stays: what is larger goes back to the system at once."""
    limit = getattr(ctypes.CDLL(None), "mallopt", None)  # other systems' allocators have none
    if limit is not None:
        limit(M_MMAP_THRESHOLD, 1 << 20)


def listed(parts: dict[str, dict[str, float]]) -> str:
    """A line per device."""
    lines = []
    for device, part in parts.items():
        shares = ", ".join(f"{name} {gib:.2f}" for name, gib in part.items() if gib >= 0.005)
        lines.append(f"memory of {device}: {sum(part.values()):.2f} GiB predicted: {shares}")
    return "\n".join(lines)


def peak(device: str) -> float:
    """GiB used so far at most: of the process, or of the GPU by torch."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return torch.cuda.max_memory_allocated() / GIB


if __name__ == "__main__":
    if len(sys.argv) < 3 or not sys.argv[2].isdecimal():
        sys.exit(__doc__)
    try:
        counts = [a.removeprefix("--processes=") for a in sys.argv if a.startswith("--processes=")]
        settings = load_config(sys.argv[1], [a for a in sys.argv[3:] if not a.startswith("--processes=")])
        network = read_config(Path(settings.base)) if settings.base else settings.model
        print(listed(predict(settings, network, (int(sys.argv[2]),) * 2, int(counts[-1]) if counts else 1)))
    except (ConfigError, CheckpointError) as error:
        sys.exit(f"error: {error}")
