"""The comparison: statistics by hand, who is tuned on what, which runs stand behind which table; and the
published runs once more, by a script of their own (results/recompute.py)."""

import json
import math
import runpy
from collections import Counter
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge_min.bridge import METHODS
from bridge_min.config import ConfigError
from bridge_min.study import compare, plot, tables
from bridge_min.study.compare import (
    ABLATIONS,
    GRID,
    OURS,
    PAPER,
    RL,
    ROWS,
    SIX,
    TUNING_SEEDS,
    WORLDS,
    World,
)
from bridge_min.study.rivals import RIVALS

ROOT = Path(__file__).parents[1]
RAW = ROOT / "results/raw.json"


def runs_of(percents, row="row", table="main"):
    """seed -> per cent, as runs with one suite."""
    place = {"table": table, "row": row, "at": None}
    suites = lambda percent: {"math": {"1": percent / 100}}
    return [{**place, "settings": {"seed": s}, "suites": suites(percent)} for s, percent in percents.items()]


def test_an_interval_by_hand():
    # five values: deviation sqrt(10 / 4) = 1.58114, standard error 0.70711, t 2.776
    assert tables.interval([1, 2, 3, 4, 5]) == (3, pytest.approx(2.776 * 0.7071068, rel=1e-6))
    assert tables.interval([0, 2]) == (1, pytest.approx(12.706))  # standard error 1, one degree of freedom
    assert tables.interval([0.0, 2.0] * 10)[1] > 2.093 * math.sqrt(20 / 19) / math.sqrt(20)  # never narrower


def test_differences_are_paired_by_seed_and_not_by_place():
    ours, others = runs_of({3: 59, 1: 53, 2: 56}), runs_of({1: 51, 2: 52, 3: 53, 4: 99})  # 2, 4, 6
    assert tables.paired(ours, others) == (pytest.approx(4), pytest.approx(4.303 * 2 / math.sqrt(3)))


def test_a_table_of_fewer_seeds_compares_with_the_same_seeds_of_the_main_one():
    runs = runs_of({1: 10, 2: 20, 3: 30}) + runs_of({3: 70, 1: 50}, "changed", "ablations")
    assert tables.runs_of(runs, "row") == runs[:3] and tables.runs_of(runs, "row", "ablations") == []
    assert tables.undisturbed(runs, "row", "ablations") == [runs[0], runs[2]]


def test_the_largest_drop_is_below_the_best_so_far():
    run = {"validation": [(i, value, None) for i, value in enumerate((0.2, 0.5, 0.4, 0.6, 0.3, 0.5))]}
    assert tables.largest_drop(run) == pytest.approx(30)


def test_when_a_level_is_first_reached():
    run = {"validation": [[0, 0.1, None], [10, 0.5, None], [20, 0.4, None]], "seconds": [0, 3.5, 7]}
    assert [tables.reached(run, level) for level in (0.5, 0.3, 0.6)] == [(10, 3.5)] * 2 + [(math.inf,) * 2]


def test_the_grid_goes_on_past_an_end_that_is_best():
    assert compare.beyond({1.0: 0.5, 2.0: 0.6, 4.0: 0.4}) == []
    assert compare.beyond({4.0: 0.7, 1.0: 0.5, 2.0: 0.6}) == [8.0]
    assert compare.beyond({1.0: 0.7, 4.0: 0.5, 2.0: 0.6}) == [0.5]
    assert compare.beyond({2.0**k: k for k in range(7)}) == []


def test_tuning_asks_until_the_best_is_inside_and_looks_at_no_test():
    jobs, peaks = [], {"sft": 4e-4, "grpo": 3.2e-3, "mix": 1e-4}
    score = lambda job: 0.8 - 0.1 * abs(math.log2(job["lr"] / peaks[job["method"]])) + job["seed"] % 2 / 9

    def run(stage, asked):
        jobs.extend(asked)
        return [{"validation": [[0, 9.9, None], [100, score(job), None]]} for job in asked]

    tuned = compare.tune(run, {name: {"method": name} for name in peaks})
    assert {row: compare.best(found) for row, found in tuned.items()} == peaks
    assert {*tuned["sft"]} == {*GRID} and max(tuned["grpo"]) == 6.4e-3 and min(tuned["mix"]) == 5e-5
    assert max(Counter(map(str, jobs)).values()) == 1  # nothing twice
    assert {job["table"] for job in jobs} == {"none"} and {job["seed"] for job in jobs} == set(TUNING_SEEDS)


def test_every_method_is_a_row_or_an_ablation():
    known = {*METHODS, *RIVALS, "bridge"} - {"first_order", "unrolled"}
    asked = [*ROWS.values(), *(changes for changes, _ in ABLATIONS.values())]
    assert {settings.get("method", "bridge") for settings in asked} == known


def test_every_cell_has_every_seed_once_at_the_step_size_of_its_row():
    rates = {row: 1e-4 * (i + 1) for i, row in enumerate(ROWS)}
    planned = compare.plan(WORLDS["sound"], ROWS, rates)
    cells = Counter((run["table"], run["row"], run["at"]) for run in planned)
    noise, lams = len(SIX) * len(compare.NOISE), len(compare.WEIGHED) * len(compare.LAMBDAS)
    assert Counter(cells.values()) == {10: 1 + len(ROWS), 5: len(ABLATIONS) + noise + lams}
    assert len({json.dumps(run["settings"], sort_keys=True) for run in planned}) == len(planned)
    assert {run["row"] for run in planned if run["settings"]["table"] != "trained"} == {"base"}
    for run in planned:
        changes, like = ABLATIONS.get(run["row"], ({}, run["row"]))
        if run["row"] != "base":
            expected = {**ROWS[like], **changes, "lr": rates[like], "lr_lora": rates[like]}
            assert expected.items() <= run["settings"].items()


def pretend_to_train(monkeypatch):
    """Every run's folder is filled at once; the list of the commands. Two small worlds. A base has 20 per
    cent; a run 50, 1 more for each seed, 10 more for BRIDGE, 100 p less for noise and 20 (1 - lam) more."""
    calls, ks = [], [str(2**i) for i in range(6)]

    def train(command, **_):
        given = dict(word[2:].split("=", 1) for word in command if word.startswith("--") and "=" in word)
        percent = 50 + int(given["seed"]) % 10 + 10 * (given["method"] == "bridge")
        percent += 20 * (1 - float(given.get("lam", 1))) - 100 * float(given.get("reward_flip", 0))
        suites = lambda percent: {
            "math": {"pass_at": {k: [percent / 100 + 0.01 * ks.index(k), 0.1] for k in ks}}
        }
        scores = {"base": suites(20)} if given["table"] == "all" else {}
        metrics = [{"step": 0, "val_theta": 0.2, "val_theta_hat": 0.1}, {"step": 1, "gain": 0.01}]
        metrics += [{"step": 2, "val_theta": percent / 100}]
        timing = [{"step": step, "data": 1.0, "update": 0.5} for step in (1, 2)]
        folder = Path(given["out"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text("{}")
        for name, lines in {"metrics": metrics, "timing": timing}.items():
            (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        scores = {"scores": {**scores, "trained by it": suites(percent)}}
        (folder / "results.json").write_text(json.dumps(scores))
        calls.append(command)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(compare.subprocess, "run", train)
    worlds = {"sound": World("arith.py", tuple(ROWS), range(600, 603), WORLDS["sound"].more)}
    worlds["bad"] = World("arith_bad_demos.py", tuple(ROWS), range(600, 603))
    monkeypatch.setattr(compare, "WORLDS", worlds)
    return calls


def test_a_run_is_begun_gone_on_with_or_only_read(tmp_path, monkeypatch):
    settings = {"seed": 3, "method": "mix", "table": "trained"}
    calls, given = pretend_to_train(monkeypatch), ("world", tmp_path, Path("config.py"), settings)
    first = compare.run_one(*given)
    assert first["validation"] == [[0, 0.2, 0.1], [2, 0.53, None]] and first["seconds"] == [0, 3.0]
    assert compare.run_one(*given) == first and len(calls) == 1
    next(tmp_path.rglob("results.json")).unlink()
    assert compare.run_one(*given) == first and calls[1] == [*calls[0], "--resume"]


def table_of(text, title):
    """row -> head -> cell, of the table in Markdown whose title begins so; the last of equal heads."""
    lines = [line for line in text.split(f"### {title}")[1].split("###")[0].splitlines() if line[:1] == "|"]
    heads, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0]: dict(zip(heads, row, strict=True)) for row in rows}


def test_one_command_makes_every_table(tmp_path, monkeypatch):
    """Each cell by hand from what `pretend_to_train` says; seeds 600 to 602 add 0, 1 and 2."""
    calls = pretend_to_train(monkeypatch)
    compare.main(["--out", str(tmp_path)])
    assert len({*map(str, calls)}) == len(calls)
    raw = json.loads((tmp_path / "raw.json").read_text())
    text, half = tables.report("sound", raw["sound"]), 4.303 / math.sqrt(3)
    found = table_of(text, "Accuracy")
    assert [*found] == ["base", *ROWS] and found["base"]["mean"] == "20.0 ± 0.0"
    assert found[RL]["math"] == found[RL]["mean"] == f"51.0 ± {half:.1f}"
    assert found[RL][f"minus {PAPER}"] == "-10.0 ± 0.0" and found[PAPER][f"minus {PAPER}"] == ""
    assert table_of(text, "pass@k")["base"]["8"] == "23.0 ± 0.0"
    stability = table_of(text, "Stability")
    assert stability[RL]["deviation over seeds"] == stability[RL]["above the base"] == "1.0"
    assert (stability[RL]["seeds"], stability[RL]["median steps"]) == ("3 of 3", "2")
    assert table_of(text, "Ablations")["unrolled"][f"minus {OURS}"] == "+0.0 ± 0.0"
    noise = table_of(text, "Rewards flipped")
    assert (noise[RL]["0"], noise[RL]["0.1"]) == (f"51.0 ± {half:.1f}", f"41.0 ± {half:.1f}")
    assert noise[PAPER]["lost at 0.2"] == "20.0 ± 0.0"
    lams = table_of(text, "λ")[PAPER]
    assert [lams[lam].split(" ")[0] for lam in ("0.3", "0.5", "0.7", "0.9")] == [
        "75.0",
        "71.0",
        "61.0",
        "63.0",
    ]
    assert table_of(text, "Validation by step size")["SFT"]["0.0004"] == "50.5"
    summary = tables.summary(raw).splitlines()
    assert f"| {RL} | 51.0 ± {half:.1f} | -10.0 ± 0.0 | 51.0 ± {half:.1f} | -10.0 ± 0.0 |" in summary


def test_no_table_mixes_runs_of_different_code_or_worlds(tmp_path, monkeypatch):
    calls = pretend_to_train(monkeypatch)
    compare.main(["--out", str(tmp_path)])
    raw, before = json.loads((tmp_path / "raw.json").read_text()), len(calls)
    tables.report("bad", raw["bad"])
    for key, other in {"world": "sound", "code": "other"}.items():
        mixed = deepcopy(raw)
        mixed["bad"]["runs"][5][key] = other
        with pytest.raises(ConfigError, match="not of one world and one code"):
            tables.report("bad", mixed["bad"])
    with pytest.raises(ConfigError, match="not of one world and one code"):
        tables.report("sound", raw["bad"])
    mixed["bad"]["code"] = "other"
    with pytest.raises(ConfigError, match="of different code"):
        tables.summary(mixed)
    monkeypatch.setattr(compare, "code_of", lambda root: "other")
    compare.main(["bad", "--out", str(tmp_path)])
    assert len(calls) == before + sum("bad_demos" in str(command) for command in calls[:before])  # all again


def test_the_digest_is_of_all_code_that_runs_follow_from(tmp_path):
    def code(**changed):
        for name in (
            "train.py",
            "bridge_min/losses.py",
            "bridge_min/answer/compare.py",
            "bridge_min/study/plot.py",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(changed.get(name.split("/")[-2] if "/" in name else "root", ""))
        return compare.code_of(tmp_path)

    assert code() == code(study="x = 1")
    assert len({code(), code(root="x = 1"), code(bridge_min="x = 2"), code(answer="x = 3")}) == 4


def test_a_run_that_fails_stops_all_with_its_last_words(tmp_path, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="error: the disk is full")
    monkeypatch.setattr(compare.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ConfigError, match="the disk is full"):
        compare.main(["bad", "--out", str(tmp_path)])
    monkeypatch.setattr(compare, "ROOT", tmp_path)  # an installed package
    with pytest.raises(ConfigError, match=r"no train\.py"):
        compare.main(["bad", "--out", str(tmp_path)])


@pytest.mark.parametrize("name", json.loads(RAW.read_text()))
def test_the_tables_have_the_published_numbers(name):
    raw = json.loads(RAW.read_text())[name]
    found = runpy.run_path(str(ROOT / "results/recompute.py"))["recompute"](raw["runs"])
    text, shown = tables.report(name, raw), lambda value, sign: f"{value[0]:{sign}.1f} ± {value[1]:.1f}"
    assert text.strip() in (ROOT / "results/README.md").read_text()
    for row in WORLDS[name].rows:
        cells = table_of(text, "Accuracy")[row]
        assert float(cells["mean"].split()[0]) == pytest.approx(found["means"][row], abs=0.0501)
        assert cells[f"minus {PAPER}"] == ("" if row == PAPER else shown(found["minus"][row], "+"))
    for row, value in found["lost"].items():
        assert table_of(text, "Rewards flipped")[row]["lost at 0.2"] == shown(value, "")


def test_the_readmes_table_is_that_of_the_raw_file():
    assert tables.summary(json.loads(RAW.read_text())) in (ROOT / "README.md").read_text()


def test_no_best_step_size_is_at_an_edge_of_its_grid():
    for world in json.loads(RAW.read_text()).values():
        for found in world["tuned"].values():
            rates = {float(rate): value for rate, value in found.items()}
            assert min(rates) < compare.best(rates) < max(rates)


@pytest.mark.slow
def test_pictures_are_the_same_files_for_the_same_numbers_and_name_every_row(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        plot.main(RAW, tmp_path / name)
    for name in ("curves", "noise"):
        text = (tmp_path / f"a/{name}.svg").read_text()
        assert text == (tmp_path / f"b/{name}.svg").read_text() and all(f">{row}<" in text for row in SIX)
