"""Killed at random moments, before and between its writes too, and resumed each time, a run ends where an
unbroken one does, to the bit.

    python tests/test_kills.py 100         # so many kills, over as many runs as they take
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from runs import TINY, outcome, ran, run  # noqa: E402

from bridge_min.checkpoint import saved_runs  # noqa: E402

STEPS, LIFE = 8, 450  # updates of a run; how often it touches its folder
TOUCHES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree")


def live(folder: Path, name: str, touches: int = 0, seconds: float = 0) -> int:
    """One life of a run, in a copy of this process: begun, or gone on with where there is a run. It ends by
    SIGKILL before it touches its folder for the touches-th time, or after so many seconds, or by itself.
    Returns the exit status, minus the signal's number."""
    child, count = os.fork(), iter(range(1, 1 << 30))
    if child:
        if seconds:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def before(event, arguments):
        if event in TOUCHES and f"/{name}/" in f"{arguments[0]}/" and next(count) == touches:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(before)
    sys.stderr = open(os.devnull, "w")
    try:
        error = run(folder, name, *(["--resume"] if (folder / name / "run.json").exists() else []))[1]
        os._exit(int(bool(error)))
    finally:  # no other way out: the caller goes on in the parent
        os._exit(2)


def found_at(out: Path) -> str:
    """What a kill hit, by what it left."""
    exporting = any(out.glob("model*")) or (out / f"checkpoint-{STEPS:06}").exists()
    return "saving" if any(out.glob("checkpoint-*.tmp")) else "exporting" if exporting else "training"


def campaign(folder: Path, kills: int, seed: int) -> tuple[Counter, int, int]:
    """What the kills hit, lives that went on from a checkpoint, runs that came to their end. Raises
    AssertionError if one of these differs from the unbroken one in a bit."""
    (folder / "tiny.py").write_text(TINY + f'\nsteps, table, eval_every = {STEPS}, "trained", 2\n')
    ran(folder, "first")  # makes the base, and loads all that a copy of this process needs
    began = time.monotonic()
    expected, length = outcome(ran(folder, "unbroken")), time.monotonic() - began
    draw, hits, resumed, ended = random.Random(seed), Counter(), 0, 0
    while hits.total() < kills or (folder / f"run{ended}").exists():
        out, by_time = folder / f"run{ended}", hits.total() % 2 == 1
        moment = {"seconds": draw.uniform(0.01, length)} if by_time else {"touches": draw.randint(1, LIFE)}
        resumed += bool(saved_runs(out))
        status = live(folder, out.name, **(moment if hits.total() < kills else {}))
        if status == -signal.SIGKILL:
            hits[found_at(out)] += 1
            continue
        assert status == 0 and outcome(out) == expected, f"{out.name} differs after {hits.total()} kills"
        ended += 1
        print(f"{hits.total()} kills, {ended} runs ended the same to the bit", flush=True)
    return hits, resumed, ended


@pytest.mark.slow
def test_killed_four_times_and_the_same_to_the_bit(tmp_path):
    hits, resumed, ended = campaign(tmp_path, 4, seed=2)
    assert hits.total() == 4 and hits["saving"] and resumed and ended


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        hits, resumed, ended = campaign(Path(where), int(sys.argv[1]), seed=0)
    print(f"{dict(hits)}, {resumed} lives resumed, {ended} runs, all the same to the bit")
