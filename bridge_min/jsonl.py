"""A file of problems, one JSON object a line, as prompts, reference answers and demonstrations.

    {"problem": "What is 2 + 3?", "answer": "5"}
    {"problem": "What is 4 + 4?", "answer": "8", "solution": "4 + 4 = 8\\n#### 8"}

Other fields are left alone but for one: `names` marks a puzzle of knights and knaves, whose answer gives each
of these people a role. Read on in tasks.py, where files become splits, and in answer.py.
"""

import json
from pathlib import Path
from typing import Any

from .answer import extract_answer, is_correct
from .config import ConfigError
from .problem import Problem

NEEDS = 'a line needs {"problem": text, "answer": text or number}, and may have "solution": text'
ROLES = {"knight": True, "knave": False}
SPACED = str.maketrans(dict.fromkeys(",;:.()*{}", " "))  # of lists, bold type and boxes


def read_problems(path: Path, prompt: str) -> list[Problem]:
    """The file's problems, in its order. `prompt` is how one is put to the model, where {problem} stands for
    its text. Raises ConfigError that names the file, and the line (from 1) at fault."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: data is the folder, *_file its files") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from None
    problems = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line, parse_int=str, parse_float=str)  # a number as it is written
            problems.append(as_problem(row, prompt))
        except (ValueError, RecursionError) as error:
            fault = error if type(error) is ValueError else f"not JSON ({error})"
            raise ConfigError(f"{path}, line {number}: {fault}; {NEEDS}") from None
    return problems


def as_problem(row: Any, prompt: str) -> Problem:
    """One line's problem. Raises ValueError that says what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("not an object")
    text, answer, solution = field(row, "problem"), field(row, "answer"), field(row, "solution", "")
    solution, check, names = without_annotations(solution).strip(), is_correct, row.get("names")
    if names is not None:
        people = {str(name).lower() for name in names} if isinstance(names, list) else None
        if set(read_roles(answer) or ()) != people:
            raise ValueError("'answer' must give each of 'names', and no one else, the role knight or knave")
        check = gives_roles
        if solution and not check(solution, answer):
            solution += "\n#### " + ", ".join(answer.split("\n"))
    return Problem(prompt.replace("{problem}", text), answer, solution, check)


def field(row: dict[str, Any], name: str, default: str | None = None) -> str:
    value = default if row.get(name) is None else row[name]
    if value is None:
        raise ValueError(f"{name!r} is missing")
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise ValueError(f"{name!r} is {value!r:.80}")
    return value


def without_annotations(solution: str) -> str:
    """ "48/2 = <<48/2=24>>24" -> "48/2 = 24": GSM8K's notes to a calculator. Other angles stay."""
    head, *rest = solution.split("<<")
    for part in rest:
        note, closed, after = part.partition(">>")
        dropped = closed and "=" in note and len(note.split()) == 1
        head += after if dropped else "<<" + part
    return head


def gives_roles(response: str, answer: str) -> bool:
    """Does the response, any string, end by giving the answer's people, and no one else, their roles, in any
    order? What it states stands after the last `####`, or else where `extract_answer` finds it."""
    text = response.rpartition("</think>")[2].partition("<think>")[0]
    _, found, stated = text.rpartition("####")
    roles = read_roles(stated if found else extract_answer(text) or "")
    return roles is not None and roles == read_roles(answer)


def read_roles(text: str) -> dict[str, bool] | None:
    """ "(1) Zoey is a knight\\n(2) Al is a knave", or "Zoey: knight, and Al: knave." -> {"zoey": True, "al":
    False}: who is a knight. None if anything is in doubt."""
    roles: dict[str, bool] = {}
    words = iter(text.replace("\\text", " ").translate(SPACED).lower().split())
    for word in words:
        while word == "and" or word.isdecimal():
            word = next(words, "")
        role = next(words, "")
        if role == "is":
            role = next(words, "")
            role = next(words, "") if role == "a" else role
        if word in roles or role not in ROLES:
            return None
        roles[word] = ROLES[role]
    return roles or None
