"""Points to similarity matrix in numpy and scipy: the definition that the engine is timed and checked against.

usage: mka_spec.py LAYERS POINTS WIDTH [REPEATS]

Makes the same points as benches/similarity.rs and prints one JSON object: `milliseconds`, the median of the
repeats, and the `similarity` matrix.
"""
import json
import sys
import time

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

LATENT, GROUP = 24, 4


def uniform(stream, count):
    """Uniform in [-1, 1): SplitMix64 of the index, as in the Rust bench."""
    u64 = np.uint64
    z = np.arange(1, count + 1, dtype=u64)
    z *= u64(0x9E3779B97F4A7C15)
    z += u64((stream * 0x2545F4914F6CDD1D) % 2**64)
    z ^= z >> u64(30)
    z *= u64(0xBF58476D1CE4E5B9)
    z ^= z >> u64(27)
    z *= u64(0x94D049BB133111EB)
    z ^= z >> u64(31)
    return (z >> u64(11)).astype(np.float64) / 2.0**52 - 1.0


def layer_points(layer, n_points, width):
    group = 2 * (layer // GROUP)
    mixing = uniform(group + 1000, LATENT * width).reshape(LATENT, width)
    weights = uniform(group + 1001, n_points * LATENT).reshape(n_points, LATENT)
    signal = (weights / np.sqrt(np.arange(1, LATENT + 1))) @ mixing
    return signal + 0.25 * uniform(layer, n_points * width).reshape(n_points, width)


def diffusion_map(x, dims=2, time=1.0):
    x = x / np.sqrt((x * x).mean(1, keepdims=True))
    x = x - x.mean(0)
    norms = (x * x).sum(1)
    d2 = norms[:, None] + norms[None, :] - 2 * x @ x.T
    np.fill_diagonal(d2, 0)
    d2 = np.maximum(d2, 0)
    w = np.exp(-d2 / np.median(d2[np.triu_indices(len(x), 1)]))
    degree = w.sum(1)
    values, u = np.linalg.eigh(w / np.sqrt(np.outer(degree, degree)))
    order = np.argsort(-values)
    values, u = values[order], u[:, order]
    return (u / u[:, :1])[:, 1 : dims + 1] * values[1 : dims + 1] ** time


def ksg(x, y, k=5):
    x, y = x / x.std(0), y / y.std(0)
    joint = np.hstack([x, y])
    radius = np.nextafter(cKDTree(joint).query(joint, k=k + 1, p=np.inf)[0][:, k], 0)
    n_x = cKDTree(x).query_ball_point(x, radius, p=np.inf, return_length=True)
    n_y = cKDTree(y).query_ball_point(y, radius, p=np.inf, return_length=True)
    return digamma(len(x)) + digamma(k) - np.mean(digamma(n_x) + digamma(n_y))


def similarity(layers):
    maps = [diffusion_map(x) for x in layers]
    n = len(maps)
    information = np.zeros((n, n))
    for i in range(n):
        for j in range(i, n):
            information[i, j] = information[j, i] = ksg(maps[i], maps[j])
    own = np.sqrt(np.diag(information))
    return np.minimum(np.maximum(information, 0) / np.outer(own, own), 1)


def main():
    n_layers, n_points, width = map(int, sys.argv[1:4])
    repeats = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    layers = [layer_points(layer, n_points, width) for layer in range(n_layers)]
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        matrix = similarity(layers)
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"milliseconds": float(np.median(times)), "similarity": matrix.tolist()}))


main()
