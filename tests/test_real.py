"""A checkpoint in Hugging Face's format, from a folder to a folder: train, go on, evaluate, export.

The checkpoint is tiny and random, its tokenizer the 256 bytes written out as a tokenizer.json.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.func import functional_call

import train
from bridge_min.config import Config, ModelConfig, generator
from bridge_min.memory import predict
from bridge_min.model import init_params
from bridge_min.pretrained import load_pretrained, save_pretrained
from bridge_min.rollout import sample
from bridge_min.tokenizer import byte_chars, load_tokenizer

ROOT = Path(__file__).resolve().parents[1]
SHAPE = ModelConfig(family="qwen2", num_hidden_layers=2, hidden_size=32, intermediate_size=48)
CONFIG = """
base, task, data, train_file, test_files = "{0}/base", "jsonl", "{0}", "train.jsonl", ("a.jsonl", "b.jsonl")
prompt, end, threads = "Q {{problem}}\\n", ("<|end|>",), 1
train_problems, val_problems, test_problems, demos = 30, 4, 5, 12
prompts, group, max_new, demos_per_step, micro_batch, samples = 3, 3, 8, 2, 4, 2
steps, eval_every, save_every, log_every, sample_rows = 4, 2, 1, 1, 4
"""


def write_tokenizer(folder):
    added = [
        {
            "id": 256 + k,
            "content": text,
            "special": True,
            "normalized": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        for k, text in enumerate(("<|pad|>", "<|end|>"))
    ]
    settings = {
        "added_tokens": added,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": byte_chars(), "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    save_pretrained(folder / "base", init_params(SHAPE, generator(0, 0, "init")), SHAPE)
    write_tokenizer(folder / "base")
    lines = [
        {"problem": f"{a}+{b}", "answer": str(a + b), "solution": f"#### {a + b}"}
        for a in range(8)
        for b in range(9)
    ]
    for name, part in (("train", lines[:50]), ("a", lines[50:61]), ("b", lines[61:])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    (folder / "config.py").write_text(CONFIG.format(folder))
    train.cli([str(folder / "config.py"), f"--out={folder / 'whole'}"])
    return folder


def logits(model, theta):
    return functional_call(model, theta, (torch.arange(40).view(2, 20),))


def test_a_run_that_was_cut_goes_on_to_the_bit(folder, monkeypatch):
    arguments, original, steps = [str(folder / "config.py"), f"--out={folder / 'cut'}"], train.validate, []

    def cut(*rest):
        steps.append(rest[-1])
        if rest[-1] == 2:
            raise KeyboardInterrupt
        return original(*rest)

    monkeypatch.setattr(train, "validate", cut)
    with pytest.raises(SystemExit):
        train.cli(arguments)
    monkeypatch.undo()
    train.cli([*arguments, "--resume"])
    assert steps == [0, 2]
    for part in ("", "student", "adapter"):
        for path in (folder / "whole" / part).glob("*model.safetensors"):
            whole, cut_off = load_file(path), load_file(folder / "cut" / part / path.name)
            assert all(torch.equal(value, cut_off[name]) for name, value in whole.items()), path


def test_everything_moved_and_the_table_is_there(folder):
    base, theta = load_pretrained(folder / "base")[1], load_pretrained(folder / "whole" / "student")[1]
    assert all(not torch.equal(theta[name], base[name]) for name in base)
    results = json.loads((folder / "whole" / "results.json").read_text())
    assert set(results["scores"]["base"]) == {"a", "b"} and len(results["scores"]) == 3


def test_the_export_is_transformers_and_answers_there(folder):
    """Greedy, from the same prompt, to the same end."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "whole").eval()
    model, theta = load_pretrained(folder / "whole")
    with torch.no_grad():
        torch.testing.assert_close(theirs(torch.arange(40).view(2, 20)).logits, logits(model, theta))
    tokenizer = load_tokenizer(folder / "whole", ("<|end|>",))
    prompt = tokenizer.encode("Q 3+4\n")
    ours = sample(model, theta, [prompt], torch.zeros(1, 12), tokenizer.ends, 0.0)
    answer = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
    assert answer[0].tolist() == ours.tokens[0].tolist()


def test_student_and_adapter_are_the_policy_in_peft(folder):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    student = transformers.AutoModelForCausalLM.from_pretrained(folder / "whole" / "student")
    adapted = peft.PeftModel.from_pretrained(student, folder / "whole" / "adapter").eval()
    with torch.no_grad():
        found = adapted(torch.arange(40).view(2, 20)).logits
        torch.testing.assert_close(found, logits(*load_pretrained(folder / "whole")))
        assert float((found - logits(*load_pretrained(folder / "whole" / "student"))).abs().max()) > 1e-5


def test_an_adapter_is_where_w_begins(folder):
    options = [f"--out={folder / 'again'}", f"--base={folder / 'whole' / 'student'}"]
    options += [f"--adapter={folder / 'whole' / 'adapter'}", "--steps=1", "--lr=1e-9", "--lr_lora=1e-9"]
    train.cli([str(folder / "config.py"), *options])
    (model, theta), (_, before) = load_pretrained(folder / "again"), load_pretrained(folder / "whole")
    torch.testing.assert_close(logits(model, theta), logits(model, before), atol=1e-5, rtol=1e-5)
    assert torch.equal(*(load_adapter_rank(folder / name / "adapter") for name in ("again", "whole")))


def load_adapter_rank(folder):
    return torch.tensor(json.loads((folder / "adapter_config.json").read_text())["r"])


def test_eval_scores_the_export_and_prints_a_row(folder):
    options = ["--splits=a,b,val", "--samples=3"]
    out = subprocess.run(
        [sys.executable, str(ROOT / "eval.py"), str(folder / "whole"), *options],
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    assert "avg@3" in out.stdout and "| mean |" in out.stdout.replace("  ", " ") and "pass@3" in out.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--dtype=bfloat16", "--recompute=true", "--logit_tokens=16"],
        ["--dtype=bfloat16", "--master=bfloat16", "--offload=true"],
        ["--method=grpo", "--kl=0.1"],
        ["--select=demo", "--recompute=true"],
        ["--meta=unrolled", "--logit_tokens=16"],
    ],
    ids=" ".join,
)
def test_other_ways_to_run(folder, options, tmp_path):
    train.cli([str(folder / "config.py"), f"--out={tmp_path / 'run'}", "--steps=2", *options])
    model, theta = load_pretrained(tmp_path / "run")
    assert logits(model, theta).isfinite().all()
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["torch_dtype"] == ("bfloat16" if "--dtype=bfloat16" in options else "float32")
    assert (tmp_path / "run" / "adapter").exists() == ("--method=grpo" not in options)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--base=nowhere"], "nowhere"),
        (["--model.hidden_size=16"], "is what its config.json says"),
        (["--device=cuda"], "no GPU"),
        (["--end=<|nothing|>"], "is not one token"),
        (["--meta=unrolled", "--recompute=true"], "differentiates twice"),
        (["--method=grpo", "--adapter=x"], "adapter goes with method = bridge"),
        (["--adapter=nowhere"], "nowhere"),
        (["--lora_targets=q_prj"], "names no matrix"),
        (["--lora_targets=embed_tokens"], "names no matrix"),
        (["--max_new=500"], "max_position_embeddings"),
    ],
)
def test_bad_settings_are_said_before_anything_is_written(folder, options, message, tmp_path):
    if "cuda" in options[0] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match=message.replace("|", r"\|")):
        train.cli([str(folder / "config.py"), f"--out={tmp_path / 'run'}", *options])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_overwrite_loses_nothing_where_a_run_cannot_begin(folder, tmp_path):
    """The old run's files are deleted only once the new one has its base, and then all of them."""
    arguments = [str(folder / "config.py"), f"--out={tmp_path / 'run'}", "--steps=1", "--table=none"]
    train.cli(arguments)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    (tmp_path / "broken").mkdir()
    for file in (folder / "base").iterdir():
        (tmp_path / "broken" / file.name).write_bytes(
            file.read_bytes()[:-1] if "model" in file.name else file.read_bytes()
        )
    with pytest.raises(SystemExit, match="cannot be read"):
        train.cli([*arguments, "--overwrite", f"--base={tmp_path / 'broken'}"])
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    (tmp_path / "run" / "model.safetensors.77.tmp").write_bytes(b"of a killed run")
    (tmp_path / "run" / "merges.txt").write_text("of another tokenizer")
    train.cli([*arguments, "--overwrite", "--method=grpo"])
    left = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert left == {path.name for path in before} - {"adapter_config.json", "adapter_model.safetensors"}


def test_a_run_goes_on_with_less_memory(folder, tmp_path):
    arguments = [str(folder / "config.py"), f"--out={tmp_path / 'run'}", "--steps=1", "--table=none"]
    train.cli(arguments)
    saved = load_file(tmp_path / "run" / "model.safetensors")
    train.cli([*arguments, "--resume", "--recompute=true", "--micro_batch=1", "--sample_rows=1"])
    again = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in saved.items())
    with pytest.raises(SystemExit, match="lr was"):
        train.cli([*arguments, "--resume", "--lr=0.5"])


def test_rl_alone_needs_no_solutions(folder, tmp_path):
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    bare = [json.dumps({key: row[key] for key in ("problem", "answer")}) for row in lines]
    (tmp_path / "train.jsonl").write_text("\n".join(bare))
    options = [
        f"--data={tmp_path}",
        "--test_files=",
        "--table=none",
        f"--out={tmp_path / 'run'}",
        "--steps=1",
    ]
    with pytest.raises(SystemExit, match="0 solutions"):
        train.cli([str(folder / "config.py"), *options])
    train.cli([str(folder / "config.py"), *options, "--method=grpo"])
    assert json.loads((tmp_path / "run" / "results.json").read_text())["scores"] == {}


def test_the_checkpoints_own_folder_is_not_written_into(folder):
    with pytest.raises(SystemExit, match="no run of ours"):
        train.cli([str(folder / "config.py"), f"--out={folder / 'base'}"])


def test_of_many_processes_each_needs_a_share_of_the_players_and_all_of_what_acts():
    config = Config(dtype="bfloat16", prompts=16, group=8, sample_rows=512)
    one, four = (predict(config, config.model, (60, 50), n)["cpu"] for n in (1, 4))
    for name in ("theta", "theta_hat", "w", "moments", "gradients"):
        assert four[name] == pytest.approx(one[name] / 4), name
    for name in ("weights that act", "activations", "logits"):
        assert four[name] == one[name], name
    longer = replace(config, micro_batch=1, logit_tokens=1, model=replace(config.model, num_hidden_layers=30))
    cached = [predict(longer, longer.model, (250, 50), n)["cpu"]["keys and values"] for n in (1, 4)]
    assert cached[1] == pytest.approx(cached[0] / 4)


MEASURE = """
import torch, sys
from functools import partial
from bridge_min.baselines import METHODS
from bridge_min.bridge import Step, adamw, ascend, policy_logprobs
from bridge_min.config import Config, ModelConfig, generator
from bridge_min.lora import init_lora
from bridge_min.losses import group_advantages
from bridge_min.memory import fixed_limit, peak, predict
from bridge_min.model import build, init_params
from bridge_min.rollout import Demos, Rollouts, pack
recompute = sys.argv[1] == "True"
sizes = {"vocab_size": 20000, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8}
shape = ModelConfig(**sizes, num_attention_heads=8)
saving = {"recompute": True, "logit_tokens": 512} if recompute else {}
config = Config(prompts=2, group=8, demos_per_step=2, micro_batch=16, threads=2, **saving)
fixed_limit()
predicted = sum(predict(config, shape, (160, 160))["cpu"].values())
model, theta = build(shape), init_params(shape, generator(0, 0, "init"))
players = {"theta": theta, "theta_hat": {k: v.clone() for k, v in theta.items()}}
players["w"] = init_lora(theta, config.lora_targets, config.lora_rank, generator(0, 0, "lora"))
optimizers = {name: adamw(params) for name, params in players.items()}
row = lambda n: [torch.arange(n).tolist()]
rolled, shown = (pack(row(10) * n, row(150) * n) for n in (16, 2))
rollouts = Rollouts(**vars(rolled), logp=-10.0 * rolled.mask, finished=torch.ones(16, dtype=torch.bool))
rollouts.advantages = group_advantages(torch.arange(16) % 2 * 1.0, 8)
kinds = torch.zeros(2, dtype=torch.int64)
demos = Demos(**vars(shown), rewards=torch.ones(2), index=torch.arange(2), kinds=kinds)
step = Step(config, partial(policy_logprobs, model, config), demos, rollouts)
for _ in range(2):
    directions, _ = METHODS["bridge"](step, players)
    for name, params in players.items():
        ascend(optimizers[name], params, directions[name], 1e-4, 1.0)
    del directions
print(predicted, peak("cpu"))
"""


def test_an_update_needs_the_memory_that_was_predicted():
    """In a process of its own, twice, since the optimizer's moments exist from the second update on."""
    used = {}
    for recompute in (False, True):
        out = subprocess.run(
            [sys.executable, "-c", MEASURE, str(recompute)], capture_output=True, text=True, cwd=ROOT
        )
        assert out.returncode == 0, out.stderr
        predicted, used[recompute] = map(float, out.stdout.split())
        assert 0.8 < used[recompute] / predicted < 1.25
    assert used[True] < 0.6 * used[False]
