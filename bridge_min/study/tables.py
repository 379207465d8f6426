"""The tables of a comparison, from its raw.json alone.

    python -m bridge_min.study.tables results/raw.json

A run there has the "world", "code" and "settings" that it was made of, what compare.read_run found, and where
it stands: "table", "row" and "at", its value there. A column of a table is its head and a function from a row
to the cell. Read on in plot.py.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev

from ..config import require
from . import compare
from .compare import COLD, OURS, PAPER, Run

# Student's t for 1 to 9 degrees of freedom; beyond them the last: a little too wide.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

HEADS = {"sound": "sound demonstrations", "bad": "70 % bad"}  # of the README's table

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
    """The largest fall of the validation curve below its best so far, in points."""
    curve = [100 * value for _, value, _ in run["validation"]]
    return max(max(curve[: i + 1]) - value for i, value in enumerate(curve))


def reached(run: Run, target: float) -> tuple[float, float]:
    """The step, and the seconds of training, after which validation accuracy was first at the target."""
    points = zip(run["validation"], run["seconds"], strict=True)
    found = ((step, spent) for (step, value, _), spent in points if value >= target)
    return next(found, (math.inf, math.inf))


def runs_of(runs: list[Run], row: str, table: str = "main", at: float | None = None) -> list[Run]:
    """The runs behind one cell."""
    return [run for run in runs if (run["row"], run["table"], run["at"]) == (row, table, at)]


def undisturbed(runs: list[Run], row: str, table: str) -> list[Run]:
    """Of a row of the main table, those over the seeds of another table."""
    seeds = {seed_of(run) for run in runs if run["table"] == table}
    return [run for run in runs_of(runs, row) if seed_of(run) in seeds]


def shown(value: tuple[float, float], sign: str = "") -> str:
    return f"{value[0]:{sign}.1f} ± {value[1]:.1f}"


def grid(rows: Iterable[str], parts: Iterable[Columns]) -> str:
    """A table in Markdown."""
    columns = [column for part in parts for column in part.items()]
    lines = [["", *(head for head, _ in columns)], ["---"] * (1 + len(columns))]
    lines += [[row, *(says(row) for _, says in columns)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def means(find: Callable[[str], list[Run]], head: str = "mean", suite: str = "mean", k: str = "1") -> Columns:
    """A column with the mean accuracy of the runs that `find` finds for a row."""
    return {head: lambda row: shown(interval(accuracy(run, k)[suite] for run in find(row)))}


def minus(find: Callable[[str], list[Run]], others: Iterable[str]) -> Columns:
    """Columns with the differences from other rows."""
    says = lambda other: lambda row: "" if row == other else shown(paired(find(row), find(other)), "+")
    return {f"minus {other}": says(other) for other in others}


def report(name: str, raw: dict) -> str:
    """All tables of one world, from what raw.json holds of it. Raises ConfigError if the runs are not all of
    that world and of one code."""
    runs, world, lam = raw["runs"], compare.WORLDS[name], raw["config"]["lam"]
    made = sorted({(run["world"], run["code"]) for run in runs})
    require(made == [(name, raw["code"])], f"the tables of {name} are not of one world and one code: {made}")
    main, clean, suites = partial(runs_of, runs), partial(undisturbed, runs), runs[0]["suites"]
    rows, both = ["base", *world.rows], [row for row in (PAPER, OURS) if row in world.rows]
    columns = [means(main, suite, suite) for suite in (*suites, "mean")]
    tables = {"Accuracy, per cent": (rows, [*columns, minus(main, both)])}
    tables["pass@k"] = (rows, [means(main, k, k=k) for k in next(iter(suites.values()))])
    if "ablations" in world.more:
        find = lambda row: main(row, "ablations") or clean(row, "ablations")
        listed = [PAPER, compare.NAIVE, OURS, *compare.ABLATIONS]
        tables["Ablations"] = (listed, [means(find), minus(find, both)])
    if "noise" in world.more:
        flipped = {p: partial(main, table="noise", at=p) for p in compare.NOISE}
        flipped = {0: partial(clean, table="noise"), **flipped}
        lost = {"lost at 0.2": lambda row: shown(paired(flipped[0](row), flipped[0.2](row)))}
        columns = [means(find, str(p)) for p, find in flipped.items()]
        tables["Rewards flipped with probability p"] = (compare.SIX, [*columns, lost])
    if "lambda" in world.more:
        weighed = {at: partial(main, table="lambda", at=at) for at in compare.LAMBDAS}
        weighed[lam] = partial(clean, table="lambda")
        tables["λ"] = (compare.WEIGHED, [means(weighed[at], str(at)) for at in sorted(weighed)])
    if world.tuned:
        tables["Stability, and the way to SFT→RL's final accuracy"] = (world.rows, [stability(runs)])
        tables["Validation by step size"] = (world.rows, [by_rate(raw["tuned"])])
    return "".join(f"### {title}\n\n{grid(*table)}\n\n" for title, table in tables.items())


def by_rate(tuned: dict[str, dict[str, float]]) -> Columns:
    """Columns: a row's validation accuracy at each step size that was tried, the best one in bold."""

    def says(row: str, rate: str) -> str:
        found = tuned[row]
        bold = "**" if float(rate) == compare.best({float(r): value for r, value in found.items()}) else ""
        return f"{bold}{100 * found[rate]:.1f}{bold}" if rate in found else ""

    rates = sorted({rate for found in tuned.values() for rate in found}, key=float)
    return {rate: partial(says, rate=rate) for rate in rates}


def stability(runs: list[Run]) -> Columns:
    """Columns: how much seeds differ, also above their bases; the largest drop of a validation curve; and
    where a row's validation is first as high as SFT→RL's at its end, of the same seed."""
    main = partial(runs_of, runs)
    bases = {seed_of(run): accuracy(run)["mean"] for run in main("base")}
    target = {seed_of(run): run["validation"][-1][1] for run in main(COLD)}
    until = lambda row: [reached(run, target[seed_of(run)]) for run in main(row)]
    above = lambda row: [accuracy(run)["mean"] - bases[seed_of(run)] for run in main(row)]
    drops = lambda row: [largest_drop(run) for run in main(row)]
    return {
        "deviation over seeds": lambda row: f"{stdev(accuracy(run)['mean'] for run in main(row)):.1f}",
        "above the base": lambda row: f"{stdev(above(row)):.1f}",
        "largest drop": lambda row: f"{mean(drops(row)):.1f}",
        "worst": lambda row: f"{max(drops(row)):.1f}",
        "seeds": lambda row: f"{sum(step < math.inf for step, _ in until(row))} of {len(until(row))}",
        "median steps": lambda row: f"{median(step for step, _ in until(row)):.0f}",
        "median seconds": lambda row: f"{median(spent for _, spent in until(row)):.1f}",
        "seconds of a run": lambda row: f"{median(run['seconds'][-1] for run in main(row)):.1f}",
    }


def summary(raw: dict) -> str:
    """The README's table: accuracy in the arithmetic worlds, of one code, and how far ahead of BRIDGE."""
    worlds = {head: raw[name] for name, head in HEADS.items() if name in raw}
    require(len({world["code"] for world in worlds.values()}) < 2, "the worlds' runs are of different code")
    found = {head: partial(runs_of, world["runs"]) for head, world in worlds.items()}
    parts = [part for head, find in found.items() for part in (means(find, head), minus(find, [PAPER]))]
    return grid(["base", *compare.ROWS], parts)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        raw = json.loads(Path(sys.argv[1]).read_text())
        print("\n".join(f"## {name}\n\n{report(name, found)}" for name, found in raw.items()))
        print(summary(raw) if {*HEADS} & {*raw} else "")
    except (ValueError, OSError, KeyError, TypeError) as error:
        sys.exit(f"error: {type(error).__name__} {error}: is this the raw.json of a comparison?")
