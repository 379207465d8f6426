"""Knights and knaves: one solution each, right steps in right solutions, one false step in wrong ones, and a
check that nothing but the answer passes. Puzzles and solutions are read here from their texts alone."""

import random
from itertools import permutations, product

import pytest

from bridge_min.config import Config
from bridge_min.logic import TESTS, Claim, check, demonstration, document, draw, problem

CONFIG = Config(worked_share=0.3, direct_share=0.2, demos_per_step=8)


def drawn(count, suite="", seed=0):
    rng = random.Random(seed)
    return [draw(rng, CONFIG, suite) for _ in range(count)]


def claims_of(prompt):
    """ "A: B lies\\n" -> {"A": ["B", "lies"]}."""
    return {line[0]: line[3:].split() for line in prompt.splitlines()}


def said(claim, world):
    match claim:
        case [name, "true"]:
            return world[name]
        case [name, "lies"]:
            return not world[name]
        case [name, "same", "as", other]:
            return world[name] == world[other]
        case [name, "unlike", other]:
            return world[name] != world[other]
    raise AssertionError(claim)


def holds(fact, world):
    """Is "A+", "A-", "A=B" or "A/B" the case?"""
    if fact[1] in "+-":
        return world[fact[0]] == (fact[1] == "+")
    return (world[fact[0]] == world[fact[2]]) == (fact[1] == "=")


def facts_of(step):
    """ "A=B-" -> ["A=B", "A-"]; "A-" -> ["A-"]."""
    return [step] if len(step) == 2 else [step[:3], step[0] + step[3]]


def worlds(names):
    return [dict(zip(names, roles, strict=True)) for roles in product((True, False), repeat=len(names))]


def consistent(prompt):
    claims = claims_of(prompt)
    return [w for w in worlds(claims) if all(said(claim, w) == w[name] for name, claim in claims.items())]


def follows(fact, premises, names, claims):
    """Is the fact the case in every world in which the premises are, and in which the speakers of the claims
    speak as such people do?"""
    possible = [
        w
        for w in worlds(names)
        if all(holds(p, w) for p in premises) and all(said(c, w) == w[name] for name, c in claims.items())
    ]
    return {holds(fact, w) for w in possible} == {True}


def false_steps(prompt, solution):
    """How many steps do not follow from their premises: the roles, as found before, of the speaker and of
    whom the claim compares with. Asserts the form too."""
    claims = claims_of(prompt)
    (first, *_), (*lines, answer), count = claims, solution.splitlines(), 0
    for line, supposed in zip(lines, "+-", strict=False):
        start, *steps = line.split()
        assert start == first + supposed
        found, speaker = {first: start}, first
        for step in steps:
            claim = claims[speaker]
            *relation, role = facts_of(step)
            assert role[0] == claim[0] and (len(claim) == 2) == (not relation)
            premises, used = [found[speaker]], {speaker: claim}
            if relation:
                assert relation[0][2] == claim[-1]
                count += not follows(relation[0], premises, claims, used)
                premises, used = [found[claim[-1]], *relation], {}
            count += not follows(role, premises, claims, used)
            speaker = claim[0]
            if speaker == first:
                assert step == steps[-1] and supposed == "+"
            found.setdefault(speaker, role)
        assert set(found) == set(claims)
        assert supposed == "-" or (role == first + "-") == (len(lines) == 2)
    assert answer == "#### " + " ".join(found.values())
    return count


@pytest.mark.parametrize("suite", ["", *TESTS])
def test_every_puzzle_has_one_solution_and_its_deduction_is_right_in_each_step(suite):
    sizes = set()
    for puzzle in drawn(200, suite):
        given = problem(puzzle, suite)
        (world,) = consistent(given.prompt)
        assert given.answer == " ".join(name + "-+"[true] for name, true in world.items())
        assert given.reward(given.solution) == given.reward(f"#### {given.answer}") == 1
        assert false_steps(given.prompt, given.solution) == 0
        assert len(given.prompt) <= 90 and len(given.solution) <= 110
        sizes.add(len(world))
    assert sizes == ({int(suite[0])} if suite else {3, 4, 5})


def test_a_worked_puzzle():
    given = problem((Claim("B", "D", "", False), Claim("D", "C", "B", False), Claim("C", "B", "", False)))
    assert given.prompt == "B: D lies\nD: C unlike B\nC: B lies\n"
    assert given.solution == "B+ D- C=B+ B-\nB- D+ C/B+\n#### B- D+ C+"


def test_suppositions_and_roles_are_balanced():
    solutions = [problem(puzzle).solution for puzzle in drawn(2000)]
    assert sum(s.count("\n") == 2 for s in solutions) / 2000 == pytest.approx(0.5, abs=0.05)
    answers = "".join(s.partition("####")[2] for s in solutions)
    assert answers.count("+") / (answers.count("+") + answers.count("-")) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("suite", TESTS)
def test_there_are_thousands_of_puzzles_of_every_size(suite):
    puzzles = drawn(3000, suite)
    assert len({problem(p).prompt for p in puzzles}) == len(set(puzzles)) > 2000


@pytest.mark.parametrize("kind", ["right", "wrong", "far"])
def test_demonstrations_are_what_they_are_called(kind):
    rng = random.Random(1)
    for puzzle in drawn(200):
        right, shown = problem(puzzle), demonstration(rng, puzzle, kind)
        assert (shown.prompt, shown.answer, shown.kind) == (right.prompt, right.answer, kind)
        assert shown.reward(shown.solution) == (kind != "wrong")
        if kind == "far":
            leap, answer = shown.solution.split("\n")
            assert answer == f"#### {right.answer}" and not set("+-=/") & set(leap)
        else:
            assert false_steps(shown.prompt, shown.solution) == (kind == "wrong")


def test_any_step_may_be_the_false_one():
    rng, places = random.Random(2), set()
    puzzle = next(p for p in drawn(50, "4 people") if problem(p).solution.count("\n") == 2)
    right = problem(puzzle).solution.split()
    for _ in range(200):
        shown = demonstration(rng, puzzle, "wrong").solution.split()
        places.add(next(k for k, (a, b) in enumerate(zip(right, shown, strict=False)) if a != b))
    assert len(places) > 3


def test_documents_come_in_the_configured_shares():
    rng = random.Random(3)
    documents = [document(rng, CONFIG)[1:] for _ in range(3000)]
    single = [(p, r) for p, r in documents if "####" not in r]
    direct = [(p, r) for p, r in documents if r.startswith("####")]
    worked = [(p, r) for p, r in documents if "####" in r[1:]]
    assert len(single) / 3000 == pytest.approx(0.5, abs=0.04)
    assert len(direct) / 3000 == pytest.approx(0.2, abs=0.04)
    assert len(worked) / 3000 == pytest.approx(0.3, abs=0.04)
    for prompt, response in worked:
        (world,) = consistent(prompt)
        assert false_steps(prompt, response) == 0 and len(world) in (3, 4, 5)
    for prompt, response in single:
        line, given = prompt.split("\n")
        (speaker, claim), known = *claims_of(line).items(), given.split()
        assert known[-1][0] == speaker and len(facts_of(response)) == 1 + (len(claim) > 2)
        names = {mark[0] for mark in known} | {claim[0]}
        assert all(follows(fact, known, names, {speaker: claim}) for fact in facts_of(response))


def test_the_same_seed_is_the_same_world():
    for make in (lambda seed: drawn(20, "", seed), lambda seed: document(random.Random(seed), CONFIG)):
        assert make(0) == make(0) != make(1)
    shown = [demonstration(random.Random(7), puzzle, "wrong") for puzzle in drawn(20)]
    assert shown == [demonstration(random.Random(7), puzzle, "wrong") for puzzle in drawn(20)]


ANSWER = "A+ B- C+"


def test_every_order_and_wording_of_the_answer_passes():
    for marks in permutations(ANSWER.split()):
        assert check("#### " + " ".join(marks), ANSWER)
        assert check("#### ...\nno:\n####" + ", ".join(marks).lower() + ".\n", ANSWER)
    for stated in (
        "A true, B lies, C true",
        "a knight, b knave, and c knight.",
        "A is a knight and B is a liar and C is true",
        "C +\nB -\nA +\n",
        "A is true, B lies and C is a knight",
        "B-A+C+",
        "A: knight; B: liar; C: knight",
    ):
        assert check(f"A+ B-\n#### {stated}", ANSWER), stated


def test_nothing_else_passes():
    everything = [" ".join(a + s for a, s in zip("ABC", way, strict=True)) for way in product("+-", repeat=3)]
    for stated in (
        *(way for way in everything if way != ANSWER),
        ", ".join(everything),
        "\n".join(reversed(everything)),
        "A+ A- B- C+",
        "A+ B- B+ C+",
        "A+ B- C+ C+",
        "A+ B- C+ C-",
        "A+ B-",
        "A+ B- C",
        "A+ B- C+ D+",
        "A+ B- C+ D",
        "A+ B- C+ or A- B- C+",
        "A+- B- C+",
        "A+ B-+ C+",
        "not A+ B- C+",
        "A+ B- not C+",
        "A=B- C+",
        "A is not a knight, B is a knave, C is a knight",
        "A is a, B lies, C true",
        "A true lies, B lies, C true",
        "A+ B- C+?",
        "A+ B- C+ ####",
        "",
        " ",
        ".",
        "and",
        "A",
        "+",
        "true",
        "A: B lies\nB: C unlike A\nC: A true",
        "А+ B- C+",  # a Cyrillic letter
        "A+ B− C+",  # a minus sign
        "A１ B0 C1",
        "Ａ+ B- C+",
        "A+ B- C+\0",
        "A+ B- C+ \ud800",
        "A+ B- C+ " * 2,
    ):
        assert not check(f"#### {stated}", ANSWER), stated
    for response in ("", "A+ B- C+", "### A+ B- C+", "#### A+ B- C+ ####", "A+ B- C+ ####"):
        assert not check(response, ANSWER), response
    for puzzle in drawn(100):
        given = problem(puzzle)
        assert not given.reward(given.prompt) and not given.reward(f"#### {given.prompt}")


def test_megabytes_are_refused_and_do_not_hurt():
    for filler in ("#", "####", "A+ ", " ", "and ", ",", "A is a ", "\n", "\U0001d7d8", "is " * 3):
        assert not check("#### " + filler * 500_000, ANSWER)
        assert not check("#### A+ B- C+ x" + filler * 500_000, ANSWER)
        assert check(filler * 500_000 + f"\n#### {ANSWER}", ANSWER)
