"""The toys' base model: made by the run itself from the world's documents, once, and kept on disk.

The folder's name is a key over all that made it: settings, held-out puzzles, the files of this ring, torch's
version. What trains sees only the settings that are in the key, so none can be forgotten. Read on in
evaluate.py.
"""

import hashlib
import json
import random
import time
from collections.abc import Hashable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import torch

from .bridge import Step, ascend, gradients, j_sft, moments, plain_runtime, schedule, total_norm
from .checkpoint import check_shapes, load_folder, save_folder
from .config import Config, generator, make, to_json
from .evaluate import answer_problems
from .model import Params, build, init_params
from .rollout import pack
from .tasks import Bytes, Job, Task

SETTINGS = (
    *("seed", "threads", "task", "model", "max_new", "temperature", "sample_rows"),
    *("base_steps", "base_target", "base_batch", "base_lr"),
)
NO_PART = ("checkpoint.py", "run.py")  # files of this ring that a base does not depend on
MICRO_BATCH, WARMUP, MAX_GRAD_NORM = 32, 20, 1.0  # rows, steps, norm
CHECK_EVERY, CHECK_SAMPLES = 50, 2  # steps, responses per validation problem


def toy_base(job: Job) -> Params:
    """The toy's weights before post-training, from disk if they were made before; of many processes the first
    one makes them."""
    folder = base_folder(job.config, job.world, job.task)
    if job.run.rank == 0 and not folder.exists():
        print(f"base: pretraining, to be kept in {folder}")
        save_model(folder, pretrain(settings_of(job.config), job.world, job.task), job.config)
    job.run.total(torch.zeros(()))  # until it is there
    return {name: W.to(job.config.device) for name, W in load_model(folder)[1].items()}


def save_model(folder: Path, theta: Params, config: Config) -> None:
    """A toy's weights, and the settings that made them."""
    save_folder(folder, [("model", theta)], asdict(config))


def load_model(folder: Path) -> tuple[Config, Params]:
    """What `save_model` saved. Raises CheckpointError."""
    about, parts = load_folder(folder)
    config, theta = make(Config, about), dict(parts["model"])
    check_shapes(folder, theta, dict(build(config.model).named_parameters()))
    return config, theta


def settings_of(config: Config) -> Config:
    """The config with every setting at its default that a base does not depend on."""
    return Config(**{name: getattr(config, name) for name in SETTINGS}, micro_batch=MICRO_BATCH)


def base_folder(config: Config, world: ModuleType, task: Task) -> Path:
    """Beside the run's folder, named by the key."""
    files = {path for path in Path(__file__).parent.glob("*.py") if path.name not in NO_PART}
    sources = [path.read_text() for path in sorted(files | {Path(world.__file__)})]
    key = [to_json(settings_of(config)), sorted(map(str, task.hidden)), sources, torch.__version__]
    return Path(config.out).parent / f"base-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"


def pretrain(settings: Config, world: ModuleType, task: Task) -> Params:
    """Next-token training on the documents' responses (the prompts are random numbers), from fresh weights,
    until the sampled responses solve `base_target` of the validation problems. How long that takes differs by
    seed."""
    theta = init_params(settings.model, generator(settings.seed, 0, "init"))
    job = Job(settings, plain_runtime(build(settings.model), settings), task, Bytes())
    state, began, encode = (
        {"theta": theta, **moments({"theta": theta})},
        time.monotonic(),
        job.tokenizer.encode,
    )
    for step in range(settings.base_steps):
        documents = read(settings, step, world, task.hidden)
        responses = [job.tokenizer.encode_response(response) for _, response in documents]
        s = Step(settings, job.run, pack([encode(prompt) for prompt, _ in documents], responses), None)
        g, _, stats = gradients(s, [j_sft(s)], theta, {})
        lr = settings.base_lr * schedule(step, settings.base_steps, WARMUP)
        ascend(state, "theta", g, total_norm(g), lr, MAX_GRAD_NORM, step)
        done = step + 1
        if done in (5, 20) or done % CHECK_EVERY == 0 or done == settings.base_steps:
            left = (time.monotonic() - began) / done * (settings.base_steps - done)
            line = (
                f"base: step {done:>4}/{settings.base_steps}  loss {stats['sft_loss']:.3f}  {left:.0f} s left"
            )
            solved = 0.0
            if done % CHECK_EVERY == 0:
                solved = float(answer_problems(job, theta, task.val, "val", CHECK_SAMPLES)[0].mean())
                line += f"  solves {solved:.3f} of validation"
            print(line)
            if solved >= settings.base_target:
                break
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
