"""Pictures: of one run, or of a comparison.

    python -m bridge_min.study.plot out/arith                       # run.svg
    python -m bridge_min.study.plot out/compare/raw.json [FOLDER]   # curves.svg and noise.svg

Needs matplotlib (pip install .[plot]). Writes beside the numbers, or into the folder: the same files for the
same numbers, each on a light card of its own, so that it reads on a dark page too. In a comparison, lines are
means over seeds. Bands are 95 % intervals of what sets a row apart: each seed's own level, the mean of its
rows there, is taken off first (Morey 2008). Here the study ends; it begins in rivals.py.
"""

import json
import math
import sys
from pathlib import Path
from statistics import mean

import numpy as np

from .compare import NOISE, PAPER, SIX, Run
from .tables import HEADS, accuracy, interval, runs_of, undisturbed

COLOURS = dict(zip(SIX, ("#1f2328", "#8250a8", "#9a6700", "#00785a", "#0067a8", "#c24a00"), strict=True))
MARKERS = dict(zip(SIX, "sdx^Do", strict=True))
PLAYERS = {"student": "#0067a8", "shadow": "#1f2328", "teacher": "#c24a00"}
PLAYERS |= {"of validation": PLAYERS["student"], "of J_RL, its surrogate": PLAYERS["teacher"]}
PANELS = {  # title -> key of metrics.jsonl -> label
    "Greedy validation accuracy": {"val_theta": "student", "val_theta_hat": "shadow"},
    "Reward of the student's rollouts": {"reward": "student"},
    "Cooperative gain": {"true": "of validation", "gain": "of J_RL, its surrogate"},
    "Gradient norm": {"norm_theta": "student", "norm_theta_hat": "shadow", "norm_w": "teacher"},
}
BLOCK = 5  # steps that make one point of what a single step's rollouts say
STYLE = {
    **{"svg.fonttype": "none", "svg.hashsalt": "bridge_min", "font.size": 9, "lines.markersize": 5},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left"},
    **{"axes.grid": True, "grid.color": "#e6e7e8"},
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "#fdfdfc"),
}


def validation(runs: list[Run], row: str) -> np.ndarray:
    """Per cent, (seeds, validations)."""
    return np.array([[100 * value for _, value, _ in run["validation"]] for run in runs_of(runs, row)])


def under_noise(runs: list[Run], row: str) -> np.ndarray:
    """Accuracy by the chance that a reward is flipped, per cent, (seeds, chances)."""
    at = [undisturbed(runs, row, "noise"), *(runs_of(runs, row, "noise", p) for p in NOISE)]
    return np.array([[accuracy(run)["mean"] for run in found] for found in at]).T


def draw(axes, xs: list[float], curves: dict[str, np.ndarray], title: str, xlabel: str) -> None:
    """Each row's mean over its seeds, listed from the highest end to the lowest, and its band."""
    level, n = np.mean(list(curves.values()), axis=0), len(curves)  # (seeds, xs)
    for row in sorted(curves, key=lambda row: -curves[row][:, -1].mean()):
        look = {"color": COLOURS[row], "label": row, "marker": MARKERS[row], "markevery": len(xs) // 8 + 1}
        apart = (curves[row] - level) * math.sqrt(n / (n - 1))  # the level has a part of the row in it
        middle, half = curves[row].mean(0), [interval(at)[1] for at in apart.T]
        axes.plot(xs, middle, **look)
        axes.fill_between(xs, middle - half, middle + half, color=COLOURS[row], alpha=0.12, linewidth=0)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set(title=title, xlabel=xlabel)


def pictures(raw: dict) -> dict:
    """The figures by name. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    worlds = [(raw[name]["runs"], head) for name, head in HEADS.items() if name in raw]
    curves, noise = (Figure(figsize=(8, height), layout="constrained") for height in (3.2 * len(worlds), 3.5))
    for axes, (runs, head) in zip(curves.subplots(len(worlds), squeeze=False).flat, worlds, strict=True):
        steps = [step for step, *_ in runs_of(runs, PAPER)[0]["validation"]]
        found = {row: validation(runs, row) for row in SIX}
        draw(axes, steps, found, f"Validation accuracy, %: {head}", "step")
    found = {row: under_noise(raw["sound"]["runs"], row) for row in SIX}
    title = f"Test accuracy (pass@1), %: {HEADS['sound']}"
    draw(noise.subplots(), [0, *NOISE], found, title, "share of training rewards that is flipped")
    return {"curves": curves, "noise": noise}


def picture_of_run(folder: Path) -> dict:
    """What one run's metrics.jsonl holds, in four panels."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if "val_theta_hat" in line:
            line["true"] = line["val_theta"] - line["val_theta_hat"]
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    figure.supxlabel("step", fontsize="medium")
    for axes, (title, curves) in zip(figure.subplots(2, 2, sharex=True).flat, PANELS.items(), strict=True):
        for key, label in curves.items():
            points = [(line["step"], line[key]) for line in lines if key in line]
            block = 1 if key.startswith(("val", "true")) else BLOCK
            blocks = [points[i : i + block] for i in range(0, len(points), block)]
            x, y = ([mean(point[i] for point in some) for some in blocks] for i in (0, 1))
            axes.plot(x, y, label=label, color=PLAYERS[label], marker="o" if block == 1 else "")
        axes.set(title=title, yscale="log" if "norm" in title else "linear")
        axes.legend(frameon=False)
    return {"run": figure}


def main(numbers: Path, folder: Path | None = None) -> None:
    from matplotlib import rc_context

    with rc_context(STYLE):
        one = numbers.is_dir()
        figures = picture_of_run(numbers) if one else pictures(json.loads(numbers.read_text()))
        for name, figure in figures.items():
            path = (folder or (numbers if one else numbers.parent)) / f"{name}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, metadata={"Date": None})
            print(path)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        main(*map(Path, sys.argv[1:]))
    except (ImportError, OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {error}; pictures need the sound world, and matplotlib: pip install .[plot]")
