"""The base model: made by the run itself from the task's reading, once, and kept on disk.

The folder's name is a key over all that made it: settings, held-out problems, these source files, torch's
version. The code that trains sees only the settings that are in the key, so none can be forgotten. Read on in
bridge.py, where post-training begins.
"""

import hashlib
import json
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch

from .bridge import Step, adamw, ascend, gradients, j_sft, policy_logprobs, schedule, weighted
from .checkpoint import write
from .config import Config, ModelConfig, generator, to_json
from .evaluate import answer_problems
from .model import GPT, Params, build, init_params
from .pretrained import load_pretrained, read_config, save_pretrained
from .rollout import pack
from .sharding import alone, rank, spread, wait
from .tasks import Task, reading
from .tokenizer import Tokenizer, byte_tokenizer, load_tokenizer

SETTINGS = (
    *("seed", "threads", "task", "chain", "hard_chain", "products", "largest", "model", "max_new"),
    *("temperature", "sample_rows", "base_steps", "base_target", "base_batch", "base_lr", "worked_share"),
    "direct_share",
)
SOURCES = (  # all that is imported here, but for checkpoint.py and pretrained.py, which keep what was made
    *("answer", "arith", "bridge", "config", "data", "evaluate", "gain", "jsonl", "logic", "lora", "losses"),
    *("model", "pretrain", "problem", "rollout", "sharding", "tasks", "tokenizer"),
)
MICRO_BATCH, WARMUP, MAX_GRAD_NORM = 32, 20, 1.0  # rows, steps, norm
CHECK_EVERY, CHECK_SAMPLES = 50, 2  # steps, responses per validation problem


def base_model(config: Config, task: Task, tokenizer: Tokenizer) -> tuple[GPT, Params]:
    """The base of this config, kept in the precision `master` where the players live: the checkpoint `base`,
    or else a toy, from disk if it was made before. Of many processes the first one makes it, as it would by
    itself; each then keeps its slices."""
    folder = Path(config.base) if config.base else base_folder(config, task)
    if not config.base and rank() == 0 and not (folder / "model.safetensors").exists():
        print(f"base: pretraining, to be kept in {folder}")
        with alone():
            theta = pretrain(settings_of(config), task, tokenizer)
        write(folder / "base.json", to_json(config).encode())
        save_pretrained(folder, theta, config.model)
    wait()
    return load_pretrained(folder, getattr(torch, config.master), config.home, spread)


def tokenizer_of(config: Config) -> Tokenizer:
    """The checkpoint's, or the toys'. Raises TokenizerError."""
    return load_tokenizer(Path(config.base), config.end) if config.base else byte_tokenizer()


def network(config: Config) -> ModelConfig:
    """The shape of the base, known before it is loaded or made."""
    return read_config(Path(config.base)) if config.base else config.model


def base_folder(config: Config, task: Task) -> Path:
    """Beside the run's folder, named by the key."""
    made_by = {**vars(settings_of(config)), "model": asdict(config.model)}
    sources = [Path(__file__).with_name(f"{name}.py").read_text() for name in SOURCES]
    key = json.dumps([made_by, sorted(map(str, task.hidden)), sources, torch.__version__], sort_keys=True)
    return Path(config.out).parent / f"base-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def settings_of(config: Config) -> SimpleNamespace:
    return SimpleNamespace(micro_batch=MICRO_BATCH, **{name: getattr(config, name) for name in SETTINGS})


def pretrain(settings: SimpleNamespace, task: Task, tokenizer: Tokenizer) -> Params:
    """Next-token training on the reading's responses (the prompts are random numbers), from fresh weights,
    until the sampled responses solve `base_target` of the validation problems. How long that takes differs by
    seed."""
    theta = init_params(settings.model, generator(settings.seed, 0, "init"))
    optimizer, model = adamw(theta), build(settings.model)
    logprobs, began = partial(policy_logprobs, model, Config()), time.monotonic()
    for step in range(settings.base_steps):
        documents = reading(settings, step, task.hidden)
        prompts = [tokenizer.encode(prompt) for prompt, _ in documents]
        responses = [tokenizer.encode_response(response) for _, response in documents]
        objective = weighted((1.0, j_sft(Step(settings, logprobs, pack(prompts, responses), None))))
        direction, _, stats = gradients(objective, theta, {})
        lr = settings.base_lr * schedule(step, settings.base_steps, WARMUP)
        ascend(optimizer, theta, direction, lr, MAX_GRAD_NORM)
        if (step + 1) % CHECK_EVERY == 0:
            rewards, _ = answer_problems(settings, model, theta, tokenizer, task.val, CHECK_SAMPLES)
            solved = sum(map(sum, rewards)) / (len(rewards) * CHECK_SAMPLES)
            spent, loss = time.monotonic() - began, float(stats["sft_loss"])
            print(f"base: step {step + 1}  loss {loss:.3f}  solves {solved:.3f} of validation  {spent:.0f} s")
            if solved >= settings.base_target:
                return theta
    if settings.base_target < 1:
        print(f"base: {settings.base_target} was not reached in base_steps = {settings.base_steps}")
    return theta
