"""Every method in the same world, over several seeds, from one command; and the tables that come out.

    python -m bridge_min.study.compare tiny_configs/arith.py --seeds 5 --out out/compare
    python -m bridge_min.study.compare out/compare/raw.json      # the tables of runs that are done

Runs train.py many times, `--workers` at once, in three stages: the base models; each row's step size, tuned
on the validation accuracy of seeds of their own; the tables on fresh seeds. A run's folder is named by its
settings, and what is finished is not run again: after Ctrl-C the same command goes on. Writes raw.json (every
run), and prints the tables. Read on in plot.py.
"""

import argparse
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, stdev

from ..checkpoint import write
from ..config import Config, load_config, require, to_json

ROOT = Path(__file__).resolve().parents[2]
TUNING_SEEDS, FIRST_SEED = (100, 101), 20
GRID = (2.5e-4, 5e-4, 1e-3)  # step sizes; a row whose best is at an end gets one more there
MOST_RATES = 7  # step sizes tried for one row
PAPER, OURS, RL, NAIVE = "BRIDGE (paper)", "BRIDGE + selection (ours)", "RL (GRPO)", "SFT+RL"
ROWS = {
    **{"SFT": {"method": "sft"}, RL: {"method": "grpo"}, NAIVE: {"method": "mix"}},
    **{"SFT→RL": {"method": "two_stage", "cold_start": 0.5}, "alternating": {"method": "alternate"}},
    **{"CHORD-μ": {"method": "chord_mu"}, "CHORD-φ": {"method": "chord_phi"}},
    **{"LUFFY": {"method": "luffy"}, "SRFT": {"method": "srft"}, "HPT": {"method": "hpt"}},
    **{PAPER: {"method": "bridge"}, OURS: {"method": "bridge", "select": "demo"}},
}
BY_TURNS = ("SFT→RL", "alternating")  # twice the steps: as many rollouts and demonstrations as the others
ABLATIONS = {  # row -> settings, and the row whose step size it takes
    "without the shadow": ({"meta": "no_shadow"}, PAPER),
    "unrolled": ({"meta": "unrolled"}, PAPER),
    "selection by reward alone": ({"select": "reward"}, OURS),
    "selection without w and shadow": ({"method": "mix"}, OURS),
    "SFT+RL, selection by reward alone": ({"method": "mix", "select": "reward"}, OURS),
    "selection by token": ({"select": "token"}, OURS),
}
NOISY, NOISE = (RL, "HPT", PAPER, OURS), (0.1, 0.2, 0.3)
WEIGHED, LAMBDAS = (NAIVE, PAPER, OURS), (0.1, 0.5, 0.9)
# Student's t for 1 to 9 degrees of freedom; beyond them the last: a little too wide.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

Run = dict  # "settings", "suites" (their scores), curves, "seconds"; in raw.json "table", "row", "at" too


# --- Running ------------------------------------------------------------------------------------------------


def run_all(known: argparse.Namespace, overrides: list[str], stage: str, jobs: list[dict]) -> list[Run]:
    """The results of all jobs, dictionaries of settings over the config; several at once."""
    results, one = [], partial(run_one, known.config, overrides, known.out)
    with ThreadPoolExecutor(known.workers) as pool:
        for result in pool.map(one, jobs):
            results.append(result)
            print(f"{stage}: {len(results)} of {len(jobs)} runs", flush=True)
    return results


def run_one(config: str, overrides: list[str], out: Path, settings: dict) -> Run:
    """Begun, gone on with, or read if it is there. Raises ConfigError with its last words if it fails."""
    folder = out / "runs" / "_".join(f"{key}={value}" for key, value in sorted(settings.items()))
    if not (folder / "results.json").exists():
        given = [*overrides, *(f"--{key}={value}" for key, value in settings.items()), f"--out={folder}"]
        resume = ["--resume"] if (folder / "run.json").exists() else []
        command = [sys.executable, str(ROOT / "train.py"), config, *given, *resume]
        done = subprocess.run(command, capture_output=True, text=True)
        require(done.returncode == 0, f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return {"settings": settings, **read_run(folder)}


def read_run(folder: Path) -> Run:
    """What tables and pictures need of it."""
    lines = lambda name: [json.loads(line) for line in (folder / name).read_text().splitlines()]
    metrics, timing = lines("metrics.jsonl"), lines("timing.jsonl")
    curve = lambda key, *more: [[m.get(k) for k in ("step", key, *more)] for m in metrics if key in m]
    scores = json.loads((folder / "results.json").read_text())["scores"]  # first the base, if it is there
    curves = {"validation": curve("val_theta", "val_theta_hat"), "surrogate": curve("gain")}
    seconds = mean(t["data"] + t["update"] for t in timing)
    return {"suites": next(iter(scores.values()), {}), "seconds": seconds, **curves}


def same_code(out: Path, config: Config) -> None:
    """Raises ConfigError if there is no train.py to run, or if the runs in the folder were made by other code
    or of another config: one table, one code."""
    require((ROOT / "train.py").exists(), f"{ROOT} has no train.py: run this in a checkout of the repository")
    parts = [ROOT / "train.py", *sorted(ROOT.glob("bridge_min/**/*.py"))]
    code = b"".join(path.read_bytes() for path in parts if path.name not in ("compare.py", "plot.py"))
    made, path = hashlib.sha256(code + to_json(config).encode()).hexdigest().encode(), out / "code.sha256"
    same = not path.exists() or path.read_bytes() == made
    require(same, f"{out} holds runs of other code or another config: take another --out")
    write(path, made)


def tune(run: Callable[[str, list[dict]], list[Run]], rows: dict[str, dict]) -> dict[str, dict[float, float]]:
    """Mean final validation accuracy of every row at every step size tried. The grid is the same for all; a
    row whose best is at an end gets the next step size there, until it is not."""
    tried, asked = {row: {} for row in rows}, [(row, lr) for row in rows for lr in GRID]
    while asked:
        given = [{**rows[row], "lr": lr, "lr_lora": lr, "table": "none"} for row, lr in asked]
        found = iter(run("tuning", [{**job, "seed": seed} for job in given for seed in TUNING_SEEDS]))
        for row, lr in asked:
            tried[row][lr] = mean(next(found)["validation"][-1][1] for _ in TUNING_SEEDS)
        asked = [(row, lr) for row in rows for lr in beyond(tried[row])]
    return tried


def best(found: dict[float, float]) -> float:
    """The step size with the highest accuracy; of equals the smallest."""
    return max(sorted(found), key=found.get)


def beyond(found: dict[float, float]) -> list[float]:
    """The step size to try next where the best one is at an end of those tried: better than all others, or a
    plateau would go on for ever."""
    top = best(found)
    if len(found) == MOST_RATES or list(found.values()).count(found[top]) > 1:
        return []
    return {min(found): [top / 2], max(found): [top * 2]}.get(top, [])


def plan(rows: dict[str, dict], rates: dict[str, float], seeds: Iterable[int]) -> list[dict]:
    """All runs behind the tables: {"table", "row", "at" (its value there), "settings"}."""
    cells = [("base", "base", None, "SFT", {"steps": 1, "samples": 32, "table": "all", "versus": ""})]
    cells += [("main", row, None, row, {"samples": 32}) for row in rows]
    cells += [("ablations", row, None, like, changes) for row, (changes, like) in ABLATIONS.items()]
    cells += [("noise", row, p, row, {"reward_flip": p}) for row in NOISY for p in NOISE]
    cells += [("lambda", row, lam, row, {"lam": lam}) for row in WEIGHED for lam in LAMBDAS]
    runs = []
    for table, row, at, like, changes in cells:
        given = {"table": "trained", "lr": rates[like], "lr_lora": rates[like], **rows[like], **changes}
        runs += [{"table": table, "row": row, "at": at, "settings": {**given, "seed": s}} for s in seeds]
    return runs


# --- Tables -------------------------------------------------------------------------------------------------


def accuracy(run: Run, k: str = "1") -> dict[str, float]:
    """Per cent by suite: pass@k of the sampled responses, for k = 1 the mean accuracy; and their mean."""
    scores = run.get("base") or run["suites"]  # results/arith.json has both of a base's run
    suites = {suite: 100 * score["pass_at"][k][0] for suite, score in scores.items()}
    return {**suites, "mean": mean(suites.values())}


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval over seeds, at least two (Student's t)."""
    values = list(values)
    return mean(values), T95[min(len(values) - 2, len(T95) - 1)] * stdev(values) / math.sqrt(len(values))


def paired(runs: list[Run], others: list[Run], column: str = "mean") -> tuple[float, float]:
    """Mean difference runs - others over the same seeds, and half its 95 % interval."""
    theirs = {run["settings"]["seed"]: accuracy(run)[column] for run in others}
    return interval(accuracy(run)[column] - theirs[run["settings"]["seed"]] for run in runs)


def largest_drop(run: Run) -> float:
    """Of the validation curve below its best so far, in points."""
    curve = [100 * value for _, value, _ in run["validation"]]
    return max(max(curve[: i + 1]) - value for i, value in enumerate(curve))


def shown(value: tuple[float, float], sign: str = "") -> str:
    return f"{value[0]:{sign}.1f} ± {value[1]:.1f}"


def of(runs: list[Run], table: str, row: str, at: float | None = None) -> list[Run]:
    return [run for run in runs if (run["table"], run["row"], run["at"]) == (table, row, at)]


def grid(rows: Iterable[str], columns: Iterable, value: Callable[[str, str], str]) -> str:
    """A table in Markdown; value(row, column) is a cell's text."""
    lines = [["", *map(str, columns)], ["---"] * (1 + len(list(columns)))]
    lines += [[row, *(value(row, column) for column in columns)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(raw: dict) -> str:
    """All tables, from what raw.json holds. A column is a function of a row's runs."""
    runs, tuned = raw["runs"], raw["tuned"]
    alone = lambda row: [run for run in runs if run["row"] == row and run["at"] is None]
    table = lambda rows, columns: grid(rows, columns, lambda row, name: columns[name](alone(row)))
    score = lambda suite="mean", k="1": lambda found: shown(interval(accuracy(r, k)[suite] for r in found))
    minus = lambda other: lambda found: shown(paired(found, alone(other)), "+")
    at = lambda name, value: lambda found: score()(of(runs, name, found[0]["row"], value))
    stability = {
        "deviation over seeds": lambda found: f"{stdev(accuracy(run)['mean'] for run in found):.1f}",
        "largest drop, mean": lambda found: f"{mean(map(largest_drop, found)):.1f}",
        "worst": lambda found: f"{max(map(largest_drop, found)):.1f}",
        "seconds of a step": lambda found: f"{mean(run.get('seconds', math.nan) for run in found):.3f}",
    }
    suites, against = alone(PAPER)[0]["suites"], {f"minus {row}": minus(row) for row in (PAPER, OURS)}
    rates = sorted({rate for row in ROWS for rate in tuned[row]}, key=float)
    parts = {
        "Accuracy, per cent": table(["base", *ROWS], {s: score(s) for s in (*suites, "mean")} | against),
        "pass@k, by k": table(ROWS, {k: score(k=k) for k in ("1", "2", "4", "8", "16", "32")}),
        "Rewards flipped with probability p": table(NOISY, {0: score()} | {p: at("noise", p) for p in NOISE}),
        "λ": table(WEIGHED, {lam: at("lambda", lam) for lam in LAMBDAS}),
        "Ablations": table([PAPER, NAIVE, OURS, *ABLATIONS], {"mean": score(), **against}),
        "Stability": table(ROWS, stability),
        "Validation by step size": grid(ROWS, rates, lambda row, rate: f"{tuned[row].get(rate, '')}"),
    }
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts.items()) + "\n"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(usage=__doc__, allow_abbrev=False)
    parser.add_argument("config", help="a config file; further --key=value go over it. Or a raw.json")
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds behind every table, 2 to 80")
    parser.add_argument("--out", type=Path, default="out/compare", help="folder for the runs and the tables")
    parser.add_argument("--workers", type=int, default=2, help="runs at once; each uses the config's threads")
    known, overrides = parser.parse_known_args(arguments)
    if known.config.endswith(".json"):
        return print(report(json.loads(Path(known.config).read_text())))
    require(2 <= known.seeds <= 80, f"--seeds {known.seeds} must lie in 2..80")
    config, run = load_config(known.config, overrides), partial(run_all, known, overrides)
    same_code(known.out, config)
    seeds, twice = range(FIRST_SEED, FIRST_SEED + known.seeds), {"steps": 2 * config.steps}
    rows = {row: {**settings, **(twice if row in BY_TURNS else {})} for row, settings in ROWS.items()}
    once = {"method": "sft", "steps": 1, "table": "none"}  # makes the seed's base, for all later runs to find
    run("bases", [{**once, "seed": seed} for seed in (*TUNING_SEEDS, *seeds)])
    tuned = tune(run, rows)
    planned = plan(rows, {row: best(found) for row, found in tuned.items()}, seeds)
    results = run("tables", [cell["settings"] for cell in planned])
    runs = [{**cell, **result} for cell, result in zip(planned, results, strict=True)]
    raw = {"config": json.loads(to_json(config)), "seeds": [*seeds], "tuned": tuned, "runs": runs}
    write(known.out / "raw.json", json.dumps(raw).encode())
    print(f"{report(json.loads(json.dumps(raw)))}\n{known.out / 'raw.json'}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
