"""Importance matrices of `laminate imatrix` are those that llama.cpp collects on the same tokens.

Run by `npm test` where a Python with numpy is found; `LAMINATE` names the binary and `LLAMA` node-llama-cpp, which brings
llama.cpp's libraries along. llama.cpp runs the tokens here, and a callback of its scheduler sums the squares of what every
product with a tensor of a layer reads, as its own llama-imatrix does: the program is not among the libraries.
"""
import ctypes as c, functools, os, pathlib, struct, subprocess, sys, tempfile, unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ROOT / "src/demo/text.txt"
F32, FEWEST_ROWS = 0, 16


class Tensor(c.Structure):
    """`struct ggml_tensor`, as far as it is looked at."""


Tensor._fields_ = [
    ("type", c.c_int32), ("buffer", c.c_void_p), ("ne", c.c_int64 * 4), ("nb", c.c_size_t * 4), ("op", c.c_int32),
    ("op_params", c.c_int32 * 16), ("flags", c.c_int32), ("src", c.POINTER(Tensor) * 10), ("view_src", c.c_void_p),
    ("view_offs", c.c_size_t), ("data", c.c_void_p), ("name", c.c_char * 64),
]


class Params(c.Structure):
    """Parameters of a model or of a context: larger than any, because the last argument may be."""
    _fields_ = [("bytes", c.c_uint8 * 512)]


class Batch(c.Structure):
    _fields_ = [
        ("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p), ("pos", c.POINTER(c.c_int32)),
        ("n_seq_id", c.POINTER(c.c_int32)), ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8)),
    ]


CALLBACK = c.CFUNCTYPE(c.c_bool, c.POINTER(Tensor), c.c_bool, c.c_void_p)


def directory():
    """Finds the directory of llama.cpp's libraries; None where there are none for this system."""
    entry = os.environ.get("LLAMA")
    packages = pathlib.Path(entry).parents[2] / "@node-llama-cpp" if entry else None
    found = sorted(packages.glob("*/bins/*/libllama.v*so")) if packages else []
    return found[0].parent if found else None


@functools.cache
def libraries():
    """Loads llama.cpp's libraries, once: they keep what they are told to call."""
    folder = directory()
    load = lambda name: c.CDLL(str(next(folder.glob(name))), mode=c.RTLD_GLOBAL)
    base, ggml, llama = load("libggml-base.so"), load("libggml.*so"), load("libllama.v*so")
    ggml.ggml_backend_load_all_from_path(c.c_char_p(str(folder).encode()))
    base.ggml_op_name.restype = c.c_char_p
    for name in ["llama_model_default_params", "llama_context_default_params"]:
        getattr(llama, name).restype = Params
    for name in ["llama_model_load_from_file", "llama_init_from_model", "llama_model_get_vocab", "llama_get_memory"]:
        getattr(llama, name).restype = c.c_void_p
    llama.llama_model_load_from_file.argtypes = [c.c_char_p, Params]
    llama.llama_init_from_model.argtypes = [c.c_void_p, Params]
    llama.llama_model_get_vocab.argtypes = [c.c_void_p]
    llama.llama_tokenize.argtypes = [c.c_void_p, c.c_char_p, c.c_int32, c.POINTER(c.c_int32), c.c_int32, c.c_bool, c.c_bool]
    llama.llama_vocab_bos.argtypes = [c.c_void_p]
    llama.llama_get_memory.argtypes = [c.c_void_p]
    llama.llama_memory_clear.argtypes = [c.c_void_p, c.c_bool]
    llama.llama_batch_init.restype = Batch
    llama.llama_batch_init.argtypes = [c.c_int32, c.c_int32, c.c_int32]
    llama.llama_decode.argtypes = [c.c_void_p, Batch]
    llama.llama_set_n_threads.argtypes = [c.c_void_p, c.c_int32, c.c_int32]
    llama.llama_free.argtypes = [c.c_void_p]
    llama.llama_model_free.argtypes = [c.c_void_p]
    llama.llama_backend_init()
    silent = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda *_: None)
    llama.llama_log_set(silent, None)
    llama.silent = silent
    return base, llama


def squares(tensor):
    """Returns the squares of the numbers of a tensor in f64, outermost dimension first."""
    size = sum((n - 1) * step for n, step in zip(tensor.ne, tensor.nb)) + 4
    numbers = np.frombuffer((c.c_uint8 * size).from_address(tensor.data), dtype=np.float32)
    shape, steps = list(tensor.ne)[::-1], list(tensor.nb)[::-1]
    return np.lib.stride_tricks.as_strided(numbers, shape, steps).astype(np.float64) ** 2


def collected(path, n, t):
    """Sums of squares and counts by the name of the tensor, for the first `n` sequences of `t` tokens of the text."""
    base, llama = libraries()
    found = {}

    def see(pointer, ask, _):
        tensor = pointer.contents
        op = base.ggml_op_name(c.c_int(tensor.op))
        if op not in (b"MUL_MAT", b"MUL_MAT_ID"):
            return not ask
        weight, read = tensor.src[0].contents, tensor.src[1].contents
        name = weight.name.decode()
        by_expert = op == b"MUL_MAT_ID"
        wanted = name.startswith("blk.") and read.type == F32 and (by_expert or read.ne[1] >= FEWEST_ROWS)
        if ask or not wanted:
            return wanted if ask else True
        matrices = weight.ne[2] if by_expert else 1
        sums, counts = found.setdefault(name, (np.zeros((matrices, read.ne[0])), np.zeros(matrices)))
        x = squares(read)[0]
        if by_expert:
            ids = tensor.src[2].contents
            for token in range(ids.ne[1]):
                for place in range(ids.ne[0]):
                    e = c.c_int32.from_address(ids.data + token * ids.nb[1] + place * ids.nb[0]).value
                    sums[e] += x[token, place % read.ne[1]]
                    counts[e] += 1
        else:
            sums[0] += x.sum((0, 1))
            counts[0] += read.ne[1] * read.ne[2]
        return True

    callback = CALLBACK(see)
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    params = llama.llama_context_default_params()
    words = np.frombuffer(params.bytes, dtype=np.uint32)
    # Callback and its data, both null, are followed by the types of keys and values, both F16.
    at = next(i for i in range(8, 64, 2) if not words[i:i + 4].any() and list(words[i + 4:i + 6]) == [1, 1])
    memory = c.addressof(params)
    c.c_void_p.from_address(memory + 4 * at).value = c.cast(callback, c.c_void_p).value
    # Keys and values in F32 are as exact as everything else.
    words[at + 4:at + 6] = F32
    # Flash attention, the last of four settings of -1, converts them to F16.
    left_open = [i for i in range(at) if words[i] == 2**32 - 1]
    assert left_open == list(range(left_open[0], left_open[0] + 4)), left_open
    words[left_open[-1]] = 0
    context = llama.llama_init_from_model(model, params)
    llama.llama_set_n_threads(context, 1, 1)
    vocab = llama.llama_model_get_vocab(model)
    text = TEXT.read_bytes()
    ids = (c.c_int32 * len(text))()
    count = llama.llama_tokenize(vocab, text, len(text), ids, len(text), False, False)
    for i in range(n):
        sequence = [llama.llama_vocab_bos(vocab), *ids[i * (t - 1):(i + 1) * (t - 1)]]
        assert len(sequence) == t and (i + 1) * (t - 1) <= count
        batch = llama.llama_batch_init(t, 0, 1)
        batch.n_tokens = t
        for place, token in enumerate(sequence):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
            batch.seq_id[place][0], batch.logits[place] = 0, 1
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        assert llama.llama_decode(context, batch) == 0
    llama.llama_free(context)
    llama.llama_model_free(model)
    return found


def read(file):
    """Reads the metadata and the tensors of a GGUF file that has strings, u32, arrays of strings and F32 only."""
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, file, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    text = lambda: take(f"{take('Q')}s").decode()
    value = lambda kind: {4: lambda: take("I"), 8: text, 9: lambda: [value(k) for k, n in [take("IQ")] for _ in range(n)]}[kind]()
    magic, version, n_tensors, n_keys = take("4sIQQ")
    assert (magic, version) == (b"GGUF", 3)
    metadata = {text(): value(take("I")) for _ in range(n_keys)}
    infos = []
    for _ in range(n_tensors):
        name, n = text(), take("I")
        shape = [take("Q") for _ in range(n)]
        kind, offset = take("IQ")
        assert kind == F32
        infos.append((name, shape[::-1], offset))
    start = (at + 31) // 32 * 32
    number = lambda shape: int(np.prod(shape))
    return metadata, {name: np.frombuffer(file, np.float32, number(shape), start + offset).reshape(shape)
                      for name, shape, offset in infos}


def laminate(*arguments):
    subprocess.run([os.environ["LAMINATE"], *map(str, arguments), "--device", "cpu"], check=True, capture_output=True)


def of_text(n, t):
    """Arguments for the first `n` sequences of `t` tokens of the text."""
    return "--text", TEXT, "--samples", n, "--tokens", t, "--draw", "first"


def sums(file, n, t):
    """Sums of squares and counts in an importance matrix, by the name of the tensor."""
    metadata, tensors = read(file.read_bytes())
    assert metadata == {"general.type": "imatrix", "imatrix.datasets": [TEXT.name], "imatrix.chunk_count": n,
                        "imatrix.chunk_size": t}
    stems = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    assert sorted(tensors) == sorted(stem + ending for stem in stems for ending in (".in_sum2", ".counts"))
    return {stem: (np.atleast_2d(tensors[stem + ".in_sum2"]), tensors[stem + ".counts"].reshape(-1)) for stem in stems}


@unittest.skipUnless(directory(), "there are no libraries of llama.cpp")
class Imatrix(unittest.TestCase):
    def same(self, path, n, t, most=1e-3):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "imatrix.gguf"
            laminate("imatrix", path, "--out", out, *of_text(n, t))
            own = sums(out, n, t)
        self.close(f"{path.parent.name}/{path.name}", own, collected(path, n, t), most)

    def close(self, what, own, theirs, most=1e-3):
        self.assertEqual(sorted(own), sorted(theirs))
        worst = 0.0
        for name, (squares, counts) in theirs.items():
            self.assertEqual(list(own[name][1]), list(counts), name)
            # Columns that hardly anything is read in differ by rounding.
            apart = np.abs(own[name][0] - squares) / (squares + 1e-6 * squares.max())
            worst = max(worst, apart.max())
        print(f"{what}: {len(theirs)} tensors, at most {worst:.1e} apart", file=sys.stderr)
        self.assertLess(worst, most)

    def test_the_result_of_a_compression(self):
        model = ROOT / "tests/data/models/stories-planted-12L"
        for method, layers in [("mka", 10), ("bi+refit", 10)]:
            with self.subTest(method=method), tempfile.TemporaryDirectory() as folder:
                made, saved = pathlib.Path(folder) / "new.gguf", pathlib.Path(folder) / "imatrix.gguf"
                laminate("compress", model, "--remove", 2, "--method", method, "--dtype", "f32", "--out", made,
                         "--save-imatrix", saved, *of_text(8, 48))
                theirs = collected(made, 8, 48)
                self.assertEqual(len(theirs), 7 * layers)
                self.close(method, sums(saved, 8, 48), theirs)

    def test_models_of_all_kinds_of_layers(self):
        for folder in sorted((ROOT / "tests/data/architectures").iterdir()):
            for path in sorted(folder.glob("*.gguf")):
                with self.subTest(path=path):
                    # llama.cpp looks Gemma's activation up in a table of F16.
                    # The inputs of the layers of gemma4 are norms of 8 numbers, which make more of the rounding.
                    most = {"gemma4": 2e-2}.get(folder.name, 3e-3 if "gemma" in folder.name else 1e-3)
                    self.same(path, 2, 32, most=most)


if __name__ == "__main__":
    unittest.main()
