"""Pictures: of one run, or of a comparison.

    python -m bridge_min.study.plot out/arith                       # run.svg
    python -m bridge_min.study.plot out/compare/raw.json [FOLDER]   # curves.svg, gain.svg and noise.svg

Needs matplotlib (pip install .[plot]). Writes beside the numbers, or into the folder: the same files for the
same numbers, each on a light card of its own, so that it reads on a dark page too. Of a comparison lines are
means over seeds, bands their 95 % intervals. Here the study ends; it begins in rivals.py.
"""

import json
import sys
from pathlib import Path
from statistics import mean

from .compare import NOISE, NOISY, OURS, PAPER, RL, ROWS, Run, accuracy, interval, of

COLOURS = {PAPER: "#0067a8", OURS: "#c24a00", RL: "#1f2328", "HPT": "#00785a"}  # also for the colour-blind
MARKERS = dict(zip(ROWS, "xsd*+<>pPvDo", strict=True))
PLAYERS = {"student": "#0067a8", "shadow": "#1f2328", "teacher": "#c24a00"}
PLAYERS |= {"of validation": PLAYERS["student"], "of J_RL, its surrogate": PLAYERS["teacher"]}
PANELS = {  # title -> key of metrics.jsonl -> label
    "Greedy validation accuracy": {"val_theta": "student", "val_theta_hat": "shadow"},
    "Reward of the student's rollouts": {"reward": "student"},
    "Cooperative gain": {"true": "of validation", "gain": "of J_RL, its surrogate"},
    "Gradient norm": {"norm_theta": "student", "norm_theta_hat": "shadow", "norm_w": "teacher"},
}
BLOCK = 5  # steps of the surrogate that make one point: one step's rollouts say little
STYLE = {
    **{"svg.fonttype": "none", "svg.hashsalt": "bridge_min", "font.size": 9, "lines.markersize": 5},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left"},
    **{"axes.grid": True, "grid.color": "#e6e7e8"},
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "#fdfdfc"),
}
Curve = list[tuple[float, float]]  # (x, y) of one run


def validation(run: Run) -> Curve:
    """Against the share of the run's steps, as methods that take turns have twice as many."""
    last = run["validation"][-1][0]
    return [(100 * step / last, 100 * value) for step, value, _ in run["validation"]]


def true_gain(run: Run) -> Curve:
    return [(step, 100 * (value - hat)) for step, value, hat in run["validation"]]


def surrogate_gain(run: Run) -> Curve:
    blocks = [run["surrogate"][i : i + BLOCK] for i in range(0, len(run["surrogate"]), BLOCK)]
    return [(mean(step for step, _ in block), mean(gain for _, gain in block)) for block in blocks]


def under_noise(runs: list[Run], row: str) -> list[Curve]:
    """Accuracy over the chance that a reward is flipped, for each seed."""
    points = [(0.0, of(runs, "main", row)), *((p, of(runs, "noise", row, p)) for p in NOISE)]
    return [[(p, accuracy(found[i])["mean"]) for p, found in points] for i in range(len(points[0][1]))]


def draw(axes, found: dict[str, list[Curve]], title: str, xlabel: str = "") -> None:
    """Each row's mean over its seeds, listed from the highest end to the lowest."""
    for row, curves in sorted(found.items(), key=lambda item: -sum(curve[-1][1] for curve in item[1])):
        x, colour = [x for x, _ in curves[0]], COLOURS.get(row, "#9aa0a6")
        at_each = [interval(y for _, y in points) for points in zip(*curves, strict=True)]
        look = {"marker": MARKERS[row], "markevery": max(1, len(x) // 8), "color": colour, "label": row}
        axes.plot(x, [middle for middle, _ in at_each], **look)
        if row in COLOURS:
            below, above = ([middle + sign * half for middle, half in at_each] for sign in (-1, 1))
            axes.fill_between(x, below, above, color=colour, alpha=0.1, linewidth=0)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set(title=title, xlabel=xlabel)


def pictures(raw: dict) -> dict:
    """The figures by name. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    runs, bridge = raw["runs"], (PAPER, OURS)
    curves, gain, noise = (Figure(figsize=(7.5, 4.5), layout="constrained") for _ in range(3))
    every = lambda curve, rows: {row: [curve(run) for run in of(runs, "main", row)] for row in rows}
    draw(curves.subplots(), every(validation, ROWS), "Greedy validation accuracy, %", "% of training steps")
    top, bottom = gain.subplots(2, sharex=True)
    draw(top, every(true_gain, bridge), "Validation accuracy of (θ, w) minus that of (θ̂, w), points")
    draw(
        bottom, every(surrogate_gain, bridge), "The same of J_RL on a step's rollouts, its surrogate", "step"
    )
    flipped = {row: under_noise(runs, row) for row in NOISY}
    draw(noise.subplots(), flipped, "Test accuracy (pass@1), %", "share of training rewards that is flipped")
    return {"curves": curves, "gain": gain, "noise": noise}


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
    except (ImportError, OSError) as error:
        sys.exit(f"error: {error}; the pictures need a raw.json, and matplotlib: pip install .[plot]")
