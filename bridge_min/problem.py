"""A problem, and what makes a response to it right. Read on in tasks.py, and where problems come from:
the worlds arith.py and logic.py, and files, jsonl.py."""

from collections.abc import Callable
from dataclasses import dataclass

KINDS = ("right", "wrong", "far")  # of a demonstration: sound, with a false step, in another style


@dataclass(frozen=True)
class Problem:
    """A prompt, the reference answer, and a response that shows the work."""

    prompt: str
    answer: str
    solution: str  # empty if there is none
    check: Callable[[str, str], bool]  # (response, reference answer) -> is it right?
    kind: str = "right"  # one of KINDS

    def reward(self, response: str) -> float:
        """1.0 if the response, any string, gives the reference answer, else 0.0."""
        return float(self.check(response, self.answer))
