"""What test_sharding.py runs under torchrun, in three processes, which divide nothing evenly: with slices of
every tensor and shares of every batch the mathematics is that of one process, in float64 to the last digits.

    torchrun --nproc_per_node=3 tests/processes.py FOLDER
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from conftest import World, gap, size
from torch.distributed.tensor import DTensor

from bridge_min import checkpoint, rollout
from bridge_min.baselines import METHODS
from bridge_min.bridge import acting, adamw, ascend, total_norm
from bridge_min.checkpoint import CheckpointError, load_latest, save_run
from bridge_min.data import attempt, reference_logprobs
from bridge_min.gain import new_memory
from bridge_min.problem import Problem
from bridge_min.sharding import (
    alone,
    anyone,
    everywhere,
    gathered,
    joined,
    own,
    rank,
    spread,
    summed,
    together,
    wait,
    whole,
    world,
)
from bridge_min.tokenizer import byte_tokenizer

CASES = (
    *({"method": method} for method in METHODS),
    *({"meta": "no_shadow"}, {"kl": 0.3}, {"normaliser": "sequence"}, {"micro_batch": 1}, {"micro_batch": 2}),
    *({"select": "demo"}, {"select": "token", "micro_batch": 1}, {"select": "reward"}, {"recompute": True}),
)


def sliced(players):
    return {player: {k: spread(v) for k, v in params.items()} for player, params in players.items()}


def share_out_and_put_together():
    assert world() == 3
    for n in (1, 2, 3, 4, 7):
        place = own(n)
        assert len(place) == -(-n // 3) and int(place[0]) == rank()
        found = (place % n)[:, None] * torch.ones(1, 1 + rank(), dtype=torch.int64)  # rows of three lengths
        expected = torch.arange(n)[:, None] * (torch.arange(3)[None] <= (torch.arange(n) % 3)[:, None])
        assert torch.equal(together(found, n), expected)
        assert together(place % 2 == 0, n).tolist() == [i % 2 == 0 for i in range(n)]
    assert {
        k: float(v) for k, v in summed({"a": torch.tensor(rank() + 0.5), "b": torch.tensor(1)}).items()
    } == {
        "a": 4.5,
        "b": 3.0,
    }
    assert anyone(rank() == 2) and not anyone(False)
    with alone():
        assert world() == 1 and rank() == 0 and own(5).tolist() == [0, 1, 2, 3, 4]


def slices_and_their_gradients():
    for rows in (1, 2, 3, 7):
        W = torch.arange(rows * 2.0, dtype=torch.float64).view(rows, 2)
        leaf = spread(W).requires_grad_()
        assert isinstance(leaf, DTensor) and leaf.shape == W.shape
        assert leaf.to_local().shape[0] == len(
            range(rank() * -(-rows // 3), min(rows, (rank() + 1) * -(-rows // 3)))
        )
        assert torch.equal(whole(leaf), W) and whole(leaf, torch.float32).dtype == torch.float32
        ((rank() + 1) * whole(leaf).square().sum()).backward()  # each process a part of the sum, 1 + 2 + 3
        assert isinstance(leaf.grad, DTensor) and torch.equal(whole(leaf.grad), 12 * W)
    B, A = (torch.arange(n, dtype=torch.float64).view(shape) for n, shape in ((10, (5, 2)), (6, (2, 3))))
    leaves = [spread(x).requires_grad_() for x in (B, A)]
    product = leaves[0] @ everywhere(leaves[1])
    (whole(product) * (rank() + 1)).sum().backward()
    assert torch.equal(whole(leaves[0].grad), 6 * torch.ones(5, 3, dtype=torch.float64) @ A.T)
    assert torch.equal(whole(leaves[1].grad), 6 * B.T @ torch.ones(5, 3, dtype=torch.float64))


def directions_are_those_of_one_process():
    rollout.PASS = 1  # passes are cut at every length, and few hold a row for each process
    for case in CASES:
        world = World()
        config, memory = world.with_config(**case), new_memory(5)
        with alone():
            if config.kl:
                world.rollouts.ref_logp = reference_logprobs(
                    config, world.logprobs, world.reference, world.rollouts
                )
            expected, stats = METHODS[config.method](world.step(2), world.players)
            norms = {player: total_norm(direction) for player, direction in expected.items()}
        reference = {name: spread(value) for name, value in world.reference.items()}
        if config.kl:
            found = reference_logprobs(config, world.logprobs, reference, world.rollouts)
            torch.testing.assert_close(found, world.rollouts.ref_logp, rtol=1e-12, atol=1e-12)
        directions, found = METHODS[config.method](world.step(2, memory), sliced(world.players))
        assert found.keys() == stats.keys(), case
        for name in stats:
            assert abs(found[name] - stats[name]) < 1e-12, (case, name)
        for player, direction in directions.items():
            assert all(isinstance(value, DTensor) for value in direction.values())
            assert abs(total_norm(direction) - norms[player]) < 1e-12, (case, player)
            assert gap(gathered(direction), expected[player]) < 1e-12 * max(1, size(expected[player])), case


def two_steps(world, optimizers, memory):
    for _ in range(2):
        directions, _ = METHODS["bridge"](world.step(0, memory, select="demo"), world.players)
        for name, params in world.players.items():
            ascend(optimizers[name], params, directions[name], 1e-2, 0.1)


def steps_checkpoints_and_what_acts(folder):
    """Two optimizer steps; saved by three processes in parts, the state is that of one, and loads again."""
    checkpoint.SHARD = 3000
    ours, theirs = World(), World()
    ours.players = sliced(ours.players)
    optimizers = {name: adamw(params, 0.1) for name, params in ours.players.items()}
    memory = new_memory(5)
    two_steps(ours, optimizers, memory)
    save_run(folder, 2, ours.config, {**ours.players, "memory": memory}, optimizers)
    wait()
    with alone():
        others = {name: adamw(params, 0.1) for name, params in theirs.players.items()}
        theirs_memory = new_memory(5)
        two_steps(theirs, others, theirs_memory)
        loaded, loaded_memory = World().players, new_memory(5)
        again = {name: adamw(params, 0.1) for name, params in loaded.items()}
        assert load_latest(folder, {**loaded, "memory": loaded_memory}, again) == 2
        assert (
            torch.equal(loaded_memory["draws"], theirs_memory["draws"]) and loaded_memory["draws"].sum() == 6
        )
        for player, params in theirs.players.items():
            assert gap(params, loaded[player]) < 1e-12
            for name, value in params.items():
                for key in ("step", "exp_avg", "exp_avg_sq"):
                    a, b = others[player].state[value][key], again[player].state[loaded[player][name]][key]
                    assert a.shape == b.shape and float((a - b).abs().max()) < 1e-12
        merged = acting(theirs.config, theirs.players)
    assert gap(acting(ours.config, ours.players), merged) < 1e-12
    fresh, memory = sliced(World().players), new_memory(5)
    optimizers = {name: adamw(params, 0.1) for name, params in fresh.items()}
    assert load_latest(folder, {**fresh, "memory": memory}, optimizers) == 2
    for player, params in fresh.items():
        assert gap(gathered(params), loaded[player]) == 0
        for name, value in params.items():
            moment = optimizers[player].state[value]["exp_avg_sq"]
            assert isinstance(moment, DTensor)
            assert torch.equal(whole(moment), again[player].state[loaded[player][name]]["exp_avg_sq"])
    one_cannot_read_the_newest(folder, ours.config, fresh, optimizers, memory)
    try:
        load_latest(folder, {**fresh, "memory": new_memory(4)}, optimizers)
        raise AssertionError("another shape was accepted")
    except CheckpointError as error:
        assert "memory/" in str(error)


def one_cannot_read_the_newest(folder, config, fresh, optimizers, memory):
    """All then go back to the one before, together."""
    save_run(folder, 3, config, {**fresh, "memory": memory}, optimizers, 2)
    wait()
    original = checkpoint.digest_of

    def unreadable(path, written):
        if rank() == 1 and "000003" in path.name:
            raise OSError("input/output error")
        return original(path, written)

    checkpoint.digest_of = unreadable
    assert load_latest(folder, {**fresh, "memory": memory}, optimizers) == 2
    checkpoint.digest_of = original
    assert load_latest(folder, {**fresh, "memory": memory}, optimizers) == 3


def rollouts_are_those_of_one_process():
    tokenizer, world = (
        replace(byte_tokenizer(), ends=tuple(range(0, 258, 4))),
        World(),
    )  # many tokens end a row
    policy = {name: value.float() for name, value in acting(world.config, world.players).items()}
    check = lambda response, answer: len(response) % 3 == int(answer) % 3
    problems = [Problem(prompt, f"{i}", "", check) for i, prompt in enumerate(("1+2", "3", "4*55+1", "6"))]
    uniforms = torch.rand(12, 9, generator=torch.Generator().manual_seed(0))
    for rows in (2, 512):
        config = replace(world.config, sample_rows=rows)
        arguments = (config, world.model, policy, tokenizer, problems, uniforms, 1.0)
        with alone():
            expected = attempt(*arguments)
        found = attempt(*arguments)
        assert 0 < expected.rewards.sum() < 12
        for name in ("tokens", "mask", "finished", "rewards"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        torch.testing.assert_close(found.logp, expected.logp)
        torch.testing.assert_close(found.weights, expected.weights)


if __name__ == "__main__":
    with joined("cpu"):
        share_out_and_put_together()
        slices_and_their_gradients()
        directions_are_those_of_one_process()
        steps_checkpoints_and_what_acts(Path(sys.argv[1]))
        rollouts_are_those_of_one_process()
        if rank() == 0:
            print("all is the same")
