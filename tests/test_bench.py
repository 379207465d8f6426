"""The benchmark: its sums by hand, and that every part of it runs on a toy, with the rivals or without."""

import json
import sys

import pytest
import torch
from test_train import TINY

from bridge_min import bench
from bridge_min.config import load_config


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    (tmp_path / "tiny.py").write_text(TINY)
    return load_config(tmp_path / "tiny.py", [f"--out={tmp_path / 'out'}"])


def test_exponents_and_medians_by_hand(monkeypatch):
    assert bench.exponent((1, 2, 4), [3.0, 12.0, 48.0]) == pytest.approx(2)
    assert bench.exponent((4, 16), [5.0, 5.0]) == pytest.approx(0)
    ticks = iter(
        [0, 9, 9, 9, 10, 12, 12, 13, 20, 24, 30, 30]
    )  # two jobs, three rounds: the first is not counted
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(ticks))
    order = []
    jobs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert bench.medians(jobs, 2) == {"a": 1000 * (2 + 4) / 2, "b": 1000 * (1 + 0) / 2}
    assert "".join(order) == "ababab"


def test_the_floor_has_every_product_of_a_forward_pass_but_attentions():
    shape = bench.ModelConfig()
    flops = []

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.mm.default:
                flops.append(args[0].shape[0] * args[0].shape[1] * args[1].shape[1])
            return func(*args, **(kwargs or {}))

    run = bench.products(shape, 10, 4)
    with Count():
        run()
    C, inner, kv = 64, 192, 32
    block = 2 * C * C + 2 * C * kv + 3 * C * inner
    assert sum(flops) == 10 * 3 * block + 4 * C * 258


def test_every_part_runs_and_ends_in_a_table_and_json(config, tmp_path, monkeypatch, capsys):
    small = {"vocabulary": (300, 600)}
    sweeps = {name: (small.get(name, (64, 128)), theory) for name, (_, theory) in bench.SWEEPS.items()}
    monkeypatch.setattr(bench, "SWEEPS", sweeps)
    monkeypatch.setattr(bench, "trl_steps", missing)
    monkeypatch.setattr(bench, "generator_of", missing)
    bench.main(config, ["steps", "sampling", "trl", "exponents"])
    printed = capsys.readouterr().out
    for name in ("generate", "TRL"):
        assert name not in printed.replace("against TRL: skipped", "").replace("transformers: skipped", "")
    assert printed.count("skipped") == 2
    found = json.loads((tmp_path / "bench.json").read_text())
    values = {row["what"]: row["value"] for name in bench.SECTIONS for row in found.get(name, [])}
    assert values["**bridge's step / grpo's step**"] > 1 and len(found["exponents"]) == 10
    assert 0 < values["positions computed"] <= 1 and 0 <= values["of these padding"] < 1
    assert "| update, bridge |" in printed


def missing(*_):
    raise ImportError


def test_the_rivals_take_part_where_they_are_installed(config, monkeypatch):
    pytest.importorskip("transformers")
    rows = dict(row[:2] for row in bench.sampling(config, rows=16, new=6))
    assert rows["**generate / sample, equal lengths**"] > 0
    monkeypatch.setattr(bench, "trl_steps", lambda *asked: (asked_of(*asked), 3.0))
    rows = dict(row[:2] for row in bench.trl(config, rounds=1))
    assert len(rows) == 4 and all(value > 0 for value in rows.values())


def asked_of(folder, prompts, judge, group, shortest, new, rounds):
    assert (folder / "model.safetensors").exists() and len(prompts) == 4 and group == 4
    assert shortest in (0, new) and judge(prompts[0], "#### x 1") in (0.0, 1.0)
    return 1.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_grows_with_what_is_held():
    before = bench.resident()
    held = torch.ones(64 << 20, dtype=torch.uint8)
    assert 0.05 < bench.resident() - before < 0.08 and len(held)
    assert bench.resident(peak=True) >= bench.resident() - 0.01
