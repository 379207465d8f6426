"""The toys' base model: made by the run itself from the world's documents, once, and kept on disk.

The folder's name is a key over all that made it: settings, held-out puzzles, the files of this ring, torch's
version. What trains sees only the settings that are in the key, so none can be forgotten. Read on in run.py.
"""

import hashlib
import json
import random
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import torch

from .bridge import Step, gradients, j_sft, plain_runtime
from .checkpoint import check_shapes, load_folder, save_folder
from .config import Config, ModelConfig, generator, make, to_json
from .model import Params, build
from .optimizer import ascend, moments, schedule, total_norm
from .rollout import pack
from .tasks import Bytes, Job, Task

SETTINGS = ("seed", "threads", "task", "model", "base_steps", "base_batch", "base_lr")
NO_PART = ("checkpoint.py", "evaluate.py", "run.py")  # files that a base does not depend on
MICRO_BATCH, WARMUP, MAX_GRAD_NORM, LOG_EVERY = 32, 20, 1.0, 50  # rows, steps, norm, steps


def toy_base(job: Job) -> Params:
    """The toy's weights before post-training, from disk if they were made before; of many processes the first
    one makes them."""
    folder = base_folder(job.config, job.world, job.task)
    if job.runtime.rank == 0 and not folder.exists():
        print(f"base: pretraining, to be kept in {folder}")
        save_model(folder, pretrain(settings_of(job.config), job.world, job.task), job.config)
    job.runtime.total(torch.zeros(()))  # until it is there
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


def init_params(shape: ModelConfig, generator: torch.Generator) -> Params:
    """Fresh weights: norms 1, biases 0, the embedding normal with deviation 0.1, matrices 1 / sqrt(in); but 0
    for those that write to the residual stream, so that every block begins as the identity.

    A narrow network learns many times slower from the usual 0.02, which is 1 / sqrt(in) for a width of 2500.
    """
    theta = {}
    for name, param in build(shape).named_parameters():
        std = 0.1 if name == "model.embed_tokens.weight" else param.shape[-1] ** -0.5
        std = 0.0 if "o_proj" in name or "down_proj" in name else std
        noise, constant = torch.randn(param.shape, generator=generator), float(not name.endswith("bias"))
        theta[name] = noise * std if param.dim() == 2 else torch.full(param.shape, constant)
    return theta


def pretrain(settings: Config, world: ModuleType, task: Task) -> Params:
    """Next-token training on the documents' responses (prompts cannot be predicted), from fresh weights."""
    theta = init_params(settings.model, generator(settings.seed, 0, "init"))
    runtime, tokenizer, began = plain_runtime(build(settings.model), settings), Bytes(), time.monotonic()
    state, steps = {"theta": theta, **moments({"theta": theta})}, settings.base_steps
    for step in range(steps):
        documents = reading(settings, step, world, task.hidden)
        prompts = [tokenizer.encode(prompt) for prompt, _ in documents]
        responses = [tokenizer.encode_response(response) for _, response in documents]
        s = Step(settings, runtime, pack(prompts, responses), None)
        g, _, stats = gradients(s, [j_sft(s)], theta, {})
        lr = settings.base_lr * schedule(step, steps, WARMUP)
        ascend(state, "theta", g, total_norm(g), lr, MAX_GRAD_NORM, step)
        done = step + 1
        if done in (5, 20) or done % LOG_EVERY == 0 or done == steps:
            left = (time.monotonic() - began) / done * (steps - done)
            print(f"base: step {done:>4}/{steps}  loss {stats['sft_loss']:.3f}  {left:.0f} s left")
    return theta


def reading(settings: Config, step: int, world: ModuleType, hidden: frozenset) -> list[tuple[str, str]]:
    """One pretraining batch of documents (prompt, response), none of them about a puzzle in `hidden`."""
    draw, documents = random.Random(f"{settings.seed}/{step}/reading"), []
    while len(documents) < settings.base_batch:
        puzzle, prompt, response = world.document(draw)
        if puzzle not in hidden:
            documents.append((prompt, response))
    return documents
