"""Golden numbers of the geometry stage: points of a small model, and what numpy and scipy make of them.

usage: make_golden.py POINTS_NPZ GOLDEN_JSON OUT_DIR NAME

POINTS_NPZ   array `last`, f32, layers x points x width: hidden states of the last token of each sequence
GOLDEN_JSON  `points_last` with `epsilon`, `eigenvalues0_4`, `mutual_information` and `similarity` of the same
             points, made by a capture in transformers; used to check that the numbers made here agree
OUT_DIR      gets NAME.points.bin (little-endian f32) and NAME.geometry.json

Everything is written from the definitions, without the engine: broadcast distances, dense eigenvectors,
neighbours by k-d tree, covariances as D x D matrices. Needs numpy and scipy.
"""
import json
import sys

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

SHRINKAGE = 0.1


def normalise(x):
    return x / np.sqrt((x * x).mean(-1, keepdims=True))


def diffusion_map(x, dims=2, time=1.0, density=0.0):
    d2 = ((x[:, None] - x[None]) ** 2).sum(-1)
    epsilon = np.median(d2[np.triu_indices(len(x), 1)])
    w = np.exp(-d2 / epsilon)
    q = w.sum(1)
    w = w / np.outer(q, q) ** density
    degree = w.sum(1)
    values, u = np.linalg.eigh(w / np.sqrt(np.outer(degree, degree)))
    values, u = values[::-1], u[:, ::-1]
    psi = u / u[:, :1]
    return epsilon, values, psi[:, 1 : dims + 1] * values[1 : dims + 1] ** time


def ksg(x, y, k=5):
    x, y = x / x.std(0), y / y.std(0)
    radius = cKDTree(np.hstack([x, y])).query(np.hstack([x, y]), k=k + 1, p=np.inf)[0][:, k]
    radius = np.nextafter(radius, 0)
    counts = [cKDTree(z).query_ball_point(z, radius, p=np.inf, return_length=True) for z in (x, y)]
    return digamma(len(x)) + digamma(k) - np.mean(digamma(counts[0]) + digamma(counts[1]))


def mahalanobis(x, y):
    xc, yc = x - x.mean(0), y - y.mean(0)
    s = (xc.T @ xc + yc.T @ yc) / (2 * len(x) - 2)
    c = (1 - SHRINKAGE) * s + SHRINKAGE * np.trace(s) / len(s) * np.eye(len(s))
    v = x - y
    return np.sqrt((v * np.linalg.solve(c, v.T).T).sum(1)).mean()


def cka(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    return norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y))


def cosines(x, y):
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


def pairs(layers, f):
    return np.array([[f(x, y) for y in layers] for x in layers])


def from_distances(d):
    median = np.median(d[np.triu_indices(len(d), 1)])
    s = 1 / (1 + d / median)
    np.fill_diagonal(s, 1)
    return s


def main():
    npz, golden, out, name = sys.argv[1:]
    raw = np.load(npz)["last"].astype(np.float64)
    h = np.array([normalise(x) for x in raw])
    maps = [diffusion_map(x) for x in h]
    information = pairs([m[2] for m in maps], ksg)
    own = np.sqrt(np.diag(information))
    result = {
        "layers": raw.shape[0],
        "points": raw.shape[1],
        "width": raw.shape[2],
        "epsilon": [m[0] for m in maps],
        "eigenvalues": [m[1][:5].tolist() for m in maps],
        # Absolute values, because signs of eigenvectors are arbitrary.
        "absolute_embedding_of_layer_0": np.abs(maps[0][2]).tolist(),
        "eigenvalues_density_1": [diffusion_map(x, density=1.0)[1][:5].tolist() for x in h],
        "mutual_information": information.tolist(),
        "mi": np.minimum(np.maximum(information, 0) / np.outer(own, own), 1).tolist(),
        "cosine": pairs(h, lambda x, y: cosines(x, y).mean()).tolist(),
        "angular": pairs(h, lambda x, y: 1 - np.mean(np.arccos(np.clip(cosines(x, y), -1, 1))) / np.pi).tolist(),
        "euclidean": from_distances(pairs(h, lambda x, y: np.linalg.norm(x - y, axis=1).mean())).tolist(),
        "mahalanobis": from_distances(pairs(h, mahalanobis)).tolist(),
        "cka": pairs(h, cka).tolist(),
        "block_influence_layers_1_on": [1 - cosines(x, y).mean() for x, y in zip(h, h[1:])],
    }
    # The capture's own numbers were made from the same points: the two scripts must agree.
    captured = json.load(open(golden))["points_last"]
    for ours, theirs in [("epsilon", "epsilon"), ("eigenvalues", "eigenvalues0_4"),
                         ("mutual_information", "mutual_information"), ("mi", "similarity")]:
        print(ours, "differs from the capture by at most",
              np.abs(np.array(result[ours]) - np.array(captured[theirs])).max())
    raw.astype("<f4").tofile(f"{out}/{name}.points.bin")
    json.dump(result, open(f"{out}/{name}.geometry.json", "w"))


main()
