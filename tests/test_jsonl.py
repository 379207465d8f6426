"""Files of problems: what a line becomes, how lines become splits, what is refused; who is a knight."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_tasks import CONFIG, job
from test_tokenizer import by_hand, write

from bridge_min.config import Config, ConfigError
from bridge_min.real import load_tokenizer, make_sums
from bridge_min.real.jsonl import gives_roles, load_task, read_problems, without_annotations
from bridge_min.tasks import Task, check_fit, demonstrate

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = sorted(path for path in DATA.glob("*.jsonl") if path.stem != "answer_cases")
SUM = {"problem": "2 + 3?", "answer": "5"}
PEOPLE = "(1) Zoey is a knight\n(2) Al is a knave"
PUZZLE = {"problem": "Who?", "answer": PEOPLE, "names": ["Zoey", "Al"], "solution": "Suppose Al lies."}


def written(folder, *lines, name="file.jsonl"):
    path = folder / name
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


# --- A line -------------------------------------------------------------------------------------------------


def test_a_line_becomes_a_problem(tmp_path):
    shown = {"problem": r"\frac{1}{2} of {problem}?", "answer": "4", "solution": " 4 = <<8/2=4>>4\n#### 4\n"}
    more = {**SUM, "solution": None, "level": [1], "id": 7}
    path = written(tmp_path, "\ufeff", SUM, shown, more, "\n \n")
    plain, worked, other = read_problems(path, "<|user|>{problem}{}\n{problem}")
    assert plain.prompt == "<|user|>2 + 3?{}\n2 + 3?"
    assert worked.prompt.count(r"\frac{1}{2} of {problem}?") == 2
    assert (worked.answer, worked.solution) == ("4", "4 = 4\n#### 4")
    assert plain == other and plain.solution == ""
    assert plain.reward("so it is\n#### 5") == 1 and plain.reward("so it is\n#### 6") == 0


def test_a_number_is_the_answer_as_it_is_written(tmp_path):
    texts = ["18", "1.50", "-0.1", "12345678901234567890"]
    lines = [f'{{"problem": "?", "answer": {text}}}\n' for text in texts]
    assert [p.answer for p in read_problems(written(tmp_path, *lines), "{problem}")] == texts


USELESS = (
    ("[" * 100_000 + "\n", "not JSON"),
    ([SUM], "not an object"),
    ('{"problem": "2 + 2?", "problem": "2 + 3?", "answer": "5"}\n', "a key comes twice"),
    ({"answer": "5"}, "'problem' is None"),
    ({**SUM, "problem": f"2{' ' * 1_000_000}+ 3?"}, "of 1000005 characters"),
    ({**SUM, "answer": True}, "'answer' is True"),
    ({**SUM, "answer": " "}, "'answer' is ' '"),
    ({**SUM, "answer": "1/0"}, "the reference answer '1/0' "),
    ({**SUM, "problem": {"text": "?" * 500}}, "'problem' is {'text'"),
    ({**SUM, "solution": ["2 + 3", "5"]}, "'solution' is ['2 + 3'"),
    ({**PUZZLE, "names": ["Zoey", "Al", "Mia"]}, "each of 'names'"),
    ({**PUZZLE, "answer": "Zoey is a knight, Al is a spy"}, "each of 'names'"),
)


@pytest.mark.parametrize("line, said", USELESS)
def test_all_lines_that_cannot_be_used_are_named(tmp_path, line, said):
    path = written(tmp_path, SUM, line, SUM, line)
    with pytest.raises(ConfigError) as error:
        read_problems(path, "{problem}")
    message = str(error.value)
    assert message.startswith(f"{path}, line 2: ") and f"{path}, line 4: " in message and said in message
    assert "2 of 4 lines" in message and len(message) < 800


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.jsonl"):
        read_problems(tmp_path / "none.jsonl", "{problem}")
    (tmp_path / "latin.jsonl").write_bytes(b'{"problem": "caf\xe9?", "answer": "5"}')
    with pytest.raises(ConfigError, match=r"latin\.jsonl cannot be read: .*utf-8"):
        read_problems(tmp_path / "latin.jsonl", "{problem}")


def test_special_tokens_in_a_problem_and_its_solution_are_text(tmp_path):
    """Those of the template are tokens, and so is the response's end."""
    tokenizer = load_tokenizer(write(tmp_path, by_hand()))
    path = written(tmp_path, {"problem": "<|end|>?", "answer": "5", "solution": "<|end|>5"})
    shown = read_problems(path, "<|end|>{problem}<|end|>")
    made = job(replace(CONFIG, demos=1, demos_per_step=1), Task(shown, [], {}, shown, frozenset()))
    row = demonstrate(replace(made, tokenizer=tokenizer), 0).tokens[0].tolist()
    assert row.count(tokenizer.ends[0]) == 3
    assert tokenizer.decode(row) == "<|end|><|end|>?<|end|><|end|>5<|end|>"


def test_a_prompt_that_does_not_fit_the_network_is_named_by_its_line(tmp_path):
    path = written(tmp_path, SUM, {**SUM, "problem": "2 + 3?" * 20})
    problems = read_problems(path, "{problem}")
    with pytest.raises(ConfigError, match=r"up to 130 tokens.* on 1 prompts:\n.*file\.jsonl, line 2'$"):
        check_fit(job(CONFIG, Task(problems, [], {}, [], frozenset())))


def test_notes_to_a_calculator_are_dropped_and_nothing_else():
    assert without_annotations("48/2 = $<<48/2=24.5>>24.5, <<24+1=25>>25.") == "48/2 = $24.5, 25."
    for text in ("a << b = c >> d", "<<1+1=2", "1 << 2", "f<<17>>", "<<>>", "x>>y", ""):
        assert without_annotations(text) == text


# --- Splits -------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    """40 sums to train on, one of them twice, and one of the test problems; every third is shown."""
    rows = [{"problem": f"{a} + 1?", "answer": str(a + 1)} for a in range(60)]
    shown = [{**row, "solution": f"#### {a + 1}" if a % 3 == 0 else ""} for a, row in enumerate(rows)]
    again = {**rows[7], "problem": " 7  + 1?"}
    written(tmp_path, *shown[:40], again, rows[50], name="train.jsonl")
    written(tmp_path, *rows[40:], name="test.jsonl")
    files = {"data": str(tmp_path), "train_file": "train.jsonl", "test_files": ("test.jsonl",)}
    sizes = {"train_problems": 30, "val_problems": 10, "test_problems": 5, "demos": 8}
    return Config(task="jsonl", base="a checkpoint", **files, **sizes, prompts=4, demos_per_step=2)


def test_splits_are_disjoint_and_repeatable(config):
    task = load_task(config)
    splits = {"train": task.train, "val": task.val, **task.tests}
    assert {name: len(problems) for name, problems in splits.items()} == {"train": 30, "val": 10, "test": 5}
    assert len({p.prompt.strip() for problems in splits.values() for p in problems}) == 45
    assert load_task(config) == task and load_task(replace(config, seed=1)).val != task.val


def append(config, *rows):
    with (Path(config.data) / "train.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_a_problem_is_repeated_however_its_accents_are_written(config):
    append(config, *({"problem": text, "answer": "1"} for text in ("caf\u00e9?", "cafe\u0301?")))
    with pytest.raises(ConfigError, match="has 31 for train_problems"):
        load_task(replace(config, train_problems=40))


def test_a_repeated_problem_with_another_answer_is_reported(config, capsys):
    append(config, {"problem": "3 + 1?", "answer": "5"}, {"problem": "4 + 1?", "answer": "5.0"})
    load_task(config)
    said, path = capsys.readouterr().out, Path(config.data) / "train.jsonl"
    assert f"\nanother answer than at first, one of 1: {path}, line 43: '5'; {path}, line 4: '4'\n" in said


def test_the_first_training_problems_are_demonstrated(config):
    task = load_task(config)
    assert task.demos == task.train[:8] and all(demo.reward(demo.solution) for demo in task.demos)


def test_rl_alone_needs_no_solutions(config):
    with pytest.raises(ConfigError, match=r"train\.jsonl has .* demos = 20 is more"):
        load_task(replace(config, demos=20))
    assert len(load_task(replace(config, demos=20, method="grpo")).train) == 30


REFUSED = (
    ({"base": ""}, "no documents to pretrain a toy on: set base"),
    ({"prompt": "?"}, "prompt = '\\?' must contain {problem}"),
    ({"test_files": ()}, "test_files is empty"),
    ({"test_files": ("test.jsonl", "a/../test.jsonl")}, "share a name"),
    ({"train_problems": 31}, "has 30 for train_problems besides those of val_problems = 10"),
)


@pytest.mark.parametrize("changes, message", REFUSED)
def test_settings_that_do_not_fit_the_files_are_named(config, changes, message):
    (Path(config.data) / "a").mkdir()
    with pytest.raises(ConfigError, match=message):
        load_task(replace(config, **changes))


def test_the_sums_are_a_task_and_no_pair_is_in_both_files(tmp_path):
    make_sums.main(tmp_path)
    pairs = [
        {tuple(sorted(int(word) for word in p.prompt.strip("?").split() if word.isdigit())) for p in problems}
        for problems in (read_problems(tmp_path / f"sums_{k}.jsonl", "{problem}") for k in ("train", "test"))
    ]
    assert [len(part) for part in pairs] == [2000, 200] and not pairs[0] & pairs[1]


# --- Knights and knaves -------------------------------------------------------------------------------------


def test_a_puzzles_demonstration_ends_with_the_roles(tmp_path):
    ended = {**PUZZLE, "solution": "Suppose so.\n#### Al is a knave and Zoey is a knight."}
    first, second = read_problems(written(tmp_path, PUZZLE, ended), "{problem}")
    assert first.solution == "Suppose Al lies.\n#### (1) Zoey is a knight, (2) Al is a knave"
    assert second.solution == ended["solution"]
    assert first.reward(first.solution) == 1 == second.reward(second.solution)


RIGHT = (
    "#### " + PEOPLE,
    "So it is.\n#### (1) zoey is a KNIGHT; and Al: knave",
    "<think>#### Al is a knight</think>So\n#### **Zoey** is a knight and **Al** is a knave.",
    r"So \boxed{\text{Zoey is a knight, Al is a knave}}.",
    "Therefore, Zoey is a knight, and Al is a knave.",
)


@pytest.mark.parametrize("response", RIGHT)
def test_roles_that_are_right(response):
    assert gives_roles(response, PEOPLE)


WRONG = (
    "#### Zoey is a knight",
    "#### Zoey is a knave, Al is a knight",
    "#### Zoey is a knight, Al is a knave, Mia is a knave",
    "#### Zoey is a knight, Al is a knight, Al is a knave",
    "#### Zoey is not a knave, Al is a knave",
    "#### Zoey is a knight or Al is a knave",
    "#### Zoey is a knight, Al is a knave. Or the other way round.",
    "#### Zoey is a knight, Al is a knave\n#### ",
    "<think>\n#### Zoey is a knight, Al is a knave",
)


@pytest.mark.parametrize("response", WRONG)
def test_roles_that_are_not(response):
    assert not gives_roles(response, PEOPLE)


def test_no_response_is_too_long_or_too_odd():
    began = time.perf_counter()
    for piece in ("#### ", "Al is a knave ", "1 ", "(", "\\text{", "\ud800", "\0"):
        assert not gives_roles("#### " + piece * 30_000, PEOPLE)
    assert time.perf_counter() - began < 3


@pytest.mark.slow
@pytest.mark.skipif(not FILES, reason="../shared/data is absent")
def test_public_files_can_be_used_and_nearly_all_their_solutions_are_right():
    problems = {path.stem: read_problems(path, "{problem}") for path in FILES}
    wrong = lambda found: sum(bool(p.solution) and not p.reward(p.solution) for p in found)
    assert sum(map(len, problems.values())) > 20_000
    assert {name for name, found in problems.items() if wrong(found) > 5} <= {"olympiadbench"}
