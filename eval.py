"""Accuracy and pass@k of a checkpoint folder on its task's splits.

    python eval.py out/arith                               # the test split, greedy and sampled
    python eval.py out/arith --splits=val,test --samples=32
    python eval.py out/base-0123456789ab --config=tiny_configs/arith.py --terms=7,8

The folder holds model.safetensors and config.json. The task's settings come from run.json there or from
--config, and any --key=value goes over them.
"""

import sys
from pathlib import Path

import torch

from bridge_min.checkpoint import CheckpointError, load_model
from bridge_min.config import ConfigError, load_config
from bridge_min.evaluate import score, table
from bridge_min.model import build
from bridge_min.tasks import load_task
from bridge_min.tokenizer import byte_tokenizer

SPLITS = ("train", "val", "test")


def main(folder: Path, options: dict[str, str]) -> None:
    splits = options.pop("splits", "test").split(",")
    settings = Path(options.pop("config", folder / "run.json"))
    config = load_config(settings, [f"--{key}={value}" for key, value in options.items()])
    torch.set_num_threads(config.threads)
    model_config, theta = load_model(folder)
    task, tokenizer, scores = load_task(config), byte_tokenizer(), {}
    for split in splits:
        if split not in SPLITS:
            raise ConfigError(f"--splits: {split!r} is not one of {', '.join(SPLITS)}")
        problems = getattr(task, split)
        scores[f"{split}, {len(problems)} problems"] = score(
            config, build(model_config), theta, tokenizer, problems
        )
    print(table(scores))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        arguments = [argument.removeprefix("--").partition("=") for argument in sys.argv[2:]]
        main(Path(sys.argv[1]), {key: value for key, _, value in arguments})
    except (ConfigError, CheckpointError) as error:
        sys.exit(f"error: {error}")
