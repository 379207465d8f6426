"""Post-train a language model, told in order: config, base, (rollouts, update, log, save) x steps, table.

    python train.py tiny_configs/arith.py                  # from nothing to a table
    python train.py tiny_configs/arith.py --method=grpo    # any key of bridge_min/config.py
    python train.py tiny_configs/arith.py --resume         # go on where a stopped run was last saved
    python train.py tiny_configs/arith.py --overwrite      # begin again in a used folder
    torchrun --nproc_per_node=2 train.py tiny_configs/arith.py      # the same run, shared by processes

Only here (and in eval.py) are the outer rooms opened: real/ for checkpoints and files, study/ for rivals and
selection, scale/ for precision, recomputation and processes. Read on in bridge_min/config.py.
"""

import importlib
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType

import torch

from bridge_min.base import Bytes, save_model, toy_base
from bridge_min.bridge import (
    METHODS,
    Method,
    Players,
    Runtime,
    Step,
    adamw,
    ascend,
    plain_runtime,
    schedule,
    total_norm,
)
from bridge_min.checkpoint import State, load_latest, save_run, write
from bridge_min.config import Config, ModelConfig, generator, load_config, require
from bridge_min.evaluate import answer_problems, score, table
from bridge_min.lora import init_lora
from bridge_min.model import Params, build
from bridge_min.run import RunLog, catch_signals, check_folder, open_folder
from bridge_min.tasks import (
    Task,
    Tokenizer,
    check_fit,
    choose_problems,
    demonstrate,
    load_world,
    prompts_in_words,
    roll_out,
    score_rows,
)

WORLDS = {"arith": "bridge_min.arith", "logic": "bridge_min.study.logic"}  # a new toy world: one line here


def train(config: Config, resume: bool = False, overwrite: bool = False) -> None:
    """From the base, or from the last checkpoint, to the end and the table."""
    torch.set_num_threads(config.threads)
    (task, world), (tokenizer, shape), method = open_task(config), open_base(config), open_method(config)
    check_fit(config, shape, tokenizer, task)
    run, out = open_runtime(config, shape), Path(config.out)
    if run.rank == 0:
        check_folder(config, resume, overwrite)
    base = load_base(config, run, task, world, tokenizer)
    select, memory = open_selection(config)
    reference = run.keep({name: W.clone() for name, W in base.items()}) if config.kl else {}
    players = {name: run.keep(params) for name, params in start(config, method, base).items()}
    del base  # it is theta now; the table at the end loads it again
    optimizers, state = {name: adamw(params) for name, params in players.items()}, {**players, **memory}
    lock = open_folder(config, resume, overwrite) if run.rank == 0 else None
    run.total(torch.zeros(()))  # until the folder is ready
    saved = load_latest(out, state, optimizers, run)
    log, caught = RunLog(config, run, saved or 0), catch_signals(run)
    if saved is None:
        validate(config, run, tokenizer, players, task, log, 0)
    else:
        print(f"going on after step {saved} of {config.steps}")

    for step in range(saved or 0, config.steps):
        began, demos, rollouts, stats = time.perf_counter(), None, None, {}
        use_demos, use_rollouts = method.needs(config, step)
        if use_demos:
            demos = demonstrate(config, run, step, task, tokenizer)
        if use_rollouts:
            policy = run.acting(players["theta"], players.get("w", {}))
            rollouts, stats = roll_out(config, run, step, policy, task, tokenizer)
            del policy
        if use_rollouts and config.kl:
            rollouts.ref_logp = score_rows(config, run, run.acting(reference, {}), rollouts)
        sampled = time.perf_counter()

        directions, found = method.update(Step(config, run, demos, rollouts, step, select), players)
        norms = {name: total_norm(g, run.total) for name, g in directions.items()}
        check_finite(config, step, norms, task, saved)
        for name, params in players.items():
            lr = config.lr_lora if name == "w" else config.lr
            lr *= schedule(*method.stage(config, step), config.warmup)
            ascend(optimizers[name], params, directions[name], norms[name], lr, config.max_grad_norm)
        del directions  # as large as the players: not while the next step samples

        done, seconds = step + 1, {"data": sampled - began, "update": time.perf_counter() - sampled}
        log.step(done, stats | found, norms, seconds, rows=(demos, rollouts))
        if done % config.eval_every == 0 or done == config.steps:
            validate(config, run, tokenizer, players, task, log, done)
        interrupted = run.total(torch.tensor(float(len(caught)))) > 0  # by a signal, to any process
        if done % config.eval_every == 0 or done == config.steps or interrupted:
            log.sync()
            save_run(out, done, state, optimizers, run, saved)
            saved = done
        if interrupted:
            sys.exit(f"interrupted: saved after step {done} in {out}; go on with --resume")

    signal.signal(signal.SIGINT, signal.default_int_handler)  # all is saved: from here on they end the run
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    export(config, run, players, shape)
    finish(config, run, tokenizer, task, players, lambda: load_base(config, run, task, world, tokenizer))
    del lock  # held until here


def start(config: Config, method: Method, base: Params) -> Players:
    """Everyone at the base: theta, which is the base itself from now on, and for BRIDGE the shadow theta_hat,
    and w with B = 0."""
    random_numbers = generator(config.seed, 0, "lora")
    players = {"theta": lambda: base}
    players["theta_hat"] = lambda: {name: W.clone() for name, W in base.items()}
    players["w"] = lambda: init_lora(base, config.lora_targets, config.lora_rank, random_numbers)
    return {name: players[name]() for name in method.players}


def check_finite(config: Config, step: int, norms: Params, task: Task, saved: int | None) -> None:
    """The one check before anything moves. Raises FloatingPointError that names the step and its prompts."""
    wrong = [name for name, norm in norms.items() if not math.isfinite(norm)]
    if wrong:
        asked = [task.train[i].prompt for i in choose_problems(config, step)[1]]
        kept = f"The last good state is checkpoint-{saved:06}." if saved else "No step was saved yet."
        raise FloatingPointError(
            f"step {step}: the gradient of {', '.join(wrong)} is not finite, {prompts_in_words(asked)}\n"
            f"{kept} Begin again with smaller lr and lr_lora (--overwrite, or another --out=)"
        )


def validate(
    config: Config,
    run: Runtime,
    tokenizer: Tokenizer,
    players: Players,
    task: Task,
    log: RunLog,
    done: int,
) -> None:
    """Greedy accuracy of (theta, w) and of (theta_hat, w): their difference is the true cooperative gain."""
    accuracy, shown = {}, []
    for name in ("theta_hat", "theta"):
        if name in players:
            policy = run.acting(players[name], players.get("w", {}))
            rewards, shown = answer_problems(config, run, policy, tokenizer, task.val, "val")
            accuracy[f"val_{name}"] = float(rewards.mean())
    log.write("metrics.jsonl", step=done, **accuracy)
    print(f"validation at step {done}:", "  ".join(f"{name} {value:.3f}" for name, value in accuracy.items()))
    for i, response in enumerate(shown[:3]):
        asked, right = task.val[i * run.world].prompt.strip()[-300:], bool(rewards[i * run.world])
        print(f"    {'right' if right else 'wrong'}:  {asked}  ->  {response[:300]!r}")


def export(config: Config, run: Runtime, players: Players, shape: ModelConfig) -> None:
    """The merged model; of a checkpoint also theta and w, as PEFT has them."""
    policy, out = run.acting(players["theta"], players.get("w", {})), Path(config.out)
    theta, w = run.full(players["theta"]), run.full(players.get("w", {}))
    if run.rank:
        return
    if not config.base:
        return save_model(out / "model", policy, shape, json.loads((out / "run.json").read_text()))
    from bridge_min.real.adapter import save_adapter
    from bridge_min.real.pretrained import save_pretrained

    save_pretrained(out / "model", policy, shape, Path(config.base))
    if w and shape.family != "gpt2":
        save_pretrained(out / "student", theta, shape, Path(config.base))
        save_adapter(out / "adapter", w, config.lora_scale, "../student")


def finish(
    config: Config,
    run: Runtime,
    tokenizer: Tokenizer,
    task: Task,
    players: Players,
    base: Callable[[], Params],
) -> None:
    """The table on the test suites, and results.json with the same."""
    peak, w = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, players.get("w", {})
    if config.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"memory of {config.device} at its peak, in training: {peak:.2f} GiB")
    rows: dict[str, Callable[[], Params]] = {}
    if config.table == "all":
        rows["base"] = base
        if "theta_hat" in players:
            rows["shadow (theta_hat, w)"] = lambda: run.acting(players["theta_hat"], w)
    if config.table != "none":
        rows[f"trained by {config.method}"] = lambda: run.acting(players["theta"], w)
    results = {}
    for name, policy in rows.items():
        W = policy()  # only now: with the others it would not fit
        results[name] = {k: score(config, run, W, tokenizer, task.tests[k], k) for k in task.tests}
        print(f"\n{name}, per cent\n{table(results[name])}")
    if run.rank == 0:
        write(Path(config.out) / "results.json", json.dumps({"scores": results, "peak_gib": peak}).encode())
    print(f"\nThe model is in {Path(config.out) / 'model'}")


# --- Opening the rooms that a config asks for ---------------------------------------------------------------


def open_task(config: Config) -> tuple[Task, ModuleType | None]:
    """The problems, and the toy world that they come from. Raises ConfigError."""
    if config.task == "jsonl":
        from bridge_min.real.jsonl import load_task

        return load_task(config), None
    require(config.task in WORLDS, f"task = {config.task!r} is not one of {', '.join(WORLDS)}, jsonl")
    world = importlib.import_module(WORLDS[config.task])
    return load_world(config, world), world


def open_base(config: Config) -> tuple[Tokenizer, ModelConfig]:
    """The tokenizer, and the network's shape, known before it is loaded or made."""
    if not config.base:
        return Bytes(), config.model
    from bridge_min.real.pretrained import read_config
    from bridge_min.real.tokenizer import load_tokenizer

    return load_tokenizer(Path(config.base), config.end), read_config(Path(config.base))


def load_base(
    config: Config, run: Runtime, task: Task, world: ModuleType | None, tokenizer: Tokenizer
) -> Params:
    """The weights to begin from, in full: of many processes the first one makes a toy's."""
    if config.base:
        from bridge_min.real.pretrained import load_pretrained

        return load_pretrained(Path(config.base), device=config.device)[1]
    if run.rank == 0:
        toy_base(config, world, task, tokenizer)
    run.total(torch.zeros(()))
    return {name: W.to(config.device) for name, W in toy_base(config, world, task, tokenizer).items()}


def open_method(config: Config) -> Method:
    """The rule that `method` names, here or in study/. Raises ConfigError."""
    name, methods = config.meta if config.method == "bridge" else config.method, METHODS
    if name not in methods:
        from bridge_min.study.rivals import RIVALS

        methods = methods | RIVALS
    known = ", ".join(["bridge", *(k for k in methods if k not in ("first_order", "unrolled", "no_shadow"))])
    require(name in methods, f"method = {config.method!r} is not one of {known}")
    selects = config.select == "none" or methods[name].selects
    require(selects, f"select = {config.select!r} goes with method = bridge or mix, not {config.method}")
    return methods[name]


def open_selection(config: Config) -> tuple[Callable | None, State]:
    """What chooses the demonstrations, and what it remembers of them."""
    if config.select == "none":
        return None, {}
    from bridge_min.study.gain import selection

    return selection(config)


def open_runtime(config: Config, shape: ModelConfig) -> Runtime:
    """Plain PyTorch on one device, or what scale/ makes of it."""
    if config.dtype == "float32" and not config.recompute and "TORCHELASTIC_RUN_ID" not in os.environ:
        return plain_runtime(build(shape), config)
    from bridge_min.scale import scaled_runtime

    return scaled_runtime(build(shape), config)


def processes(config: Config) -> AbstractContextManager:
    """Those that torchrun has started, working together."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return nullcontext()
    from bridge_min.scale.processes import joined

    return joined(config.device)


def cli(arguments: Sequence[str]) -> None:
    flags = [argument for argument in arguments if argument in ("--resume", "--overwrite")]
    rest = [argument for argument in arguments if argument not in flags]
    if not rest or rest[0].startswith("-"):
        sys.exit(__doc__)
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        config = load_config(rest[0], rest[1:])
        with processes(config):
            train(config, "--resume" in flags, "--overwrite" in flags)
    except (ValueError, FloatingPointError, ConnectionError) as error:  # Config-, Checkpoint-, TokenizerError
        sys.exit(f"error: {error}")
    except torch.OutOfMemoryError as error:
        smaller = "micro_batch and sample_rows smaller, or recompute = True"
        sys.exit(f"error: {error}\nout of memory: make {smaller}; --resume goes on with the new settings")
    except KeyboardInterrupt:
        begun = (Path(config.out) / "run.json").exists()
        sys.exit("stopped at once: " + ("go on with --resume" if begun else "nothing was begun yet"))


if __name__ == "__main__":
    cli(sys.argv[1:])
