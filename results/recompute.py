"""The main result once more, from each seed's raw numbers and the definitions; bridge_min has no part in it.

    python results/recompute.py results/arith.json

Accuracy of a run: the mean over the test suites of pass@1, in per cent. A rival is any row whose name does
not start with BRIDGE. Differences are paired: two runs of one seed share problems, base and demonstrations.
Read on in bridge_min/study/compare.py, whose tables this must agree with (tests/test_compare.py).
"""

import json
import statistics
import sys

# Two-sided 95 % points of Student's t by degrees of freedom, as in any table.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
CLEAN, FLIPPED = "main", 0.2


def accuracies(raw, table, at=None):
    """row -> seed -> accuracy, per cent."""
    found = {}
    for run in raw["runs"]:
        if run["table"] == table and run["at"] == at:
            suites = [score["pass_at"]["1"][0] for score in run["suites"].values()]
            by_seed = found.setdefault(run["row"], {})
            if run["settings"]["seed"] in by_seed:
                raise ValueError(f"two runs of {run['row']} with seed {run['settings']['seed']}")
            by_seed[run["settings"]["seed"]] = 100 * sum(suites) / len(suites)
    return found


def difference(a, b):
    """Mean of a - b over their seeds, and half its 95 % interval; a and b: seed -> accuracy."""
    if a.keys() != b.keys():
        raise ValueError(f"not the same seeds: {sorted(a)} and {sorted(b)}")
    gaps, n = [a[seed] - b[seed] for seed in a], len(a)
    return statistics.mean(gaps), T[min(n - 1, max(T))] * (statistics.variance(gaps) / n) ** 0.5


def recompute(raw):
    """{"means": row -> mean, "rival": best rival, "bridge": better BRIDGE row, "against": BRIDGE row ->
    difference from the best rival, "loss": row -> accuracy lost where rewards are flipped}."""
    clean, flipped = accuracies(raw, CLEAN), accuracies(raw, "noise", FLIPPED)
    means = {row: statistics.mean(seeds.values()) for row, seeds in clean.items()}
    ours = [row for row in means if row.startswith("BRIDGE")]
    rival = max((row for row in means if row not in ours), key=means.get)
    return {
        "means": means,
        "rival": rival,
        "bridge": max(ours, key=means.get),
        "against": {row: difference(clean[row], clean[rival]) for row in ours},
        "loss": {row: difference(clean[row], flipped[row]) for row in flipped},
    }


def show(found):
    for row, value in found["means"].items():
        print(f"{row:<28}{value:6.2f}")
    print(f"\nbest rival: {found['rival']}; better BRIDGE row: {found['bridge']}")
    for row, (middle, half) in found["against"].items():
        print(f"{row} - {found['rival']}: {middle:+.2f} ± {half:.2f}")
    print(f"\naccuracy lost at p = {FLIPPED}")
    for row, (middle, half) in found["loss"].items():
        print(f"{row:<28}{middle:6.2f} ± {half:.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    show(recompute(json.load(open(sys.argv[1]))))
