"""Problems, demonstrations and what the base model reads: what is learnt, and from whom.

**arith**: sums of several numbers, such as 5-4+5-3+2. Writing the steps helps (a step is one small sum),
guessing the result does not. Every random choice follows from the seed; splits are disjoint by problem, and
the base model never reads a validation or test problem. Read on in pretrain.py and rollout.py.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .answer import extract_answer, is_correct, reference_problem
from .config import Config, ConfigError

SLIPS = (-3, -2, -1, 1, 2, 3)  # by how much a wrong step of a demonstration is off


@dataclass(frozen=True)
class Problem:
    """A prompt, the reference answer, and a response that shows the work (in a demonstration perhaps a wrong
    one)."""

    prompt: str
    answer: str
    solution: str

    def reward(self, response: str) -> float:
        """1.0 if the response, any string, gives the reference answer as a plain number, else 0.0. The
        question itself, 7+5-4, has the right value too."""
        found = extract_answer(response) or ""
        plain = found.isascii() and found.removeprefix("-").isdigit()
        return float(plain and is_correct(response, self.answer))


@dataclass(frozen=True)
class Task:
    train: list[Problem]
    val: list[Problem]
    test: list[Problem]
    demos: list[Problem]  # some of train; a share of the solutions is wrong


def check_references(problems: Sequence[Problem], where: str) -> None:
    """Raises ConfigError with the line (from 1) of each reference answer that the checker cannot use: every
    response to it would score 0."""
    wrong = [(k, p.answer, reference_problem(p.answer)) for k, p in enumerate(problems, 1)]
    lines = [f"{where}, line {k}: the reference answer {answer!r} {why}" for k, answer, why in wrong if why]
    if lines:
        raise ConfigError(
            "\n".join([*lines[:20], f"{len(lines)} of {len(problems)} references; mend or drop them"])
        )


def load_task(config: Config) -> Task:
    """The problems of a config, the same for the same seed. Raises ConfigError if there are not enough
    different ones, or a reference answer cannot be used."""
    draw = random.Random(f"{config.seed}/problems")
    wanted = config.train_problems + config.val_problems + config.test_problems
    terms: dict[tuple[int, ...], None] = {}  # a set that keeps its order
    for _ in range(20 * wanted):
        terms[draw_terms(draw, config, draw.randint(*config.terms))] = None
        if len(terms) == wanted:
            break
    else:
        raise ConfigError(
            f"terms = {config.terms}, largest = {config.largest} give fewer than {wanted} problems"
        )
    problems = [(t, Problem(question(t), str(sum(t)), worked(t))) for t in terms]
    check_references([p for _, p in problems], "arith")
    test, rest = problems[: config.test_problems], problems[config.test_problems :]
    val, train = rest[: config.val_problems], rest[config.val_problems :]
    demos = [demonstration(draw, t, config.wrong_demos) for t, _ in draw.sample(train, config.demos)]
    return Task([p for _, p in train], [p for _, p in val], [p for _, p in test], demos)


def demonstration(draw: random.Random, terms: Sequence[int], wrong: float) -> Problem:
    """An expert's solution; with probability `wrong` one step is off, and all that follows from it."""
    slip = draw.choice(SLIPS) if draw.random() < wrong else 0
    return Problem(question(terms), str(sum(terms)), worked(terms, draw.randrange(1, len(terms)), slip))


def reading(config: Config, step: int, held_out: set[str]) -> list[tuple[str, str]]:
    """One pretraining batch of documents (prompt, response): many single steps, some many-term sums with a
    bare answer, a few with worked steps. Prompts in `held_out` are left out."""
    draw, documents = random.Random(f"{config.seed}/{step}/reading"), []
    while len(documents) < config.base_batch:
        kind = draw.random()
        single = kind >= config.worked_share + config.direct_share
        terms = draw_terms(draw, config, 2 if single else draw.randint(*config.terms))
        if question(terms) not in held_out:
            response = worked(terms) if single or kind < config.worked_share else f"#### {sum(terms)}"
            documents.append((question(terms), response))
    return documents


def draw_terms(draw: random.Random, config: Config, count: int) -> tuple[int, ...]:
    """`count` numbers whose partial sums all lie in 0..largest; all but the first are -9..9 and not 0."""
    terms = [draw.randint(0, config.largest)]
    while len(terms) < count:
        term = draw.choice((1, -1)) * draw.randint(1, 9)
        if 0 <= sum(terms) + term <= config.largest:
            terms.append(term)
    return tuple(terms)


def question(terms: Sequence[int]) -> str:
    """(7, 5, -4) -> "7+5-4\\n"."""
    return f"{terms[0]}" + "".join(f"{term:+d}" for term in terms[1:]) + "\n"


def worked(terms: Sequence[int], wrong_step: int = 0, slip: int = 0) -> str:
    """(7, 5, -4) -> "7+5=12\\n12-4=8\\n#### 8"; step `wrong_step` (from 1) is off by `slip`."""
    total, lines = terms[0], ""
    for step, term in enumerate(terms[1:], 1):
        result = total + term + (slip if step == wrong_step else 0)
        lines += f"{total}{term:+d}={result}\n"
        total = result
    return f"{lines}#### {total}"
