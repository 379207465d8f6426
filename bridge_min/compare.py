"""Every method in the same world, over several seeds, from one command; and the tables that come out.

    python -m bridge_min.compare tiny_configs/arith.py --seeds 5 --out out/compare

Runs train.py many times, `--workers` at once, in three stages: the base models; each row's step size, tuned
on the validation accuracy of seeds of their own; the tables on fresh seeds. A run's folder is named by all
its settings, and what is finished is not run again: after Ctrl-C the same command goes on. Writes raw.json
(every run) and tables.md. Read on in plot.py.
"""

import argparse
import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, pstdev, stdev

from .checkpoint import write
from .config import Config, ConfigError, load_config, require, to_json
from .problem import KINDS
from .tasks import WORLDS

TUNING_SEEDS, FIRST_SEED = (100, 101), 20
GRID = (2.5e-4, 5e-4, 1e-3)  # step sizes; a row whose best is at an end gets one more there
MOST_RATES = 7  # step sizes tried for one row
PAPER, OURS, RL = "BRIDGE (paper)", "BRIDGE + selection (ours)", "RL (GRPO)"
ROWS = {
    "SFT": {"method": "sft"},
    RL: {"method": "grpo"},
    "SFT→RL": {"method": "two_stage", "cold_start": 0.5},
    "SFT+RL": {"method": "mix"},
    "alternating": {"method": "alternate"},
    "CHORD-μ": {"method": "chord_mu"},
    "CHORD-φ": {"method": "chord_phi"},
    "LUFFY": {"method": "luffy"},
    "SRFT": {"method": "srft"},
    "HPT": {"method": "hpt"},
    PAPER: {"method": "bridge"},
    OURS: {"method": "bridge", "select": "demo"},
}
BY_TURNS = ("SFT→RL", "alternating")  # twice the steps: as many rollouts and demonstrations as the others
ABLATIONS = {  # row -> settings, and the row whose step size it takes
    "without the shadow": ({"meta": "no_shadow"}, PAPER),
    "unrolled": ({"meta": "unrolled"}, PAPER),
    "shadow reset every 10 steps": ({"shadow_reset": 10}, PAPER),
    "selection by reward alone": ({"select": "reward"}, OURS),
    "selection without w and shadow": ({"method": "mix", "select": "demo"}, OURS),
    "SFT+RL, selection by reward alone": ({"method": "mix", "select": "reward"}, OURS),
    "selection by token": ({"select": "token"}, OURS),
}
NOISY = (RL, "HPT", PAPER, OURS)
NOISE = (0.1, 0.2, 0.3)
WEIGHED = ("SFT+RL", PAPER, OURS)
LAMBDAS, LAMBDA_SEEDS = (0.1, 0.5, 0.9), 2
NO_PART = ("compare.py", "plot.py", "bench.py")  # files that no run depends on
# Student's t for 1 to 9 degrees of freedom; beyond them the last: a little too wide.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


# --- Running ----------------------------------------------------------------------------------------------


class Runner:
    """Runs settings over a config, each in a folder of its own, several at once, and says how far it is."""

    def __init__(self, path: str, out: Path, workers: int, overrides: list[str]):
        self.path, self.out, self.workers, self.overrides = path, out, workers, overrides

    def run(self, stage: str, jobs: list[dict]) -> list[dict]:
        """The results of all jobs, in their order. A job is a dictionary of settings."""
        began, results = time.monotonic(), {}
        with ThreadPoolExecutor(self.workers) as pool:
            futures = {pool.submit(self.one, job): i for i, job in enumerate(jobs)}
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    results[futures[future]] = future.result()
                    left = (time.monotonic() - began) / done * (len(jobs) - done)
                    print(
                        f"{stage}: {done} of {len(jobs)} runs, {left / 60:.0f} min left in this stage",
                        flush=True,
                    )
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [results[i] for i in range(len(jobs))]

    def config(self, settings: dict) -> Config:
        config = load_config(self.path, self.overrides + [f"--{k}={v}" for k, v in settings.items()])
        key = hashlib.sha256(to_json(replace(config, out="run")).encode()).hexdigest()[:8]
        name = "-".join([config.method, f"seed{config.seed}", key])
        return replace(config, out=str(self.out / "runs" / name))

    def one(self, settings: dict) -> dict:
        """One run, begun, gone on with, or read if it is there."""
        config = self.config(settings)
        out = Path(config.out)
        if not (out / "results.json").exists():
            resume = ["--resume"] if (out / "run.json").exists() else []
            given = [f"--{key}={value}" for key, value in settings.items()]
            self.call("train.py", self.path, *self.overrides, *given, f"--out={out}", *resume)
        return {"settings": settings, **read_run(out)}

    def call(self, *command: str) -> None:
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run([sys.executable, *command], cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise ConfigError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def same_code(out: Path) -> None:
    """Raises ConfigError if the runs in the folder were made by other code: one table, one code."""
    root, path = Path(__file__).resolve().parents[1], out / "code.json"
    files = [root / "train.py", *sorted(root.glob("bridge_min/*.py"))]
    code = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.name not in NO_PART}
    if path.exists():
        changed = [name for name, digest in json.loads(path.read_text()).items() if code.get(name) != digest]
        require(not changed, f"{out} holds runs of other code ({', '.join(changed)}): take another --out")
    write(path, json.dumps(code).encode())


def read_run(out: Path) -> dict:
    """What the tables need of a run's folder: final scores, curves over training, cost."""
    found = json.loads((out / "results.json").read_text())
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    timing = [json.loads(line) for line in (out / "timing.jsonl").read_text().splitlines()]
    seconds = {t["step"]: t["data"] + t["update"] for t in timing}
    steps = [m for m in metrics if "norm_theta" in m]
    return {
        "suites": next((s for name, s in found["scores"].items() if name.startswith("trained")), {}),
        "base": found["scores"].get("base", {}),
        "validation": [
            [m["step"], m["val_theta"], m.get("val_theta_hat")] for m in metrics if "val_theta" in m
        ],
        "surrogate": [[m["step"], m["gain"]] for m in steps if "gain" in m],
        "kept": {
            key: mean(m[key] for m in steps if key in m)
            for key in (f"kept_{kind}" for kind in KINDS)
            if any(key in m for m in steps)
        },
        "norms": [m["norm_theta"] for m in steps],
        "seconds": [seconds[m["step"]] for m in steps],
        "peak_gib": found["peak_gib"],
    }


def tune(runner: Runner, rows: dict[str, dict]) -> dict[str, dict[float, float]]:
    """Mean final validation accuracy of every row at every step size tried. The grid is the same for all; a
    row whose best is at an end gets the next step size there, until it is not."""
    tried: dict[str, dict[float, float]] = {row: {} for row in rows}
    open_ends = {row: list(GRID) for row in rows}
    while jobs := [(row, lr) for row, lrs in open_ends.items() for lr in lrs]:
        settings = [
            {**rows[row], "lr": lr, "lr_lora": lr, "seed": seed, "table": "none"}
            for row, lr in jobs
            for seed in TUNING_SEEDS
        ]
        results = runner.run("tuning", settings)
        for i, (row, lr) in enumerate(jobs):
            part = results[i * len(TUNING_SEEDS) : (i + 1) * len(TUNING_SEEDS)]
            tried[row][lr] = mean(run["validation"][-1][1] for run in part)
        open_ends = {row: beyond(found) for row, found in tried.items() if beyond(found)}
    return tried


def best(found: dict[float, float]) -> float:
    """The step size with the highest accuracy; of equals the smallest."""
    return max(sorted(found), key=found.get)


def beyond(found: dict[float, float]) -> list[float]:
    """The step size to try next where the best one is at an end of those tried: better than all others, or a
    plateau would go on for ever."""
    rates = sorted(found)
    if not 2 <= len(rates) < MOST_RATES:
        return []
    if found[rates[0]] > max(found[rate] for rate in rates[1:]):
        return [rates[0] / 2]
    return [rates[-1] * 2] if found[rates[-1]] > max(found[rate] for rate in rates[:-1]) else []


def rows_of(config: Config) -> dict[str, dict]:
    """The settings of every row of the main table."""
    twice = {"steps": 2 * config.steps}
    return {row: {**settings, **(twice if row in BY_TURNS else {})} for row, settings in ROWS.items()}


def plan(rows: dict[str, dict], rates: dict[str, float], seeds: list[int]) -> list[dict]:
    """All runs behind the tables: {"table", "row", "at" (its value there), "settings"}."""
    runs = []

    def add(
        table: str, row: str, at: float | None, settings: dict, like: str, most: int | None = None
    ) -> None:
        for seed in seeds[:most]:
            chosen = {"lr": rates[like], "lr_lora": rates[like], "seed": seed}
            runs.append({"table": table, "row": row, "at": at, "settings": {**settings, **chosen}})

    for row, settings in rows.items():
        add("main", row, None, {**settings, "samples": 32, "table": "trained"}, row)
    for row, (settings, like) in ABLATIONS.items():
        add("ablations", row, None, {**rows[like], **settings, "table": "trained"}, like)
    for p in NOISE:
        for row in NOISY:
            add("noise", row, p, {**rows[row], "reward_flip": p, "table": "trained"}, row)
    for lam in LAMBDAS:
        for row in WEIGHED:
            add("lambda", row, lam, {**rows[row], "lam": lam, "table": "trained"}, row, LAMBDA_SEEDS)
    return runs


# --- Tables -----------------------------------------------------------------------------------------------


def accuracy(run: dict, k: int = 1) -> dict[str, float]:
    """Per cent by suite: pass@k of the sampled responses, for k = 1 the mean accuracy; and their mean."""
    suites = {suite: 100 * score["pass_at"][str(k)][0] for suite, score in run["suites"].items()}
    return {**suites, "mean": mean(suites.values())}


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval over seeds (Student's t)."""
    values = list(values)
    if len(values) < 2:
        return values[0], math.nan
    return mean(values), T95[min(len(values) - 2, len(T95) - 1)] * stdev(values) / math.sqrt(len(values))


def paired(runs: list[dict], others: list[dict], column: str = "mean") -> tuple[float, float]:
    """Mean difference runs - others over the same seeds, and half its 95 % interval."""
    theirs = {run["settings"]["seed"]: accuracy(run)[column] for run in others}
    return interval(accuracy(run)[column] - theirs[run["settings"]["seed"]] for run in runs)


def shown(value: tuple[float, float], sign: str = "") -> str:
    return f"{value[0]:{sign}.1f}" + ("" if math.isnan(value[1]) else f" ± {value[1]:.1f}")


def markdown(head: list[str], lines: Iterable[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def of(runs: list[dict], table: str, row: str, at: float | None = None) -> list[dict]:
    return [run for run in runs if (run["table"], run["row"], run["at"]) == (table, row, at)]


def main_table(runs: list[dict], tests: list[str]) -> str:
    columns = [*tests, "mean"]
    base = [{**run, "suites": run["base"]} for run in of(runs, "base", "base")]
    lines = [["base", *(shown(interval(accuracy(run)[c] for run in base)) for c in columns), "", ""]]
    for row in ROWS:
        found = of(runs, "main", row)
        cells = [shown(interval(accuracy(run)[c] for run in found)) for c in columns]
        for other in (PAPER, OURS):
            cells.append("" if row == other else shown(paired(found, of(runs, "main", other)), "+"))
        lines.append([row, *cells])
    return markdown(["", *columns, "minus BRIDGE (paper)", "minus ours"], lines)


def pass_table(runs: list[dict], tests: list[str]) -> str:
    ks = [2**i for i in range(6)]
    lines = [
        [row, *(shown(interval(accuracy(run, k)["mean"] for run in of(runs, "main", row))) for k in ks)]
        for row in ROWS
    ]
    return markdown(["", *(f"pass@{k}" for k in ks)], lines)


def stability_table(runs: list[dict]) -> str:
    """Spread of the mean over seeds, the largest drop of a validation curve below its best so far, and the
    spread of the gradient norm within a run (deviation / mean)."""
    lines = []
    for row in ROWS:
        found = of(runs, "main", row)
        drops = [100 * largest_drop([value for _, value, _ in run["validation"]]) for run in found]
        spread = [pstdev(run["norms"]) / (mean(run["norms"]) or 1.0) for run in found]
        deviation = f"{stdev(accuracy(run)['mean'] for run in found):.1f}" if len(found) > 1 else ""
        lines.append([row, deviation, f"{mean(drops):.1f}", f"{max(drops):.1f}", f"{mean(spread):.2f}"])
    return markdown(["", "deviation over seeds", "largest drop, mean", "worst", "norm spread"], lines)


def largest_drop(curve: list[float]) -> float:
    return max((max(curve[: i + 1]) - value for i, value in enumerate(curve)), default=0.0)


def cost_table(runs: list[dict], target: float = 0.6) -> str:
    """Seconds of a step, the ratio to RL's, memory, and training seconds until validation reaches the target.
    Wall-clock of runs that share the machine, row after row; bench.py measures ratios in turn."""
    rl = median(mean(run["seconds"]) for run in of(runs, "main", RL))
    lines = []
    for row in ROWS:
        found = of(runs, "main", row)
        step = median(mean(run["seconds"]) for run in found)  # of both kinds, where a method takes turns
        waits = [waiting(run, target) for run in found]
        reached, middle = (
            sum(w < math.inf for w in waits),
            median(waits),
        )  # of all seeds, also those that never do
        wait = f"{middle:.0f} s" if middle < math.inf else "never"
        wait += f" ({reached} of {len(waits)})"
        peak = max(run["peak_gib"] for run in found)
        lines.append([row, f"{1000 * step:.0f} ms", f"{step / rl:.2f}", f"{peak:.2f} GiB", wait])
    return markdown(["", "step", "of RL's", "memory", f"time to {100 * target:.0f} % validation"], lines)


def waiting(run: dict, target: float) -> float:
    """Seconds of training until greedy validation accuracy first reaches the target."""
    reached = [step for step, value, _ in run["validation"] if value >= target]
    return sum(run["seconds"][: reached[0]]) if reached else math.inf


def grid_table(
    runs: list[dict], table: str, rows: Iterable[str], values: tuple[float, ...], first: str
) -> str:
    """Mean accuracy of each row at each value; `first`: the heading of the main table's runs, if they
    belong."""
    lines = []
    for row in rows:
        cells = [of(runs, "main", row)] if first else []
        cells += [of(runs, table, row, value) for value in values]
        lines.append([row, *(shown(interval(accuracy(run)["mean"] for run in cell)) for cell in cells)])
    return markdown(["", *([first] if first else []), *map(str, values)], lines)


def ablation_table(runs: list[dict]) -> str:
    paper = of(runs, "main", PAPER)
    named = {
        PAPER: paper,
        "without the meta objective (SFT+RL)": of(runs, "main", "SFT+RL"),
        OURS: of(runs, "main", OURS),
        **{row: of(runs, "ablations", row) for row in ABLATIONS},
    }
    lines = []
    for row, found in named.items():
        against = "" if row == PAPER else shown(paired(found, paper), "+")
        lines.append([row, shown(interval(accuracy(run)["mean"] for run in found)), against])
    return markdown(["", "mean", "minus BRIDGE (paper)"], lines)


def kept_table(runs: list[dict]) -> str:
    """Of the demonstrations' tokens, the share that selection by gain supervises, by kind."""
    cells = []
    for kind in KINDS:
        shares = [
            100 * run["kept"][f"kept_{kind}"]
            for run in of(runs, "main", OURS)
            if f"kept_{kind}" in run["kept"]
        ]
        cells.append(shown(interval(shares)) if shares else "")
    return markdown(["", *KINDS], [[OURS, *cells]])


def tuning_table(tuned: dict[str, dict[float, float]]) -> str:
    rates = sorted({lr for found in tuned.values() for lr in found})
    lines = []
    for row, found in tuned.items():
        cells = [f"{100 * found[lr]:.1f}" if lr in found else "" for lr in rates]
        lines.append(
            [row, *(f"**{c}**" if c and lr == best(found) else c for c, lr in zip(cells, rates, strict=True))]
        )
    return markdown(["", *(f"{lr:g}" for lr in rates)], lines)


def report(runs: list[dict], tuned: dict, config: Config, seeds: list[int]) -> str:
    tests = list(WORLDS[config.task].TESTS)
    parts = {
        f"Accuracy (pass@1, sampled), per cent: mean over {len(seeds)} seeds ± 95 % interval": main_table(
            runs, tests
        ),
        "pass@k, mean of the columns": pass_table(runs, tests),
        "Rewards flipped with probability p, at the step size of p = 0": grid_table(
            runs, "noise", NOISY, NOISE, "0"
        ),
        f"λ, {min(len(seeds), LAMBDA_SEEDS)} seeds": grid_table(runs, "lambda", WEIGHED, LAMBDAS, ""),
        "Ablations, at the step size of the row they vary": ablation_table(runs),
        "Share of the demonstrations' tokens that are kept, per cent": kept_table(runs),
        "Stability": stability_table(runs),
        "Cost": cost_table(runs),
        "Step sizes: final greedy validation accuracy, per cent": tuning_table(tuned),
    }
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts.items()) + "\n"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("config", help="a config file; further --key=value go over it")
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds behind every table")
    parser.add_argument("--out", default="out/compare", help="folder for the runs and the tables")
    parser.add_argument("--workers", type=int, default=2, help="runs at once; each uses the config's threads")
    known, overrides = parser.parse_known_args(arguments)
    enough = known.workers > 0 and 0 < known.seeds <= 70
    require(enough, "--workers and --seeds must be above 0, --seeds at most 70")
    began, out = time.monotonic(), Path(known.out).resolve()
    runner = Runner(str(Path(known.config).resolve()), out, known.workers, overrides)
    same_code(out)
    config = load_config(known.config, overrides)
    seeds = list(range(FIRST_SEED, FIRST_SEED + known.seeds))
    # One short run per seed makes its base, so that later runs find it, and scores it on the fresh seeds.
    runner.run(
        "bases", [{"seed": seed, "method": "sft", "steps": 1, "table": "none"} for seed in TUNING_SEEDS]
    )
    scored = runner.run(
        "bases", [{"seed": s, "method": "sft", "steps": 1, "samples": 32, "table": "all"} for s in seeds]
    )
    rows = rows_of(config)
    tuned = tune(runner, rows)
    runs = [{"table": "base", "row": "base", "at": None, **run} for run in scored]
    planned = plan(rows, {row: best(found) for row, found in tuned.items()}, seeds)
    results = runner.run("tables", [run["settings"] for run in planned])
    runs += [{**run, **found} for run, found in zip(planned, results, strict=True)]
    raw = {"config": json.loads(to_json(config)), "seeds": seeds, "tuned": tuned, "runs": runs}
    write(out / "raw.json", json.dumps(raw).encode())
    text = report(runs, tuned, config, seeds)
    write(out / "tables.md", text.encode())
    print(f"\n{text}\n{(time.monotonic() - began) / 60:.0f} min; {out / 'raw.json'}, {out / 'tables.md'}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
