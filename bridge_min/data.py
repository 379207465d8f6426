"""One step's data: rewarded rollouts for J_RL, demonstrations for J_SFT. Both follow from (seed, step) alone.

A step's first prompts are those of its demonstrations, so that a method may compare a group's responses with
the demonstration of its prompt; the rest has none. Read on in losses.py and bridge.py, where they are used.
"""

import random
from itertools import chain

import torch
from torch import Tensor

from .bridge import LogProbs
from .config import Config, ModelConfig, generator, require
from .losses import group_advantages, sequence_weights, token_weights
from .model import GPT, Params
from .problem import KINDS, Problem
from .rollout import Demos, Rollouts, join, pack, sample, texts
from .sharding import own, together, world
from .tasks import Task
from .tokenizer import Tokenizer


def encode(tokenizer: Tokenizer, problems: list[Problem]) -> list[list[int]]:
    return [tokenizer.encode(problem.prompt) for problem in problems]


def check_fit(config: Config, model_config: ModelConfig, tokenizer: Tokenizer, task: Task) -> None:
    """Raises ConfigError, before anything is computed, if tokens or lengths do not fit the network, or there
    is no such device."""
    require(config.device == "cpu" or torch.cuda.is_available(), "device = 'cuda': torch sees no GPU here")
    require(
        world() == 1 or config.meta != "unrolled" or config.method != "bridge",
        "meta = 'unrolled' differentiates twice, which sharded tensors do not know: take one process",
    )
    longest, limit, vocabulary = (
        max(longest_rows(config, tokenizer, task)),
        model_config.max_position_embeddings,
        model_config.vocab_size,
    )
    require(
        longest <= limit,
        f"prompt and response take up to {longest} tokens (max_new = {config.max_new}), "
        f"more than model.max_position_embeddings = {limit}",
    )
    require(
        tokenizer.n_vocab <= vocabulary,
        f"model.vocab_size = {vocabulary} is less than the tokenizer's {tokenizer.n_vocab}",
    )


def longest_rows(config: Config, tokenizer: Tokenizer, task: Task) -> tuple[int, int]:
    """Tokens of the longest prompt with a response of max_new, and of the longest demonstration."""
    prompts = encode(tokenizer, [*task.train, *task.val, *chain.from_iterable(task.tests.values())])
    shown = [len(tokenizer.encode(d.prompt)) + len(tokenizer.encode_response(d.solution)) for d in task.demos]
    return max(map(len, prompts)) + config.max_new, max(shown, default=0)


def reward(rollouts: Rollouts, responses: list[str], problems: list[Problem]) -> list[float]:
    """Each row's reward; a prompt's rows stand together. A response that was cut off has none: its answer may
    go on."""
    group = len(responses) // len(problems)
    return [
        problems[row // group].reward(response) if finished else 0.0
        for row, (response, finished) in enumerate(zip(responses, rollouts.finished.tolist(), strict=True))
    ]


def choose(config: Config, step: int) -> tuple[list[int], list[int]]:
    """Which demonstrations step `step` shows, and which training problems it tries: theirs come first."""
    draw = random.Random(f"{config.seed}/{step}/problems")
    shown = draw.sample(range(config.demos), config.demos_per_step)
    others = draw.sample(range(config.demos, config.train_problems), config.prompts - config.demos_per_step)
    return shown, shown + others


def roll_out(
    config: Config,
    step: int,
    model: GPT,
    policy: Params,
    problems: list[Problem],
    tokenizer: Tokenizer,
) -> tuple[Rollouts, dict[str, float]]:
    """Step `step`'s rollouts from the policy, with rewards and advantages, and what the log shows of them."""
    rows = config.prompts * config.group
    uniforms = torch.rand(rows, config.max_new, generator=generator(config.seed, step, "sampling"))
    rollouts = attempt(config, model, policy, tokenizer, problems, uniforms, config.temperature)
    rewards = rollouts.rewards
    rollouts.rewards = flipped(config, step, "rollouts", rewards)
    rollouts.advantages = group_advantages(rollouts.rewards, config.group, config.scale_by_std)
    if config.normaliser == "sequence":
        rollouts.weights = sequence_weights(rollouts.mask)
    metrics = {
        "reward": rewards.mean(),  # the true one, where training sees rollouts.rewards
        "finished": rollouts.finished.float().mean(),
        "length": rollouts.mask.sum() / rows,
        "mixed": (rollouts.advantages != 0).float().mean(),
    }
    return rollouts, {name: float(value) for name, value in metrics.items()}


def attempt(
    config: Config,
    model: GPT,
    policy: Params,
    tokenizer: Tokenizer,
    problems: list[Problem],
    uniforms: Tensor,
    temperature: float,
) -> Rollouts:
    """N / P responses to each of the P problems, with rewards; uniforms (N, max_new). Of many processes each
    tries its share of the problems, sample_rows responses at a time, and all get the whole."""
    P, place = len(problems), own(len(problems)) % len(problems)
    at_once = max(1, config.sample_rows * P // len(uniforms))  # problems
    parts = []
    for part in place.split(at_once):
        prompts = encode(tokenizer, [problems[i] for i in part])
        numbers = uniforms.view(P, -1, uniforms.shape[1])[part].flatten(0, 1)
        parts.append(sample(model, policy, prompts, numbers, tokenizer.ends, temperature))
    rollouts = join(parts)
    responses = texts(rollouts, tokenizer)
    rollouts.rewards = torch.tensor(reward(rollouts, responses, [problems[i] for i in place]))  # (N,)
    return for_all(rollouts, P)


def for_all(rollouts: Rollouts, problems: int) -> Rollouts:
    """What each process found for its own problems as one batch in the problems' order."""
    if world() == 1:
        return rollouts
    group = len(rollouts) // len(own(problems))
    found = {}
    for name in ("tokens", "mask", "logp", "finished", "rewards"):
        value = getattr(rollouts, name)
        value = value.view(-1, group, *value.shape[1:])  # (own problems, group, ...)
        found[name] = together(value, problems).flatten(0, 1)
    return Rollouts(**found, weights=token_weights(found["mask"])).select(torch.arange(problems * group))


def flipped(config: Config, step: int, purpose: str, rewards: Tensor) -> Tensor:
    """The rewards (N,) as training sees them: each is flipped, r -> 1 - r, with probability reward_flip."""
    chance = torch.rand(len(rewards), generator=generator(config.seed, step, f"flip {purpose}"))
    return torch.where(chance < config.reward_flip, 1 - rewards, rewards)


def reference_logprobs(config: Config, logprobs: LogProbs, base: Params, rollouts: Rollouts) -> Tensor:
    """The frozen base's log-probs of the rollouts, (N, T), a few rows at a time."""
    N = len(rollouts)
    with torch.no_grad():
        parts = map(rollouts.rows, (own(N) % N).split(config.micro_batch))
        found = [logprobs(base, None, part, config.temperature) for part in parts]
    return together(torch.cat(found), N)


def demonstrate(
    config: Config, step: int, index: list[int], demos: list[Problem], tokenizer: Tokenizer
) -> Demos:
    """The demonstrations `index`, prompt and solution, each ended by EOS, and the reward each would have."""
    shown = [demos[i] for i in index]
    batch = pack(encode(tokenizer, shown), [tokenizer.encode_response(d.solution) for d in shown])
    rewards = torch.tensor([demo.reward(demo.solution) for demo in shown])
    return Demos(
        **vars(batch),
        rewards=flipped(config, step, "demonstrations", rewards),
        index=torch.tensor(index),
        kinds=torch.tensor([KINDS.index(demo.kind) for demo in shown]),
    )
