"""The logic world: knights and knaves, who tells the truth and who lies, from what they say of one another.

    B: D lies            B+ D- C=B+ B-      B true? So D lies, so C is the same as B, true: so B lies!
    D: C unlike B        B- D+ C/B+         B lies? So D is true, so C is unlike B, true.
    C: B lies            #### B- D+ C+

Three to five people, one claim each about the next one, and exactly one way to be consistent. Suppose that
the first speaker is true (`+`) and follow the claims round; if the last one says otherwise, the first speaker
lies (`-`), and all follows again. Each step is small; guessing the whole is not. The base reads single steps,
guesses, and worked puzzles that are mostly small: large ones are left to post-training. Read on in tasks.py.
"""

from collections.abc import Sequence
from itertools import count, product
from random import Random
from typing import NamedTuple

from .config import Config
from .problem import Problem

TESTS = ("3 people", "4 people", "5 people")  # names of the test suites
COMPARED = 0.35  # share of the claims that compare, where there is someone to compare with, 0..1
READING = (3, 2, 1)  # how often the base reads a puzzle of each size, in proportion
NAMES = "ABCDEFGH"
ROLES = {"+": True, "true": True, "knight": True, "-": False, "lies": False, "liar": False, "knave": False}
SPACED = str.maketrans({",": " ", ";": " ", ":": " ", "+": " + ", "-": " - "})
LEAPS = (  # what a demonstration says that is far from the base's steps
    "Of all the ways it could be, just one is free of contradiction, with {} to blame.",
    "It all fits together as soon as one sees that whatever {} might say is false.",
    "By elimination, there can be no other liars here than {}.",
)


class Claim(NamedTuple):
    """`about` is the same as `other`, or unlike. Without an `other`: `about` is true, or lies."""

    speaker: str
    about: str
    other: str
    same: bool


Puzzle = tuple[Claim, ...]  # each about the next one's speaker, the last about the first
Roles = dict[str, bool]  # who is true


def draw(random: Random, config: Config, suite: str = "") -> Puzzle:
    """A puzzle with exactly one solution, of as many people as the suite says, else of 3 to 5."""
    size = int(suite.split()[0]) if suite else random.randint(3, 5)
    while True:
        people, claims = random.sample(NAMES, size), []
        for k, speaker in enumerate(people):
            about = people[(k + 1) % size]
            known = [name for name in people[:k] if name != about]
            other = random.choice(known) if known and random.random() < COMPARED else ""
            claims.append(Claim(speaker, about, other, flip(random)))
        if len(solutions(claims)) == 1:
            return tuple(claims)


def solutions(claims: Sequence[Claim]) -> list[Roles]:
    """Every way in which the claims of those who are true, and of no one else, are the case."""
    people = [claim.speaker for claim in claims]
    ways = (dict(zip(people, way, strict=True)) for way in product((True, False), repeat=len(people)))
    return [roles for roles in ways if all(holds(claim, roles) == roles[claim.speaker] for claim in claims)]


def holds(claim: Claim, roles: Roles) -> bool:
    return (roles[claim.about] == roles.get(claim.other, True)) == claim.same


def question(claims: Sequence[Claim]) -> str:
    return "".join(f"{claim.speaker}: {spoken(claim)}\n" for claim in claims)


def spoken(claim: Claim) -> str:
    if claim.other:
        return f"{claim.about} {'same as' if claim.same else 'unlike'} {claim.other}"
    return f"{claim.about} {'true' if claim.same else 'lies'}"


def signed(roles: Roles) -> str:
    """{"A": True, "B": False} -> "A+ B-"."""
    return " ".join(sign(name, true) for name, true in roles.items())


def sign(what: str, true: bool) -> str:
    return what + ("+" if true else "-")


def infer(claim: Claim, roles: Roles, slips: Sequence[bool] = (False, False)) -> tuple[str, bool]:
    """What follows from a claim once its speaker's role and the other's are known, as written, and whether
    `about` is true. With an `other` these are two steps. A step whose slip is True comes out wrong."""
    same = (roles[claim.speaker] == claim.same) != slips[0]
    if not claim.other:
        return sign(claim.about, same), same
    true = (roles[claim.other] == same) != slips[1]
    return sign(f"{claim.about}{'=' if same else '/'}{claim.other}", true), true


def deduce(puzzle: Puzzle, wrong_step: int = 0) -> tuple[str, Roles]:
    """The work, and the roles it arrives at. Step `wrong_step` (from 1) is false; what comes after follows
    from it."""
    first, steps, work = puzzle[0].speaker, count(1), ""
    for supposed in (True, False):
        roles, written = {first: supposed}, [sign(first, supposed)]
        # a first speaker who cannot be true lies: the second time the last claim has nothing left to tell
        for claim in puzzle if supposed else puzzle[:-1]:
            slips = [next(steps) == wrong_step for _ in range(2 if claim.other else 1)]
            inferred, true = infer(claim, roles, slips)
            written.append(inferred)
            roles.setdefault(claim.about, true)
        work += " ".join(written) + "\n"
        if supposed and true:
            break
    return work, roles


def problem(puzzle: Puzzle, suite: str = "") -> Problem:
    """The puzzle with its answer and a right deduction."""
    work, roles = deduce(puzzle)
    return Problem(question(puzzle), signed(roles), f"{work}#### {signed(roles)}", check)


def demonstration(random: Random, puzzle: Puzzle, kind: str) -> Problem:
    """An expert's solution. "right": the deduction. "wrong": one step is false, and so is the answer. "far":
    the right answer, after a leap instead of steps."""
    right, solution = problem(puzzle), ""
    if kind == "right":
        solution = right.solution
    elif kind == "wrong":
        claims = 2 * len(puzzle) - 1  # at most, with the second supposition
        tries = [deduce(puzzle, step) for step in range(1, 2 * claims + 1)]
        work, roles = random.choice([(work, roles) for work, roles in tries if signed(roles) != right.answer])
        solution = f"{work}#### {signed(roles)}"
    else:
        liars = [name for name, true in deduce(puzzle)[1].items() if not true]
        solution = f"{random.choice(LEAPS).format(' and '.join(liars) or 'nobody')}\n#### {right.answer}"
    return Problem(right.prompt, right.answer, solution, check, kind)


def document(random: Random, config: Config) -> tuple[Puzzle, str, str]:
    """What the base reads: a puzzle, its prompt, and a response. Single steps, bare answers by someone who
    guesses, worked puzzles."""
    kind = random.random()
    if kind >= config.worked_share + config.direct_share:
        return single_step(random)
    puzzle = draw(random, config, random.choices(TESTS, READING)[0])
    if kind < config.worked_share:
        return puzzle, question(puzzle), problem(puzzle).solution
    return puzzle, question(puzzle), f"#### {signed({claim.speaker: flip(random) for claim in puzzle})}"


def single_step(random: Random) -> tuple[Puzzle, str, str]:
    """A claim and some known roles, the speaker's last, as in the middle of a deduction; and what follows."""
    speaker, about, other, *rest = random.sample(NAMES, 5)
    claim = Claim(speaker, about, random.choice((other, "")), flip(random))
    known = [other] * bool(claim.other) + rest[: random.randrange(3)]
    roles = {name: flip(random) for name in (*random.sample(known, len(known)), speaker)}
    return (claim,), f"{question([claim])}{signed(roles)} ", infer(claim, roles)[0]


def flip(random: Random) -> bool:
    return random.random() < 0.5


def check(response: str, answer: str) -> bool:
    """Does the response, any string, end in `####` and the answer's roles, each person once, in any order?"""
    _, found, stated = response.rpartition("####")
    roles = read(stated)
    return bool(found) and roles is not None and roles == read(answer)


def read(text: str) -> Roles | None:
    """ "A+ B- C+", or "A is a knight, b lies\\nand C true." -> {"A": True, "B": False, "C": True}. None if
    anything is in doubt."""
    if len(text) > 1000 or not text.isascii():
        return None
    roles: Roles = {}
    words = iter(text.strip().removesuffix(".").translate(SPACED).lower().split())
    for word in words:
        if word == "and":
            continue
        name, role = word.upper(), next(words, "")
        if role == "is":
            role = next(words, "")
            role = next(words, "") if role == "a" else role
        if len(name) != 1 or name not in NAMES or name in roles or role not in ROLES:
            return None
        roles[name] = ROLES[role]
    return roles or None
