"""The arithmetic world: one skill, chains of small sums, in three domains.

    math       7-2*2+5                       training, validation, test; "hard" is the same with more steps
    code       a=7, a-=2*2, a+=5, print a    as lines; tests only
    science    7 kg, out 2*2, in 5: kg?      tests only

Every chain can be worked step by step, in the same lines in all domains: 7-2=5, 5-2=3, 3+5=8, #### 8. (n*2 is
n added twice.) The base can do that, and does it where a prompt ends in a colon, as its textbooks' do; where
it does not, as in all problems here, it mostly blurts out an answer. RL soon finds that working pays. In
math, though, it has never seen a product worked: that takes demonstrations. Read on in evaluate.py.
"""

import random

from .tasks import Problem

TESTS = ("math", "hard", "code", "science")
STEPS, HARD_STEPS = (2, 4), (5, 6)  # fewest and most steps of a problem
PRODUCTS = 0.5  # share of the problems with a product
TIMES = 2  # a product is n * TIMES
LARGEST = 9  # first number and partial sums
BARE, WORKED = 0.3, 0.55  # shares of the documents: bare answers, and worked ones; the rest is single steps
CUE_MISSING = 0.1  # share of the worked documents that look like problems
SLIPS = (-3, -2, -1, 1, 2, 3)  # by how much a false step of a demonstration is off
UNITS = ("kg", "m", "g")

Move = tuple[int, int]  # (n, k): n is added k times
Chain = tuple[Move, ...]  # the first with k = 1


def draw(random: random.Random, suite: str = "") -> Chain:
    """A chain for a suite, or for training."""
    steps = random.randint(*(HARD_STEPS if suite == "hard" else STEPS))
    return draw_chain(random, steps, random.random() < PRODUCTS)


def draw_chain(random: random.Random, steps: int, product: bool) -> Chain:
    """`steps` steps whose results all lie in 0..LARGEST; with a product, which takes TIMES of them, if
    asked."""
    while True:
        times = [1] * steps
        if product:
            at = random.randrange(steps - TIMES + 1)
            times[at : at + TIMES] = [TIMES]
        total = random.randint(0, LARGEST)
        terms = [(total, 1)]
        for k in times:
            moves = [n for n in range(-9, 10) if n and 0 <= total + k * n <= LARGEST]
            if not moves:
                break
            terms.append((random.choice(moves), k))
            total += k * terms[-1][0]
        else:
            return tuple(terms)


def problem(chain: Chain, suite: str = "") -> Problem:
    answer, unit = str(sum(n * k for n, k in chain)), f" {unit_of(chain)}" if suite == "science" else ""
    return Problem(WORDINGS.get(suite, math)(chain), answer, worked(chain) + unit, check)


def math(chain: Chain) -> str:
    (first, _), *rest = chain
    return f"{first}" + "".join(f"{n:+d}{times(k)}" for n, k in rest) + "\n"


def code(chain: Chain) -> str:
    (first, _), *rest = chain
    return f"a={first}\n" + "".join(f"a{'+-'[n < 0]}={abs(n)}{times(k)}\n" for n, k in rest) + "print a\n"


def science(chain: Chain) -> str:
    (first, _), *rest = chain
    moves = "".join(f", {'out' if n < 0 else 'in'} {abs(n)}{times(k)}" for n, k in rest)
    return f"{first} {unit_of(chain)}{moves}: {unit_of(chain)}?\n"


WORDINGS = {"math": math, "code": code, "science": science}


def times(k: int) -> str:
    return f"*{k}" if k > 1 else ""


def unit_of(chain: Chain) -> str:
    return UNITS[sum(n for n, _ in chain) % len(UNITS)]


def worked(chain: Chain, false_step: int = 0, slip: int = 0) -> str:
    """((7, 1), (-2, 2)) -> "7-2=5\\n5-2=3\\n#### 3"; step `false_step` (from 1) is off by `slip`."""
    total, lines = chain[0][0], ""
    for step, n in enumerate((n for n, k in chain[1:] for _ in range(k)), 1):
        result = total + n + (slip if step == false_step else 0)
        lines += f"{total}{n:+d}={result}\n"
        total = result
    return f"{lines}#### {total}"


def demonstration(random: random.Random, chain: Chain, kind: str) -> Problem:
    """A worked solution of the math problem; "wrong": one step is off, and all that follows from it; "far":
    the right answer by a leap over all the steps, which the base cannot do in its head."""
    right, steps = problem(chain), sum(k for _, k in chain[1:])
    solution = {
        "right": right.solution,
        "wrong": worked(chain, random.randint(1, steps), random.choice(SLIPS)),
        "far": f"{right.prompt.strip()}={right.answer}\n#### {right.answer}",
    }[kind]
    return Problem(right.prompt, right.answer, solution, check)


def document(random: random.Random) -> tuple[Chain, str, str]:
    """What the base reads, in all domains alike, as (chain, prompt, response): bare answers to problems,
    worked textbook problems (up to the hardest, but in math none with a product), and single steps."""
    suite, kind = random.choice(tuple(WORDINGS)), random.random()
    if kind < BARE:
        chain = draw(random)
        shown = problem(chain, suite)
        return chain, shown.prompt, shown.solution[shown.solution.rindex("####") :]
    if kind < BARE + WORKED:
        steps = random.randint(STEPS[0], HARD_STEPS[1])
        chain = draw_chain(random, steps, random.random() < PRODUCTS and suite != "math")
        shown, cue = problem(chain, suite), "" if random.random() < CUE_MISSING else ":"
        return chain, shown.prompt.removesuffix("\n") + cue + "\n", shown.solution
    chain = draw_chain(random, 1, False)
    return chain, problem(chain, suite).prompt, problem(chain, suite).solution


def check(response: str, answer: str) -> bool:
    """Does the response end in `####` and the answer, perhaps with a unit? Any string will do."""
    _, found, stated = response.rpartition("####")
    return bool(found) and stated.split() in ([answer], *([answer, unit] for unit in UNITS))
