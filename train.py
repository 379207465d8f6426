"""Post-train a language model, told in order: config, base, (rollouts, update, log, save) x steps, table.

    python train.py tiny_configs/arith.py                  # from nothing to a table
    python train.py tiny_configs/arith.py --out=out/other --lam=0.5     # any key of bridge_min/config.py
    python train.py tiny_configs/arith.py --resume         # go on where a stopped run was last saved
    python train.py tiny_configs/arith.py --overwrite      # begin again in a used folder
    torchrun --nproc_per_node=2 train.py tiny_configs/arith.py      # the same run, shared by processes

Only here (and in eval.py) are the outer rooms opened: real/ for checkpoints and files, study/ for rivals,
selection and the logic world, scale/ for precision, recomputation and processes. The tour that ends here
begins in bridge_min/config.py.
"""

import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from bridge_min import base, bridge, evaluate, optimizer, tasks
from bridge_min.bridge import Method, Players, Step
from bridge_min.checkpoint import CheckpointError, load_latest, save_run, write
from bridge_min.config import Config, ConfigError, load_config, require
from bridge_min.model import Params, build
from bridge_min.run import RunLog, catch_signals, check_inputs, open_folder

WORLDS = {"arith": "bridge_min.arith", "logic": "bridge_min.study.logic"}  # a new toy world: one line here
MANY = "TORCHELASTIC_RUN_ID" in os.environ  # processes, which torchrun has started


def train(config: Config, resume: bool = False, overwrite: bool = False) -> None:
    """From the base, or from the last checkpoint, to the end and the table."""
    job, (method, select), out = open_job(config), open_method(config), Path(config.out)
    runtime = job.runtime
    optimizer.start(config, method, dict(runtime.model.named_parameters()))  # refuses wrong lora_targets
    lock = open_folder(config, resume, overwrite) if runtime.rank == 0 else None  # held until the run ends
    if versus := other_run(config):
        train(versus, resume and (Path(versus.out) / "run.json").exists(), overwrite)
    theta = load_base(job)
    if runtime.rank == 0:
        check_inputs(job, theta)
    reference = runtime.keep({name: W.clone() for name, W in theta.items()}) if config.kl else {}
    players = {name: runtime.keep(params) for name, params in optimizer.start(config, method, theta).items()}
    del theta  # the players have it now; the table at the end loads it again
    state = {**players, **optimizer.moments(players)}  # the same tensors: they move together
    saved = load_latest(out, state, runtime)
    log, caught = RunLog(config, runtime, saved or 0), catch_signals(runtime)
    if saved is None:
        log.write("metrics.jsonl", step=0, **evaluate.validate(job, players, 0))
    else:
        print(f"going on after step {saved} of {config.steps}")

    for step in range(saved or 0, config.steps):
        began, rollouts, stats = time.perf_counter(), None, {}
        use_demos, use_rollouts = method.needs(config, step)
        demos = tasks.demonstrate(job, step) if use_demos else None
        if use_rollouts:
            policy = runtime.acting(players["theta"], players.get("w", {}))
            rollouts, stats = tasks.roll_out(job, step, policy)
            del policy
        if use_rollouts and config.kl:
            rollouts.ref_logp = tasks.score_rows(job, runtime.acting(reference, {}), rollouts)
        sampled = time.perf_counter()

        directions, found = method.update(Step(config, runtime, demos, rollouts, step, select), players)
        norms = {name: optimizer.total_norm(g, runtime.total) for name, g in directions.items()}
        tasks.check_finite(job, step, norms, saved)
        for name, g in directions.items():
            lr = config.lr_lora if name == "w" else config.lr
            lr *= optimizer.schedule(*method.stage(config, step), config.warmup)
            optimizer.ascend(state, name, g, norms[name], lr, config.max_grad_norm, step)
        del directions, g  # as large as the players: not while the next step samples

        done, seconds = step + 1, {"data": sampled - began, "update": time.perf_counter() - sampled}
        log.step(done, stats | found, norms, seconds, demos, rollouts)
        interrupted = runtime.total(torch.tensor(float(len(caught)))) > 0  # by a signal to any process
        if done % config.eval_every == 0 or done == config.steps:
            log.write("metrics.jsonl", step=done, **evaluate.validate(job, players, done))
        if done % config.eval_every == 0 or done == config.steps or interrupted:
            log.sync()
            saved = save_run(out, done, state, runtime, saved)
        if interrupted:
            sys.exit(f"interrupted: saved after step {done} in {out}; go on with --resume")

    signal.signal(signal.SIGINT, signal.default_int_handler)  # all is saved: from here on they end the run
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    finish(job, players)
    del lock


def other_run(config: Config) -> Config | None:
    """The same run by the method `versus`, which is trained first where the table has a row for it."""
    if config.table != "all" or config.versus in ("", config.method):
        return None
    out = f"{Path(config.out)}-{config.versus}"  # beside this run, where it finds the same base
    return replace(config, out=out, method=config.versus, versus="", select="none", table="trained")


def finish(job: tasks.Job, players: Players) -> None:
    """The model, whole; the table on the test suites; and results.json with the same."""
    config, runtime, w, results = job.config, job.runtime, players.get("w", {}), {}
    whole = [runtime.acting(players["theta"], w), runtime.full(players["theta"]), runtime.full(w)]
    if runtime.rank == 0 and config.base:
        room("bridge_min.real").export(config, runtime.model.config, *whole)
    elif runtime.rank == 0:
        base.save_model(Path(config.out) / "model", whole[0], config)
    del whole  # as large as the players
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    peak = torch.cuda.max_memory_allocated() / 2**30 if config.device == "cuda" else peak
    print(f"memory of {config.device} at its peak so far: {peak:.2f} GiB")
    test = lambda W: evaluate.score_suites(job, W, job.task.tests)
    rows = {"base": lambda: test(load_base(job))}
    if versus := other_run(config):
        scored = json.loads((Path(versus.out) / "results.json").read_text())["scores"]
        rows[f"trained by {config.versus}"] = lambda: scored[f"trained by {config.versus}"]
    if "theta_hat" in players:
        rows["shadow (theta_hat, w)"] = lambda: test(runtime.acting(players["theta_hat"], w))
    rows[f"trained by {config.method}"] = lambda: test(runtime.acting(players["theta"], w))
    shown = list(rows)[{"all": 0, "trained": -1, "none": len(rows)}[config.table] :]
    if shown:
        print("\n" + evaluate.heading(job.task.tests, config.samples))
    for name in shown:
        results[name] = rows[name]()
        print(evaluate.line(name, results[name]))
    if len(shown) > 1:
        print(f"\n{evaluate.in_words(results)}")
    if runtime.rank == 0:
        write(Path(config.out) / "results.json", json.dumps({"scores": results, "peak_gib": peak}).encode())
    print(f"\nThe model is in {Path(config.out) / 'model'}")


# --- The rooms that a config asks for -----------------------------------------------------------------------

room = importlib.import_module


def open_job(config: Config) -> tasks.Job:
    """Problems, tokenizer, network and runtime. Raises ConfigError, before anything is computed."""
    torch.set_num_threads(config.threads)
    known, scaled = (*WORLDS, "jsonl"), config.dtype != "float32" or config.recompute or MANY
    require(config.task in known, f"task = {config.task!r} is not one of {', '.join(known)}")
    open_base = room("bridge_min.real").open_base if config.base else lambda c: (tasks.Bytes(), c.model)
    tokenizer, shape = open_base(config)
    world = None if config.task == "jsonl" else room(WORLDS[config.task])
    task = tasks.load_world(config, world) if world else room("bridge_min.real.jsonl").load_task(config)
    make_runtime = room("bridge_min.scale").scaled_runtime if scaled else bridge.plain_runtime
    job = tasks.Job(config, make_runtime(build(shape), config), task, tokenizer, world)
    tasks.check_fit(job)
    return job


def load_base(job: tasks.Job) -> Params:
    """The weights to begin from, in full."""
    return room("bridge_min.real").load_base(job.config) if job.config.base else base.toy_base(job)


def open_method(config: Config) -> tuple[Method, Callable | None]:
    """The rule that `method` names, and what chooses its demonstrations, if not all count. Raises
    ConfigError."""
    name, methods = config.meta if config.method == "bridge" else config.method, bridge.METHODS
    if name not in methods:
        methods = methods | room("bridge_min.study.rivals").RIVALS
    require(name in methods, f"method = {name!r} is not one of bridge, {', '.join(methods)}")
    if config.select == "none":
        return methods[name], None
    require(methods[name].selects, f"select = {config.select!r} does not go with method = {name}")
    return methods[name], room("bridge_min.study.gain").select


def cli(arguments: Sequence[str]) -> None:
    flags = [argument for argument in arguments if argument in ("--resume", "--overwrite")]
    rest = [argument for argument in arguments if argument not in flags]
    if not rest or rest[0].startswith("-"):
        sys.exit(__doc__)
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        config = load_config(rest[0], rest[1:])
        with room("bridge_min.scale.processes").joined(config.device) if MANY else nullcontext():
            train(config, "--resume" in flags, "--overwrite" in flags)
    except (ConfigError, CheckpointError, FloatingPointError, OSError) as error:
        sys.exit(f"error: {error}")
    except torch.OutOfMemoryError as error:
        sys.exit(f"error: {error}\nmake micro_batch or sample_rows smaller, or recompute = True; --resume")
    except KeyboardInterrupt:
        sys.exit("stopped at once: what was saved is kept; go on with --resume")


if __name__ == "__main__":
    cli(sys.argv[1:])
