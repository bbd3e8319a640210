"""Makes golden numbers of AWQ and SmoothQuant, by torch in f64 from their definitions.

usage: make_quantise.py tests/data/quantise/golden.json

AWQ follows AutoAWQ 0.2.9 (`quantizer.py`: `_search_best_scale`, `_compute_best_clip`) for two matrices that read the same, but
for what the engine's documentation names: the loss is that of the products, and no scales at all are tried, too. SmoothQuant
follows its code (`smooth.py`, `fake_quant.py`). Outputs are computed from the inputs themselves, where the engine goes by
their Gram matrix.

Packages: torch.
"""
import json, sys

import torch

torch.manual_seed(20261130)
torch.set_default_dtype(torch.float64)
TOKENS, COLUMNS, GROUP, TOP = 40, 32, 16, 15
inputs = torch.randn(TOKENS, COLUMNS).float().double() * torch.linspace(0.2, 2, COLUMNS)
inputs[:, 5] *= 12
inputs[:, 20] *= 6
inputs = inputs.float().double()
matrices = [torch.randn(rows, COLUMNS).float().double() for rows in (12, 7)]


def rounded(weight, low, high):
    """To the nearest of 16 numbers of each group, of which one is zero."""
    grouped = weight.reshape(-1, GROUP)
    low, high = low.clamp(max=0), high.clamp(min=0)
    # Scales are stored in f32.
    scale = ((high - low) / TOP).float().double()
    zero = (-low / scale).round().clamp(0, TOP)
    codes = ((grouped / scale).round() + zero).clamp(0, TOP)
    return ((codes - zero) * scale).reshape(weight.shape)


def plain(weight):
    grouped = weight.reshape(-1, GROUP)
    return rounded(weight, grouped.amin(1, keepdim=True), grouped.amax(1, keepdim=True))


def lost(scales):
    return sum(((plain(w * scales) / scales - w) @ inputs.T).square().sum() for w in matrices)


magnitudes = inputs.abs().mean(0)
whole = torch.cat(matrices)
grouped = whole.abs().reshape(-1, GROUP)
weights = (grouped / (grouped.amax(1, keepdim=True) + 1e-6)).reshape(whole.shape).mean(0)
candidates = [torch.ones(COLUMNS)]
for step in range(20):
    ratio = step / 20
    scales = (magnitudes.pow(ratio) / (weights.pow(1 - ratio) + 1e-4)).clamp(min=1e-4)
    candidates.append(scales / (scales.max() * scales.min()).sqrt())
losses = [lost(scales) for scales in candidates]
best = min(range(len(losses)), key=lambda place: losses[place])

# Limits of the first matrix, by what each group gives by itself.
scaled = matrices[0] * candidates[best]
read = inputs / candidates[best]
limited = torch.empty_like(scaled)
for row in range(scaled.shape[0]):
    for first in range(0, COLUMNS, GROUP):
        weight, x = scaled[row, first:first + GROUP], read[:, first:first + GROUP]
        least = None
        for step in range(10):
            most = weight.abs().max() * (1 - step / 20)
            held = weight.clamp(-most, most)
            number = rounded(held, held.min().reshape(1, 1), held.max().reshape(1, 1))
            loss = (x @ (number - weight)).square().sum()
            if least is None or loss < least:
                least = loss
                limited[row, first:first + GROUP] = number

largest = torch.cat([w.abs() for w in matrices]).amax(0)
smooth = (inputs.abs().amax(0).pow(0.5) / largest.clamp(min=1e-5).pow(0.5)).clamp(min=1e-5)
by_token = inputs / smooth
scale = by_token.abs().amax(1, keepdim=True) / 127
by_token = (by_token / scale).round() * scale

# Nine digits tell all numbers of f32 apart.
flat = lambda x: [float(f"{number:.9g}") for number in x.reshape(-1).tolist()]
json.dump({
    "inputs": flat(inputs), "weights": [flat(w) for w in matrices], "columns": COLUMNS, "group": GROUP,
    "candidates": [flat(c) for c in candidates], "losses": [x.item() for x in losses], "best": best,
    "limited": flat(limited), "smoothing": flat(smooth), "smoothed_and_rounded": flat(by_token),
}, open(sys.argv[1], "w"))
print([round(x.item(), 3) for x in losses], best)
