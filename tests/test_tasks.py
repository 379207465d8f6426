"""The world: disjoint splits, right references, wrong demonstrations that are wrong, and what the base never
reads."""

from dataclasses import replace

import pytest

from bridge_min.answer import is_correct
from bridge_min.config import Config, ConfigError
from bridge_min.tasks import Problem, check_references, load_task, question, reading, worked

CONFIG = Config(train_problems=600, val_problems=100, test_problems=150, demos=200, wrong_demos=0.3)


def steps_hold(solution):
    """Every line left = right is true, and each goes on from the last."""
    *lines, last = solution.split("\n")
    total = None
    for line in lines:
        left, right = line.split("=")
        operator = max(left.rfind("+"), left.rfind("-"))
        a, b = int(left[:operator]), int(left[operator:])
        if a + b != int(right) or total not in (None, a):
            return False
        total = int(right)
    return last == f"#### {total}"


def test_worked_solutions():
    assert question((7, 5, -4)) == "7+5-4\n"
    assert worked((7, 5, -4)) == "7+5=12\n12-4=8\n#### 8"
    assert worked((7, 5, -4), 1, 2) == "7+5=14\n14-4=10\n#### 10"


def test_splits_are_disjoint_and_sized_and_references_right():
    task = load_task(CONFIG)
    prompts = [{p.prompt for p in part} for part in (task.train, task.val, task.test)]
    assert [len(part) for part in prompts] == [600, 100, 150]
    assert len(set().union(*prompts)) == 850
    for problem in task.train + task.val + task.test:
        assert steps_hold(problem.solution) and is_correct(problem.solution, problem.answer)
        numbers = problem.prompt.replace("-", "+").strip().split("+")
        assert CONFIG.terms[0] <= len(numbers) <= CONFIG.terms[1]


def test_the_same_seed_is_the_same_world():
    assert load_task(CONFIG) == load_task(CONFIG)
    assert load_task(CONFIG) != load_task(replace(CONFIG, seed=1))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_configured_share_of_demonstrations_is_wrong(share):
    task = load_task(replace(CONFIG, wrong_demos=share))
    right = [demo.reward(demo.solution) for demo in task.demos]
    assert len(right) == 200 and {demo.prompt for demo in task.demos} <= {p.prompt for p in task.train}
    assert 1 - sum(right) / 200 == pytest.approx(share, abs=0.08 if 0 < share < 1 else 0)
    for demo, reward in zip(task.demos, right, strict=True):
        assert steps_hold(demo.solution) == bool(reward)


def test_the_base_reads_no_held_out_problem_and_the_shares_are_kept():
    shares = {"worked_share": 0.2, "direct_share": 0.3, "largest": 30}
    config = replace(CONFIG, base_batch=2000, terms=(3, 3), train_problems=300, **shares)
    held_out = {p.prompt for p in load_task(config).val + load_task(config).test}
    documents = reading(config, 0, held_out)
    assert len(documents) == 2000 and not held_out & {prompt for prompt, _ in documents}
    single = [r for p, r in documents if r.count("=") == 1]
    direct = [r for p, r in documents if "=" not in r]
    assert len(single) / 2000 == pytest.approx(0.5, abs=0.08) and len(direct) / 2000 == pytest.approx(
        0.3, abs=0.08
    )
    assert reading(config, 0, held_out) == documents != reading(config, 1, held_out)


def test_too_many_problems_are_refused():
    with pytest.raises(ValueError, match="fewer than"):
        load_task(replace(CONFIG, terms=(2, 2), train_problems=5000))


def test_the_question_is_not_its_answer():
    problem = Problem("7+5-4\n", "8", "")
    assert problem.reward("7+5=12\n12-4=8\n#### 8") == problem.reward("#### 8") == 1.0
    for hack in ("#### 7+5-4", "#### 12-4", "#### 16/2", "#### 8, 9", "#### 9", "", "\u0668", "#### -8"):
        assert problem.reward(hack) == 0.0, hack


def test_references_that_cannot_be_used_are_reported_with_their_lines():
    good, unread, untrue = (Problem("?", answer, "") for answer in ("5", "\\frac{1}{", "5=6"))
    check_references([good], "file")
    with pytest.raises(ConfigError) as error:
        check_references([good, unread, good, untrue], "math.jsonl")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("math.jsonl, line 2: ") and "cannot be read" in lines[0]
    assert lines[1].startswith("math.jsonl, line 4: ") and "untrue claim" in lines[1]
    assert lines[2].startswith("2 of 4 references")
