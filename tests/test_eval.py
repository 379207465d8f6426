"""eval.py: the numbers of the run's own table; and what it refuses. Checkpoints: see test_real.py."""

import importlib

import pytest
from runs import run

cli = importlib.import_module("eval").cli  # eval is a word of Python


@pytest.fixture(scope="module")
def table(folder):
    """The folder of the runs, and the words of each line of one's table, by the line's name."""
    options = ("--steps=2", "--table=all", "--select=none", "--temperature=0.7")
    lines = run(folder, "evaluated", *options)[0].split("\n\n")[1].splitlines()
    return folder, {line[:24].strip(): line[24:].split() for line in lines}


def asked(capsys, *arguments):
    """The words of heading and line."""
    cli([*map(str, arguments)])
    heading, line = capsys.readouterr().out.splitlines()
    return heading[24:].split(), line[-len(heading) + 24 :].split()


def test_a_run_gets_the_numbers_of_its_table(table, capsys):
    folder, rows = table
    assert asked(capsys, folder / "evaluated") == (rows["pass@1, per cent"], rows["trained by bridge"])
    assert rows["trained by bridge"] != rows["base"]


def test_a_toys_base_gets_the_numbers_of_its_row(table, capsys):
    """Its settings are those of the run that made it; here another run's are asked for."""
    base = next(table[0].glob("base-*"))
    for settings in ("--temperature=0.7", f"--config={table[0] / 'evaluated' / 'run.json'}"):
        assert asked(capsys, base, settings)[1] == table[1]["base"]


def test_splits_and_settings_can_be_chosen(table, capsys):
    heading, line = asked(
        capsys, table[0] / "evaluated", "--splits=code,val", "--samples=5", "--val_problems=7"
    )
    assert heading == ["code", "val", "mean", "greedy", "pass@2", "pass@4", "pass@5"]
    assert len(line) == 3 * 3 + 4  # mean, ±, half width


REFUSED = (
    (["nowhere"], "nowhere is no folder"),
    (["evaluated", "--splits=val,cod"], "'cod' is not one of train, val, math, hard, code, science"),
    (["evaluated", "--sampels=3"], "did you mean samples"),
    (["evaluated", "--splits", "val"], "did you mean --key=value"),
    (["evaluated", "--model.hidden_size=32"], "evaluated/model"),
    (["unended"], "holds no model yet"),
)


@pytest.mark.parametrize("arguments, words", REFUSED, ids=str)
def test_what_cannot_be_evaluated_is_said(table, arguments, words):
    (table[0] / "unended").mkdir(exist_ok=True)
    (table[0] / "unended" / "run.json").write_text("{}")
    with pytest.raises(SystemExit, match=f"error: .*{words}"):
        cli([str(table[0] / arguments[0]), *arguments[1:]])
