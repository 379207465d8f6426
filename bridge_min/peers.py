"""Two rivals for the benchmark, where they are installed (pip install .[bench]): transformers' `generate`,
and TRL's GRPOTrainer at its fastest honest settings. Read on in bench.py, which uses them."""

import os
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median

import torch

from .tokenizer import EOS, PAD


def generator_of(folder: Path, prompts: list[list[int]], group: int, new: int) -> Callable[[int], object]:
    """A function of the fewest new tokens that samples `group` responses of at most `new` to each prompt by
    `generate`, from the toy in the folder. Raises ImportError without transformers."""
    from transformers import GenerationConfig, LlamaForCausalLM

    network, width = LlamaForCausalLM.from_pretrained(folder).eval(), max(map(len, prompts))
    padded = torch.tensor([[PAD] * (width - len(p)) + p for p in prompts]).repeat_interleave(group, dim=0)
    attention = (padded != PAD).long()

    def generate(shortest: int) -> object:
        sampling = {"do_sample": True, "top_k": 0, "min_new_tokens": shortest, "max_new_tokens": new}
        settings = GenerationConfig(**sampling, eos_token_id=EOS, pad_token_id=PAD)
        with torch.inference_mode():
            return network.generate(padded, attention_mask=attention, generation_config=settings)

    return generate


def trl_steps(
    folder: Path,
    prompts: list[str],
    reward: Callable[[str, str], float],
    group: int,
    shortest: int,
    new: int,
    steps: int,
) -> tuple[float, float]:
    """The median seconds of a GRPO step of TRL's trainer on the toy in the folder, from before its sampling
    to after its optimizer, and the mean tokens of a response. One step before is not counted. All prompts are
    one step's, their responses one batch; on-policy, without KL, without a learning rate's effect. reward: of
    (prompt, response). Raises ImportError without TRL."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    from datasets import Dataset
    from transformers import LlamaForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    lengths, seconds = [], []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: object, **__: object) -> None:
            seconds.append(-time.perf_counter())

        def on_step_end(self, *_: object, **__: object) -> None:
            seconds[-1] += time.perf_counter()

    def rewards(prompts: list[str], completions: list[str], completion_ids: list, **_: object) -> list[float]:
        lengths.extend(map(len, completion_ids if len(seconds) > 1 else ()))
        return [reward(prompt, response) for prompt, response in zip(prompts, completions, strict=True)]

    with tempfile.TemporaryDirectory() as out:
        batch = {"per_device_train_batch_size": len(prompts) * group, "gradient_accumulation_steps": 1}
        batch |= {"steps_per_generation": 1, "num_iterations": 1, "num_generations": group}
        where = {"output_dir": out, "use_cpu": True, "bf16": False, "gradient_checkpointing": False}
        quiet = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
        sampling = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_completion_length": new}
        sampling["generation_kwargs"] = {"min_new_tokens": shortest}
        loss = {"beta": 0.0, "loss_type": "dapo", "mask_truncated_completions": False}
        optimizer = {"learning_rate": 1e-9, "optim": "adamw_torch_fused", "max_steps": steps + 1}
        loader = {"shuffle_dataset": False, "dataloader_pin_memory": False}
        asked = [*islice(cycle(prompts), len(prompts) * (steps + 1))]
        trainer = GRPOTrainer(
            model=LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32),
            reward_funcs=rewards,
            args=GRPOConfig(**batch, **where, **quiet, **sampling, **loss, **optimizer, **loader),
            train_dataset=Dataset.from_dict({"prompt": asked}),
            processing_class=byte_level(),
            callbacks=[Clock()],
        )
        trainer.train()
    return median(seconds[1:]), mean(lengths)


def byte_level() -> object:
    """The toys' tokenizer for transformers: an ASCII character is the token of its code."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    tokens = {chr(i) if i < 128 else f"<0x{i:02X}>": i for i in range(256)} | {"<pad>": PAD, "<eos>": EOS}
    core = Tokenizer(models.BPE(tokens, [], byte_fallback=True))
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    ends = {"pad_token": "<pad>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, padding_side="left", **ends)
