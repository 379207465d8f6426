"""The teacher's weights w in PEFT's format.

An adapter belongs to theta, not to the merged model: a run saves theta beside it, so that what PEFT loads is
the merged model again. Read on in tokenizer.py.
"""

import json
from pathlib import Path

from ..checkpoint import write, write_tensors
from ..model import Params


def save_adapter(folder: Path, w: Params, scale: float, base: Path) -> None:
    """w as adapter_config.json and adapter_model.safetensors, on top of theta, which lies in `base`. Raises
    CheckpointError if it cannot be written."""
    modules = sorted({name.rpartition(".lora_")[0] for name in w})
    rank = len(w[f"{modules[0]}.lora_A.weight"])
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base.resolve())}
    settings |= {"r": rank, "lora_alpha": scale * rank, "target_modules": modules}
    write(folder / "adapter_config.json", json.dumps(settings, indent=2).encode())
    tensors = {f"base_model.model.{name}": value for name, value in w.items()}
    write_tensors(folder / "adapter_model.safetensors", tensors, format="pt")
