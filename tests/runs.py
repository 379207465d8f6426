"""Runs of train.py that are as small as they can be, in this process, and what they leave behind.

A network of 16 channels, some steps, no setting at its default that could be forgotten on its way. With this
seed the first step keeps a demonstration: without one, w's first gradient is 0 and its rounding is what Adam
follows, another on each number of processes. Read on in test_train.py."""

import contextlib
import io
import json
import os
import shutil
import signal
from itertools import count

from bridge_min import tasks
from bridge_min.checkpoint import load_folder, saved_runs
from train import cli

TINY = """
model = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
train_problems, val_problems, test_problems, demos = 60, 20, 20, 20
base_steps, base_batch, base_lr, threads, seed = 150, 8, 2e-2, 1, 14
prompts, group, max_new, demos_per_step, micro_batch, temperature = 4, 4, 8, 3, 8, 0.9
steps, eval_every, log_every, samples, table = 4, 2, 1, 3, "none"
lr, lr_lora, warmup, lam, kl, reward_flip, select = 5e-3, 2e-2, 1, 0.6, 0.1, 0.3, "reward"
lora_rank, lora_scale, lora_targets = 3, 1.5, ("q_proj", "down_proj")
"""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def arguments(folder, name, *options):
    return [str(folder / "tiny.py"), f"--out={folder / name}", *options]


def run(folder, name, *options):
    """train.py's command line: what it printed, and the error it ended with."""
    printed, error = io.TextIOWrapper(io.BytesIO(), "utf-8"), ""
    handlers = list(map(signal.getsignal, SIGNALS))
    try:
        with contextlib.redirect_stdout(printed):
            cli(arguments(folder, name, *options))
    except SystemExit as stop:
        error = str(stop)
    finally:
        list(map(signal.signal, SIGNALS, handlers))
    printed.seek(0)
    return printed.read(), error


def ran(folder, name, *options):
    """The folder of a run that must end well."""
    _, error = run(folder, name, *options)
    assert not error, error
    return folder / name


def at_step(monkeypatch, number, act):
    """Calls act() in the middle of the step after `number` updates, once its demonstrations are asked for."""
    original = tasks.demonstrate

    def demonstrate(job, step):
        if step == number:
            act()
        return original(job, step)

    monkeypatch.setattr(tasks, "demonstrate", demonstrate)


def cut_power(*_):
    """Ends a run wherever it is: nobody catches this on the way."""
    raise SystemExit("power cut")


def cut_at_each_write(monkeypatch, begun, at, start):
    """Copies a run's folder to `at` and calls start() there, cut off before the first file or folder takes
    its place, then before the second, and so on; yields after each, until there are no more."""
    replace = os.replace
    for written in count():
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(begun, at)
        left = iter(range(written))
        put = lambda *paths: cut_power() if next(left, None) is None else replace(*paths)  # noqa: B023
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", put)
            try:
                start()
                return
            except SystemExit as stop:
                assert str(stop) == "power cut"
        yield


def state(out, done=None):
    """Part -> tensors, of the newest checkpoint or of that after `done` updates."""
    saved = saved_runs(out)
    return {name: dict(part) for name, part in load_folder(saved[done or max(saved)])[1].items()}


def metrics(out, key="step"):
    """The lines that have this key."""
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if key in line]


def scores(out):
    return json.loads((out / "results.json").read_text())["scores"]


def outcome(out):
    """All that follows from the seed: the bits of the last checkpoint and of the model, metrics, table."""
    parts = {**state(out), "exported": dict(load_folder(out / "model")[1]["model"])}
    bits = {(part, name): t.numpy().tobytes() for part in parts for name, t in parts[part].items()}
    return bits, (out / "metrics.jsonl").read_text(), scores(out)
