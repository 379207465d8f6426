"""Post-train a language model, told in order: config, base, (rollouts, update, log, save) x steps, table.

    python train.py tiny_configs/arith.py                  # from nothing to a table
    python train.py tiny_configs/arith.py --method=grpo    # any key of bridge_min/config.py
    python train.py tiny_configs/arith.py --resume         # go on where a stopped run was last saved
    python train.py tiny_configs/arith.py --overwrite      # begin again in a used folder
    torchrun --nproc_per_node=2 train.py tiny_configs/arith.py      # the same run, shared by processes

Read on in bridge_min/bridge.py, where the update is.
"""

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from bridge_min.adapter import load_adapter, save_adapter
from bridge_min.baselines import METHODS, needs, stage
from bridge_min.bridge import Players, Step, acting, adamw, ascend, policy_logprobs, schedule, total_norm
from bridge_min.checkpoint import CheckpointError, load_latest, run_file, save_run, write
from bridge_min.config import Config, ConfigError, ModelConfig, generator, load_config
from bridge_min.data import check_fit, choose, demonstrate, longest_rows, reference_logprobs, roll_out
from bridge_min.evaluate import answer_problems, score, table
from bridge_min.gain import new_memory
from bridge_min.log import RunLog, check_folder, open_folder
from bridge_min.lora import init_lora
from bridge_min.memory import fixed_limit, listed, peak, predict
from bridge_min.model import GPT, Params, build
from bridge_min.pretrain import base_model, network, tokenizer_of
from bridge_min.pretrained import save_pretrained
from bridge_min.problem import Problem
from bridge_min.rollout import Batch, NotFinite
from bridge_min.sharding import anyone, gathered, joined, rank, spread, wait, world
from bridge_min.tasks import Task, load_task
from bridge_min.tokenizer import Tokenizer, TokenizerError

SHOWN, PROMPTS = 300, 5  # characters of a prompt's end and of a response, and prompts, in messages


def train(config: Config, resume: bool = False, overwrite: bool = False) -> None:
    torch.set_num_threads(config.threads)
    task, shape = load_task(config), network(config)
    tokenizer = tokenizer_of(config)
    check_fit(config, shape, tokenizer, task)
    start(config, shape, dict(build(shape).named_parameters()))  # targets that name nothing are refused here
    if config.base:  # a toy's tensors are small, and the limit would slow them down
        fixed_limit()
    predicted = predict(config, shape, longest_rows(config, tokenizer, task), world())
    print(listed(predicted))
    check_folder(config, resume, overwrite)
    model, base = base_model(config, task, tokenizer)
    lock = open_folder(config, resume, overwrite)  # only now that everything else is there
    out, logprobs = Path(config.out), partial(policy_logprobs, model, config)

    players = start(config, shape, base)
    if "w" in players:
        players["w"] = {name: spread(value) for name, value in players["w"].items()}
    reference = {name: value.clone() for name, value in base.items()} if config.kl else None
    del base  # it is theta now; the table at the end loads it again
    source = Path(config.base) if config.base else None  # of the tokenizer's files
    optimizers = {name: adamw(params, config.weight_decay) for name, params in players.items()}
    memory = new_memory(config.demos) if config.select == "demo" else {}
    state = {**players, "memory": memory}
    saved = load_latest(out, state, optimizers)
    first = saved or 0
    log, caught = RunLog(out, config, first, lock), catch_signals()
    if first == 0:
        with located("validation at step 0", saved, out, tokenizer):
            validate(config, model, tokenizer, players, task.val, log, 0)

    for step in range(first, config.steps):
        began, rollouts, demos, metrics = time.perf_counter(), None, None, {}
        shown, tried = choose(config, step)
        use_demos, use_rollouts = needs(config, step)
        if use_demos:
            demos = demonstrate(config, step, shown, task.demos, tokenizer)
        with located(f"step {step}", saved, out, tokenizer):
            if use_rollouts:
                policy, problems = acting(config, players), [task.train[i] for i in tried]
                rollouts, metrics = roll_out(config, step, model, policy, problems, tokenizer)
                del policy
                if config.kl:
                    rollouts.ref_logp = reference_logprobs(config, logprobs, reference, rollouts)
            sampled = time.perf_counter()

            seen = Step(config, logprobs, demos, rollouts, step, memory)
            directions, stats = METHODS[config.method](seen, players)
            metrics |= stats | gradient_norms(directions, demos if rollouts is None else rollouts)
        for name, params in players.items():
            peak = config.lr_lora if name == "w" else config.lr
            lr = peak * schedule(*stage(config, step), config.warmup)
            ascend(optimizers[name], params, directions[name], lr, config.max_grad_norm)
        del directions  # as large as the players: not while the next step samples
        # The shadow begins again from the student; its optimizer keeps its moments, which are of RL alone.
        if config.shadow_reset and (step + 1) % config.shadow_reset == 0 and "theta_hat" in players:
            for name, value in players["theta_hat"].items():
                value.copy_(players["theta"][name])

        done, seconds = step + 1, {"data": sampled - began, "update": time.perf_counter() - sampled}
        tokens = sum(int(batch.mask.sum()) for batch in (rollouts, demos) if batch is not None)
        log.step(done, metrics, seconds, tokens)
        if done % config.eval_every == 0 or done == config.steps:
            with located(f"validation at step {done}", saved, out, tokenizer):
                validate(config, model, tokenizer, players, task.val, log, done)
        interrupted = anyone(bool(caught))  # a signal may reach some before this step's end and others after
        if done % config.save_every == 0 or done == config.steps or interrupted:
            log.sync()
            save_run(out, done, config, state, optimizers, saved)
            save_pretrained(out, acting(config, players), shape, source)
            saved = done
        if interrupted:
            wait()  # torchrun ends all as soon as one has ended
            sys.exit(f"interrupted: saved after step {done} in {out}; go on with --resume")

    signal.signal(signal.SIGINT, signal.default_int_handler)  # all is saved: from here on they end the run
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if anyone(bool(caught)):
        sys.exit(f"interrupted: all steps are done and saved in {out}; --resume makes the table")
    if "w" in players:  # what acts is theta + w, as PEFT has it
        student, w = gathered(players["theta"]), gathered(players["w"])
        save_pretrained(out / "student", student, shape, source)
        save_adapter(out / "adapter", w, student, config.lora_scale, shape, "../student")
        del student
    finish(config, model, tokenizer, task, players, sum(predicted[config.device].values()), out)


def start(config: Config, shape: ModelConfig, base: Params) -> Players:
    """Everyone at the base: theta, which is the base itself from now on, and for BRIDGE the shadow theta_hat,
    and w with B = 0 or from a file."""
    players = {"theta": base}
    if config.method == "bridge":
        if config.meta != "no_shadow":
            players["theta_hat"] = {name: value.clone() for name, value in base.items()}
        if config.adapter:
            players["w"] = load_adapter(Path(config.adapter), base, config.lora_scale, shape)
        else:
            random_numbers = generator(config.seed, 0, "lora")
            players["w"] = init_lora(base, config.lora_targets, config.lora_rank, random_numbers)
    return players


def gradient_norms(directions: Players, batch: Batch) -> dict[str, float]:
    """Each player's. Raises NotFinite, before anything has moved, if one is not."""
    norms = {name: total_norm(direction) for name, direction in directions.items()}
    for name, norm in norms.items():
        if not math.isfinite(norm):
            raise NotFinite(f"the gradient of {name} is {norm}", batch)
    return {f"norm_{name}": norm for name, norm in norms.items()}


@contextmanager
def located(where: str, saved: int | None, out: Path, tokenizer: Tokenizer) -> Iterator[None]:
    """Adds to NotFinite where it happened, on which prompts, and what is left to go on from."""
    try:
        yield
    except NotFinite as error:
        prompts = list(dict.fromkeys(map(tokenizer.decode, error.batch.prompts())))
        mine = f"process {rank()}, of its own share: " if world() > 1 else ""
        lines = [f"{mine}{where}: {error.what}, on {len(prompts)} prompts:"]
        lines += [f"    {text[-SHOWN:]!r}" for text in prompts[:PROMPTS]]
        lines += [f"    and {len(prompts) - PROMPTS} more"] if len(prompts) > PROMPTS else []
        kept = f"The last good state is {run_file(out, saved)}." if saved else "No step was saved yet."
        advice = "Begin again with smaller lr and lr_lora (--overwrite, or another --out=)"
        raise FloatingPointError("\n".join([*lines, f"{kept} {advice}"])) from None


def validate(
    config: Config,
    model: GPT,
    tokenizer: Tokenizer,
    players: Players,
    problems: list[Problem],
    log: RunLog,
    done: int,
) -> None:
    """Greedy accuracy of (theta, w) and of (theta_hat, w): their difference is the true cooperative gain."""
    accuracy = {}
    for name in ("theta_hat", "theta"):
        if name in players:
            rewards, responses = answer_problems(
                config, model, acting(config, players, name), tokenizer, problems
            )
            accuracy[f"val_{name}"] = sum(right for (right,) in rewards) / len(problems)
    log.write("metrics.jsonl", step=done, **accuracy)
    print(f"validation at step {done}:", "  ".join(f"{name} {value:.3f}" for name, value in accuracy.items()))
    for problem, response, (right,) in list(zip(problems, responses, rewards, strict=True))[:3]:
        asked = problem.prompt.strip()[-SHOWN:]
        print(f"    {'right' if right else 'wrong'}:  {asked}  ->  {response[:SHOWN]!r}")


def finish(
    config: Config,
    model: GPT,
    tokenizer: Tokenizer,
    task: Task,
    players: Players,
    predicted: float,
    out: Path,
) -> None:
    """The table on the test suites, and results.json with the same."""
    used, tests = peak(config.device), task.tests
    print(f"memory of {config.device} at its peak, in training: {used:.2f} GiB, predicted {predicted:.2f}")
    rows: dict[str, Callable[[], Params]] = {}
    if config.table == "all":
        rows["base"] = lambda: acting(config, {"theta": base_model(config, task, tokenizer)[1]})
        if "theta_hat" in players:
            rows["shadow (theta_hat, w)"] = lambda: acting(config, players, "theta_hat")
    if config.table != "none":
        rows[f"trained by {config.method}"] = lambda: acting(config, players)
    results = {}
    for name, row in rows.items():
        params = row()  # only now: with the others it would not fit
        scores = {suite: score(config, model, params, tokenizer, tests[suite]) for suite in tests}
        del params
        counts = " or ".join(map(str, sorted({len(problems) for problems in tests.values()})))
        print(f"\n{name}, {counts} problems a row, per cent\n{table(scores)}")
        results[name] = {suite: asdict(s) for suite, s in scores.items()}
    write(out / "results.json", json.dumps({"scores": results, "peak_gib": used}, indent=2).encode())
    print(f"\nThe model is in {out}")


SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what clusters send before they kill


def catch_signals() -> list[int]:
    """A list that signals fill, so that no step is cut in two; a second Ctrl-C stops at once (but not under
    torchrun, which passes each on a second time)."""
    caught: list[int] = []

    def handler(number: int, _frame: object) -> None:
        caught.append(number)
        if number == signal.SIGINT and world() == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if rank() == 0:  # not by print, which this may have interrupted
            os.write(2, f"{signal.Signals(number).name}: finishing this step, then saving\n".encode())

    for number in SIGNALS:
        signal.signal(number, handler)
    return caught


def cli(arguments: Sequence[str]) -> None:
    rest = [argument for argument in arguments if argument not in ("--resume", "--overwrite")]
    if not rest or rest[0].startswith("-"):
        sys.exit(__doc__)
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        config = load_config(rest[0], rest[1:])
        with joined(config.device):
            if rank():  # the first process speaks for all, but for errors
                sys.stdout = open(os.devnull, "w")
            train(config, "--resume" in arguments, "--overwrite" in arguments)
    except (ConfigError, CheckpointError, TokenizerError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error}\nwhat was saved is kept; go on with --resume")
    except torch.OutOfMemoryError as error:
        smaller = "micro_batch, sample_rows and logit_tokens, or turn recompute and offload on"
        sys.exit(f"error: {error}\nout of memory: make {smaller}; --resume goes on with the new settings")
    except KeyboardInterrupt:
        sys.exit("stopped at once: what was saved is kept; go on with --resume")


if __name__ == "__main__":
    cli(sys.argv[1:])
