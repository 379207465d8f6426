"""w in PEFT's format: what PEFT computes from it is what `merge` computes, there and back."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_pretrained import NEWER, difference, hugging_face

from bridge_min.adapter import load_adapter, save_adapter
from bridge_min.checkpoint import CheckpointError
from bridge_min.config import ModelConfig, generator
from bridge_min.lora import init_lora, merge
from bridge_min.model import init_params
from bridge_min.pretrained import load_pretrained

TARGETS = {
    "llama 3": ("q_proj", "v_proj", "down_proj"),
    "qwen2": ("k_proj", "gate_proj"),
    "qwen3": ("q_proj", "o_proj"),
    "gpt2": ("q_proj", "v_proj", "down_proj", "up_proj"),
}


def teacher(theta, targets, rank=3):
    """w in general position."""
    w = init_lora(theta, targets, rank, generator(0, 0, "lora"))
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator(1, 0, name))
        for name, value in w.items()
    }


@pytest.mark.parametrize("name", TARGETS)
def test_peft_computes_the_merged_policy(name, tmp_path):
    peft = pytest.importorskip("peft")
    theirs = hugging_face(name)
    theirs.save_pretrained(tmp_path / "base")
    model, theta = load_pretrained(tmp_path / "base")
    w, scale = teacher(theta, TARGETS[name]), 1.7
    save_adapter(tmp_path / "adapter", w, theta, scale, model.config, str(tmp_path / "base"))
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    assert difference(model, theta, adapted) > 0.1  # w counts
    assert difference(model, merge(theta, w, scale), adapted) < 2e-5
    auto = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    assert difference(model, merge(theta, w, scale), auto) < 2e-5
    for other in (scale, 0.5):  # a different scale goes into B
        again = load_adapter(tmp_path / "adapter", theta, other, model.config)
        assert difference(model, merge(theta, again, other), adapted) < 2e-5


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"layers.1.mlp.gate_proj": 5, "attn.c_attn": 2}, "alpha_pattern": {"q_proj": 3}},
        {"layers_to_transform": [1]},
    ],
    ids=str,
)
def test_an_adapter_of_peft_begins_w(name, options, tmp_path):
    peft = pytest.importorskip("peft")
    theirs = hugging_face(name)
    theirs.save_pretrained(tmp_path / "base")
    targets = ["c_attn", "c_proj"] if name == "gpt2" else ["q_proj", "gate_proj", "o_proj"]
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=targets, fan_in_fan_out=name == "gpt2", **options
    )
    torch.manual_seed(3)
    adapted = peft.get_peft_model(theirs, config).eval()
    with torch.no_grad():
        for key, value in adapted.named_parameters():
            if "lora_B" in key:
                value += 0.1 * torch.randn(value.shape)
    adapted.save_pretrained(tmp_path / "adapter")
    model, theta = load_pretrained(tmp_path / "base")
    w = load_adapter(tmp_path / "adapter", theta, 2.0, model.config)
    assert difference(model, theta, adapted) > 0.1
    assert difference(model, merge(theta, w, 2.0), adapted) < 2e-5


@pytest.fixture
def saved(tmp_path):
    config = ModelConfig(**NEWER)
    theta = init_params(config, generator(0, 0, "init"))
    save_adapter(tmp_path, teacher(theta, ("q_proj",)), theta, 2.0, config, "base")
    return tmp_path, theta, config


@pytest.mark.parametrize(
    "change, message",
    [
        ({"use_dora": True}, "use_dora = True"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"some_new_idea": 3}, "some_new_idea = 3"),
        ({"init_lora_weights": "pissa"}, "leave the base as it is"),
        ({"peft_type": "LOHA"}, "only LORA"),
        ({"rank_pattern": {"^model.*": 3}}, "regular expression"),
        ({"r": 7}, "has rank 3 and 3, not 7"),
        ({"lora_alpha": 0}, "numbers above 0"),
        ({"lora_alpha": ...}, "numbers above 0"),
    ],
)
def test_what_merge_does_not_compute_is_refused_by_name(saved, change, message):
    folder, theta, config = saved
    load_adapter(folder, theta, 2.0, config)
    path = folder / "adapter_config.json"
    settings = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not ...}))
    with pytest.raises(CheckpointError, match=message):
        load_adapter(folder, theta, 2.0, config)


def test_foreign_tensors_and_other_bases_are_named(saved):
    folder, theta, config = saved
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    for changed, message in (
        (
            {**tensors, "base_model.model.lm_head.weight": torch.ones(2, 2)},
            "lm_head.weight is not a LoRA matrix",
        ),
        (
            {k: v for k, v in tensors.items() if k != name},
            r"layers\.0\.self_attn\.q_proj has no lora_A or no lora_B",
        ),
        ({**tensors, name: torch.ones(31, 3)}, r"does not fit this base, whose .*q_proj is \(32, 32\)"),
    ):
        save_file(changed, path)
        with pytest.raises(CheckpointError, match=message):
            load_adapter(folder, theta, 2.0, config)
    save_file(tensors, path)
    narrow = init_params(replace(config, hidden_size=16), generator(0, 0, "init"))
    with pytest.raises(CheckpointError, match="does not fit this base"):
        load_adapter(folder, narrow, 2.0, config)
