"""One step's data: rewarded rollouts for J_RL, demonstrations for J_SFT. Both follow from (seed, step) alone.

Read on in losses.py and bridge.py, where they are used.
"""

import random

import tiktoken
import torch

from .bridge import LogProbs
from .config import Config, ModelConfig, generator, require
from .losses import group_advantages, sequence_weights
from .model import GPT, Params
from .rollout import Batch, Rollouts, pack, sample, texts
from .tasks import Problem, Task
from .tokenizer import EOS


def encode(tokenizer: tiktoken.Encoding, problems: list[Problem]) -> list[list[int]]:
    return [tokenizer.encode_ordinary(problem.prompt) for problem in problems]


def check_fit(config: Config, model_config: ModelConfig, tokenizer: tiktoken.Encoding, task: Task) -> None:
    """Raises ConfigError, before anything is computed, if tokens or lengths do not fit the network."""
    problems = task.train + task.val + task.test
    prompts = encode(tokenizer, problems)
    shown = [len(tokenizer.encode_ordinary(problem.solution)) + 1 for problem in problems]
    longest = max(len(prompt) + max(config.max_new, n) for prompt, n in zip(prompts, shown, strict=True))
    limit, vocabulary = model_config.max_position_embeddings, model_config.vocab_size
    require(
        longest <= limit,
        f"prompt and response take up to {longest} tokens (max_new = {config.max_new}, solutions up to "
        f"{max(shown)}), more than model.max_position_embeddings = {limit}",
    )
    require(
        tokenizer.n_vocab <= vocabulary,
        f"model.vocab_size = {vocabulary} is less than the tokenizer's {tokenizer.n_vocab}",
    )


def reward(rollouts: Rollouts, responses: list[str], problems: list[Problem]) -> list[float]:
    """Each row's reward; a prompt's rows stand together. A response that was cut off has none: its answer may
    go on."""
    group = len(responses) // len(problems)
    return [
        problems[row // group].reward(response) if finished else 0.0
        for row, (response, finished) in enumerate(zip(responses, rollouts.finished.tolist(), strict=True))
    ]


def roll_out(
    config: Config,
    step: int,
    model: GPT,
    policy: Params,
    problems: list[Problem],
    tokenizer: tiktoken.Encoding,
) -> tuple[Rollouts, dict[str, float]]:
    """Step `step`'s rollouts from the policy, with advantages, and what the log shows of them."""
    chosen = random.Random(f"{config.seed}/{step}/prompts").sample(problems, config.prompts)
    rows = config.prompts * config.group
    uniforms = torch.rand(rows, config.max_new, generator=generator(config.seed, step, "sampling"))
    rollouts = sample(model, policy, encode(tokenizer, chosen), uniforms, config.temperature)
    rewards = torch.tensor(reward(rollouts, texts(rollouts, tokenizer), chosen))  # (N,)
    rollouts.advantages = group_advantages(rewards, config.group, config.scale_by_std)
    if config.normaliser == "sequence":
        rollouts.weights = sequence_weights(rollouts.mask)
    metrics = {
        "reward": rewards.mean(),
        "finished": rollouts.finished.float().mean(),
        "length": rollouts.mask.sum() / rows,
        "mixed": (rollouts.advantages != 0).float().mean(),
    }
    return rollouts, {name: float(value) for name, value in metrics.items()}


def reference_logprobs(config: Config, logprobs: LogProbs, base: Params, rollouts: Rollouts) -> torch.Tensor:
    """The frozen base's log-probs of the rollouts, (N, T), a few rows at a time."""
    with torch.no_grad():
        parts = rollouts.tokens.split(config.micro_batch)
        return torch.cat([logprobs(base, None, part, config.temperature) for part in parts])


def draw_demonstrations(
    config: Config, step: int, demos: list[Problem], tokenizer: tiktoken.Encoding
) -> Batch:
    """Step `step`'s demonstrations, prompt and solution, each ended by EOS."""
    chosen = random.Random(f"{config.seed}/{step}/demonstrations").sample(demos, config.demos_per_step)
    responses = [tokenizer.encode_ordinary(demo.solution) + [EOS] for demo in chosen]
    return pack(encode(tokenizer, chosen), responses)
