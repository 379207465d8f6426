"""How good is a policy? Greedy accuracy and unbiased pass@k, with 95 % intervals.

Read on in checkpoint.py."""

import math
import sys
import time
from collections.abc import Iterable

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
    return {name: score(job, W, problems, name) for name, problems in suites.items()}


def heading(suites: Iterable[str], samples: int) -> str:
    """The first line of the table: pass@1 of each suite, and means over them."""
    more = [f"pass@{k}" for k in pass_ks(samples)[1:]]
    columns = "".join(f"{name:>13}" for name in (*suites, "mean"))
    return f"{'pass@1, per cent':<24}{columns}" + "".join(f"{name:>9}" for name in ("greedy", *more))


def line(name: str, scores: dict[str, Score]) -> str:
    """One policy's line of the table, with 95 % intervals over problems."""
    passes, n = [score["pass_at"] for score in scores.values()], len(scores)
    cells = [at["1"] for at in passes]
    cells += [(sum(mean for mean, _ in cells) / n, math.sqrt(sum(half**2 for _, half in cells)) / n)]
    more = [sum(score["greedy"] for score in scores.values()) / n]
    more += [sum(at[k][0] for at in passes) / n for k in passes[0] if k != "1"]
    shown = "".join(f"{f'{100 * mean:.1f} ± {100 * half:.1f}':>13}" for mean, half in cells)
    return f"{name:<24}{shown}" + "".join(f"{100 * value:>9.1f}" for value in more)


def in_words(results: dict[str, dict[str, Score]]) -> str:
    """By how many points of pass@1 the last policy of the table is ahead of each other one, and where it is
    behind."""
    *others, (last, own) = results.items()
    words = []
    for name, scores in others:
        ahead = {s: 100 * (own[s]["pass_at"]["1"][0] - scores[s]["pass_at"]["1"][0]) for s in own}
        behind = ", ".join(f"{-points:.1f} behind on {s}" for s, points in ahead.items() if points < 0)
        mean = sum(ahead.values()) / len(ahead)
        words.append(f"{mean:+.1f} points against {name}" + (f" ({behind})" if behind else ""))
    return f"{last}, on the mean: " + ";\n    ".join(words)


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
