"""Where the players begin, and their optimizer step: Adam on dictionaries, its schedule and clipping.

Read on in tasks.py."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from .bridge import Method, Players
from .config import Config, generator
from .lora import init_lora
from .model import Params

State = dict[str, Params]  # what a run has learnt: the players, and their moments

ADAM = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": True}


def start(config: Config, method: Method, base: Params) -> Players:
    """Everyone at the base: theta, which is the base itself from now on, and for BRIDGE the shadow theta_hat,
    and w with B = 0."""
    players = {"theta": base}
    if "theta_hat" in method.players:
        players["theta_hat"] = {name: W.clone() for name, W in base.items()}
    if "w" in method.players:
        draw = generator(config.seed, 0, "lora")
        players["w"] = init_lora(base, config.lora_targets, config.lora_rank, draw)
    return players


def moments(players: Players) -> State:
    """Adam's two running means for every player: "theta.m", "theta.v", ..."""
    zeros = lambda params: {name: torch.zeros_like(value) for name, value in params.items()}
    return {f"{name}.{kind}": zeros(params) for name, params in players.items() for kind in "mv"}


def schedule(step: int, steps: int, warmup: int) -> float:
    """The share of the peak step size: linear warm-up, then cosine decay to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.55 + 0.45 * math.cos(math.pi * progress)


def total_norm(g: Params, total: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """Of all the tensors together, and of all processes' slices of them."""
    return total(torch.nn.utils.get_total_norm(g.values()).double().square()).sqrt()


def ascend(state: State, name: str, g: Params, norm: Tensor, lr: float, max_norm: float, number: int) -> None:
    """One Adam step of the player `name` along g, whose norm is given, clipped to max_norm; `number` steps
    were done before. The state and g change in place."""
    params, m, v = (list(state[key].values()) for key in (name, f"{name}.m", f"{name}.v"))
    clipped = [g[key].mul_((max_norm / (norm + 1e-6)).clamp(max=1.0)) for key in state[name]]
    done = [torch.full((), float(number), device=value.device) for value in params]
    adamw(params, clipped, m, v, [], done, fused=True, lr=lr, **ADAM)
