"""The run as its users start it: to a table, twice the same, killed and resumed to the bit, and what it
refuses."""

import ast
import contextlib
import hashlib
import importlib
import io
import json
import math
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train
from bridge_min.baselines import METHODS
from bridge_min.bridge import acting, bridge, schedule
from bridge_min.checkpoint import open_tensors, saved_runs
from bridge_min.config import load_config
from bridge_min.rollout import Demos
from bridge_min.tokenizer import byte_tokenizer
from train import cli

ROOT = Path(__file__).resolve().parents[1]
TINY = """
model = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
chain, hard_chain, largest, wrong_demos, far_demos = (2, 3), (3, 4), 9, 0.2, 0.3
train_problems, val_problems, test_problems, demos = 60, 6, 6, 20
base_steps, base_target, base_batch, base_lr, threads = 250, 1.0, 32, 1e-2, 1
prompts, group, max_new, demos_per_step, micro_batch = 4, 4, 24, 4, 8
steps, log_every, eval_every, save_every, samples = 12, 2, 4, 3, 2
"""


def read_tensors(path):
    with open_tensors(path) as (file, metadata):
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.py").write_text(TINY)
    return folder


def arguments(folder, name, *options):
    return [str(folder / "tiny.py"), f"--out={folder / name}", *options]


def run(folder, name, *options):
    """A run in this process: exit code, what was printed, and the error."""
    printed, error = io.TextIOWrapper(io.BytesIO(), "utf-8"), ""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.redirect_stdout(printed):
            cli(arguments(folder, name, *options))
    except SystemExit as stop:
        error = str(stop.code)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    printed.seek(0)
    return int(bool(error)), printed.read(), error


def start(folder, name, until, *options):
    """A run in a process of its own, returned after `until` updates."""
    command = [sys.executable, "train.py", *arguments(folder, name, *options)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    metrics = folder / name / "metrics.jsonl"
    while process.poll() is None and not (
        metrics.exists() and metrics.read_text().count("sft_loss") >= until
    ):
        time.sleep(0.002)
    return process


def outcome(folder, name):
    """All that follows from the seed: final weights of all players with their moments, merged model, metrics,
    table."""
    tensors = final(folder, name) | read_tensors(folder / name / "model.safetensors")[0]
    digests = {key: hashlib.sha256(value.numpy().tobytes()).hexdigest() for key, value in tensors.items()}
    return digests, (folder / name / "metrics.jsonl").read_text(), scores(folder, name)


def scores(folder, name):
    return json.loads((folder / name / "results.json").read_text())["scores"]


def newest(folder, name):
    return list(saved_runs(folder / name).values())[-1]


def final(folder, name):
    return read_tensors(newest(folder, name))[0]


@pytest.fixture(scope="module")
def unbroken(folder):
    code, printed, error = run(folder, "unbroken")
    assert code == 0, error
    return printed, outcome(folder, "unbroken")


def test_a_run_goes_from_nothing_to_a_table(folder, unbroken):
    printed, _ = unbroken
    for words in ("base: step", "validation at step 12", "tokens/s"):
        assert words in printed
    rows = ["base", "shadow (theta_hat, w)", "trained by bridge"]
    assert list(scores(folder, "unbroken")) == rows
    for row in rows:
        assert f"\n{row}, 6 problems a row" in printed
        assert list(scores(folder, "unbroken")[row]) == ["math", "hard", "code", "science"]
    assert 0.1 < json.loads((folder / "unbroken" / "results.json").read_text())["peak_gib"] < 2
    metrics = [json.loads(line) for line in (folder / "unbroken" / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics if "sft_loss" in m] == list(range(1, 13))
    assert [m["step"] for m in metrics if "val_theta_hat" in m] == [0, 4, 8, 12]
    for key in ("reward", "finished", "length", "gain", "norm_theta", "norm_theta_hat", "norm_w"):
        assert any(key in m for m in metrics)
    assert any(m.get("mixed", 0) > 0 for m in metrics)  # or no policy gradient would be tested here


def rows_of(table):
    """Label -> numbers, of lines like `math, 6 problems   40.0  ...`."""
    lines = [line for line in table.splitlines() if "±" in line]
    return {line.split()[0].removesuffix(","): line[24:].split() for line in lines}


def test_eval_finds_what_the_table_said(folder, unbroken, capsys):
    command = [sys.executable, "eval.py", str(folder / "unbroken"), "--splits=val,math,hard,code,science"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    base, trained = (
        rows_of(unbroken[0].split(f"\n{row}, 6")[1].split("\n\n")[0]) for row in ("base", "trained by bridge")
    )
    rows = rows_of(found.stdout)
    assert rows.keys() == {"val"} | trained.keys() and {key: rows[key] for key in trained} == trained
    importlib.import_module("eval").main(next(folder.glob("base-*")), {})  # all test suites
    assert rows_of(capsys.readouterr().out) == base


def test_the_same_seed_twice_is_the_same_run_and_the_base_is_kept(folder, unbroken):
    code, printed, _ = run(folder, "twice")
    assert code == 0 and "base: step" not in printed
    assert outcome(folder, "twice") == unbroken[1]
    assert run(folder, "other", "--seed=1")[0] == 0
    assert outcome(folder, "other") != unbroken[1]


def kill_and_resume(folder, name, until, wait, *options):
    process = start(folder, name, until, *options)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, _, error = run(folder, name, "--resume", *options)
    assert code == 0, error


@pytest.mark.parametrize("options", [["--method=bridge", "--select=demo"], ["--shadow_reset=5"]], ids=str)
def test_what_else_a_run_remembers_goes_on_too(folder, unbroken, options):
    """The gains of the demonstrations, and the shadow's way since it was last at theta. Killed after the
    checkpoint at step 6."""
    name = options[-1].removeprefix("--").replace("=", "")
    assert run(folder, name, "--table=none", *options)[0] == 0
    kill_and_resume(folder, f"{name}-killed", 7, 0.0, "--table=none", *options)
    assert outcome(folder, f"{name}-killed") == outcome(folder, name) != unbroken[1]
    if "--select=demo" in options:
        assert final(folder, name)["memory/draws"].sum() == 12 * 4


def test_a_reset_puts_the_shadow_where_theta_is_and_no_later_step_keeps_it_there(folder, unbroken):
    for steps in (4, 5):
        options = [f"--steps={steps}", "--shadow_reset=2", "--table=none", "--lr=1e-2"]
        assert run(folder, f"reset{steps}", *options)[0] == 0
        tensors = final(folder, f"reset{steps}")
        theta = {name: value for name, value in tensors.items() if name.startswith("theta/model")}
        weights = [name for name in theta if not name.endswith(("/step", "/exp_avg", "/exp_avg_sq"))]
        at_theta = [torch.equal(theta[k], tensors[k.replace("theta/", "theta_hat/", 1)]) for k in weights]
        assert len(weights) > 5 and (all(at_theta) if steps == 4 else not any(at_theta))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(folder, unbroken, number):
    name = f"interrupted-{number}"
    process = start(folder, name, until=1)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and b"--resume" in error
    saved = int(read_tensors(newest(folder, name))[1]["step"])
    assert 1 <= saved < 12
    assert run(folder, name, "--resume")[0] == 0
    assert outcome(folder, name) == unbroken[1]


OPTIONS = (
    *([f"--method={method}"] for method in METHODS if method != "bridge"),
    *(["--meta=unrolled"], ["--meta=no_shadow"], ["--kl=0.1", "--normaliser=sequence"]),
    *(["--select=token", "--reward_flip=0.2"], ["--method=mix", "--select=demo"]),
    *(["--meta=unrolled", "--select=demo"], ["--method=luffy", "--kl=0.1", "--reward_flip=0.5"]),
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_method_and_option_runs(folder, unbroken, options):
    name = "-".join(options).replace("=", "")
    code, printed, error = run(folder, name, "--steps=2", "--table=none", *options)
    assert code == 0, error
    assert ("kl " in printed) == ("--kl=0.1" in options)
    metrics = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(value) for line in metrics for value in line.values())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_on_knights_and_knaves(folder, method):
    options = ["--task=logic", "--base_steps=20", "--max_new=40", "--steps=2", "--table=none"]
    code, _, error = run(folder, f"logic-{method}", f"--method={method}", *options)
    assert code == 0, error


def test_the_rows_of_the_table_can_be_chosen(folder, unbroken):
    for table, rows in (("none", []), ("trained", ["trained by grpo"]), ("all", ["base", "trained by grpo"])):
        options = ["--steps=1", "--method=grpo", f"--table={table}", "--test_problems=6"]
        assert run(folder, f"table-{table}", *options)[0] == 0
        assert list(scores(folder, f"table-{table}")) == rows


def test_a_used_folder_is_not_touched_without_being_told(folder, unbroken):
    code, _, error = run(folder, "unbroken")
    assert code == 1 and "--resume" in error and "--overwrite" in error
    code, _, error = run(folder, "unbroken", "--resume", "--lr=0.5")
    assert code == 1 and "lr was 0.001, is 0.5" in error
    assert outcome(folder, "unbroken") == unbroken[1]
    code, _, error = run(folder, "nowhere", "--resume")
    assert code == 1 and "no run in" in error and not (folder / "nowhere").exists()


def test_a_damaged_checkpoint_sends_the_run_back_to_the_one_before_and_two_stop_it(folder, unbroken, capsys):
    process = start(folder, "damaged", 7)  # saved after steps 3 and 6
    process.send_signal(signal.SIGKILL)
    process.communicate()
    older, newer = saved_runs(folder / "damaged").values()
    damaged = bytearray(newer.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newer.write_bytes(damaged)
    assert run(folder, "damaged", "--resume")[0] == 0
    warned = capsys.readouterr().err
    assert f"{newer} is damaged" in warned and f"going back to {older}" in warned
    assert outcome(folder, "damaged") == unbroken[1]
    for path in saved_runs(folder / "damaged").values():
        path.write_bytes(path.read_bytes()[:-1])
    code, _, error = run(folder, "damaged", "--resume")
    assert code == 1 and "no checkpoint can be used" in error and "000012" in error
    assert run(folder, "damaged", "--steps=2", "--overwrite")[0] == 0
    assert list(saved_runs(folder / "damaged")) == [2]


def test_a_run_that_lost_its_checkpoints_does_not_begin_again_unasked(folder, unbroken):
    assert run(folder, "bereft", "--table=none", "--steps=8")[0] == 0
    for path in saved_runs(folder / "bereft").values():
        path.unlink()
    before = (folder / "bereft" / "metrics.jsonl").read_bytes()
    code, _, error = run(folder, "bereft", "--table=none", "--steps=8", "--resume")
    assert code == 1 and "holds no checkpoint, but metrics.jsonl goes to step 8" in error
    assert (folder / "bereft" / "metrics.jsonl").read_bytes() == before


def test_a_second_run_on_the_same_folder_is_refused_and_the_lock_dies_with_its_process(folder, unbroken):
    process = start(folder, "locked", 2)
    for options in (["--resume"], ["--overwrite"]):
        code, _, error = run(folder, "locked", *options)
        assert code == 1 and "another run is at work" in error
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run(folder, "locked", "--resume")[0] == 0
    assert outcome(folder, "locked") == unbroken[1]


def limited(folder, name, *options, most):
    """A run in a process of its own that may write no file larger than `most` bytes, as on a full disk."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    command = [sys.executable, "train.py", *arguments(folder, name, *options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, preexec_fn=limit)


def test_a_full_disk_stops_the_run_with_a_message_and_keeps_what_was_saved(folder, unbroken):
    """The log fits, a checkpoint does not."""
    process = start(folder, "full", 4)  # saved after step 3
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {path: path.read_bytes() for path in saved_runs(folder / "full").values()}
    stopped = limited(folder, "full", "--resume", most=20000)
    assert stopped.returncode == 1 and "could not be written" in stopped.stderr, stopped.stderr
    assert "Traceback" not in stopped.stderr and "checkpoint-00000" in stopped.stderr
    assert {path: path.read_bytes() for path in saved_runs(folder / "full").values()} == before
    assert not list((folder / "full").glob("*.tmp"))
    stopped = limited(folder, "full", "--resume", most=300)  # nor does the log
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr, stopped.stderr
    assert run(folder, "full", "--resume")[0] == 0
    assert outcome(folder, "full") == unbroken[1]


def test_a_folder_that_cannot_be_written_is_said_at_the_start(folder, unbroken):
    (folder / "file").write_text("")
    code, _, error = run(folder, "file/inside")
    assert code == 1 and "is no folder to write to" in error


@pytest.mark.parametrize("player", ["theta", "theta_hat", "w"])
def test_a_gradient_that_is_not_finite_stops_before_anything_moves(folder, unbroken, monkeypatch, player):
    calls, name = [], f"exploded-{player}"

    def poisoned(*args):
        directions, stats = bridge(*args)
        calls.append(1)
        next(iter(directions[player].values())).fill_(float("nan") if len(calls) == 3 else 0.0)
        return directions, stats

    monkeypatch.setitem(METHODS, "bridge", poisoned)
    code, _, error = run(folder, name, "--save_every=1")
    assert code == 1 and f"step 2: the gradient of {player} is nan, on 4 prompts" in error
    assert f"The last good state is {newest(folder, name)}" in error
    tensors, metadata = read_tensors(newest(folder, name))
    assert metadata["step"] == "2" and all(value.isfinite().all() for value in tensors.values())


@pytest.mark.parametrize("what, culprits", [("loss", 1), ("gradient", 1), ("sampling", 4)])
def test_a_number_that_is_not_finite_is_said_with_what_was_computed_and_on_which_prompts(
    folder, unbroken, monkeypatch, what, culprits
):
    """Each row is a micro-batch of its own; one demonstration's log-prob, or only its gradient, is spoilt."""
    calls, name = [], f"spoilt-{what}"
    original = train.policy_logprobs

    def spoilt(model, config, theta, w, part, *rest):
        logp = original(model, config, theta, w, part, *rest)
        chosen = part.index[0] == 7 if isinstance(part, Demos) else False
        if chosen:
            calls.append(part.prompts()[0])
        factor = {"loss": math.nan, "gradient": 1.0}[what]
        return Spoil.apply(logp * factor, what) if chosen else logp

    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logp, what):
            ctx.factor = math.inf if what == "gradient" else 1.0
            return logp.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.factor, None

    def diverged(*args):
        params = acting(*args)
        if calls.append(1) or len(calls) > 8:  # two validations and four steps later
            params["model.norm.weight"] = params["model.norm.weight"] * math.nan
        return params

    if what == "sampling":
        monkeypatch.setattr(train, "acting", diverged)
    else:
        monkeypatch.setattr(train, "policy_logprobs", spoilt)
    code, _, error = run(folder, name, "--micro_batch=1", "--save_every=1")
    assert code == 1 and f", on {culprits} prompts:" in error, error
    said = {
        "loss": "J_SFT is nan",
        "gradient": "the value is finite, the gradient is not",
        "sampling": "sampled",
    }
    assert said[what] in error and "The last good state" in error
    if what != "sampling":
        assert repr(byte_tokenizer().decode(calls[0])) in error


def test_who_acts_who_is_scored_and_at_which_step_size(folder, unbroken, monkeypatch):
    """The wiring of a step: rollouts come from (theta, w), the reference is the base, the rows are theirs."""
    options = ["--kl=0.1", "--lr_lora=3e-3", "--steps=4", "--eval_every=2", "--warmup=2"]
    config = load_config(str(folder / "tiny.py"), options)
    seen = {"policies": [], "steps": [], "validated": [], "rows": [], "numbers": []}
    players = {}

    def same(a, b):
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    def prompt(batch, row):
        return batch.tokens[row][: int(batch.mask[row].nonzero().min())]

    def spy(name, note):
        original = getattr(train, name)
        monkeypatch.setattr(train, name, lambda *args, **kw: (note(*args, **kw), original(*args, **kw))[1])

    def base_model(*args):
        model, base = original_base(*args)
        players["base"] = {name: value.clone() for name, value in base.items()}
        return model, base

    def method(step, given):
        players.update(given)
        assert same(seen["policies"][-1], acting(config, given))
        rollouts, demos = step.rollouts, step.demos
        reference = step.logprobs(players["base"], None, rollouts, config.temperature)
        assert float((rollouts.ref_logp - reference).abs().max()) < 1e-5
        for group in range(4):  # a group's prompt is that of its demonstration
            prompts = [
                b.tokens[row][: int(b.mask[row].nonzero().min())]
                for b, row in ((demos, group), (rollouts, 4 * group))
            ]
            assert torch.equal(*prompts)
        seen["numbers"].append(step.number)
        return bridge(step, given)

    original_base = train.base_model
    monkeypatch.setattr(train, "base_model", base_model)
    monkeypatch.setitem(METHODS, "bridge", method)
    spy("roll_out", lambda config, step, model, policy, *_: seen["policies"].append(policy))
    spy("ascend", lambda optimizer, params, direction, lr, norm: seen["steps"].append(lr))
    spy(
        "answer_problems", lambda c, m, params, *_: "w" in players and seen["validated"].append(is_of(params))
    )
    spy("score", lambda c, m, params, *_: seen["rows"].append(is_of(params)))

    def is_of(params):
        return [name for name in ("theta", "theta_hat") if same(params, acting(config, players, name))]

    code, _, error = run(folder, "wiring", *options)
    assert code == 0, error
    paces = [schedule(step, 4, 2) for step in range(4)]
    assert seen["steps"] == pytest.approx([lr * pace for pace in paces for lr in (1e-3, 1e-3, 3e-3)])
    assert seen["validated"] == [["theta_hat"], ["theta"]] * 2
    assert seen["rows"] == [[]] * 4 + [["theta_hat"]] * 4 + [["theta"]] * 4  # four suites each
    assert seen["numbers"] == [0, 1, 2, 3]
    metrics = [json.loads(line) for line in (folder / "wiring" / "metrics.jsonl").read_text().splitlines()]
    steps = [m for m in metrics if "sft_loss" in m]
    assert [m["ratio"] for m in steps] == pytest.approx([1.0] * 4, abs=1e-4)
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-9) and min(m["kl"] for m in steps[1:]) > 1e-7


def test_a_folder_that_is_not_a_run_is_left_alone(folder, unbroken):
    foreign = folder / "foreign"
    foreign.mkdir()
    (foreign / "model.safetensors").write_text("mine")
    (foreign / "model.py").write_text("mine")
    for options in ([], ["--overwrite"]):
        code, _, error = run(folder, "foreign", *options)
        assert code == 1 and "no run of ours" in error
    (foreign / "model.safetensors").unlink()
    assert run(folder, "foreign", "--steps=1")[0] == 0
    assert (foreign / "model.py").read_text() == "mine"
    base = next(folder.glob("base-*"))
    assert run(folder, base.name, "--resume")[0] == 1


def test_an_error_in_the_config_destroys_nothing(folder, unbroken):
    for option, words in (("--lora_targets=qproj", "qproj"), ("--max_new=300", "max_position_embeddings")):
        code, _, error = run(folder, "unbroken", "--overwrite", option)
        assert code == 1 and words in error
    assert outcome(folder, "unbroken") == unbroken[1]


def test_nothing_forbidden_is_used():
    """No regex, sympy, pickle, eval or exec, and nothing that opens a connection."""
    forbidden = {"re", "regex", "sympy", "pickle", "requests", "urllib", "socket", "ast", "numpy.load"}
    forbidden |= {"eval", "exec", "compile", "torch.load", "torch.save"}
    for path in [*ROOT.glob("bridge_min/*.py"), ROOT / "train.py", ROOT / "eval.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Call):
                names += [ast.unparse(node.func)] if ast.unparse(node.func) in forbidden else []
            assert not forbidden & {name.split(".")[0] for name in names}, (path.name, names)
