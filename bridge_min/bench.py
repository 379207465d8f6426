"""How close to its limits a step runs: medians and ratios, all from one run.

    python -m bridge_min.bench tiny_configs/arith.py       # any --key=value goes over the config
    python -m bridge_min.bench tiny_configs/arith.py --only=steps,sampling,trl,long,memory,exponents,processes

Jobs that are compared take turns, round after round, and medians are compared, so that a slow moment of the
machine hits all alike. The rivals, transformers' `generate` and TRL's trainer, take part where they are
installed (peers.py). A floor is the time of the bare matrix products that the work cannot do without. Prints
a table in Markdown and writes bench.json beside the run's folder.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from .baselines import METHODS
from .bridge import Step, acting, adamw, ascend, policy_logprobs
from .checkpoint import write
from .config import Config, ConfigError, ModelConfig, generator, load_config, require, to_json
from .data import choose, demonstrate, encode, reference_logprobs, reward, roll_out
from .gain import new_memory
from .lora import init_lora
from .losses import group_advantages
from .memory import fixed_limit, predict
from .model import GPT, Params, build, head_name, init_params
from .peers import generator_of, trl_steps
from .pretrain import base_folder, base_model
from .problem import Problem
from .rollout import Demos, Rollouts, pack, sample, texts
from .sharding import joined, rank, spread
from .tasks import load_task
from .tokenizer import EOS, byte_tokenizer

ROUNDS = 11
NEVER = (-1,)  # no token ends a response
BY_TURNS = ("two_stage", "alternate")  # methods whose steps are sft's or grpo's
SHARDED = ModelConfig(hidden_size=1024, intermediate_size=3072, num_hidden_layers=4)  # 50 million numbers
Row = tuple[str, float, str]  # what, value, unit


def medians(jobs: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Milliseconds of each job, the median over rounds in which all take their turn; one round before is not
    counted."""
    spent: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            spent[name].append(1000 * (time.perf_counter() - began))
    return {name: median(values[1:]) for name, values in spent.items()}


def products(shape: ModelConfig, tokens: int, scored: int) -> Callable[[], None]:
    """The bare matrix products of one forward pass over `tokens` positions, `scored` of them with logits."""
    sizes = {name: tuple(W.shape) for name, W in build(shape).named_parameters() if W.dim() == 2}
    head = sizes[head_name(shape)]
    sizes = [size for name, size in sizes.items() if "embed" not in name and name != head_name(shape)]
    pairs = [(torch.randn(tokens, size[1]), torch.randn(size)) for size in sizes]
    pairs.append((torch.randn(scored, head[1]), torch.randn(head)))

    def run() -> None:
        for x, W in pairs:
            x @ W.T

    return run


class Bench:
    """A policy, everyone at it, and their optimizers."""

    def __init__(self, config: Config, model: GPT, theta: Params):
        w = init_lora(theta, config.lora_targets, config.lora_rank, generator(config.seed, 0, "lora"))
        shadow = {name: value.clone() for name, value in theta.items()}
        self.config, self.model, self.players = config, model, {"theta": theta, "theta_hat": shadow, "w": w}
        self.optimizers = {name: adamw(params) for name, params in self.players.items()}
        self.logprobs = partial(policy_logprobs, model, config)

    def update(self, method: str, rollouts: Rollouts | None, demos: Demos | None) -> None:
        """One update by a method, or by `method + selection`, with step sizes 0."""
        rule, _, select = method.partition(" + ")
        config = replace(self.config, select=select or "none")
        seen = Step(config, self.logprobs, demos, rollouts, 0, new_memory(config.demos))
        directions, _ = METHODS[rule](seen, self.players)
        for name, direction in directions.items():
            ascend(self.optimizers[name], self.players[name], direction, 0.0, config.max_grad_norm)

    def sample(self, prompts: list[list[int]], uniforms: Tensor, ends: tuple[int, ...]) -> Rollouts:
        return sample(self.model, acting(self.config, self.players), prompts, uniforms, ends)

    def grpo(
        self,
        prompts: list[list[int]],
        uniforms: Tensor,
        ends: tuple[int, ...],
        judge: Callable[[int, str], float],
    ) -> Rollouts:
        """A whole GRPO step, judge(prompt's number, response)."""
        rollouts, group = self.sample(prompts, uniforms, ends), len(uniforms) // len(prompts)
        responses = enumerate(texts(rollouts, byte_tokenizer()))
        rollouts.rewards = torch.tensor([judge(row // group, text) for row, text in responses])
        rollouts.advantages = group_advantages(rollouts.rewards, group)
        self.update("grpo", rollouts, None)
        return rollouts


def toy(config: Config) -> tuple[Bench, list[Problem], Path]:
    """The config's base, a step's problems, and the base's folder."""
    task = load_task(config)
    bench = Bench(config, *base_model(config, task, byte_tokenizer()))
    return bench, [task.train[i] for i in choose(config, 0)[1]], base_folder(config, task)


def steps(config: Config) -> list[Row]:
    """One step of each method by part, on the same rollouts and demonstrations, at the base."""
    (bench, problems, _), tokenizer, task = toy(config), byte_tokenizer(), load_task(config)
    policy = acting(config, bench.players)
    data = partial(roll_out, config, 0, bench.model, policy, problems, tokenizer)
    rollouts, demos = data()[0], demonstrate(config, 0, choose(config, 0)[0], task.demos, tokenizer)
    score = partial(reference_logprobs, config, bench.logprobs, bench.players["theta"], rollouts)
    rollouts.ref_logp = score()
    kept = rollouts.select(rollouts.advantages.nonzero()[:, 0])
    require(len(kept) > 0, "no group of responses is mixed at this base: nothing to measure")
    computed, real = (
        sum(p.tokens.numel() for p in kept.micro_batches(config.micro_batch)),
        int(kept.length().sum()),
    )
    jobs = {"data": data, "score": score, "floor": products(config.model, real, int(kept.mask.sum()))}
    jobs["rewards"] = partial(reward, rollouts, texts(rollouts, tokenizer), problems)
    methods = [*(method for method in METHODS if method not in BY_TURNS), "bridge + demo"]
    found = medians(jobs | {m: partial(bench.update, m, rollouts, demos) for m in methods})
    whole = {method: found["data"] + found[method] for method in methods}
    return [
        ("sampling and rewards", found["data"], "ms"),
        ("rewards alone", found["rewards"], "ms"),
        ("scoring all rollouts, for a KL term", found["score"], "ms"),
        *((f"update, {method}", found[method], "ms") for method in methods),
        ("whole step, grpo", whole["grpo"], "ms"),
        ("whole step, bridge", whole["bridge"], "ms"),
        ("**bridge's step / grpo's step**", whole["bridge"] / whole["grpo"], "×"),
        ("(bridge's update - sft's) / grpo's", (found["bridge"] - found["sft"]) / found["grpo"], "×"),
        ("grpo's update / its bare products, there and back", found["grpo"] / (3 * found["floor"]), "×"),
        ("rollouts with an advantage", len(kept) / len(rollouts), "of all"),
        ("positions computed", computed / rollouts.tokens.numel(), "of rows × longest"),
        ("of these padding", 1 - real / computed, "of all"),
    ]


def sampling(config: Config, rows: int = 256, new: int = 40) -> list[Row]:
    """sample() against transformers' generate() and against its bare matrix products: the same weights,
    prompts and temperature."""
    bench, _, folder = toy(config)
    prompts = encode(byte_tokenizer(), load_task(config).train[: rows // config.group])
    rows = len(prompts) * config.group
    uniforms = torch.rand(rows, new, generator=generator(0, 0, "bench"))
    first, then = (
        products(config.model, n, m) for n, m in ((sum(map(len, prompts)), len(prompts)), (rows, rows))
    )
    floor = lambda: (first(), [then() for _ in range(new - 1)])
    equal, free = (partial(bench.sample, prompts, uniforms, ends) for ends in (NEVER, (EOS,)))
    jobs = {"equal": equal, "free": free, "floor": floor}
    try:
        generate = generator_of(folder, prompts, config.group, new)
        jobs |= {"theirs, equal": partial(generate, new), "theirs, free": partial(generate, 0)}
    except ImportError:
        print("sampling against transformers: skipped, it is not installed (pip install .[bench])")
    found, mean = medians(jobs), float(free().mask.sum(1).float().mean())
    result = [(f"sampling {rows} rows of {new} tokens", found["equal"], "ms")]
    result += [("sample / its bare products", found["equal"] / found["floor"], "×")]
    if "theirs, equal" in found:
        result += [("**generate / sample, equal lengths**", found["theirs, equal"] / found["equal"], "×")]
        lengths = f"lengths as they come (mean {mean:.0f})"
        result += [(f"generate / sample, {lengths}", found["theirs, free"] / found["free"], "×")]
    return result


def trl(config: Config, rounds: int = 8) -> list[Row]:
    """A GRPO step against TRL's, on the same model, prompts, rewards and lengths: lengths and groups as they
    come at the base, and the plain case of equal lengths where nearly every group is mixed."""
    (bench, problems, folder), found = toy(config), []
    prompts, new = encode(byte_tokenizer(), problems), config.max_new
    uniforms = torch.rand(len(prompts) * config.group, new, generator=generator(0, 0, "bench"))
    of = {problem.prompt: problem for problem in problems}
    right, parity = lambda i, text: problems[i].reward(text), lambda _, text: float(text.count("1") % 2)
    cases = (
        ("lengths and groups as they come", 0, (EOS,), right, lambda p, text: of[p].reward(text)),
        ("equal lengths, mixed groups", new, NEVER, parity, parity),
    )
    for name, shortest, ends, judge, theirs in cases:
        ours = partial(bench.grpo, prompts, uniforms, ends, judge)
        length, before = float(ours().mask.sum(1).float().mean()), medians({"": ours}, rounds)[""]
        try:
            asked = [problem.prompt for problem in problems], theirs, config.group, shortest, new
            seconds, tokens = trl_steps(folder, *asked, rounds)
        except ImportError:
            print("a step against TRL: skipped, it is not installed (pip install .[bench])")
            return found
        own = (before + medians({"": ours}, rounds)[""]) / 2
        found += [(f"grpo step, {name} (mean {length:.0f} tokens)", own, "ms")]
        found += [(f"**TRL's step / ours**, {name} (theirs {tokens:.0f} tokens)", 1000 * seconds / own, "×")]
    return found


def synthetic(
    config: Config, shape: ModelConfig, rows: int, prompt: int, new: int
) -> tuple[Bench, list, Rollouts, Demos]:
    """A fresh network, prompts, mixed groups of rows of equal length, and a demonstration for each prompt."""
    draw = generator(0, 0, "synthetic")
    bench = Bench(config, build(shape), init_params(shape, draw))
    tokens = lambda n: torch.randint(256, (n,), generator=draw).tolist()
    prompts = [tokens(prompt) for _ in range(max(1, rows // config.group))]
    asked = [p for p in prompts for _ in range(rows // len(prompts))]
    rolled, shown = (pack(rows_of, [tokens(new) for _ in rows_of]) for rows_of in (asked, prompts))
    logp = -6.0 * rolled.mask
    rollouts = Rollouts(**vars(rolled), logp=logp, finished=torch.ones(rows, dtype=torch.bool))
    rollouts.advantages = group_advantages(torch.arange(rows) % 2 * 1.0, rows // len(prompts))
    zeros = torch.zeros(len(shown), dtype=torch.int64)
    return bench, prompts, rollouts, Demos(**vars(shown), rewards=zeros * 1.0, index=zeros, kinds=zeros)


def long(config: Config) -> list[Row]:
    """bridge's step against grpo's where responses are long: one group of 8, on the toy's network."""
    found = []
    for new in (512, 1024):
        shape = replace(config.model, max_position_embeddings=2048)
        bench, prompts, rollouts, demos = synthetic(config, shape, config.group, 64, new)
        uniforms = torch.rand(config.group, new, generator=generator(0, 0, "bench"))
        jobs = {"data": partial(bench.sample, prompts, uniforms, NEVER)}
        jobs |= {m: partial(bench.update, m, rollouts, demos) for m in ("grpo", "bridge")}
        spent = medians(jobs, 5)
        share = spent["data"] / (spent["data"] + spent["grpo"])
        ratio = (spent["data"] + spent["bridge"]) / (spent["data"] + spent["grpo"])
        found += [(f"sampling's share of grpo's step, response {new}", share, "of all")]
        found += [(f"**bridge's step / grpo's step, response {new}**", ratio, "×")]
    return found


def resident(peak: bool = False) -> float:
    """GiB of this process now, or at most since the peak was last forgotten. Linux."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM" if peak else "VmRSS"].split()[0]) / 2**20


def memory(config: Config) -> list[Row]:
    """The peak of one bridge update, the second, since moments exist from then on, against the sum of the
    tensors that memory.py names, where these are large."""
    fixed_limit()
    before, config = resident(), replace(config, model=SHARDED, prompts=2, demos_per_step=2, micro_batch=16)
    bench, _, rollouts, demos = synthetic(config, SHARDED, 16, 8, 40)
    for _ in range(2):
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        bench.update("bridge", rollouts, demos)
    used = resident(peak=True) - before
    named = predict(config, SHARDED, (48, 48))["cpu"]
    total = sum(named.values()) - named["the process itself"]
    return [
        ("peak of a bridge update, 50 million parameters", used, "GiB"),
        ("**that peak / the sum of the named tensors**", used / total, "×"),
    ]


def exponent(sizes: tuple[int, ...], times: list[float]) -> float:
    """The slope of log time over log size, by least squares."""
    x, y = ([math.log(value) for value in values] for values in (sizes, times))
    a, b = sum(x) / len(x), sum(y) / len(y)
    return sum((u - a) * (v - b) for u, v in zip(x, y, strict=True)) / sum((u - a) ** 2 for u in x)


SWEEPS = {  # what grows -> sizes, and what theory says of a bridge update and of sampling
    "rows": ((32, 64, 128, 256), "1, below 1"),
    "response length": ((128, 256, 512, 1024), "1 to 2, 1 to 2"),
    "width": ((128, 256, 512, 1024), "2, 2"),
    "vocabulary": ((4096, 8192, 16384, 32768), "1, 1"),
    "LoRA rank": ((4, 16, 64), "0, 0"),
}


def exponents(config: Config) -> list[Row]:
    """Cost against size, all else fixed, by the slope in double logarithms."""
    found = []
    for name, (sizes, theory) in SWEEPS.items():
        times: dict[str, list[float]] = {"update": [], "sampling": []}
        for n in sizes:
            shape, rows, new, own = replace(config.model, max_position_embeddings=2048), 8, 24, config
            if name == "rows":
                rows, own = n, replace(config, micro_batch=n)
            elif name == "response length":
                new = n
            elif name == "width":
                shape = replace(shape, hidden_size=n, intermediate_size=3 * n, num_attention_heads=n // 32)
                shape = replace(shape, num_key_value_heads=n // 64)
            elif name == "vocabulary":
                shape = replace(shape, vocab_size=n)
            else:
                shape = replace(shape, hidden_size=256, intermediate_size=768)
                own = replace(config, lora_rank=n)
            bench, prompts, rollouts, demos = synthetic(own, shape, rows, 8, new)
            uniforms = torch.rand(rows, new, generator=generator(0, 0, "bench"))
            jobs = {"update": partial(bench.update, "bridge", rollouts, demos)}
            jobs["sampling"] = partial(bench.sample, prompts, uniforms, NEVER)
            for job, spent in medians(jobs, 5).items():
                times[job].append(spent)
        span = f"{name} {sizes[0]} to {sizes[-1]} (theory: {theory})"
        found += [(f"exponent of {job}, {span}", exponent(sizes, spent), "") for job, spent in times.items()]
    return found


def torchrun(processes: int, *arguments: str) -> str:
    """What N processes print."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)
    require(done.returncode == 0, f"{processes} processes failed: {done.stderr[-2000:]}")
    return done.stdout


BUSY = """
import time, torch
torch.set_num_threads(1)
x = torch.randn(512, 512)
print("ready", flush=True)
input()
began = time.perf_counter()
for _ in range(1000):
    x @ x
print(time.perf_counter() - began)
"""


def side_by_side(n: int) -> float:
    """Seconds that each of n processes takes which share nothing but the machine."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", BUSY], **pipes) for _ in range(n)]
    for process in started:
        process.stdout.readline()  # it has imported torch
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    return median(float(process.communicate()[0]) for process in started)


def processes(config: Config) -> list[Row]:
    """Steps of a wider toy on one and on two processes, and what each of one and of four keeps."""
    counts = (1, 2)
    busy, times = [side_by_side(n) for n in counts], []
    found = [("two processes that share nothing / one alone (1: a core each)", busy[1] / busy[0], "×")]
    with tempfile.TemporaryDirectory() as folder:
        sizes = ["--model.hidden_size=256", "--model.intermediate_size=768", "--base_steps=1", "--max_new=16"]
        few = ["--steps=5", "--table=none", "--eval_every=100", "--threads=1", "--reward_flip=0.5"]
        few += ["--prompts=32", "--group=16"]
        path = Path(folder, "config.json")
        path.write_text(to_json(config))
        for n in counts:
            torchrun(n, "train.py", str(path), f"--out={folder}/{n}", *sizes, *few)
            lines = map(json.loads, Path(folder, str(n), "timing.jsonl").read_text().splitlines())
            times.append(1000 * median(line["data"] + line["update"] for line in [*lines][1:]))
    found += [
        (f"a step on {n} process(es), width 256, 512 rows", spent, "ms")
        for n, spent in zip(counts, times, strict=True)
    ]
    theory = "theory: -1 with a core each, 0 where they share one"
    found += [(f"exponent of a step, processes 1 to 2 ({theory})", exponent(counts, times), "")]
    one, four = (float(torchrun(n, "-m", "bridge_min.bench", "--share").split()[-1]) for n in (1, 4))
    return [*found, ("**players and moments, each of four processes / one**", four / one, "×")]


def share() -> None:
    """To be run by torchrun: GiB that the players and their moments take in the first process."""
    fixed_limit()
    with joined("cpu"):
        before, theta = resident(), {}
        for name, value in build(SHARDED).named_parameters():
            theta[name] = spread(torch.ones(value.shape))
        bench = Bench(Config(threads=1), build(SHARDED), theta)
        for name, params in bench.players.items():
            ascend(bench.optimizers[name], params, {k: v.clone() for k, v in params.items()}, 0.0, 1.0)
        if rank() == 0:
            print(resident() - before)


SECTIONS = {
    "steps": steps,
    "sampling": sampling,
    "trl": trl,
    "long": long,
    "memory": memory,
    "exponents": exponents,
    "processes": processes,
}


def main(config: Config, only: list[str]) -> None:
    torch.set_num_threads(config.threads)
    path, results = Path(config.out).parent / "bench.json", {}
    if path.exists():  # sections that are not measured now stay as they were
        results = json.loads(path.read_text())
    for name in only:
        rows = SECTIONS[name](config)
        results[name] = [dict(zip(("what", "value", "unit"), row, strict=True)) for row in rows]
        print(f"\n| {name} | |\n|---|---|")
        for what, value, unit in rows:
            print(
                f"| {what} | {f'{value:.3g}' if value < 100 else f'{value:.0f}'} {unit} |".replace("  ", " ")
            )
    about = {"threads": config.threads, "torch": torch.__version__, "cpus": os.cpu_count()}
    write(path, json.dumps({**results, **about}, indent=2).encode())
    print(f"\n{config.threads} thread(s), torch {torch.__version__}; in {path}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--share":
        sys.exit(share())
    try:
        chosen = [a.removeprefix("--only=").split(",") for a in sys.argv[2:] if a.startswith("--only=")]
        only = chosen[-1] if chosen else list(SECTIONS)
        for name in only:
            require(name in SECTIONS, f"--only: {name!r} is not one of {', '.join(SECTIONS)}")
        main(load_config(sys.argv[1], [a for a in sys.argv[2:] if not a.startswith("--only=")]), only)
    except ConfigError as error:
        sys.exit(f"error: {error}")
