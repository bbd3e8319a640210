"""Golden numbers of the geometry stage: points of a small model, and what numpy and scipy make of them.

usage: make_golden.py POINTS_NPZ GOLDEN_JSON OUT_DIR NAME

POINTS_NPZ   array `last`, f32, layers x points x width: hidden states of the last token of each sequence
GOLDEN_JSON  `points_last` with `epsilon`, `eigenvalues0_4`, `mutual_information` and `similarity` of the same
             points, made by a capture in transformers; used to check that the numbers made here agree
OUT_DIR      gets NAME.points.bin (little-endian f32) and NAME.geometry.json

Everything is written from the definitions, without the engine: broadcast distances, dense eigenvectors,
neighbours by k-d tree, covariances as D x D matrices, principal components by singular values, entropies by bisection.
Affinities and divergences of t-SNE are also those of scikit-learn. Needs numpy, scipy and scikit-learn.
"""
import json
import sys

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import squareform
from scipy.special import digamma
from sklearn.manifold import TSNE
from sklearn.manifold._t_sne import _joint_probabilities

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


def squared_distances(x):
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def principal(x, count):
    """Principal coordinates, the largest entry of each by magnitude positive."""
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    c = (u * s)[:, :count]
    return c * np.sign(c[np.abs(c).argmax(0), range(c.shape[1])])


def conditional(d2, perplexity):
    """Affinities of one point to the others."""
    low, high = 0.0, 1e6 / d2.mean()
    for _ in range(200):
        b = (low + high) / 2
        p = np.exp(-b * (d2 - d2.min()))
        p /= p.sum()
        entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
        low, high = (b, high) if entropy > np.log(perplexity) else (low, b)
    return p


def affinities(x):
    n, d2 = len(x), squared_distances(x)
    perplexity = min(30, (n - 1) / 3)
    p = np.array([np.insert(conditional(np.delete(row, i), perplexity), i, 0) for i, row in enumerate(d2)])
    return (p + p.T) / (2 * n)


def start(x):
    y = principal(x, 2)
    return y / y[:, 0].std() * 1e-4


def divergence(p, y):
    w = 1 / (1 + squared_distances(y))
    np.fill_diagonal(w, 0)
    q, seen = w / w.sum(), p > 0
    return (p[seen] * np.log(p[seen] / q[seen])).sum()


def tsne(x):
    p, y = affinities(x), start(x)
    v = np.zeros_like(y)
    for _ in range(750):
        w = 1 / (1 + squared_distances(y))
        np.fill_diagonal(w, 0)
        f = (p - w / w.sum()) * w
        v = 0.8 * v - len(x) * (f[:, :, None] * (y[:, None] - y[None])).sum(1)
        y = y + v
        y -= y.mean(0)
    return y, divergence(p, y)


def splitmix(place):
    """Number of SplitMix64 with seed 0, in [0, 1)."""
    mask = (1 << 64) - 1
    z = (place + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return ((z ^ z >> 31) >> 11) / 2**53


def autoencoder(x, hidden=16, penalty=0.1, steps=300):
    z = principal(x, min(32, len(x) - 1, x.shape[1]))
    z = z / np.sqrt((z**2).sum(1).mean())
    n, r = z.shape
    sizes = [(r, hidden), (hidden,), (2, hidden), (hidden,)]
    places = iter(range(10**6))
    w1, b1, w3, b3 = [np.array([np.sqrt(3) * (2 * splitmix(next(places)) - 1) for _ in range(np.prod(s))]).reshape(s)
                      for s in sizes]
    w3 = w3 / np.sqrt((z[:, :2] ** 2).sum(1).mean())
    weights = [np.eye(r, 2), np.eye(2, r), w1, b1, np.zeros((hidden, 2)), w3, b3, np.zeros((hidden, r)), np.zeros(r)]
    m, v = [[np.zeros_like(w) for w in weights] for _ in range(2)]
    for t in range(1, steps + 1):
        a, b, w1, b1, w2, w3, b3, w4, b4 = weights
        h = np.tanh(z @ w1 + b1)
        c = z @ a + h @ w2
        g = np.tanh(c @ w3 + b3)
        d_out = 2 / n * (c @ b + g @ w4 + b4 - z)
        d_g = d_out @ w4.T * (1 - g * g)
        d_c = d_out @ b.T + d_g @ w3.T
        d_h = d_c @ w2.T * (1 - h * h)
        gradient = [z.T @ d_c, c.T @ d_out, z.T @ d_h, d_h.sum(0), h.T @ d_c + 2 * penalty * w2,
                    c.T @ d_g, d_g.sum(0), g.T @ d_out + 2 * penalty * w4, d_out.sum(0)]
        m = [0.9 * m + 0.1 * g for m, g in zip(m, gradient)]
        v = [0.999 * v + 0.001 * g * g for v, g in zip(v, gradient)]
        weights = [w - 0.01 * (1 - t / steps) * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
                   for w, m, v in zip(weights, m, v)]
    a, b, w1, b1, w2, w3, b3, w4, b4 = weights
    c = z @ a + np.tanh(z @ w1 + b1) @ w2
    return c, ((c @ b + np.tanh(c @ w3 + b3) @ w4 + b4 - z) ** 2).sum(1).mean()


def sklearn_tsne(x):
    n = len(x)
    fit = TSNE(method="exact", perplexity=min(30, (n - 1) / 3), init=start(x).astype("f4"), max_iter=1000).fit(x)
    return divergence(affinities(x), fit.embedding_.astype(float))


def normalised_information(maps):
    information = pairs(maps, ksg)
    own = np.sqrt(np.diag(information))
    return np.minimum(np.maximum(information, 0) / np.outer(own, own), 1)


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
    layouts, autoencoders = [tsne(x) for x in h], [autoencoder(x) for x in h]
    joint = _joint_probabilities(squared_distances(h[0]).astype("f4"), min(30, (len(h[0]) - 1) / 3), 0)
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
        "mi": normalised_information([m[2] for m in maps]).tolist(),
        "cosine": pairs(h, lambda x, y: cosines(x, y).mean()).tolist(),
        "angular": pairs(h, lambda x, y: 1 - np.mean(np.arccos(np.clip(cosines(x, y), -1, 1))) / np.pi).tolist(),
        "euclidean": from_distances(pairs(h, lambda x, y: np.linalg.norm(x - y, axis=1).mean())).tolist(),
        "mahalanobis": from_distances(pairs(h, mahalanobis)).tolist(),
        "cka": pairs(h, cka).tolist(),
        "tsne": normalised_information([y for y, _ in layouts]).tolist(),
        "divergence": [kl for _, kl in layouts],
        "divergence_of_sklearn": [sklearn_tsne(x) for x in h],
        "affinities_of_sklearn_of_point_0": squareform(joint)[0].tolist(),
        "autoencoder": normalised_information([c for c, _ in autoencoders]).tolist(),
        "lost": [lost for _, lost in autoencoders],
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
