"""Fixture of the file types: the types that llama.cpp's quantiser chooses for the matrices of several models.

usage: make_file_types.py LLAMA_LIBRARIES ARCHITECTURES OUT

LLAMA_LIBRARIES  folder with libggml-base.so, libggml*.so and libllama*.so
ARCHITECTURES    tests/data/architectures
OUT              gets a list of models: folder in ARCHITECTURES, what replaces entries of its config.json, and by file
                 type the names and types of the matrices that do not get the type that most get. The first entry of a
                 file type is that type.

The quantiser reads names, a few settings and the widths of rows, so that two rows of a matrix do. Needs numpy and gguf.
"""
import ctypes
import json
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

FILE_TYPES = {
    "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q5_k_s": 16, "q5_1": 9, "q5_0": 8, "q4_k_m": 15, "q4_k_s": 14, "iq4_nl": 25,
    "iq4_xs": 30, "q4_1": 3, "q4_0": 2, "q3_k_l": 13, "q3_k_m": 12, "q3_k_s": 11, "q2_k": 10,
}
# Those that go by whether there is an importance matrix.
WEIGHTED = ["q4_0", "q5_0", "iq4_nl", "iq4_xs"]
MOST = {
    "q5_k_m": "Q5_K", "q5_k_s": "Q5_K", "q4_k_m": "Q4_K", "q4_k_s": "Q4_K", "q3_k_l": "Q3_K", "q3_k_m": "Q3_K",
    "q3_k_s": "Q3_K",
}
# Folder, number of layers, query heads, key heads, experts, whether the embedding is the output head, width of rows.
MODELS = [
    ("qwen3", 33, 8, 2, None, False, 256),
    ("qwen3", 24, 4, 4, None, True, 256),
    ("qwen3", 30, 9, 3, None, True, 96),
    ("qwen2", 80, 16, 2, None, False, 256),
    ("mixtral", 32, 8, 2, 8, False, 256),
    ("qwen3moe", 17, 8, 1, 16, False, 256),
    ("phi3", 20, 4, 1, None, True, 256),
    ("gemma2", 18, 8, 4, None, True, 256),
    ("jamba", 32, 8, 2, 16, False, 256),
    ("qwen3_5", 24, 8, 2, None, False, 256),
]


class Params(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_int32) for name in ("threads", "file_type", "head", "embedding")]
        + [(name, ctypes.c_bool) for name in ("requantise", "with_head", "copy", "pure", "split", "dry")]
        + [(name, ctypes.c_void_p) for name in ("importances", "settings", "types", "pruned")]
    )


class Importances(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("values", ctypes.POINTER(ctypes.c_float)), ("count", ctypes.c_size_t)]


def library(folder):
    found = {}
    for name in ("libggml-base*", "libggml.*", "libllama.*"):
        path = sorted(Path(folder).glob(name))[0]
        found = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    found.llama_model_quantize_default_params.restype = Params
    found.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Params)]
    return found


def replaced(folder, config, layers, heads, keys, experts, tied, width):
    """What replaces entries of config.json."""
    new = {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": keys, "hidden_size": width,
           "tie_word_embeddings": tied}
    if experts:
        new["num_local_experts" if "num_local_experts" in config else "num_experts"] = experts
    if "layer_types" in config:
        new["layer_types"] = [config["layer_types"][i % len(config["layer_types"])] for i in range(layers)]
    if folder == "phi3":
        new |= {"hidden_size": width, "rope_scaling": None, "partial_rotary_factor": 1.0}
    return new


def write(path, source, layers, heads, keys, experts, tied, width):
    """Writes a model with the settings and the names of `source`, whose layers are repeated."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(path, architecture)
    own = len({tensor.name.split(".")[1] for tensor in reader.tensors if tensor.name.startswith("blk.")})
    for key, field in reader.fields.items():
        if key.startswith(("GGUF", "tokenizer")) or key in ("general.architecture", "general.file_type"):
            continue
        value, kind = field.contents(), field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        if isinstance(value, list) and len(value) == own and not key.endswith("sections"):
            value = [value[i % own] for i in range(layers)]
        if key.endswith(".block_count"):
            value = layers
        if key.endswith(".attention.head_count"):
            value = heads
        if key.endswith(".attention.head_count_kv"):
            value = [keys if each else 0 for each in value] if isinstance(value, list) else keys
        if key.endswith(".expert_count"):
            value = experts
        writer.add_key_value(key, value, kind, sub)
    rng = np.random.default_rng(1)
    for layer in range(layers):
        for tensor in reader.tensors:
            if not tensor.name.startswith(f"blk.{layer % own}."):
                continue
            name = tensor.name.replace(f"blk.{layer % own}.", f"blk.{layer}.", 1)
            shape = (2, width) if len(tensor.shape) == 2 else (2, 2, width) if len(tensor.shape) == 3 else (width,)
            writer.add_tensor(name, rng.normal(0, 0.02, shape).astype(np.float32))
    for name in ["token_embd.weight"] + ([] if tied else ["output.weight"]):
        writer.add_tensor(name, rng.normal(0, 0.02, (2, width)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(libraries, architectures, out):
    llama = library(libraries)
    models = []
    for folder, *how in MODELS:
        config = json.loads((Path(architectures) / folder / "hf/config.json").read_text())
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "source.gguf"
            write(source, Path(architectures) / folder / "model.gguf", *how)
            types = {}
            # Of no tensor of the model, but an importance matrix.
            ones = (ctypes.c_float * 1)(1.0)
            matrix = (Importances * 2)(Importances(b"none", ones, 1), Importances(None, None, 0))
            for name in [*FILE_TYPES, *(f"{name} by importances" for name in WEIGHTED)]:
                number = FILE_TYPES[name.split()[0]]
                params = llama.llama_model_quantize_default_params()
                params.threads, params.file_type = 1, number
                if "by" in name:
                    params.importances = ctypes.cast(matrix, ctypes.c_void_p)
                written = Path(scratch) / f"{name}.gguf"
                code = llama.llama_model_quantize(str(source).encode(), str(written).encode(), ctypes.byref(params))
                assert code == 0, (folder, name)
                most = MOST.get(name, name.split()[0].upper())
                kinds = {t.name: gguf.GGMLQuantizationType(t.tensor_type).name for t in gguf.GGUFReader(written).tensors}
                others = {key: kind for key, kind in kinds.items() if kind not in (most, "F32")}
                same = sorted(key for key, kind in kinds.items() if kind == most)
                types[name] = {"most": most, "same": len(same), "others": others}
        models.append({"folder": folder, "config": replaced(folder, config, *how), "types": types})
    Path(out).write_text(json.dumps(models, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
