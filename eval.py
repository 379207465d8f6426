"""Accuracy and pass@k of a checkpoint folder on its task's splits.

    python eval.py out/arith                               # all test suites, greedy and sampled
    python eval.py out/arith --splits=val,code --samples=32
    python eval.py out/base-0123456789ab --config=tiny_configs/arith.py --chain=7,8
    python eval.py models/qwen2.5-3b --config=tiny_configs/qwen2_5_3b_math.py --splits=math500,amc23

The folder holds model.safetensors, or several, and config.json; where that is a checkpoint, no toy, also
tokenizer.json. The task's settings come from run.json there or from --config, and any --key=value goes over
them. With several splits a second table has a column for each, and the mean.
"""

import sys
from pathlib import Path

import torch

from bridge_min.checkpoint import CheckpointError
from bridge_min.config import ConfigError, load_config, require
from bridge_min.data import check_fit
from bridge_min.evaluate import across, score, table
from bridge_min.pretrained import load_pretrained, read_config
from bridge_min.tasks import load_task
from bridge_min.tokenizer import TokenizerError, byte_tokenizer, load_tokenizer


def main(folder: Path, options: dict[str, str]) -> None:
    splits = options.pop("splits", "")
    own = next((folder / name for name in ("run.json", "base.json") if (folder / name).exists()), "")
    settings = options.pop("config", own)
    require(bool(settings), f"{folder} has no run.json: say which task by --config=")
    config = load_config(settings, [f"--{key}={value}" for key, value in options.items()])
    torch.set_num_threads(config.threads)
    task, toy = load_task(config), not config.base and not (folder / "tokenizer.json").exists()
    known = {"train": task.train, "val": task.val, **task.tests}
    chosen = splits.split(",") if splits else list(task.tests)
    for split in chosen:
        require(split in known, f"--splits: {split!r} is not one of {', '.join(known)}")
    require(bool(chosen), f"there is no test suite: choose by --splits= from {', '.join(known)}")
    tokenizer = byte_tokenizer() if toy else load_tokenizer(folder, config.end)
    check_fit(config, read_config(folder), tokenizer, task)
    model, theta = load_pretrained(folder, getattr(torch, config.dtype), config.device)
    scores = {}
    for split in chosen:
        print(f"{split}, {len(known[split])} problems", file=sys.stderr)
        scores[split] = score(config, model, theta, tokenizer, known[split])
    print(table({f"{split}, {len(known[split])} problems": scores[split] for split in scores}))
    if len(scores) > 1:
        print(f"\n{across(scores)}")


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
    except (ConfigError, CheckpointError, TokenizerError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
