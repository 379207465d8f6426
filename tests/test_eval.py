"""eval.py: the numbers of the run's own table; and what it refuses. Checkpoints: see test_real.py."""

import importlib

import pytest
from runs import run

cli = importlib.import_module("eval").cli  # eval is a word of Python


@pytest.fixture(scope="module")
def tables(folder):
    """The folder of the runs, and of one of them the table of each of its rows."""
    options = ("--steps=2", "--table=all", "--select=none", "--temperature=0.7")
    parts = run(folder, "evaluated", *options)[0].split("\n\n")
    return folder, dict(part.split(", per cent\n") for part in parts if ", per cent\n" in part)


def test_a_run_gets_the_numbers_of_its_table(tables, capsys):
    cli([str(tables[0] / "evaluated")])
    assert capsys.readouterr().out == tables[1]["trained by bridge"] + "\n" != tables[1]["base"] + "\n"


def test_a_toys_base_gets_the_numbers_of_its_row(tables, capsys):
    """Its settings are those of the run that made it; here another run's are asked for."""
    folder = next(tables[0].glob("base-*"))
    for settings in ("--temperature=0.7", f"--config={tables[0] / 'evaluated' / 'run.json'}"):
        cli([str(folder), settings])
        assert capsys.readouterr().out == tables[1]["base"] + "\n"


def test_splits_and_settings_can_be_chosen(tables, capsys):
    cli([str(tables[0] / "evaluated"), "--splits=code,val", "--samples=5", "--val_problems=7"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["code", "val", "mean"] and "pass@5" in lines[0]
    assert lines[1].split()[1:5] == tables[1]["trained by bridge"].splitlines()[3].split()[1:5]


REFUSED = (
    (["nowhere"], "nowhere is no folder"),
    (["evaluated", "--splits=val,cod"], "'cod' is not one of train, val, math, hard, code, science"),
    (["evaluated", "--sampels=3"], "did you mean samples"),
    (["evaluated", "--splits", "val"], "did you mean --key=value"),
    (["evaluated", "--model.hidden_size=32"], "evaluated/model"),
    (["unended"], "holds no model yet"),
)


@pytest.mark.parametrize("arguments, words", REFUSED, ids=str)
def test_what_cannot_be_evaluated_is_said(tables, arguments, words):
    (tables[0] / "unended").mkdir(exist_ok=True)
    (tables[0] / "unended" / "run.json").write_text("{}")
    with pytest.raises(SystemExit, match=f"error: .*{words}"):
        cli([str(tables[0] / arguments[0]), *arguments[1:]])
