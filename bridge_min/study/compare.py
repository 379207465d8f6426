"""Every method in the same worlds, over several seeds, from one command.

    python -m bridge_min.study.compare             # arithmetic, two worlds: 3.5 hours on two cores
    python -m bridge_min.study.compare logic       # another world of WORLDS

Runs train.py many times, `--workers` at once, in three stages for each world: the base models; each row's
step size, tuned on the validation accuracy of seeds of their own; the tables, on fresh seeds. A run's folder
is named by world, code and settings, and what is finished is not run again: after Ctrl-C the same command
goes on, and runs of other code are never mixed in. Writes raw.json. Read on in tables.py.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch

from ..checkpoint import write
from ..config import load_config, require, to_json

ROOT = Path(__file__).resolve().parents[2]
TUNING_SEEDS = (100, 101)
GRID = (2e-4, 4e-4, 8e-4)  # step sizes; a row whose best is at an end gets one more there
MOST_RATES = 7  # step sizes tried for one row
PAPER, OURS, RL, NAIVE, COLD = "BRIDGE", "BRIDGE, selected (ours)", "RL (GRPO)", "SFT+RL", "SFT→RL"
TWICE = ", twice the steps"  # as many rollouts and demonstrations as the other rows have
BY_TURNS = {COLD: {"method": "two_stage", "cold_start": 0.5}, "alternating": {"method": "alternate"}}
ROWS = {
    **{"SFT": {"method": "sft"}, RL: {"method": "grpo"}, NAIVE: {"method": "mix"}},
    **{row + more: settings for row, settings in BY_TURNS.items() for more in ("", TWICE)},
    **{"CHORD-μ": {"method": "chord_mu"}, "CHORD-φ": {"method": "chord_phi"}},
    **{"LUFFY": {"method": "luffy"}, "SRFT": {"method": "srft"}, "HPT": {"method": "hpt"}},
    **{PAPER: {"method": "bridge"}, OURS: {"method": "bridge", "select": "ours"}},
}
ABLATIONS = {  # row -> settings, and the row whose step size it takes
    "without the shadow": ({"method": "no_shadow"}, PAPER),
    "without the cooperative gain": ({"method": "no_gain"}, PAPER),
    "unrolled": ({"meta": "unrolled"}, PAPER),
    "selected by gain alone": ({"select": "gain"}, OURS),
    "selected by reward alone": ({"select": "reward"}, OURS),
    "selected, without w and shadow": ({"method": "mix"}, OURS),
}
# Rows of the noise table, of logic and of the pictures.
SIX = (RL, COLD, NAIVE, "HPT", PAPER, OURS)
NOISE, WEIGHED, LAMBDAS = (0.1, 0.2, 0.3), (NAIVE, PAPER), (0.3, 0.5, 0.9)
Run = dict  # one run: its settings, what `read_run` found, and where it stands in the tables
AFTER = ("compare.py", "tables.py", "plot.py")  # of study/: no run follows from them
FEW = 5  # seeds of the tables below the main one


class World(NamedTuple):
    """What is run in a world, and how often."""

    config: str  # in tiny_configs
    rows: tuple[str, ...]  # of the main table
    seeds: range = range(600, 610)  # of the main table: nothing is chosen on them
    more: tuple[str, ...] = ()  # further tables
    tuned: bool = True  # step sizes are, and curves are fine; else they are as in the config


WORLDS = {
    "sound": World("arith.py", tuple(ROWS), more=("ablations", "noise", "lambda")),
    "bad": World("arith_bad_demos.py", tuple(ROWS), more=("ablations",)),
    "logic": World("logic.py", SIX, range(600, 605), tuned=False),
    "smollm2": World("smollm2_sums.py", (RL, COLD + TWICE, NAIVE, PAPER), range(602, 604), tuned=False),
}


# --- Running ------------------------------------------------------------------------------------------------


def run_world(name: str, folder: Path, workers: int) -> dict:
    """All of one world's runs, and what they were made from. Raises ConfigError where there is no train.py to
    run, or with the last words of a run that fails."""
    require((ROOT / "train.py").exists(), f"{ROOT} has no train.py: run this in a checkout of the repository")
    world, path = WORLDS[name], ROOT / "tiny_configs" / WORLDS[name].config
    config, code = load_config(path), code_of(ROOT)
    one = partial(run_one, f"{name}_{code}_{digest(to_json(config).encode())}", folder, path)

    def run(stage: str, jobs: list[dict]) -> list[Run]:
        results, began = [], time.monotonic()
        with ThreadPoolExecutor(workers) as pool:
            for result in pool.map(one, jobs):
                results.append({"world": name, "code": code, **result})
                left = (time.monotonic() - began) / 60 * (len(jobs) / len(results) - 1)
                print(f"{name}, {stage}: {len(results)} of {len(jobs)} runs, {left:.0f} min left", flush=True)
        return results

    if not config.base:  # each seed's toy, for all later runs to find
        once = {"method": "sft", "steps": 1, "table": "none"}
        run("bases", [{**once, "seed": seed} for seed in (*TUNING_SEEDS, *world.seeds)])
    twice = {"steps": 2 * config.steps}
    rows = {row: ROWS[row] | (twice if row.endswith(TWICE) else {}) for row in world.rows}
    tuned = tune(run, rows) if world.tuned else {}
    planned = plan(world, rows, {row: best(found) for row, found in tuned.items()})
    results = run("tables", [place["settings"] for place in planned])
    require(code_of(ROOT) == code, "the code was changed while it ran: begin again, with it as it is now")
    runs = [{**place, **result} for place, result in zip(planned, results, strict=True)]
    return {"code": code, "config": json.loads(to_json(config)), "tuned": tuned, "runs": runs}


def code_of(root: Path) -> str:
    """A digest of the code that runs follow from; the config stands beside it in a folder's name."""
    paths = [root / "train.py", *sorted(root.glob("bridge_min/**/*.py"))]
    code = [path.read_bytes() for path in paths if not (path.parent.name == "study" and path.name in AFTER)]
    return digest(b"".join([*code, torch.__version__.encode()]))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def run_one(name: str, folder: Path, config: Path, settings: dict) -> Run:
    """Starts the run, resumes it, or only reads it if it is finished."""
    named = [f"{key}={value}" for key, value in sorted(settings.items())]
    out = folder / "_".join((name, *named))
    if not (out / "results.json").exists():
        resume = ["--resume"] if (out / "run.json").exists() else []
        given = [*(f"--{pair}" for pair in named), f"--out={out}", *resume]
        command = [sys.executable, str(ROOT / "train.py"), str(config), *given]
        done = subprocess.run(command, capture_output=True, text=True)
        require(done.returncode == 0, f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return {"settings": settings, **read_run(out)}


def read_run(out: Path) -> Run:
    """What tables and pictures need of it: pass@k by suite and k; validation as [step, theta, theta_hat]; and
    the seconds of training until each of these validations."""
    parse = partial(json.loads, parse_float=lambda text: round(float(text), 5))
    lines = lambda name: [parse(line) for line in (out / name).read_text().splitlines()]
    validated = [line for line in lines("metrics.jsonl") if "val_theta" in line]
    spent = [line["data"] + line["update"] for line in lines("timing.jsonl")]
    scores = parse((out / "results.json").read_text())["scores"]
    found = next(iter(scores.values()), {})  # the base's, where the table is "all"
    return {
        "suites": {suite: {k: p for k, (p, _) in score["pass_at"].items()} for suite, score in found.items()},
        "validation": [[line["step"], line["val_theta"], line.get("val_theta_hat")] for line in validated],
        "seconds": [round(sum(spent[: line["step"]]), 1) for line in validated],
    }


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


def plan(world: World, rows: dict[str, dict], rates: dict[str, float]) -> list[dict]:
    """All runs behind the tables: {"table", "row", "at" (its value there), "settings"}."""
    fine = {"samples": 32, "eval_every": 10} if world.tuned else {}
    cells = [("main", "base", None, "", {**fine, "method": "sft", "steps": 1, "table": "all", "versus": ""})]
    cells += [("main", row, None, row, fine) for row in rows]
    more = [("ablations", row, None, like, changes) for row, (changes, like) in ABLATIONS.items()]
    more += [("noise", row, p, row, {"reward_flip": p}) for row in SIX for p in NOISE]
    more += [("lambda", row, lam, row, {"lam": lam}) for row in WEIGHED for lam in LAMBDAS]
    runs = []
    for table, row, at, like, changes in cells + [cell for cell in more if cell[0] in world.more]:
        rate = {"lr": rates[like], "lr_lora": rates[like]} if like in rates else {}
        given = {"table": "trained", **rows.get(like, {}), **rate, **changes}
        here = world.seeds if table == "main" else world.seeds[:FEW]
        runs += [{"table": table, "row": row, "at": at, "settings": {**given, "seed": s}} for s in here]
    return runs


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(usage=__doc__, allow_abbrev=False)
    parser.add_argument("worlds", nargs="*", default=["sound", "bad"], help=", ".join(WORLDS))
    parser.add_argument("--out", type=Path, default="out/compare", help="folder for the runs and raw.json")
    parser.add_argument("--workers", type=int, default=2, help="runs at once; each uses the config's threads")
    known = parser.parse_args(arguments)
    require({*known.worlds} <= {*WORLDS}, f"{' '.join(known.worlds)}: the worlds are {', '.join(WORLDS)}")
    path = known.out / "raw.json"
    for name in known.worlds:
        found = run_world(name, known.out / "runs", known.workers)
        others = json.loads(path.read_text()) if path.exists() else {}
        write(path, json.dumps({**others, name: found}).encode())
    print(f"{path}; the tables: python -m bridge_min.study.tables {path}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
