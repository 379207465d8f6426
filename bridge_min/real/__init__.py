"""Real checkpoints and files of problems: formats of others, in and out. train.py comes in by these three
functions and by jsonl.py. Read on in pretrained.py."""

from dataclasses import replace
from pathlib import Path

from ..config import Config, ModelConfig
from ..model import Params
from .adapter import save_adapter
from .pretrained import load_pretrained, read_config, save_pretrained
from .tokenizer import Tokenizer, load_tokenizer


def open_base(config: Config) -> tuple[Tokenizer, ModelConfig]:
    """What is known of the checkpoint before its weights are read."""
    tokenizer = load_tokenizer(Path(config.base), config.end)
    return tokenizer, replace(read_config(Path(config.base)), words=tokenizer.n_vocab)


def load_base(config: Config) -> Params:
    return load_pretrained(Path(config.base), device=config.device)[1]


def export(config: Config, shape: ModelConfig, policy: Params, theta: Params, w: Params) -> None:
    """The merged model; also theta, and w as PEFT has it, but not of GPT-2. Raises CheckpointError."""
    out, base, ends = Path(config.out), Path(config.base), open_base(config)[0].ends
    save_pretrained(out / "model", policy, shape, base, ends)
    if w and shape.family == "gpt2":
        print("no adapter is saved: of GPT-2, PEFT knows q, k and v as one matrix")
    elif w:
        save_pretrained(out / "student", theta, shape, base, ends)
        save_adapter(out / "adapter", w, config.lora_scale, out / "student")
