"""scale/ changes how a run is computed, not what it computes: recomputation, precision, and many processes,
which make the run of one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
import torch
from conftest import SMALL, World, gap, size
from runs import arguments, at_step, cut_power, metrics, ran, run, scores, state

from bridge_min.bridge import METHODS, gradients, j_rl, j_sft
from bridge_min.lora import merge
from bridge_min.model import build
from bridge_min.scale import recompute, scaled_runtime

UNTIED = replace(SMALL, tie_word_embeddings=False)


# --- Recomputation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meta", ["first_order", "unrolled"])
@pytest.mark.parametrize("shape, at_once", [(SMALL, recompute.AT_ONCE), (SMALL, 3), (UNTIED, 3)])
def test_recomputation_gives_the_same_gradients(monkeypatch, meta, shape, at_once):
    """Of blocks to the last bit; of logits, in chunks, up to the order of the sums."""
    world = World(shape)
    world.rollouts.ref_logp = world.run.logprobs(world.reference, world.rollouts)
    world.with_config(meta=meta, kl=0.2, micro_batch=5, temperature=0.8)
    expected, stats = METHODS[meta].update(world.step(), world.players)
    monkeypatch.setattr(recompute, "AT_ONCE", at_once)
    again = scaled_runtime(build(shape), world.with_config(recompute=True))
    found, same = METHODS[meta].update(world.step(run=again), world.players)
    for player, g in expected.items():
        assert gap(found[player], g) <= (0 if at_once > 3 and meta == "first_order" else 1e-12) < size(g)
    assert {k: float(v) for k, v in same.items()} == pytest.approx({k: float(v) for k, v in stats.items()})


# --- Precision ----------------------------------------------------------------------------------------------


def test_bfloat16_weights_act_and_their_gradients_are_summed_in_float32():
    """Those of nine micro-batches are the sum, in float64, of what each of them gives alone."""
    world, low = World(), lambda params: {name: value.float() for name, value in params.items()}
    runtime = scaled_runtime(build(SMALL), world.with_config(dtype="bfloat16", micro_batch=1))
    acting, merged = runtime.acting(world.theta, world.w), merge(world.theta, world.w, 1.5)
    assert all(torch.equal(acting[name], value.bfloat16()) for name, value in merged.items())
    step, theta = world.step(run=runtime), low(world.theta)
    parts = [j_sft(step, 0.3, demos=part) for part in world.demos.batches(1)]
    parts += [j_rl(step, 0.7, rollouts=part) for part in j_rl(step).rows.batches(1)]
    total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in theta.items()}
    for part in parts:
        for name, value in runtime.gradients(step, [part], theta, {})[0].items():
            assert value.dtype == torch.float32
            total[name] += value
    objective = [j_sft(step, 0.3), j_rl(step, 0.7)]
    whole = runtime.gradients(step, objective, theta, {})[0]
    assert len(parts) == 9 and gap(whole, total) < 1e-6 * size(total)
    exact = gradients(world.step(run=World().run), objective, world.theta, {})[0]
    assert 1e-4 * size(exact) < gap(whole, exact) < 0.05 * size(exact)  # so it was computed in bfloat16


def test_a_network_in_bfloat16_trains_and_its_state_is_float32(folder):
    options = ("--method=sft", "--select=none", "--steps=7", "--demos=3", "--eval_every=7")
    outs = [ran(folder, dtype, f"--dtype={dtype}", *options) for dtype in ("bfloat16", "float32")]
    low, full = ([line["sft_loss"] for line in metrics(out, "sft_loss")] for out in outs)
    assert low == pytest.approx(full, rel=0.03) and low != full and low[-1] < 0.75 * low[0]
    assert {t.dtype for part in state(outs[0]).values() for t in part.values()} == {torch.float32}


# --- Many processes -----------------------------------------------------------------------------------------

ROOT, COMMON = Path(__file__).resolve().parents[1], ("--table=trained", "--kl=0.05")
FEW = ("--prompts=3", "--demos_per_step=1")  # with three processes two have no demonstration
SHARED = {
    "bridge": COMMON,
    "srft": ("--method=srft", "--select=none", *COMMON),
    "luffy": ("--method=luffy", "--select=none", *FEW, *COMMON),
    "hpt": ("--method=hpt", "--select=none", *FEW, "--kl=0", "--reward_flip=0.05", "--table=trained"),
}
REFUSED = {"--meta=unrolled": "take one process", "--prompts=1": "prompts = 1 do not reach for 2 processes"}


def launch(processes, script, *arguments):
    """Exit code and all that was printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    settings = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    how = {"cwd": ROOT, "env": {**os.environ, **settings}, "timeout": 300, "text": True}
    done = subprocess.run([*command, script, *arguments], capture_output=True, **how)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def alone(folder):
    """The runs of one process, and the base for the others."""
    for name, options in SHARED.items():
        ran(folder, f"{name}-1", *options)
    return folder


def assert_same_run(folder, name, found):
    """The same responses, lengths and rewards; losses within 1e-5; players and moments within a few per
    cent of a step; the same table."""
    pairs = list(zip(metrics(folder / f"{name}-1"), metrics(folder / found), strict=True))
    assert len(pairs) == 7  # four steps, three validations
    for one, many in pairs:
        assert many == pytest.approx(one, rel=1e-5, abs=1e-6)
    assert scores(folder / found) == scores(folder / f"{name}-1")
    expected, got = state(folder / f"{name}-1"), state(folder / found)
    assert got.keys() == expected.keys()
    assert max(gap(got[part], tensors) for part, tensors in expected.items()) < 5e-4


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])
def test_many_processes_make_the_run_of_one_and_refuse_what_they_cannot_share(alone, number):
    runs = [arguments(alone, f"{name}-{number}", *options) for name, options in SHARED.items()]
    runs += [arguments(alone, "refused", "--demos_per_step=1", option) for option in REFUSED]
    code, printed = launch(number, "tests/processes.py", json.dumps(runs))
    assert code == 0 and printed.count("validation at step 4") == len(SHARED), printed  # one speaks
    assert all(words.replace("2", str(number)) in printed for words in REFUSED.values())
    for name in SHARED:
        assert_same_run(alone, name, f"{name}-{number}")
    mixed = [line["mixed"] for line in metrics(alone / "hpt-1", "mixed")]
    assert min(mixed) < 0.5 and max(mixed) > 0  # one group of three: two processes had no row for J_RL


@pytest.mark.slow
def test_begun_by_one_process_and_gone_on_with_by_three(alone, monkeypatch):
    at_step(monkeypatch, 3, cut_power)
    assert run(alone, "from1to3", *SHARED["bridge"])[1] == "power cut"
    code, printed = launch(3, "train.py", *arguments(alone, "from1to3", *SHARED["bridge"]), "--resume")
    assert code == 0 and "going on after step 2" in printed, printed
    assert_same_run(alone, "bridge", "from1to3")


STRUCK = (SIGTERM, 2, "interrupted: saved after step 3", 3), (SIGKILL, 3, "another process was lost", 2)


@pytest.mark.slow
@pytest.mark.parametrize("number, step, words, saved", STRUCK)
def test_one_of_two_interrupted_or_lost_ends_both_and_one_goes_on(alone, number, step, words, saved):
    name, options = f"struck{number}", SHARED["bridge"]
    spec = json.dumps([arguments(alone, name, *options), number, step])
    code, printed = launch(2, "tests/processes.py", spec)
    assert code != 0 and words in printed, printed
    assert f"going on after step {saved}" in run(alone, name, *options, "--resume")[0]
    assert_same_run(alone, "bridge", name)
