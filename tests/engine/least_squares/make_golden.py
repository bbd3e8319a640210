"""Golden numbers of the least-squares stage: what numpy makes of small problems, in double precision.

usage: make_golden.py > golden.json

Everything is written from the definitions, without the engine: explicit inverses, one Gram matrix per problem,
and the walk over ridge strengths of the reference prototype. The inputs are made by a generator that the test
repeats, so only results are stored. Needs numpy.
"""
import json

import numpy as np

M, D, FIT, HELD_OUT = 24, 5, 160, 40
LAMBDAS = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]


def noise(count, seed):
    """SplitMix64, the upper 24 bits, in [-1, 1) as f32."""
    mask, state, out = (1 << 64) - 1, seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(((z ^ (z >> 31)) >> 40) / 2**23 - 1)
    return np.array(out, dtype=np.float32)


def problem(rows, seed):
    z = noise(rows * M, seed).reshape(rows, M)
    y = noise(rows * D, seed + 1).reshape(rows, D) + z[:, :D]
    w = noise(rows, seed + 2) + np.float32(1.5)
    return [a.astype(np.float64) for a in (z, y, w[:, None])]


def gram(z, y, w):
    return (w * z).T @ (w * z), (w * z).T @ (w * y)


def ridge(fit, held_out, b0):
    (z, y, w), (zv, yv, wv) = fit, held_out
    (g, c), (gv, cv) = gram(z, y - z @ b0, w), gram(zv, yv - zv @ b0, wv)
    left = ((wv * (yv - zv @ b0)) ** 2).sum()
    best = (0.0, None, None)
    for lam in LAMBDAS:
        d = np.linalg.inv(g + lam * g.diagonal().mean() * np.eye(M)) @ c
        e = -2 * (d * cv).sum() + (d * (gv @ d)).sum()
        if e < best[0]:
            best = (e, d, lam)
        elif best[1] is not None:
            break
    b = b0 if best[1] is None else b0 + best[1]
    return {
        "b": b.T.ravel().tolist(),
        "lambda": best[2],
        "gain": -best[0] / left,
        "unexplained": left / ((wv * yv) ** 2).sum(),
    }


def shifted(g, lam):
    return g + lam * g.diagonal().mean() * np.eye(len(g))


def eliminate(g, c, keep, rounds, lam):
    g, idx = shifted(g, lam), np.arange(len(g))
    for r in range(rounds):
        k = keep if r == rounds - 1 else int(keep + (len(idx) - keep) * 0.5)
        gi = np.linalg.inv(g[np.ix_(idx, idx)])
        s = ((gi @ c[idx]) ** 2).sum(1) / gi.diagonal()
        idx = idx[np.sort(np.argsort(-s, kind="stable")[:k])]
    return idx.tolist()


def eliminate_groups(g, c, size, keep, lam):
    g, alive = shifted(g, lam), list(range(len(g) // size))
    while len(alive) > keep:
        idx = np.concatenate([np.arange(a * size, (a + 1) * size) for a in alive])
        gi = np.linalg.inv(g[np.ix_(idx, idx)])
        b, cost = gi @ c[idx], []
        for j in range(len(alive)):
            s = slice(j * size, (j + 1) * size)
            cost.append((b[s] * np.linalg.solve(gi[s, s], b[s])).sum())
        alive.pop(int(np.argmin(cost)))
    return alive


def leverage(c, keep, factor):
    lam = factor * np.trace(c) / len(c)
    s = (c @ np.linalg.inv(c + lam * np.eye(len(c)))).diagonal()
    kept = np.sort(np.argsort(-s, kind="stable")[:keep])
    rest = np.setdiff1d(np.arange(len(c)), kept)
    t = np.linalg.inv(c[np.ix_(kept, kept)] + lam * np.eye(keep)) @ c[np.ix_(kept, rest)]
    return {"kept": kept.tolist(), "transfer": t.T.ravel().tolist()}


def rounded(x):
    if isinstance(x, float):
        return float(f"{x:.9g}")
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return {k: rounded(v) for k, v in x.items()} if isinstance(x, dict) else x


fit, held_out = problem(FIT, 100), problem(HELD_OUT, 200)
b0 = noise(M * D, 300).astype(np.float64).reshape(D, M).T / 8
worse = [held_out[0], -held_out[1], held_out[2]]
g, c = gram(*fit)
golden = {
    "refit": ridge(fit, held_out, b0),
    "kept_b0": ridge(fit, worse, np.zeros((M, D))) | {"b": []},
    "eliminate": eliminate(g, c, 10, 3, 0.01),
    "eliminate_groups": eliminate_groups(g, c, 4, 3, 0.01),
    "leverage": leverage(g, 10, 10.0),
}
print(json.dumps(rounded(golden)))
