"""Post-train a language model, told in order: config, base, (rollouts, update, log) x steps, checkpoint, table.

    python train.py tiny_configs/arith.py                  # from nothing to a table
    python train.py tiny_configs/arith.py --method=grpo    # any key of bridge_min/config.py
    python train.py tiny_configs/arith.py --resume         # go on where a stopped run was last saved
    python train.py tiny_configs/arith.py --overwrite      # begin again in a used folder

Read on in bridge_min/bridge.py, where the update is.
"""

import json
import math
import random
import resource
import signal
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import tiktoken
import torch

from bridge_min.baselines import METHODS
from bridge_min.bridge import LogProbs, Players, adamw, ascend, policy_logprobs, schedule
from bridge_min.checkpoint import CheckpointError, load_run, save_model, save_run, write
from bridge_min.config import Config, ConfigError, generator, load_config
from bridge_min.evaluate import answer_problems, encode, reward, score, table
from bridge_min.log import RunLog, open_folder
from bridge_min.lora import init_lora, merge
from bridge_min.losses import group_advantages, sequence_weights
from bridge_min.model import GPT, Params
from bridge_min.pretrain import base_model
from bridge_min.rollout import Batch, Rollouts, pack, sample, texts
from bridge_min.tasks import Problem, load_task
from bridge_min.tokenizer import EOS, byte_tokenizer


def main(config: Config, resume: bool, overwrite: bool) -> None:
    torch.set_num_threads(config.threads)
    out = open_folder(config, resume, overwrite)
    task, tokenizer = load_task(config), byte_tokenizer()
    model, base = base_model(config, task, tokenizer)
    logprobs = partial(policy_logprobs, model, config.lora_scale)

    players = {"theta": clone(base)}
    if config.method == "bridge":
        players["theta_hat"] = clone(base)
        players["w"] = init_lora(
            base, config.lora_targets, config.lora_rank, generator(config.seed, 0, "lora")
        )
    optimizers = {name: adamw(config, params) for name, params in players.items()}
    checkpoint = out / "checkpoint.safetensors"
    first = load_run(checkpoint, players, optimizers) if checkpoint.exists() else 0
    log, interrupted = RunLog(out, config, first), catch_interrupt()

    def acting(player: str) -> Params:
        return merge(players[player], players.get("w"), config.lora_scale)

    def validate(done: int) -> None:
        """Accuracy of (theta, w) and of (theta_hat, w): their difference is the true cooperative gain."""
        accuracy = {}
        for player in [name for name in ("theta", "theta_hat") if name in players]:
            rewards, responses = answer_problems(
                model, acting(player), tokenizer, task.val, config, samples=0
            )
            accuracy[f"val_{player}"] = sum(map(sum, rewards)) / len(rewards)
            if player == "theta":
                shown = zip(task.val, responses, rewards, strict=True)
        log.write("metrics.jsonl", step=done, **accuracy)
        print(
            f"validation at step {done}:",
            "  ".join(f"{name} {value:.3f}" for name, value in accuracy.items()),
        )
        for problem, response, (right,) in list(shown)[:3]:
            print(
                f"    {'right' if right else 'wrong'}  {problem.prompt.strip()} -> {' '.join(response.split())}"
            )

    def save(done: int) -> None:
        save_run(checkpoint, done, config, players, optimizers)

    if first == 0:
        validate(0)
        save(0)
    for step in range(first, config.steps):
        clock = [time.perf_counter()]
        rollouts, demos, metrics, tokens = None, None, {}, 0
        if config.method != "sft":
            rollouts, metrics = roll_out(
                config, step, model, acting("theta"), base, logprobs, task.train, tokenizer
            )
        if config.method != "grpo":
            demos = draw_demonstrations(config, step, task.demos, tokenizer)
        clock.append(time.perf_counter())
        directions, stats = METHODS[config.method](config, logprobs, players, demos, rollouts)
        metrics |= {name: float(value) for name, value in stats.items()}
        metrics |= norms(directions, step, checkpoint)
        pace = schedule(step, config.steps, config.warmup)
        for name, params in players.items():
            lr = config.lr_lora if name == "w" else config.lr
            ascend(optimizers[name], params, directions[name], lr * pace, config.max_grad_norm)
        clock.append(time.perf_counter())

        done = step + 1
        tokens = sum(int(batch.mask.sum()) for batch in (rollouts, demos) if batch is not None)
        log.step(done, metrics, {"sampling": clock[1] - clock[0], "update": clock[2] - clock[1]}, tokens)
        if done % config.eval_every == 0 or done == config.steps:
            validate(done)
        if done % config.save_every == 0 or done == config.steps or interrupted:
            save(done)
        if interrupted:
            sys.exit(f"interrupted after step {done}, saved in {out}; go on with --resume")

    save_model(out, acting("theta"), config.model)
    rows = {"base": base, "shadow (theta_hat, w)": acting("theta_hat")} if "w" in players else {"base": base}
    rows[f"trained by {config.method}"] = acting("theta")
    scores = {
        name: score(model, params, tokenizer, task.test, config, config.samples)
        for name, params in rows.items()
    }
    write(
        out / "results.json", json.dumps({name: asdict(s) for name, s in scores.items()}, indent=2).encode()
    )
    print(f"\n{len(task.test)} test problems, per cent\n{table(scores)}")
    print(
        f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB; model in {out}"
    )


def roll_out(
    config: Config,
    step: int,
    model: GPT,
    acting: Params,
    base: Params,
    logprobs: LogProbs,
    problems: list[Problem],
    tokenizer: tiktoken.Encoding,
) -> tuple[Rollouts, dict[str, float]]:
    """Step `step`'s rollouts from pi_acting with their advantages, and what the log shows of them."""
    chosen = random.Random(f"{config.seed}/{step}/prompts").sample(problems, config.prompts)
    random_numbers = generator(config.seed, step, "sampling")
    uniforms = torch.rand(config.prompts * config.group, config.max_new, generator=random_numbers)
    rollouts = sample(model, acting, encode(tokenizer, chosen), uniforms, config.temperature)
    rewards = torch.tensor(reward(rollouts, texts(rollouts, tokenizer), chosen))
    rollouts.advantages = group_advantages(rewards, config.group, config.scale_by_std)
    if config.normaliser == "sequence":
        rollouts.weights = sequence_weights(rollouts.mask)
    if config.kl:
        parts = rollouts.tokens.split(config.micro_batch)
        rollouts.ref_logp = torch.cat([logprobs(base, None, part, config.temperature) for part in parts])
    metrics = {
        "reward": rewards.mean(),
        "finished": rollouts.finished.float().mean(),
        "length": rollouts.mask.sum() / len(rewards),
        "kept": (rollouts.advantages != 0).float().mean(),
    }
    return rollouts, {name: float(value) for name, value in metrics.items()}


def draw_demonstrations(
    config: Config, step: int, demos: list[Problem], tokenizer: tiktoken.Encoding
) -> Batch:
    chosen = random.Random(f"{config.seed}/{step}/demonstrations").sample(demos, config.demos_per_step)
    responses = [tokenizer.encode_ordinary(demo.solution) + [EOS] for demo in chosen]
    return pack(encode(tokenizer, chosen), responses)


def norms(directions: Players, step: int, checkpoint: Path) -> dict[str, float]:
    """The norm of each player's gradient. Raises FloatingPointError, before anything moved, if one is not finite."""
    found = {
        f"norm_{name}": float(torch.nn.utils.get_total_norm(d.values())) for name, d in directions.items()
    }
    for name, value in found.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"step {step}: {name} is {value}; nothing was updated. The last good state is {checkpoint}. "
                "Lower lr and lr_lora, or look at this step's prompts"
            )
    return found


def clone(params: Params) -> Params:
    return {name: value.clone() for name, value in params.items()}


def catch_interrupt() -> list[int]:
    """A list that is filled when Ctrl-C is pressed, so that a step is never cut in two; a second Ctrl-C ends at once."""
    caught: list[int] = []

    def handler(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("interrupt: this step is finished first; once more to stop at once")

    signal.signal(signal.SIGINT, handler)
    return caught


if __name__ == "__main__":
    flags = {"--resume", "--overwrite"}
    arguments = [argument for argument in sys.argv[1:] if argument not in flags]
    if not arguments or arguments[0].startswith("-"):
        sys.exit(__doc__)
    try:
        main(load_config(arguments[0], arguments[1:]), "--resume" in sys.argv, "--overwrite" in sys.argv)
    except (ConfigError, CheckpointError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
