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

MANY_SAVES = TINY + "\nsteps, save_every, eval_every = 24, 1, 12\n"
SAVING = 0.4  # share of the kills that wait until a file is being written


def campaign(folder: Path, kills: int, seed: int) -> tuple[int, int, int]:
    """Kills done, how many of them hit a save, and runs that were driven to their end. Raises AssertionError
    if one of these differs in a bit."""
    (folder / "tiny.py").write_text(MANY_SAVES)
    code, _, error = run(folder, "unbroken")
    assert code == 0, error
    expected, draw, number, saves, runs = outcome(folder, "unbroken"), random.Random(seed), 0, 0, 0
    while number < kills or (folder / f"run{runs}").exists():
        name = f"run{runs}"
        resume = ["--resume"] if (folder / name / "run.json").exists() else []
        command = [sys.executable, "train.py", *arguments(folder, name, *resume)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if number < kills and strike(process, folder / name, draw):
            number += 1
            process.wait()
            saves += writing(folder / name, process.pid)
            continue
        error = process.communicate()[1].decode()
        assert process.returncode == 0, error
        assert outcome(folder, name) == expected, f"{name} differs after {number} kills"
        runs += 1
        print(
            f"{number} kills, {saves} of them while saving, {runs} runs ended the same to the bit", flush=True
        )
    return number, saves, runs


def writing(out: Path, process: int) -> bool:
    """Whether a file of the process is only half there."""
    return any(out.glob(f"*.{process}.tmp"))


def strike(process: subprocess.Popen, out: Path, draw: random.Random) -> bool:
    """SIGKILL at a random moment of this life: at any time from its start, or while a file is written. False
    if it had ended before."""
    started, wait = time.monotonic(), draw.uniform(0.0, 6.0)
    saving, skip = draw.random() < SAVING, draw.randrange(30)
    while process.poll() is None:
        time.sleep(0.0002)
        if saving and writing(out, process.pid):
            skip -= 1
        if skip < 0 if saving else time.monotonic() - started > wait:
            process.send_signal(signal.SIGKILL)
            return True
    return False


def test_five_kills_and_the_same_to_the_bit(tmp_path):
    kills, saves, runs = campaign(tmp_path, 5, seed=1)
    assert kills == 5 and saves >= 1 and runs >= 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        done = campaign(Path(where), int(sys.argv[1]), seed=0)
    print("{} kills, {} of them while saving, {} runs, all the same to the bit".format(*done))
