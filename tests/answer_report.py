"""The answer checker on labelled cases and gold answers, beside Math-Verify where that is installed.

    python tests/answer_report.py DATA

DATA holds answer_cases.jsonl, math500.jsonl, ... as shared with this project.

Prints right and falsely accepted cases of each kind, the cases that are wrong, the time for a check (both
checkers in turn, three times) and for the import, gold answers that cannot be used, and pairs of different
gold answers that count as equal. Math-Verify: pip install .[answers]. Read on in test_answer.py.
"""

import importlib.util
import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bridge_min import answer

GOLDS = ("math500", "aime24", "amc23", "minerva_math", "olympiadbench", "gsm8k_test")


def checkers() -> dict[str, Callable[[str, str], bool]]:
    found: dict[str, Callable[[str, str], bool]] = {"bridge_min": answer.is_correct}
    if importlib.util.find_spec("math_verify"):
        from math_verify import parse, verify

        logging.disable(logging.CRITICAL)  # it logs what it cannot parse

        def math_verify(response: str, gold: str) -> bool:
            marked = gold if "$" in gold or "\\boxed" in gold else f"${gold}$"
            return bool(verify(parse(marked), parse(response)))

        found["math_verify"] = math_verify
    return found


def report_cases(cases: list[dict], found: dict[str, Callable[[str, str], bool]]) -> None:
    print("kind".ljust(14), "cases", *(f"{name}: right, falsely accepted" for name in found))
    said = {name: [check(c["response"], c["answer"]) for c in cases] for name, check in found.items()}
    for kind in [*sorted({case["kind"] for case in cases}), "all"]:
        at = [k for k, case in enumerate(cases) if kind in (case["kind"], "all")]
        right = {name: sum(said[name][k] == cases[k]["expect"] for k in at) for name in found}
        wrong = {name: sum(said[name][k] > cases[k]["expect"] for k in at) for name in found}
        print(kind.ljust(14), f"{len(at):5}", *(f"{right[name]:10}{wrong[name]:4}" for name in found))
    for k, case in enumerate(cases):
        if said["bridge_min"][k] != case["expect"]:
            print(f"line {k + 1}: {case['answer']!r} expects {case['expect']}: {case['response'][-80:]!r}")


def report_times(cases: list[dict], found: dict[str, Callable[[str, str], bool]]) -> None:
    for name, check in [*found.items()] * 3:
        answer.read.cache_clear()
        ticks = [time.perf_counter()]
        for case in cases:
            check(case["response"], case["answer"])
            ticks.append(time.perf_counter())
        spent = sorted(1e3 * (after - before) for before, after in pairwise(ticks))
        median, last = spent[len(spent) // 2], spent[int(0.99 * len(spent))]
        print(f"{name}: median {median:.3f} ms, 99th percentile {last:.2f} ms per check")
    for module in ("sys", "bridge_min.answer", *(["math_verify"] if len(found) > 1 else [])):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, cwd=sys.path[0])
        print(f"{time.perf_counter() - start:.2f} s: import {module}")


def report_golds(golds: dict[str, list[str]]) -> None:
    for name, answers in golds.items():
        problems = [(k, p) for k, gold in enumerate(answers, 1) if (p := answer.reference_problem(gold))]
        print(f"{name}: {len(answers)} gold answers, {len(problems)} not usable", *problems)
    different, draw = sorted({gold for answers in golds.values() for gold in answers}), random.Random(7)
    pairs = [draw.sample(different, 2) for _ in range(20_000)]
    equal = [(a, b) for a, b in pairs if answer.is_correct(f"\\boxed{{{a}}}", b)]
    print(f"{len(pairs)} random pairs of {len(different)} different gold answers: {len(equal)} equal", *equal)


def main(folder: Path) -> None:
    def rows(name: str) -> list[dict]:
        return [json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")]

    cases, found = rows("answer_cases"), checkers()
    report_cases(cases, found)
    report_times(cases, found)
    report_golds({name: [row["answer"] for row in rows(name)] for name in GOLDS})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
