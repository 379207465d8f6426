"""Selection by gain: leave out the demonstrations that cost reward. Ours to add, not the paper's.

To first order, and for plain gradient steps, what a step adds to J_RL by also imitating token t of a
demonstration is alpha (1 - lam) <grad_W J_RL, grad_W log pi_W(token)>, times the token's weight. These inner
products, for every token of a micro-batch of demonstrations, are one Jacobian-vector product (`token_gains`).
Divided by the policy gradient's length they are gains: the log-probability in nats that a token wins for
each unit that the weights move along that gradient. Relatives: learning to reweight examples (1803.09050),
gradient surgery (2001.06782), LESS (2402.04333).

The sum over tokens would be the whole effect, but one token can decide it: a right token that the policy
still fails with is pushed down hard, and it is the very thing that demonstrations teach. So a demonstration
is judged by how many of its tokens are pushed down, however far. That is a heuristic: where many are, the
text goes about the task in another way, one that reward has ruled out. Read on in logic.py.
"""

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..bridge import Stats, Step, policy_logprobs
from ..model import GPT, Params, build
from ..optimizer import total_norm
from ..rollout import Rows

# A demonstration stays if at most this share of its tokens loses more than FLAT, nats per unit of distance:
# what is learnt already is flat, up or down by chance. Distances depend on the network: both numbers were
# chosen for that of arith.py, on seeds 101 to 104 with bad demonstrations.
SHARE, FLAT = 0.2, 0.1


def select(s: Step, W: Params, G: Params) -> tuple[Rows, Stats]:
    """The demonstrations that are supervised; what is left out still counts in the normaliser. G is the
    gradient of J_RL in the acting weights W, this process's part; its length does not matter.

    "reward": those that earn a reward themselves. "gain": those of whose tokens at most SHARE lose more than
    FLAT. "ours": those for which both holds. `kept` is their share of the step's demonstrations.
    """
    demos, whole = s.demos, {name: s.runtime.total(g) for name, g in G.items()}
    gains = token_gains(s.runtime.model, W, demos, whole, s.config.micro_batch)  # (N, T)
    gains = gains / total_norm(whole).clamp(min=1e-30)  # no gradient, no opinion
    harmless = (gains < -FLAT).sum(1) <= SHARE * demos.mask.sum(1)  # (N,)
    rewarded = demos.rewards > 0
    kept = {"reward": rewarded, "gain": harmless, "ours": rewarded & harmless}[s.config.select]
    return demos.take(kept.nonzero()[:, 0]), {"kept": kept.sum() / s.config.demos_per_step}


def token_gains(model: GPT, W: Params, demos: Rows, direction: Params, at_once: int) -> Tensor:
    """<direction, grad_W log pi_W(token)> for every response token, (N, T), and 0 elsewhere; `at_once`
    demonstrations at a time. By the plain network: recomputation and fused attention have no forward mode."""
    plain, W = build(model.config), {name: value.to(direction[name]) for name, value in W.items()}
    gains = [torch.zeros_like(demos.weights[:0])]
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        for at in range(0, len(demos), at_once):
            part = demos.each(lambda value, at=at: value[at : at + at_once])
            gains.append(jvp(lambda W, part=part: policy_logprobs(plain, W, part), (W,), (direction,))[1])
    return torch.cat(gains)
