"""The tables of a comparison, from its raw.json alone.

    python -m bridge_min.study.tables results/raw.json

A run there has the "world", "code" and "settings" that it was made of, what compare.read_run found, and where
it stands: "table", "row" and "at", its value there. A column of a table is a head and what it says of a row.
Read on in plot.py.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev

from ..config import require
from .compare import (
    ABLATIONS,
    COLD,
    LAMBDAS,
    NAIVE,
    NOISE,
    OURS,
    PAPER,
    ROWS,
    SIX,
    TWICE,
    WEIGHED,
    WORLDS,
    Run,
)

# Student's t for 1 to 9 degrees of freedom; beyond them the last: a little too wide.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

Columns = dict[str, Callable[[str], str]]


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


def grid(rows: Iterable[str], columns: Columns) -> str:
    """A table in Markdown; a column is a head and what it says of a row."""
    lines = [["", *map(str, columns)], ["---"] * (1 + len(columns))]
    lines += [[row, *(says(row) for says in columns.values())] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(name: str, raw: dict) -> str:
    """All tables of one world, from what raw.json holds of it. Raises ConfigError if the runs are not all of
    that world and of one code."""
    runs, tuned, world = raw["runs"], raw["tuned"], WORLDS[name]
    made = sorted({(run["world"], run["code"]) for run in runs})
    require(made == [(name, raw["code"])], f"the tables of {name} are not of one world and one code: {made}")

    def mean_of(table: str = "main", at: float | None = None, suite: str = "mean", k: str = "1"):
        return lambda row: shown(interval(accuracy(run, k)[suite] for run in cell(runs, row, table, at)))

    def minus(table: str) -> Columns:
        gap = lambda row, other: paired(cell(runs, row, table), cell(runs, other, table))
        says = lambda other: lambda row: "" if row == other else shown(gap(row, other), "+")
        return {f"minus {other}": says(other) for other in (PAPER, OURS) if other in world.rows}

    suites, rows = cell(runs, PAPER)[0]["suites"], ("base", *world.rows)
    lost = lambda row: shown(paired(cell(runs, row, "noise", 0), cell(runs, row, "noise", 0.2)))
    noise = {p: mean_of("noise", p) for p in (0, *NOISE)} | {"lost at 0.2": lost}
    lams = {lam: mean_of("lambda", lam) for lam in sorted({*LAMBDAS, raw["config"]["lam"]})}
    rates = sorted({rate for found in tuned.values() for rate in found}, key=float)
    at_rate = {rate: lambda row, rate=rate: f"{tuned[row].get(rate, '')}" for rate in rates}
    tables = {
        "main": ("Accuracy", rows, {s: mean_of(suite=s) for s in (*suites, "mean")} | minus("main")),
        "passes": ("pass@k", rows, {k: mean_of(k=k) for k in next(iter(suites.values()))}),
        "stability": (f"Stability, and when {COLD} is reached", world.rows, stability(runs)),
        "ablations": (
            "Ablations",
            (PAPER, NAIVE, OURS, *ABLATIONS),
            {"mean": mean_of("ablations"), **minus("ablations")},
        ),
        "noise": ("Rewards flipped with probability p", SIX, noise),
        "lambda": ("λ", WEIGHED, lams),
        "tuned": ("Validation by step size", world.rows, at_rate),
    }
    shown_here = ("main", "passes", "stability", *world.more, *["tuned"] * world.tuned)
    parts = [f"### {tables[key][0]}\n\n{grid(*tables[key][1:])}\n\n" for key in shown_here]
    return "".join(parts)


def stability(runs: list[Run]) -> Columns:
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


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        found = json.loads(Path(sys.argv[1]).read_text())
        print("\n".join(f"## {name}\n\n{report(name, raw)}" for name, raw in found.items()) + summary(found))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
