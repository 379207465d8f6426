"""The run as its users start it: to a table, twice the same, cut off and resumed to the bit, what it refuses,
and that each setting reaches the update."""

import math
import os
import resource
import shutil
import signal
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import torch
from conftest import gap, size
from runs import arguments, at_step, cut_at_each_write, cut_power, metrics, outcome, ran, run, scores, state

import train
from bridge_min import bridge, evaluate, tasks
from bridge_min.base import load_model, save_model
from bridge_min.checkpoint import save_folder, saved_runs
from bridge_min.config import load_config
from bridge_min.evaluate import answer_problems
from bridge_min.lora import merge

PLAYERS = {"theta", "theta_hat", "w"}
TABLE = "--table=trained"


@pytest.fixture(scope="module")
def unbroken(folder):
    """What a run printed that nothing disturbed, and all that followed from its seed."""
    printed, error = run(folder, "unbroken", TABLE)
    assert not error
    return printed, outcome(folder / "unbroken")


@pytest.fixture
def copy(folder, unbroken):
    """The folder of a run that has ended, with checkpoints after 2 and 4 updates; to be spoilt."""
    yield shutil.copytree(folder / "unbroken", folder / "copy")
    shutil.rmtree(folder / "copy")


# --- To a table, twice the same, and on after whatever ends it ----------------------------------------------


def test_a_run_goes_from_nothing_to_a_table(folder, unbroken):
    steps = metrics(folder / "unbroken", "sft_loss")
    for words in ("validation at step 4", "tokens/s", "GiB", "pass@1, per cent", "unbroken/model"):
        assert words in unbroken[0]
    assert [line["step"] for line in metrics(folder / "unbroken", "val_theta_hat")] == [0, 2, 4]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert all({"finished", "length", "mixed", "gain", "kl", "norm_w"} <= line.keys() for line in steps)
    assert max(line["reward"] for line in steps) > 0  # or no true reward is tested here


def test_resumed_after_its_end_a_run_makes_all_rows_of_the_table_the_trained_one_last(copy, folder, unbroken):
    found = scores(ran(folder, "copy", "--resume", "--table=all"))
    assert list(found) == ["base", "shadow (theta_hat, w)", "trained by bridge"]
    assert outcome(copy)[:2] == unbroken[1][:2]
    assert found["trained by bridge"] == unbroken[1][2]["trained by bridge"]
    for row in found.values():
        assert list(row) == ["math", "hard", "code", "science"]
        for score in row.values():
            mean, half = score["pass_at"]["1"]
            assert 0 <= mean <= 1 and half >= 0 and list(score["pass_at"]) == ["1", "2", "3"]


def test_the_table_has_a_row_of_another_method_that_was_trained_the_same(folder, monkeypatch):
    """Also where it was cut off in that method's training, or after it."""
    alone = scores(ran(folder, "alone", "--method=grpo", "--select=none", TABLE))
    printed, _ = run(folder, "both", "--table=all", "--versus=grpo", f"--out={folder}/both/")
    found = scores(folder / "both")
    assert list(found) == ["base", "trained by grpo", "shadow (theta_hat, w)", "trained by bridge"]
    assert found["trained by grpo"] == alone["trained by grpo"] != found["trained by bridge"]
    assert "points against trained by grpo" in printed and (folder / "both-grpo" / "model").exists()
    for method in ("grpo", "bridge"):
        name, after = f"cut in {method}", 1 if method == "grpo" else 4  # validations
        validate, times = evaluate.validate, count(1)
        cut = lambda *args: cut_power() if next(times) > after else validate(*args)  # noqa: B023
        with monkeypatch.context() as patch:
            patch.setattr(evaluate, "validate", cut)
            run(folder, name, "--table=all", "--versus=grpo")
        assert not (folder / name / "results.json").exists()
        assert scores(ran(folder, name, "--resume", "--table=all", "--versus=grpo")) == found


def test_the_same_seed_twice_is_the_same_run_and_the_base_is_kept(folder, unbroken):
    printed, _ = run(folder, "twice", TABLE)
    assert "base: step" not in printed and outcome(folder / "twice") == unbroken[1]


def test_cut_off_and_resumed_is_the_unbroken_run_to_the_bit(folder, unbroken, monkeypatch):
    """Weights, moments, metrics, the reference of the KL."""
    at_step(monkeypatch, 3, cut_power)
    assert run(folder, "cut", TABLE)[1] == "power cut"
    assert list(saved_runs(folder / "cut")) == [2] and metrics(folder / "cut")[-1]["step"] == 3
    monkeypatch.undo()
    printed, _ = run(folder, "cut", TABLE, "--resume")
    assert "going on after step 2 of 4" in printed and outcome(folder / "cut") == unbroken[1]


LAST = pytest.param(2, 16, marks=pytest.mark.slow), (4, 6)  # log 2, last checkpoint 10, model 3, results 1


@pytest.mark.parametrize("done, writes", LAST)
def test_cut_off_before_any_write_and_resumed_a_run_ends_with_the_final_model(
    copy, folder, unbroken, monkeypatch, done, writes
):
    """Where an earlier one lies in its place."""
    save_model(copy / "model", state(copy, 2)["theta"], load_config(copy / "run.json"))
    for path in (copy / "results.json", *[copy / "checkpoint-000004"][: 4 - done]):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    resume = partial(train.cli, arguments(folder, "cut short", TABLE, "--resume"))
    for _ in cut_at_each_write(monkeypatch, copy, folder / "cut short", resume):
        assert not (folder / "cut short" / "results.json").exists()
        assert outcome(ran(folder, "cut short", TABLE, "--resume")) == unbroken[1]
        writes -= 1
    assert writes == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(folder, unbroken, monkeypatch, number):
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), number))
    _, error = run(folder, f"signal{number}", TABLE)
    assert "saved after step 3" in error and "--resume" in error
    assert list(saved_runs(folder / f"signal{number}")) == [3, 2]
    monkeypatch.undo()
    assert outcome(ran(folder, f"signal{number}", TABLE, "--resume")) == unbroken[1]


def test_an_error_in_the_config_destroys_nothing(copy, folder, unbroken):
    for option, words in (("--lora_targets=qproj", "qproj"), ("--max_new=300", "max_position_embeddings")):
        assert words in run(folder, "copy", "--overwrite", option)[1]
    assert outcome(copy) == unbroken[1]
    assert list(saved_runs(ran(folder, "copy", "--overwrite", "--steps=1"))) == [1]


FULL = (20000, "checkpoint-000004"), (300, "metrics.jsonl could not"), (1200, "error: [Errno 27]")


@pytest.mark.parametrize("most, words", FULL, ids=["a checkpoint", "the whole log", "a line of the log"])
def test_a_full_disk_stops_the_run_and_keeps_what_was_saved(copy, folder, unbroken, most, words):
    """With a message; no file may have more than `most` bytes."""
    shutil.rmtree(copy / "checkpoint-000004")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    _, error = run(folder, "copy", "--resume")
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.startswith("error: ") and words in error and "File too large" in error
    assert list(saved_runs(copy)) == [2] and not list(copy.glob("*.tmp"))
    assert outcome(ran(folder, "copy", "--resume", TABLE)) == unbroken[1]


def test_what_is_not_finite_stops_the_run_before_anything_moves(copy, folder):
    """A NaN in the checkpoint after step 2: in the shadow it comes out in the gradients, in theta it acts."""
    job, gradient = train.open_job(load_config(copy / "run.json")), "step 3: the gradient of theta_hat, w"
    asked = [repr(job.task.train[i].prompt) for i in tasks.choose_problems(job.config, 2)[1]]
    shutil.rmtree(copy / "checkpoint-000004")
    acting = ("theta", "log-probs of sampled tokens")
    for player, *words in ("theta_hat", gradient, "good state is that after step 2", "smaller lr"), acting:
        parts = state(copy, 2)
        parts[player]["model.norm.weight"][0] = math.nan
        save_folder(copy / "checkpoint-000002", parts.items(), {"done": 2})
        error = run(folder, "copy", "--resume")[1]
        assert all(text in error for text in (*words, "not finite, on 4 prompts", *asked))
        assert list(saved_runs(copy)) == [2] and metrics(copy)[-1]["step"] == 2


REFUSED = {
    "--lam=1.5": "lam = 1.5 must be a number in 0..1",
    "--resum": "did you mean --resume",
    "--method=brige": "method = 'brige' is not one of bridge, ",
    "--task=chess": "task = 'chess' is not one of arith, logic, jsonl",
    "--method=grpo": "select = 'reward' does not go with method = grpo",
    "--resume": "no run was begun",
}


def test_what_cannot_be_run_is_refused_with_a_message(folder):
    for option, words in REFUSED.items():
        error = run(folder, "refused", option)[1]
        assert error.startswith("error: ") and words in error
    assert not list((folder / "refused").glob("*.json*"))
    with pytest.raises(SystemExit, match=r"python train\.py tiny_configs"):  # without a config: the usage
        train.cli(["--resume"])


# --- Each setting reaches the update ------------------------------------------------------------------------


def test_the_gradient_is_clipped_to_max_grad_norm(folder):
    """After one step Adam's first moment is a tenth of the clipped gradient."""
    norm = lambda part: float(sum(value.double().square().sum() for value in part.values())) ** 0.5
    options = ("--select=none", "--steps=1")
    free, tiny = (ran(folder, f"clip{most}", *options, f"--max_grad_norm={most}") for most in (1e9, 1e-3))
    for player in PLAYERS:
        whole = metrics(free, "norm_w")[0][f"norm_{player}"]
        assert norm(state(free)[f"{player}.m"]) == pytest.approx(0.1 * whole, rel=1e-4) and whole > 2e-3
        assert norm(state(tiny)[f"{player}.m"]) == pytest.approx(0.1 * 1e-3, rel=2e-3)


PACES = (  # warm-up; cosine decay; each of two stages has its own: the last step's share of the peak
    (("--steps=2", "--warmup=4"), 2, 0.5),
    (("--steps=4", "--warmup=1"), 4, 0.55 + 0.45 * math.cos(math.pi * 2 / 3)),
    (("--steps=4", "--warmup=1", "--method=two_stage", "--cold_start=0.5"), 4, 1.0),
)


@pytest.mark.parametrize("options, done, share", PACES, ids=["warm-up", "decay", "two stages"])
def test_each_player_moves_by_adam_at_its_own_step_size_and_the_schedules_share(folder, options, done, share):
    out = ran(folder, f"pace-{'-'.join(options)}", "--eval_every=1", "--select=none", *options)
    before, after = state(out, done - 1), state(out, done)
    for player in PLAYERS & after.keys():
        lr, moved = 2e-2 if player == "w" else 5e-3, {}
        for name, value in after[player].items():
            m, v = (after[f"{player}.{kind}"][name] for kind in "mv")  # torch's, of what goes down
            step = -lr * share * m / (1 - 0.9**done) / ((v / (1 - 0.95**done)).sqrt() + 1e-8)
            moved[name] = value - before[player][name]
            torch.testing.assert_close(moved[name], step, rtol=1e-3, atol=1e-6)
        assert size(moved) > 0.1 * lr * share


def test_the_kl_is_measured_from_the_base_and_the_rollouts_come_from_the_policy(folder):
    """Computed anew for the second step of grpo, from the checkpoint after the first."""
    out = ran(folder, "kl", "--method=grpo", "--select=none", "--steps=2", "--eval_every=1")
    job = train.open_job(load_config(out / "run.json"))
    rollouts, stats = tasks.roll_out(job, 1, state(out, 1)["theta"])
    d = tasks.score_rows(job, train.load_base(job), rollouts) - rollouts.logp
    kl, second = float((rollouts.weights * (d.exp() - d - 1)).sum()), metrics(out, "kl")[1]
    assert second["kl"] == pytest.approx(kl, rel=1e-3) and kl > 1e-5
    assert second["ratio"] == pytest.approx(1, abs=1e-4)
    assert all(second[key] == float(stats[key]) for key in ("length", "reward"))  # the true rewards


def test_the_policy_that_acts_is_theta_with_w(folder, unbroken):
    """Its ratio is then 1; the shadow's is not, after a step."""
    steps = metrics(folder / "unbroken", "ratio")
    assert [line["ratio"] for line in steps] == pytest.approx([1.0] * 4, abs=1e-4)
    assert max(abs(line["ratio_hat"] - 1) for line in steps[1:]) > 1e-3


def test_validation_asks_problems_that_are_never_trained_on(folder, unbroken):
    players, job = state(folder / "unbroken"), train.open_job(load_config(folder / "unbroken" / "run.json"))
    shown = {line.split(":  ")[1].split("  ->")[0] for line in unbroken[0].splitlines() if "  ->  " in line}
    validated, trained = ({p.prompt.strip() for p in ps} for ps in (job.task.val, job.task.train))
    assert shown and shown <= validated and not validated & trained
    last = metrics(folder / "unbroken", "val_theta")[-1]
    for name in ("theta", "theta_hat"):
        rewards, _ = answer_problems(job, merge(players[name], players["w"], 1.5), job.task.val, "val")
        assert last[f"val_{name}"] == float(rewards.mean())
    assert last["val_theta"] != last["val_theta_hat"]  # or they could be exchanged here


def test_the_exported_model_is_the_trained_policy(folder, unbroken):
    players, (config, exported) = state(folder / "unbroken"), load_model(folder / "unbroken" / "model")
    assert gap(exported, merge(players["theta"], players["w"], 1.5)) == 0 and config.seed == 14


def test_selection_leaves_demonstrations_out_and_theta_moves_otherwise(folder):
    chosen, plain = (ran(folder, f"select-{s}", f"--select={s}", "--steps=2") for s in ("ours", "none"))
    assert any(line["kept"] < 1 for line in metrics(chosen, "kept")) and not metrics(plain, "kept")
    assert gap(state(chosen)["theta"], state(plain)["theta"]) > 1e-4


@pytest.mark.parametrize("method, unused", [("grpo", "demonstrate"), ("sft", "roll_out")])
def test_what_a_method_does_without_is_never_drawn(folder, monkeypatch, method, unused):
    monkeypatch.setattr(tasks, unused, cut_power)
    ran(folder, f"without-{unused}", f"--method={method}", "--select=none", "--steps=1")


def test_each_update_is_told_how_many_were_done_before(folder, monkeypatch):
    told, sft = [], bridge.METHODS["sft"]
    told_sft = lambda s, players: told.append(s.number) or sft.update(s, players)
    monkeypatch.setitem(bridge.METHODS, "told", replace(sft, update=told_sft))
    ran(folder, "told", "--method=told", "--select=none")
    assert told == [0, 1, 2, 3]
