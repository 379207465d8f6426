"""What all worlds share: splits that follow from the seed, the kinds of demonstrations, references that can
be used. The splits of files. The config files: every one can be loaded, and its task too."""

import json
import random
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from bridge_min.arith import check
from bridge_min.config import Config, ConfigError, load_config
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


# --- Files --------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
TRAIN = [{"problem": f"{k} + 1?", "answer": str(k + 1)} for k in range(30)]
for row in TRAIN[::2]:
    row["solution"] = f"<<{row['answer']}={row['answer']}>>\n#### {row['answer']}"
TEST = [{"problem": f"{k} + 2?", "answer": str(k + 2)} for k in range(9)]


@pytest.fixture
def files(tmp_path):
    """A config of files: 30 problems, 15 with a solution; suites of 9 and of 4."""
    for name, rows in (("train", TRAIN), ("nine", TEST), ("four", TEST[:4])):
        write(tmp_path / f"{name}.jsonl", rows)
    sizes = {"train_problems": 20, "val_problems": 6, "test_problems": 7, "demos": 5, "demos_per_step": 2}
    names = {"train_file": "train.jsonl", "test_files": ("nine.jsonl", "four.jsonl")}
    prompt = {"prompt": "Q: {problem}\nA:", "prompts": 8}
    return Config(task="jsonl", data=str(tmp_path), **sizes, **names, **prompt)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prompts(problems):
    return [problem.prompt for problem in problems]


def test_files_become_splits(files):
    task = load_task(files)
    assert (len(task.train), len(task.val)) == (20, 6)
    assert {name: len(problems) for name, problems in task.tests.items()} == {"nine": 7, "four": 4}
    assert len({*prompts(task.train), *prompts(task.val)}) == 26
    assert set(prompts(task.tests["nine"])) <= {f"Q: {row['problem']}\nA:" for row in TEST}
    assert task.demos == task.train[:5] and not task.hidden
    assert all(d.solution == f"#### {d.answer}" and d.kind == "right" for d in task.demos)
    solved = [bool(problem.solution) for problem in task.train[5:]]
    assert any(solved) and solved != sorted(solved, reverse=True)  # drawn from all that is left


def test_the_split_follows_from_the_seed(files):
    task, again, other = load_task(files), load_task(files), load_task(replace(files, seed=1))
    assert task == again
    assert task.tests["nine"] != other.tests["nine"]
    assert set(prompts(task.val)) != set(prompts(other.val)) and task.demos != other.demos
    fewer = load_task(replace(files, demos=3, train_problems=15, test_files=("nine.jsonl",)))
    assert (fewer.val, fewer.demos) == (task.val, task.demos[:3])
    assert fewer.tests["nine"] == task.tests["nine"]


def test_what_is_repeated_or_tested_is_not_trained_on(files, capsys):
    def spaced(row):
        return {**row, "problem": row["problem"].replace(" ", "\n  ")}

    again = {**TRAIN[2], "answer": "77", "solution": "#### 77"}
    wrong = {"problem": "1 + 1 + 1?", "answer": "3", "solution": "#### 4"}
    rows = [*TRAIN[:6], again, *map(spaced, TRAIN[:2]), *TEST[:2], spaced(TEST[8]), wrong]
    write(Path(files.data) / "train.jsonl", rows)
    config = replace(files, train_problems=5, val_problems=2, demos=1, demos_per_step=1, prompts=2)
    seen = []
    for seed in range(8):
        task = load_task(replace(config, seed=seed))
        assert {p.answer for p in task.train + task.val} == {"1", "2", "3", "4", "5", "6"}
        assert len({*prompts(task.train), *prompts(task.val)}) == 7
        [line] = capsys.readouterr().out.splitlines()
        assert "13 lines, 6 dropped" in line and "2 for validation, 5 to train on, 1 of them" in line
        shown = task.demos[0].prompt == "Q: 1 + 1 + 1?\nA:"
        assert f", {int(shown)} by a solution that earns no reward" in line
        seen.append(shown)
    assert {*seen} == {True, False}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_problems": 25}, r"train\.jsonl has 24 problems besides .* 6: train_problems = 25 is more"),
        ({"val_problems": 40}, r"train\.jsonl has 0 problems besides .* 40: train_problems = 20 is more"),
        ({"demos": 16}, r"train\.jsonl has \d+ solutions besides .* 6: demos = 16 is more"),
        ({"prompt": "Solve this."}, "must contain {problem}"),
        ({"train_file": ""}, "train_file is empty"),
        ({"train_file": "absent.jsonl"}, r"absent\.jsonl: No such file"),
        ({"test_files": ()}, "test_files is empty"),
        ({"test_files": ("nine.jsonl", "./nine.jsonl")}, "share a name"),
        ({"train_file": "nine.jsonl"}, "has 0 problems"),
    ],
)
def test_files_that_do_not_do(files, changes, said):
    with pytest.raises(ConfigError, match=said):
        load_task(replace(files, prompts=2, **changes))


def test_no_test_suite_is_needed_where_there_is_no_table(files):
    assert load_task(replace(files, test_files=(), table="none")).tests == {}


@pytest.mark.parametrize("name", ["train", "four"])
def test_a_reference_that_cannot_be_used_is_found_by_its_line(files, name):
    rows = {"train": TRAIN, "four": TEST}[name][:3]
    write(Path(files.data) / f"{name}.jsonl", [*rows, {"problem": "?", "answer": "5=6"}])
    with pytest.raises(ConfigError, match=rf"{name}\.jsonl, line 4: the reference answer '5=6' is not equal"):
        load_task(files)


def test_files_are_nothing_to_pretrain_on(files):
    with pytest.raises(ConfigError, match="set base"):
        reading(files, 0, frozenset())


# --- tiny_configs -------------------------------------------------------------------------------------------

SCRIPTS = ("make_sums",)
CONFIGS = [path for path in sorted((ROOT / "tiny_configs").glob("*.py")) if path.stem not in SCRIPTS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_can_be_loaded(path):
    config = load_config(path, ["--device=cpu"])
    assert config.out == f"out/{path.stem}"
    if config.task == "jsonl":
        assert config.base and config.end and "\b" not in config.prompt
        assert config.prompt.endswith(("assistant\n", "assistant<|end_header_id|>\n\n"))
        assert all(mark in path.read_text() for mark in ("GiB", f"train.py tiny_configs/{path.name}"))


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS if path.stem.endswith(("gsm8k", "math"))])
def test_the_public_files_have_what_the_configs_ask_for(name, monkeypatch):
    if not DATA.is_dir():
        pytest.skip("../shared/data is absent")
    monkeypatch.setattr("bridge_min.tasks.check_references", lambda *_: None)  # slow; test_jsonl.py does it
    config = load_config(ROOT / "tiny_configs" / f"{name}.py", ["--device=cpu"])
    task = load_task(replace(config, data=str(DATA)))
    sizes = {"math500": 500, "minerva_math": 272, "olympiadbench": 675, "aime24": 30, "amc23": 40}
    found = {suite: len(problems) for suite, problems in task.tests.items()}
    assert found == (sizes if "math" in name else {"gsm8k_test": 1319})
    assert len(task.train) == config.train_problems and len(task.demos) == config.demos


def test_the_sums_are_right_and_apart(tmp_path):
    runpy.run_path(str(ROOT / "tiny_configs" / "make_sums.py"))["main"](tmp_path / "data")
    config = load_config(ROOT / "tiny_configs" / "smollm2_sums.py", [f"--data={tmp_path / 'data'}"])
    task = load_task(config)
    assert (len(task.train), len(task.val), len(task.demos)) == (1900, 32, 500)
    pairs = {}
    for part in ("train", "test"):
        rows = [json.loads(line) for line in (tmp_path / "data" / f"sums_{part}.jsonl").open()]
        terms = [row["problem"].removeprefix("What is ").removesuffix("?").split(" + ") for row in rows]
        assert [int(a) + int(b) for a, b in terms] == [int(row["answer"]) for row in rows]
        pairs[part] = {frozenset(pair) for pair in terms}
        assert len(pairs[part]) == len(rows) == {"train": 2000, "test": 200}[part]
        assert {len(term) for pair in terms for term in pair} == {1, 2}
    assert not pairs["train"] & pairs["test"]
    for demo in task.demos:
        assert demo.reward(demo.solution) and demo.prompt.endswith("?<|im_end|>\n<|im_start|>assistant\n")
