"""Checkpoints in Hugging Face's format: the same logits as transformers, there and back; what is not
understood is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from bridge_min import checkpoint, pretrained
from bridge_min.checkpoint import CheckpointError
from bridge_min.config import ModelConfig, generator
from bridge_min.model import build, init_params
from bridge_min.pretrained import load_pretrained, read_config, save_pretrained

SIZES = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
NEWER = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 512}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
ROPE3 = {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3}
MODELS = {  # name -> (class of configuration, settings)
    "gpt2": ("GPT2", {"vocab_size": 300, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512}),
    "gpt2, other inner size": ("GPT2", {**SIZES, "n_inner": 40, "n_positions": 512}),
    "llama": ("Llama", {**NEWER, "rms_norm_eps": 1e-5}),
    "llama, tied": ("Llama", {**NEWER, "tie_word_embeddings": True}),
    "llama, biases": ("Llama", {**NEWER, "attention_bias": True}),
    "llama 3": ("Llama", {**NEWER, "rope_parameters": ROPE3, "head_dim": 16}),
    "qwen2": ("Qwen2", {**NEWER, "tie_word_embeddings": True}),
    "qwen2, untied": ("Qwen2", {**NEWER, "tie_word_embeddings": False}),
    "qwen3": ("Qwen3", {**NEWER, "head_dim": 12, "tie_word_embeddings": False}),
    "qwen3, tied": ("Qwen3", {**NEWER, "head_dim": 16, "tie_word_embeddings": True}),
}


def hugging_face(name):
    """A tiny model of the family with weights in general position, by transformers itself."""
    transformers = pytest.importorskip("transformers")
    family, settings = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, family + "Config")(
        **settings, bos_token_id=1, eos_token_id=2, pad_token_id=2
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():  # norms and biases too
            weight += 0.1 * torch.randn(weight.shape, generator=g)
    return model


def to_layout_4(folder):
    """config.json as transformers 4 wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype")
    if "rope_parameters" in config:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    if config["model_type"] == "qwen2":
        config.pop("head_dim", None)
    path.write_text(json.dumps(config))


def left_padded():
    """Three rows of 300 tokens, so that rotary frequencies are stretched, two of them padded on the left."""
    tokens = torch.randint(0, 300, (3, 300), generator=torch.Generator().manual_seed(2))
    start = torch.tensor([0, 7, 291])
    real = torch.arange(300) >= start[:, None]
    return tokens, start, real


def difference(model, theta, theirs):
    """Largest difference of logits at real tokens."""
    tokens, start, real = left_padded()
    position = (torch.arange(300) - start[:, None]).clamp(min=0)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=real.long(), position_ids=position).logits
        found = functional_call(model, theta, (tokens, start))
        alone = functional_call(model, theta, (tokens[2:, 291:],))
    assert float((found[2:, 291:] - alone).abs().max()) < 1e-5
    return float((found - expected)[real].abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name, tmp_path):
    theirs = hugging_face(name)
    theirs.save_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    for folder in (tmp_path, tmp_path / "sharded"):
        assert difference(*load_pretrained(folder), theirs) < 2e-5
        to_layout_4(folder)
        assert difference(*load_pretrained(folder), theirs) < 2e-5


@pytest.mark.parametrize("shard", [checkpoint.SHARD, 8000])
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_folder_is_one_of_transformers(name, shard, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(checkpoint, "SHARD", shard)
    hugging_face(name).save_pretrained(tmp_path / "from")
    (tmp_path / "from" / "tokenizer.json").write_text("{}")
    model, theta = load_pretrained(tmp_path / "from")
    theta = {key: value * 1.1 for key, value in theta.items()}
    save_pretrained(tmp_path / "to", theta, model.config, tmp_path / "from")
    assert (tmp_path / "to" / "tokenizer.json").read_text() == "{}"
    assert (tmp_path / "to" / "model.safetensors.index.json").exists() == (shard == 8000)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "to", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert difference(model, theta, theirs.eval()) < 2e-5
    again, same = load_pretrained(tmp_path / "to")
    assert again.config == model.config and all(torch.equal(theta[key], same[key]) for key in theta)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gpt2"])
def test_a_network_made_here_is_read_by_transformers(family, tmp_path):
    transformers = pytest.importorskip("transformers")
    stretch = tuple(map(float, LLAMA3.values())) if family == "llama" else ()
    sizes = {**NEWER, "num_key_value_heads": 4 if family == "gpt2" else 2}
    config = ModelConfig(family=family, **sizes, rope_scaling=stretch, rope_theta=500.0)
    theta = init_params(config, generator(0, 0, "init"))
    theta = {key: value + 0.1 * torch.randn(value.shape) for key, value in theta.items()}
    save_pretrained(tmp_path, theta, config)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert difference(build(config), theta, theirs) < 2e-5
    again = load_pretrained(tmp_path)[0].config
    assert pretrained.as_written(again) == pretrained.as_written(config)


def test_gpt2_without_prefix_and_with_masks(tmp_path):
    theirs = hugging_face("gpt2")
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 512, 512).tril()
    tensors["h.1.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, tmp_path / "model.safetensors")
    assert difference(*load_pretrained(tmp_path), theirs) < 2e-5


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_bfloat16_is_read_and_kept(name, tmp_path):
    hugging_face(name).to(torch.bfloat16).save_pretrained(tmp_path / "from")
    model, theta = load_pretrained(tmp_path / "from", torch.bfloat16)
    assert {value.dtype for value in theta.values()} == {torch.bfloat16}
    save_pretrained(tmp_path / "to", theta, model.config, tmp_path / "from")
    assert json.loads((tmp_path / "to" / "config.json").read_text())["dtype"] == "bfloat16"
    wide = load_pretrained(tmp_path / "to")[1]
    assert all(torch.equal(wide[key], value.float()) for key, value in theta.items())


@pytest.fixture
def folder(tmp_path):
    config = ModelConfig(**{**NEWER, "num_hidden_layers": 1})
    save_pretrained(tmp_path, init_params(config, generator(0, 0, "init")), config)
    (tmp_path / "model.safetensors").rename(tmp_path / "own")
    save_file(load_file(tmp_path / "own"), tmp_path / "model.safetensors")  # somebody else's: no digest
    return tmp_path


def edit(folder, **changes):
    path = folder / "config.json"
    settings = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not ...}))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not one of llama"),
        ({"model_type": ["llama"]}, "unhashable"),
        ({"architectures": 5}, "not iterable"),
        ({"rope_scaling": "linear"}, "no attribute"),
        ({"hidden_size": None}, "hidden_size = None must be int"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"mlp_bias": True}, "mlp_bias = True"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, "rope_type 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, "low_freq_factor"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["sliding_attention"]}, "layer_types"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": ...}, "key 'hidden_size' is missing"),
        ({"rope_theta": ...}, "rope_theta"),
        ({"hidden_size": -3}, "hidden_size"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
    ],
)
def test_what_the_network_does_not_do_is_refused_by_name(folder, changes, message):
    load_pretrained(folder)
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match=message) as error:
        read_config(folder)
    assert "config.json" in str(error.value)


def test_qwen3_has_heads_of_128_channels_where_nothing_else_is_said(folder):
    """As in transformers; the others' follow from the width."""
    edit(folder, head_dim=...)
    assert read_config(folder).hd == 8
    edit(folder, model_type="qwen3", architectures=["Qwen3ForCausalLM"])
    assert read_config(folder).hd == 128


def test_tensors_that_are_missing_or_too_much_are_named(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.mlp.up_proj.weight"
    for changed, message in (
        ({k: v for k, v in tensors.items() if k != name}, f"tensor {name} is missing"),
        ({**tensors, "model.layers.0.extra.weight": torch.ones(2)}, "extra.weight is not part of this model"),
        ({**tensors, name: torch.ones(3, 32)}, r"up_proj.weight has shape \(3, 32\), not \(48, 32\)"),
        ({**tensors, name: torch.ones(48, 32, dtype=torch.int8)}, "torch.int8"),
    ):
        save_file(changed, path)
        with pytest.raises(CheckpointError, match=message):
            load_pretrained(folder)


def test_shards_that_are_missing_or_cut_are_named(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARD", 8000)
    config, theta = load_pretrained(folder)[0].config, load_pretrained(folder)[1]
    save_pretrained(folder / "s", theta, config)
    shard = sorted((folder / "s").glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    for data in (whole[:-1], whole[:100], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        shard.write_bytes(data)
        with pytest.raises(CheckpointError, match=shard.name):
            load_pretrained(folder / "s")
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name} does not exist"):
        load_pretrained(folder / "s")
    index = folder / "s" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../../etc/passwd"}}))
    with pytest.raises(CheckpointError, match="does not lie in this folder"):
        load_pretrained(folder / "s")


def test_an_old_index_does_not_hide_a_new_model(folder, monkeypatch):
    model, theta = load_pretrained(folder)
    monkeypatch.setattr(checkpoint, "SHARD", 8000)
    save_pretrained(folder, theta, model.config)
    monkeypatch.undo()
    new = {key: value + 1 for key, value in theta.items()}
    save_pretrained(folder, new, model.config)
    assert all(torch.equal(value, new[key]) for key, value in load_pretrained(folder)[1].items())
