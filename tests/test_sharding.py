"""Many processes make the run of one, whatever number of them resumes it; and one that is lost ends all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_train import ROOT, TINY, final, run, scores

from bridge_min.sharding import (
    anyone,
    everywhere,
    gathered,
    own,
    rank,
    spread,
    summed,
    together,
    wait,
    whole,
    world,
)

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def launch(processes, script, *arguments):
    command = [*LAUNCH, f"--nproc_per_node={processes}", str(script), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def train_with(processes, folder, name, *options):
    process = launch(processes, "train.py", str(folder / "tiny.py"), f"--out={folder / name}", *options)
    printed, _ = process.communicate(timeout=240)
    return process.returncode, printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of one process, 20 steps; its base is there for the others."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "tiny.py").write_text(TINY + "\nsteps, save_every = 20, 10\n")
    code, _, error = run(folder, "one")
    assert code == 0, error
    return folder


def metrics(folder, name):
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(folder, name):
    """The same responses, so rewards and lengths to the digit; losses within 1e-5; the same table."""
    pairs = list(zip(metrics(folder, "one"), metrics(folder, name), strict=True))
    assert len([a for a, _ in pairs if "sft_loss" in a]) == 20
    for a, b in pairs:
        assert a.keys() == b.keys()
        for key in a:
            exact = key in ("step", "reward", "finished", "length", "mixed") or key.startswith("val_")
            assert b[key] == (a[key] if exact else pytest.approx(a[key], rel=1e-5, abs=1e-5)), (
                a["step"],
                key,
            )
        assert "sft_loss" not in a or b["sft_loss"] == pytest.approx(a["sft_loss"], rel=1e-5)
    assert scores(folder, name) == scores(folder, "one")
    tensors, others = final(folder, "one"), final(folder, name)
    assert tensors.keys() == others.keys()
    for key, value in tensors.items():
        assert float((value - others[key]).abs().max()) < 1e-4, key


def test_one_process_shares_nothing():
    x = torch.rand(3, 2)
    assert (world(), rank()) == (1, 0) and own(3).tolist() == [0, 1, 2]
    assert spread(x) is everywhere(x) is whole(x) is together(x, 3) is gathered({"x": x})["x"] is x
    stats = {"x": x}
    assert summed(stats) is stats and anyone(True) and not anyone(False)
    wait()


def test_slices_shares_gradients_and_checkpoints_of_three_processes(tmp_path):
    process = launch(3, "tests/processes.py", str(tmp_path))
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0 and "all is the same" in printed, printed


def test_two_processes_make_the_run_of_one(folder):
    code, printed = train_with(2, folder, "two")
    assert code == 0, printed
    assert printed.count("validation at step 20") == 1  # one speaks
    assert_same_run(folder, "two")


@pytest.mark.parametrize("first, then", [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(folder, first, then):
    """Begun and stopped by SIGTERM after some steps; the rest by more or by fewer."""
    name = f"from{first}on{then}"
    process = launch(first, "train.py", str(folder / "tiny.py"), f"--out={folder / name}")
    stop_after(process, folder / name, 4)
    assert "SIGTERM: finishing this step" in process.communicate(timeout=120)[0]
    done = [m["step"] for m in metrics(folder, name) if "sft_loss" in m][-1]
    assert 4 <= done < 20 and (folder / name / f"checkpoint-{done:06}.safetensors").exists()
    code, printed = train_with(then, folder, name, "--resume")
    assert code == 0, printed
    assert_same_run(folder, name)


def stop_after(process, out, steps, number=signal.SIGTERM, whom=lambda process: process.pid):
    wait_for(process, out, steps)
    os.kill(whom(process), number)


def wait_for(process, out, steps):
    path = out / "metrics.jsonl"
    while process.poll() is None and not (path.exists() and path.read_text().count("sft_loss") >= steps):
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[0]


def workers(process):
    """The processes that torchrun has started."""
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and parent(path) == process.pid
    ]


def parent(path):
    try:
        return int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return None


def test_a_lost_process_ends_the_others_and_nothing_is_lost(folder):
    process = launch(2, "train.py", str(folder / "tiny.py"), f"--out={folder / 'lost'}", "--save_every=2")
    stop_after(process, folder / "lost", 5, signal.SIGKILL, lambda p: max(workers(p)))
    printed, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and "another process was lost" in printed, printed
    assert "go on with --resume" in printed
    code, printed = train_with(2, folder, "lost", "--resume")
    assert code == 0, printed
    assert_same_run(folder, "lost")


def test_what_cannot_be_shared_is_refused(folder):
    code, printed = train_with(2, folder, "unrolled", "--meta=unrolled")
    assert code != 0 and "take one process" in printed and not (folder / "unrolled").exists()
