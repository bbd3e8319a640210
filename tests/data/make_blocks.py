"""Fixtures of the block codecs: what gguf-py decodes random blocks to, and what llama.cpp encodes tensors to.

usage: make_blocks.py LIBGGML_BASE STORIES OUT_DIR

LIBGGML_BASE  libggml-base.so of a llama.cpp build without FMA (FMA rounds sums of products differently)
STORIES       model.safetensors of stories260K, for real weights
OUT_DIR       gets decode/TYPE.bin     random blocks, then their values (f32), for every type
                   encode/weights.bin  tensors of 512 weights (f32), in the order of errors.json
                   encode/TYPE.bin     their blocks as llama.cpp encodes them
                   encode/errors.json  names of the tensors, and by type the error (RMS) of these blocks

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
ENCODED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
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


def encode(lib, name, x):
    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    out = np.zeros(x.size // weights * size, np.uint8)
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    quantise = lib.ggml_quantize_chunk
    quantise.restype = ctypes.c_size_t
    quantise.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    start, rows, importance = 0, 1, None
    kind = GGMLQuantizationType[name]
    written = quantise(kind, x.ctypes.data, out.ctypes.data, start, rows, x.size, importance)
    assert written == out.size
    return out


def rms_error(name, blocks, x):
    decoded = quants.dequantize(blocks, GGMLQuantizationType[name])
    return float(np.sqrt(np.mean((decoded.astype(np.float64) - x.astype(np.float64)) ** 2)))


def main(library, stories, out):
    out = Path(out)
    (out / "decode").mkdir(parents=True, exist_ok=True)
    (out / "encode").mkdir(exist_ok=True)
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


if __name__ == "__main__":
    main(*sys.argv[1:])
