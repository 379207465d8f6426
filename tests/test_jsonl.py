"""Files of problems: what a line becomes, what is refused and how that is said, who is a knight."""

import json
import time
from pathlib import Path

import pytest

from bridge_min.config import ConfigError
from bridge_min.jsonl import gives_roles, read_problems, read_roles, without_annotations
from bridge_min.tasks import check_references

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = sorted(path for path in DATA.glob("*.jsonl") if path.stem != "answer_cases")
SUM = {"problem": "2 + 3?", "answer": "5"}
PEOPLE = "(1) Zoey is a knight\n(2) Al is a knave"
PUZZLE = {"problem": "Who?", "answer": PEOPLE, "names": ["Zoey", "Al"], "solution": "Suppose Al lies."}


def written(folder, *lines):
    path = folder / "file.jsonl"
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def test_a_line_becomes_a_problem(tmp_path):
    shown = {"problem": r"\frac{1}{2} of {problem}?", "answer": "4", "solution": " 4 = <<8/2=4>>4\n#### 4\n"}
    more = {**SUM, "solution": None, "level": [1], "id": 7}
    path = written(tmp_path, "\ufeff", SUM, shown, more, "\n \n")
    plain, worked, other = read_problems(path, "<|user|>{problem}{}\n{problem}")
    assert (
        plain.prompt == "<|user|>2 + 3?{}\n2 + 3?" and worked.prompt.count(r"\frac{1}{2} of {problem}?") == 2
    )
    assert (worked.answer, worked.solution, worked.kind) == ("4", "4 = 4\n#### 4", "right")
    assert plain == other and plain.solution == ""
    assert plain.reward("so it is\n#### 5") == 1 == worked.reward(worked.solution)
    assert plain.reward("so it is\n#### 6") == 0


def test_a_number_is_the_answer_as_it_is_written(tmp_path):
    lines = [
        f'{{"problem": "?", "answer": {text}}}\n' for text in ("18", "1.50", "-0.1", "12345678901234567890")
    ]
    answers = [problem.answer for problem in read_problems(written(tmp_path, *lines), "{problem}")]
    assert answers == ["18", "1.50", "-0.1", "12345678901234567890"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 + 3\n", "not JSON"),
        ("\n", "not JSON"),
        ('{"problem": "2 + 3?", "answer": "5"\n', "not JSON"),
        ("[" * 100_000 + "\n", "not JSON"),
        ([SUM], "not an object"),
        ({"answer": "5"}, "'problem' is missing"),
        ({"problem": "2 + 3?", "response": "5"}, "'answer' is missing"),
        ({**SUM, "answer": None}, "'answer' is missing"),
        ({**SUM, "answer": True}, "'answer' is True"),
        ({**SUM, "answer": ["5"]}, "'answer' is ['5']"),
        ({**SUM, "answer": float("nan")}, "'answer' is nan"),
        ({**SUM, "answer": " "}, "'answer' is ' '"),
        ({**SUM, "problem": ""}, "'problem' is ''"),
        ({**SUM, "problem": {"text": "?" * 500}}, "'problem' is {'text'"),
        ({**SUM, "solution": ["2 + 3", "5"]}, "'solution' is ['2 + 3'"),
        ({**PUZZLE, "names": ["Zoey", "Al", "Mia"]}, "each of 'names'"),
        ({**PUZZLE, "names": ["Zoey"]}, "each of 'names'"),
        ({**PUZZLE, "names": True}, "each of 'names'"),
        ({**PUZZLE, "answer": "Zoey is a knight, Al is a spy"}, "each of 'names'"),
    ],
)
def test_what_is_wrong_with_a_line(tmp_path, line, said):
    path = written(tmp_path, SUM, SUM, line, SUM)
    with pytest.raises(ConfigError) as error:
        read_problems(path, "{problem}")
    message = str(error.value)
    assert message.startswith(f"{path}, line 3: ") and said in message and len(message) < 600
    assert '"problem": text, "answer": text or number' in message


def test_what_is_wrong_with_a_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.jsonl: No such file"):
        read_problems(tmp_path / "none.jsonl", "{problem}")
    with pytest.raises(ConfigError, match="line 1: not JSON"):
        read_problems(written(tmp_path), "{problem}")
    (tmp_path / "latin.jsonl").write_bytes(b'{"problem": "caf\xe9?", "answer": "5"}')
    with pytest.raises(ConfigError, match=r"latin\.jsonl is not UTF-8"):
        read_problems(tmp_path / "latin.jsonl", "{problem}")


def test_notes_to_a_calculator_are_dropped_and_nothing_else():
    assert without_annotations("48/2 = $<<48/2=24.5>>24.5, <<24+1=25>>25.") == "48/2 = $24.5, 25."
    for text in ("a << b = c >> d", "<<1+1=2", "1 << 2", "f<<17>>", "<<>>", "x>>y", ""):
        assert without_annotations(text) == text
    assert without_annotations("1 << 2 <<1+1=2>>2") == "1 << 2 2"


def test_a_puzzle_s_demonstration_ends_with_the_roles(tmp_path):
    ended = {**PUZZLE, "solution": "Suppose so.\n#### Al is a knave and Zoey is a knight."}
    first, second, bare = read_problems(
        written(tmp_path, PUZZLE, ended, {**PUZZLE, "solution": ""}), "{problem}"
    )
    assert first.solution == "Suppose Al lies.\n#### (1) Zoey is a knight, (2) Al is a knave"
    assert second.solution == ended["solution"] and bare.solution == ""
    assert first.reward(first.solution) == 1 == second.reward(second.solution)


@pytest.mark.parametrize(
    "response",
    [
        "#### " + PEOPLE,
        "#### Al is a knave, Zoey is a knight.",
        "#### First\nSuppose that Al is a knight.\n#### Al is a knave, Zoey is a knight",
        "So it is.\n#### (1) zoey is a KNIGHT; and Al: knave",
        "<think>#### Al is a knight</think>So\n#### **Zoey** is a knight and **Al** is a knave.",
        f"Hence <answer>\n{PEOPLE}\n</answer>",
        r"So \boxed{\text{Zoey is a knight, Al is a knave}}.",
        r"So \boxed{Zoey: knight, Al: knave}",
        "Therefore, Zoey is a knight, and Al is a knave.",
        PEOPLE,
    ],
)
def test_roles_that_are_right(response):
    assert gives_roles(response, PEOPLE)


@pytest.mark.parametrize(
    "response",
    [
        "",
        "####",
        "#### Zoey is a knight",
        "#### Zoey is a knight, Al is a knight",
        "#### Zoey is a knave, Al is a knight",
        "#### Zoey is a knight, Al is a knave, Mia is a knave",
        "#### Zoey is a knight, Al is a knave, Al is a knight",
        "#### Zoey is a knight, Al is a knave, Al is a knave",
        "#### Zoey is not a knave, Al is a knave",
        "#### Zoey is not knight, Al is a knave",
        "#### Zoey is a knight, Al is not a knight",
        "#### Zoey is a knight or Al is a knave",
        "#### Zoey is a knight, Al is a knave?",
        "#### If Zoey is a knight, Al is a knave",
        "#### A is a knight, B is a knave",
        "#### 1 is a knight, 2 is a knave",
        "#### knight, knave",
        "#### Zoey is a knight, Al is a",
        "#### Zoey is a knight, Al is a knave and",
        "#### Zoey is a knight, Al is a knave. Or the other way round.",
        "#### Zoey is a knight, Al is a knave\n#### Zoey is a knave, Al is a knight",
        "#### Zoey is a knight, Al is a knave\n#### ",
        "<think>\n#### Zoey is a knight, Al is a knave",
        "Zoey is a knight, Al is a knave; that was a guess. " + "Let me think. " * 30,
        "#### Zoëy is a knight, Al is a knave",
    ],
)
def test_roles_that_are_not(response):
    assert not gives_roles(response, PEOPLE)


def test_reading_roles():
    assert read_roles("1. Jean-Luc is a knave\n2. O'Neil is a knight.") == {"jean-luc": False, "o'neil": True}
    assert read_roles("") is read_roles("and") is read_roles("12") is read_roles("Al") is None


def test_no_response_is_too_long_or_too_odd():
    began = time.perf_counter()
    for piece in ("#### ", "Al is a knave ", "and ", "1 ", "(", "Al ", "\\text{", "\ud800", "\0"):
        for response in (piece * 30_000, "#### " + piece * 30_000):
            assert not gives_roles(response, PEOPLE)
    assert time.perf_counter() - began < 3


@pytest.mark.skipif(not FILES, reason="../shared/data is absent")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_public_files_can_be_used(path):
    problems = read_problems(path, "{problem}")
    check_references(problems, path.stem)
    shown = [p for p in problems if p.solution]
    refused = sum(not p.reward(p.solution) for p in shown)
    expected = {
        "aime24": 1,
        "math500": 1,
        "math8k_level3to5": 5,
        "olympiadbench": 578,
    }
    assert refused == expected.get(path.stem, 0)
    solved = {"amc23": 0, "math8k_level3to5": 2936}
    assert len(shown) == solved.get(path.stem, len(problems))
    assert not any("<<" in p.solution for p in shown if "olympiad" not in path.stem)
