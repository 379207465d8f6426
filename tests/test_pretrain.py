"""The base: a key over all that made it, and nothing held out is read."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bridge_min import pretrain
from bridge_min.config import Config, ModelConfig
from bridge_min.pretrain import SETTINGS, base_folder, base_model
from bridge_min.tasks import load_task
from bridge_min.tokenizer import byte_tokenizer

CONFIG = Config(
    model=ModelConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2),
    **{"train_problems": 40, "val_problems": 30, "test_problems": 30, "demos": 20, "demos_per_step": 8},
    **{"prompts": 8, "base_steps": 3, "base_batch": 16, "threads": 1},
)
TASK = load_task(CONFIG)
CHANGES = {
    **{
        "seed": 1,
        "threads": 2,
        "task": "logic",
        "chain": (4, 5),
        "hard_chain": (7, 9),
        "products": 0.4,
        "largest": 8,
        "model": replace(CONFIG.model, rope_theta=99.0),
    },
    **{
        "max_new": 65,
        "temperature": 0.9,
        "sample_rows": 7,
        "base_target": 0.5,
        "base_steps": 4,
        "base_batch": 17,
        "base_lr": 1e-4,
        "worked_share": 0.1,
        "direct_share": 0.1,
    },
}


def folder(config, task=TASK):
    return base_folder(config, task).name


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_that_makes_the_base_is_in_its_name(key):
    """Each by itself: the problems stay the same here."""
    assert folder(replace(CONFIG, **{key: CHANGES[key]})) != folder(CONFIG)


def test_the_held_out_problems_the_code_and_torch_are_too(monkeypatch):
    name = folder(CONFIG)
    assert folder(CONFIG, load_task(replace(CONFIG, val_problems=31))) != name
    later = {"lr": 0.5, "method": "mix", "micro_batch": 7, "reward_flip": 0.3, "select": "demo", "lam": 0.1}
    other = replace(CONFIG, wrong_demos=0.5, far_demos=0.1, group=3, cold_start=0.1, out="out/b", **later)
    assert folder(other, load_task(other)) == name
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert folder(CONFIG) != name
    monkeypatch.undo()
    monkeypatch.setattr(pretrain, "SOURCES", pretrain.SOURCES[1:])
    assert folder(CONFIG) != name


def test_pretraining_ends_when_the_base_is_good_enough(monkeypatch, capsys):
    """Every 50 steps validation problems are answered; the first share to reach the target is the last."""
    config = replace(CONFIG, base_steps=200, base_target=0.4)
    shares = iter((0.0, 0.5, 1.0))

    def answered(settings, model, theta, tokenizer, problems, samples):
        assert problems == task.val
        return [[next_share] * samples for next_share in [next(shares)] for _ in problems], []

    monkeypatch.setattr(pretrain, "answer_problems", answered)
    task = load_task(config)
    pretrain.pretrain(pretrain.settings_of(config), task, byte_tokenizer())
    printed = capsys.readouterr().out
    assert "step 100  " in printed and "step 150" not in printed and "not reached" not in printed


def test_the_key_covers_every_module_that_pretraining_imports():
    """Followed through the imports: a change in any of them could make another base."""
    folder, found, open_ends = Path(pretrain.__file__).parent, set(), ["pretrain"]
    while open_ends:
        name = open_ends.pop()
        if name not in found and name not in ("checkpoint", "pretrained"):
            found.add(name)
            tree = ast.parse((folder / f"{name}.py").read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.level:
                    open_ends += [node.module] if node.module else [alias.name for alias in node.names]
    assert found == set(pretrain.SOURCES)


def test_the_base_is_made_once_and_reads_nothing_held_out(tmp_path, monkeypatch):
    config, tokenizer, hidden = replace(CONFIG, out=str(tmp_path / "run")), byte_tokenizer(), []
    original = pretrain.reading
    monkeypatch.setattr(
        pretrain, "reading", lambda c, step, held: (hidden.append(held), original(c, step, held))[1]
    )
    task = load_task(config)
    _, made = base_model(config, task, tokenizer)
    assert hidden == [task.hidden] * 3
    _, kept = base_model(config, task, tokenizer)
    assert len(hidden) == 3 and all(torch.equal(made[name], kept[name]) for name in made)
