"""The arithmetic world: chains of small steps, taken from left to right as on a pocket calculator.

    math       7 - 5 * 2 + 4?         training, validation and tests, of which "hard" has the longest chains
    code       a=7, a-=5, a*=2, a+=4, a?   as lines; tests only
    science    7 g, -5, *2, +4?       tests only

All are worked alike, each result passed on: 7-5=2*2=4+4=8, then # 8. The base has read worked sums, single
steps (2*2=4 among them) and guesses. So it can work out a sum, and does where a prompt ends in a colon, as
its textbooks do; asked a question, it mostly guesses. Reinforcement learning finds by itself that working
pays. But no chain that the base saw worked had a product in it: without demonstrations it rarely gets one
right. Read on in evaluate.py.
"""

import random

from .tasks import Problem

TESTS = ("math", "hard", "code", "science")
TRAIN_STEPS, STEPS, HARD_STEPS = (2, 6), (2, 4), (5, 6)  # fewest and most, in training, tests, hard
PRODUCTS = 0.5  # chance that a step is a product where one is possible, which makes about one step in five
FACTORS = (2, 3)
LARGEST = 9  # of all numbers
GUESSED, WORKED = 0.2, 0.65  # shares of the documents; the rest is single steps
CUE_MISSING = 0.1  # share of the worked documents that look like problems
SINGLE_PRODUCTS = 0.7  # what PRODUCTS is in single steps
SLIPS = (-3, -2, -1, 1, 2, 3)  # by how much a false step of a demonstration is off
UNITS = ("kg", "m", "g")

Move = tuple[str, int]  # ("-", 5)
Chain = tuple[int, tuple[Move, ...]]  # the first number, and what is done to it


def draw(random: random.Random, suite: str = "") -> Chain:
    """A chain for a suite, or for training."""
    return draw_chain(random, {"": TRAIN_STEPS, "hard": HARD_STEPS}.get(suite, STEPS), PRODUCTS)


def draw_chain(random: random.Random, steps: tuple[int, int], chance: float) -> Chain:
    """A chain whose results lie in 0..LARGEST; `chance` is that of a product where one is possible."""
    total = first = random.randint(0, LARGEST)
    moves: list[Move] = []
    for _ in range(random.randint(*steps)):
        possible = products(total) if random.random() < chance else []
        moves.append(random.choice(possible or sums(total)))
        total = after(total, moves[-1])
    return first, tuple(moves)


def sums(total: int) -> list[Move]:
    """The numbers that can be added or taken away."""
    return [("+", n) for n in range(1, LARGEST - total + 1)] + [("-", n) for n in range(1, total + 1)]


def products(total: int) -> list[Move]:
    return [("*", n) for n in FACTORS if 0 < total * n <= LARGEST]


def after(total: int, move: Move) -> int:
    sign, n = move
    return {"+": total + n, "-": total - n, "*": total * n}[sign]


def problem(chain: Chain, suite: str = "") -> Problem:
    solution = worked(chain)
    return Problem(WORDINGS.get(suite, math)(chain) + "?\n", solution.split("# ")[1], solution, check)


def math(chain: Chain) -> str:
    return f"{chain[0]}" + "".join(f" {sign} {n}" for sign, n in chain[1])


def code(chain: Chain) -> str:
    return f"a={chain[0]}\n" + "".join(f"a{sign}={n}\n" for sign, n in chain[1]) + "a"


def science(chain: Chain) -> str:
    unit = UNITS[sum(n for _, n in chain[1]) % len(UNITS)]
    return f"{chain[0]} {unit}" + "".join(f", {sign}{n}" for sign, n in chain[1])


WORDINGS = {"math": math, "code": code, "science": science}


def worked(chain: Chain, false_step: int = 0, slip: int = 0) -> str:
    """(7, (("-", 5), ("*", 2))) -> "7-5=2*2=4\\n# 4"; step `false_step` (from 1) is off by `slip`."""
    total, line = chain[0], f"{chain[0]}"
    for step, move in enumerate(chain[1], 1):
        total = after(total, move) + (slip if step == false_step else 0)
        line += f"{move[0]}{move[1]}={total}"
    return f"{line}\n# {total}"


def demonstration(random: random.Random, chain: Chain, kind: str) -> Problem:
    """A worked solution of the math problem; "wrong": one step is off, and all that follows from it; "far":
    the right answer by a leap over all the steps, which the base cannot do in its head."""
    right = problem(chain)
    solution = {
        "right": right.solution,
        "wrong": worked(chain, random.randint(1, len(chain[1])), random.choice(SLIPS)),
        "far": f"{math(chain)}={right.answer}\n# {right.answer}",
    }[kind]
    return Problem(right.prompt, right.answer, solution, check)


def document(random: random.Random) -> tuple[Chain, str, str]:
    """What the base reads, in all wordings alike, as (chain, prompt, response): guesses at problems,
    textbook sums without products, and single steps."""
    suite, kind = random.choice(tuple(WORDINGS)), random.random()
    if kind < GUESSED:
        chain = draw_chain(random, TRAIN_STEPS, PRODUCTS)
        return chain, problem(chain, suite).prompt, f"# {random.randint(0, LARGEST)}"
    if kind < GUESSED + WORKED:
        chain, cue = draw_chain(random, TRAIN_STEPS, 0), "?" if random.random() < CUE_MISSING else ":"
        return chain, f"{WORDINGS[suite](chain)}{cue}\n", problem(chain, suite).solution
    chain = draw_chain(random, (1, 1), SINGLE_PRODUCTS)
    return chain, problem(chain, suite).prompt, problem(chain, suite).solution


def check(response: str, answer: str) -> bool:
    """Does the response, any string, end in `#` and the answer?"""
    _, found, stated = response.rpartition("#")
    return bool(found) and stated.strip() == answer
