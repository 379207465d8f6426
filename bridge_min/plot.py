"""The pictures of a comparison: what happens while each method trains, what w gains, what noise costs.

    python -m bridge_min.plot out/compare/raw.json         # --out DIR: elsewhere than beside raw.json

Needs matplotlib (pip install .[plot]). Writes curves.svg, gain.svg and noise.svg: the same files for the same
numbers, each on a light card of its own, so that it reads on a dark page too. Lines are means over seeds,
bands and bars their 95 % intervals. Read on in compare.py, where raw.json is made.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from statistics import mean

from .compare import NOISY, OURS, PAPER, RL, ROWS, accuracy, interval, of

# Told apart by the colour-blind too; dark enough for their own labels. Markers repeat what colours say.
COLOURS = {PAPER: "#0067a8", OURS: "#c24a00", RL: "#1f2328", "SFT→RL": "#a3457c", "HPT": "#00785a"}
MARKERS = {PAPER: "o", OURS: "D", RL: "s", "SFT→RL": "^", "HPT": "v"}
OTHER, GREY, TEXT, CARD = "#8f6500", "#9aa0a6", "#3d434a", "#fdfdfc"
BLOCK = 5  # steps
STYLE = {
    **{"svg.fonttype": "none", "svg.hashsalt": "bridge_min", "font.family": "sans-serif", "font.size": 9},
    **{"text.color": TEXT, "axes.labelcolor": TEXT, "xtick.color": TEXT, "ytick.color": TEXT},
    **{"axes.edgecolor": GREY, "axes.spines.top": False, "axes.spines.right": False},
    **{"axes.facecolor": CARD, "figure.facecolor": CARD, "savefig.facecolor": CARD},
    **{"axes.titlelocation": "left", "axes.titlesize": 10, "axes.titlepad": 9},
    **{"axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True},
    **{"grid.color": "#e6e7e8", "grid.linewidth": 0.6},
}


def over_seeds(curves: list[list[tuple[float, float]]]) -> tuple[list, list, list]:
    """x, mean and half width of its 95 % interval, from each seed's (x, value) pairs."""
    middle = [interval(value for _, value in points) for points in zip(*curves, strict=True)]
    return [x for x, _ in curves[0]], [m for m, _ in middle], [half for _, half in middle]


def validation(run: dict) -> list[tuple[float, float]]:
    """Against the share of the run's steps, as methods that take turns have twice as many."""
    last = run["validation"][-1][0]
    return [(100 * step / last, 100 * value) for step, value, _ in run["validation"]]


def true_gain(run: dict) -> list[tuple[int, float]]:
    return [(step, 100 * (value - hat)) for step, value, hat in run["validation"]]


def surrogate_gain(run: dict) -> list[tuple[float, float]]:
    """Means over BLOCK steps: one step's rollouts say little."""
    points = run["surrogate"]
    blocks = [points[i : i + BLOCK] for i in range(0, len(points), BLOCK)]
    return [(mean(step for step, _ in block), mean(gain for _, gain in block)) for block in blocks]


def apart(values: list[float], gap: float, low: float, high: float) -> list[float]:
    """Where to put the labels of these values, so that neighbours are `gap` apart, within low..high."""
    at, order = list(values), sorted(range(len(values)), key=values.__getitem__)
    for _ in range(500):
        for i, j in pairwise(order):
            short = max(0.0, gap - (at[j] - at[i]))
            at[i], at[j] = at[i] - short / 2, at[j] + short / 2
        at = [min(high, max(low, place)) for place in at]
    return at


def label(axes, ends: dict[str, tuple[float, float, str]], gap: float = 0.044) -> None:
    """Each line's name, right of its end (x, y, colour), and a thin line between. gap: share of the axis."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    places = apart([y for _, y, _ in ends.values()], gap * (high - low), low, high)
    for (name, (x, y, colour)), place in zip(ends.items(), places, strict=True):
        to, weight = right + 0.03 * (right - left), "normal" if colour == GREY else "bold"
        axes.plot([x, right, to], [y, y, place], color=colour, linewidth=0.5, clip_on=False)
        ink = "#666c73" if colour == GREY else colour
        axes.text(to, place, f" {name}", color=ink, va="center", fontweight=weight)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def line(axes, row: str, curves: list[list[tuple[float, float]]], colour: str = "") -> tuple:
    """One row's mean with its band; the line's end, for its label."""
    colour = colour or COLOURS[row]
    x, y, half = over_seeds(curves)
    below, above = ([m + s * h for m, h in zip(y, half, strict=True)] for s in (-1, 1))
    axes.fill_between(x, below, above, color=colour, alpha=0.13, linewidth=0)
    look = {"linewidth": 1.8, "marker": MARKERS.get(row, "P"), "markersize": 4, "clip_on": False}
    axes.plot(x, y, color=colour, markevery=max(1, len(x) // 8), **look)
    return x[-1], y[-1], colour


def curves(axes, runs: list[dict], seeds: int) -> None:
    """All rows; the two BRIDGE, RL and the best other rival in colour."""
    found = {row: over_seeds([validation(run) for run in of(runs, "main", row)]) for row in ROWS}
    rival = max((row for row in ROWS if row not in (PAPER, OURS, RL)), key=lambda row: found[row][1][-1])
    ends = {}
    for row, (x, y, _) in found.items():
        if row not in (PAPER, OURS, RL, rival):
            axes.plot(x, y, color=GREY, linewidth=0.9)
            ends[row] = x[-1], y[-1], GREY
    for row in (RL, rival, PAPER, OURS):
        colour = COLOURS.get(row, OTHER)
        ends[row] = line(axes, row, [validation(run) for run in of(runs, "main", row)], colour)
    axes.set_xlim(0, 100)
    axes.set_ylim(max(0, axes.get_ylim()[0]), min(100, axes.get_ylim()[1]))
    axes.set(xlabel="share of the training steps, %", ylabel="greedy validation accuracy, %")
    axes.set_title(f"Mean over {seeds} seeds; bands: 95 % interval; bold: BRIDGE, RL, best other rival")
    label(axes, ends)


def gains(top, bottom, runs: list[dict], seeds: int) -> None:
    """The cooperative gain as validation shows it, and the surrogate that the teacher climbs."""
    for axes, curve in ((top, true_gain), (bottom, surrogate_gain)):
        axes.axhline(0, color=GREY, linewidth=0.9)
        ends = {row: line(axes, row, [curve(r) for r in of(runs, "main", row)]) for row in (PAPER, OURS)}
        axes.set_xlim(0, true_gain(of(runs, "main", PAPER)[0])[-1][0])
        label(axes, ends, gap=0.1)
    top.set_title(f"Cooperative gain: true, and its surrogate. Mean over {seeds} seeds, 95 % interval")
    top.set_ylabel("validation accuracy of (θ, w)\nminus that of (θ̂, w), points")
    bottom.set(
        xlabel="training step", ylabel=f"J_RL(θ, w) - J_RL(θ̂, w)\non a step's rollouts, by {BLOCK} steps"
    )


def noise(axes, runs: list[dict], seeds: int) -> None:
    ends, chances = {}, sorted({run["at"] for run in runs if run["table"] == "noise"})
    for shift, row in enumerate(NOISY):
        cells = [of(runs, "main", row), *(of(runs, "noise", row, p) for p in chances)]
        y, half = zip(*(interval(accuracy(run)["mean"] for run in cell) for cell in cells), strict=True)
        x = [
            p + 0.004 * (shift - len(NOISY) // 2) for p in (0.0, *chances)
        ]  # so that bars stand side by side
        axes.errorbar(x, y, half, color=COLOURS[row], marker=MARKERS[row], markersize=5, elinewidth=1)
        ends[row] = x[-1], y[-1], COLOURS[row]
    axes.set_xlim(-0.015, chances[-1] + 0.015)
    axes.set_xticks((0, *chances))
    axes.set(xlabel="share p of the training rewards that is flipped", ylabel="test accuracy (pass@1), %")
    axes.set_title(f"Mean of the test suites over {seeds} seeds; bars: 95 % interval")
    label(axes, ends, gap=0.055)


def draw(raw: dict) -> dict:
    """The figures by name. Raises ImportError without matplotlib."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    runs, seeds = raw["runs"], len(raw["seeds"])
    with rc_context(STYLE):
        sizes = {"curves": (6.6, 4.6), "gain": (6.6, 5.0), "noise": (6.6, 3.8)}
        figures = {name: Figure(figsize=size, layout="constrained") for name, size in sizes.items()}
        curves(figures["curves"].subplots(), runs, seeds)
        gains(*figures["gain"].subplots(2, sharex=True), runs, seeds)
        noise(figures["noise"].subplots(), runs, seeds)
    return figures


def save(figures: dict, folder: Path, kind: str = "svg") -> Iterable[Path]:
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        with rc_context(STYLE):
            metadata = {"Date": None} if kind == "svg" else {}
            figure.savefig(folder / f"{name}.{kind}", metadata=metadata, dpi=150)
        yield folder / f"{name}.{kind}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("raw", type=Path, help="raw.json of bridge_min.compare")
    parser.add_argument("--out", type=Path, help="folder for the pictures; without it, raw.json's")
    known = parser.parse_args(arguments)
    for path in save(draw(json.loads(known.raw.read_text())), known.out or known.raw.parent):
        print(path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ImportError as error:
        sys.exit(f"error: {error}; the pictures need matplotlib: pip install .[plot]")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
