"""Estimates against counting, intervals against their definition; the tables; eval.py on a folder."""

import importlib
import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bridge_min import data, evaluate
from bridge_min.config import Config, ConfigError, ModelConfig, generator, load_config, to_json
from bridge_min.evaluate import (
    Score,
    across,
    answer_problems,
    mean_and_half_width,
    pass_at_k,
    score,
    table,
    wilson,
)
from bridge_min.model import build, init_params
from bridge_min.pretrained import save_pretrained
from bridge_min.tasks import load_task
from bridge_min.tokenizer import TokenizerError, byte_tokenizer

MODEL = ModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
THETA = init_params(MODEL, generator(0, 0, "init"))
CONFIG = Config(model=MODEL, temperature=0.8, samples=3, max_new=4, test_problems=5, demos_per_step=8)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_response():
    for n in range(1, 7):
        for right in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(itertools.combinations([1] * right + [0] * (n - right), k))
                assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_wilson_holds_the_shares_that_a_test_would_not_reject():
    for right, n in ((0, 50), (3, 50), (25, 50), (50, 50)):
        low, high = wilson(right, n)
        assert 0 <= low <= right / n <= high <= 1
        for p in (low, high):
            if 0 < p < 1:  # the ends lie 1.96 standard errors of *p* from the estimate
                assert abs(right / n - p) == pytest.approx(1.96 * math.sqrt(p * (1 - p) / n), abs=1e-9)


def test_mean_and_half_width():
    mean, half = mean_and_half_width([0.0, 1.0, 1.0, 0.0])
    assert mean == 0.5 and half == pytest.approx(1.96 * math.sqrt((4 * 0.25 / 3) / 4))
    assert mean_and_half_width([0.7]) == (0.7, 0.0)


def test_greedy_is_greedy_and_pass_at_k_is_sampled(monkeypatch):
    temperatures, original = [], data.sample
    monkeypatch.setattr(data, "sample", lambda *args: (temperatures.append(args[-1]), original(*args))[1])
    found = score(CONFIG, build(MODEL), THETA, byte_tokenizer(), load_task(CONFIG).tests["math"])
    assert temperatures == [0.0, 0.8] and list(found.pass_at) == [1, 2, 3]


def test_evaluation_never_flips_a_reward():
    """An untrained policy solves nothing, also where every training reward is flipped."""
    config = replace(CONFIG, reward_flip=1.0)
    found = score(config, build(MODEL), THETA, byte_tokenizer(), load_task(config).tests["math"])
    assert found.greedy == 0 and found.pass_at[2] == (0.0, 0.0)


@pytest.mark.parametrize("samples", [0, 3])
def test_responses_do_not_depend_on_how_many_are_sampled_at_once(samples, monkeypatch):
    """They are those of one call with all random numbers, drawn together."""
    problems = load_task(CONFIG).tests["math"]
    rows, drawn, original = [], [], data.sample

    def watched(model, params, prompts, uniforms, *rest):
        rows.append(len(uniforms))
        drawn.append(uniforms)
        return original(model, params, prompts, uniforms, *rest)

    monkeypatch.setattr(data, "sample", watched)
    answers = lambda config: answer_problems(config, build(MODEL), THETA, byte_tokenizer(), problems, samples)
    whole = answers(CONFIG)
    expected = torch.rand(5 * max(samples, 1), 4, generator=generator(0, 0, "evaluation"))
    assert rows == [len(expected)] and torch.equal(drawn[0], expected)
    for at_once in (7, 2, 1):
        rows.clear(), drawn.clear()
        assert answers(replace(CONFIG, sample_rows=at_once)) == whole
        assert max(rows) <= max(at_once, samples) and torch.equal(torch.cat(drawn), expected)
    assert len(rows) == 5 and len({*whole[1]}) > 1


def test_progress_is_told_now_and_then(monkeypatch, capsys):
    """Four problems, a chunk each, of 4 s: the third is done after 12 s, and one is left."""
    seconds, original = [0.0], data.sample
    monkeypatch.setattr(evaluate, "time", SimpleNamespace(monotonic=lambda: seconds[0]))

    def slow(*args):
        seconds[0] += 4.0
        return original(*args)

    monkeypatch.setattr(data, "sample", slow)
    config, problems = replace(CONFIG, sample_rows=1), load_task(CONFIG).tests["math"][:4]
    answer_problems(config, build(MODEL), THETA, byte_tokenizer(), problems)
    assert capsys.readouterr() == ("", "    3 of 4, greedy, 4 s left\n")
    answer_problems(config, build(MODEL), THETA, byte_tokenizer(), problems * 2, 2)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["    3 of 8, 2 samples each, 20 s left", "    6 of 8, 2 samples each, 8 s left"]
    answer_problems(config, build(MODEL), THETA, byte_tokenizer(), problems[:3])  # done after 12 s
    assert capsys.readouterr().err == ""


SCORES = {
    "math500": Score(0.5, (0.4, 0.6), {1: (0.25, 0.02), 2: (0.4, 0.02), 4: (0.75, 0.02)}),
    "a_rather_long_name_for_a_suite": Score(0.0, (0.0, 0.1), {1: (0.5, 0.0), 2: (0.6, 0.0), 4: (1.0, 0.0)}),
}


def test_the_table_keeps_its_columns_apart():
    header, first, second = table(SCORES).splitlines()
    assert len(first) == len(second) and first.startswith("math500  ")
    assert second.split()[:2] == ["a_rather_long_name_for_a_suite", "0.0"]
    assert header.index("greedy") + 6 == first.index("50.0") + 4 == second.index("0.0  ") + 3
    [line] = table({"math": SCORES["math500"]}).splitlines()[1:]
    assert line[:32] == f"{'math':<24}    50.0"


def test_the_row_across_suites_is_markdown_with_the_mean():
    lines = across(SCORES).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", *SCORES, "mean"] and {*map(len, lines)} == {len(lines[0])}
    assert all(set(cell) == {"-", ":"} for cell in cells[1])
    assert cells[2:] == [
        ["greedy", "50.0", "0.0", "25.0"],
        ["avg@4", "25.0", "50.0", "37.5"],
        ["pass@4", "75.0", "100.0", "87.5"],
    ]


@pytest.fixture
def folder(tmp_path):
    """A model, and a run.json that asks for files: a suite of 2 and one of 3 problems."""
    for name, count in (("train", 9), ("two", 2), ("three", 3)):
        rows = [{"problem": f"{name} {k}?", "answer": "5", "solution": "#### 5"} for k in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = {"train_problems": 5, "val_problems": 4, "demos": 2, "demos_per_step": 2, "prompts": 2}
    names = {"train_file": "train.jsonl", "test_files": ("two.jsonl", "three.jsonl")}
    config = replace(CONFIG, task="jsonl", data=str(tmp_path), **sizes, **names)
    save_pretrained(tmp_path / "run", THETA, MODEL)
    (tmp_path / "run" / "run.json").write_text(to_json(config))
    return tmp_path / "run"


def test_eval_prints_a_row_for_each_suite_and_one_across(folder, capsys):
    main = importlib.import_module("eval").main
    main(folder, {})
    printed = capsys.readouterr()
    assert "two, 2 problems   " in printed.out and "three, 3 problems   " in printed.out
    assert [line.split("|")[1].strip() for line in printed.out.splitlines() if "|" in line][2:] == [
        *("greedy", "avg@3", "pass@3")
    ]
    assert printed.err.splitlines() == ["two, 2 problems", "three, 3 problems"]
    main(folder, {"splits": "val", "samples": "2"})
    printed = capsys.readouterr().out
    assert "val, 4 problems" in printed and "pass@2" in printed and "|" not in printed


def test_eval_refuses_before_it_computes(folder, monkeypatch):
    module = importlib.import_module("eval")
    monkeypatch.setattr(module, "load_pretrained", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match="'four' is not one of train, val, two, three"):
        module.main(folder, {"splits": "two,four"})
    with pytest.raises(ConfigError, match="max_new = 4000"):
        module.main(folder, {"max_new": "4000"})
    config = load_config(folder / "run.json")
    (folder / "run.json").write_text(to_json(replace(config, test_files=(), table="none")))
    with pytest.raises(ConfigError, match="choose by --splits= from train, val"):
        module.main(folder, {})
    (folder / "run.json").write_text(to_json(replace(CONFIG, model=ModelConfig(), base="models/some")))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):  # never the bytes, for what is no toy
        module.main(folder, {})
