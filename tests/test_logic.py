"""Knights and knaves: one solution each, right steps in right solutions, one false step in wrong ones, and a
check that nothing but the answer passes. Puzzles and solutions are read here from their texts alone."""

import random
from itertools import permutations, product

import pytest

from bridge_min.study.logic import (
    GUESSED,
    TESTS,
    WORKED,
    Claim,
    check,
    demonstration,
    document,
    draw,
    problem,
)


def drawn(count, suite="", seed=0):
    rng = random.Random(seed)
    return [draw(rng, suite) for _ in range(count)]


def claims_of(prompt):
    """ "A: B lies\\n" -> {"A": ["B", "lies"]}."""
    return {line[0]: line[3:].split() for line in prompt.splitlines() if ": " in line}


def said(world, about, word, *rest):
    """Is it the case that A true, A lies, A same as B, A unlike B?"""
    return (world[about] == (not rest or world[rest[-1]])) == (word in ("true", "same"))


def consistent(prompt):
    """The ways in which the claims of those who are true, and of no one else, are the case."""
    claims = claims_of(prompt)
    ways = [dict(zip(claims, way, strict=True)) for way in product((True, False), repeat=len(claims))]
    return [world for world in ways if all(said(world, *claims[name]) == world[name] for name in claims)]


def false_facts(step, roles, speaker, about, word, *rest):
    """How many of the step's one or two facts do not follow from the speaker's claim and known roles."""
    fact, count = roles[speaker] == (word in ("true", "same")), 0
    if rest:
        count += (step[1] == "=") != fact
        fact = (step[1] == "=") == roles[rest[-1]]
    assert step[0] == about
    return count + ((step[-1] == "+") != fact)


def false_steps(prompt, solution):
    """Over all steps; asserts that the answer is the last line's roles."""
    claims, count, (*lines, answer) = claims_of(prompt), 0, solution.splitlines()
    for line in lines:
        (speaker, sign), *steps = line.split()
        roles = {speaker: sign == "+"}
        for step in steps:
            count += false_facts(step, roles, speaker, *claims[speaker])
            speaker = step[0]
            roles.setdefault(speaker, step[-1] == "+")
    assert answer == "# " + " ".join(name + "-+"[true] for name, true in roles.items())
    return count


@pytest.mark.parametrize("suite", ["", *TESTS])
def test_every_puzzle_has_one_solution_and_its_deduction_is_right_in_each_step(suite):
    sizes = set()
    for puzzle in drawn(60, suite):
        given = problem(puzzle, suite)
        (world,) = consistent(given.prompt)
        assert given.answer == " ".join(name + "-+"[true] for name, true in world.items())
        assert given.reward(given.solution) == 1 and false_steps(given.prompt, given.solution) == 0
        sizes.add(len(world))
    assert sizes == ({int(suite[0])} if suite else {3, 4, 5})


def test_a_worked_puzzle():
    given = problem((Claim("B", "D", "", False), Claim("D", "C", "B", False), Claim("C", "B", "", False)))
    assert given.prompt == "B: D lies\nD: C unlike B\nC: B lies\n?\n"
    assert given.solution == "B+ D- C=B+ B-\nB- D+ C/B+\n# B- D+ C+"


@pytest.mark.parametrize("kind", ["right", "wrong", "far"])
def test_demonstrations_are_what_they_are_called(kind):
    rng = random.Random(1)
    for puzzle in drawn(60):
        right, shown = problem(puzzle), demonstration(rng, puzzle, kind)
        assert (shown.prompt, shown.answer) == (right.prompt, right.answer)
        assert shown.reward(shown.solution) == (kind != "wrong")
        if kind == "far":
            leap, answer = shown.solution.split("\n")
            assert answer == f"# {right.answer}" and not set("+-=/") & set(leap)
        else:
            assert false_steps(shown.prompt, shown.solution) == (kind == "wrong")


def test_the_base_reads_steps_guesses_and_worked_puzzles_in_their_shares():
    rng = random.Random(3)
    documents = [document(rng)[1:] for _ in range(1500)]
    worked = [(p, r) for p, r in documents if "#" in r[1:]]
    assert len(worked) / 1500 == pytest.approx(WORKED, abs=0.05)
    assert sum(r.startswith("#") for _, r in documents) / 1500 == pytest.approx(GUESSED, abs=0.05)
    assert not any("unlike" in prompt or false_steps(prompt, response) for prompt, response in worked)
    for prompt, response in [(p, r) for p, r in documents if "#" not in r]:
        line, known = prompt.split("\n")
        roles = {mark[0]: mark[1] == "+" for mark in known.split()}
        ((speaker, claim),) = claims_of(line).items()
        assert list(roles)[-1] == speaker and not false_facts(response, roles, speaker, *claim)


ANSWER = "A+ B- C+"


def test_every_order_and_sound_wording_of_the_answer_passes():
    for marks in permutations(ANSWER.split()):
        assert check("# ...\nno:\n#" + ", ".join(marks).lower() + ".\n", ANSWER)
    wordings = ["A true, B lies, C true", "a knight, b knave, and c knight.", "B-A+C+", "C +\nB -\nA +\n"]
    wordings += ["A is a knight and B is a liar and C is true", "A: knight; B: liar; C: knight"]
    for stated in wordings:
        assert check(f"A+ B-\n# {stated}", ANSWER), stated


def test_nothing_else_passes():
    ways = [" ".join(a + s for a, s in zip("ABC", way, strict=True)) for way in product("+-", repeat=3)]
    stated = [*(way for way in ways if way != ANSWER), ", ".join(ways), "\n".join(reversed(ways))]
    stated += ["A+ A- B- C+", "A+ B- B+ C+", "A+ B- C+ C+", "A+ B-", "A+ B- C", "A+ B- C+ D+", "A+ B- C+ D"]
    stated += ["A+ B- C+ or A- B- C+", "A+- B- C+", "not A+ B- C+", "A+ B- not C+", "A=B- C+", "A+ B- C+?"]
    stated += ["A is not a knight, B is a knave, C is a knight", "A is a, B lies, C true", "AB+ C+", "+", "A"]
    stated += ["", " ", ".", "and", "true", "A: B lies\nB: C unlike A\nC: A true", "A+ B- C+ A+ B- C+"]
    stated += ["А+ B- C+", "A+ B− C+", "A１ B0 C1", "Ａ+ B- C+", "A+ B- C+\0", "A+ B- C+ \ud800"]
    for text in stated:
        assert not check(f"# {text}", ANSWER), text
    for response in ("", "A+ B- C+", "# A+ B- C+ #"):
        assert not check(response, ANSWER), response
