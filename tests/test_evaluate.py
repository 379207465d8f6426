"""Estimates against counting, intervals against their definition, and what is answered how."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from conftest import SMALL
from test_rollout import talkative
from test_tasks import ODD, TASK

from bridge_min.bridge import plain_runtime
from bridge_min.config import Config
from bridge_min.evaluate import (
    answer_problems,
    heading,
    in_words,
    line,
    mean_and_half_width,
    pass_at_k,
    score,
    wilson,
)
from bridge_min.model import build
from bridge_min.tasks import Bytes, Job

CONFIG = Config(model=SMALL, max_new=8, samples=3, temperature=0.7)
POLICY = {name: value + ("norm" in name) for name, value in talkative(SMALL).items()}  # greedily ends too
PROBLEMS = [replace(problem, check=ODD) for problem in TASK.train[:7]]


def job(config=CONFIG, **changes):
    runtime = replace(plain_runtime(build(SMALL), config), **changes)
    return Job(config, runtime, TASK, Bytes())


def test_pass_at_k_is_the_share_of_subsets_with_a_right_response():
    for n in range(1, 7):
        for right, k in itertools.product(range(n + 1), range(1, n + 1)):
            subsets = list(itertools.combinations([1] * right + [0] * (n - right), k))
            assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_wilson_s_interval_ends_at_the_shares_that_a_test_would_just_reject():
    for right, n in ((0, 50), (3, 50), (25, 50), (50, 50)):
        low, high = wilson(right, n)
        assert 0 <= low <= right / n <= high <= 1
        for p in {low, high} - {0.0, 1.0}:  # 1.96 standard errors of *p* from the estimate
            assert abs(right / n - p) == pytest.approx(1.96 * math.sqrt(p * (1 - p) / n), abs=1e-9)


def test_the_half_width_is_1_96_standard_errors_of_the_mean():
    mean, half = mean_and_half_width([0.0, 1.0, 1.0, 0.0])
    assert mean == 0.5 and half == pytest.approx(1.96 * math.sqrt((4 * 0.25 / 3) / 4))


def test_greedy_is_greedy_and_pass_at_k_is_sampled():
    """Greedy responses are those of a very cold policy, whatever the random numbers."""
    (greedy, texts), (sampled, others) = (answer_problems(job(), POLICY, PROBLEMS, "a", n) for n in (0, 3))
    cold = answer_problems(job(replace(CONFIG, temperature=1e-6)), POLICY, PROBLEMS, "b", 3)
    assert cold[1] == texts != others and 0 < sampled.mean() < 1
    found = score(job(), POLICY, PROBLEMS, "a")
    assert found["greedy"] == pytest.approx(float(greedy.mean()))
    assert found["interval"] == wilson(float(greedy.sum()), 7) and list(found["pass_at"]) == ["1", "2", "3"]
    assert found["pass_at"]["1"][0] == pytest.approx(float(sampled.mean()))
    assert found["pass_at"]["3"][0] == pytest.approx(float(sampled.amax(1).mean()))


def test_each_split_draws_random_numbers_of_its_own_the_same_each_time():
    texts = [answer_problems(job(), POLICY, PROBLEMS, name, 1)[1] for name in ("val", "math", "hard", "val")]
    assert texts[0] == texts[3] and len({*map(tuple, texts)}) == 3


def test_evaluation_never_flips_a_reward():
    noisy = job(replace(CONFIG, reward_flip=1.0))
    assert score(noisy, POLICY, PROBLEMS, "a") == score(job(), POLICY, PROBLEMS, "a")


@pytest.mark.parametrize("world, sample_rows", [(1, 2), (3, 512), (3, 2)])
def test_answers_depend_neither_on_the_number_of_processes_nor_of_rows_at_once(world, sample_rows):
    """Seven problems for three processes; two at once."""
    whole, texts = answer_problems(job(), POLICY, PROBLEMS, "a", 1)
    each = [job(replace(CONFIG, sample_rows=sample_rows), rank=r, processes=world) for r in range(world)]
    parts = [answer_problems(process, POLICY, PROBLEMS, "a", 1) for process in each]
    assert torch.equal(sum(rewards for rewards, _ in parts), whole)
    assert [parts[i % world][1][i // world] for i in range(7)] == texts


def test_the_table_in_words_says_how_far_ahead_and_where_behind():
    scored = lambda **at: {
        s: {"greedy": 0.5, "pass_at": {"1": [a, 0.03], "2": [1.0, 0]}} for s, a in at.items()
    }
    results = {"base": scored(a=0.2, b=0.3), "rival": scored(a=0.9, b=0.1), "ours": scored(a=0.6, b=0.7)}
    words = "ours, on the mean: +40.0 points against base;\n    +15.0 points against rival (30.0 behind on a)"
    assert in_words(results) == words
    shown = line("ours", results["ours"]).split()
    assert shown == "ours 60.0 ± 3.0 70.0 ± 3.0 65.0 ± 2.1 50.0 100.0".split()  # 2.1 = 3 / sqrt 2
    assert heading(("a", "b"), 2).split() == "pass@1, per cent a b mean greedy pass@2".split()
