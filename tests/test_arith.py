"""The arithmetic world: chains that can be worked in every wording, demonstrations of three kinds, what the
base never reads, and which responses are right."""

import random
from dataclasses import replace

import pytest

from bridge_min import arith
from bridge_min.arith import WORDINGS, check, demonstration, document, draw, problem, worked
from bridge_min.config import Config
from bridge_min.tasks import load_task, reading

CONFIG = Config(
    **{"train_problems": 600, "val_problems": 60, "test_problems": 60, "demos": 200, "demos_per_step": 8},
    **{"chain": (2, 4), "hard_chain": (5, 7), "products": 0.5, "largest": 9, "base_batch": 3000},
    **{"worked_share": 0.4, "direct_share": 0.35},
)


def parse(prompt):
    """The chain behind a prompt, in whatever wording and with or without a colon, read independently."""
    lines = prompt.strip().removesuffix(":").split("\n")
    if "=" in lines[0]:
        assert lines[-1] == "print a"
        numbers = [line[1:].replace("=", "") for line in lines[:-1]]
    elif " " in lines[0]:
        moves = lines[0].rsplit(":", 1)[0].split(", ")
        numbers = [moves[0].split(" ")[0], *(m.replace("out ", "-").replace("in ", "+") for m in moves[1:])]
    else:
        numbers = lines[0].replace("+", " +").replace("-", " -").split(" ")
    factors = [number.split("*") for number in numbers]
    return tuple((int(n), int(k[0]) if k else 1) for n, *k in factors)


def steps_of(solution):
    """[(left, change, right), ...] of the lines, and what stands after ####."""
    *lines, last = solution.split("\n")
    assert last.startswith("#### ")
    steps = []
    for line in lines:
        left, right = line.split("=")
        operator = max(left.rfind("+"), left.rfind("-"))
        steps.append((int(left[:operator]), int(left[operator:]), int(right)))
    return steps, last.removeprefix("#### ")


def follows(solution, chain):
    """Whether the lines are the chain's steps, a product taken apart, each going on from the last; and how
    many of them are false."""
    steps, _ = steps_of(solution)
    changes = [n for n, k in chain[1:] for _ in range(k)]
    goes_on = [left for left, _, _ in steps] == [chain[0][0], *(right for _, _, right in steps[:-1])]
    false = sum(left + change != right for left, change, right in steps)
    return [change for _, change, _ in steps] == changes and goes_on, false


def length(chain):
    return sum(k for _, k in chain[1:])


def test_the_wordings_by_hand():
    chain = ((7, 1), (-2, 2), (5, 1))
    steps = "7-2=5\n5-2=3\n3+5=8\n#### 8"
    expected = {
        "math": ("7-2*2+5\n", steps),
        "code": ("a=7\na-=2*2\na+=5\nprint a\n", steps),
        "science": ("7 m, out 2*2, in 5: m?\n", steps + " m"),
    }
    assert expected.keys() == WORDINGS.keys()
    for suite, (prompt, solution) in expected.items():
        shown = problem(chain, suite)
        assert (shown.prompt, shown.solution, shown.answer) == (prompt, solution, "8")
        assert parse(prompt) == chain
    assert problem(chain) == problem(chain, "hard") == problem(chain, "math")
    assert worked(chain, 2, 1) == "7-2=5\n5-2=4\n4+5=9\n#### 9"


@pytest.mark.parametrize("largest", [9, 30])
def test_worked_steps_hold_in_all_domains(largest):
    """And lead to the answer; every partial sum lies in 0..largest; what is added has one digit."""
    task = load_task(replace(CONFIG, largest=largest, demos=20))
    seen = set()
    for suite, problems in {"": task.train + task.val, **task.tests}.items():
        low, high = CONFIG.hard_chain if suite == "hard" else CONFIG.chain
        lengths = set()
        for p in problems:
            chain = parse(p.prompt)
            assert follows(p.solution, chain) == (True, 0)
            steps, last = steps_of(p.solution)
            assert last.split(" ")[0] == p.answer == str(steps[-1][2]) == str(sum(n * k for n, k in chain))
            assert all(0 <= total <= largest for left, _, right in steps for total in (left, right))
            assert all(0 < abs(n) <= 9 for n, _ in chain[1:]) and {k for _, k in chain} <= {1, 2}
            assert sum(k > 1 for _, k in chain) <= 1
            assert p.reward(p.solution) == 1.0, p
            lengths.add(length(chain))
            seen.add(chain)
        assert lengths == set(range(low, high + 1)), suite
    assert len(seen) == 600 + 60 + 4 * 60  # no chain twice, in whatever wording
    assert task.hidden == {parse(p.prompt) for part in (task.val, *task.tests.values()) for p in part}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_products(share):
    config, random_ = replace(CONFIG, products=share), random.Random(0)
    for suite in ("math", "hard", "code", "science"):
        chains = [draw(random_, config, suite) for _ in range(500)]
        with_product = sum(any(k > 1 for _, k in chain) for chain in chains) / 500
        assert with_product == pytest.approx(share, abs=0.08 if 0 < share < 1 else 0)


def test_demonstrations_of_three_kinds():
    random_ = random.Random(0)
    false_at, slips = set(), set()
    for _ in range(300):
        chain = draw(random_, CONFIG)
        right, wrong, far = (demonstration(random_, chain, kind) for kind in ("right", "wrong", "far"))
        for demo, kind in ((right, "right"), (wrong, "wrong"), (far, "far")):
            assert demo.kind == kind and demo.prompt == problem(chain).prompt
            assert demo.answer == problem(chain).answer
        assert right.solution == problem(chain).solution and right.reward(right.solution) == 1.0
        assert follows(wrong.solution, chain) == (True, 1) and wrong.reward(wrong.solution) == 0.0
        (step,) = [s for s in enumerate(steps_of(wrong.solution)[0]) if s[1][0] + s[1][1] != s[1][2]]
        false_at.add((length(chain), step[0] + 1))
        slips.add(step[1][2] - step[1][0] - step[1][1])
        assert far.solution == f"{far.prompt.strip()}={far.answer}\n#### {far.answer}"
        assert far.reward(far.solution) == 1.0
    assert false_at == {(n, at) for n in (2, 3, 4) for at in range(1, n + 1)}
    assert slips == {-3, -2, -1, 1, 2, 3}


@pytest.mark.parametrize("wrong, far", [(0.2, 0.3), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_the_shares_of_the_kinds(wrong, far):
    task = load_task(replace(CONFIG, wrong_demos=wrong, far_demos=far))
    kinds = [demo.kind for demo in task.demos]
    assert [demo.prompt for demo in task.demos] == [p.prompt for p in task.train[:200]]
    for kind, share in (("wrong", wrong), ("far", far), ("right", 1 - wrong - far)):
        assert kinds.count(kind) / 200 == pytest.approx(share, abs=0.08 if 0 < share < 1 else 0)
    for demo in task.demos:
        assert demo.reward(demo.solution) == (demo.kind != "wrong")


def test_what_the_base_reads():
    """Bare answers, worked textbooks with a colon, single steps, each true; no product is worked in math."""
    documents = reading(CONFIG, 0, frozenset())
    kinds = {"bare": [], "worked": [], "single": []}
    for prompt, response in documents:
        chain, (steps, last) = parse(prompt), steps_of(response)
        assert int(last.split(" ")[0]) == sum(n * k for n, k in chain)
        if steps:
            assert follows(response, chain) == (True, 0)
        kinds["bare" if not steps else "worked" if length(chain) > 1 else "single"].append((prompt, chain))
    shares = {"bare": 0.35, "worked": 0.4, "single": 0.25}
    for kind, share in shares.items():
        assert len(kinds[kind]) / 3000 == pytest.approx(share, abs=0.04)
    colon = [prompt.endswith(":\n") for prompt, _ in kinds["worked"]]
    assert sum(colon) / len(colon) == pytest.approx(1 - arith.CUE_MISSING, abs=0.04)
    assert not any(prompt.endswith(":\n") for kind in ("bare", "single") for prompt, _ in kinds[kind])
    in_math = [chain for prompt, chain in kinds["worked"] if not set("= ") & set(prompt)]
    assert len(in_math) > 300 and all(k == 1 for chain in in_math for _, k in chain)
    assert any(k > 1 for _, chain in kinds["bare"] for _, k in chain)
    assert {length(chain) for _, chain in kinds["worked"]} == {2, 3, 4, 5, 6, 7}
    assert {length(chain) for _, chain in kinds["bare"]} == {2, 3, 4}
    for prompt, _ in documents:  # all domains alike
        assert ("print a" in prompt) + ("?" in prompt) <= 1
    assert sum("print a" in p for p, _ in documents) / 3000 == pytest.approx(1 / 3, abs=0.04)
    assert sum("?" in p for p, _ in documents) / 3000 == pytest.approx(1 / 3, abs=0.04)


def test_the_base_reads_no_hidden_chain_in_any_wording():
    """A world so small that it would meet them often."""
    small = replace(CONFIG, chain=(2, 2), hard_chain=(2, 3), largest=4, train_problems=20, demos=10)
    config = replace(small, val_problems=10, test_problems=10)
    task = load_task(config)
    hidden = {parse(p.prompt) for part in (task.val, *task.tests.values()) for p in part}
    assert len(hidden) == 50 and hidden == task.hidden
    met = [parse(prompt) in hidden for prompt, _ in reading(config, 0, frozenset())]
    assert sum(met) > 300
    read = reading(config, 0, task.hidden)
    assert len(read) == 3000 and not any(parse(prompt) in hidden for prompt, _ in read)
    assert reading(config, 0, task.hidden) == read != reading(config, 1, task.hidden)


def test_a_response_is_right_by_a_plain_number():
    solution = "7+5=12\n12-4=8\n#### 8"
    for right in (solution, "#### 8", "8", r"\boxed{8}", "#### 9\n#### 8"):
        assert check(right, "8"), right
    for unit in ("kg", "m", "g"):
        assert check(f"7+5=12\n12-4=8\n#### 8 {unit}", "8"), unit
        assert not check(f"#### 9 {unit}", "8"), unit


def test_what_only_looks_right_is_not():
    question = ("7+5-4", "12-4", "4*2", "8*1", "16/2", "2*2*2", "7 kg, in 5, out 4: kg?", "a=8", "print 8")
    several = ("8, 9", "8,8", "8 9", "8 or 8", "8\n#### 9", "8=8", "5=6", "7+5=12", "(8)", "8 8")
    written = (
        "\u0668",
        "\uff18",
        "8\u00b2",
        "\u00b2",
        "+8",
        "--8",
        "-8",
        "8.0",
        "8e0",
        "1000",
        "0b1000",
        "8%",
        "",
    )
    units = ("8 s", "8 kg m", "8 kg kg", "kg 8", "kg", "8kg", "8 KG", "8 cm", "8 kg, out 2", "8 of kg")
    for hack in (*question, *several, *written, *units):
        assert not check(f"#### {hack}", "8"), hack
    for text in ("", "####", "\u0668", "7+5-4\n", "8 9 8", "7+5=12\n12-4=8"):
        assert not check(text, "8"), text


def test_units_are_right_for_every_answer():
    """A worked science problem earns its reward in whichever unit, as its textbook shows it."""
    random_, rewards = random.Random(1), {}
    for _ in range(200):
        shown = problem(draw(random_, CONFIG, "science"), "science")
        rewards.setdefault(shown.solution.split(" ")[-1], []).append(shown.reward(shown.solution))
    assert {unit: min(found) for unit, found in rewards.items()} == {"kg": 1.0, "m": 1.0, "g": 1.0}


def test_a_document_is_about_its_chain():
    random_ = random.Random(2)
    for _ in range(200):
        chain, prompt, _ = document(random_, CONFIG)
        assert parse(prompt) == chain
