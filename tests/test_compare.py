"""The comparison: statistics by hand, who is tuned on what, which runs stand behind which table; and the
published runs once more, by a script of their own (results/recompute.py)."""

import json
import math
import runpy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge_min.bridge import METHODS
from bridge_min.config import Config, ConfigError
from bridge_min.study import compare, plot
from bridge_min.study.compare import ABLATIONS, GRID, NOISE, NOISY, OURS, PAPER, ROWS, TUNING_SEEDS
from bridge_min.study.rivals import RIVALS

ROOT = Path(__file__).parents[1]
RAW = json.loads((ROOT / "results/arith.json").read_text())


def runs_of(percents):
    """seed -> per cent, as runs with one suite."""
    suites = lambda percent: {"math": {"pass_at": {"1": [percent / 100, 0.02]}}}
    return [{"settings": {"seed": seed}, "suites": suites(percent)} for seed, percent in percents.items()]


def test_an_interval_by_hand():
    # five values: deviation sqrt(10 / 4) = 1.58114, standard error 0.70711, t 2.776
    assert compare.interval([1, 2, 3, 4, 5]) == (3, pytest.approx(2.776 * 0.7071068, rel=1e-6))
    assert compare.interval([0, 2]) == (1, pytest.approx(12.706))  # standard error 1, one degree of freedom
    assert compare.interval([0.0, 2.0] * 10)[1] > 2.093 * math.sqrt(20 / 19) / math.sqrt(20)  # never narrower


def test_differences_are_paired_by_seed_and_not_by_place():
    ours, others = runs_of({3: 59, 1: 53, 2: 56}), runs_of({1: 51, 2: 52, 3: 53})  # 2, 4, 6
    assert compare.paired(ours, others) == (pytest.approx(4), pytest.approx(4.303 * 2 / math.sqrt(3)))


def test_the_largest_drop_is_below_the_best_so_far():
    run = {"validation": [(i, value, None) for i, value in enumerate((0.2, 0.5, 0.4, 0.6, 0.3, 0.5))]}
    assert compare.largest_drop(run) == pytest.approx(30)


def test_the_grid_goes_on_past_an_end_that_is_best():
    assert compare.beyond({1.0: 0.5, 2.0: 0.6, 4.0: 0.4}) == []
    assert compare.beyond({4.0: 0.7, 1.0: 0.5, 2.0: 0.6}) == [8.0]
    assert compare.beyond({1.0: 0.7, 4.0: 0.5, 2.0: 0.6}) == [0.5]
    assert compare.beyond({1.0: 0.6, 2.0: 0.6, 4.0: 0.5}) == []  # a plateau would go on for ever
    assert compare.beyond({2.0**k: k for k in range(7)}) == []


def test_tuning_asks_until_the_best_is_inside_and_looks_at_no_test():
    jobs, peaks = [], {"sft": 5e-4, "grpo": 4e-3, "mix": 1.25e-4}
    score = lambda job: 0.8 - 0.1 * abs(math.log2(job["lr"] / peaks[job["method"]])) + job["seed"] % 2 / 9

    def run(stage, asked):
        jobs.extend(asked)
        return [{"validation": [[0, 9.9, None], [100, score(job), None]]} for job in asked]

    tuned = compare.tune(run, {name: {"method": name} for name in peaks})
    assert {row: compare.best(found) for row, found in tuned.items()} == peaks
    assert {*tuned["sft"]} == {*GRID} and max(tuned["grpo"]) == 8e-3 and min(tuned["mix"]) == 6.25e-5
    assert max(Counter(map(str, jobs)).values()) == 1  # nothing twice
    assert {job["table"] for job in jobs} == {"none"} and {job["seed"] for job in jobs} == set(TUNING_SEEDS)


def test_every_method_is_a_row():
    known = {*METHODS, *RIVALS, "bridge"} - {"first_order", "unrolled", "no_shadow"}
    assert {settings["method"] for settings in ROWS.values()} == known


def test_every_cell_has_every_seed_once_at_the_step_size_of_its_row():
    rates = {row: 1e-4 * (i + 1) for i, row in enumerate(ROWS)}
    planned = compare.plan(ROWS, rates, (20, 21, 22))
    cells = Counter((run["table"], run["row"], run["at"]) for run in planned)
    varied = len(NOISY) * len(NOISE) + len(compare.WEIGHED) * len(compare.LAMBDAS)
    assert set(cells.values()) == {3} and len(cells) == 1 + len(ROWS) + len(ABLATIONS) + varied
    for run in planned:
        changes, like = ABLATIONS.get(run["row"], ({}, "SFT" if run["row"] == "base" else run["row"]))
        expected = {**ROWS[like], **changes, "lr": rates[like], "lr_lora": rates[like]}
        assert expected.items() <= run["settings"].items()


def pretend_to_train(monkeypatch):
    """Every run's folder is filled at once; the list of the commands."""
    calls, scores = [], {"math": {"pass_at": {str(2**i): [0.5, 0.1] for i in range(6)}}}
    metrics = [{"step": 0, "val_theta": 0.2, "val_theta_hat": 0.1}, {"step": 1, "gain": 0.01}]

    def train(command, **_):
        folder = Path(next(word for word in command if word.startswith("--out="))[6:])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text("{}")
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, metrics)))
        (folder / "timing.jsonl").write_text(json.dumps({"step": 1, "data": 1.0, "update": 0.5}))
        (folder / "results.json").write_text(json.dumps({"scores": {"trained by mix": scores}}))
        calls.append(command)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(compare.subprocess, "run", train)
    return calls


def test_a_run_is_begun_gone_on_with_or_only_read(tmp_path, monkeypatch):
    calls, given = pretend_to_train(monkeypatch), ("config.py", ["--steps=1"], tmp_path, {"seed": 3})
    first = compare.run_one(*given)
    assert (first["validation"], first["surrogate"], first["seconds"]) == ([[0, 0.2, 0.1]], [[1, 0.01]], 1.5)
    assert compare.run_one(*given) == first and len(calls) == 1
    next(tmp_path.rglob("results.json")).unlink()
    assert compare.run_one(*given) == first and calls[1] == [*calls[0], "--resume"]


def test_one_command_makes_every_table(tmp_path, monkeypatch, capsys):
    calls = pretend_to_train(monkeypatch)
    compare.main([str(ROOT / "tiny_configs/arith.py"), "--seeds", "2", f"--out={tmp_path}", "--lam=0.6"])
    text = capsys.readouterr().out
    assert all(f"| {row} |" in text for row in ("base", *ROWS, *ABLATIONS))
    assert len({*map(str, calls)}) == len(calls) and all("--lam=0.6" in command for command in calls)
    compare.main([str(tmp_path / "raw.json")])
    assert capsys.readouterr().out.strip() in text


def test_a_run_that_fails_stops_all_with_its_last_words(tmp_path, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="error: the disk is full")
    monkeypatch.setattr(compare.subprocess, "run", lambda *_, **__: failed)
    known = SimpleNamespace(config="config.py", out=tmp_path, workers=2)
    with pytest.raises(ConfigError, match="the disk is full"):
        compare.run_all(known, [], "tables", [{"seed": seed} for seed in range(9)])


def test_one_table_is_of_one_code_and_one_config(tmp_path, monkeypatch):
    compare.same_code(tmp_path, Config())
    compare.same_code(tmp_path, Config())
    with pytest.raises(ConfigError, match="other code or another config"):
        compare.same_code(tmp_path, Config(lam=0.5))
    monkeypatch.setattr(compare, "ROOT", tmp_path)  # an installed package
    with pytest.raises(ConfigError, match=r"no train\.py"):
        compare.same_code(tmp_path, Config())


def test_the_tables_have_the_published_numbers():
    found = runpy.run_path(str(ROOT / "results/recompute.py"))["recompute"](RAW)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in compare.report(RAW).splitlines()]
    table = {line[0]: line[1:] for line in reversed(lines) if len(line) == 8}  # the first one
    assert {row: float(table[row][4].split()[0]) for row in ROWS} == pytest.approx(found["means"], abs=0.05)
    against = [found["against"][row] for row in (PAPER, OURS)]
    assert table[found["rival"]][5:] == [f"{-middle:+.1f} ± {half:.1f}" for middle, half in against]


@pytest.mark.slow
def test_pictures_are_the_same_files_for_the_same_numbers_and_name_every_row(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        plot.main(ROOT / "results/arith.json", tmp_path / name)
    for name, rows in {"curves": ROWS, "gain": (PAPER, OURS), "noise": NOISY}.items():
        text = (tmp_path / f"a/{name}.svg").read_text()
        assert text == (tmp_path / f"b/{name}.svg").read_text() and all(f">{row}<" in text for row in rows)
