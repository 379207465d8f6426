"""A run's folder and what is written there while it runs; its lock, and signals.

run.json       the config
metrics.jsonl  a line per step and per validation: what follows from the seed, the same in every repetition
timing.jsonl   a line per step: seconds by part, tokens

The path through the inner ring ends here; train.py puts it together.
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import torch

from .bridge import Runtime, Stats
from .checkpoint import CheckpointError, write
from .config import Config, ConfigError, differences, load_config, require, to_json
from .rollout import Rows

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
OURS = ("checkpoint-*", "model", "student", "adapter", "*.jsonl", "results.json", "run.json")  # run.json last


def check_folder(config: Config, resume: bool, overwrite: bool) -> list[Path]:
    """What a run has written there. Raises ConfigError where a run would destroy or confuse something."""
    out = Path(config.out)
    used = [path for name in OURS for path in sorted(out.glob(name))]
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    require(there.is_dir() and os.access(there, os.W_OK), f"out = {out}: {there} is no folder to write to")
    require(not (resume and overwrite), "--resume and --overwrite exclude each other")
    names = ", ".join(path.name for path in used)
    require(
        not used or out / "run.json" in used,
        f"{out} holds {names}, but no run of ours: choose another --out=",
    )
    require(resume or overwrite or not used, f"{out} holds a run: --resume goes on, --overwrite begins again")
    if resume:
        require(used, f"--resume: no run was begun in {out} yet; leave --resume out to begin one")
        changed = ", ".join(differences(config, load_config(out / "run.json")))
        advice = "give it the old ones, or begin another by --out= or --overwrite"
        require(
            not changed, f"--resume: the run in {out} was begun with other settings ({changed}): {advice}"
        )
    return used


def open_folder(config: Config, resume: bool, overwrite: bool) -> TextIO:
    """Makes the run's folder ready and returns its lock, which is held until it is closed or the process
    ends, however it ends. Raises ConfigError as `check_folder` does, and where another run holds the lock."""
    out = Path(config.out)
    check_folder(config, resume, overwrite)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / "lock", "a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"another run is at work in {out}: wait for it, or choose another --out=") from None
    except OSError as error:
        raise ConfigError(f"out = {out} cannot be used: {error.strerror}") from None
    drafts = [*out.glob("*.tmp"), *out.glob("*/*.tmp")]  # of a run that was killed while it wrote
    for path in [*drafts, *([] if resume else check_folder(config, resume, overwrite))]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not resume:
        write(out / "run.json", to_json(config).encode())
    return lock


class RunLog:
    """Appends to the two files and prints a line per interval. `first`: updates done before this start. Of
    many processes the first one writes."""

    def __init__(self, config: Config, run: Runtime, first: int):
        self.config, self.first, self.began, self.since = config, first, time.monotonic(), defaultdict(list)
        self.total, self.files = run.total, {}
        for name in () if run.rank else ("metrics.jsonl", "timing.jsonl"):
            path = Path(config.out) / name
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            try:  # a line that was cut in two was written after the checkpoint
                known = [(json.loads(line)["step"], line) for line in lines if line.endswith("\n")]
                last = max((step for step, _ in known), default=0)
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(f"{path} is damaged: {error}; mend it or move it away") from None
            if not first and last > config.eval_every:
                lost = f"{path} goes to step {last}, but there is no checkpoint"
                raise CheckpointError(f"{lost}: put it back, or begin again by --overwrite")
            write(path, "".join(line for step, line in known if first and step <= first).encode())
            self.files[name] = open(path, "a", buffering=1)

    def step(
        self, done: int, stats: Stats, norms: Stats, seconds: dict[str, float], rows: Sequence[Rows | None]
    ) -> None:
        """Update number `done` (from 1) is over. stats: this process's sums; norms: of the players'
        gradients; rows: what was sampled and shown."""
        tokens = torch.stack([r.mask.sum() for r in rows if r is not None]).sum()
        names, sums = list(stats), [value.detach().double().cpu() for value in (*stats.values(), tokens)]
        *sums, tokens = self.total(torch.stack(sums)).tolist()
        found = means(dict(zip(names, sums, strict=True)))
        found |= {f"norm_{name}": float(norm) for name, norm in norms.items()}
        self.write("metrics.jsonl", step=done, **found)
        self.write("timing.jsonl", step=done, tokens=tokens, **seconds)
        for key, value in {**found, "seconds": sum(seconds.values()), "tokens": tokens}.items():
            self.since[key].append(value)
        if done % self.config.log_every == 0 or done == self.config.steps:
            shown = {key: sum(values) / len(values) for key, values in self.since.items()}
            self.since.clear()
            columns = [form.format(shown[key]) for key, form in COLUMNS.items() if key in shown]
            left = (time.monotonic() - self.began) / (done - self.first) * (self.config.steps - done)
            speed = f"{shown['tokens'] / shown['seconds']:.0f} tokens/s  {left:.0f} s left"
            print("  ".join([f"step {done:>4}/{self.config.steps}", *columns, speed]))

    def write(self, file: str, **values: Any) -> None:
        if file in self.files:
            self.files[file].write(json.dumps(values) + "\n")

    def sync(self) -> None:
        """To be called before a checkpoint is saved, which must not outlive the lines that lead to it."""
        for file in self.files.values():
            os.fsync(file.fileno())


def means(sums: dict[str, float]) -> dict[str, float]:
    """Ratios and the clipped share become means over the tokens that were computed; all else is a mean."""
    for name, weight in (("ratio", "weight"), ("clipped", "weight"), ("ratio_hat", "weight_hat")):
        if name in sums:
            sums[name] = sums[name] / sums[weight] if sums[weight] else 0.0
    return {name: value for name, value in sums.items() if not name.startswith("weight")}


def catch_signals(run: Runtime) -> list[int]:
    """A list that Ctrl-C, and SIGTERM as clusters send it, fill, so that no step is cut in two; a second
    Ctrl-C stops at once (but not under torchrun, which passes each on a second time)."""
    caught: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        if number == signal.SIGINT and run.world == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if run.rank == 0:  # not by print, which this may have interrupted
            os.write(2, f"{signal.Signals(number).name}: finishing this step, then saving\n".encode())

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    return caught
