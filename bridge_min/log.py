"""A run's folder and what is written there while it runs.

run.json       the config
metrics.jsonl  a line per step and per validation: what follows from the seed, the same in every repetition
timing.jsonl   a line per step: seconds by part, tokens
"""

import fcntl
import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, TextIO

from .checkpoint import CheckpointError, write
from .config import Config, ConfigError, differences, load_config, require, to_json
from .pretrained import TOKENIZER_FILES
from .sharding import rank, wait

COLUMNS = {  # key of metrics.jsonl -> how the log shows it
    "reward": "reward {:.3f}",
    "finished": "ended {:.2f}",
    "length": "length {:.1f}",
    "sft_loss": "sft loss {:.3f}",
    "gain": "gain {:+.4f}",
    "kl": "kl {:.4f}",
    "ratio": "ratio {:.3f}",
    "ratio_hat": "ratio^ {:.3f}",
    "norm_theta": "|theta| {:.2f}",
    "norm_theta_hat": "|theta^| {:.2f}",
    "norm_w": "|w| {:.2f}",
}


RUN_FILES = (
    *("run.json", "config.json", "model*.safetensors*", "checkpoint*.safetensors", "student/*", "adapter/*"),
    *("metrics.jsonl", "timing.jsonl", "results.json", *TOKENIZER_FILES),
)


def check_folder(config: Config, resume: bool, overwrite: bool) -> list[str]:
    """The files of a run that are there. Raises ConfigError where a run would destroy or confuse
    something."""
    out = Path(config.out)
    used = [str(path.relative_to(out)) for name in RUN_FILES for path in sorted(out.glob(name))]
    require(not (resume and overwrite), "--resume and --overwrite exclude each other")
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    require(there.is_dir() and os.access(there, os.W_OK), f"out = {out}: {there} is no folder to write to")
    require(not used or "run.json" in used, f"{out} holds {used}, but no run of ours: choose another --out=")
    if used and not overwrite:
        require(
            resume, f"{out} holds a run: add --resume to go on, --overwrite to begin again, or another --out="
        )
        changed = ", ".join(differences(config, load_config(out / "run.json")))
        require(not changed, f"--resume: the run in {out} was begun with other settings: {changed}")
    require(used or not resume, f"--resume: there is no run in {out}; leave --resume out to begin one")
    return used


def open_folder(config: Config, resume: bool, overwrite: bool) -> TextIO | None:
    """Makes the run's folder ready and returns its lock, which is held until it is closed or the process
    ends, however it ends. Raises ConfigError as `check_folder` does, and where another run holds the lock. Of
    many processes the first one does it."""
    wait()
    lock, out = None, Path(config.out)
    if rank() == 0:
        try:
            out.mkdir(parents=True, exist_ok=True)
            lock = open(out / "lock", "a")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another run is at work in {out}: wait for it, or choose another --out="
            ) from None
        except OSError as error:
            raise ConfigError(f"out = {out} cannot be used: {error.strerror}") from None
        used = check_folder(config, resume, overwrite)
        for name in [] if resume else reversed(used):  # run.json last: what is left is still a run of ours
            (out / name).unlink()
        for folder in (out, out / "student", out / "adapter"):
            for draft in folder.glob("*.*.tmp"):  # of a run that was killed while it wrote
                draft.unlink()
        if not resume:
            write(out / "run.json", to_json(config).encode())
    wait()
    return lock


class RunLog:
    """Appends to the two files and prints a line per interval. `first`: updates done before this start. Of
    many processes the first one writes."""

    def __init__(self, out: Path, config: Config, first: int, lock: TextIO | None = None):
        self.lock = lock  # of the folder, held as long as somebody may write there
        self.config, self.first, self.began, self.since = config, first, time.monotonic(), defaultdict(list)
        self.files = {}
        for name in () if rank() else ("metrics.jsonl", "timing.jsonl"):
            path = out / name
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            try:
                known = [(json.loads(line)["step"], line) for line in lines if line.endswith("\n")]
                kept, last = [line for step, line in known if first and step <= first], max([0, *dict(known)])
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(f"{path} is damaged: {error}; mend it or move it away") from None
            if not first and last > config.save_every:
                raise CheckpointError(
                    f"{out} holds no checkpoint, but {name} goes to step {last}: put the checkpoint back, "
                    "or begin again by --overwrite"
                )
            write(path, "".join(kept).encode())
            self.files[name] = open(path, "a", buffering=1)

    def step(self, done: int, metrics: dict[str, float], seconds: dict[str, float], tokens: int) -> None:
        """Update number `done` (from 1) is over; tokens: sampled and demonstrated."""
        self.write("metrics.jsonl", step=done, **metrics)
        self.write("timing.jsonl", step=done, tokens=tokens, **seconds)
        for key, value in {**metrics, "seconds": sum(seconds.values()), "tokens": tokens}.items():
            self.since[key].append(value)
        if done % self.config.log_every == 0 or done == self.config.steps:
            self.print_means(done)

    def print_means(self, done: int) -> None:
        means = {key: sum(values) / len(values) for key, values in self.since.items()}
        self.since.clear()
        shown = [form.format(means[key]) for key, form in COLUMNS.items() if key in means]
        left = (time.monotonic() - self.began) / (done - self.first) * (self.config.steps - done)
        speed = f"{means['tokens'] / means['seconds']:.0f} tokens/s  {left:.0f} s left"
        print("  ".join([f"step {done:>4}/{self.config.steps}", *shown, speed]))

    def write(self, file: str, **values: Any) -> None:
        if file in self.files:
            self.files[file].write(json.dumps(values) + "\n")

    def sync(self) -> None:
        """To be called before a checkpoint is saved, which must not outlive the lines that lead to it."""
        for file in self.files.values():
            os.fsync(file.fileno())
