"""Settings: what is misspelt, of the wrong type or out of range is refused by name."""

import dataclasses
import inspect
import json

import pytest
import torch

from bridge_min.config import (
    Config,
    ConfigError,
    ModelConfig,
    differences,
    generator,
    load_config,
    make,
    to_json,
)


def load(tmp_path, text="", overrides=()):
    path = tmp_path / "config.py"
    path.write_text(text)
    return load_config(str(path), list(overrides))


def misspellings(key):
    """One letter left out, doubled, or two exchanged."""
    middle = len(key) // 2
    yield key[:middle] + key[middle] + key[middle:]
    if len(key) > 2:  # "l" and "rl" might as well be kl
        yield key[:middle] + key[middle + 1 :]
        yield key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]


FIELDS = {f.name for f in dataclasses.fields(Config)}
MODEL_FIELDS = {f.name for f in dataclasses.fields(ModelConfig)}


@pytest.mark.parametrize("key", sorted(FIELDS))
def test_a_misspelt_key_is_refused_with_the_right_suggestion(tmp_path, key):
    for wrong in set(misspellings(key)) - FIELDS:
        for text, overrides in ((f"{wrong} = 1", []), ("", [f"--{wrong}=1"])):
            with pytest.raises(ConfigError, match=rf"unknown key '{wrong}': did you mean {key}\?"):
                load(tmp_path, text, overrides)


@pytest.mark.parametrize("key", sorted(MODEL_FIELDS))
def test_a_misspelt_model_key_too(tmp_path, key):
    for wrong in set(misspellings(key)) - MODEL_FIELDS:
        with pytest.raises(ConfigError, match=rf"unknown key 'model.{wrong}': did you mean model.{key}\?"):
            load(tmp_path, overrides=[f"--model.{wrong}=1"])


def test_command_line_goes_over_the_file_which_goes_over_the_defaults(tmp_path):
    text = 'steps = 7\nlr = 1\nmodel = {"hidden_size": 32}\nlora_targets = ("q_proj",)'
    config = load(
        tmp_path, text, ["--steps=9", "--model.num_hidden_layers=1", "--scale_by_std=false", "--chain=3,5"]
    )
    assert (config.steps, config.lr, config.seed) == (9, 1.0, 0)
    assert (config.model.hidden_size, config.model.num_hidden_layers) == (32, 1)
    assert config.lora_targets == ("q_proj",) and config.chain == (3, 5) and config.scale_by_std is False


@pytest.mark.parametrize(
    "override, words",
    [
        ("--steps=many", "steps = 'many' must be int"),
        ("--steps=1.5", "steps = '1.5' must be int"),
        ("--lr=fast", "lr = 'fast' must be float"),
        ("--lr=nan", "lr"),
        ("--scale_by_std=yes", "scale_by_std = 'yes' must be bool"),
        ("--method=brigde", "not one of bridge, mix, sft, grpo"),
        ("--meta=second", "not one of first_order, unrolled"),
        ("--lam=1.5", "lam = 1.5 must lie in 0..1"),
        ("--group=0", "group = 0 must be at least 1"),
        ("--temperature=0", "temperature = 0.0 must be above 0"),
        ("--chain=5", "chain"),
        ("--chain=5,3", "chain"),
        ("--chain=1,3", "chain"),
        ("--hard_chain=8,7", "hard_chain"),
        ("--task=chess", "not one of arith, logic"),
        ("--select=some", "not one of none, demo, token"),
        ("--table=some", "not one of all, trained, none"),
        ("--reward_flip=-0.1", "reward_flip = -0.1 must lie in 0..1"),
        ("--cold_start=1.2", "cold_start = 1.2 must lie in 0..1"),
        ("--products=2", "products = 2.0 must lie in 0..1"),
        ("--shadow_reset=-1", "shadow_reset = -1 must not be negative"),
        ("--wrong_demos=0.6 --far_demos=0.5", r"wrong_demos \+ far_demos = 1.1 must be at most 1"),
        ("--demos_per_step=17 --prompts=16", "demos_per_step = 17 is more than prompts = 16"),
        ("--demos=7 --demos_per_step=8", "demos_per_step = 8 is more than demos = 7"),
        (
            "--train_problems=40 --demos=35 --prompts=16 --demos_per_step=8",
            "8 prompts without demonstration per step, but only 5",
        ),
        ("--prompts=5000", "prompts = 5000"),
        ("--demos_per_step=500", "demos_per_step = 500"),
        ("--worked_share=0.9", "worked_share"),
        ("--model.num_key_value_heads=3", "num_key_value_heads"),
        ("--model=small", "model"),
        ("--model.vocab_size=0", "vocab_size"),
        ("--largest=0", "largest = 0 must be at least 1"),
        ("--lr=inf", "lr = inf must be above 0, and finite"),
        ("--kl=-1", "kl = -1.0 must not be negative"),
        ("--clip_low=-3", "clip_low"),
        ("--group=1", "group = 1 has no one to compare with"),
        ("--out=", "out must name a folder"),
        ("steps=3", "not of the form --key=value"),
        ("--steps", "not of the form --key=value"),
    ],
)
def test_values_that_cannot_be_used_are_refused_by_name(tmp_path, override, words):
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, overrides=override.split(" "))


def test_a_type_in_a_file_is_not_bent(tmp_path):
    for text in ("steps = True", "steps = 2.0", "out = 3", "chain = 4"):
        with pytest.raises(ConfigError, match="must be"):
            load(tmp_path, text)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.py"):
        load_config(str(tmp_path / "nowhere.py"), [])
    with pytest.raises(ConfigError, match=r"config\.py.*line 2"):
        load(tmp_path, "steps = 3\nlr = = 2")
    with pytest.raises(ConfigError, match="NameError"):
        load(tmp_path, "steps = stepz")
    with pytest.raises(ConfigError, match="config file"):
        load_config(str(tmp_path), [])
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ConfigError, match="does not hold settings"):
        load_config(tmp_path / "run.json")
    with pytest.raises(ConfigError, match="lora_targets"):
        load(tmp_path, "lora_targets = ()")


def test_every_key_says_what_it_does():
    for kind in (Config, ModelConfig):
        source = inspect.getsource(kind)
        for field in dataclasses.fields(kind):
            (line,) = [x for x in source.splitlines() if x.strip().startswith(f"{field.name}: ")]
            assert "  # " in line, field.name


def test_json_and_back_and_differences():
    config = Config(chain=(3, 4), steps=5)
    assert make(Config, json.loads(to_json(config))) == config
    assert differences(config, config) == []
    assert differences(dataclasses.replace(config, out="elsewhere", log_every=1, table="none"), config) == []
    assert differences(dataclasses.replace(config, lr=0.5), config) == ["lr was 0.001, is 0.5"]


def test_generators_depend_on_seed_step_and_purpose_only():
    def draw(*key):
        return torch.rand(4, generator=generator(*key)).tolist()

    torch.rand(3)
    assert draw(0, 1, "sampling") == draw(0, 1, "sampling")
    assert len({tuple(draw(*key)) for key in ((0, 1, "a"), (0, 2, "a"), (1, 1, "a"), (0, 1, "b"))}) == 4
