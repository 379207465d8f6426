"""To disk and back to the bit, whole or not at all; a disturbed file is refused by name."""

import os
import random

import pytest
import torch
from conftest import World

from bridge_min.checkpoint import (
    CheckpointError,
    beside,
    load_folder,
    load_latest,
    load_run,
    save_folder,
    save_run,
)

RUN = World().run
NAMES = ("0" * 64, "null", "dtype", "manifest.json", "about.json", ".safetensors")
PIECES = [*NAMES, *"0eé漢🂡\"'\\/{}[]:, \n\0\x7f"]


def state(value=0.0):
    parts = {**World().players, "theta.m": {"x": torch.zeros(3)}}
    return {part: {name: t + value for name, t in tensors.items()} for part, tensors in parts.items()}


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(t, b[part][name]) for part in a for name, t in a[part].items())


def refused(folder, words):
    with pytest.raises(CheckpointError, match=words) as error:
        load_run(folder, state(), RUN)
    return str(error.value)


def test_a_state_comes_back_to_the_bit_whatever_was_there_before(tmp_path):
    saved, found = state(0.1), state(7.0)
    assert load_latest(tmp_path, found, RUN) is None and same(found, state(7.0))
    save_run(tmp_path, 12, saved, RUN, None)
    assert load_latest(tmp_path, found, RUN) == 12 and same(found, saved)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.*")} == {0o644}  # all may read all


@pytest.mark.parametrize("seed", range(20))
def test_no_setting_and_no_name_of_a_tensor_breaks_a_folder(tmp_path, seed):
    """But `__metadata__`, which the format keeps for itself, and what is no UTF-8: no file can hold those."""
    draw, folder = random.Random(seed), tmp_path / "'\"漢\n{}"
    odd = ["".join(draw.choices(PIECES, k=draw.randrange(9))) for _ in range(12)]
    tensors = {name: torch.randn(2) for name in odd}
    about = {name: [name + "\ud800", {name: 1}] for name in odd}
    save_folder(folder, [("part", tensors)], about)
    found, parts = load_folder(folder)
    assert found == about and same({"part": dict(parts["part"])}, {"part": tensors})


def test_an_error_while_writing_leaves_the_old_folder_and_nothing_else(tmp_path):
    def parts(value):
        yield "first", {"x": torch.full((3,), value)}
        if value:
            raise OSError("no room")

    save_folder(tmp_path / "a", parts(0.0), {"kept": True})
    with pytest.raises(CheckpointError, match=r"/a could not be written: no room; what was there is kept"):
        save_folder(tmp_path / "a", parts(1.0), {"kept": False})
    about, found = load_folder(tmp_path / "a")
    assert about == {"kept": True} and dict(found["first"])["x"].sum() == 0 and os.listdir(tmp_path) == ["a"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one_there(tmp_path, monkeypatch):
    save_folder(tmp_path / "a", [], {"kept": True})
    move = lambda source, to: os.rename(source, to) if ".old." in f"{source}{to}" else os.listdir("nowhere")
    monkeypatch.setattr(os, "replace", move)
    with pytest.raises(CheckpointError, match="what was there is kept"):
        save_folder(tmp_path / "a", [], {"kept": False})
    assert load_folder(tmp_path / "a")[0] == {"kept": True} and os.listdir(tmp_path) == ["a"]


def test_writers_meet_in_no_draft_though_each_container_counts_its_processes_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with beside(tmp_path / "a") as one, beside(tmp_path / "a") as other:
        assert one != other and [one.touch(), other.touch()]


def test_where_nothing_can_be_written_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="file/inside could not be written"):
        save_folder(tmp_path / "file" / "inside", [], {})


def disturbed(whole):
    """A byte flipped at the front, in the middle and at the end; cut short; gone."""
    for at in (0, 8, len(whole) // 2, len(whole) - 1):
        yield whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
    yield from (b"", whole[: len(whole) // 2], whole[:-1], None)


def test_every_disturbed_file_is_refused_by_name(tmp_path):
    save_run(tmp_path, 1, state(0.1), RUN, None)
    files = sorted((tmp_path / "checkpoint-000001").iterdir())
    assert len(files) == 6  # four parts, what they are about, and the manifest
    for path in files:
        whole = path.read_bytes()
        for damage in disturbed(whole):
            path.write_bytes(damage) if damage is not None else path.unlink()
            said = refused(path.parent, "checkpoint-000001.*restore it from a copy")
            assert path.name in said or path.name == "manifest.json"
        path.write_bytes(whole)
    load_run(tmp_path / "checkpoint-000001", state(), RUN)


def test_two_are_kept_and_a_damaged_one_gives_way_to_the_one_before_with_a_warning(tmp_path, capsys):
    saved, found = None, state()
    for step in (9, 10, 999999, 1000000):  # ordered by number, not by name
        save_run(tmp_path, step, state(float(step)), RUN, saved)
        saved = step
    newer, older = (tmp_path / f"checkpoint-{step}" / "w.safetensors" for step in (1000000, 999999))
    assert set(tmp_path.iterdir()) == {newer.parent, older.parent}
    assert load_latest(tmp_path, found, RUN) == 1000000 and not capsys.readouterr().err
    newer.write_bytes(newer.read_bytes()[:-1])
    assert load_latest(tmp_path, found, RUN) == 999999 and same(found, state(999999.0))
    warned = capsys.readouterr().err
    assert f"{newer} is damaged" in warned and f"going back to {older.parent}" in warned
    older.unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint can be used: .*1000000/w\..*999999/w\."):
        load_latest(tmp_path, found, RUN)


def test_an_old_checkpoint_that_is_a_link_goes_and_one_that_cannot_go_stops_no_run(tmp_path, monkeypatch):
    out, moved = tmp_path / "out", tmp_path / "moved"
    save_folder(moved, [], {})
    out.mkdir()
    (out / "checkpoint-000001").symlink_to(moved)
    for step in (1, 2):  # in place of the link; then another takes the older one's
        save_run(out, step, state(), RUN, None)
        assert os.listdir(out) == [f"checkpoint-{step:06}"] and list(moved.iterdir())
        (out / f"checkpoint-{step:06}").rename(tmp_path / f"{step}")
        (out / f"checkpoint-{step:06}").symlink_to(tmp_path / f"{step}")
    (out / "checkpoint-000002").unlink()
    save_folder(out / "checkpoint-000002", [], {})
    monkeypatch.setattr(os, "rmdir", lambda *_, **__: os.listdir(tmp_path / "a file that is held open"))
    assert save_run(out, 3, state(), RUN, None) == 3


def test_a_missing_a_foreign_and_a_misshapen_tensor_are_named(tmp_path):
    name = "model.layers.1.mlp.up_proj.weight"
    for change, words in (
        (lambda s: s["theta"].pop(name), rf"theta\.safetensors: tensor {name} is missing"),
        (lambda s: s["w"].update(surplus=torch.zeros(1)), r"w\.safetensors: tensor surplus is \(1,\)"),
        (lambda s: s["theta"].update({name: torch.zeros(2, 3)}), rf"{name} is \(2, 3\), .* \(12, 8\)"),
        (lambda s: s.pop("theta.m"), r"theta\.m\.safetensors: tensor x is missing"),
    ):
        parts = state()
        change(parts)
        save_run(tmp_path, 1, parts, RUN, None)
        refused(tmp_path / "checkpoint-000001", words)
