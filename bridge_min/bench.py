"""Where a step's time goes, what BRIDGE costs against GRPO, and how fast sampling is: ratios, all from one
run.

    python -m bridge_min.bench tiny_configs/arith.py       # any --key=value goes over the config

Everything is timed in turn, round after round, and medians are compared, so that a slow moment of the machine
hits all alike. Sampling is set against transformers' `generate` with the same weights where that package is
installed.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

import torch

from .baselines import METHODS
from .bridge import Step, acting, adamw, ascend, policy_logprobs
from .config import Config, ConfigError, generator, load_config
from .data import choose, demonstrate, encode, reference_logprobs, roll_out
from .gain import new_memory
from .lora import init_lora
from .pretrain import base_folder, base_model
from .rollout import sample
from .tasks import load_task
from .tokenizer import EOS, PAD, byte_tokenizer

ROUNDS = 15
ROWS = 256  # responses at once where sampling is timed


def medians(jobs: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of each job, the median over rounds in which all take their turn; one round before is not
    counted."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - began)
    return {name: median(values[1:]) for name, values in seconds.items()}


def steps(config: Config) -> None:
    """One step of each method on the same rollouts and demonstrations, at the base."""
    task, tokenizer = load_task(config), byte_tokenizer()
    model, base = base_model(config, task, tokenizer)
    w = init_lora(base, config.lora_targets, config.lora_rank, generator(config.seed, 0, "lora"))
    players = {"theta": base, "theta_hat": {name: value.clone() for name, value in base.items()}, "w": w}
    logprobs = partial(policy_logprobs, model, config)
    optimizers = {name: adamw(params) for name, params in players.items()}
    policy = acting(config, players)
    shown, tried = choose(config, 0)
    data = partial(roll_out, config, 0, model, policy, [task.train[i] for i in tried], tokenizer)
    rollouts, demos = data()[0], demonstrate(config, 0, shown, task.demos, tokenizer)
    if config.kl:
        rollouts.ref_logp = reference_logprobs(config, logprobs, base, rollouts)

    def update(method: str) -> None:
        rule, _, select = method.partition(" + ")
        chosen = replace(config, select=select or "none")
        seen = Step(chosen, logprobs, demos, rollouts, 0, new_memory(config.demos))
        directions, _ = METHODS[rule](seen, players)
        for name, direction in directions.items():
            ascend(optimizers[name], players[name], direction, 0.0, config.max_grad_norm)

    by_turns = ("two_stage", "alternate")  # their steps are sft's or grpo's
    methods = [*(method for method in METHODS if method not in by_turns), "bridge + demo"]
    found = medians({"data": data} | {method: partial(update, method) for method in methods})
    print(f"{len(rollouts)} rollouts, {len(demos)} demonstrations, {config.threads} thread(s); milliseconds:")
    print("  sampling and rewards  {data:.1f}".format(**{k: 1000 * v for k, v in found.items()}))
    for method in methods:
        whole = found[method] + (found["data"] if method != "sft" else 0)
        print(f"  update of {method:<12} {1000 * found[method]:.1f}   whole step {1000 * whole:.1f}")
    print(f"  selection by gain / bridge's update  {found['bridge + demo'] / found['bridge'] - 1:.2f}")
    own = (found["bridge"] - found["sft"]) / found["grpo"]
    ratio = (found["data"] + found["bridge"]) / (found["data"] + found["grpo"])
    print(f"  bridge's update without its SFT pass / grpo's update  {own:.2f}")
    print(f"  bridge's whole step / grpo's whole step  {ratio:.2f}")
    kept = rollouts.select(rollouts.advantages.nonzero()[:, 0])
    computed = sum(part.tokens.numel() for part in kept.micro_batches(config.micro_batch))
    print(f"  rows that have an advantage  {len(kept) / len(rollouts):.2f} of all")
    print(f"  token positions in a policy-gradient pass  {computed / rollouts.tokens.numel():.2f} of N x T")


def sampling(config: Config) -> None:
    """sample() against transformers' generate() on one thread: the same weights, prompts and temperature."""
    try:
        from transformers import GenerationConfig, LlamaForCausalLM
    except ImportError:
        print("sampling against transformers: skipped, the package is not installed (pip install .[peers])")
        return
    torch.set_num_threads(1)
    task, tokenizer = load_task(config), byte_tokenizer()
    model, base = base_model(config, task, tokenizer)
    other = LlamaForCausalLM.from_pretrained(base_folder(config, task)).eval()
    group, new = config.group, 40
    prompts = encode(tokenizer, task.train[: ROWS // group])
    uniforms = torch.rand(len(prompts) * group, new, generator=generator(0, 0, "bench"))
    width = max(map(len, prompts))
    padded = torch.tensor([[PAD] * (width - len(p)) + p for p in prompts]).repeat_interleave(group, dim=0)
    attention = (padded != PAD).long()

    def generate(shortest: int) -> torch.Tensor:
        settings = GenerationConfig(
            max_new_tokens=new,
            min_new_tokens=shortest,
            do_sample=True,
            top_k=0,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
        with torch.inference_mode():
            return other.generate(padded, attention_mask=attention, generation_config=settings)

    def ours(end: int) -> float:
        return float(sample(model, base, prompts, uniforms, (end,)).mask.sum(1).float().mean())

    print(f"sampling, {len(padded)} rows, one thread, seconds of generate / seconds of sample:")
    for name, end, shortest in (("equal lengths", -1, new), ("lengths as they come", EOS, 0)):
        found = medians({"ours": partial(ours, end), "theirs": partial(generate, shortest)})
        print(f"  {name} (mean {ours(end):.1f} tokens)  {found['theirs'] / found['ours']:.2f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        settings = load_config(sys.argv[1], sys.argv[2:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
    torch.set_num_threads(settings.threads)
    steps(settings)
    sampling(settings)
