"""Checkpoints in Hugging Face's format: there and back, the logits of transformers, refusals by name."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_model import random_params
from torch.func import functional_call

from bridge_min.checkpoint import CheckpointError
from bridge_min.config import ModelConfig
from bridge_min.model import build
from bridge_min.real import pretrained
from bridge_min.real.pretrained import load_pretrained, read_config, save_pretrained

SIZES = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
NEWER = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 512}
ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE |= {"original_max_position_embeddings": 64.0}
SHAPES = {
    "llama": ModelConfig(**NEWER, tie_word_embeddings=False, attention_bias=True),
    "llama 3": ModelConfig(**NEWER, rope_scaling=tuple(ROPE.values()), rope_theta=500.0, head_dim=16),
    "qwen2": ModelConfig(family="qwen2", **NEWER),
    "qwen3": ModelConfig(family="qwen3", **NEWER, head_dim=12, tie_word_embeddings=False),
    "gpt2": ModelConfig(family="gpt2", **{**NEWER, "num_key_value_heads": 4}),
}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def folder(tmp_path):
    shape = replace(SHAPES["llama"], num_hidden_layers=1)
    save_pretrained(tmp_path, random_params(shape), shape, None)
    return tmp_path


def edit(folder, **changes):
    path = folder / "config.json"
    settings = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not ...}))


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_saved_is_read_to_the_bit(name, tmp_path):
    theta = random_params(SHAPES[name])
    save_pretrained(tmp_path, theta, SHAPES[name], None)
    shape, found = load_pretrained(tmp_path)
    assert replace(shape, head_dim=SHAPES[name].head_dim) == SHAPES[name] and shape.hd == SHAPES[name].hd
    assert same(found, theta)


def test_files_say_which_of_them_is_read(folder, capsys):
    load_pretrained(folder)
    assert "model.safetensors" in capsys.readouterr().err


def test_a_file_for_others_has_no_metadata_but_the_format(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def cut(folder):
    """The weights in two files that an index names, as large checkpoints come."""
    tensors, weight_map = load_file(folder / "model.safetensors"), {}
    for k, name in enumerate(tensors):
        weight_map[name] = f"model-{k % 2}.safetensors"
    for file in {*weight_map.values()}:
        save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def test_shards_are_read(folder):
    theta = load_pretrained(folder)[1]
    cut(folder)
    assert same(load_pretrained(folder)[1], theta)
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-1.safetensors cannot be read"):
        load_pretrained(folder)
    save_file(theta, folder / "model.safetensors")  # saved over an old index
    assert same(load_pretrained(folder)[1], theta)


def test_the_sources_settings_and_tokenizer_are_kept(folder):
    edit(folder, torch_dtype="float16", dtype="float16", of_others=7)
    (folder / "tokenizer.json").write_text("{}")
    shape, theta = load_pretrained(folder)
    save_pretrained(folder / "new", {name: W.bfloat16() for name, W in theta.items()}, shape, folder)
    settings = json.loads((folder / "new" / "config.json").read_text())
    assert settings["of_others"] == 7 and settings["dtype"] == "bfloat16" and "torch_dtype" not in settings
    assert (folder / "new" / "tokenizer.json").read_text() == "{}"


def test_weights_are_read_as_float32(folder):
    shape, theta = load_pretrained(folder)
    theta = {name: W.bfloat16() for name, W in theta.items()}
    save_pretrained(folder, theta, shape, folder)
    assert same(load_pretrained(folder)[1], {name: W.float() for name, W in theta.items()})


def test_a_folder_keeps_no_weights_of_before(folder):
    shape, theta = load_pretrained(folder)
    cut(folder)
    save_pretrained(folder, theta, shape, folder)
    assert [path.name for path in folder.glob("model*")] == ["model.safetensors"]


def test_a_folder_stays_as_it_is_until_the_new_one_is_whole(folder, monkeypatch):
    shape, theta = load_pretrained(folder)
    files = lambda: {path.name: path.read_bytes() for path in folder.iterdir()}
    before = files()
    monkeypatch.setattr(
        pretrained, "write_tensors", lambda *_, **__: (folder / "none" / "none").write_text("")
    )
    with pytest.raises((CheckpointError, OSError)):
        save_pretrained(folder, {name: W.bfloat16() for name, W in theta.items()}, shape, folder)
    assert files() == before


def test_a_head_beside_a_tied_embedding_must_be_its_copy(tmp_path):
    save_pretrained(tmp_path, random_params(SHAPES["qwen2"]), SHAPES["qwen2"], None)
    tensors = load_file(tmp_path / "model.safetensors")
    head = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors | {"lm_head.weight": head}, tmp_path / "model.safetensors")
    assert same(load_pretrained(tmp_path)[1], tensors)
    save_file(tensors | {"lm_head.weight": head.roll(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is not the embedding"):
        load_pretrained(tmp_path)


def test_gpt2_is_read_without_its_prefix_and_with_its_masks(tmp_path):
    theta = random_params(SHAPES["gpt2"])
    save_pretrained(tmp_path, theta, SHAPES["gpt2"], None)
    path = tmp_path / "model.safetensors"
    tensors = {name.removeprefix("transformer."): W for name, W in load_file(path).items()}
    assert tensors["h.0.attn.c_attn.weight"].shape == (32, 96)
    save_file(tensors | {"h.0.attn.bias": torch.ones(1, 1, 512, 512)}, path)
    assert same(load_pretrained(tmp_path)[1], theta)


def test_transformers_4_and_5_write_the_same_network_in_two_ways(folder):
    edit(folder, rope_theta=500.0, rope_scaling={"rope_type": "llama3", **ROPE})
    four = read_config(folder)
    five = {"rope_type": "llama3", "rope_theta": 500.0, **ROPE}
    edit(folder, rope_theta=..., rope_scaling=..., rope_parameters=five)
    assert read_config(folder) == four
    assert four.rope_scaling == tuple(ROPE.values()) and four.rope_theta == 500


def test_what_old_configs_leave_out_is_what_transformers_takes(folder):
    edit(folder, rope_theta=..., head_dim=...)
    assert read_config(folder).rope_theta == 10_000 and read_config(folder).hd == 8
    edit(folder, model_type="qwen3")
    assert read_config(folder).hd == 128


def test_only_what_changes_the_network_must_fit(folder):
    edit(folder, max_position_embeddings=7, new_key=1)
    theta = load_pretrained(folder)[1]
    save_file(theta, folder / "model.safetensors", {"new": "key"})
    assert same(load_pretrained(folder)[1], theta)


OTHERS = (
    ({"model_type": "mamba"}, "model_type 'mamba' is not one of llama"),
    ({"rope_scaling": "linear"}, "no attribute"),
    ({"hidden_size": None}, "hidden_size = None must be"),
    ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
    ({"mlp_bias": True}, "mlp_bias = True"),
    ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, "low_freq_factor"),
    ({"use_sliding_window": True}, "use_sliding_window"),
    ({"layer_types": ["sliding_attention"]}, "layer_types"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"hidden_size": ...}, "key 'hidden_size' is missing"),
    ({"num_attention_heads": 5}, "num_attention_heads"),
)


@pytest.mark.parametrize("changes, message", OTHERS)
def test_what_the_network_does_not_do_is_refused_by_name(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match=f"config.json: .*{message}"):
        read_config(folder)


NAME = "model.layers.0.mlp.up_proj.weight"


MISFITS = (
    ({NAME: None}, f"tensor {NAME} is missing"),
    ({"score.weight": torch.ones(2)}, "score.weight is"),
    ({NAME: torch.ones(3, 32)}, r"up_proj.weight .*\(3, 32\).*\(48, 32\)"),
    ({NAME: torch.ones(48, 32, dtype=torch.int8)}, "torch.int8, quantized"),
    ({NAME: torch.ones(48, 32).to(torch.float8_e4m3fn)}, "float8_e4m3fn, quantized"),
    (
        {NAME: torch.ones(48, 32).index_fill(0, torch.tensor(5), torch.nan)},
        f"safetensors: .*{NAME} holds NaN",
    ),
    ({NAME: torch.full((48, 32), -torch.inf)}, f"safetensors: .*{NAME} holds NaN or infinity"),
)


@pytest.mark.parametrize("changes, message", MISFITS)
def test_tensors_that_do_not_fit_are_named(folder, changes, message):
    path = folder / "model.safetensors"
    tensors = load_file(path) | changes
    save_file({name: W for name, W in tensors.items() if W is not None}, path)
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(folder)


def test_files_that_are_cut_off_are_named(folder):
    path = folder / "model.safetensors"
    for data in (path.read_bytes()[:-1], b""):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
            load_pretrained(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read: it is no JSON object"):
        read_config(folder)


# --- Against transformers -----------------------------------------------------------------------------------

CLASSES = {"llama": "Llama", "llama 3": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "gpt2": "GPT2"}


def hugging_face(name, folder):
    """A model of the family with weights in general position, made and saved by transformers."""
    transformers = pytest.importorskip("transformers")
    settings = {**NEWER, "head_dim": SHAPES[name].hd, "bos_token_id": 1, "eos_token_id": 2}
    settings |= {"tie_word_embeddings": SHAPES[name].tie_word_embeddings}
    if name == "llama":
        settings |= {"attention_bias": True}
    if name == "llama 3":
        settings["rope_parameters"] = {"rope_type": "llama3", "rope_theta": 500.0, **ROPE}
    if name == "gpt2":
        settings = {**SIZES, "n_inner": 48, "n_positions": 512, "layer_norm_epsilon": 1e-6}
    config = getattr(transformers, CLASSES[name] + "Config")(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=g)
    model.save_pretrained(folder)
    return model


def difference(shape, theta, theirs):
    """Largest difference of logits, over rows long enough that rotary frequencies are stretched."""
    tokens = torch.randint(shape.vocab_size, (2, 200), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours = functional_call(build(shape), theta, (tokens,))
        return float((ours - theirs(tokens).logits).abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_those_of_transformers(name, tmp_path):
    theirs = hugging_face(name, tmp_path)
    assert difference(*load_pretrained(tmp_path), theirs) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("from_theirs", [True, False])
def test_a_saved_folder_is_one_of_transformers(name, from_theirs, tmp_path):
    transformers = pytest.importorskip("transformers")
    shape, theta = SHAPES[name], random_params(SHAPES[name])
    if from_theirs:
        hugging_face(name, tmp_path / "from")
    save_pretrained(tmp_path / "to", theta, shape, tmp_path / "from" if from_theirs else None)
    load = transformers.AutoModelForCausalLM.from_pretrained
    theirs, report = load(tmp_path / "to", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert difference(shape, theta, theirs.eval()) < 1e-4
