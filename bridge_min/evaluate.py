"""How good is a policy? Greedy accuracy and unbiased pass@k, with 95 % intervals.

Read on in checkpoint.py."""

import math
import sys
import time

import torch
from torch import Tensor

from .bridge import Players
from .config import generator
from .model import Params
from .tasks import Job, Problem, attempt

QUIET, SHOWN = 5.0, 300  # seconds between lines of progress; characters of a text in the log
Score = dict  # "greedy": share, "interval": its 95 % (Wilson), "pass_at": k -> (estimate, half of its 95 %)


def answer_problems(
    job: Job, W: Params, problems: list[Problem], name: str, samples: int = 0
) -> tuple[Tensor, list[str]]:
    """Rewards of each problem's responses, (P, samples), and the texts of the first one each, of this
    process's problems. samples = 0: one greedy response. `name`, of the split, says which random numbers.
    Where it takes long, standard error says how far it is."""
    config, runtime, P, n = job.config, job.runtime, len(problems), max(samples, 1)
    rewards, shown, began, said = torch.zeros(P, n), [], time.monotonic(), time.monotonic()
    mine, at_once = runtime.mine(range(P)), max(1, config.sample_rows // n)
    for at in range(0, len(mine), at_once):
        chunk = list(mine[at : at + at_once])
        numbers = (generator(config.seed, i, f"evaluation {name}") for i in chunk)
        uniforms = torch.stack([torch.rand(n, config.max_new, generator=g) for g in numbers])
        tried, temperature = [problems[i] for i in chunk], config.temperature if samples else 0.0
        rows, texts = attempt(job, W, tried, uniforms, temperature)
        rewards[chunk], shown = rows.rewards.cpu().view(-1, n), shown + texts[::n]
        done, now = at + len(chunk), time.monotonic()
        if now - said > QUIET and done < len(mine) and runtime.rank == 0:
            said, left = now, (now - began) / done * (len(mine) - done)
            print(f"    {name}: {done} of {len(mine)} problems, {n} each, {left:.0f} s left", file=sys.stderr)
    return runtime.total(rewards), shown


def validate(job: Job, players: Players, done: int) -> dict[str, float]:
    """Greedy accuracy of (theta, w) and of (theta_hat, w): their difference is the true cooperative gain.
    Prints it, and some responses. done: updates so far."""
    accuracy, problems = {}, job.task.val
    for name in ("theta_hat", "theta"):
        if name in players:
            W = job.runtime.acting(players[name], players.get("w", {}))
            rewards, shown = answer_problems(job, W, problems, "val")
            accuracy[f"val_{name}"] = float(rewards.mean())
    print(f"validation at step {done}:", "  ".join(f"{name} {value:.3f}" for name, value in accuracy.items()))
    for i, response in zip(job.runtime.mine(range(len(problems))), shown[:3], strict=False):
        asked = problems[i].prompt.strip()[-SHOWN:]
        print(f"    {'right' if rewards[i] else 'wrong'}:  {asked}  ->  {response[:SHOWN]!r}")
    return accuracy


def score(job: Job, W: Params, problems: list[Problem], name: str) -> Score:
    """Greedy accuracy, and pass@k."""
    greedy, _ = answer_problems(job, W, problems, name)
    sampled, _ = answer_problems(job, W, problems, name, job.config.samples)
    n, right = job.config.samples, [round(value) for value in sampled.sum(1).tolist()]
    passes = {str(k): mean_and_half_width([pass_at_k(n, c, k) for c in right]) for k in pass_ks(n)}
    interval = wilson(float(greedy.sum()), len(problems))
    return {"greedy": float(greedy.mean()), "interval": interval, "pass_at": passes}


def score_suites(job: Job, W: Params, suites: dict[str, list[Problem]]) -> dict[str, Score]:
    """The score of each suite. Prints a line as soon as it is known, in per cent, and their mean."""
    scores, ks = {}, pass_ks(job.config.samples)
    print(f"{'':<20}{'greedy':>8}  {'95 % interval':<16}" + "".join(f"{f'pass@{k}':>14}" for k in ks))
    for name, problems in suites.items():
        scores[name] = score(job, W, problems, name)
        greedy, (low, high), passes = (scores[name][key] for key in ("greedy", "interval", "pass_at"))
        cells = "".join(f"{100 * mean:>8.1f} ± {100 * half:.1f}" for mean, half in passes.values())
        between = f"{100 * low:.1f} to {100 * high:.1f}"
        print(f"{name:<20}{100 * greedy:>8.1f}  {between:<16}{cells}")
    over = lambda of: f"{100 * sum(map(of, scores.values())) / len(scores):>8.1f}"
    means = "".join(f"{over(lambda s, k=k: s['pass_at'][str(k)][0])}{'':>6}" for k in ks)
    print(f"{'mean':<20}{over(lambda s: s['greedy'])}  {'':<16}{means}")
    return scores


def pass_ks(samples: int) -> list[int]:
    """1, 2, 4, ... and the number of samples."""
    return sorted({2**i for i in range(samples.bit_length())} | {samples})


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
