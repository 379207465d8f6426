"""Killed at random moments, also while it saves, and resumed each time, a run ends where an unbroken one
does.

python tests/test_kills.py 100         # the long form: so many kills, over as many runs as they take
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from test_train import TINY, arguments, outcome, run  # noqa: E402

from bridge_min.checkpoint import saved_runs  # noqa: E402

MANY_SAVES = TINY + "\nsteps, save_every, eval_every = 24, 1, 12\n"
REPORT = "{} kills, {} of them while saving, {} lives resumed, {} runs ended, the same to the bit"
LIFE = 1.5  # seconds from its first word, within which a life is ended


def campaign(folder: Path, kills: int, seed: int) -> tuple[int, int, int, int]:
    """Kills done, how many of them hit a checkpoint half written, how many lives went on from a checkpoint,
    and runs that were driven to their end. Raises AssertionError if one of these differs in a bit."""
    (folder / "tiny.py").write_text(MANY_SAVES)
    code, _, error = run(folder, "unbroken")
    assert code == 0, error
    expected, draw = outcome(folder, "unbroken"), random.Random(seed)
    number = saves = resumed = runs = 0
    while number < kills or (folder / f"run{runs}").exists():
        out = folder / f"run{runs}"
        resume = ["--resume"] if (out / "run.json").exists() else []
        resumed += bool(saved_runs(out))
        command = [sys.executable, "train.py", *arguments(folder, out.name, *resume)]
        with open(folder / "printed", "w") as printed:
            process = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT)
        if number < kills and strike(process, folder / "printed", out, number % 2 == 0, draw):
            process.wait()
            number += 1
            saves += writing(out, process.pid)
            continue
        assert process.wait() == 0, (folder / "printed").read_text()
        assert outcome(folder, out.name) == expected, f"{out.name} differs after {number} kills"
        runs += 1
        print(
            f"{number} kills, {saves} of them while saving, {runs} runs ended the same to the bit", flush=True
        )
    return number, saves, resumed, runs


def writing(out: Path, process: int) -> bool:
    """Whether a checkpoint of the process is only half there."""
    return any(out.glob(f"checkpoint-*.{process}.tmp"))


def strike(process: subprocess.Popen, printed: Path, out: Path, saving: bool, draw: random.Random) -> bool:
    """SIGKILL at a random moment after a life's first word, or while a checkpoint is written. False if it had
    ended before."""
    wait, skip, began = draw.uniform(0.0, LIFE), draw.randrange(40), None
    while process.poll() is None:
        time.sleep(0.0002)
        if began is None and printed.stat().st_size:
            began = time.monotonic()
        if saving and writing(out, process.pid):
            skip -= 1
        if skip < 0 if saving else began is not None and time.monotonic() - began > wait:
            process.send_signal(signal.SIGKILL)
            return True
    return False


def test_five_kills_and_the_same_to_the_bit(tmp_path):
    kills, saves, resumed, runs = campaign(tmp_path, 5, seed=1)
    assert kills == 5 and saves >= 1 and resumed >= 2 and runs >= 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        done = campaign(Path(where), int(sys.argv[1]), seed=0)
    print(
        "{} kills, {} of them while saving, {} lives resumed, {} runs, all the same to the bit".format(*done)
    )
