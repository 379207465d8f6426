"""To disk and back to the bit; a disturbed file is refused by name."""

import json
import os
import random
from dataclasses import replace

import pytest
import torch
from conftest import SMALL, World, double
from safetensors.torch import load_file, save_file

from bridge_min import checkpoint
from bridge_min.bridge import adamw, ascend, bridge
from bridge_min.checkpoint import CheckpointError, load_latest, load_run, open_tensors, save_run
from bridge_min.config import generator
from bridge_min.gain import new_memory
from bridge_min.lora import init_lora, merge
from bridge_min.model import init_params
from bridge_min.pretrained import load_pretrained, save_pretrained


@pytest.fixture
def theta():
    return init_params(SMALL, generator(0, 0, "init"))


def update(world, optimizers, memory=None):
    directions, _ = bridge(world.step(memory=memory), world.players)
    for name, params in world.players.items():
        ascend(optimizers[name], params, directions[name], 1e-2, 1.0)


def optimizers_of(world):
    return {name: adamw(params) for name, params in world.players.items()}


@pytest.mark.parametrize("select", ["none", "demo"])
def test_a_run_goes_on_to_the_bit(tmp_path, select):
    world, memory = World(), new_memory(5)
    world.with_config(select=select)
    optimizers, state = optimizers_of(world), {**world.players, "memory": memory}
    for step in range(4):
        if step == 2:
            save_run(tmp_path, 2, world.config, state, optimizers)
        update(world, optimizers, memory)
    assert memory["draws"].tolist() == ([4, 0, 4, 0, 4] if select == "demo" else [0] * 5)
    again = World()
    again.with_config(select=select)
    state_again = {**again.players, "memory": new_memory(5)}
    for params in state_again.values():  # whatever was there before is replaced
        for value in params.values():
            value += 1.0
    optimizers = optimizers_of(again)
    assert load_latest(tmp_path, state_again, optimizers) == 2
    for _ in range(2):
        update(again, optimizers, state_again["memory"])
    for player, params in state.items():
        for name, value in params.items():
            assert torch.equal(value, state_again[player][name]), (player, name)


def test_a_run_before_its_first_step_can_be_saved(tmp_path):
    world = World()
    assert load_latest(tmp_path, world.players, optimizers_of(world)) is None
    save_run(tmp_path, 0, world.config, world.players, optimizers_of(world))
    assert load_latest(tmp_path, world.players, optimizers_of(world)) == 0


def test_the_model_folder_holds_the_merged_policy(tmp_path, theta):
    for config in (SMALL, replace(SMALL, tie_word_embeddings=False)):
        theta = init_params(config, generator(0, 0, "init"))
        w = {k: v + 0.1 for k, v in init_lora(theta, ("q_proj",), 2, generator(0, 0, "lora")).items()}
        merged = merge(theta, w, 2.0)
        save_pretrained(tmp_path, merged, config)
        model, loaded = load_pretrained(tmp_path)
        assert model.config == replace(config, head_dim=config.hd) and loaded.keys() == merged.keys()
        assert all(torch.equal(loaded[name], merged[name]) for name in merged)


def copies(players):
    return {player: {k: v.clone() for k, v in params.items()} for player, params in players.items()}


def same(a, b):
    return all(torch.equal(value, b[player][name]) for player in a for name, value in a[player].items())


@pytest.mark.parametrize("shard", [checkpoint.SHARD, 3000], ids=["one file", "in parts"])
def test_of_200_damaged_checkpoints_none_is_accepted(tmp_path, monkeypatch, shard):
    """Random bytes flipped, in headers above all, and lengths cut or grown, of the head and of the parts. The
    players stay as they were, and the undamaged checkpoint loads."""
    monkeypatch.setattr(checkpoint, "SHARD", shard)
    world, draw = World(), random.Random(0)
    optimizers = optimizers_of(world)
    update(world, optimizers)
    save_run(tmp_path, 1, world.config, world.players, optimizers)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 1 if shard == checkpoint.SHARD and shard > 3000 else len(files) > 5
    head, before = tmp_path / "checkpoint-000001.safetensors", copies(world.players)
    for trial in range(200):
        path = draw.choice(files)
        whole = path.read_bytes()
        header = int.from_bytes(whole[:8], "little") + 8
        damaged = bytearray(whole)
        if trial % 4 == 0:
            length = draw.choice([0, draw.randrange(header), draw.randrange(len(whole)), len(whole) - 1])
            damaged = damaged[:length] if trial % 8 else damaged + bytes(draw.randrange(1, 100))
        else:
            damaged[draw.randrange(header if trial % 2 else len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"checkpoint-000001\.(part\d+\.)?safetensors"):
            load_run(head, world.players, optimizers)
        path.write_bytes(whole)
        assert same(before, world.players)
    assert load_run(head, world.players, optimizers) == 1


@pytest.mark.parametrize("shard", [checkpoint.SHARD, 3000], ids=["one file", "in parts"])
def test_two_are_kept_and_a_bad_one_falls_back_to_the_one_before_and_says_so(
    tmp_path, monkeypatch, capsys, shard
):
    monkeypatch.setattr(checkpoint, "SHARD", shard)
    world, at = World(), {}
    optimizers, saved = optimizers_of(world), None
    for step in range(1, 5):
        update(world, optimizers)
        save_run(tmp_path, step, world.config, world.players, optimizers, saved)
        saved, at[step] = step, copies(world.players)
    assert list(checkpoint.saved_runs(tmp_path)) == [3, 4]
    assert {path.name[:17] for path in tmp_path.iterdir()} == {"checkpoint-000003", "checkpoint-000004"}
    assert load_latest(tmp_path, world.players, optimizers) == 4 and same(at[4], world.players)
    assert capsys.readouterr().err == ""
    newest = sorted(tmp_path.glob("checkpoint-000004*"))
    for path in (newest[0], newest[-1]):  # a part, if there is one, and the head
        whole = path.read_bytes()
        for damage in (whole[:-1], b"", None):
            path.write_bytes(damage) if damage is not None else path.unlink()
            assert load_latest(tmp_path, world.players, optimizers) == 3 and same(at[3], world.players)
            warned = capsys.readouterr().err
            torn = damage is None and path.name == "checkpoint-000004.safetensors"  # never finished, then
            assert torn or ("WARNING" in warned and path.name in warned and "going back to" in warned)
            path.write_bytes(whole)
    oldest = sorted(tmp_path.glob("checkpoint-000003*"))[-1]
    for path in (oldest, newest[-1]):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint can be used: .*000004.*000003"):
        load_latest(tmp_path, world.players, optimizers)
    assert same(at[3], world.players)
    save_run(tmp_path, 4, world.config, world.players, optimizers, 2)  # what is of no use goes with the next
    assert list(checkpoint.saved_runs(tmp_path)) == [4]


def test_checkpoints_are_ordered_by_their_number(tmp_path):
    for step in (1000000, 20, 999999):
        checkpoint.run_file(tmp_path, step).touch()
    assert list(checkpoint.saved_runs(tmp_path)) == [20, 999999, 1000000]


def test_parts_of_another_checkpoint_are_refused(tmp_path, monkeypatch):
    """Each file by itself is sound: the head knows which parts are its own."""
    monkeypatch.setattr(checkpoint, "SHARD", 3000)
    world = World()
    optimizers = optimizers_of(world)
    for folder in ("a", "b"):
        update(world, optimizers)
        save_run(tmp_path / folder, 1, world.config, world.players, optimizers)
    part = "checkpoint-000001.part0002.safetensors"
    (tmp_path / "a" / part).write_bytes((tmp_path / "b" / part).read_bytes())
    with pytest.raises(CheckpointError, match=rf"{part} is not the part"):
        load_run(tmp_path / "a" / "checkpoint-000001.safetensors", world.players, optimizers)


def test_a_damaged_model_folder_is_refused(tmp_path, theta):
    save_pretrained(tmp_path, theta, SMALL)
    path, draw = tmp_path / "model.safetensors", random.Random(1)
    whole = path.read_bytes()
    for place in draw.sample(range(len(whole)), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            _, loaded = load_pretrained(tmp_path)
        except CheckpointError as error:
            assert "model.safetensors" in str(error)
        else:  # the digest's own name was hit, and nothing else
            assert all(torch.equal(loaded[name], theta[name]) for name in theta)
    path.write_bytes(whole)
    settings = json.loads((tmp_path / "config.json").read_text())
    for change in ({"rope_theta": 12345.0}, {"rms_norm_eps": 0.5}, {"rope_thta": 1.0, "rope_theta": None}):
        (tmp_path / "config.json").write_text(json.dumps({**settings, **change}))
        with pytest.raises(CheckpointError, match=r"config\.json"):
            load_pretrained(tmp_path)
    del settings["rope_theta"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="rope_theta' is missing"):
        load_pretrained(tmp_path)


def test_missing_foreign_and_misshapen_tensors_are_named(tmp_path, theta):
    save_pretrained(tmp_path, theta, SMALL)
    path, name = tmp_path / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    for change, words in (
        (lambda t: t.pop(name), f"{name} is missing"),
        (lambda t: t.update({"surplus": torch.zeros(1)}), "surplus is not part"),
        (lambda t: t.update({name: torch.zeros(2, 3)}), rf"{name} has shape \(2, 3\), not \(12, 8\)"),
    ):
        tensors = dict(theta)
        change(tensors)
        save_file(tensors, path)
        with pytest.raises(CheckpointError, match=words):
            load_pretrained(tmp_path)


def test_a_run_of_another_shape_is_refused_by_the_tensor(tmp_path):
    world, path = World(), tmp_path / "checkpoint-000000.safetensors"
    save_run(tmp_path, 0, world.config, world.players, optimizers_of(world))
    world.players["w"] = double(init_lora(world.theta, ("q_proj",), 3, generator(0, 0, "lora")))
    with pytest.raises(CheckpointError, match=r"tensor w/model\.layers\.\d\."):
        load_run(path, world.players, optimizers_of(world))


def test_what_is_missing_or_no_checkpoint_is_said(tmp_path, theta):
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_pretrained(tmp_path)
    save_pretrained(tmp_path, theta, SMALL)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "hidden_size": 16}))
    with pytest.raises(CheckpointError, match=r"config\.json is not the one"):
        load_pretrained(tmp_path)
    save_file(theta, tmp_path / "model.safetensors")  # a foreign file, without our metadata
    with pytest.raises(CheckpointError, match=r"tensor .* has shape"):
        load_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist"):
        load_pretrained(tmp_path)
    save_file(theta, tmp_path / "checkpoint.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint of a run"):
        load_run(tmp_path / "checkpoint.safetensors", {}, {})


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, theta, monkeypatch):
    save_pretrained(tmp_path, theta, SMALL)

    def crash(*_):
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(CheckpointError, match=r"could not be written: power cut"):
        save_pretrained(tmp_path, {name: value + 1 for name, value in theta.items()}, SMALL)
    monkeypatch.undo()
    assert all(torch.equal(value, theta[name]) for name, value in load_pretrained(tmp_path)[1].items())


def test_the_file_is_plain_safetensors(tmp_path, theta):
    save_pretrained(tmp_path, theta, SMALL)
    assert all(
        torch.equal(value, theta[name]) for name, value in load_file(tmp_path / "model.safetensors").items()
    )
    mode = (tmp_path / "model.safetensors").stat().st_mode
    assert mode == (tmp_path / "config.json").stat().st_mode  # whoever may read one may read the other
    with open_tensors(tmp_path / "model.safetensors") as (_, metadata):
        digest = metadata["digest"]
    assert len(digest) == 64 and digest != checkpoint.NO_DIGEST
