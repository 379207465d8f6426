"""How good is a policy? Greedy accuracy and unbiased pass@k, with 95 % intervals."""

import math
import sys
import time
from dataclasses import dataclass

import torch

from .config import Config, generator
from .data import attempt
from .model import GPT, Params
from .problem import Problem
from .rollout import texts
from .sharding import rank, world
from .tokenizer import Tokenizer

QUIET = 10.0  # seconds between lines of progress


@dataclass(frozen=True)
class Score:
    """Shares in 0..1."""

    greedy: float
    interval: tuple[float, float]  # of greedy, 95 %, Wilson
    pass_at: dict[int, tuple[float, float]]  # k -> estimate, half width of its 95 % interval


def answer_problems(
    config: Config,
    model: GPT,
    params: Params,
    tokenizer: Tokenizer,
    problems: list[Problem],
    samples: int = 0,
) -> tuple[list[list[float]], list[str]]:
    """Rewards of each problem's responses, and the texts of the first one each. samples = 0: one greedy
    response. Where it takes long, standard error says how far it is."""
    group, rewards, shown = max(samples, 1), [], []
    random_numbers = generator(config.seed, 0, "evaluation")
    per_chunk = max(1, config.sample_rows // group) * world()
    began = said = time.monotonic()
    for at in range(0, len(problems), per_chunk):
        chunk = problems[at : at + per_chunk]
        # Drawn in the problems' order, so that they do not depend on the size of a chunk.
        u = torch.rand(len(chunk) * group, config.max_new, generator=random_numbers)  # (rows, max_new)
        temperature = config.temperature if samples else 0.0
        rollouts = attempt(config, model, params, tokenizer, chunk, u, temperature)
        rewards += rollouts.rewards.view(-1, group).tolist()
        shown += texts(rollouts, tokenizer)[::group]
        if time.monotonic() - said > QUIET and len(rewards) < len(problems) and rank() == 0:
            said = time.monotonic()
            left = (said - began) / len(rewards) * (len(problems) - len(rewards))
            kind = f"{samples} samples each" if samples else "greedy"
            print(f"    {len(rewards)} of {len(problems)}, {kind}, {left:.0f} s left", file=sys.stderr)
    return rewards, shown


def score(config: Config, model: GPT, params: Params, tokenizer: Tokenizer, problems: list[Problem]) -> Score:
    """Greedy accuracy, and pass@k for k = 1, 2, 4, ... and config.samples."""
    greedy = [row[0] for row in answer_problems(config, model, params, tokenizer, problems)[0]]
    sampled = answer_problems(config, model, params, tokenizer, problems, config.samples)[0]
    right = [round(sum(row)) for row in sampled]
    ks = sorted({2**i for i in range(config.samples.bit_length())} | {config.samples})
    passes = {k: mean_and_half_width([pass_at_k(config.samples, c, k) for c in right]) for k in ks}
    return Score(sum(greedy) / len(greedy), wilson(sum(greedy), len(greedy)), passes)


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that at least one of k responses drawn from n, `right` of them right, is right: 1 - C(n-c,
    k) / C(n, k), unbiased (2107.03374, section 2.1)."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def wilson(right: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share `right` / n (Wilson 1927): sensible near 0 and 1 too."""
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_and_half_width(values: list[float], z: float = 1.96) -> tuple[float, float]:
    """The mean over problems and half its 95 % interval."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return mean, z * math.sqrt(variance / len(values))


def table(scores: dict[str, Score]) -> str:
    """Rows of scores as text, in per cent."""
    ks, width = next(iter(scores.values())).pass_at, max(24, *(len(name) + 2 for name in scores))
    lines = [f"{'':<{width}}{'greedy':>8}  {'95 % interval':<16}" + "".join(f"{f'pass@{k}':>14}" for k in ks)]
    for name, s in scores.items():
        low, high = s.interval
        passes = "".join(f"{100 * mean:>8.1f} ± {100 * half:.1f}" for mean, half in s.pass_at.values())
        lines.append(
            f"{name:<{width}}{100 * s.greedy:>8.1f}  {f'{100 * low:.1f} to {100 * high:.1f}':<16}{passes}"
        )
    return "\n".join(lines)


def across(scores: dict[str, Score]) -> str:
    """A column per suite and their mean, each suite weighing the same, in per cent: as papers have it, in
    Markdown. avg@n is pass@1, the share of the n responses that are right."""
    n = max(next(iter(scores.values())).pass_at)
    rows = {"greedy": [s.greedy for s in scores.values()]}
    for name, k in ((f"avg@{n}", 1), (f"pass@{n}", n)):
        rows[name] = [s.pass_at[k][0] for s in scores.values()]
    cells = [["", *scores, "mean"]]
    for name, shares in rows.items():
        cells.append([name, *(f"{100 * share:.1f}" for share in (*shares, sum(shares) / len(shares)))])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.rjust, row, widths)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
