"""What one GPU makes of the same code: does it agree with the CPU, and how much of the chip is used?

    python -m bridge_min.bench.gpu tiny_configs/arith.py              # any --key=value goes over the config
    python -m bridge_min.bench.gpu tiny_configs/arith.py --threads=8 --only=agree,large,steps

Minutes, without files or network: all weights are random. `agree` compares numbers; `large` is a network of
the shape of Qwen2.5-1.5B in bfloat16, for a GPU of 80 GB; `steps` is the benchmark's table. A part prints
when it is done; the exit code is 1 where the two do not agree. gpu.json, beside the run's folder, has all
numbers. Read on in __main__.py.
"""

from dataclasses import replace
from functools import partial

import torch
from torch.func import functional_call

from .. import tasks
from ..bridge import METHODS, Players, Step
from ..config import Config, ModelConfig, generator, require
from ..lora import init_lora
from ..model import build
from ..rollout import Rows
from . import __main__ as bench

LIMIT = 1e-3  # relative difference in float32
ROWS = 0.05  # share of rows that are sampled otherwise: rounding may tip a token
SMALL = ModelConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=3)  # heads of 64
CASES = [("llama", "float32", False), ("gpt2", "float32", False)]  # family, dtype, recompute
CASES += [("qwen2", "float32", True), ("qwen3", "float32", True)]
CASES += [("llama", "bfloat16", False), ("qwen2", "bfloat16", True)]
QWEN = {"vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28}
QWEN |= {"num_attention_heads": 12, "num_key_value_heads": 2, "rope_theta": 1e6, "family": "qwen2"}
CHIPS = {  # by torch's name: dense bfloat16 FLOP/s, bytes/s of its memory
    "NVIDIA H100 80GB HBM3": (989e12, 3.35e12),
    "NVIDIA H200": (989e12, 4.8e12),
}


def findings(config: Config, players: Players, rows: Rows | None = None) -> tuple[Rows, dict[str, list]]:
    """What config.device makes of the players: the rollouts, and by name the tensors to be compared. All but
    the sampling looks at `rows`, if given."""
    players = {name: {k: v.to(config.device) for k, v in params.items()} for name, params in players.items()}
    job = bench.toy(config, endless=True)[0]
    W = job.runtime.acting(players["theta"], players["w"])
    sampled = tasks.roll_out(job, 0, W)[0]
    rows = (rows or sampled).each(lambda value: value.to(config.device))
    step = Step(config, job.runtime, bench.contrast(rows, config.group), rows)
    with torch.no_grad():
        found = {"logits": [functional_call(job.runtime.model, W, (rows.tokens,))]}  # (N, T, vocab)
        found |= {"log-probs": [job.runtime.logprobs(W, rows)], "sampled rows": [sampled.tokens]}
    for name in ("first_order", "unrolled"):
        for player, g in METHODS[name].update(step, players)[0].items():
            found[f"{name}, {player}"] = list(g.values())
    return rows, {name: [value.cpu() for value in values] for name, values in found.items()}


def agree(config: Config) -> dict[str, float]:
    """The CPU against config.device, from the same players, random numbers and rows: norm of the difference /
    norm, over all tensors; of sampled rows the share that differ. In bfloat16 nothing is judged."""
    torch.set_float32_matmul_precision("highest")  # no TF32
    sizes, result = {"prompts": 4, "demos_per_step": 4, "max_new": min(config.max_new, 32)}, {}
    for family, dtype, recompute in CASES:
        shape = replace(SMALL, family=family)
        case = replace(config, **sizes, model=shape, dtype=dtype, recompute=recompute)
        theta, other = (bench.noise(shape, "cpu", seed) for seed in (1, 2))
        w = init_lora(theta, case.lora_targets, case.lora_rank, generator(0, 0, "bench"))
        w = {name: A if A.any() else A + 0.02 for name, A in w.items()}  # B is 0 at first
        players = {"theta": theta, "theta_hat": {k: v + 0.05 * other[k] for k, v in theta.items()}, "w": w}
        rows, expected = findings(replace(case, device="cpu"), players)
        for what, values in findings(case, players, rows)[1].items():
            pairs = zip(values, expected[what], strict=True)
            a, b = torch.cat([torch.stack(pair).double().flatten(1) for pair in pairs], 1)
            gap = (values[0] != expected[what][0]).any(1).double().mean()  # of sampled rows
            gap = float(gap if what == "sampled rows" else (a - b).norm() / b.norm())
            limit = ROWS if what == "sampled rows" else LIMIT
            judged = ("pass" if gap <= limit else "**FAIL**") if dtype == "float32" else "not judged"
            result[f"{family}, {dtype}{', recompute' * recompute}: {what}, {judged}"] = gap
    return result


def forward_flops(shape: ModelConfig, rows: Rows) -> float:
    """FLOPs of one forward pass without padding: 2 for each token and number of the blocks' matrices, 2 for
    each response token and number of the head; 4 hd H for each layer and pair of a token and one it sees. The
    backward pass takes twice that, and once more where it computes again. Not counted: norms, softmax, the
    merge, Adam."""
    weights, length = build(shape).named_parameters(), rows.length().double()  # (N,)
    blocks = sum(W.numel() for name, W in weights if ".layers." in name and W.dim() == 2)
    pairs = shape.num_hidden_layers * (length * (length + 1) / 2).sum()
    head = shape.vocab_size * shape.hidden_size * rows.mask.sum()
    return float(2 * blocks * length.sum() + 2 * head + 4 * shape.hd * shape.num_attention_heads * pairs)


def sampling_bytes(shape: ModelConfig, rows: Rows, new: int) -> float:
    """Bytes that sampling must read, at two a number, all responses being `new` tokens: in each of the `new`
    passes the weights, once for all rows; and in all but the first, which reads the prompts, the keys and
    values of what each row has seen."""
    weights = sum(W.numel() for W in build(shape).parameters())
    prompts = rows.length().sum() - rows.mask.sum()  # tokens
    seen = (new - 1) * prompts + len(rows) * new * (new - 1) // 2
    kv = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.hd  # of a token
    return float(2 * (new * weights + kv * seen))


def large(config: Config, shape: ModelConfig | None = None, new: int = 512) -> dict[str, float]:
    """Sampling and BRIDGE's update: tokens/s; shares of the chip's bandwidth and peak (none for one that is
    not in CHIPS); memory, and what the README's formula says of it but for its last term."""
    shape, on_gpu, found = shape or ModelConfig(**QWEN), config.device == "cuda", {}
    config = replace(config, model=shape, dtype="bfloat16", recompute=True, max_new=new, micro_batch=32)
    job, theta = bench.toy(config, endless=True)
    jobs = bench.parts(job, theta, ["first_order"])
    jobs = {"sampling": jobs["sampling + rewards"], "update": jobs["update, first_order"]}
    rows, numbers = jobs["sampling"]()[0], sum(W.numel() for W in theta.values())  # the rows of the update
    demos = bench.contrast(rows, config.group)
    seconds = {name: ms / 1000 for name, ms in bench.medians(jobs, 2).items()}
    tokens = {"sampling": int(rows.mask.sum()), "update": int(rows.mask.sum() + demos.mask.sum())}
    speed, of = sampling_bytes(shape, rows, new) / seconds["sampling"], partial(forward_flops, shape)
    flops = 3 * (2 * of(rows) + of(demos)) / seconds["update"]  # the rollouts also for the shadow
    found |= {f"{name}, tokens/s": tokens[name] / spent for name, spent in seconds.items()}
    found |= {"sampling, TB/s": speed / 1e12, "update, TFLOP/s": flops / 1e12}
    if chip := CHIPS.get(on_gpu and torch.cuda.get_device_name()):
        shares = {"sampling, share of bandwidth": speed / chip[1], "update, share of peak": flops / chip[0]}
        found |= {**shares, "update, share of peak with what is computed again": 4 / 3 * flops / chip[0]}
    for name, job in jobs.items() if on_gpu else ():
        torch.cuda.reset_peak_memory_stats()
        job()
        found[f"{name}, peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return found | {"GiB by the README, without activations": numbers * (28 + 8 + 2) / 2**30}


def main(path: str, *arguments: str) -> dict:
    """As __main__.main, on a GPU. Raises ConfigError."""
    require(torch.cuda.is_available(), "torch sees no GPU here")
    print(torch.cuda.get_device_name())
    return bench.main(path, "--device=cuda", *arguments, sections=PARTS, file="gpu")


PARTS = {"agree": agree, "large": large, "steps": partial(bench.steps, endless=True)}

if __name__ == "__main__":
    bench.cli(__doc__, main)
