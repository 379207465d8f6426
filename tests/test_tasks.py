"""What all worlds share: splits that follow from the seed, the kinds of demonstrations, references that can
be used."""

import random
from dataclasses import replace

import pytest

from bridge_min.arith import check
from bridge_min.config import Config, ConfigError
from bridge_min.problem import Problem
from bridge_min.tasks import WORLDS, check_references, draw_kind, load_task, reading

CONFIG = Config(
    **{"train_problems": 60, "val_problems": 10, "test_problems": 15, "demos": 20, "demos_per_step": 8},
    **{"chain": (2, 4), "hard_chain": (5, 6), "base_batch": 40},
)


@pytest.mark.parametrize("name", WORLDS)
def test_splits_are_sized_and_disjoint(name):
    task = load_task(replace(CONFIG, task=name))
    suites = WORLDS[name].TESTS
    assert [len(task.train), len(task.val), len(task.demos)] == [60, 10, 20]
    assert {suite: len(problems) for suite, problems in task.tests.items()} == dict.fromkeys(suites, 15)
    prompts = [p.prompt for part in (task.train, task.val, *task.tests.values()) for p in part]
    assert len(set(prompts)) == len(prompts) and len(task.hidden) == 10 + 15 * len(suites)
    for demo, shown in zip(task.demos, task.train, strict=False):
        assert (demo.prompt, demo.answer) == (shown.prompt, shown.answer)
        assert demo.reward(demo.solution) == (demo.kind != "wrong")


@pytest.mark.parametrize("name", WORLDS)
def test_the_same_seed_is_the_same_world(name):
    config = replace(CONFIG, task=name)
    task, again, other = load_task(config), load_task(config), load_task(replace(config, seed=1))
    assert task == again and task.train != other.train and task.hidden != other.hidden
    read = reading(config, 3, task.hidden)
    assert read == reading(config, 3, task.hidden) and len(read) == 40
    assert read != reading(config, 4, task.hidden)
    assert read != reading(replace(config, seed=1), 3, task.hidden)


def test_the_kinds_come_in_their_shares():
    draw = random.Random(0)
    kinds = [draw_kind(draw, replace(CONFIG, wrong_demos=0.2, far_demos=0.5)) for _ in range(2000)]
    for kind, share in (("wrong", 0.2), ("far", 0.5), ("right", 0.3)):
        assert kinds.count(kind) / 2000 == pytest.approx(share, abs=0.04)


def test_the_demonstrations_kinds_change_no_problem():
    """So that a sweep over their shares compares runs on the same problems."""
    task, other = load_task(CONFIG), load_task(replace(CONFIG, wrong_demos=0.7))
    assert (task.train, task.val, task.tests) == (other.train, other.val, other.tests)
    assert task.demos != other.demos


def test_too_many_problems_are_refused():
    with pytest.raises(ConfigError, match="arith has fewer than 1000 new problems"):
        load_task(replace(CONFIG, chain=(2, 2), largest=5, train_problems=1000))


def test_references_that_cannot_be_used_are_reported_with_their_lines():
    good, unread, untrue = (Problem("?", answer, "", check) for answer in ("5", "\\frac{1}{", "5=6"))
    check_references([good], "file")
    with pytest.raises(ConfigError) as error:
        check_references([good, unread, good, untrue], "math.jsonl")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("math.jsonl, line 2: ") and "cannot be read" in lines[0]
    assert lines[1].startswith("math.jsonl, line 4: ") and "untrue claim" in lines[1]
    assert lines[2].startswith("2 of 4 references")
