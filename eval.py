"""Accuracy and pass@k of a model on its task's splits.

    python eval.py out/arith                               # a run's model on all test suites
    python eval.py out/arith --splits=val,code --samples=32
    python eval.py out/base-0123456789ab --test_problems=50      # a toy's base
    python eval.py models/qwen2.5-3b --config=tiny_configs/qwen2_5_3b_math.py --splits=math500,amc23

Settings are those of the run, or of --config; any --key=value goes over them. The numbers are those of the
run's own table wherever the settings are, since the seed gives the same problems and the same random numbers.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bridge_min import base
from bridge_min.checkpoint import CheckpointError, check_shapes
from bridge_min.config import ConfigError, ModelConfig, load_config, require
from bridge_min.evaluate import heading, line, score_suites
from train import load_base, open_job


def main(folder: Path, splits: str, settings: str, overrides: Sequence[str]) -> None:
    """Prints the table. Raises ConfigError, CheckpointError or TokenizerError."""
    require(
        folder.is_dir(), f"{folder} is no folder: give a run's, a toy's base, or one in Hugging Face format"
    )
    at = folder / "model" if (folder / "run.json").exists() else folder
    require(at.is_dir(), f"{folder} holds no model yet: its run has not ended; go on by train.py --resume")
    own = next((path for path in (folder / "run.json", at / "about.json") if path.exists()), "")
    require(settings or own, f"{folder} has no run.json: say by --config= which task it is for")
    config = load_config(settings or own, overrides)
    if (at / "about.json").exists():  # a toy
        job, W = open_job(config), {k: v.to(config.device) for k, v in base.load_model(at)[1].items()}
        check_shapes(at, W, dict(job.runtime.model.named_parameters()))
    else:  # whichever base the settings name, that in the folder is asked
        job = open_job(replace(config, base=str(at), model=ModelConfig()))
        W = load_base(job)
    known = {"train": job.task.train, "val": job.task.val, **job.task.tests}
    chosen = splits.split(",") if splits else list(job.task.tests)
    require(chosen, f"there is no test suite: choose by --splits= from {', '.join(known)}")
    for split in chosen:
        require(split in known, f"--splits: {split!r} is not one of {', '.join(known)}")
    scores = score_suites(job, job.runtime.acting(W, {}), {split: known[split] for split in chosen})
    print(heading(chosen, config.samples), line(str(at), scores), sep="\n")


def cli(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        sys.exit(__doc__)
    sys.stdout.reconfigure(errors="replace")
    ours, rest = {"splits": "", "config": ""}, []
    for argument in arguments[1:]:
        key, _, value = argument.removeprefix("--").partition("=")
        ours.update({key: value}) if key in ours else rest.append(argument)
    try:
        main(Path(arguments[0]), ours["splits"], ours["config"], rest)
    except (ConfigError, CheckpointError, FloatingPointError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    cli(sys.argv[1:])
