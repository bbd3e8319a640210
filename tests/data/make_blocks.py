"""Fixtures of the block codecs: what gguf-py decodes random blocks to, and what llama.cpp encodes tensors to.

usage: make_blocks.py LIBGGML_BASE STORIES OUT_DIR

LIBGGML_BASE  libggml-base.so of a llama.cpp build without FMA (FMA rounds sums of products differently)
STORIES       model.safetensors of stories260K, for real weights
OUT_DIR       gets decode/TYPE.bin     random blocks, then their values (f32), for every type
                   encode/weights.bin  tensors of 512 weights (f32), in the order of errors.json
                   encode/TYPE.bin     their blocks as llama.cpp encodes them
                   encode/errors.json  names of the tensors, and by type the error (RMS) of these blocks
                   weighted/importance.bin  sets of importances (f32), in the order of errors.json
                   weighted/TYPE.bin   blocks of the same tensors as llama.cpp encodes them with each set
                   weighted/errors.json  names and lengths of the sets, and by type and set the root of the
                                       mean of importance times squared error, of each tensor

Everything is little-endian. Needs numpy, gguf and safetensors.
"""
import ctypes
import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from safetensors.numpy import load_file

# Where the binary16 scales of a block are.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}
ENCODED = list(SCALES)
# Those that llama.cpp encodes otherwise with importances.
WEIGHTED = [name for name in ENCODED if name not in ("Q8_0", "MXFP4")]
# A usual scale, both zeros, a negative, the smallest subnormal, a larger one, the smallest normal, the largest.
HALVES = [0x1C37, 0x0000, 0x8000, 0x9D01, 0x0001, 0x83A5, 0x0400, 0x7BFF]
# Exponents of MXFP4: usual ones, both that give subnormal scales, the smallest normal, and the largest.
EXPONENTS = [127, 120, 0, 1, 2, 100, 140, 252]
LENGTH = 512


def random_blocks(name, rng):
    _, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (len(HALVES), size), dtype=np.uint8)
    for i, offset in enumerate(SCALES[name]):
        # The offset of a block gets another kind of number than its scale.
        halves = np.roll(np.array(HALVES, "<u2"), 3 * i)
        blocks[:, offset : offset + 2] = halves.view(np.uint8).reshape(-1, 2)
    if name == "MXFP4":
        blocks[:, 0] = EXPONENTS
    return blocks


def tensors(rng, stories):
    gaussian = rng.normal(0, 0.02, LENGTH)
    outliers = rng.normal(0, 0.02, LENGTH)
    outliers[::37] *= 40
    constant = np.full(LENGTH, 0.3)
    constant[256:] = -0.7
    mixed = rng.normal(0.1, 0.02, LENGTH)
    mixed[:64] = 0
    mixed[64:128] = -np.abs(mixed[64:128])
    layers = load_file(stories)
    return {
        "gaussian": gaussian,
        "laplacian": rng.laplace(0, 0.02, LENGTH),
        "outliers": outliers,
        "tiny": rng.normal(0, 1e-6, LENGTH),
        "large": rng.normal(0, 300, LENGTH),
        "constant": constant,
        "offset with zeros": mixed,
        "embedding of stories260K": layers["model.embed_tokens.weight"].ravel()[:LENGTH],
        "down of stories260K": layers["model.layers.2.mlp.down_proj.weight"].ravel()[:LENGTH],
    }


def importances(rng):
    """Sets of importances, by name. The length is that of a row."""
    sparse = rng.chisquare(1, 256) ** 2
    sparse[rng.random(256) < 0.3] = 0
    without = rng.chisquare(1, LENGTH)
    # A whole block of 32 and one of 256, and half a group of a block.
    without[32:64] = 0
    without[128:136] = 0
    without[256:] = 0
    return {
        "like activations": rng.chisquare(1, LENGTH),
        "ten decades": 10 ** rng.uniform(-5, 5, LENGTH),
        "sparse": sparse,
        # Not a multiple of 256: for the types of 32 weights alone.
        "short rows": rng.chisquare(1, 96),
        # Where all importances are zero, llama.cpp and Laminate differ.
        "blocks without": without,
    }


def encode(lib, name, x, importance=None):
    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    out = np.zeros(x.size // weights * size, np.uint8)
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    quantise = lib.ggml_quantize_chunk
    quantise.restype = ctypes.c_size_t
    quantise.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    width = x.size if importance is None else importance.size
    start, rows, importance = 0, x.size // width, None if importance is None else importance.ctypes.data
    kind = GGMLQuantizationType[name]
    written = quantise(kind, x.ctypes.data, out.ctypes.data, start, rows, width, importance)
    assert written == out.size
    return out


def rms_error(name, blocks, x, importance=1):
    decoded = quants.dequantize(blocks, GGMLQuantizationType[name])
    squares = (decoded.astype(np.float64) - x.astype(np.float64)) ** 2
    return float(np.sqrt(np.mean(squares.reshape(-1, np.size(importance)) * importance)))


def main(library, stories, out):
    out = Path(out)
    (out / "decode").mkdir(parents=True, exist_ok=True)
    (out / "encode").mkdir(exist_ok=True)
    (out / "weighted").mkdir(exist_ok=True)
    rng = np.random.default_rng(20240607)
    for name in SCALES:
        blocks = random_blocks(name, rng)
        with np.errstate(over="ignore"):
            values = quants.dequantize(blocks, GGMLQuantizationType[name])
        assert np.isfinite(values).all(), name
        (out / "decode" / f"{name}.bin").write_bytes(blocks.tobytes() + values.astype("<f4").tobytes())

    lib = ctypes.CDLL(library)
    all_tensors = {name: x.astype(np.float32) for name, x in tensors(rng, stories).items()}
    (out / "encode" / "weights.bin").write_bytes(np.concatenate(list(all_tensors.values())).tobytes())
    errors = {}
    for kind in ENCODED:
        blocks = {name: encode(lib, kind, x) for name, x in all_tensors.items()}
        errors[kind] = {name: rms_error(kind, b, all_tensors[name]) for name, b in blocks.items()}
        (out / "encode" / f"{kind}.bin").write_bytes(np.concatenate(list(blocks.values())).tobytes())
    document = {"length": LENGTH, "tensors": list(all_tensors), "rms_error_of_llama_cpp": errors}
    (out / "encode" / "errors.json").write_text(json.dumps(document, indent=1) + "\n")

    sets = {name: h.astype(np.float32) for name, h in importances(rng).items()}
    (out / "weighted" / "importance.bin").write_bytes(np.concatenate(list(sets.values())).tobytes())
    errors = {}
    for kind in WEIGHTED:
        block, _ = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
        written, errors[kind] = [], {}
        for name, h in sets.items():
            if h.size % block != 0:
                continue
            errors[kind][name] = {}
            for tensor, x in all_tensors.items():
                rows = x[: x.size // h.size * h.size]
                written.append(encode(lib, kind, rows, h))
                errors[kind][name][tensor] = rms_error(kind, written[-1], rows, h)
        (out / "weighted" / f"{kind}.bin").write_bytes(np.concatenate(written).tobytes())
    lengths = {name: h.size for name, h in sets.items()}
    document = {"sets": lengths, "rms_error_of_llama_cpp": errors}
    (out / "weighted" / "errors.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
