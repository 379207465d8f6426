"""How good is a policy? Greedy accuracy and unbiased pass@k, with 95 % intervals."""

import math
from dataclasses import dataclass

import tiktoken
import torch

from .config import Config, generator
from .data import encode, reward
from .model import GPT, Params
from .problem import Problem
from .rollout import sample, texts

ROWS = 512  # responses sampled at once


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
    tokenizer: tiktoken.Encoding,
    problems: list[Problem],
    samples: int = 0,
) -> tuple[list[list[float]], list[str]]:
    """Rewards of each problem's responses, and the texts of the first one each. samples = 0: one greedy
    response."""
    group, rewards, shown = max(samples, 1), [], []
    random_numbers = generator(config.seed, 0, "evaluation")
    uniforms = torch.rand(len(problems), group, config.max_new, generator=random_numbers)
    per_chunk = max(1, ROWS // group)
    for at in range(0, len(problems), per_chunk):
        chunk = problems[at : at + per_chunk]
        u = uniforms[at : at + per_chunk].flatten(0, 1)  # (rows, max_new)
        rollouts = sample(model, params, encode(tokenizer, chunk), u, config.temperature if samples else 0.0)
        responses = texts(rollouts, tokenizer)
        flat = reward(rollouts, responses, chunk)
        rewards += [flat[i : i + group] for i in range(0, len(flat), group)]
        shown += responses[::group]
    return rewards, shown


def score(
    config: Config, model: GPT, params: Params, tokenizer: tiktoken.Encoding, problems: list[Problem]
) -> Score:
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
    ks = next(iter(scores.values())).pass_at
    lines = [f"{'':<24}{'greedy':>8}  {'95 % interval':<16}" + "".join(f"{f'pass@{k}':>14}" for k in ks)]
    for name, s in scores.items():
        low, high = s.interval
        passes = "".join(f"{100 * mean:>8.1f} ± {100 * half:.1f}" for mean, half in s.pass_at.values())
        lines.append(
            f"{name:<24}{100 * s.greedy:>8.1f}  {f'{100 * low:.1f} to {100 * high:.1f}':<16}{passes}"
        )
    return "\n".join(lines)
