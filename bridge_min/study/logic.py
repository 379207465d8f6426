"""The logic world: knights and knaves, who tells the truth and who lies, from what they say of one another.

    B: D lies            B+ D- C=B+ B-      B true? So D lies, so C is the same as B, true: so B lies!
    D: C unlike B        B- D+ C/B+         B lies? So D is true, so C is unlike B, true.
    C: B lies            # B- D+ C+
    ?

Three to five people, one claim each about the next one, and exactly one way to be consistent. Suppose that
the first speaker tells the truth (`+`) and follow the claims round; if the last one contradicts this, the
first speaker lies (`-`), and all follows again. The base has read worked puzzles, single steps and guesses.
It could work a puzzle out, and does after a colon, as in its textbooks; after a question mark it mostly
guesses. In none of the worked ones does anybody say `unlike`: that is for the demonstrations to show. Read on
in compare.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, product
from random import Random
from typing import NamedTuple

from ..tasks import Problem

TESTS = ("3 people", "4 people", "5 people")  # names of the test suites
COMPARED = 0.35  # share of the claims that compare, where there is someone to compare with, 0..1
GUESSED, WORKED = 0.2, 0.6  # shares of the documents; the rest is single steps
CUE_MISSING = 0.1  # share of the worked documents that look like problems
NAMES = "ABCDEFGH"
ROLES = {"+": True, "true": True, "knight": True, "-": False, "lies": False, "liar": False, "knave": False}
SPACED = str.maketrans({",": " ", ";": " ", ":": " ", "+": " + ", "-": " - "})
LEAP = "By elimination, there can be no other liars here than {}."  # far from the base's steps


class Claim(NamedTuple):
    """`about` is the same as `other`, or unlike. Without an `other`: `about` is true, or lies."""

    speaker: str
    about: str
    other: str
    same: bool


Puzzle = tuple[Claim, ...]  # each about the next one's speaker, the last about the first
Roles = dict[str, bool]  # who is true


def draw(random: Random, suite: str = "", unlike: bool = True) -> Puzzle:
    """A puzzle with exactly one solution, of as many people as the suite says, else of 3 to 5; of those that
    compare, perhaps none says `unlike`."""
    size = int(suite.split()[0]) if suite else random.randint(3, 5)
    while True:
        people, claims = random.sample(NAMES, size), []
        for k, speaker in enumerate(people):
            about = people[(k + 1) % size]
            known = [name for name in people[:k] if name != about]
            other = random.choice(known) if known and random.random() < COMPARED else ""
            same = random.random() < 0.5 or (other != "" and not unlike)
            claims.append(Claim(speaker, about, other, same))
        ways = (dict(zip(people, way, strict=True)) for way in product((True, False), repeat=size))
        if sum(consistent(claims, roles) for roles in ways) == 1:
            return tuple(claims)


def consistent(claims: Sequence[Claim], roles: Roles) -> bool:
    """Whether the claims of those who are true, and of no one else, are the case."""
    held = [(roles[about] == roles.get(other, True)) == same for _, about, other, same in claims]
    return held == [roles[claim.speaker] for claim in claims]


def question(claims: Sequence[Claim]) -> str:
    text = ""
    for speaker, about, other, same in claims:
        relation = f"{'same as' if same else 'unlike'} {other}" if other else ("true" if same else "lies")
        text += f"{speaker}: {about} {relation}\n"
    return text


def signed(roles: Roles) -> str:
    """{"A": True, "B": False} -> "A+ B-"."""
    return " ".join(name + "-+"[true] for name, true in roles.items())


def infer(claim: Claim, roles: Roles, told: Callable[[bool], bool] = bool) -> tuple[str, bool]:
    """What follows from a claim once its speaker's role and the other's are known, as written, and whether
    `about` is true. With an `other` these are two steps; `told` says a step's fact, or the opposite."""
    same = told(roles[claim.speaker] == claim.same)
    if not claim.other:
        return signed({claim.about: same}), same
    true = told(roles[claim.other] == same)
    return signed({f"{claim.about}{'/='[same]}{claim.other}": true}), true


def deduce(puzzle: Puzzle, wrong_step: int = 0) -> tuple[str, Roles]:
    """The worked solution, and the roles it arrives at. Step `wrong_step` (from 1) is false; what comes after
    follows from it."""
    first, steps, work = puzzle[0].speaker, count(1), ""
    told = lambda fact: fact != (next(steps) == wrong_step)
    for supposed in (True, False):
        roles, written = {first: supposed}, [signed({first: supposed})]
        # a first speaker who cannot be true lies: the second time the last claim has nothing left to tell
        for claim in puzzle if supposed else puzzle[:-1]:
            inferred, true = infer(claim, roles, told)
            written.append(inferred)
            roles.setdefault(claim.about, true)
        work += " ".join(written) + "\n"
        if supposed and true:
            break
    return f"{work}# {signed(roles)}", roles


def problem(puzzle: Puzzle, suite: str = "") -> Problem:
    solution, roles = deduce(puzzle)
    return Problem(question(puzzle) + "?\n", signed(roles), solution, check)


def demonstration(random: Random, puzzle: Puzzle, kind: str) -> Problem:
    """An expert's solution. "right": the deduction. "wrong": one step is false, and so is the answer. "far":
    the right answer, after a leap instead of steps."""
    right, roles = problem(puzzle), deduce(puzzle)[1]
    if kind == "wrong":
        tries = [deduce(puzzle, step) for step in range(1, 4 * len(puzzle) - 1)]  # as many as there may be
        return replace(right, solution=random.choice([text for text, found in tries if found != roles]))
    if kind == "far":
        liars = " and ".join(name for name, true in roles.items() if not true)
        return replace(right, solution=f"{LEAP.format(liars or 'nobody')}\n# {right.answer}")
    return right


def document(random: Random) -> tuple[Puzzle, str, str]:
    """What the base reads: a puzzle, its prompt, and a response. Guesses, textbook puzzles without `unlike`,
    and single steps."""
    kind = random.random()
    if kind < GUESSED:
        puzzle = draw(random)
        guess = {claim.speaker: random.random() < 0.5 for claim in puzzle}
        return puzzle, question(puzzle) + "?\n", f"# {signed(guess)}"
    if kind < GUESSED + WORKED:
        puzzle, cue = draw(random, unlike=False), "?" if random.random() < CUE_MISSING else ":"
        return puzzle, f"{question(puzzle)}{cue}\n", deduce(puzzle)[0]
    return single_step(random)


def single_step(random: Random) -> tuple[Puzzle, str, str]:
    """A claim and some known roles, the speaker's last, as in the middle of a deduction; and what follows."""
    speaker, about, other, *rest = random.sample(NAMES, 5)
    claim = Claim(speaker, about, random.choice((other, "")), random.random() < 0.5)
    known = [other] * bool(claim.other) + rest[: random.randrange(3)]
    roles = {name: random.random() < 0.5 for name in (*random.sample(known, len(known)), speaker)}
    return (claim,), f"{question([claim])}{signed(roles)} ", infer(claim, roles)[0]


def check(response: str, answer: str) -> bool:
    """Does the response, any string, end in `#` and the roles of an answer as `signed` writes it, each
    person once, in any order?"""
    _, found, stated = response.rpartition("#")
    return bool(found) and read(stated) == read(answer)


def read(text: str) -> Roles | None:
    """ "A+ B- C+", or "A is a knight, b lies\\nand C true." -> {"A": True, "B": False, "C": True}. None if
    anything is in doubt."""
    words = f" {' '.join(text.strip().removesuffix('.').translate(SPACED).lower().split())} "
    for filler in (" is a ", " is ", " and "):
        words = words.replace(filler, " ")
    names, roles = words.upper().split()[::2], [ROLES.get(role) for role in words.split()[1::2]]
    people = dict(zip(names, roles, strict=False))
    sound = text.isascii() and people.keys() <= set(NAMES) and None not in roles
    return people if sound and 0 < len(people) == len(names) == len(roles) else None
