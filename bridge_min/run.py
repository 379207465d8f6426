"""A run's folder and what is written there while it runs; its lock, and signals.

run.json       the config
inputs.json    digests of the problems and of the base
metrics.jsonl  a line per step and per validation: what follows from the seed, the same in every repetition
timing.jsonl   a line per step: seconds by part, tokens

The path through the inner ring ends here; train.py puts it together.
"""

import fcntl
import hashlib
import json
import os
import signal
import time
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import torch

from .bridge import Runtime, Stats
from .checkpoint import CheckpointError, remove, write
from .config import Config, ConfigError, differences, load_config, require, to_json
from .model import Params
from .rollout import Rows
from .tasks import Job

COLUMNS = ("reward", "finished", "length", "sft_loss", "gain", "kl", "ratio", "ratio_hat")  # of the log
OURS = ("checkpoint-*", "model", "student", "adapter", "*.jsonl", "results.json", "inputs.json")
OURS = (*OURS, "run.json")  # the last to go: by it a run is known


def open_folder(config: Config, resume: bool, overwrite: bool) -> TextIO:
    """Makes the run's folder ready and returns its lock, which is held until it is closed or the process
    ends, however it ends. Raises ConfigError where a run would destroy or confuse something."""
    out = Path(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / "lock", "a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        why = "another run is at work there" if isinstance(error, BlockingIOError) else error.strerror
        raise ConfigError(f"out = {out} cannot be used: {why}; choose another --out=") from None
    used = [path for name in OURS for path in sorted(out.glob(name))]
    names = ", ".join(path.name for path in used)
    require(not (resume and overwrite), "--resume and --overwrite exclude each other")
    require(not used or out / "run.json" in used, f"{out} holds {names}, but no run: choose another --out=")
    require(resume or overwrite or not used, f"{out} holds a run: --resume goes on, --overwrite begins again")
    require(used or not resume, f"--resume: no run was begun in {out} yet; leave --resume out to begin one")
    if resume:
        changed = ", ".join(differences(config, load_config(out / "run.json")))
        advice = "give it those, or begin another by --out= or --overwrite"
        require(not changed, f"--resume: {out} was begun with other settings ({changed}): {advice}")
    folders = (out, *(out / name for name in ("model", "student", "adapter")))
    drafts = [path for folder in folders for path in folder.glob("*.tmp")]  # of a run that was killed
    for path in drafts if resume else [*drafts, *used]:
        remove(path)  # if it is still there: it may have been in a draft itself
    if not resume:
        write(out / "run.json", to_json(config).encode())
    return lock


def check_inputs(job: Job, base: Params) -> None:
    """What the settings only name must be what it was when the run was begun: the problems, as tokens, and
    the base, its shape and weights. Raises ConfigError that names what is not."""
    task, path, words = job.task, Path(job.config.out) / "inputs.json", job.tokenizer
    data = hashlib.sha256()
    for p in chain(task.train, task.val, task.demos, *task.tests.values()):
        tokens = words.encode(p.template, p.text), words.encode_response(p.solution)
        data.update(json.dumps([*tokens, p.answer]).encode())
    weights = hashlib.sha256(to_json(job.runtime.model.config).encode())
    for name, W in sorted(base.items()):
        weights.update(name.encode())
        weights.update(W.cpu().flatten().view(torch.uint8).numpy())
    found = {"data": data.hexdigest(), "base": weights.hexdigest()}
    if not path.exists():
        write(path, json.dumps(found, indent=2).encode())
    changed = " and ".join(f"the {name}" for name in found if found[name] not in path.read_text())
    advice = "put back what was there, or begin again by --out= or --overwrite"
    require(not changed, f"--resume: {changed} changed since {path.parent} was begun: {advice}")


class RunLog:
    """Appends to the two files and prints a line per interval. `first`: updates done before this start. Of
    many processes the first one writes."""

    def __init__(self, config: Config, runtime: Runtime, first: int):
        self.config, self.first, self.began, self.since = config, first, time.monotonic(), defaultdict(list)
        self.total, self.files, out = runtime.total, {}, Path(config.out)
        for name in () if runtime.rank else ("metrics.jsonl", "timing.jsonl"):
            path = out / name
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            if not first and any('"val_theta"' in line for line in lines[1:-1]):  # followed by a checkpoint
                raise CheckpointError(f"{out} has lost its checkpoint: put it back, or begin by --overwrite")
            try:  # lines after the checkpoint go, also one that was cut in two
                kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= first]
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(f"{path} is damaged: {error}; mend it or move it away") from None
            write(path, "".join(kept if first else []).encode())
            self.files[name] = open(path, "a", buffering=1)

    def step(
        self, done: int, stats: Stats, norms: Stats, seconds: dict[str, float], *rows: Rows | None
    ) -> None:
        """Update number `done` (from 1) is over. stats: this process's sums; norms: of the players'
        gradients; rows: what was sampled and shown."""
        stats = {**stats, "tokens": sum(r.mask.sum() for r in rows if r is not None)}
        sums = self.total(torch.stack([value.detach().double().cpu() for value in stats.values()])).tolist()
        found = dict(zip(stats, sums, strict=True))
        for name in [name for name in ("ratio", "clipped", "ratio_hat") if name in found]:
            weight, value = found["weight_hat" if "hat" in name else "weight"], found.pop(name)
            found |= {name: value / weight} if weight else {}  # a mean over the tokens that were computed
        times = {"tokens": found.pop("tokens"), **seconds}
        found = {name: value for name, value in found.items() if not name.startswith("weight")}
        found |= {f"norm_{name}": float(norm) for name, norm in norms.items()}
        self.write("metrics.jsonl", step=done, **found)
        self.write("timing.jsonl", step=done, **times)
        for key, value in {**found, **times}.items():
            self.since[key].append(value)
        if done % self.config.log_every == 0 or done == self.config.steps:
            shown = {key: sum(values) / len(values) for key, values in self.since.items()}
            columns = [f"{key} {shown[key]:.3f}" for key in shown if key in COLUMNS or key.startswith("norm")]
            speed = f"{shown['tokens'] / sum(shown[key] for key in seconds):.0f} tokens/s"
            left = (time.monotonic() - self.began) / (done - self.first) * (self.config.steps - done)
            print("  ".join([f"step {done:>4}/{self.config.steps}", *columns, speed, f"{left:.0f} s left"]))
            self.since.clear()

    def write(self, file: str, **values: Any) -> None:
        if file in self.files:
            self.files[file].write(json.dumps(values) + "\n")

    def sync(self) -> None:
        """To be called before a checkpoint is saved, which must not outlive the lines that lead to it."""
        for file in self.files.values():
            os.fsync(file.fileno())


def catch_signals(runtime: Runtime) -> list[int]:
    """A list that Ctrl-C, and SIGTERM as clusters send it, fill, so that no step is cut in two; a second
    Ctrl-C stops at once (but not under torchrun, which passes each on a second time)."""
    caught: list[int] = []

    def handler(number: int, _frame: object) -> None:
        caught.append(number)
        if number == signal.SIGINT and runtime.processes == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if runtime.rank == 0:  # not by print, which this may have interrupted
            os.write(2, f"{signal.Signals(number).name}: finishing this step, then saving\n".encode())

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    return caught
