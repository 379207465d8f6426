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
from .losses import group_advantages, sequence_weights
from .model import GPT, Params
from .problem import KINDS, Problem
from .rollout import Demos, Rollouts, join, pack, sample, texts
from .tasks import Task
from .tokenizer import Tokenizer


def encode(tokenizer: Tokenizer, problems: list[Problem]) -> list[list[int]]:
    return [tokenizer.encode(problem.prompt) for problem in problems]


def check_fit(config: Config, model_config: ModelConfig, tokenizer: Tokenizer, task: Task) -> None:
    """Raises ConfigError, before anything is computed, if tokens or lengths do not fit the network, or there
    is no such device."""
    require(config.device == "cpu" or torch.cuda.is_available(), "device = 'cuda': torch sees no GPU here")
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
    prompts, at_once = encode(tokenizer, problems), max(1, config.sample_rows // config.group)  # prompts
    parts = [
        sample(model, policy, prompts[at : at + at_once], u, tokenizer.ends, config.temperature)
        for at, u in zip(range(0, len(prompts), at_once), uniforms.split(at_once * config.group), strict=True)
    ]
    rollouts = join(parts)
    rewards = torch.tensor(reward(rollouts, texts(rollouts, tokenizer), problems))  # (N,)
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


def flipped(config: Config, step: int, purpose: str, rewards: Tensor) -> Tensor:
    """The rewards (N,) as training sees them: each is flipped, r -> 1 - r, with probability reward_flip."""
    chance = torch.rand(len(rewards), generator=generator(config.seed, step, f"flip {purpose}"))
    return torch.where(chance < config.reward_flip, 1 - rewards, rewards)


def reference_logprobs(config: Config, logprobs: LogProbs, base: Params, rollouts: Rollouts) -> Tensor:
    """The frozen base's log-probs of the rollouts, (N, T), a few rows at a time."""
    with torch.no_grad():
        parts = rollouts.tokens.split(config.micro_batch)
        return torch.cat([logprobs(base, None, part, config.temperature) for part in parts])


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
