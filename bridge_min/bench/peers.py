"""Two rivals: transformers' `generate`, and TRL's GRPOTrainer at its fastest honest settings. They load the
toy from a folder in Hugging Face's format. The path through this room ends here."""

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from ..model import Params
from ..real.pretrained import save_pretrained
from ..tasks import Job, Problem, choose_problems

END, PAD = 257, 256  # of the toys' tokenizer, and a token that it never makes


def asked(job: Job) -> list[Problem]:
    return [job.task.train[i] for i in choose_problems(job.config, 0)[1]]


def network(job: Job, theta: Params) -> torch.nn.Module:
    """The toy as transformers has it."""
    from transformers import LlamaForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(Path(folder), theta, job.config.model, None)
        return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def generator_of(job: Job, theta: Params) -> Callable[[], object]:
    """A function that samples the first step's responses, all of max_new tokens, by `generate`."""
    prompts, own = [job.tokenizer.encode(problem.prompt) for problem in asked(job)], network(job, theta)
    padded = torch.tensor([[PAD] * (max(map(len, prompts)) - len(prompt)) + prompt for prompt in prompts])
    padded, new = padded.repeat_interleave(job.config.group, dim=0), job.config.max_new
    settings = {"min_new_tokens": new, "max_new_tokens": new, "eos_token_id": END, "pad_token_id": PAD}
    settings |= {"attention_mask": (padded != PAD).long(), "do_sample": True, "top_k": 0}
    return lambda: own.generate(padded, **settings)


def trl_turns(job: Job, theta: Params, ours: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median milliseconds of TRL's GRPO step on the first step's problems, and of ours, in turns: ours runs
    where TRL has its rewards, and TRL's step is the time from there to where it has the next. One step before
    is not counted. On-policy, all rows one batch, no KL (TRL's defaults), step sizes next to 0."""
    from datasets import Dataset
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    config, problems, clock = job.config, asked(job), []
    reward_of = {problem.prompt: problem.reward for problem in problems}

    def rewards(prompts: list[str], completions: list[str], **_: object) -> list[float]:
        found = [reward_of[prompt](text) for prompt, text in zip(prompts, completions, strict=True)]
        clock.append(time.perf_counter())
        ours()
        clock.append(time.perf_counter())
        return found

    # The toys' tokenizer: an ASCII character is the token of its code.
    words = {chr(i) if i < 128 else f"<0x{i:02X}>": i for i in range(256)} | {"<pad>": PAD, "<end>": END}
    core = Tokenizer(models.BPE(words, [], byte_fallback=True))
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")
    sizes = {"per_device_train_batch_size": config.prompts * config.group, "num_generations": config.group}
    sizes |= {"max_steps": rounds + 2, "max_completion_length": config.max_new, "learning_rate": 1e-9}
    plain = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none"}
    data = Dataset.from_dict({"prompt": [problem.prompt for problem in problems] * (rounds + 2)})
    with tempfile.TemporaryDirectory() as out:
        settings = GRPOConfig(out, **sizes, **plain)
        GRPOTrainer(network(job, theta), rewards, settings, data, processing_class=tokenizer).train()
    spent = [1000 * (end - begin) for begin, end in pairwise(clock)]
    theirs, own = median(spent[3::2]), median(spent[2::2])
    return {"TRL's step": theirs, "our step": own, "**TRL's step / ours**": theirs / own}
