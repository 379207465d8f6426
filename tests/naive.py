"""The objectives as their definitions say: row by row, token by token, without the code under test."""

import math

from torch.func import functional_call


def naive_logp(world, theta, w, tokens, temperature=1.0):
    weights = dict(theta)
    for name in w:
        if name.endswith("lora_A.weight"):
            B, matrix = w[name.replace("lora_A", "lora_B")], name.replace(".lora_A", "")
            weights[matrix] = theta[matrix] + 1.5 * B @ w[name]
    logits = functional_call(world.model, weights, (tokens[None],))[0] / temperature
    return [0.0] + [logits[t - 1].log_softmax(-1)[tokens[t]] for t in range(1, len(tokens))]


def naive_j_sft(world, theta, w, weigh=lambda n, t, logp: 1.0):
    """weigh(row, column, log-prob): a factor for each token; the mean is over all of them, whatever it is."""
    value, count = 0.0, 0
    for n, (tokens, mask) in enumerate(zip(world.demos.tokens, world.demos.mask, strict=True)):
        for t, (logp, own) in enumerate(zip(naive_logp(world, theta, w, tokens), mask, strict=True)):
            if own:
                value, count = value + weigh(n, t, logp) * logp, count + 1
    return value / count


def naive_j_rl(world, theta, w, advantages=None):
    value, r, c = 0.0, world.rollouts, world.config
    advantages = r.advantages if advantages is None else advantages
    for n in range(len(r)):
        own, A = r.mask[n].nonzero().flatten().tolist(), advantages[n]
        if A == 0 and not c.kl:
            continue  # nothing times any ratio; its tokens count in the share of the others
        logp = naive_logp(world, theta, w, r.tokens[n], c.temperature)
        share = 1 / (len(own) * len(r)) if c.normaliser == "sequence" else 1 / int(r.mask.sum())
        for t in own:
            own_logp = min(logp[t], r.logp[n, t] + math.log(3))
            rho = (own_logp - r.logp[n, t]).exp()
            low, high = 1 - c.clip_low, 1 + c.clip_high
            value = value + share * min(rho * A, max(low, min(rho, high)) * A)
            if c.kl:
                d = r.ref_logp[n, t] - own_logp
                value = value - share * c.kl * rho * (d.exp() - d - 1)
    return value
