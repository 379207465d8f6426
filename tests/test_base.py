"""The toys' tokenizer and base: a key over all that made it, nothing held out is read; and a new world."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import SMALL, gap, size
from torch.func import functional_call

from bridge_min import arith
from bridge_min.base import base_folder, init_params, pretrain, reading, settings_of, toy_base
from bridge_min.bridge import METHODS, Step, plain_runtime
from bridge_min.config import Config, generator, load_config
from bridge_min.model import build
from bridge_min.optimizer import start
from bridge_min.tasks import Bytes, Job, Problem, demonstrate, load_world, roll_out

ROOT = Path(__file__).resolve().parents[1]
CONFIG = Config(
    model=replace(SMALL, hidden_size=16, num_hidden_layers=1, max_position_embeddings=128),
    **{"train_problems": 40, "val_problems": 10, "test_problems": 10, "demos": 20, "demos_per_step": 4},
    **{"prompts": 6, "group": 4, "max_new": 8, "base_steps": 30, "base_batch": 16, "threads": 1},
)
TASK = load_world(CONFIG, arith)


def job(config, task, world):
    return Job(config, plain_runtime(build(config.model), config), task, Bytes(), world)


def test_any_text_comes_back_from_its_bytes_and_none_makes_an_end():
    tokenizer = Bytes()
    for text in ("7+5=12\n#### 12", "é 数 \x00", "<|end|>", ""):
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == tokenizer.decode([*tokens, *tokenizer.ends]) == text
        assert tokenizer.encode_response(text) == [*tokens, 257] and not {257} & set(tokens)
    assert tokenizer.decode([0xFF, 53]) == tokenizer.decode([256, 53, 257]) == "\ufffd5"


def test_pretraining_lowers_the_loss(capsys):
    pretrain(settings_of(CONFIG), arith, TASK)
    losses = [float(line.split("loss ")[1][:5]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 3 and losses[-1] < losses[0] - 0.5  # of steps 5, 20, 30


def test_every_block_begins_as_the_identity():
    theta, tokens = init_params(SMALL, generator(0, 0, "init")), torch.tensor([[5, 1, 9, 2]])
    embedding = theta["model.embed_tokens.weight"]
    x = torch.nn.functional.rms_norm(embedding[tokens], (SMALL.hidden_size,), eps=SMALL.rms_norm_eps)
    assert torch.allclose(functional_call(build(SMALL), theta, (tokens,)), x @ embedding.T, atol=1e-6)


def test_the_stress_test_has_the_base_of_the_main_job():
    sound, bad = (load_config(ROOT / "tiny_configs" / f"{name}.py") for name in ("arith", "arith_bad_demos"))
    assert settings_of(sound) == settings_of(bad) and bad.wrong_demos + bad.far_demos == 0.7


def test_the_base_reads_no_hidden_puzzle_in_any_wording(few_chains):
    config = replace(CONFIG, train_problems=20, demos=10, base_batch=1000)
    task = load_world(config, arith)
    hidden = {arith.problem(chain, suite).prompt for chain in task.hidden for suite in arith.WORDINGS}
    met = lambda documents: sum(prompt.replace(":\n", "?\n") in hidden for prompt, _ in documents)
    documents = reading(config, 0, arith, task.hidden)
    assert len(documents) == 1000 and met(documents) == 0
    assert met(reading(config, 0, arith, frozenset())) > 100
    assert reading(config, 0, arith, task.hidden) == documents != reading(config, 1, arith, task.hidden)


def folder(config, task=TASK, world=arith):
    return base_folder(config, world, task).name


MADE_BY = {"seed": 1, "threads": 2, "task": "logic", "model": SMALL}
MADE_BY |= {"base_steps": 4, "base_batch": 17, "base_lr": 1e-4}


@pytest.mark.parametrize("key", MADE_BY)
def test_the_folder_s_key_changes_with_every_setting_that_makes_the_base(key):
    changed = replace(CONFIG, **{key: MADE_BY[key]})
    assert folder(changed) != folder(CONFIG) and settings_of(changed) != settings_of(CONFIG)


def test_the_key_changes_with_held_out_puzzles_the_world_s_code_and_torch(monkeypatch):
    name = folder(CONFIG)
    assert folder(CONFIG, load_world(replace(CONFIG, val_problems=11), arith)) != name
    assert folder(CONFIG, world=SimpleNamespace(__file__=__file__)) != name
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert folder(CONFIG) != name


def test_the_key_does_not_change_with_what_comes_after_the_base():
    later = {"lr": 0.5, "method": "mix", "micro_batch": 7, "reward_flip": 0.3, "group": 3, "out": "out/b"}
    other = replace(CONFIG, wrong_demos=0.5, far_demos=0.1, **later)
    assert folder(other, load_world(other, arith)) == folder(CONFIG)


def test_the_base_is_made_once(tmp_path, capsys):
    config = replace(CONFIG, out=str(tmp_path / "run"), base_steps=2)
    made, kept = (toy_base(job(config, TASK, arith)) for _ in range(2))
    assert gap(made, kept) == 0 and capsys.readouterr().out.count("pretraining") == 1
    assert [path.name for path in tmp_path.iterdir()] == [folder(config)]


def test_a_new_world_is_a_file(tmp_path):
    """Strings to be reversed: its puzzles become splits, its documents a base, and a step trains on it."""
    check = lambda response, answer: response.strip() == answer
    world = SimpleNamespace(TESTS=("long",), __file__=__file__)
    world.draw = lambda draw, suite="": "".join(draw.choices("abc", k=6 if suite else draw.randint(4, 5)))
    world.problem = lambda word, suite="": Problem(f"{word}>", word[::-1], word[::-1], check)
    world.demonstration = lambda draw, word, kind: world.problem(word[::-1] if kind == "wrong" else word)
    world.document = lambda draw: (word := world.draw(draw), f"{word}>", word[::-1])

    config = replace(CONFIG, out=str(tmp_path / "run"), base_steps=5)
    new = job(config, load_world(config, world), world)
    assert all(shown.reward(shown.prompt[-2::-1]) for shown in new.task.train + new.task.tests["long"])
    players = start(config, METHODS["first_order"], toy_base(new))
    rollouts, _ = roll_out(new, 0, new.runtime.acting(players["theta"], players["w"]))
    step = Step(config, new.runtime, demonstrate(new, 0), rollouts)
    assert size(METHODS["first_order"].update(step, players)[0]["theta"]) > 0
