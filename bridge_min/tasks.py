"""Problems: which are learnt, which are shown, which are kept for the test; and one step's data.

A toy world is a module (arith.py is one) that can draw a puzzle, word it as a problem, demonstrate it and
write a document for pretraining. Here its puzzles become splits, all disjoint in whatever wording, and the
base never reads a validation or test puzzle. A step's first prompts are those of its demonstrations, so that
a method may compare a group's responses with the demonstration of its prompt. Everything random follows from
the seed and the step. Read on in arith.py.
"""

import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import chain
from types import ModuleType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .bridge import Runtime, Stats
from .config import Config, ModelConfig, generator, require
from .losses import group_advantages, sequence_weights, token_weights
from .model import Params
from .rollout import Rows, pack, sample

TRIES = 50  # draws per puzzle before a world counts as too small


@dataclass(frozen=True)
class Problem:
    """A prompt, the reference answer, and a response that shows the work."""

    prompt: str
    answer: str
    solution: str  # empty if there is none
    check: Callable[[str, str], bool]  # (response, reference answer) -> is it right?

    def reward(self, response: str) -> float:
        """1.0 if the response, any string, gives the reference answer, else 0.0."""
        return float(self.check(response, self.answer))


@dataclass(frozen=True)
class Task:
    train: list[Problem]  # the first of them have a demonstration
    val: list[Problem]
    tests: dict[str, list[Problem]]  # by the name of the suite
    demos: list[Problem]  # demos[i] is of train[i]; a toy world's may be wrong, or far from the base's style
    hidden: frozenset[Hashable]  # validation and test puzzles, which the base must not read in any wording


class Tokenizer(Protocol):
    """What turns text into tokens: base.py's bytes, or a checkpoint's."""

    ends: tuple[int, ...]  # tokens that end a response; a demonstration is ended by the first
    n_vocab: int

    def encode(self, text: str) -> list[int]: ...
    def encode_response(self, text: str) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str: ...


def load_world(config: Config, world: ModuleType) -> Task:
    """The problems of a toy world, the same for the same seed. Raises ConfigError if it has not enough
    different ones."""
    draw, seen = random.Random(f"{config.seed}/problems"), set()

    def take(suite: str, count: int) -> list:
        puzzles, tries = [], 0
        while len(puzzles) < count:
            puzzle, tries = world.draw(draw, suite), tries + 1
            if puzzle not in seen:
                seen.add(puzzle)
                puzzles.append(puzzle)
            require(tries <= TRIES * count, f"{config.task} has fewer than {count} new problems {suite}")
        return puzzles

    tests = {suite: take(suite, config.test_problems) for suite in world.TESTS}
    val, train = take("", config.val_problems), take("", config.train_problems)
    return Task(
        train=[world.problem(puzzle) for puzzle in train],
        val=[world.problem(puzzle) for puzzle in val],
        tests={suite: [world.problem(p, suite) for p in puzzles] for suite, puzzles in tests.items()},
        demos=[
            world.demonstration(draw, puzzle, draw_kind(draw, config)) for puzzle in train[: config.demos]
        ],
        hidden=frozenset(val).union(*tests.values()),
    )


def draw_kind(draw: random.Random, config: Config) -> str:
    share = draw.random()
    if share < config.wrong_demos:
        return "wrong"
    return "far" if share < config.wrong_demos + config.far_demos else "right"


def choose_problems(config: Config, step: int) -> tuple[list[int], list[int]]:
    """Which demonstrations step `step` shows, and which training problems it tries: theirs come first."""
    draw = random.Random(f"{config.seed}/{step}/problems")
    shown = draw.sample(range(config.demos), config.demos_per_step)
    others = draw.sample(range(config.demos, config.train_problems), config.prompts - config.demos_per_step)
    return shown, shown + others


def demonstrate(config: Config, run: Runtime, step: int, task: Task, tokenizer: Tokenizer) -> Rows:
    """This process's demonstrations of the step, prompt and solution, each ended by the end of text, and the
    reward that each would have."""
    index = torch.tensor(choose_problems(config, step)[0])
    index, mine = index[run.rank :: run.world], [task.demos[i] for i in index.tolist()][run.rank :: run.world]
    prompts = [tokenizer.encode(demo.prompt) for demo in mine]
    rows = pack(prompts, [tokenizer.encode_response(demo.solution) for demo in mine])
    rewards = torch.tensor([demo.reward(demo.solution) for demo in mine])
    rows.rewards = flipped(rewards, config, run, step, "demonstrations", config.demos_per_step)
    rows.weights, rows.index = token_weights(rows.mask, run.total), index
    return rows.each(lambda value: value.to(config.device))


def roll_out(
    config: Config, run: Runtime, step: int, policy: Params, task: Task, tokenizer: Tokenizer
) -> tuple[Rows, Stats]:
    """This process's groups of the step, sampled from the policy, with rewards and advantages; and what the
    log shows of them."""
    problems, rows = [task.train[i] for i in choose_problems(config, step)[1]], config.prompts * config.group
    uniforms = torch.rand(rows, config.max_new, generator=generator(config.seed, step, "sampling"))
    uniforms = uniforms.view(config.prompts, config.group, -1)
    rollouts, _ = attempt(config, run, policy, tokenizer, problems, uniforms, config.temperature)
    right = rollouts.rewards
    rollouts.rewards = flipped(right, config, run, step, "rollouts", config.prompts)
    rollouts.advantages = group_advantages(rollouts.rewards, config.group, config.scale_by_std)
    weigh = {"token": token_weights, "sequence": sequence_weights}[config.normaliser]
    rollouts.weights = weigh(rollouts.mask, run.total)
    stats = {
        "reward": right.sum() / rows,  # the true one, where training sees rollouts.rewards
        "finished": rollouts.finished.sum() / rows,
        "length": rollouts.mask.sum() / rows,
        "mixed": (rollouts.advantages != 0).sum() / rows,
    }
    return rollouts, stats


def attempt(
    config: Config,
    run: Runtime,
    policy: Params,
    tokenizer: Tokenizer,
    problems: list[Problem],
    uniforms: Tensor,
    temperature: float,
) -> tuple[Rows, list[str]]:
    """This process's share of the problems tried, with rewards, and the texts; uniforms (P, G, max_new) are
    those of all. A response that was cut off has no reward: its answer may go on. Raises FloatingPointError
    if a log-prob is not finite."""
    problems, uniforms = problems[run.rank :: run.world], uniforms[run.rank :: run.world]
    G, at_once, parts, texts = uniforms.shape[1], max(1, config.sample_rows // uniforms.shape[1]), [], []
    for at in range(0, len(problems), at_once):
        mine, numbers = problems[at : at + at_once], uniforms[at : at + at_once].flatten(0, 1)
        prompts = [tokenizer.encode(problem.prompt) for problem in mine]
        rows = sample(run.model, policy, prompts, numbers, tokenizer.ends, temperature)
        said, finished = responses(rows, tokenizer), rows.finished.tolist()
        found = [mine[i // G].reward(text) if finished[i] else 0.0 for i, text in enumerate(said)]
        rows.rewards = torch.tensor(found, device=rows.tokens.device)
        bad = (~rows.logp.isfinite()).any(1).nonzero()[:, 0].tolist()
        if bad:
            asked = list(dict.fromkeys(mine[i // G].prompt for i in bad))
            raise FloatingPointError(f"log-probs of sampled tokens are not finite, {prompts_in_words(asked)}")
        parts.append(rows)
        texts += said
    return join(parts), texts


def responses(rows: Rows, tokenizer: Tokenizer) -> list[str]:
    """Each row's response, without its end of text."""
    said = [tokens[mask].tolist() for tokens, mask in zip(rows.tokens, rows.mask, strict=True)]
    ended = rows.finished.tolist()
    return [tokenizer.decode(tokens[:-1] if ended[i] else tokens) for i, tokens in enumerate(said)]


def join(parts: list[Rows]) -> Rows:
    """Rows sampled in several calls as one batch."""
    T = max(part.tokens.shape[1] for part in parts)
    longer = lambda value: F.pad(value, (0, T - value.shape[1])) if value.dim() == 2 else value
    parts = [part.each(longer) for part in parts]
    names = [name for name, value in vars(parts[0]).items() if value is not None]
    return Rows(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def flipped(rewards: Tensor, config: Config, run: Runtime, step: int, purpose: str, prompts: int) -> Tensor:
    """This process's rewards (N,) as training sees them: each is flipped, r -> 1 - r, with probability
    reward_flip; of the `prompts` of all processes this one has every world-th."""
    group = config.group if purpose == "rollouts" else 1
    chance = torch.rand(prompts * group, generator=generator(config.seed, step, f"flip {purpose}"))
    mine = (chance < config.reward_flip).view(prompts, group)[run.rank :: run.world].flatten()
    return torch.where(mine.to(rewards.device), 1 - rewards, rewards)


def score_rows(config: Config, run: Runtime, W: Params, rows: Rows) -> Tensor:
    """The rows' log-probs under W, (N, T), a few rows at a time; no gradient."""
    parts = torch.arange(len(rows)).split(config.micro_batch)
    with torch.no_grad():
        scored = [run.logprobs(W, rows.each(lambda v, i=i: v[i]), config.temperature) for i in parts]
    return torch.cat([torch.zeros_like(rows.logp[:0]), *scored])


def check_fit(config: Config, shape: ModelConfig, tokenizer: Tokenizer, task: Task) -> None:
    """Raises ConfigError, before anything is computed, if tokens or lengths do not fit the network, or there
    is no such device."""
    require(config.device == "cpu" or torch.cuda.is_available(), "device = 'cuda': torch sees no GPU here")
    asked = [*task.train, *task.val, *chain.from_iterable(task.tests.values())]
    tries = max(len(tokenizer.encode(problem.prompt)) for problem in asked) + config.max_new
    shown = [len(tokenizer.encode(d.prompt)) + len(tokenizer.encode_response(d.solution)) for d in task.demos]
    longest, limit = max([tries, *shown]), shape.max_position_embeddings
    rows = f"prompt and response take up to {longest} tokens (max_new = {config.max_new})"
    require(longest <= limit, f"{rows}, more than the network's max_position_embeddings = {limit}")
    words = f"vocab_size = {shape.vocab_size} is less than the tokenizer's {tokenizer.n_vocab}"
    require(tokenizer.n_vocab <= shape.vocab_size, f"the network's {words}")


def prompts_in_words(prompts: list[str], most: int = 5, end: int = 300) -> str:
    """For a message: how many, and the ends of the first ones."""
    lines = [f"    {text[-end:]!r}" for text in prompts[:most]]
    more = [f"    and {len(prompts) - most} more"] if len(prompts) > most else []
    return "\n".join([f"on {len(prompts)} prompts:", *lines, *more])
