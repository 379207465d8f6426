"""A checkpoint in Hugging Face's format, from a folder to a folder: train, go on, evaluate, export.

The checkpoint is tiny and random, its tokenizer the 256 bytes and three more.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_pretrained import same
from test_tokenizer import by_hand
from torch.func import functional_call

import train
from bridge_min.base import init_params
from bridge_min.config import ModelConfig, generator, load_config
from bridge_min.model import build
from bridge_min.real.pretrained import load_pretrained, save_pretrained
from bridge_min.real.tokenizer import load_tokenizer
from bridge_min.rollout import sample

ROOT = Path(__file__).resolve().parents[1]
SHAPE = ModelConfig(family="qwen2", vocab_size=264, num_hidden_layers=2, hidden_size=32, intermediate_size=48)
CONFIG = """
base, task, data, train_file, test_files = "{0}/base", "jsonl", "{0}", "train.jsonl", ("a.jsonl", "b.jsonl")
prompt, end, threads = "Q {{problem}}\\n", ("<|end|>",), 1
train_problems, val_problems, test_problems, demos = 30, 4, 5, 12
prompts, group, max_new, demos_per_step, micro_batch, samples = 3, 3, 8, 2, 4, 2
steps, eval_every, log_every, sample_rows, lr, lr_lora, warmup = 2, 2, 1, 4, 1e-2, 1e-2, 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    save_pretrained(folder / "base", init_params(SHAPE, generator(0, 0, "init")), SHAPE, None)
    (folder / "base" / "tokenizer.json").write_text(json.dumps(by_hand()))
    sums = [(a, b) for a in range(8) for b in range(9)]
    lines = [{"problem": f"{a}+{b}", "answer": str(a + b), "solution": f"#### {a + b}"} for a, b in sums]
    for name, part in (("train", lines[:50]), ("a", lines[50:61]), ("b", lines[61:])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    (folder / "config.py").write_text(CONFIG.format(folder))
    train.cli([str(folder / "config.py"), f"--out={folder / 'run'}"])
    return folder


def logits(folder):
    shape, theta = load_pretrained(folder)
    return functional_call(build(shape), theta, (torch.arange(40).view(2, 20),))


def test_everything_moves_and_the_table_is_there(folder):
    base, theta = load_pretrained(folder / "base")[1], load_pretrained(folder / "run" / "student")[1]
    assert all(not torch.equal(theta[name], base[name]) for name in base)
    scores = json.loads((folder / "run" / "results.json").read_text())["scores"]
    assert set(scores["base"]) == {"a", "b"} and len(scores) == 3


def test_the_model_has_the_tokenizer_of_its_base(folder):
    assert load_tokenizer(folder / "run" / "model", ("<|end|>",)).ends == (261,)


def test_a_run_in_pieces_is_the_same_to_the_bit(folder, monkeypatch):
    def cut(*_):
        raise KeyboardInterrupt

    arguments = [str(folder / "config.py"), f"--out={folder / 'cut'}", "--eval_every=1", "--table=none"]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(train, "finish", cut)
        train.cli(arguments)
    train.cli([*arguments, "--resume"])
    assert same(*(load_pretrained(folder / name / "model")[1] for name in ("run", "cut")))


@pytest.mark.parametrize(
    "option, message",
    [
        ("--base=nowhere", "nowhere"),
        ("--end=<|nothing|>", "a response ends with one token"),
        ("--lora_targets=q_prj", "names no matrix"),
        ("--max_new=500", "max_position_embeddings"),
    ],
)
def test_bad_settings_are_said_before_anything_is_written(folder, option, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        train.cli([str(folder / "config.py"), f"--out={tmp_path / 'run'}", option])
    assert not list(tmp_path.rglob("*.safetensors"))


CONFIGS = [path for path in (ROOT / "tiny_configs").glob("*.py") if "\nbase = " in path.read_text()]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_of_checkpoints_can_be_loaded(path):
    config = load_config(path)
    assert config.out == f"out/{path.stem}" and config.task == "jsonl"


@pytest.mark.slow
def test_the_export_answers_in_transformers_as_it_does_here(folder):
    """Greedy, from the same prompt, to the same end."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "run" / "model").eval()
    with torch.no_grad():
        found = theirs(torch.arange(40).view(2, 20)).logits
    assert float((found - logits(folder / "run" / "model")).abs().max()) < 1e-4
    tokenizer, (shape, theta) = (
        load_tokenizer(folder / "base", ("<|end|>",)),
        load_pretrained(folder / "run" / "model"),
    )
    prompt = tokenizer.encode("Q 3+4\n")
    ours = sample(build(shape), theta, [prompt], torch.zeros(1, 12), tokenizer.ends, 0.0)
    answer = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=261)
    assert answer[0].tolist() == ours.tokens[0, : answer.shape[1]].tolist()


@pytest.mark.slow
def test_student_and_adapter_are_the_policy_in_peft(folder):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    student = transformers.AutoModelForCausalLM.from_pretrained(folder / "run" / "student")
    adapted = peft.PeftModel.from_pretrained(student, folder / "run" / "adapter").eval()
    with torch.no_grad():
        found = adapted(torch.arange(40).view(2, 20)).logits
    assert float((found - logits(folder / "run" / "model")).abs().max()) < 1e-4
    assert float((found - logits(folder / "run" / "student")).abs().max()) > 1e-4


@pytest.mark.slow
def test_eval_scores_the_export(folder):
    command = [sys.executable, "eval.py", str(folder / "run"), "--splits=a,b,val", "--samples=3"]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr
    assert "pass@3" in out.stdout
