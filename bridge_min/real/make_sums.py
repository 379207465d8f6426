"""Additions of numbers from 1 to 99, for tiny_configs/smollm2_sums.py.

    python -m bridge_min.real.make_sums data

writes data/sums_train.jsonl (2,000) and data/sums_test.jsonl (200). No pair of numbers is in both.
"""

import itertools
import json
import random
import sys
from pathlib import Path

SHOWN = {(26, 57)}  # in the config's prompt


def line(a: int, b: int) -> str:
    solution = f"{a} + {b} = {a + b}\n#### {a + b}"
    return json.dumps({"problem": f"What is {a} + {b}?", "answer": str(a + b), "solution": solution}) + "\n"


def main(folder: Path) -> None:
    draw = random.Random(0)
    pairs = sorted(set(itertools.combinations_with_replacement(range(1, 100), 2)) - SHOWN)
    lines = [line(*draw.sample(pair, 2)) for pair in draw.sample(pairs, 2200)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sums_train.jsonl").write_text("".join(lines[:2000]))
    (folder / "sums_test.jsonl").write_text("".join(lines[2000:]))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
