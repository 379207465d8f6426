"""Problems: which are learnt, which are shown, which are kept for the test; and one step's data.

A toy world is a module (arith.py is one) that can draw a puzzle, word it as a problem, demonstrate it and
write a document for pretraining. Here its puzzles become splits, all disjoint in whatever wording, and the
base never reads a validation or test puzzle. A step's first prompts are those of its demonstrations, so that
a method may compare a group's responses with the demonstration of its prompt. Everything random follows from
the seed and the step. Read on in arith.py.
"""

import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from .bridge import Runtime, Stats
from .config import Config, ConfigError, generator, require
from .losses import group_advantages, sequence_weights, token_weights
from .model import Params
from .rollout import Rows, pack, sample

TRIES = 50  # draws per puzzle before a world counts as too small


@dataclass(frozen=True)
class Problem:
    """What is asked, the reference answer, and a response that shows the work."""

    text: str
    answer: str
    solution: str  # empty if there is none
    check: Callable[[str, str], bool]  # (response, reference answer) -> is it right?
    template: str = "{problem}"  # of the prompt: {problem} stands for the text, which is text and no more
    source: str = field(default="", compare=False)  # its file and line

    @property
    def prompt(self) -> str:
        return self.template.replace("{problem}", self.text)

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


class Bytes:
    """The toys' tokenizer: a token for each of the 256 bytes, and one for the end of text. A checkpoint's has
    the same methods."""

    n_vocab, ends = 258, (257,)  # a response ends with any of `ends`, a demonstration with the first; no 256

    def encode(self, template: str, text: str = "{problem}") -> list[int]:
        return list(template.replace("{problem}", text).encode("utf-8", "replace"))

    def encode_response(self, text: str) -> list[int]:
        return [*self.encode(text), *self.ends]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of any tokens: the end has none, broken UTF-8 and token 256 become U+FFFD."""
        return bytes(min(token, 255) for token in tokens if token != 257).decode("utf-8", "replace")


@dataclass(frozen=True)
class Job:
    """What everything below works with."""

    config: Config
    runtime: Runtime
    task: Task
    tokenizer: Bytes
    world: ModuleType | None = None  # the toy world that the task comes from


def load_world(config: Config, world: ModuleType) -> Task:
    """The problems of a toy world, the same for the same seed. Raises ConfigError if it has not enough
    different ones."""
    draw, seen = random.Random(f"{config.seed}/problems"), set()

    def take(suite: str, count: int) -> list:
        puzzles = {}
        for _ in range(TRIES * count):
            puzzle = world.draw(draw, suite)
            if puzzle not in seen:
                puzzles[puzzle] = None
            if len(puzzles) == count:
                seen.update(puzzles)
                return list(puzzles)
        raise ConfigError(f"{config.task} has fewer than {count} new problems {suite}: ask for fewer")

    tests = {suite: take(suite, config.test_problems) for suite in world.TESTS}
    val, train = take("", config.val_problems), take("", config.train_problems)
    return Task(
        train=[world.problem(puzzle) for puzzle in train],
        val=[world.problem(puzzle) for puzzle in val],
        tests={suite: [world.problem(p, suite) for p in puzzles] for suite, puzzles in tests.items()},
        demos=[world.demonstration(draw, p, draw_kind(draw, config)) for p in train[: config.demos]],
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


def demonstrate(job: Job, step: int) -> Rows:
    """This process's demonstrations of the step, prompt and solution, each ended by the end of text; and the
    reward that each would have, which rivals and `select` look at."""
    config, runtime = job.config, job.runtime
    demos = [job.task.demos[i] for i in runtime.mine(choose_problems(config, step)[0])]
    prompts = [job.tokenizer.encode(demo.template, demo.text) for demo in demos]
    rows = pack(prompts, [job.tokenizer.encode_response(demo.solution) for demo in demos])
    rewards = torch.tensor([demo.reward(demo.solution) for demo in demos])
    rows.rewards = flipped(job, rewards, step, "demonstrations", config.demos_per_step)
    rows.weights = token_weights(rows.mask, runtime.total)
    return rows.each(lambda value: value.to(config.device))


def roll_out(job: Job, step: int, policy: Params) -> tuple[Rows, Stats]:
    """This process's groups of the step, sampled from the policy, with rewards and advantages; and what the
    log shows of them, as shares of the whole batch."""
    config, runtime, N = job.config, job.runtime, job.config.prompts * job.config.group
    problems = runtime.mine([job.task.train[i] for i in choose_problems(config, step)[1]])
    uniforms = torch.rand(N, config.max_new, generator=generator(config.seed, step, "sampling"))
    uniforms = runtime.mine(uniforms.view(config.prompts, config.group, -1))
    rows, _ = attempt(job, policy, problems, uniforms, config.temperature)
    stats = {"reward": rows.rewards.sum() / N}  # the true one, where training sees what is flipped
    rows.rewards = flipped(job, rows.rewards, step, "rollouts", config.prompts)
    rows.advantages = group_advantages(rows.rewards, config.group, config.scale_by_std)
    weigh = {"token": token_weights, "sequence": sequence_weights}[config.normaliser]
    rows.weights = weigh(rows.mask, runtime.total)
    stats |= {"finished": rows.finished.sum() / N, "length": rows.mask.sum() / N}
    return rows, {**stats, "mixed": (rows.advantages != 0).sum() / N}


def attempt(
    job: Job, W: Params, problems: list[Problem], uniforms: Tensor, temperature: float
) -> tuple[Rows, list[str]]:
    """P problems tried by pi_W, G times each, with rewards, and the texts; uniforms (P, G, max_new). A
    response that was cut off has no reward: its answer may go on. Raises FloatingPointError if a log-prob is
    not finite."""
    model, ends, G = job.runtime.model, job.tokenizer.ends, uniforms.shape[1]
    prompts, parts = [job.tokenizer.encode(problem.template, problem.text) for problem in problems], []
    for some in torch.arange(len(problems)).split(max(1, job.config.sample_rows // G)):
        asked = [prompts[i] for i in some]
        parts.append(sample(model, W, asked, uniforms[some].flatten(0, 1), ends, temperature))
    rows = join(parts)
    texts, finished = responses(rows, job.tokenizer), rows.finished.tolist()
    rewards = [problems[i // G].reward(text) if finished[i] else 0.0 for i, text in enumerate(texts)]
    rows.rewards = torch.tensor(rewards, device=rows.tokens.device)
    bad = {problems[i // G].prompt for i in (~rows.logp.isfinite()).any(1).nonzero()[:, 0].tolist()}
    if bad:
        raise FloatingPointError(f"log-probs of sampled tokens are not finite, {in_words(sorted(bad))}")
    return rows, texts


def join(parts: Sequence[Rows]) -> Rows:
    """Several Rows as one, in their order."""
    T = max(part.tokens.shape[1] for part in parts)
    parts = [part.each(lambda v: F.pad(v, (0, T - v.shape[1])) if v.dim() == 2 else v) for part in parts]
    names = [name for name, value in vars(parts[0]).items() if value is not None]
    return Rows(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def responses(rows: Rows, tokenizer: Bytes) -> list[str]:
    """Each row's response, without its end of text."""
    said = [tokens[mask].tolist() for tokens, mask in zip(rows.tokens, rows.mask, strict=True)]
    ended = rows.finished.tolist()
    return [tokenizer.decode(tokens[:-1] if ended[i] else tokens) for i, tokens in enumerate(said)]


def flipped(job: Job, rewards: Tensor, step: int, purpose: str, prompts: int) -> Tensor:
    """This process's rewards (N,) as training sees them: each is flipped, r -> 1 - r, with probability
    reward_flip. prompts: those of the whole batch, of which this process has its share."""
    config, runtime, group = job.config, job.runtime, job.config.group if purpose == "rollouts" else 1
    chance = torch.rand(prompts * group, generator=generator(config.seed, step, f"flip {purpose}"))
    mine = runtime.mine((chance < config.reward_flip).view(prompts, group)).flatten()
    return torch.where(mine.to(rewards.device), 1 - rewards, rewards)


def score_rows(job: Job, W: Params, rows: Rows) -> Tensor:
    """The rows' log-probs under W, (N, T), a few rows at a time; no gradient."""
    parts = torch.arange(len(rows)).split(job.config.micro_batch)
    cut = lambda index: rows.each(lambda value: value[index])  # no shorter: all parts are as wide as the rows
    with torch.no_grad():
        return torch.cat([job.runtime.logprobs(W, cut(index), job.config.temperature) for index in parts])


def check_fit(job: Job) -> None:
    """Raises ConfigError, before anything is computed, if tokens or lengths do not fit the network, or there
    is no such device."""
    there = job.config.device == "cpu" or torch.cuda.is_available()
    require(there, "device = 'cuda': torch sees no GPU here")
    task, shape, tokenizer, max_new = job.task, job.runtime.model.config, job.tokenizer, job.config.max_new
    rows = [(problem, max_new) for problem in chain(task.train, task.val, *task.tests.values())]
    rows += [(demo, len(tokenizer.encode_response(demo.solution))) for demo in task.demos]
    sizes = [(len(tokenizer.encode(p.template, p.text)), said, p.source or p.prompt) for p, said in rows]
    longest, limit = max(prompt + said for prompt, said, _ in sizes), shape.max_position_embeddings
    wrong = in_words(dict.fromkeys(name for prompt, said, name in sizes if prompt + said > limit))
    what = f"prompt and response (max_new = {max_new}, or the solution) take up to {longest} tokens, over"
    require(longest <= limit, f"{what} the network's max_position_embeddings = {limit}, {wrong}")
    words = min(shape.vocab_size, shape.words or shape.vocab_size)
    what = f"vocab_size = {words}, or words, is less than the tokenizer's {tokenizer.n_vocab}"
    require(tokenizer.n_vocab <= words, f"the network's {what}")


def check_finite(job: Job, step: int, norms: Stats, saved: int | None) -> None:
    """The one check before anything moves. Raises FloatingPointError that names the step and its prompts."""
    wrong = ", ".join(name for name, norm in norms.items() if not norm.isfinite())
    if wrong:
        asked = in_words(job.task.train[i].prompt for i in choose_problems(job.config, step)[1])
        last = f"The last good state is that after step {saved or 0}."
        what = f"step {step + 1}: the gradient of {wrong} is not finite, {asked}"
        raise FloatingPointError(f"{what}\n{last} Begin again with smaller lr and lr_lora.")


def in_words(prompts: Iterable[str], most: int = 5, end: int = 300) -> str:
    """Prompts for a message: how many, and the ends of the first ones."""
    ends = [f"    {text[-end:]!r}" for text in prompts]
    return "\n".join([f"on {len(ends)} prompts:", *ends[:most], *["    ..."][: len(ends) - most]])
