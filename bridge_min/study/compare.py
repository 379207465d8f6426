"""Every method in the same worlds, over several seeds, from one command; and the tables that come out.

    python -m bridge_min.study.compare                     # arithmetic, two worlds: three hours on two cores
    python -m bridge_min.study.compare logic               # another world of WORLDS
    python -m bridge_min.study.compare results/raw.json    # the tables of runs that are done

Runs train.py many times, `--workers` at once, in three stages for each world: the base models; each row's
step size, tuned on the validation accuracy of seeds of their own; the tables, on fresh seeds. A run's folder
is named by world, code and settings, and what is finished is not run again: after Ctrl-C the same command
goes on, and runs of other code are never mixed in. Writes raw.json, all that the tables and plot.py need.
"""

import argparse
import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev

from ..checkpoint import write
from ..config import Config, load_config, require, to_json

ROOT = Path(__file__).resolve().parents[2]
TUNING_SEEDS, FIRST_SEED = (100, 101), 600  # fresh: never used for anything else
GRID = (2e-4, 4e-4, 8e-4)  # step sizes; a row whose best is at an end gets one more there
MOST_RATES = 7  # step sizes tried for one row
PAPER, OURS, RL, NAIVE, COLD = "BRIDGE", "BRIDGE, selected (ours)", "RL (GRPO)", "SFT+RL", "SFT→RL"
ROWS = {
    **{"SFT": {"method": "sft"}, RL: {"method": "grpo"}, NAIVE: {"method": "mix"}},
    **{COLD: {"method": "two_stage", "cold_start": 0.5}, "alternating": {"method": "alternate"}},
    **{"CHORD-μ": {"method": "chord_mu"}, "CHORD-φ": {"method": "chord_phi"}},
    **{"LUFFY": {"method": "luffy"}, "SRFT": {"method": "srft"}, "HPT": {"method": "hpt"}},
    **{PAPER: {"method": "bridge"}, OURS: {"method": "bridge", "select": "ours"}},
}
TWICE = ", twice the steps"  # as many rollouts and demonstrations as the other rows
ROWS |= {row + TWICE: ROWS[row] for row in (COLD, "alternating")}
ABLATIONS = {  # row -> settings, and the row whose step size it takes
    "without the shadow": ({"method": "no_shadow"}, PAPER),
    "without the cooperative gain": ({"method": "no_gain"}, PAPER),
    "unrolled": ({"meta": "unrolled"}, PAPER),
    "selected, also where groups fail": ({"select": "both"}, OURS),
    "selected by gain alone": ({"select": "gain"}, OURS),
    "selected by reward alone": ({"select": "reward"}, OURS),
    "selected, without w and shadow": ({"method": "mix"}, OURS),
}
SIX = (RL, COLD, NAIVE, "HPT", PAPER, OURS)
NOISE, WEIGHED, LAMBDAS = (0.1, 0.2, 0.3), (NAIVE, PAPER), (0.3, 0.5, 0.9)
WORLDS = {  # world -> its config, rows of the main table, seeds, other tables, whether step sizes are tuned
    "sound": ("arith.py", tuple(ROWS), 10, ("ablations", "noise", "lambda"), True),
    "bad": ("arith_bad_demos.py", tuple(ROWS), 10, ("ablations",), True),
    "logic": ("logic.py", SIX, 5, (), True),
    "smollm2": ("smollm2_sums.py", (RL, COLD + TWICE, NAIVE, PAPER), 2, (), False),
}
FEW = 5  # seeds of the other tables
# Student's t for 1 to 9 degrees of freedom; beyond them the last: a little too wide.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

Run = (
    dict  # one run as raw.json has it, see `run_one` and `read_run`; "table", "row", "at" say where it stands
)


# --- Running ------------------------------------------------------------------------------------------------


def run_world(
    world: str, known: argparse.Namespace, overrides: list[str], left: Callable[[bool], str]
) -> dict:
    """All of one world's runs, as raw.json has them, and what they were made from."""
    config, code = open_world(world, overrides)
    _, rows, seeds, _, tuned = WORLDS[world]
    fresh, twice = range(FIRST_SEED, FIRST_SEED + seeds), {"steps": 2 * config.steps}
    settings = {row: ROWS[row] | (twice if row.endswith(TWICE) else {}) for row in rows}

    def run(stage: str, jobs: list[dict]) -> list[Run]:
        results, one = [], lambda job: run_one(world, code, job, known.out, overrides)
        with ThreadPoolExecutor(known.workers) as pool:
            for result in pool.map(one, jobs):
                results.append(result)
                print(
                    f"{world}, {stage}: {len(results)} of {len(jobs)} runs{left(result.pop('ran'))}",
                    flush=True,
                )
        return results

    once = {"method": "sft", "steps": 1, "table": "none"}  # makes the seed's base, for all later runs to find
    run("bases", [{**once, "seed": seed} for seed in (*TUNING_SEEDS, *fresh)])
    rates = tune(run, settings) if tuned else {}
    planned = plan(world, settings, {row: best(found) for row, found in rates.items()}, fresh)
    results = run("tables", [cell["settings"] for cell in planned])
    runs = [{**cell, **result} for cell, result in zip(planned, results, strict=True)]
    return {"code": code, "config": json.loads(to_json(config)), "tuned": rates, "runs": runs}


def time_left(worlds: list[str]) -> Callable[[bool], str]:
    """Called after each run, with whether it was one that had to be made: how long the rest will take, of all
    worlds, as far as it is known before step sizes are tuned."""
    runs, began = {"left": 0, "made": 0}, time.monotonic()
    for world in worlds:
        _, rows, seeds, _, tuned = WORLDS[world]
        given = {row: {} for row in rows}
        tables = plan(world, given, {}, range(FIRST_SEED, FIRST_SEED + seeds))
        runs["left"] += len(TUNING_SEEDS) * (1 + tuned * len(GRID) * len(rows)) + seeds + len(tables)

    def left(made: bool) -> str:
        runs["left"], runs["made"] = max(0, runs["left"] - 1), runs["made"] + made
        minutes = (time.monotonic() - began) / 60 / max(1, runs["made"]) * runs["left"]
        return f"; {runs['left']} more in all, about {minutes:.0f} minutes" if runs["made"] else ""

    return left


def open_world(world: str, overrides: list[str]) -> tuple[Config, str]:
    """A world's config, and a digest of all that its runs follow from: the code, but for this file and the
    pictures, and the config. Raises ConfigError if there is no train.py to run."""
    require((ROOT / "train.py").exists(), f"{ROOT} has no train.py: run this in a checkout of the repository")
    config = load_config(ROOT / "tiny_configs" / WORLDS[world][0], overrides)
    paths = [ROOT / "train.py", *sorted(ROOT.glob("bridge_min/**/*.py"))]
    code = b"".join(path.read_bytes() for path in paths if path.name not in ("compare.py", "plot.py"))
    return config, hashlib.sha256(code + to_json(config).encode()).hexdigest()[:8]


def run_one(world: str, code: str, settings: dict, out: Path, overrides: list[str]) -> Run:
    """Begun, gone on with, or read if it is there. Raises ConfigError with its last words if it fails."""
    named = [f"{key}={value}" for key, value in sorted(settings.items())]
    folder = out / "runs" / "_".join((world, code, *named))
    ran = not (folder / "results.json").exists()
    if ran:
        config = ROOT / "tiny_configs" / WORLDS[world][0]
        given = [*overrides, *(f"--{setting}" for setting in named), f"--out={folder}"]
        resume = ["--resume"] if (folder / "run.json").exists() else []
        command = [sys.executable, str(ROOT / "train.py"), str(config), *given, *resume]
        done = subprocess.run(command, capture_output=True, text=True)
        require(done.returncode == 0, f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return {"world": world, "code": code, "ran": ran, "settings": settings, **read_run(folder)}


def read_run(folder: Path) -> Run:
    """What tables and pictures need of it: pass@k by suite and k; validation as [step, theta, theta_hat]; and
    the seconds of training until each of these validations."""
    lines = lambda name: [json.loads(line) for line in (folder / name).read_text().splitlines()]
    validation = [
        [m["step"], m["val_theta"], m.get("val_theta_hat")]
        for m in lines("metrics.jsonl")
        if "val_theta" in m
    ]
    spent = [(t["step"], t["data"] + t["update"]) for t in lines("timing.jsonl")]
    seconds = [round(sum(s for step, s in spent if step <= done), 1) for done, *_ in validation]
    scores = json.loads((folder / "results.json").read_text())["scores"]  # first the base, if it is there
    found = next(iter(scores.values()), {})
    suites = {s: {k: round(p[0], 5) for k, p in score["pass_at"].items()} for s, score in found.items()}
    return {"suites": suites, "validation": validation, "seconds": seconds}


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
    """The step size to try next where the best one is at an end of those tried."""
    top = best(found)
    if len(found) == MOST_RATES:
        return []
    return {min(found): [top / 2], max(found): [top * 2]}.get(top, [])


def plan(world: str, rows: dict[str, dict], rates: dict[str, float], seeds: range) -> list[dict]:
    """All runs behind the tables: {"table", "row", "at" (its value there), "settings"}."""
    _, _, _, tables, tuned = WORLDS[world]
    few, base = seeds[:FEW], {"method": "sft", "steps": 1, "table": "all", "versus": ""}
    samples, curve = ({"samples": 32}, {"eval_every": 10}) if tuned else ({}, {})
    cells = [("main", "base", None, "", base | samples, seeds)]
    cells += [("main", row, None, row, samples | curve, seeds) for row in rows]
    if "ablations" in tables:
        cells += [("ablations", row, None, like, new, few) for row, (new, like) in ABLATIONS.items()]
    if "noise" in tables:
        cells += [("noise", row, p, row, {"reward_flip": p}, few) for row in SIX for p in NOISE]
    if "lambda" in tables:
        cells += [("lambda", row, lam, row, {"lam": lam}, few) for row in WEIGHED for lam in LAMBDAS]
    runs = []
    for table, row, at, like, changes, those in cells:
        given = {"table": "trained", **rows.get(like, {}), **changes}
        given |= {"lr": rates[like], "lr_lora": rates[like]} if like in rates else {}
        runs += [{"table": table, "row": row, "at": at, "settings": {**given, "seed": s}} for s in those]
    return runs


# --- Tables -------------------------------------------------------------------------------------------------


def accuracy(run: Run, k: str = "1") -> dict[str, float]:
    """Per cent by suite: pass@k of the sampled responses, for k = 1 the mean accuracy; and their mean."""
    suites = {suite: 100 * passes[k] for suite, passes in run["suites"].items()}
    return {**suites, "mean": mean(suites.values())}


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval over seeds, at least two (Student's t)."""
    values = list(values)
    return mean(values), T95[min(len(values) - 2, len(T95) - 1)] * stdev(values) / math.sqrt(len(values))


def paired(runs: list[Run], others: list[Run], column: str = "mean") -> tuple[float, float]:
    """Mean difference runs - others over the same seeds, and half its 95 % interval."""
    theirs = {seed_of(run): accuracy(run)[column] for run in others}
    return interval(accuracy(run)[column] - theirs[seed_of(run)] for run in runs)


def seed_of(run: Run) -> int:
    return run["settings"]["seed"]


def largest_drop(run: Run) -> float:
    """Of the validation curve below its best so far, in points."""
    curve = [100 * value for _, value, _ in run["validation"]]
    return max(max(curve[: i + 1]) - value for i, value in enumerate(curve))


def reached(run: Run, target: float) -> tuple[float, float]:
    """The step, and the seconds of training, after which validation accuracy was first at the target."""
    points = zip(run["validation"], run["seconds"], strict=True)
    return next(
        ((step, spent) for (step, value, _), spent in points if value >= target), (math.inf, math.inf)
    )


def cell(runs: list[Run], row: str, table: str = "main", at: float | None = None) -> list[Run]:
    """The runs behind one cell. A table of fewer seeds has its undisturbed rows from the main table, over
    these seeds."""
    found = [run for run in runs if (run["row"], run["table"], run["at"]) == (row, table, at)]
    seeds = {seed_of(run) for run in runs if run["table"] == table}
    return found or [r for r in runs if (r["row"], r["table"]) == (row, "main") and seed_of(r) in seeds]


def shown(value: tuple[float, float], sign: str = "") -> str:
    return f"{value[0]:{sign}.1f} ± {value[1]:.1f}"


def grid(rows: Iterable[str], columns: dict[str, Callable[[str], str]]) -> str:
    """A table in Markdown; a column is a head and what it says of a row."""
    lines = [["", *map(str, columns)], ["---"] * (1 + len(columns))]
    lines += [[row, *(says(row) for says in columns.values())] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(world: str, raw: dict) -> str:
    """All tables of one world, from what raw.json holds of it. Raises ConfigError if the runs are not all of
    that world and of one code."""
    runs, tuned, (_, rows, _, more, _) = raw["runs"], raw["tuned"], WORLDS[world]
    made = sorted({(run["world"], run["code"]) for run in runs})
    require(
        made == [(world, raw["code"])], f"the tables of {world} are not of one world and one code: {made}"
    )

    def mean_of(table: str = "main", at: float | None = None, suite: str = "mean", k: str = "1"):
        return lambda row: shown(interval(accuracy(run, k)[suite] for run in cell(runs, row, table, at)))

    def minus(table: str = "main") -> dict:
        gap = lambda row, other: paired(cell(runs, row, table), cell(runs, other, table))
        says = lambda other: lambda row: "" if row == other else shown(gap(row, other), "+")
        return {f"minus {other}": says(other) for other in (PAPER, OURS) if other in rows}

    suites = cell(runs, PAPER)[0]["suites"]
    passes = {k: mean_of(k=k) for k in next(iter(suites.values()))}
    parts = {
        "Accuracy": grid(["base", *rows], {s: mean_of(suite=s) for s in (*suites, "mean")} | minus()),
        "pass@k": grid(["base", *rows], passes),
        f"Stability, and when a row is first as good as {COLD} at its end": grid(rows, stability(runs)),
    }
    if "ablations" in more:
        columns = {"mean": mean_of("ablations")} | minus("ablations")
        parts["Ablations"] = grid([PAPER, NAIVE, OURS, *ABLATIONS], columns)
    if "noise" in more:
        lost = lambda row: shown(paired(cell(runs, row, "noise", 0), cell(runs, row, "noise", 0.2)))
        columns = {p: mean_of("noise", p) for p in (0, *NOISE)} | {"lost at 0.2": lost}
        parts["Rewards flipped with probability p"] = grid(SIX, columns)
    if "lambda" in more:
        values = sorted({*LAMBDAS, raw["config"]["lam"]})
        parts["λ"] = grid(WEIGHED, {value: mean_of("lambda", value) for value in values})
    if tuned:
        rates = sorted({rate for row in rows for rate in tuned[row]}, key=float)
        columns = {rate: lambda row, rate=rate: f"{tuned[row].get(rate, '')}" for rate in rates}
        parts["Validation by step size"] = grid(rows, columns)
    return "".join(f"### {title}\n\n{text}\n\n" for title, text in parts.items())


def stability(runs: list[Run]) -> dict[str, Callable[[str], str]]:
    """Columns: how much seeds differ, also above their bases; the largest drop of a validation curve; and
    where a row's validation is first as high as SFT→RL's at its end, of the same seed."""
    bases = {seed_of(run): run for run in cell(runs, "base")}
    ends = {seed_of(run): run["validation"][-1][1] for run in cell(runs, COLD) or cell(runs, COLD + TWICE)}
    gained = lambda run: accuracy(run)["mean"] - accuracy(bases[seed_of(run)])["mean"]
    until = lambda row: [reached(run, ends[seed_of(run)]) for run in cell(runs, row)]
    drops = lambda row: map(largest_drop, cell(runs, row))
    return {
        "deviation over seeds": lambda row: f"{stdev(accuracy(run)['mean'] for run in cell(runs, row)):.1f}",
        "above the base": lambda row: f"{stdev(map(gained, cell(runs, row))):.1f}",
        "largest drop": lambda row: f"{mean(drops(row)):.1f}",
        "worst": lambda row: f"{max(drops(row)):.1f}",
        "as good": lambda row: f"{sum(step < math.inf for step, _ in until(row))} of {len(until(row))}",
        "median steps": lambda row: f"{median(step for step, _ in until(row)):.0f}",
        "median seconds": lambda row: f"{median(spent for _, spent in until(row)):.1f}",
        "seconds of a run": lambda row: f"{median(run['seconds'][-1] for run in cell(runs, row)):.1f}",
    }


def summary(worlds: dict) -> str:
    """The README's table: each row's mean in every world, and what it is ahead of BRIDGE."""
    columns = {}
    for world, raw in worlds.items():
        at = partial(cell, raw["runs"])
        mean_of = lambda row, at=at: (
            shown(interval(accuracy(run)["mean"] for run in at(row))) if at(row) else ""
        )
        minus = lambda row, at=at: shown(paired(at(row), at(PAPER)), "+") if at(row) and row != PAPER else ""
        columns |= {world: mean_of, f"{world}: minus {PAPER}": minus}
    return grid(["base", *ROWS], columns)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(usage=__doc__, allow_abbrev=False)
    parser.add_argument(
        "worlds", nargs="*", default=["sound", "bad"], help=f"of {', '.join(WORLDS)}; or a raw.json"
    )
    parser.add_argument("--out", type=Path, default="out/compare", help="folder for the runs and raw.json")
    parser.add_argument("--workers", type=int, default=2, help="runs at once; each uses the config's threads")
    known, overrides = parser.parse_known_args(arguments)
    path, given = known.out / "raw.json", known.worlds
    if given[0].endswith(".json"):
        found = json.loads(Path(given[0]).read_text())
    else:
        require({*given} <= {*WORLDS}, f"{' '.join(given)}: the worlds are {', '.join(WORLDS)}")
        found = json.loads(path.read_text()) if path.exists() else {}
        left = time_left(given)
        for world in given:
            found[world] = json.loads(json.dumps(run_world(world, known, overrides, left)))
            write(path, json.dumps(found).encode())
    for world, raw in found.items():
        print(f"## {world}\n\n{report(world, raw)}")
    print(summary(found))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
