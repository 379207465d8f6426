"""A checkpoint in Hugging Face's format, from a folder to a folder: train, go on, evaluate, export.

The checkpoint is tiny and random, its tokenizer the 256 bytes and three more.
"""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from runs import at_step, cut_at_each_write, cut_power, state
from safetensors.torch import load_file, save_file
from test_eval import cli
from test_model import random_params
from test_pretrained import SHAPES, difference, same
from test_tokenizer import by_hand

import train
from bridge_min.config import Config, ModelConfig, load_config
from bridge_min.model import build
from bridge_min.real import export
from bridge_min.real.pretrained import load_pretrained, save_pretrained
from bridge_min.real.tokenizer import load_tokenizer
from bridge_min.rollout import sample

ROOT = Path(__file__).resolve().parents[1]
SHAPE = ModelConfig(family="qwen2", vocab_size=272, num_hidden_layers=2, hidden_size=32, intermediate_size=48)
CONFIG = """
base, task, data, train_file, test_files = "{0}/base", "jsonl", "{0}", "train.jsonl", ("a.jsonl", "b.jsonl")
prompt, end, threads = "Q {{problem}}\\n", ("<|end|>",), 1
train_problems, val_problems, test_problems, demos = 30, 4, 5, 12
prompts, group, max_new, demos_per_step, micro_batch, samples = 3, 3, 8, 2, 4, 2
steps, eval_every, log_every, sample_rows, lr, lr_lora, warmup = 2, 2, 1, 4, 1e-2, 1e-2, 0
lora_rank, lora_scale, lora_targets = 3, 1.5, ("q_proj", "down_proj")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    save_pretrained(folder / "base", random_params(SHAPE), SHAPE, None)
    (folder / "base" / "tokenizer.json").write_text(json.dumps(by_hand()))
    sums = [(a, b) for a in range(8) for b in range(9)]
    lines = [{"problem": f"{a}+{b}", "answer": str(a + b), "solution": f"#### {a + b}"} for a, b in sums]
    for name, part in (("train", lines[:50]), ("a", lines[50:61]), ("b", lines[61:])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    (folder / "config.py").write_text(CONFIG.format(folder))
    train.cli([str(folder / "config.py"), f"--out={folder / 'run'}"])
    return folder


def test_everything_moves_and_the_table_is_there(folder):
    base, theta = load_pretrained(folder / "base")[1], load_pretrained(folder / "run" / "student")[1]
    assert all(not torch.equal(theta[name], base[name]) for name in base)
    scores = json.loads((folder / "run" / "results.json").read_text())["scores"]
    assert set(scores["base"]) == {"a", "b"} and len(scores) == 3


def test_the_model_has_the_tokenizer_of_its_base(folder):
    assert load_tokenizer(folder / "run" / "model", ("<|end|>",)).ends == (261,)


def test_the_network_gives_only_ids_that_the_tokenizer_has(folder):
    job = train.open_job(load_config(folder / "config.py"))
    assert job.runtime.model.config.words == job.tokenizer.n_vocab < SHAPE.vocab_size


def test_the_export_names_what_ends_a_response_here_and_what_is_never_sampled(folder):
    for part in ("model", "student"):
        read = lambda name, part=part: json.loads((folder / "run" / part / name).read_text())
        assert read("config.json")["eos_token_id"] == [261]
        assert read("generation_config.json") == {
            "eos_token_id": [261],
            "suppress_tokens": [*range(264, 272)],
        }


def test_a_run_in_pieces_is_the_same_to_the_bit(folder, monkeypatch):
    arguments = [str(folder / "config.py"), f"--out={folder / 'cut'}", "--eval_every=1", "--table=none"]
    at_step(monkeypatch, 1, cut_power)
    with pytest.raises(SystemExit, match="power cut"):
        train.cli(arguments)
    monkeypatch.undo()
    train.cli([*arguments, "--resume"])
    assert same(*(load_pretrained(folder / name / "model")[1] for name in ("run", "cut")))


def test_cut_off_before_any_write_of_the_export_and_resumed_a_run_ends_with_the_final_model(
    folder, tmp_path, monkeypatch
):
    """And with the final student and adapter; where earlier ones lie in their place."""
    begun, at = shutil.copytree(folder / "run", tmp_path / "begun"), tmp_path / "run"
    base, names = load_pretrained(folder / "base")[1], ("model", "student")
    for name in names:
        save_pretrained(begun / name, base, SHAPE, folder / "base")
    resume = partial(train.cli, [str(folder / "config.py"), f"--out={at}", "--table=none", "--resume"])
    for _ in cut_at_each_write(monkeypatch, begun, at, resume):
        resume()
        assert all(same(*(load_pretrained(x / name)[1] for x in (at, folder / "run"))) for name in names)
        adapters = (x / "adapter" / "adapter_model.safetensors" for x in (at, folder / "run"))
        assert same(*map(load_file, adapters))


def spoilt(path):
    """One line more, two tokens that change their places, or one weight that is another."""
    if path.suffix == ".jsonl":
        return path.write_text(path.read_text() + '\n{"problem": "2+20", "answer": "22"}')
    if path.suffix == ".json":
        return path.write_text(path.read_text().replace('"1": 16', '"1": 17').replace('"2": 17', '"2": 16'))
    theta = load_pretrained(path.parent)[1]
    theta["model.norm.weight"][3] += 1e-3
    save_file(theta, path)


INPUTS = {"train.jsonl": "data", "b.jsonl": "data", "base/tokenizer.json": "data"}
INPUTS |= {"base/model.safetensors": "base"}


@pytest.mark.parametrize("file", INPUTS)
def test_a_run_goes_on_only_with_the_data_and_the_base_that_it_was_begun_with(folder, file):
    whole = (folder / file).read_bytes()
    spoilt(folder / file)
    with pytest.raises(SystemExit, match=f"the {INPUTS[file]} changed since .*/run was begun"):
        train.cli([str(folder / "config.py"), f"--out={folder / 'run'}", "--resume"])
    (folder / file).write_bytes(whole)


REFUSED = {
    "--base=nowhere": "nowhere",
    "--end=<|nothing|>": "a response ends with one token",
    "--lora_targets=q_prj": "names no matrix",
    "--max_new=500": "max_position_embeddings",
}


@pytest.mark.parametrize("option", REFUSED)
def test_bad_settings_are_said_before_anything_is_written(folder, option, tmp_path):
    with pytest.raises(SystemExit, match=REFUSED[option]):
        train.cli([str(folder / "config.py"), f"--out={tmp_path / 'run'}", option])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_adapter_is_w_under_pefts_names_and_its_settings(folder):
    tensors = load_file(folder / "run" / "adapter" / "adapter_model.safetensors")
    w = state(folder / "run")["w"]
    assert same(tensors, {f"base_model.model.{name}": value for name, value in w.items()})
    settings = json.loads((folder / "run" / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (3, 4.5)
    assert settings["target_modules"][0] == "model.layers.0.mlp.down_proj"


def test_an_adapter_names_its_base_from_anywhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, theta = Config(base=str(folder / "base"), out="run", end=("<|end|>",)), random_params(SHAPE)
    export(config, SHAPE, theta, theta, {"q_proj.lora_A.weight": torch.zeros(1, 4)})
    settings = json.loads(Path("run/adapter/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "run" / "student")


def test_gpt2_gets_the_merged_model_only(tmp_path):
    shape, theta = SHAPES["gpt2"], random_params(SHAPES["gpt2"])
    save_pretrained(tmp_path / "base", theta, shape, None)
    (tmp_path / "base" / "tokenizer.json").write_text(json.dumps(by_hand()))
    config = Config(base=str(tmp_path / "base"), out=str(tmp_path / "run"), end=("<|end|>",))
    export(config, shape, theta, theta, {"model.layers.0.mlp.down_proj.lora_A.weight": torch.zeros(1, 48)})
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model"]


def test_a_checkpoint_is_evaluated_by_a_config_whichever_base_that_names(folder, capsys):
    cli([str(folder / "base"), f"--config={folder / 'config.py'}", "--base=nowhere", "--splits=b"])
    assert f"{'b':>13}{'mean':>13}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="say by --config= which task"):
        cli([str(folder / "base")])


CONFIGS = [path for path in (ROOT / "tiny_configs").glob("*.py") if "\nbase = " in path.read_text()]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_of_checkpoints_can_be_loaded(path):
    config = load_config(path)
    assert config.out == f"out/{path.stem}" and config.task == "jsonl"


@pytest.mark.slow
def test_the_export_answers_in_transformers_as_it_does_here(folder, tmp_path):
    """Greedy, from the same prompt, to the same end, which `generate` takes from the folder."""
    transformers = pytest.importorskip("transformers")
    shape, theta = load_pretrained(folder / "run" / "model")
    tokenizer = load_tokenizer(folder / "base", ("<|end|>",))
    prompt = tokenizer.encode("Q 3+4\n")
    ours = lambda *ends: (
        sample(build(shape), theta, [prompt], torch.zeros(1, 12), ends, 0.0).tokens[0].tolist()
    )
    answer = map(tokenizer.decode, zip(ours()[len(prompt) + 2 : -1], strict=True))
    text = next(text for text in answer if len(tokenizer.encode(text)) == 1)  # one that comes is the end
    config = Config(base=str(folder / "base"), out=str(tmp_path), end=("<|end|>", text))
    export(config, shape, theta, {}, {})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert difference(shape, theta, theirs) < 1e-4
    found = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0].tolist()
    assert found == ours(261, *tokenizer.encode(text)) and len(found) < len(prompt) + 12


@pytest.mark.slow
def test_student_and_adapter_are_the_policy_in_peft(folder, tmp_path, monkeypatch):
    """From any working directory, without being told where the student is."""
    peft = pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(folder / "run" / "adapter").eval()
    assert difference(*load_pretrained(folder / "run" / "model"), adapted) < 1e-4
    assert difference(*load_pretrained(folder / "run" / "student"), adapted) > 0.01  # w counts


@pytest.mark.slow
def test_eval_scores_the_export(folder):
    command = [sys.executable, "eval.py", str(folder / "run"), "--splits=a,b,val", "--samples=3"]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr
    assert "pass@3" in out.stdout
