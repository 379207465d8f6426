"""Which problems are learnt, from which demonstrations, and what the base model has read.

A world is a module (arith.py, logic.py) that can draw a puzzle, word it as a problem, demonstrate it and
write a document for pretraining. Here they become splits: all disjoint by puzzle, in whatever wording, and
the base never reads a validation or test puzzle. Every random choice follows from the seed. Read on in
pretrain.py and data.py.
"""

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from . import arith, logic
from .answer import reference_problem
from .config import Config, ConfigError
from .problem import Problem

WORLDS = {"arith": arith, "logic": logic}
TRIES = 50  # draws per puzzle before a world counts as too small


@dataclass(frozen=True)
class Task:
    train: list[Problem]  # the first of them have a demonstration
    val: list[Problem]
    tests: dict[str, list[Problem]]  # by the name of the suite
    demos: list[Problem]  # demos[i] is of train[i]; some are wrong, some are far from the base's style
    hidden: frozenset[Hashable]  # validation and test puzzles, which the base must not read in any wording


def load_task(config: Config) -> Task:
    """The problems of a config, the same for the same seed. Raises ConfigError if there are not enough
    different ones, or a reference answer cannot be used."""
    world, draw, seen = WORLDS[config.task], random.Random(f"{config.seed}/problems"), set()

    def take(suite: str, count: int) -> list:
        puzzles, tries = [], 0
        while len(puzzles) < count:
            puzzle, tries = world.draw(draw, config, suite), tries + 1
            if puzzle not in seen:
                seen.add(puzzle)
                puzzles.append(puzzle)
            if tries > TRIES * count:
                raise ConfigError(f"{config.task} has fewer than {count} new problems {suite}: ask for fewer")
        return puzzles

    tests = {suite: take(suite, config.test_problems) for suite in world.TESTS}
    val, train = take("", config.val_problems), take("", config.train_problems)
    hidden = frozenset(val).union(*tests.values())
    demos = [world.demonstration(draw, puzzle, draw_kind(draw, config)) for puzzle in train[: config.demos]]
    task = Task(
        train=[world.problem(puzzle) for puzzle in train],
        val=[world.problem(puzzle) for puzzle in val],
        tests={suite: [world.problem(p, suite) for p in puzzles] for suite, puzzles in tests.items()},
        demos=demos,
        hidden=hidden,
    )
    for where, problems in {"train": task.train, "val": task.val, **task.tests}.items():
        check_references(problems, f"{config.task}, {where}")
    return task


def draw_kind(draw: random.Random, config: Config) -> str:
    share = draw.random()
    if share < config.wrong_demos:
        return "wrong"
    return "far" if share < config.wrong_demos + config.far_demos else "right"


def reading(config: Config, step: int, hidden: frozenset[Hashable]) -> list[tuple[str, str]]:
    """One pretraining batch of documents (prompt, response), none of them about a puzzle in `hidden`."""
    world, draw, documents = WORLDS[config.task], random.Random(f"{config.seed}/{step}/reading"), []
    while len(documents) < config.base_batch:
        puzzle, prompt, response = world.document(draw, config)
        if puzzle not in hidden:
            documents.append((prompt, response))
    return documents


def check_references(problems: Sequence[Problem], where: str) -> None:
    """Raises ConfigError with the line (from 1) of each reference answer that the checker cannot use: every
    response to it would score 0."""
    refused = [(k, p.answer) for k, p in enumerate(problems, 1) if not p.reward(f"#### {p.answer}")]
    lines = [
        f"{where}, line {k}: the reference answer {answer!r} {reference_problem(answer) or 'is refused'}"
        for k, answer in refused
    ]
    if lines:
        raise ConfigError(
            "\n".join([*lines[:20], f"{len(lines)} of {len(problems)} references; mend or drop them"])
        )
