"""Settings: what is misspelt, of the wrong type or out of range is refused by name."""

import dataclasses
import math
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from bridge_min.config import Config, ConfigError, ModelConfig, generator, load_config, make

BOTH = pytest.mark.parametrize("kind, prefix", [(Config, ""), (ModelConfig, "model.")])


def load(tmp_path, text="", *overrides):
    path = tmp_path / "config.py"
    path.write_text(text)
    return load_config(path, overrides)


def test_command_line_goes_over_the_file_which_goes_over_the_defaults(tmp_path):
    text = '_private = 1\nsteps = 7\nlr = 1\nmodel = {"hidden_size": 32}'
    config = load(tmp_path, text, "--steps=9", "--model.num_hidden_layers=1", "--scale_by_std=false")
    assert (config.steps, config.lr, config.seed, config.scale_by_std) == (9, 1.0, 0, False)
    assert config.model == ModelConfig(hidden_size=32, num_hidden_layers=1)


@pytest.mark.parametrize("text", ["q_proj,v_proj", '("q_proj","v_proj")', '["q_proj", "v_proj"]'])
def test_a_tuple_is_written_on_the_command_line_with_commas_or_as_in_a_file(tmp_path, text):
    assert load(tmp_path, "", f"--lora_targets={text}").lora_targets == ("q_proj", "v_proj")


@BOTH
def test_every_key_refuses_what_lies_outside_its_range(kind, prefix):
    for name, hint in get_type_hints(kind, include_extras=True).items():
        outside = ["nothing of this kind"] if get_origin(hint) is Literal else []
        if get_origin(hint) is Annotated:
            low, high = get_args(hint)[1]
            outside = [low - 1, math.inf, math.nan, *([high + 0.1] if high < math.inf else [])]
        for value in outside:
            with pytest.raises(ConfigError, match=rf"^{prefix}{name} = {value!r} must be "):
                kind(**{name: value})


@BOTH
def test_every_key_refuses_another_type_and_bends_none(kind, prefix):
    for name, hint in get_type_hints(kind).items():
        wrong = {int: (True, 2.0, "1.5", "many"), float: (True, "fast"), bool: (1, "yes")}.get(hint, (3,))
        for value in wrong:
            with pytest.raises(ConfigError, match=rf"^{prefix}{name} = .* must be "):
                make(kind, {name: value}, prefix)


@BOTH
def test_a_misspelt_key_is_refused_and_the_right_one_named(kind, prefix):
    for key in {field.name for field in dataclasses.fields(kind)}:
        wrong = key[:1] + key  # its first letter twice
        words = rf"unknown key '{prefix}{wrong}': did you mean {prefix}{key}\?"
        with pytest.raises(ConfigError, match=words):
            make(kind, {wrong: 1}, prefix)


@pytest.mark.parametrize("word, advice", [("learning_rate", ": did you mean lr "), ("largest", "; .*lists")])
def test_words_of_the_field_are_told_the_keys_here_and_far_ones_none(tmp_path, word, advice):
    with pytest.raises(ConfigError, match=f"unknown key '{word}'{advice}"):
        load(tmp_path, "", f"--{word}=1")


REFUSED = {
    "--group=1": "nobody to compare with",
    "--wrong_demos=0.6 --far_demos=0.5": r"wrong_demos \+ far_demos must be at most 1",
    "--demos_per_step=17 --prompts=16": "demos_per_step = 17 is more than prompts = 16",
    "--train_problems=40 --demos=35 --demos_per_step=8": "prompts - demos_per_step is more than",
    "--base=folder --model.hidden_size=32": r"model\.\* is for toys",
    "--model.num_key_value_heads=3": "num_attention_heads = 4 is no multiple of 3",
    "--model.hidden_size=12": "each head needs an even number of channels",
    "--lora_targets=": "out and lora_targets must not be empty",
    "--steps.more=1": "steps = {'more': '1'} must be a whole number",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_does_not_go_together_is_refused(tmp_path, override):
    with pytest.raises(ConfigError, match=REFUSED[override]):
        load(tmp_path, "steps = 3", *override.split(" "))


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.py.*No such file"):
        load_config(tmp_path / "nowhere.py")
    with pytest.raises(ConfigError, match="is a folder, not a config file"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.py.*SyntaxError.*line 2"):
        load(tmp_path, "steps = 3\nlr = = 2")


def test_random_numbers_depend_on_seed_step_and_purpose_only():
    draw = lambda *key: torch.rand(4, generator=generator(*key)).tolist()
    first = draw(0, 1, "a")
    torch.rand(3)
    assert draw(0, 1, "a") == first
    assert first not in [draw(*key) for key in ((0, 2, "a"), (1, 1, "a"), (0, 1, "b"))]
