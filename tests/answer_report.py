"""The answer checker on labelled cases and gold answers, beside Math-Verify where that is installed.

    python tests/answer_report.py DATA

DATA holds answer_cases.jsonl, math500.jsonl, ... as shared with this project.

Prints right and falsely accepted cases per kind, the cases that are wrong, the time per check (both checkers
in turn, three times), import times, gold answers that cannot be used, and pairs of different gold answers
that count as equal. Math-Verify: pip install .[answers]
"""

import importlib.util
import json
import logging
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bridge_min import answer
from bridge_min.answer import is_correct, reference_problem

GOLDS = ("math500", "aime24", "amc23", "minerva_math", "olympiadbench", "gsm8k_test")
Checker = Callable[[str, str], bool]


def checkers() -> dict[str, Checker]:
    found: dict[str, Checker] = {"bridge_min": is_correct}
    if importlib.util.find_spec("math_verify"):
        from math_verify import parse, verify

        logging.disable(logging.CRITICAL)  # it logs what it cannot parse

        def math_verify(response: str, gold: str) -> bool:
            return bool(
                verify(parse(gold if "$" in gold or "\\boxed" in gold else f"${gold}$"), parse(response))
            )

        found["math_verify"] = math_verify
    return found


def main(folder: Path) -> None:
    rows = {name: [json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")]
            for name in ("answer_cases", *GOLDS)}  # fmt: skip
    cases, found = rows["answer_cases"], checkers()
    said = {
        name: [check(case["response"], case["answer"]) for case in cases] for name, check in found.items()
    }
    kinds = sorted({case["kind"] for case in cases})
    print("kind".ljust(14), "cases", *(f"{name}: right, falsely accepted" for name in found))
    for kind in [*kinds, "all"]:
        at = [k for k, case in enumerate(cases) if kind in (case["kind"], "all")]
        right = {name: sum(said[name][k] == cases[k]["expect"] for k in at) for name in found}
        wrong = {name: sum(said[name][k] > cases[k]["expect"] for k in at) for name in found}
        print(kind.ljust(14), f"{len(at):5}", *(f"{right[name]:10}{wrong[name]:4}" for name in found))
    for k, case in enumerate(cases):
        if said["bridge_min"][k] != case["expect"]:
            print(f"line {k + 1}: {case['answer']!r} expects {case['expect']}: {case['response'][-80:]!r}")

    for name, check in list(found.items()) * 3:
        answer.read.cache_clear()
        seconds = []
        for case in cases:
            start = time.perf_counter()
            check(case["response"], case["answer"])
            seconds.append(time.perf_counter() - start)
        seconds.sort()
        median, last = statistics.median(seconds), seconds[int(0.99 * len(seconds))]
        print(f"{name}: median {median * 1e3:.3f} ms, 99th percentile {last * 1e3:.2f} ms per check")
    for module in ("pass", "import bridge_min.answer", *(["import math_verify"] if len(found) > 1 else [])):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", module], check=True)
        print(f"{time.perf_counter() - start:.2f} s: python -c {module!r}")

    for name in GOLDS:
        problems = [(k, p) for k, row in enumerate(rows[name], 1) if (p := reference_problem(row["answer"]))]
        print(f"{name}: {len(rows[name])} gold answers, {len(problems)} not usable", *problems)
    golds, draw = sorted({row["answer"] for name in GOLDS for row in rows[name]}), random.Random(7)
    pairs = [draw.sample(golds, 2) for _ in range(20_000)]
    equal = [(a, b) for a, b in pairs if is_correct(f"\\boxed{{{a}}}", b)]
    print(f"{len(pairs)} random pairs of {len(golds)} different gold answers: {len(equal)} equal", *equal)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
