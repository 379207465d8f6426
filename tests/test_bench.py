"""The benchmark: medians by hand, and that each part of it runs on a toy, with the rivals or without."""

import json
from functools import partial

import pytest

from bridge_min.bench import __main__ as bench
from bridge_min.bench import gpu
from bridge_min.config import ConfigError, ModelConfig, load_config
from bridge_min.rollout import pack

TINY = """
threads, base_steps, base_batch, prompts, group, demos_per_step, max_new = 1, 1, 4, 2, 2, 2, 4
train_problems, val_problems, test_problems, demos = 12, 2, 2, 4
model = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    (tmp_path / "tiny.py").write_text(f"{TINY}out = {str(tmp_path / 'out')!r}")
    return tmp_path / "tiny.py"


def test_jobs_take_turns_and_the_first_round_is_not_counted(monkeypatch):
    ticks = iter([0, 9, 9, 9, 10, 12, 12, 13, 20, 24, 30, 30])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(bench, "ROUNDS", 2)
    order = []
    jobs = {name: lambda name=name: order.append(name) for name in "ab"}
    assert bench.medians(jobs) == {"a": 1000 * (2 + 4) / 2, "b": 1000 * (1 + 0) / 2}
    assert "".join(order) == "ababab"


def test_what_is_measured_is_a_table_and_json_and_other_sections_stay(path, capsys):
    (path.parent / "bench.json").write_text('{"long": {"kept": 1.0}}')
    bench.main(str(path), "--only=steps,trl")
    printed, found = capsys.readouterr().out, json.loads((path.parent / "bench.json").read_text())
    assert "| update, first_order | " in printed and "trl: skipped" in printed
    assert found["steps"]["**bridge's step / grpo's step**"] > 1 and found["long"] == {"kept": 1.0}


def test_sampling_and_memory_run_without_rivals(path):
    config, shape = load_config(path), ModelConfig(hidden_size=256, num_hidden_layers=2)
    assert 0 < bench.sampling(config, prompts=4, new=3)["bare matrix products / ours"] < 1
    found = bench.memory(config, shape, new=100)
    assert found["**recompute / plain**"] == found["recompute"] / found["plain"]


@pytest.mark.slow
def test_generate_takes_part_where_it_is_installed(path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(bench, "find_spec", lambda name: name == "transformers")
    assert bench.sampling(load_config(path), prompts=4, new=3)["**generate** / ours"] > 0


def test_unknown_sections_and_tasks_are_refused(path):
    with pytest.raises(ConfigError, match="there are steps, sampling, trl, long, memory"):
        bench.main(str(path), "--only=step")
    with pytest.raises(ConfigError, match="toy worlds"):
        bench.main(str(path), "--only=steps", "--task=jsonl")


SHAPE = ModelConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1)


def test_the_gpu_script_runs_here_where_all_agrees(path, monkeypatch):
    monkeypatch.setattr(gpu, "SMALL", SHAPE)
    parts = {**gpu.PARTS, "large": partial(gpu.large, shape=SHAPE, new=2)}
    found = bench.main(str(path), sections=parts, file="gpu")
    assert len(found["agree"]) == 9 * len(gpu.CASES) and max(found["agree"].values()) < 1e-6
    assert found["large"]["update, tokens/s"] > 0 and found["steps"]["update, first_order"] > 0
    with pytest.raises(ConfigError, match="no GPU here"):
        gpu.main(str(path))


def test_a_weight_that_differs_on_the_gpu_is_a_failure(path, monkeypatch):
    original = gpu.findings

    def spoiled(config, players, rows=None):
        if rows:
            players["theta"]["model.layers.0.mlp.up_proj.weight"][0, 0] += 0.5
        return original(config, players, rows)

    monkeypatch.setattr(gpu, "SMALL", SHAPE)
    monkeypatch.setattr(gpu, "CASES", gpu.CASES[::4])
    monkeypatch.setattr(gpu, "findings", spoiled)
    monkeypatch.setattr(bench.sys, "argv", ["gpu", str(path), "--only=agree"])
    with pytest.raises(SystemExit, match="True"):
        bench.cli("", partial(bench.main, sections=gpu.PARTS))
    found = json.loads((path.parent / "bench.json").read_text())["agree"]
    assert {"llama, float32: first_order, w, **FAIL**", "llama, bfloat16: logits, not judged"} <= found.keys()


def test_flops_and_bytes_are_those_counted_by_hand():
    """1536 numbers in the block's matrices, 16 x 258 in the head; prompts of one token and of two."""
    rows = pack([[1], [1, 2]], [[3, 4], [3, 4]])
    pairs = (1 + 2 + 3) + (1 + 2 + 3 + 4)
    assert gpu.forward_flops(SHAPE, rows) == 2 * 1536 * 7 + 2 * 16 * 258 * 4 + 4 * 16 * pairs
    numbers, kv = 1536 + 16 * 258 + 3 * 16, 2 * 8  # with three norms; key and value of two heads of 4
    assert gpu.sampling_bytes(SHAPE, rows, 2) == 2 * (2 * numbers + (1 + 2 + 2 * 1) * kv)
