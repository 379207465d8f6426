"""Where a step's time and memory go: medians and ratios, all from one run.

    python -m bridge_min.bench tiny_configs/arith.py       # any --key=value goes over the config
    python -m bridge_min.bench tiny_configs/arith.py --only=steps,sampling,trl,long,memory

Jobs that are compared take turns, round after round, and medians are compared, so that a slow moment of the
machine hits all alike. Weights do not move. Prints tables in Markdown and writes bench.json beside the run's
folder. Read on in peers.py.
"""

import ctypes
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch

from .. import arith, base, bridge, checkpoint, optimizer, scale, tasks
from ..config import Config, ConfigError, ModelConfig, load_config, require
from ..model import Params, build
from ..rollout import Rows
from ..study import logic, rivals
from .peers import generator_of, trl_turns

ROUNDS = 11
METHODS = {**bridge.METHODS, **rivals.RIVALS}
LARGE = ModelConfig(hidden_size=512, intermediate_size=1536, num_hidden_layers=16)  # 50 million numbers


def medians(jobs: dict[str, Callable], rounds: int | None = None) -> dict[str, float]:
    """Milliseconds of each job, the median over rounds in which all take their turn; one round before is not
    counted."""
    spent: dict[str, list[float]] = {name: [] for name in jobs}
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None  # a GPU runs behind
    for name, job in [*jobs.items()] * ((rounds or ROUNDS) + 1):
        began = time.perf_counter()
        job()
        wait()
        spent[name].append(1000 * (time.perf_counter() - began))
    return {name: median(values[1:]) for name, values in spent.items()}


class Endless(tasks.Bytes):
    """With it no response ends before max_new."""

    ends = (-1,)


def toy(config: Config, endless: bool = False) -> tuple[tasks.Job, Params]:
    """The config's problems, and its base, which is made if it is not there; for endless responses random
    weights."""
    world = {"arith": arith, "logic": logic}.get(config.task)
    require(world, f"task = {config.task!r}: the benchmark is for the toy worlds, arith and logic")
    runtime, problems = scale.scaled_runtime(build(config.model), config), tasks.load_world(config, world)
    job = tasks.Job(config, runtime, problems, Endless() if endless else tasks.Bytes(), world)
    return job, noise(config.model, config.device) if endless else base.toy_base(job)


def noise(shape: ModelConfig, device: str, seed: int = 0) -> Params:
    """Random weights in general position, where `init_params` has zeros; drawn on the device, as a large
    network takes long on a CPU."""
    draw, theta = torch.Generator(device).manual_seed(seed), {}
    for name, W in build(shape).named_parameters():
        theta[name] = torch.randn(W.shape, generator=draw, device=device) * W.shape[-1] ** -0.5
        theta[name] += name.endswith("norm.weight")
    return theta


def contrast(rollouts: Rows, group: int) -> Rows:
    """Sets advantages as if every second response were right; the first of each group, as demonstrations."""
    at = torch.arange(len(rollouts), device=rollouts.tokens.device)  # (N,)
    rollouts.advantages = 1.0 - 2.0 * (at % 2)
    return rollouts.take(at[::group])


def parts(job: tasks.Job, theta: Params, names: Iterable[str]) -> dict[str, Callable]:
    """Sampling, and these methods' updates on the same rollouts and demonstrations, all players at theta,
    step sizes 0; see `contrast` where no group is mixed."""
    config, data = job.config, lambda: tasks.roll_out(job, 0, job.runtime.acting(theta, {}))
    rollouts, demos = data()[0], tasks.demonstrate(job, 0)
    if not rollouts.advantages.any():
        demos = contrast(rollouts, config.group)
    rollouts.ref_logp, players = rollouts.logp, optimizer.start(config, METHODS["first_order"], theta)
    state = {**players, **optimizer.moments(players)}

    def update(name: str) -> None:
        directions, _ = METHODS[name].update(bridge.Step(config, job.runtime, demos, rollouts), players)
        for player, g in directions.items():
            optimizer.ascend(state, player, g, optimizer.total_norm(g), 0.0, config.max_grad_norm, 0)

    said, asked = tasks.responses(rollouts, job.tokenizer), tasks.choose_problems(config, 0)[1]
    judge = lambda: [job.task.train[asked[i // config.group]].reward(text) for i, text in enumerate(said)]
    jobs = {"sampling + rewards": data, "rewards alone": judge}
    jobs["scoring, for a KL term"] = partial(tasks.score_rows, job, theta, rollouts)
    return jobs | {f"update, {name}": partial(update, name) for name in sorted(names)}


def steps(config: Config, endless: bool = False, names: Iterable[str] = METHODS) -> dict[str, float]:
    """The parts, and whole steps of grpo and bridge: sampling and update."""
    found = medians(parts(*toy(config, endless), names))
    grpo, ours = (found["sampling + rewards"] + found[f"update, {name}"] for name in ("grpo", "first_order"))
    return {**found, "step, grpo": grpo, "step, bridge": ours, "**bridge's step / grpo's step**": ours / grpo}


def sampling(config: Config, prompts: int = 32, new: int = 40) -> dict[str, float]:
    """Endless responses, against transformers' `generate` and the bare matrix products that both need."""
    job, theta = toy(replace(config, prompts=prompts, max_new=new), endless=True)
    pairs = [(torch.randn(prompts * config.group, W.shape[1]), W.T) for W in theta.values() if W.dim() == 2]
    jobs = {"bare matrix products": lambda: [x @ W for _ in range(new) for x, W in pairs]}
    if find_spec("transformers"):
        jobs["**generate**"] = generator_of(job, theta)
    found = medians({**jobs, "ours": partial(tasks.roll_out, job, 0, theta)})
    return found | {f"{name} / ours": found[name] / found["ours"] for name in jobs}


def trl(config: Config) -> dict[str, float]:
    """A whole GRPO step, from sampling to optimizer, in turns with TRL's; nothing where that is missing."""
    if not find_spec("trl"):
        return {}
    job, theta = toy(config)
    jobs = parts(job, theta, ["grpo"])
    return trl_turns(job, theta, lambda: (jobs["sampling + rewards"](), jobs["update, grpo"]()), ROUNDS)


def long(config: Config) -> dict[str, float]:
    """Whole steps where responses are long: one group, on the toy's network."""
    found, config = {}, replace(config, prompts=1, demos_per_step=1)
    for new in (512, 1024):
        shape = replace(config.model, max_position_embeddings=2 * new)
        values = steps(replace(config, max_new=new, model=shape), True, ("grpo", "first_order"))
        found |= {f"{name}, {new} tokens": value for name, value in values.items()}
    return found


def memory(config: Config, shape: ModelConfig = LARGE, new: int = 200) -> dict[str, float]:
    """GiB that one bridge update over two micro-batches takes at its peak, beside players and moments."""
    peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**20  # Linux
    found, config = {}, replace(config, prompts=2, demos_per_step=2, micro_batch=8, max_new=new, model=shape)
    for name, recompute in (("recompute", True), ("plain", False)):
        jobs = parts(*toy(replace(config, recompute=recompute), endless=True), ["first_order"])
        ctypes.CDLL(None).malloc_trim(0)  # or memory that was freed before would be used again, uncounted
        Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
        found[name] = -peak()
        jobs["update, first_order"]()
        found[name] += peak()
    return {**found, "**recompute / plain**": found["recompute"] / found["plain"]}


SECTIONS = {f.__name__: f for f in (steps, sampling, trl, long, memory)}


def main(path: str, *arguments: str, sections: dict[str, Callable] = SECTIONS, file: str = "bench") -> dict:
    """Measures, prints and writes these sections, one after the other. Raises ConfigError."""
    only = [argument for argument in arguments if argument.startswith("--only=")]
    config = load_config(path, [argument for argument in arguments if argument not in only])
    names = only[-1].removeprefix("--only=").split(",") if only else [*sections]
    require(set(names) <= sections.keys(), f"{only}: there are {', '.join(sections)}")
    torch.set_num_threads(config.threads)
    out = Path(config.out).parent / f"{file}.json"
    results = json.loads(out.read_text()) if out.exists() else {}  # sections not measured now stay
    for name in names:
        results[name] = sections[name](config)
        head = f"\n| {name}, {config.threads} thread(s) | ms, ratio, GiB or as named |\n|---|---|"
        print(head if results[name] else f"\n{name}: skipped, it is not installed (pip install .[bench])")
        for what, value in results[name].items():
            print(f"| {what} | {f'{value:.3g}' if value < 100 else f'{value:.0f}'} |", flush=True)
        checkpoint.write(out, json.dumps(results, indent=2).encode())
    return {name: results[name] for name in names}


def cli(about: str, run: Callable[..., dict]) -> None:
    try:
        sys.exit("FAIL" in str(run(*sys.argv[1:])) if len(sys.argv) > 1 and sys.argv[1][0] != "-" else about)
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    cli(__doc__, main)
