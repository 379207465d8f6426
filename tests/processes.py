"""What test_scale.py runs under torchrun, in every process.

    torchrun --nproc_per_node=3 tests/processes.py SPEC

SPEC is JSON: [[arguments of train.py], ...], for one run after the other and what was refused; or [arguments,
signal, step], for one run by the command line, to whose second process the signal comes in the middle of the
step after `step` updates.
"""

import json
import os
import sys

import train
from bridge_min import tasks
from bridge_min.config import ConfigError, load_config
from bridge_min.scale.processes import joined


def several(runs):
    with joined("cpu"):
        for path, *options in runs:
            try:
                train.train(load_config(path, options))
            except ConfigError as error:
                print(f"refused: {error}")


def struck(arguments, signal, step):
    def roll_out(job, number, policy, original=tasks.roll_out):
        if number == step and job.runtime.rank == 1:
            os.kill(os.getpid(), signal)
        return original(job, number, policy)

    tasks.roll_out = roll_out
    train.cli(arguments)


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    struck(*spec) if type(spec[1]) is int else several(spec)
