"""A run's folder: who may use it, what is thrown away, what its log keeps after a run was cut off."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import World

from bridge_min.checkpoint import CheckpointError
from bridge_min.config import Config, ConfigError, ModelConfig, load_config
from bridge_min.run import RunLog, open_folder

NEW, RESUME, OVERWRITE, BOTH = (False, False), (True, False), (False, True), (True, True)
KEPT = ["lock", "mine.txt", "my folder", "run.json"]


@pytest.fixture
def config(tmp_path):
    odd = "\U0001f0a1" + "0" * 64 + "\"'\\\n\t{problem}\0"
    tuples = {"lora_targets": ("o_proj",), "model": ModelConfig(rope_scaling=(8.0, 1.0, 4.0, 64.0))}
    return Config(out=str(tmp_path / "out"), eval_every=3, lam=0.4, prompt=odd, **tuples)


@pytest.fixture
def out(config):
    """Of a run that was begun."""
    open_folder(config, *NEW).close()
    return Path(config.out)


def refused(config, flags):
    try:  # pytest.raises would keep the frame, and the lock in it
        open_folder(config, *flags)
    except ConfigError as error:
        return str(error)
    return "not refused"


def test_the_settings_are_kept_as_they_are(config, out):
    assert load_config(out / "run.json") == config


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_ends(config):
    lock = open_folder(config, *NEW)
    for flags in (NEW, RESUME, OVERWRITE):
        assert "another run is at work there" in refused(config, flags)
    lock.close()
    open_folder(config, *RESUME).close()


def test_a_used_folder_is_not_touched_without_being_told(config, out):
    (out / "metrics.jsonl").write_text("kept")
    assert "--resume" in refused(config, NEW) and "--overwrite" in refused(config, NEW)
    assert "exclude each other" in refused(config, BOTH)
    assert (out / "metrics.jsonl").read_text() == "kept"


def test_resume_with_other_settings_names_them_and_says_what_to_do(config, out):
    said = refused(replace(config, lam=0.5, seed=1, eval_every=9), RESUME)
    assert "seed was 0, is 1, lam was 0.4, is 0.5" in said and "--overwrite" in said and "--out=" in said
    assert "eval_every" not in said
    other = {"log_every": 2, "samples": 3, "table": "none", "recompute": True, "micro_batch": 3}
    open_folder(replace(config, eval_every=9, **other), *RESUME).close()  # what changes no weight may differ


def test_half_written_drafts_go_on_resume_and_with_overwrite_all_that_is_ours(config, out):
    for name in ("checkpoint-000003.7.tmp", "checkpoint-000003", "model", "my folder"):
        (out / name).mkdir()
    (out / "adapter").symlink_to(out / "my folder")  # a link goes, not what it leads to
    for name in ("checkpoint-000003.7.tmp/theta.7.tmp", "run.json.7.tmp", "metrics.jsonl", "mine.txt"):
        (out / name).write_text("old")
    listed = lambda: sorted(path.name for path in out.iterdir())
    open_folder(config, *RESUME).close()
    made = {"adapter", "checkpoint-000003", "metrics.jsonl", "model"}
    assert listed() == sorted(made.union(KEPT))
    open_folder(replace(config, seed=5), *OVERWRITE).close()
    assert listed() == KEPT
    assert load_config(out / "run.json").seed == 5


def test_a_folder_that_is_no_run_is_left_alone(config, tmp_path):
    assert "no run was begun" in refused(config, RESUME)
    (tmp_path / "out" / "model").mkdir()
    for flags in (NEW, OVERWRITE):
        assert "holds model, but no run" in refused(config, flags)
    (tmp_path / "file").write_text("")
    assert "file/inside cannot be used" in refused(replace(config, out=f"{tmp_path}/file/inside"), NEW)


def line(step, key="reward"):
    return json.dumps({"step": step, key: 0.5}) + "\n"


def logged(config, lines, first):
    """metrics.jsonl, which held these lines, once a run goes on from `first` updates."""
    path = Path(config.out) / "metrics.jsonl"
    path.write_text("".join(lines))
    try:
        RunLog(config, World().run, first)
    except CheckpointError as error:
        assert path.read_text() == "".join(lines)
        return str(error)
    return path.read_text()


def test_lines_after_the_checkpoint_go_also_one_that_was_cut_in_two(config, out):
    lines = [line(step) for step in range(1, 6)]
    assert logged(config, [*lines, line(6)[:-9]], 3) == "".join(lines[:3])
    assert logged(config, [*lines, '{"step": 3}'], 5) == "".join(lines)  # no end: it may go on


def test_a_run_cut_off_before_its_first_checkpoint_begins_anew_one_that_lost_it_does_not_unasked(config, out):
    """A checkpoint comes after each validation but the first, whatever eval_every has been until then."""
    lines = [line(0, "val_theta"), *map(line, range(1, 9)), line(8, "val_theta")]
    assert logged(config, lines, 0) == ""
    said = logged(config, [*lines, line(9)], 0)
    assert "has lost its checkpoint" in said and "--overwrite" in said


@pytest.mark.parametrize("damage", ['{"step": 1, "rew', "[]", '{"reward": 1}', "7"])
def test_damaged_metrics_are_named_and_kept(config, out, damage):
    assert "metrics.jsonl is damaged" in logged(config, [damage + "\n", line(2)], 2)


def test_a_step_logs_sums_ratios_per_computed_token_and_speed(config, out, capsys):
    log, seconds = RunLog(replace(config, log_every=2), World().run, 0), {"data": 1.0, "update": 3.0}
    stats = {"reward": 0.25, "ratio": 0.3, "weight": 0.6, "ratio_hat": 0.0, "weight_hat": 0.0}
    for done in (1, 2):
        log.step(done, {k: torch.tensor(v) for k, v in stats.items()}, {}, seconds, World().demos, None)
    files = (out / "metrics.jsonl", out / "timing.jsonl")
    metrics, timing = (json.loads(path.read_text().splitlines()[1]) for path in files)
    assert metrics == pytest.approx({"step": 2, "reward": 0.25, "ratio": 0.5})
    assert timing == {"step": 2, "tokens": 9, **seconds}
    printed = capsys.readouterr().out
    assert printed.count("step ") == 1 and "reward 0.250" in printed and "2 tokens/s" in printed
