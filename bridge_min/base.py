"""The toys' tokenizer, and their base model: made by the run itself from the world's documents, once, and
kept on disk.

The folder's name is a key over all that made it: settings, held-out puzzles, the files of this ring, torch's
version. What trains sees only the settings that are in the key, so none can be forgotten. Read on in
evaluate.py.
"""

import hashlib
import json
import random
import time
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import torch

from .bridge import Step, adamw, ascend, gradients, j_sft, plain_runtime, schedule, total_norm
from .checkpoint import check_shapes, load_folder, save_folder
from .config import Config, ModelConfig, generator, make, to_json
from .evaluate import answer_problems
from .model import Params, build, init_params
from .rollout import pack
from .tasks import Task, Tokenizer

SETTINGS = (
    *("seed", "threads", "task", "model", "max_new", "temperature", "sample_rows"),
    *("base_steps", "base_target", "base_batch", "base_lr"),
)
NO_PART = ("checkpoint.py", "run.py")  # files of this ring that a base does not depend on
MICRO_BATCH, WARMUP, MAX_GRAD_NORM = 32, 20, 1.0  # rows, steps, norm
CHECK_EVERY, CHECK_SAMPLES = 50, 2  # steps, responses per validation problem


class Bytes:
    """A token for each of the 256 bytes, and one for the end of text."""

    n_vocab, ends = 258, (257,)

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8", "replace"))

    def encode_response(self, text: str) -> list[int]:
        return [*self.encode(text), *self.ends]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of any tokens: the end has none, broken UTF-8 becomes U+FFFD."""
        return bytes(token for token in tokens if token < 256).decode("utf-8", "replace")


def toy_base(config: Config, world: ModuleType, task: Task, tokenizer: Tokenizer) -> Params:
    """The toy's weights before post-training, from disk if they were made before."""
    folder = base_folder(config, world, task)
    if not folder.exists():
        print(f"base: pretraining, to be kept in {folder}")
        theta = pretrain(settings_of(config), world, task, tokenizer)
        save_model(folder, theta, config.model, json.loads(to_json(config)))
    return load_model(folder)[1]


def save_model(folder: Path, theta: Params, shape: ModelConfig, run: dict) -> None:
    """Weights and what they are of; `run`: the settings that made them."""
    save_folder(folder, [("model", theta)], {"model": asdict(shape), "run": run})


def load_model(folder: Path) -> tuple[ModelConfig, Params]:
    """What `save_model` saved. Raises CheckpointError."""
    about, parts = load_folder(folder)
    shape, theta = make(ModelConfig, about["model"], "model."), dict(parts["model"])
    check_shapes(folder, theta, dict(build(shape).named_parameters()))
    return shape, theta


def settings_of(config: Config) -> Config:
    """The config with every setting at its default that a base does not depend on."""
    return Config(**{name: getattr(config, name) for name in SETTINGS}, micro_batch=MICRO_BATCH)


def base_folder(config: Config, world: ModuleType, task: Task) -> Path:
    """Beside the run's folder, named by the key."""
    files = {path for path in Path(__file__).parent.glob("*.py") if path.name not in NO_PART}
    sources = [path.read_text() for path in sorted(files | {Path(world.__file__)})]
    key = [to_json(settings_of(config)), sorted(map(str, task.hidden)), sources, torch.__version__]
    return Path(config.out).parent / f"base-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"


def pretrain(settings: Config, world: ModuleType, task: Task, tokenizer: Tokenizer) -> Params:
    """Next-token training on the documents' responses (the prompts are random numbers), from fresh weights,
    until the sampled responses solve `base_target` of the validation problems. How long that takes differs by
    seed."""
    theta = init_params(settings.model, generator(settings.seed, 0, "init"))
    run, optimizer, began = plain_runtime(build(settings.model), settings), adamw(theta), time.monotonic()
    for step in range(settings.base_steps):
        documents = read(settings, step, world, task.hidden)
        prompts = [tokenizer.encode(prompt) for prompt, _ in documents]
        demos = pack(prompts, [tokenizer.encode_response(response) for _, response in documents])
        s = Step(settings, run, demos, None)
        g, _, stats = gradients(s, [j_sft(s)], theta, {})
        lr = settings.base_lr * schedule(step, settings.base_steps, WARMUP)
        ascend(optimizer, theta, g, total_norm(g), lr, MAX_GRAD_NORM)
        done, spent = step + 1, time.monotonic() - began
        if done in (1, 10) or done % CHECK_EVERY == 0:
            left, loss = spent / done * (settings.base_steps - done), float(stats["sft_loss"])
            print(f"base: step {done:>4}/{settings.base_steps}  loss {loss:.3f}  {left:.0f} s left", end="")
            if done % CHECK_EVERY == 0:
                rewards, _ = answer_problems(settings, run, theta, tokenizer, task.val, "val", CHECK_SAMPLES)
                print(f"  solves {rewards.mean():.3f} of validation", end="")
                if rewards.mean() >= settings.base_target:
                    break
            print()
    print()
    return theta


def read(
    settings: Config, step: int, world: ModuleType, hidden: frozenset[Hashable]
) -> list[tuple[str, str]]:
    """One pretraining batch of documents (prompt, response), none of them about a puzzle in `hidden`."""
    draw, documents = random.Random(f"{settings.seed}/{step}/reading"), []
    while len(documents) < settings.base_batch:
        puzzle, prompt, response = world.document(draw)
        if puzzle not in hidden:
            documents.append((prompt, response))
    return documents
