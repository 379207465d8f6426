"""Accuracy and pass@k of a checkpoint folder on its task's splits.

    python eval.py out/arith                               # all test suites, greedy and sampled
    python eval.py out/arith --splits=val,code --samples=32
    python eval.py out/base-0123456789ab --config=tiny_configs/arith.py --chain=7,8

The folder holds model.safetensors and config.json. The task's settings come from run.json there or from
--config, and any --key=value goes over them.
"""

import sys
from pathlib import Path

import torch

from bridge_min.checkpoint import CheckpointError, load_model
from bridge_min.config import ConfigError, load_config, require
from bridge_min.data import check_fit
from bridge_min.evaluate import score, table
from bridge_min.model import build
from bridge_min.tasks import load_task
from bridge_min.tokenizer import byte_tokenizer


def main(folder: Path, options: dict[str, str]) -> None:
    splits = options.pop("splits", "")
    own = next((folder / name for name in ("run.json", "base.json") if (folder / name).exists()), "")
    settings = options.pop("config", own)
    require(bool(settings), f"{folder} has no run.json: say which task by --config=")
    config = load_config(settings, [f"--{key}={value}" for key, value in options.items()])
    torch.set_num_threads(config.threads)
    model_config, theta = load_model(folder)
    task, tokenizer, scores = load_task(config), byte_tokenizer(), {}
    check_fit(config, model_config, tokenizer, task)
    known = {"train": task.train, "val": task.val, **task.tests}
    for split in splits.split(",") if splits else task.tests:
        require(split in known, f"--splits: {split!r} is not one of {', '.join(known)}")
        problems = known[split]
        scores[f"{split}, {len(problems)} problems"] = score(
            config, build(model_config), theta, tokenizer, problems
        )
    print(table(scores))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    sys.stdout.reconfigure(errors="replace")
    try:
        for argument in sys.argv[2:]:
            require(
                argument.startswith("--") and "=" in argument, f"{argument!r} is not of the form --key=value"
            )
        pairs = [argument.removeprefix("--").partition("=") for argument in sys.argv[2:]]
        main(Path(sys.argv[1]), {key: value for key, _, value in pairs})
    except (ConfigError, CheckpointError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
