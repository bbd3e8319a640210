"""How far other methods are above the first, in KL, on the same sequences: mean difference and 95 % interval (Student's t).

usage: python3 paired.py FIRST.json [MORE.json ...]

The files are what `laminate compare ... --json` prints, on the same texts and draws; the first method of the first file is
what the others are compared with. Needs Python alone.
"""
import json
import math
import sys


def quantile(share, freedom):
    """Where a share of Student's t distribution lies below, by bisection over Simpson's rule."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def below(t, steps=400):
        values = [(1 + (i * t / steps) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(steps + 1)]
        return 0.5 + scale * t / steps / 3 * (values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]))

    low, high = 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < share else (low, middle)
    return low


def main(paths):
    rows = [row for path in paths for row in json.load(open(path))["rows"]]
    first = rows[0]["method"]
    for removed in sorted({row["removed"] for row in rows}):
        of = {row["method"]: row for row in rows if row["removed"] == removed}
        base = of.pop(first)
        print(f"{removed} removed: {first} {base['quality']['kl']:.3f}")
        for method, row in of.items():
            pairs = zip(row["kl_by_sequence"], base["kl_by_sequence"], strict=True)
            differences = [other - own for other, own in pairs]
            n, mean = len(differences), sum(differences) / len(differences)
            error = math.sqrt(sum((x - mean) ** 2 for x in differences) / (n - 1) / n)
            print(f"  {method} {mean:+.3f} ± {quantile(0.975, n - 1) * error:.3f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
