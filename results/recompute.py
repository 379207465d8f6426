"""The main results once more, from each seed's raw numbers and the definitions; bridge_min has no part in it.

    python results/recompute.py results/raw.json

Accuracy of a run: the mean over the test suites of pass@1, in per cent. Differences are paired: two runs of
one seed share problems, base and demonstrations. The tables of bridge_min/study/tables.py must agree with
this (tests/test_compare.py).
"""

import json
import statistics
import sys

# Two-sided 95 % points of Student's t by degrees of freedom, as in any table.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
BRIDGE, FLIPPED = "BRIDGE", 0.2


def accuracies(runs, table, at=None):
    """row -> seed -> accuracy, per cent."""
    found = {}
    for run in runs:
        if run["table"] == table and run["at"] == at:
            suites = [100 * passes["1"] for passes in run["suites"].values()]
            by_seed = found.setdefault(run["row"], {})
            if run["settings"]["seed"] in by_seed:
                raise ValueError(f"two runs of {run['row']} with seed {run['settings']['seed']}")
            by_seed[run["settings"]["seed"]] = sum(suites) / len(suites)
    return found


def difference(a, b):
    """Mean of a - b over the seeds of b, and half its 95 % interval; a and b: seed -> accuracy."""
    gaps, n = [a[seed] - b[seed] for seed in b], len(b)
    return statistics.mean(gaps), T[n - 1] * (statistics.variance(gaps) / n) ** 0.5


def recompute(runs):
    """Of one world, {"means": row -> mean, "minus": row -> its difference from BRIDGE's, "lost": row -> what
    it loses where a fifth of the rewards are flipped}."""
    clean, flipped = accuracies(runs, "main"), accuracies(runs, "noise", FLIPPED)
    return {
        "means": {row: statistics.mean(seeds.values()) for row, seeds in clean.items()},
        "minus": {row: difference(seeds, clean[BRIDGE]) for row, seeds in clean.items()},
        "lost": {row: difference(clean[row], seeds) for row, seeds in flipped.items()},
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1]) as file:
        worlds = json.load(file)
    for world, raw in worlds.items():
        found = recompute(raw["runs"])
        print(f"\n{world}: mean, minus {BRIDGE}, lost with {FLIPPED:.0%} of rewards flipped")
        for row, mean in found["means"].items():
            middle, half = found["minus"][row]
            lost = "{:6.2f} ± {:.2f}".format(*found["lost"][row]) if row in found["lost"] else ""
            print(f"{row:<30}{mean:6.2f}  {middle:+6.2f} ± {half:.2f}  {lost}")
