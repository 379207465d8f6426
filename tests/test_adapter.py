"""w in PEFT's format: what PEFT computes from it is what `merge` computes."""

import json

import pytest
import torch
from safetensors.torch import load_file
from test_pretrained import SHAPES, difference, hugging_face, weights

from bridge_min.config import Config, generator
from bridge_min.lora import init_lora, merge
from bridge_min.real import export
from bridge_min.real.adapter import save_adapter
from bridge_min.real.pretrained import load_pretrained, save_pretrained


def teacher(theta):
    """w in general position."""
    w = init_lora(theta, ("q_proj", "v_proj", "down_proj"), 3, generator(0, 0, "lora"))
    g = generator(0, 0, "noise")
    return {name: value + 0.1 * torch.randn(value.shape, generator=g) for name, value in w.items()}


def test_an_adapter_is_w_under_pefts_names_and_its_settings(tmp_path):
    theta = weights(SHAPES["qwen3"])
    w = teacher(theta)
    save_pretrained(tmp_path / "student", theta, SHAPES["qwen3"], None)
    save_adapter(tmp_path / "adapter", w, 1.5, "../student")
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert tensors.keys() == {f"base_model.model.{name}" for name in w}
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (3, 4.5)
    assert settings["target_modules"][0] == "model.layers.0.mlp.down_proj"


def test_gpt2_gets_the_merged_model_only(tmp_path):
    shape, theta = SHAPES["gpt2"], weights(SHAPES["gpt2"])
    save_pretrained(tmp_path / "base", theta, shape, None)
    config = Config(base=str(tmp_path / "base"), out=str(tmp_path / "run"))
    export(config, shape, theta, theta, teacher(theta))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama 3", "qwen2", "qwen3"])
def test_peft_computes_the_merged_policy(name, tmp_path):
    peft = pytest.importorskip("peft")
    theirs = hugging_face(name, tmp_path / "student")
    shape, theta = load_pretrained(tmp_path / "student")
    w = teacher(theta)
    save_adapter(tmp_path / "adapter", w, 1.7, "../student")
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    assert difference(shape, theta, adapted) > 0.1  # w counts
    assert difference(shape, merge(theta, w, 1.7), adapted) < 1e-4
