"""The comparison: statistics against hand-computed numbers, who is tuned on what, what runs behind which
table; the tables and pictures from made-up runs, and the main result once more by recompute.py."""

import json
import math
import random
import runpy
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import mean
from xml.etree import ElementTree

import pytest
from recompute import recompute

from bridge_min import compare, plot
from bridge_min.baselines import needs
from bridge_min.compare import (
    ABLATIONS,
    FIRST_SEED,
    GRID,
    LAMBDA_SEEDS,
    LAMBDAS,
    NOISE,
    NOISY,
    ROWS,
    TUNING_SEEDS,
    WEIGHED,
    Runner,
    accuracy,
    best,
    beyond,
    interval,
    largest_drop,
    of,
    paired,
    plan,
    report,
    tune,
    waiting,
)
from bridge_min.config import CHOICES, ConfigError, load_config

ARITH = str(Path(__file__).parents[1] / "tiny_configs/arith.py")
PLANNED = compare.rows_of(load_config(ARITH))
PAPER, OURS = "BRIDGE (paper)", "BRIDGE + selection (ours)"
SUITES = ("math", "hard", "code", "science")
SEEDS = list(range(FIRST_SEED, FIRST_SEED + 5))
RATES = {row: 1e-4 * (i + 1) for i, row in enumerate(ROWS)}  # all different


def hand_made(seed, *percents):
    """A run with these pass@1, one suite each."""
    suites = zip(SUITES, percents, strict=False)
    return {
        "settings": {"seed": seed},
        "suites": {suite: {"pass_at": {"1": [percent / 100, 0.02]}} for suite, percent in suites},
    }


def made_up(planned, draw, steps=20):
    """A run as compare.main keeps it, with random numbers."""
    settings = planned["settings"]
    has_shadow = settings["method"] == "bridge" and settings.get("meta") != "no_shadow"
    ks = [2**i for i in range(6 if settings.get("samples") == 32 else 4)]
    suites = {s: {"pass_at": {str(k): [draw.uniform(0.2, 0.9), 0.02] for k in ks}} for s in SUITES}
    return {
        **planned,
        "suites": suites,
        "base": suites if planned["table"] == "base" else {},
        "validation": [
            [step, draw.random(), draw.random() if has_shadow else None] for step in range(0, steps + 1, 5)
        ],
        "surrogate": [[step, draw.gauss(0, 0.01)] for step in range(1, steps + 1)] if has_shadow else [],
        "kept": {"kept_right": draw.random(), "kept_far": draw.random()} if "select" in settings else {},
        "norms": [draw.uniform(0.1, 0.5) for _ in range(steps)],
        "seconds": [draw.uniform(0.1, 0.2) for _ in range(steps)],
        "peak_gib": draw.uniform(0.3, 0.5),
    }


def made_up_raw(seeds=SEEDS, seed=0):
    draw = random.Random(seed)
    base = [
        {"table": "base", "row": "base", "at": None, "settings": {"seed": s, "method": "sft"}} for s in seeds
    ]
    runs = [made_up(planned, draw) for planned in base + plan(PLANNED, RATES, seeds)]
    tuned = {row: {lr: draw.random() for lr in GRID} for row in ROWS}
    return {"config": {"task": "arith"}, "seeds": list(seeds), "tuned": tuned, "runs": runs}


@pytest.fixture(scope="module")
def raw():
    return made_up_raw()


# --- Statistics -------------------------------------------------------------------------------------------


def test_interval_against_hand_computed_numbers():
    # five values: deviation sqrt(10 / 4) = 1.58114, standard error 0.70711, t 2.776
    assert interval([1, 2, 3, 4, 5]) == (3, pytest.approx(2.776 * 0.7071068, rel=1e-6))
    assert interval([0, 2]) == (1, pytest.approx(12.706))  # standard error 1, t of one degree of freedom
    assert interval(iter([4.0, 4.0, 4.0])) == (4.0, 0.0)
    ten = [0.0, 2.0] * 5  # deviation sqrt(10 / 9), t 2.262
    assert interval(ten) == (1.0, pytest.approx(2.262 / 3))
    assert interval(ten * 2)[1] > 2.093 * math.sqrt(20 / 19) / math.sqrt(
        20
    )  # never narrower than the true t's
    value, half = interval([7.0])
    assert value == 7.0 and math.isnan(half)


def test_accuracy_is_per_cent_and_its_mean_gives_every_suite_the_same_weight():
    found = accuracy(hand_made(0, 10, 20, 30, 60))
    assert found == pytest.approx({"math": 10, "hard": 20, "code": 30, "science": 60, "mean": 30})


def test_paired_pairs_by_seed_and_not_by_place():
    ours = [hand_made(seed, 50 + 3 * seed, 10) for seed in (3, 1, 5, 2, 4)]
    others = [hand_made(seed, 50 + seed, 10) for seed in (1, 2, 3, 4, 5)]
    half = 2.776 * 0.7071068
    assert paired(ours, others) == (pytest.approx(3), pytest.approx(half))  # 1, 2, 3, 4, 5 in the mean
    assert paired(others, ours) == (pytest.approx(-3), pytest.approx(half))
    assert paired(ours, others, "math") == (pytest.approx(6), pytest.approx(2 * half))
    assert paired(ours, others, "hard") == (pytest.approx(0), pytest.approx(0, abs=1e-9))


def test_recompute_agrees_with_the_tables_statistics():
    for seed in range(5):
        raw = json.loads(json.dumps(made_up_raw(seed=seed)))
        runs, found = raw["runs"], recompute(raw)
        assert found["means"].keys() == ROWS.keys()
        for row in ROWS:
            value = interval(accuracy(run)["mean"] for run in of(runs, "main", row))[0]
            assert found["means"][row] == pytest.approx(value, abs=1e-9)
        rivals = {row: value for row, value in found["means"].items() if not row.startswith("BRIDGE")}
        assert found["rival"] == max(rivals, key=rivals.get) and len(rivals) == len(ROWS) - 2
        assert found["bridge"] == max((PAPER, OURS), key=found["means"].get)
        for row in (PAPER, OURS):
            expected = paired(of(runs, "main", row), of(runs, "main", found["rival"]))
            assert found["against"][row] == pytest.approx(expected, abs=1e-9)
        assert found["loss"].keys() == {"RL (GRPO)", PAPER, OURS}
        for row in found["loss"]:
            expected = paired(of(runs, "main", row), of(runs, "noise", row, 0.2))
            assert found["loss"][row] == pytest.approx(expected, abs=1e-9)


def test_recompute_refuses_runs_that_are_no_pairs(raw):
    runs = raw["runs"]
    with pytest.raises(ValueError, match="two runs of SFT with seed"):
        recompute({**raw, "runs": [*runs, of(runs, "main", "SFT")[0]]})
    with pytest.raises(ValueError, match="not the same seeds"):
        recompute({**raw, "runs": [run for run in runs if run is not of(runs, "main", PAPER)[0]]})


def test_largest_drop_is_below_the_best_so_far():
    assert largest_drop([0.1, 0.2, 0.3]) == 0 and largest_drop([]) == 0
    assert largest_drop([0.2, 0.5, 0.4, 0.6, 0.3, 0.5]) == pytest.approx(0.3)
    assert largest_drop([0.5, 0.4, 0.3]) == pytest.approx(0.2)


def test_waiting_counts_the_seconds_of_the_steps_before():
    run = {"validation": [[0, 0.3, None], [2, 0.6, None], [4, 0.7, None]], "seconds": [1.0, 2.0, 4.0, 8.0]}
    assert [waiting(run, target) for target in (0.3, 0.6, 0.65, 0.8)] == [0, 3, 15, math.inf]


# --- Step sizes -------------------------------------------------------------------------------------------


def test_best_is_the_highest_and_of_equals_the_smallest():
    assert best({1e-3: 0.5, 5e-4: 0.6, 2.5e-4: 0.4}) == 5e-4
    assert best({1e-3: 0.6, 5e-4: 0.6, 2.5e-4: 0.4}) == 5e-4


def test_beyond_asks_only_past_an_end_that_is_best():
    assert beyond({1.0: 0.5, 2.0: 0.6, 4.0: 0.4}) == []
    assert beyond({4.0: 0.7, 1.0: 0.5, 2.0: 0.6}) == [8.0]
    assert beyond({1.0: 0.7, 4.0: 0.5, 2.0: 0.6}) == [0.5]
    assert beyond({1.0: 0.5, 2.0: 0.6, 4.0: 0.6}) == []  # of equals the smaller, which is inside


class FakeRunner:
    """Answers jobs from a function of (settings), and notes them."""

    def __init__(self, answer, most=60):
        self.answer, self.most, self.jobs = answer, most, []

    def run(self, stage, jobs):
        self.jobs += jobs
        assert len(self.jobs) <= self.most, "no end to it"
        return [{"validation": [[0, 9.9, None], [100, self.answer(job), None]]} for job in jobs]


def peak_at(peaks):
    """Accuracy that falls with the distance from the method's own best step size; seeds differ."""
    return lambda job: (
        0.8 - 0.1 * abs(math.log2(job["lr"] / peaks[job["method"]])) + (0.05 if job["seed"] % 2 else -0.05)
    )


def test_tune_goes_on_until_the_best_is_inside_and_asks_nothing_twice():
    rows = {name: {"method": name, "lam": 0.3} for name in ("sft", "grpo", "mix")}
    runner = FakeRunner(peak_at({"sft": 5e-4, "grpo": 4e-3, "mix": 1.25e-4}))
    tuned = tune(runner, rows)
    assert sorted(tuned["sft"]) == sorted(GRID) == [2.5e-4, 5e-4, 1e-3]
    assert sorted(tuned["grpo"]) == [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
    assert sorted(tuned["mix"]) == [6.25e-5, 1.25e-4, 2.5e-4, 5e-4, 1e-3]
    assert {row: best(found) for row, found in tuned.items()} == {"sft": 5e-4, "grpo": 4e-3, "mix": 1.25e-4}
    assert tuned["grpo"][1e-3] == pytest.approx(0.6)  # the mean of its seeds, at the last validation
    assert max(Counter(json.dumps(job, sort_keys=True) for job in runner.jobs).values()) == 1


def test_tuning_looks_at_no_test_and_at_no_seed_of_the_tables():
    runner = FakeRunner(peak_at(dict.fromkeys(CHOICES["method"], 5e-4)), most=1000)
    tune(runner, ROWS)
    assert {job["table"] for job in runner.jobs} == {"none"}
    assert {job["seed"] for job in runner.jobs} == set(TUNING_SEEDS)
    assert not set(TUNING_SEEDS) & set(range(FIRST_SEED, FIRST_SEED + 50))
    assert all(job["lr"] == job["lr_lora"] for job in runner.jobs)
    for settings in ROWS.values():
        asked = [(j["lr"], j["seed"]) for j in runner.jobs if settings.items() <= j.items()]
        assert set(asked) == {(lr, seed) for lr in GRID for seed in TUNING_SEEDS}


@pytest.mark.parametrize("flat", [0.0, 1.0])
def test_tune_ends_where_all_step_sizes_are_equally_good(flat):
    tune(FakeRunner(lambda job: flat), {"sft": {"method": "sft"}})


# --- The runs behind the tables ---------------------------------------------------------------------------


def test_every_method_is_a_row():
    assert {settings["method"] for settings in ROWS.values()} == set(CHOICES["method"])
    assert {*NOISY, *WEIGHED, *(like for _, like in ABLATIONS.values())} <= set(ROWS)


def test_plan_has_every_cell_with_every_seed_once():
    cells = Counter((run["table"], run["row"], run["at"]) for run in plan(PLANNED, RATES, SEEDS))
    expected = {("main", row, None): 5 for row in ROWS} | {("ablations", row, None): 5 for row in ABLATIONS}
    expected |= {("noise", row, p): 5 for row in NOISY for p in NOISE}
    expected |= {("lambda", row, lam): LAMBDA_SEEDS for row in WEIGHED for lam in LAMBDAS}
    assert cells == expected
    for table, row, at in cells:
        seeds = [run["settings"]["seed"] for run in of(plan(PLANNED, RATES, SEEDS), table, row, at)]
        assert seeds == SEEDS[: len(seeds)]


def test_plan_takes_each_row_s_own_step_size_and_its_settings():
    for run in plan(PLANNED, RATES, SEEDS):
        settings, row = run["settings"], run["row"]
        changes, like = ABLATIONS.get(row, ({}, row))
        assert settings["lr"] == settings["lr_lora"] == RATES[like]
        assert settings["table"] == "trained"
        assert ({**PLANNED[like], **changes}).items() <= settings.items()
        assert settings.get("reward_flip", 0) == (run["at"] if run["table"] == "noise" else 0)
        assert ("lam" in settings) == (run["table"] == "lambda") and settings.get("lam", run["at"]) == run[
            "at"
        ]


def test_plan_is_valid_and_different_runs_have_different_folders(tmp_path):
    runner, planned = Runner(ARITH, tmp_path, 1, []), plan(PLANNED, RATES, SEEDS[:1])
    configs = [runner.config(run["settings"]) for run in planned]
    assert len({config.out for config in configs}) == len(planned)
    for run, config in zip(planned, configs, strict=True):
        assert {key: getattr(config, key) for key in run["settings"]} == run["settings"]
        assert config.prompts == load_config(ARITH).prompts


# --- Runs and their folders -------------------------------------------------------------------------------


def test_a_folder_is_named_by_all_settings_and_by_nothing_else(tmp_path):
    def folder(settings, overrides=(), out=tmp_path):
        return Path(Runner(ARITH, out, 1, list(overrides)).config(settings).out)

    mine = {"seed": 3, "lr": 1e-3}
    assert folder(mine) == folder(dict(reversed(mine.items()))) == folder({"seed": 3}, ["--lr=0.001"])
    assert folder(mine).name == folder(mine, out=tmp_path / "elsewhere").name
    assert folder(mine, ["--lr=0.5"]) == folder(mine)  # a job goes over the command line
    others = {"seed": 4, "lr": 1.1e-3, "lr_lora": 1e-4, "method": "mix", "meta": "unrolled", "select": "demo"}
    others |= {"lam": 0.55, "samples": 32, "table": "none", "reward_flip": 0.1, "steps": 7, "kl": 0.1}
    others |= {"shadow_reset": 10, "wrong_demos": 0.11, "chain": "2,3", "model.hidden_size": 32}
    folders = [folder({**mine, key: value}) for key, value in others.items()]
    assert len({folder(mine), *folders}) == len(others) + 1


def fill(out, *names):
    """A run's folder as train.py leaves it, two steps long."""
    scores = {"base": {"math": 1}, "trained by bridge": {"math": 2}}
    metrics = [
        {"step": 0, "val_theta_hat": 0.1, "val_theta": 0.2},
        {"step": 1, "norm_theta": 0.5, "gain": 0.01, "kept_right": 1.0},
        {"step": 2, "norm_theta": 0.7, "gain": 0.03, "kept_right": 0.5, "kept_wrong": 0.25},
        {"step": 2, "val_theta_hat": 0.3, "val_theta": 0.6},
    ]
    texts = {
        "run.json": "{}",
        "results.json": json.dumps({"scores": scores, "peak_gib": 0.5}),
        "metrics.jsonl": "\n".join(map(json.dumps, metrics)),
        "timing.jsonl": "\n".join(json.dumps({"step": s, "data": s, "update": 0.5}) for s in (1, 2)),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name in names or texts:
        (out / name).write_text(texts[name])


def test_read_run_takes_scores_curves_and_cost(tmp_path):
    fill(tmp_path)
    assert compare.read_run(tmp_path) == {
        "suites": {"math": 2},
        "base": {"math": 1},
        "validation": [[0, 0.2, 0.1], [2, 0.6, 0.3]],
        "surrogate": [[1, 0.01], [2, 0.03]],
        "kept": {"kept_right": 0.75, "kept_wrong": 0.25},
        "norms": [0.5, 0.7],
        "seconds": [1.5, 2.5],
        "peak_gib": 0.5,
    }


def test_a_run_is_begun_gone_on_with_or_only_read(tmp_path, monkeypatch):
    runner, settings, calls = Runner(ARITH, tmp_path, 1, ["--steps=2"]), {"seed": 3, "method": "mix"}, []
    out = Path(runner.config(settings).out)

    def call(self, script, path, *options):
        calls.append(options)
        given = [option for option in options if option != "--resume"]
        assert (script, load_config(path, given)) == ("train.py", self.config(settings))
        fill(out)

    monkeypatch.setattr(Runner, "call", call)
    first = runner.one(settings)
    assert len(calls) == 1 and "--resume" not in calls[0] and first["settings"] == settings
    assert runner.one(settings) == first and len(calls) == 1
    (out / "results.json").unlink()
    assert runner.one(settings) == first and len(calls) == 2 and "--resume" in calls[1]


def test_results_come_in_the_order_of_the_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, "one", lambda self, job: (time.sleep(0.02 * (3 - job["i"])), job)[1])
    jobs = [{"i": i} for i in range(4)]
    assert Runner(ARITH, tmp_path, 3, []).run("stage", jobs) == jobs


def test_a_run_that_fails_stops_all_with_its_message(tmp_path):
    with pytest.raises(ConfigError, match="the disk is full"):
        Runner(ARITH, tmp_path, 1, []).call("-c", "import sys; sys.exit('the disk is full')")
    with pytest.raises(ConfigError, match="did you mean lr"):
        Runner(ARITH, tmp_path, 1, []).run("stage", [{"lrr": 1}])


# --- Tables and pictures ----------------------------------------------------------------------------------


def rows_of(text, heading):
    """The table under a heading, as row -> cells; all of its lines are as long as its head."""
    block = text.split(f"### {heading}")[1].split("###")[0]
    lines = [[c.strip() for c in x.strip("|").split("|")] for x in block.splitlines() if x.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    return {line[0]: line[1:] for line in lines[2:]}


def test_tables_have_every_row_and_the_numbers_of_the_runs(raw):
    text = report(raw["runs"], raw["tuned"], load_config(ARITH), SEEDS)
    table = rows_of(text, "Accuracy")
    assert list(table) == ["base", *ROWS]
    found = recompute(raw)
    for row in ROWS:
        assert table[row][len(SUITES)].split(" ± ")[0] == f"{found['means'][row]:.1f}"
        against = [paired(of(raw["runs"], "main", row), of(raw["runs"], "main", b)) for b in (PAPER, OURS)]
        expected = [f"{a:+.1f} ± {b:.1f}" for a, b in against]
        own = [name == row for name in (PAPER, OURS)]
        assert table[row][-2:] == ["" if mine else cell for mine, cell in zip(own, expected, strict=True)]
    base = mean(accuracy({"suites": run["base"]})["mean"] for run in of(raw["runs"], "base", "base"))
    assert table["base"][len(SUITES)].startswith(f"{base:.1f} ± ")
    for heading in ("pass@k", "Stability", "Cost", "Step sizes"):
        assert set(rows_of(text, heading)) == set(ROWS)
    assert set(rows_of(text, "Rewards flipped")) == set(NOISY) and set(rows_of(text, "λ")) == set(WEIGHED)
    ablations = rows_of(text, "Ablations")
    assert {PAPER, OURS, *ABLATIONS} <= set(ablations) and any("SFT+RL" in row for row in ablations)
    assert ablations[PAPER][1] == "" and all(" ± " in ablations[row][1] for row in ablations if row != PAPER)
    kept = rows_of(text, "Share of")[OURS]
    assert " ± " in kept[0] and kept[1] == "" and " ± " in kept[2]  # no wrong ones among the made-up ones


def test_one_seed_is_enough_for_tables_and_pictures():
    raw = made_up_raw(SEEDS[:1])
    assert "nan" not in report(raw["runs"], raw["tuned"], load_config(ARITH), SEEDS[:1])
    pytest.importorskip("matplotlib")
    assert set(plot.draw(raw)) == {"curves", "gain", "noise"}


def test_tables_stand_a_run_that_never_moved(raw):
    still = {**of(raw["runs"], "main", "SFT")[0], "norms": [0.0] * 20}
    runs = [still if run["settings"] == still["settings"] else run for run in raw["runs"]]
    assert set(rows_of(report(runs, raw["tuned"], load_config(ARITH), SEEDS), "Stability")) == set(ROWS)


def test_pictures_are_the_same_files_for_the_same_numbers(raw, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    plot.main([str(tmp_path / "raw.json")])
    plot.main([str(tmp_path / "raw.json"), "--out", str(tmp_path / "again")])
    names = ("curves.svg", "gain.svg", "noise.svg")
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == [*names, *names]
    for name, rows in zip(names, (ROWS, (PAPER, OURS), NOISY), strict=True):
        data = (tmp_path / name).read_bytes()
        assert data == (tmp_path / "again" / name).read_bytes() and len(data) < 150_000
        root = ElementTree.fromstring(data)
        assert root.tag.endswith("svg") and "date" not in data.decode().lower()
        texts = {(x.text or "").strip() for x in root.iter() if x.tag.endswith("}text")}
        assert set(rows) <= texts


def test_pictures_show_the_numbers(raw):
    pytest.importorskip("matplotlib")
    figures, runs = plot.draw(raw), raw["runs"]
    ends = {row: mean(run["validation"][-1][1] for run in of(runs, "main", row)) for row in ROWS}
    axes = figures["curves"].axes[0]
    rival = max(set(ROWS) - {PAPER, OURS, plot.RL}, key=ends.get)
    bold = {text.get_text().strip() for text in axes.texts if text.get_fontweight() == "bold"}
    assert bold == {PAPER, OURS, plot.RL, rival}
    shown = {round(line.get_ydata()[-1], 6) for line in axes.lines if len(line.get_ydata()) == 5}
    assert shown == {round(100 * end, 6) for end in ends.values()}
    top, bottom = figures["gain"].axes
    gain = mean(v - hat for run in of(runs, "main", OURS) for _, v, hat in run["validation"][1:2])
    assert any(len(x.get_ydata()) == 5 and x.get_ydata()[1] == pytest.approx(100 * gain) for x in top.lines)
    first = mean(gain for run in of(runs, "main", OURS) for _, gain in run["surrogate"][: plot.BLOCK])
    assert any(x.get_ydata()[0] == pytest.approx(first) and x.get_xdata()[0] == 3 for x in bottom.lines)
    cell = mean(accuracy(run)["mean"] for run in of(runs, "noise", "HPT", 0.2))
    lines = figures["noise"].axes[0].lines
    assert any(len(x.get_ydata()) == 4 and x.get_ydata()[2] == pytest.approx(cell) for x in lines)


def test_labels_stand_apart_in_order_and_move_no_further_than_they_must():
    values = [50.0, 50.5, 10.0, 50.2, 90.0]
    places = plot.apart(values, 4.0, 0.0, 100.0)
    assert places[2] == 10 and places[4] == 90
    order = sorted(range(5), key=values.__getitem__)
    assert all(places[b] - places[a] > 3.99 for a, b in pairwise(order))
    assert sum(places) == pytest.approx(sum(values))
    places = plot.apart([99.0, 98.0, 97.0, 96.0] * 3, 5.0, 0.0, 100.0)  # a crowd at the top
    assert max(places) == 100 and max(99 - place for place in places) < 60
    assert all(high - low > 4.9 for low, high in pairwise(sorted(places)))


def test_without_matplotlib_the_error_says_what_to_install(raw, tmp_path, monkeypatch):
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "bridge_min.plot")
    monkeypatch.setattr(sys, "argv", ["plot.py", str(tmp_path / "raw.json")])
    with pytest.raises(SystemExit, match=r"pip install \.\[plot\]"):
        runpy.run_module("bridge_min.plot", run_name="__main__")
    monkeypatch.setattr(sys, "argv", ["plot.py", str(tmp_path / "nowhere.json")])
    with pytest.raises(SystemExit, match=r"nowhere\.json"):
        runpy.run_module("bridge_min.plot", run_name="__main__")


def test_one_table_is_of_one_code(tmp_path):
    compare.same_code(tmp_path)
    compare.same_code(tmp_path)
    code = json.loads((tmp_path / "code.json").read_text())
    assert {"train.py", "bridge.py", "gain.py", "arith.py"} <= code.keys() and "compare.py" not in code
    (tmp_path / "code.json").write_text(json.dumps({**code, "gain.py": "other"}))
    with pytest.raises(ConfigError, match=r"other code \(gain.py\)"):
        compare.same_code(tmp_path)


def test_methods_that_take_turns_get_as_many_rollouts_and_demonstrations_as_the_others():
    drawn = {}
    for row, settings in PLANNED.items():
        config = load_config(ARITH, [f"--{key}={value}" for key, value in settings.items()])
        steps = [needs(config, step) for step in range(config.steps)]
        drawn[row] = (sum(demos for demos, _ in steps), sum(rollouts for _, rollouts in steps))
    assert drawn.pop("SFT") == (100, 0) and drawn.pop("RL (GRPO)") == (0, 100)
    assert set(drawn.values()) == {(100, 100)}
