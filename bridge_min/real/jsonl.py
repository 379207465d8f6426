"""Files of problems, one JSON object a line, as splits, reference answers and demonstrations.

    {"problem": "What is 2 + 3?", "answer": "5"}
    {"problem": "What is 4 + 4?", "answer": "8", "solution": "4 + 4 = 8\\n#### 8"}

Other fields are left alone but for one: `names` marks a puzzle of knights and knaves, whose answer gives each
of these people a role. A key must not come twice. Splits are disjoint by text; what a checkpoint has read,
nobody knows. Read on in answer/__init__.py.
"""

import json
import random
import sys
import unicodedata
from pathlib import Path
from typing import Any

from ..answer import extract_answer, is_correct, reference_problem
from ..config import Config, ConfigError, require
from ..tasks import Problem, Task
from .tokenizer import LONGEST

NEEDS = 'a line needs {"problem": text, "answer": text or number}, and may have "solution": text'
ROLES = {"knight": True, "knave": False}
SPACED = str.maketrans(dict.fromkeys(",;:.()*{}", " "))  # of lists, bold type and boxes


def load_task(config: Config) -> Task:
    """The problems of a config's files, the same for the same seed. The train file is shuffled: the first
    problems are for validation, the next with a solution are demonstrated. Raises ConfigError if there are
    not enough, or for a file it cannot use."""
    require(config.base, "task = 'jsonl' has no documents to pretrain a toy on: set base to a checkpoint")
    require("{problem}" in config.prompt, f"prompt = {config.prompt!r} must contain {{problem}}")
    require(config.test_files or config.table == "none", "test_files is empty: name some, or table = 'none'")
    read = lambda name: read_problems(Path(config.data) / name, config.prompt)
    tests = {Path(name).stem: read(name) for name in config.test_files}
    require(len(tests) == len(config.test_files), f"two of test_files = {config.test_files} share a name")
    lines, first, odd = read(config.train_file), {}, []
    for problem in [problem for part in (*tests.values(), lines) for problem in part]:
        known = first.setdefault(same_text(problem), problem)
        if known is not problem and not known.reward(f"#### {problem.answer}"):
            odd.append(f"{problem.source}: {problem.answer!r:.80}; {known.source}: {known.answer!r:.80}")
    fresh = [problem for problem in lines if first[same_text(problem)] is problem]
    random.Random(f"{config.seed}/problems").shuffle(fresh)
    val, left = fresh[: config.val_problems], fresh[config.val_problems :]
    solved = [problem for problem in left if problem.solution]
    demos = config.demos if config.method != "grpo" else 0  # which looks at no solution
    for key, asked, found in ("train_problems", config.train_problems, left), ("demos", demos, solved):
        kind = f"{len(found)} for {key} besides those of val_problems = {config.val_problems}"
        require(asked <= len(found), f"{config.train_file} has {kind}: {key} = {asked} is more")
    train = list(dict.fromkeys([*solved[: config.demos], *left]))[: config.train_problems]
    wrong = sum(not demo.reward(demo.solution) for demo in train[: config.demos])
    print(f"{len(lines) - len(fresh)} of {len(lines)} lines are dropped (repeated, or in a test file)")
    for line in odd[:20]:
        print(f"another answer than at first, one of {len(odd)}: {line}")
    print(f"{wrong} of {config.demos} demonstrations earn no reward")
    for name, problems in tests.items():
        if len(problems) > config.test_problems:
            tests[name] = random.Random(f"{config.seed}/{name}").sample(problems, config.test_problems)
    return Task(train, val, tests, train[: config.demos], frozenset())


def same_text(problem: Problem) -> str:
    """Equal for problems whose texts differ in white space only, or in how accents are written."""
    return " ".join(unicodedata.normalize("NFC", problem.text).split())


def read_problems(path: Path, prompt: str) -> list[Problem]:
    """The file's problems, in its order. `prompt` is how one is put to the model, where {problem} stands for
    its text. Raises ConfigError that names the file, and the lines (from 1) at fault."""
    print(f"reading {path}", file=sys.stderr)
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; data is the folder, *_file its files") from None
    problems, faults = [], []
    for number, line in enumerate(lines, 1):
        source = f"{path}, line {number}"
        try:
            row = json.loads(line, parse_int=str, parse_float=str, object_pairs_hook=once)  # numbers as text
            problems.append(as_problem(row, prompt, source))
        except (ValueError, RecursionError) as error:
            fault = error if type(error) is ValueError else f"not JSON ({error})"
            faults.append(f"{source}: {fault}")
    if faults:
        count = f"{len(faults)} of {len(lines)} lines cannot be used, mend or drop them: {NEEDS}"
        raise ConfigError("\n".join([*faults[:20], count]))
    return problems


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a key that comes twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a key comes twice in {[key for key, _ in pairs]!r:.80}")
    return row


def as_problem(row: Any, prompt: str, source: str) -> Problem:
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
    if not check(f"#### {answer}", answer):  # or every response would score 0
        raise ValueError(f"the reference answer {answer!r} {reference_problem(answer) or 'is refused'}")
    return Problem(text, answer, solution, check, prompt, source)


def field(row: dict[str, Any], name: str, default: str | None = None) -> str:
    """Raises ValueError for what is no text, blank where there is no default, or too long to be read."""
    value = default if row.get(name) is None else row[name]
    if not isinstance(value, str) or (default is None and not value.strip()) or len(value) > LONGEST // 2:
        raise ValueError(f"{name!r} is {value!r:.80} of {len(str(value))} characters")
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
    words = text.replace("\\text", " ").translate(SPACED).lower().split()
    words = [word for word in words if word not in ("is", "a", "and") and not word.isdecimal()]
    names, roles = words[::2], words[1::2]
    clear = 0 < len(set(names)) == len(names) == len(roles) and ROLES.keys() >= set(roles)
    return {name: ROLES[role] for name, role in zip(names, roles, strict=True)} if clear else None
