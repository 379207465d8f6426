"""Every setting of a run, with its unit, and the one source of randomness.

A config file is a Python file that sets some of the names below; `--key=value` goes over it,
`--model.key=value` for the network. An unknown key or a value of the wrong type is an error that names the
nearest key.
"""

import dataclasses
import difflib
import hashlib
import json
import math
import runpy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

import torch

FAMILIES = ("llama", "qwen2", "qwen3", "gpt2")


@dataclass(frozen=True)
class ModelConfig:
    """The network. Every field but `family` means what it means in a Hugging Face `config.json`."""

    family: str = "llama"  # llama, qwen2, qwen3, gpt2: their norms, biases, positions, tensor names
    vocab_size: int = 258  # tokens
    hidden_size: int = 64  # channels of the residual stream
    intermediate_size: int = 192  # channels inside the feed-forward block
    num_hidden_layers: int = 3  # blocks
    num_attention_heads: int = 4  # query heads
    num_key_value_heads: int = 2  # key/value heads, each shared by several query heads
    max_position_embeddings: int = 256  # longest sequence, tokens
    rope_theta: float = 10000.0  # base of the rotary wavelengths
    rms_norm_eps: float = 1e-6  # added to the mean square before the root
    rope_scaling: tuple[float, ...] = ()  # of Llama 3: factor, low and high frequency factor, tokens before
    attention_bias: bool = False  # llama, qwen3: biases in attention's four projections
    head_dim: int = 0  # channels of a head; 0: hidden_size / num_attention_heads
    tie_word_embeddings: bool = True  # the head is the embedding, transposed

    def __post_init__(self):
        require(
            self.family in FAMILIES, f"model.family = {self.family!r} is not one of {', '.join(FAMILIES)}"
        )
        for name, value in dataclasses.asdict(self).items():
            if type(value) in (int, float):
                require(value > 0 or name == "head_dim", f"model.{name} = {value} must be above 0")
        require(
            len(self.rope_scaling) in (0, 4), f"model.rope_scaling = {self.rope_scaling} must be four numbers"
        )
        size, heads, kv_heads = self.hidden_size, self.num_attention_heads, self.num_key_value_heads
        require(
            self.head_dim % 2 == 0, f"model.head_dim = {self.head_dim} must be even: channels turn in pairs"
        )
        require(
            self.head_dim > 0 or size % (2 * heads) == 0,
            f"model.hidden_size = {size} must be a multiple of 2 x num_attention_heads = {2 * heads}: "
            "heads share the channels, and rotary positions turn them in pairs",
        )
        require(
            heads % kv_heads == 0,
            f"model.num_attention_heads = {heads} must be a multiple of num_key_value_heads = {kv_heads}",
        )

    @property
    def hd(self) -> int:
        """Channels of one head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def qkv_bias(self) -> bool:
        return self.attention_bias or self.family in ("gpt2", "qwen2")

    @property
    def o_bias(self) -> bool:
        return self.attention_bias or self.family == "gpt2"


@dataclass(frozen=True)
class Config:
    """One run. Sizes are counts unless the comment gives another unit."""

    # The run
    out: str = "out/run"  # folder for checkpoints, metrics and the final model
    seed: int = 0  # everything random follows from it
    threads: int = 2  # CPU threads; on small matrices one is often as fast
    log_every: int = 5  # steps between lines of the log
    eval_every: int = 25  # steps between validations
    save_every: int = 25  # steps between checkpoints
    # Memory and precision; all but dtype and master change results by rounding only
    micro_batch: int = 64  # most rows of one forward pass
    sample_rows: int = 512  # responses sampled at once: bounds the keys and values kept
    logit_tokens: int = 16384  # tokens whose logits exist at once
    recompute: bool = False  # activation checkpointing: the backward pass computes each block again
    device: str = "cpu"  # cpu, or cuda: where the network computes
    offload: bool = False  # theta, theta_hat, w and their moments stay in CPU memory
    dtype: str = "float32"  # the network computes in float32 or bfloat16 (tests: float64)
    master: str = "float32"  # the players are kept in float32, or bfloat16, which loses what is small
    # The world (tasks.py)
    task: str = "arith"  # arith, logic, or jsonl: files of problems
    data: str = "data"  # jsonl: folder of the files
    train_file: str = ""  # jsonl: JSON lines; the validation problems are taken from it
    test_files: tuple[str, ...] = ()  # jsonl: JSON lines, one test suite each
    prompt: str = "{problem}"  # how a problem is put to the model, special tokens and examples included
    end: tuple[str, ...] = ()  # tokens that end a response, the first a demonstration; none: the base's
    chain: tuple[int, ...] = (3, 6)  # arith: fewest and most steps of a problem
    hard_chain: tuple[int, ...] = (7, 8)  # arith: the same for the harder test problems
    products: float = 0.5  # arith: share of the problems with a product, 0..1
    largest: int = 9  # arith: largest first number and partial sum
    train_problems: int = 4000  # problems; where prompts > demos_per_step, the others come from those without
    val_problems: int = 200  # problems
    test_problems: int = 200  # problems of each test suite
    demos: int = 300  # training problems that have a demonstration
    wrong_demos: float = 0.2  # share of the demonstrations with a false step, 0..1
    far_demos: float = 0.3  # share in a style far from the base, 0..1; the rest is right
    # The base model: a checkpoint (pretrained.py), or a toy made by the run (pretrain.py)
    base: str = ""  # folder in Hugging Face format; none: pretrain a toy
    model: ModelConfig = field(default_factory=ModelConfig)  # the network: --model.hidden_size=96 and so on
    base_steps: int = 1000  # most steps of pretraining
    base_target: float = 0.4  # it ends when this share of sampled validation responses is right, 0..1
    base_batch: int = 256  # documents per step
    base_lr: float = 3e-3  # peak step size
    worked_share: float = 0.16  # share of the documents that are worked solutions, 0..1
    direct_share: float = 0.36  # share that answers a long sum at once, 0..1; the rest is single steps
    # The method (bridge.py, baselines.py)
    method: str = "bridge"  # bridge, or a rival by its name in baselines.py
    meta: str = "first_order"  # teacher's gradient: first_order, unrolled, or no_shadow (the joint one)
    select: str = "none"  # what is supervised, gain.py: none (all), reward, token, demo; bridge and mix only
    lam: float = 0.7  # lambda, weight of RL against SFT, 0..1; bridge and mix
    cold_start: float = 0.3  # share of the steps that are SFT before RL, 0..1; two_stage only
    shadow_reset: int = 0  # steps between theta_hat := theta; 0 never resets it
    reward_flip: float = 0.0  # chance that a training reward is flipped, 0..1; evaluation never is
    eta: float = 0.1  # size of the inner gradient step, unrolled only
    adapter: str = ""  # PEFT folder that w begins from: its ranks and matrices then count; none: B = 0
    lora_rank: int = 8  # rank of w
    lora_scale: float = 2.0  # factor before B A
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")  # matrices that w touches, by name
    # Rollouts and losses (rollout.py, losses.py)
    prompts: int = 16  # prompts per step
    group: int = 8  # responses per prompt, G
    max_new: int = 64  # longest response, tokens
    temperature: float = 1.0  # of sampling in training and for pass@k
    demos_per_step: int = 16  # demonstrations per step; the first prompts are theirs
    clip_low: float = 0.2  # epsilon_low of the importance ratio
    clip_high: float = 0.2  # epsilon_high; above clip_low it is "clip-higher"
    scale_by_std: bool = True  # divide advantages by the group's standard deviation
    normaliser: str = "token"  # the loss averages over the batch's tokens, or per sequence
    kl: float = 0.0  # weight of the KL to the frozen base; 0 leaves it out
    # The optimizer
    steps: int = 100  # updates
    lr: float = 1e-3  # alpha, peak step size of theta and theta_hat (AdamW)
    lr_lora: float = 1e-3  # beta, peak step size of w (AdamW)
    warmup: int = 5  # steps of linear warm-up; then cosine decay to a tenth
    weight_decay: float = 0.0  # of AdamW
    max_grad_norm: float = 1.0  # each player's gradient is clipped to this norm
    # The final table
    table: str = "all"  # its rows: all (base, shadow, trained), trained, or none, where no test is looked at
    samples: int = 8  # responses per test problem for pass@k

    @property
    def home(self) -> str:
        """The device where the players and their optimizers live."""
        return "cpu" if self.offload else self.device

    def __post_init__(self):
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            require(value in choices, f"{name} = {value!r} is not one of {', '.join(choices)}")
        for name in COUNTS:
            require(getattr(self, name) > 0, f"{name} = {getattr(self, name)} must be at least 1")
        for name in SHARES:
            require(0 <= getattr(self, name) <= 1, f"{name} = {getattr(self, name)} must lie in 0..1")
        for name in POSITIVE:
            require(
                0 < getattr(self, name) < math.inf,
                f"{name} = {getattr(self, name)} must be above 0, and finite",
            )
        for name in NOT_NEGATIVE:
            require(
                0 <= getattr(self, name) < math.inf, f"{name} = {getattr(self, name)} must not be negative"
            )
        for name, limit in AT_MOST:
            value, most = getattr(self, name), getattr(self, limit)
            require(value <= most, f"{name} = {value} is more than {limit} = {most}")
        require(
            self.largest > 1 or not self.products, "largest = 1 leaves no room for products: take 2 or more"
        )
        for a, b in (("worked_share", "direct_share"), ("wrong_demos", "far_demos")):
            shares = getattr(self, a) + getattr(self, b)
            require(shares <= 1, f"{a} + {b} = {shares} must be at most 1")
        free, others = self.prompts - self.demos_per_step, self.train_problems - self.demos
        require(
            free <= others, f"{free} prompts without demonstration per step, but only {others} such problems"
        )
        for name in ("chain", "hard_chain"):
            value = getattr(self, name)
            require(
                len(value) == 2 and 2 <= value[0] <= value[1],
                f"{name} = {value} must be two numbers, the fewest (at least 2) and the most",
            )
        require(
            self.group > 1 or self.method == "sft", "group = 1 has no one to compare with: take at least 2"
        )
        require(
            self.select == "none" or self.method in ("bridge", "mix"),
            f"select = {self.select!r} goes with method = bridge or mix, not {self.method}",
        )
        require(
            not (self.recompute and self.meta == "unrolled"),
            "recompute cannot go with meta = 'unrolled', which differentiates twice: set recompute = False",
        )
        require(
            not self.base or self.model == ModelConfig(),
            f"model.* is for the toys; the network of base = {self.base!r} is what its config.json says",
        )
        require(not self.adapter or self.lora_scale > 0, "adapter needs a lora_scale above 0")
        require(not self.adapter or self.method == "bridge", "adapter goes with method = bridge: it is its w")
        require(bool(self.out.strip()), "out must name a folder")
        require(bool(self.lora_targets), "lora_targets must name at least one matrix")


CHOICES = {
    "task": ("arith", "logic", "jsonl"),
    "device": ("cpu", "cuda"),
    "dtype": ("float32", "bfloat16", "float64"),
    "master": ("float32", "bfloat16", "float64"),
    "method": (
        *("bridge", "mix", "sft", "grpo", "two_stage", "alternate"),
        *("chord_mu", "chord_phi", "luffy", "srft", "hpt"),
    ),
    "meta": ("first_order", "unrolled", "no_shadow"),
    "select": ("none", "demo", "token", "reward"),
    "normaliser": ("token", "sequence"),
    "table": ("all", "trained", "none"),
}
COUNTS = (
    *("threads", "log_every", "eval_every", "save_every", "micro_batch", "train_problems", "val_problems"),
    *("test_problems", "demos", "base_steps", "base_batch", "lora_rank", "prompts", "group", "max_new"),
    *("demos_per_step", "steps", "samples", "largest", "sample_rows", "logit_tokens"),
)
SHARES = (
    *("lam", "base_target", "wrong_demos", "far_demos", "worked_share", "direct_share", "products"),
    *("clip_low", "cold_start", "reward_flip"),
)
POSITIVE = ("temperature", "lr", "lr_lora", "base_lr", "max_grad_norm")
NOT_NEGATIVE = ("clip_high", "kl", "warmup", "eta", "weight_decay", "lora_scale", "shadow_reset")
AT_MOST = (
    *(("prompts", "train_problems"), ("demos", "train_problems"), ("demos_per_step", "demos")),
    ("demos_per_step", "prompts"),
)


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Config from a Python file, or from a run's JSON, and `--key=value` strings over it. Raises
    ConfigError."""
    try:
        if Path(path).suffix == ".json":
            given = json.loads(Path(path).read_text())
        else:
            names = runpy.run_path(str(path))
            given = {key: value for key, value in names.items() if not key.startswith("_")}
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror}") from None
    except Exception as error:  # whatever a config file may do wrong
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(f"config file {path}{line}: {type(error).__name__}: {error}") from None
    require(isinstance(given, dict), f"config file {path} does not hold settings")
    for argument in overrides:
        key, equals, text = argument.removeprefix("--").partition("=")
        require(argument.startswith("--") and bool(equals), f"{argument!r} is not of the form --key=value")
        inner, _, rest = key.partition(".")
        if rest:
            require(
                isinstance(given.get(inner, {}), dict), f"{inner} = {given.get(inner)!r} has no key {rest!r}"
            )
            given[inner] = {**given.get(inner, {}), rest: text}
        else:
            given[key] = text
    return make(Config, given)


def make(kind: type, given: dict[str, Any], prefix: str = "") -> Any:
    """The dataclass `kind` from a dictionary of values or of their texts. Raises ConfigError for a wrong key
    or type."""
    fields = {f.name: f.type for f in dataclasses.fields(kind)}
    for key in given:
        near = max(fields, key=lambda name: difflib.SequenceMatcher(None, name, key).ratio())
        require(key in fields, f"unknown key {prefix + key!r}: did you mean {prefix}{near}?")
    return kind(**{key: convert(prefix + key, value, fields[key]) for key, value in given.items()})


def convert(key: str, value: Any, kind: Any) -> Any:
    """The value as the field's type; texts from the command line are read, nothing else is bent."""
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return make(kind, value, key + ".")
    if get_origin(kind) is tuple:
        parts = ([] if not value else value.split(",")) if isinstance(value, str) else value
        require(isinstance(parts, list | tuple), f"{key} = {value!r} must be a list")
        return tuple(convert(key, part, get_args(kind)[0]) for part in parts)
    if isinstance(value, str) and kind in (int, float, bool):
        try:
            value = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            raise ConfigError(f"{key} = {value!r} must be {kind.__name__}") from None
    if kind is float and type(value) is int:
        value = float(value)
    require(type(value) is kind, f"{key} = {value!r} must be {kind.__name__}")
    return value


ANY_TIME = (  # keys that change no weight, or by rounding only
    *("out", "log_every", "eval_every", "save_every", "samples", "table", "threads"),
    *("micro_batch", "sample_rows", "logit_tokens", "recompute", "device", "offload"),
)


def differences(config: Config, saved: Config) -> list[str]:
    """Keys on which a run cannot go on from the saved settings, with both values."""
    pairs = {f.name: (getattr(saved, f.name), getattr(config, f.name)) for f in dataclasses.fields(Config)}
    return [f"{key} was {a}, is {b}" for key, (a, b) in pairs.items() if a != b and key not in ANY_TIME]


def to_json(config: Config | ModelConfig) -> str:
    return json.dumps(dataclasses.asdict(config), indent=2)


def generator(seed: int, step: int, purpose: str) -> torch.Generator:
    """The random numbers of one step for one purpose: never global state, so any step can be repeated
    alone."""
    digest = hashlib.sha256(f"{seed}/{step}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
