"""Which problems are learnt, from which demonstrations, and what the base model has read.

A world is a module (arith.py, logic.py) that can draw a puzzle, word it as a problem, demonstrate it and
write a document for pretraining. Here they become splits: all disjoint by puzzle, in whatever wording, and
the base never reads a validation or test puzzle. Files of problems (jsonl.py) become splits that are disjoint
by text; what a checkpoint has read, nobody knows. Every random choice follows from the seed. Read on in
pretrain.py and data.py.
"""

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import arith, logic
from .answer import reference_problem
from .config import Config, ConfigError, require
from .jsonl import read_problems
from .problem import Problem

WORLDS = {"arith": arith, "logic": logic}
TRIES = 50  # draws per puzzle before a world counts as too small


@dataclass(frozen=True)
class Task:
    train: list[Problem]  # the first of them have a demonstration
    val: list[Problem]
    tests: dict[str, list[Problem]]  # by the name of the suite
    demos: list[Problem]  # demos[i] is of train[i]; a toy world's may be wrong, or far from the base's style
    hidden: frozenset[Hashable]  # validation and test puzzles, which the base must not read in any wording


def load_task(config: Config) -> Task:
    """The problems of a config, the same for the same seed. Raises ConfigError if there are not enough
    different ones, or a reference answer cannot be used."""
    if config.task == "jsonl":
        return load_files(config)
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


def load_files(config: Config) -> Task:
    """The problems of a config's files. The train file is shuffled: the first problems are for validation,
    the next with a solution are demonstrated. Raises ConfigError as above, and for a file it cannot use."""
    require("{problem}" in config.prompt, f"prompt = {config.prompt!r} must contain {{problem}}")
    require(bool(config.train_file), "train_file is empty: name a file of problems in the folder `data`")
    require(
        bool(config.test_files) or config.table == "none",
        "test_files is empty: name a test suite, or set table = 'none' to do without",
    )
    suites = {Path(name).stem: read(config, name) for name in config.test_files}
    require(len(suites) == len(config.test_files), f"two of test_files = {config.test_files} share a name")
    lines = read(config, config.train_file)
    fresh = unlike(lines, {same_text(p) for problems in suites.values() for p in problems})
    random.Random(f"{config.seed}/problems").shuffle(fresh)
    val, left = fresh[: config.val_problems], fresh[config.val_problems :]
    solved = [problem for problem in left if problem.solution]
    needed = [("train_problems", left, "problems"), ("demos", solved, "solutions")]
    for key, found, kind in needed[: 1 if config.method == "grpo" else 2]:
        asked = getattr(config, key)
        require(
            asked <= len(found),
            f"{config.train_file} has {len(found)} {kind} besides those of val_problems = "
            f"{config.val_problems}: {key} = {asked} is more",
        )
    train = list(dict.fromkeys([*solved[: config.demos], *left]))[: config.train_problems]
    demos = train[: config.demos]
    print(
        f"{config.train_file}: {len(lines)} lines, {len(lines) - len(fresh)} dropped (repeated, or in a test "
        f"file); {len(val)} for validation, {len(train)} to train on, {len(demos)} of them demonstrated, "
        f"{sum(not demo.reward(demo.solution) for demo in demos)} by a solution that earns no reward"
    )
    return Task(train, val, {name: some(config, name, suites[name]) for name in suites}, demos, frozenset())


def read(config: Config, name: str) -> list[Problem]:
    path = Path(config.data) / name
    problems = read_problems(path, config.prompt)
    check_references(problems, str(path))
    return problems


def unlike(problems: list[Problem], seen: set[str]) -> list[Problem]:
    """The first of each text that is not in `seen`, which grows by them."""
    fresh = []
    for problem in problems:
        if (text := same_text(problem)) not in seen:
            seen.add(text)
            fresh.append(problem)
    return fresh


def same_text(problem: Problem) -> str:
    """Equal for problems whose texts differ in white space only."""
    return " ".join(problem.prompt.split())


def some(config: Config, suite: str, problems: list[Problem]) -> list[Problem]:
    """A test suite, or test_problems of it at random if it has more."""
    if len(problems) <= config.test_problems:
        return problems
    return random.Random(f"{config.seed}/{suite}").sample(problems, config.test_problems)


def draw_kind(draw: random.Random, config: Config) -> str:
    share = draw.random()
    if share < config.wrong_demos:
        return "wrong"
    return "far" if share < config.wrong_demos + config.far_demos else "right"


def reading(config: Config, step: int, hidden: frozenset[Hashable]) -> list[tuple[str, str]]:
    """One pretraining batch of documents (prompt, response), none of them about a puzzle in `hidden`."""
    require(config.task in WORLDS, f"task = {config.task!r} has no documents to pretrain on: set base")
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
