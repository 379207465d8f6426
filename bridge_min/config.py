"""Every setting of a run, with its range and unit at its own line, and the one source of randomness.

A config file is a Python file that sets some of the names below; `--key=value` goes over it,
`--model.key=value` for the network. Read on in model.py.
"""

import ast
import dataclasses
import difflib
import hashlib
import json
import math
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import torch

Count = Annotated[int, (1, math.inf), "a whole number, 1 or more"]
Index = Annotated[int, (0, math.inf), "a whole number, 0 or more"]
Share = Annotated[float, (0, 1), "a number in 0..1"]
Above0 = Annotated[float, (math.ulp(0.0), math.inf), "a number above 0"]
UpTo2 = Annotated[float, (0, 2), "a number in 0..2"]
NotNegative = Annotated[float, (0, math.inf), "a number, 0 or more"]


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it and says what to do."""


def require(condition: object, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class ModelConfig:
    """The network. Every field but the first two means what it means in a Hugging Face `config.json`."""

    family: Literal["llama", "qwen2", "qwen3", "gpt2"] = "llama"  # its norms, biases and positions
    words: Index = 0  # tokens that the tokenizer has: the head gives no others; 0: vocab_size
    vocab_size: Count = 258  # tokens, padding included
    hidden_size: Count = 64  # channels of the residual stream
    intermediate_size: Count = 192  # channels inside the feed-forward block
    num_hidden_layers: Count = 3  # blocks
    num_attention_heads: Count = 4  # query heads
    num_key_value_heads: Count = 2  # key/value heads, each shared by several query heads
    max_position_embeddings: Count = 256  # longest sequence, tokens
    rope_theta: Above0 = 10000.0  # base of the rotary wavelengths
    rms_norm_eps: Above0 = 1e-6  # added to the mean square before the root
    rope_scaling: tuple[float, ...] = ()  # of Llama 3: factor, low and high frequency factor, old length
    attention_bias: bool = False  # llama, qwen3: biases in attention's four projections
    head_dim: Index = 0  # channels of a head; 0: hidden_size / num_attention_heads
    tie_word_embeddings: bool = True  # the head is the embedding, transposed

    def __post_init__(self):
        check_fields(self, "model.")
        heads, shared = self.num_attention_heads, self.num_key_value_heads
        require(heads % shared == 0, f"model.num_attention_heads = {heads} is no multiple of {shared}")
        require(len(self.rope_scaling) in (0, 4), "model.rope_scaling must be 4 numbers, or none")
        sizes = f"hidden_size = {self.hidden_size}, num_attention_heads = {heads}, head_dim = {self.head_dim}"
        whole = self.head_dim or self.hidden_size % heads == 0
        require(whole and self.hd % 2 == 0, f"model.{sizes}: each head needs an even number of channels")

    @property
    def hd(self) -> int:
        """Channels of one head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class Config:
    """One run. Sizes are counts unless the comment gives another unit."""

    # The run
    out: str = "out/run"  # folder for checkpoints, metrics and the final model
    seed: int = 0  # everything random follows from it
    threads: Count = 2  # CPU threads; on small matrices one is often as fast
    log_every: Count = 5  # steps between lines of the log
    eval_every: Count = 25  # steps between validations, each with a checkpoint
    # Memory and precision (scale/); all but dtype change results by rounding only
    micro_batch: Count = 64  # most rows of one forward pass
    sample_rows: Count = 512  # responses sampled at once: bounds the keys and values kept
    recompute: bool = False  # the backward pass computes blocks and logits again instead of keeping them
    device: Literal["cpu", "cuda"] = "cpu"  # where everything is kept and computed
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"  # what the network computes in
    # The world (tasks.py), or files of problems (real/jsonl.py)
    task: str = "arith"  # a world by its name in train.py, or jsonl
    data: str = "data"  # jsonl: folder of the files
    train_file: str = ""  # jsonl: JSON lines; the validation problems are taken from it
    test_files: tuple[str, ...] = ()  # jsonl: JSON lines, one test suite each
    prompt: str = "{problem}"  # jsonl: how a problem is put to the model, with special tokens and examples
    end: tuple[str, ...] = ()  # tokens that end a response, the first a demonstration; none: the base's
    train_problems: Count = 4000  # problems
    val_problems: Count = 200  # problems
    test_problems: Count = 200  # problems of each test suite
    demos: Count = 300  # training problems that have a demonstration
    wrong_demos: Share = 0.2  # share of a world's demonstrations with a false step
    far_demos: Share = 0.3  # share in a style far from the base; the rest is right
    # The base model: a checkpoint (real/), or a toy made by the run (base.py)
    base: str = ""  # folder in Hugging Face format; none: pretrain a toy
    model: ModelConfig = field(default_factory=ModelConfig)  # the toy: --model.hidden_size=96 and so on
    base_steps: Count = 1000  # steps of pretraining
    base_batch: Count = 256  # documents per step
    base_lr: Above0 = 3e-3  # peak step size
    # The method (bridge.py)
    method: str = "bridge"  # its name in bridge.py or study/rivals.py
    meta: Literal["first_order", "unrolled"] = "first_order"  # bridge: the teacher's gradient
    select: Literal["none", "reward", "gain", "ours"] = "none"  # what is supervised (study/gain.py)
    lam: Share = 0.7  # lambda, weight of RL against SFT; bridge and mix
    cold_start: Share = 0.3  # two_stage: share of the steps that are SFT, before RL
    reward_flip: Share = 0.0  # chance that a training reward is flipped; evaluation never is
    eta: NotNegative = 0.1  # unrolled: size of the inner gradient step
    lora_rank: Count = 8  # rank of w
    lora_scale: NotNegative = 2.0  # factor before B A
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")  # matrices that w touches, by name
    # Rollouts and losses (rollout.py, losses.py)
    prompts: Count = 16  # prompts per step
    group: Count = 8  # responses per prompt, G
    max_new: Count = 64  # longest response, tokens
    temperature: Above0 = 1.0  # of sampling in training and for pass@k
    demos_per_step: Count = 16  # demonstrations per step; the first prompts are theirs
    clip_low: Share = 0.2  # epsilon_low of the importance ratio
    clip_high: UpTo2 = 0.2  # epsilon_high; above clip_low it is "clip-higher"; ratios above 3 are cut
    scale_by_std: bool = True  # divide advantages by the group's standard deviation
    normaliser: Literal["token", "sequence"] = "token"  # J_RL averages over all tokens, or per response first
    kl: NotNegative = 0.0  # weight of the KL to the frozen base
    # The optimizer
    steps: Count = 100  # updates
    lr: Above0 = 1e-3  # alpha, peak step size of theta and theta_hat (Adam)
    lr_lora: Above0 = 1e-3  # beta, peak step size of w (Adam)
    warmup: Index = 5  # steps of linear warm-up; then cosine decay to a tenth
    max_grad_norm: Above0 = 1.0  # each player's gradient is clipped to this norm
    # The final table
    table: Literal["all", "trained", "none"] = "all"  # all: base, shadow, trained; none: no test is looked at
    versus: str = ""  # all: another method, trained first in the folder `out`-versus; none: no such row
    samples: Count = 8  # responses per test problem for pass@k

    def __post_init__(self):
        check_fields(self)
        limits = {"demos": "train_problems", "demos_per_step": "prompts", "prompts": "train_problems"}
        for few, many in [*limits.items(), ("demos_per_step", "demos")]:
            x, y = getattr(self, few), getattr(self, many)
            require(x <= y, f"{few} = {x} is more than {many} = {y}")
        free = self.prompts - self.demos_per_step <= self.train_problems - self.demos
        require(free, "prompts - demos_per_step is more than train_problems - demos, which have none")
        require(self.wrong_demos + self.far_demos <= 1, "wrong_demos + far_demos must be at most 1")
        require(self.group > 1 or self.method == "sft", "group = 1 has nobody to compare with: take more")
        require(not self.base or self.model == ModelConfig(), "model.* is for toys: base has a config.json")
        require(self.out.strip() and self.lora_targets, "out and lora_targets must not be empty")


# Keys that change no weight, or by rounding only: a run may go on with others.
ANY_TIME = "out log_every eval_every samples table versus micro_batch sample_rows recompute device".split()
# Words of the field -> the keys here.
KNOWN_ELSEWHERE = {"learning_rate": "lr and lr_lora", "batch_size": "prompts and group", "epochs": "steps"}
KNOWN_ELSEWHERE |= {"lambda": "lam", "num_generations": "group", "max_new_tokens": "max_new"}


def check_fields(config: Any, prefix: str = "") -> None:
    """The one loop over types, ranges and choices. Raises ConfigError that names the key."""
    for name, kind in get_type_hints(type(config), include_extras=True).items():
        value, (plain, *limits) = getattr(config, name), get_args(kind) or (kind,)
        fits, wanted = type(value) is plain, getattr(plain, "__name__", plain)
        if get_origin(kind) is Literal:
            fits, wanted = value in get_args(kind), "one of " + ", ".join(get_args(kind))
        elif get_origin(kind) is tuple:
            fits = type(value) is tuple and all(type(v) is plain for v in value)
            wanted = f"a list of {wanted}"
        elif limits:
            (low, high), wanted = limits
            fits = fits and low <= value <= high and math.isfinite(value)
        require(fits, f"{prefix}{name} = {value!r} must be {wanted}")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Config from a Python file, or from a run's JSON, and `--key=value` strings over it. Raises
    ConfigError."""
    path = Path(path)
    require(not path.is_dir(), f"{path} is a folder, not a config file; a run's settings are its run.json")
    try:
        given = json.loads(path.read_text()) if path.suffix == ".json" else runpy.run_path(str(path))
        given = {key: value for key, value in given.items() if not key.startswith("_")}
    except Exception as error:  # whatever a config file may do wrong
        raise ConfigError(f"config file {path}: {type(error).__name__}: {error}") from None
    for argument in overrides:
        key, equals, text = argument.removeprefix("--").partition("=")
        near = difflib.get_close_matches(argument, ("--resume", "--overwrite"), 1) or ["--key=value"]
        require(argument.startswith("--") and equals, f"{argument!r}: did you mean {near[0]}?")
        outer, _, inner = key.partition(".")
        before = given.get(outer) if isinstance(given.get(outer), dict) else {}
        given[outer] = {**before, inner: text} if inner else text
    return make(Config, given)


def make(kind: type, given: Mapping[str, Any], prefix: str = "") -> Any:
    """The dataclass `kind` from values or their texts. Raises ConfigError for a wrong key or type."""
    types = get_type_hints(kind)
    for key in given:
        near = difflib.get_close_matches(key, types, 1, cutoff=0.75)
        hint = KNOWN_ELSEWHERE.get(key) or (prefix + near[0] if near else "")
        hint = f": did you mean {hint}?" if hint else "; bridge_min/config.py lists them all"
        require(key in types, f"unknown key {prefix + key!r}{hint}")
    return kind(**{key: convert(value, types[key], key) for key, value in given.items()})


def convert(value: Any, kind: Any, key: str) -> Any:
    """The value as the field's type, where it is one in other clothes: a text of the command line, a list for
    a tuple, 1 for 1.0. Whether it fits is for check_fields to say."""
    if isinstance(value, str) and kind is not str and get_origin(kind) is not Literal:
        try:
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
        except (ValueError, SyntaxError):  # q_proj,v_proj
            value = [part for part in value.split(",") if part] if get_origin(kind) is tuple else value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(convert(part, get_args(kind)[0], key) for part in value)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return make(kind, value, key + ".")
    return float(value) if kind is float and type(value) is int else value


def differences(config: Config, saved: Config) -> list[str]:
    """Keys on which a run cannot go on from the saved settings, with both values."""
    pairs = {f.name: (getattr(saved, f.name), getattr(config, f.name)) for f in dataclasses.fields(Config)}
    return [f"{key} was {a}, is {b}" for key, (a, b) in pairs.items() if a != b and key not in ANY_TIME]


def to_json(config: Config | ModelConfig) -> str:
    return json.dumps(dataclasses.asdict(config), indent=2)


def generator(seed: int, index: int, purpose: str) -> torch.Generator:
    """The random numbers of one step, or problem, for one purpose: never global state, so any can be repeated
    alone."""
    digest = hashlib.sha256(f"{seed}/{index}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
