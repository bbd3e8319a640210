"""What `laminate compress` writes is loaded by transformers and has the logits and the perplexity that we report.

Run by `npm test` where a Python with torch and transformers is found; `LAMINATE` names the binary.
"""
import importlib.util, json, math, os, pathlib, shutil, subprocess, sys, tempfile, unittest

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer, CompressedTensorsConfig
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "src/demo/text.txt").read_text()
DATA = ROOT / "tests/data/models"
# What `perplexity` runs, as arguments.
STORIES = ("--text", ROOT / "src/demo/text.txt", "--samples", 128, "--tokens", 48, "--draw", "first")


def laminate(*arguments):
    done = subprocess.run([os.environ["LAMINATE"], *map(str, arguments), "--json", "--device", "cpu"],
                          check=True, capture_output=True)
    return json.loads(done.stdout)


def loaded(folder, kind):
    """A model in f32, of which no tensor is missing or has another shape."""
    model, found = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not found["missing_keys"] and not found["mismatched_keys"], found
    return model.eval()


def perplexity(folder, n=128, t=48, kind=AutoModelForCausalLM):
    """Perplexity by transformers in f32 of the sequences that the command line cuts."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = loaded(folder, kind)
    config = model.config.get_text_config()
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    sequences = [[config.bos_token_id] + ids[i * (t - 1):(i + 1) * (t - 1)] for i in range(n)]
    x = torch.tensor(sequences)
    with torch.no_grad():
        log_p = torch.log_softmax(model(x).logits[:, :-1].double(), -1).gather(-1, x[:, 1:, None])
    return math.exp(-log_p.mean().item()), config.num_hidden_layers


def decoded(folder, made):
    """Makes a folder in which experts in MXFP4 are decoded by transformers, which loads blocks only beside accelerate."""
    shutil.copytree(folder, made)
    config = json.loads((made / "config.json").read_text())
    del config["quantization_config"]
    (made / "config.json").write_text(json.dumps(config))
    tensors = load_file(made / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_blocks")]:
        stem = name.removesuffix("_blocks")
        numbers = convert_moe_packed_tensors(tensors.pop(name), tensors.pop(stem + "_scales"), dtype=torch.float32)
        tensors[stem] = numbers.contiguous()
    save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    return made


class Dequantised:
    """Loads what compressed-tensors packed, as floats."""

    @staticmethod
    def from_pretrained(folder, **options):
        settings = CompressedTensorsConfig(dequantize=True)
        return AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, **options)


def rounded_to_bytes(_, inputs):
    """Rounds what a matrix multiplies to 8 bits, each token by itself, as vLLM does."""
    x, = inputs
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return (x / scale).round() * scale,


class W8A8:
    """Loads a model whose matrices of layers multiply rounded numbers."""

    def __init__(self, kind):
        self.kind = kind

    def from_pretrained(self, folder, **options):
        model, found = self.kind.from_pretrained(folder, **options)
        for name, module in model.named_modules():
            if ".layers." in name and isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(rounded_to_bytes)
        return model, found


def spread(words, bits, order=None):
    """Takes the numbers out of int32 words along a new last dimension, the lowest bits first."""
    places = torch.arange(0, 32, bits, dtype=torch.int32)
    numbers = (words.unsqueeze(-1) >> places) & (2 ** bits - 1)
    return numbers if order is None else numbers[..., torch.tensor(order).argsort()]


def unpacked(folder, made):
    """Makes a folder in which packed matrices are floats, by the definitions of compressed-tensors, GPTQ and AWQ."""
    shutil.copytree(folder, made)
    config = json.loads((made / "config.json").read_text())
    settings = config.pop("quantization_config")
    (made / "config.json").write_text(json.dumps(config))
    tensors = load_file(made / "model.safetensors")
    codes = [name for name in tensors if name.endswith((".weight_packed", ".qweight")) or tensors[name].dtype == torch.int8]
    for name in codes:
        module = name.rsplit(".", 1)[0]
        take = lambda ending: tensors.pop(f"{module}.{ending}", None)
        if settings["quant_method"] == "compressed-tensors":
            scheme = settings["config_groups"]["group_0"]
            bits, scale, zero = scheme["weights"]["num_bits"], take("weight_scale"), take("weight_zero_point")
            if scheme["format"] == "int-quantized":
                q, middle = tensors.pop(name), 0
            else:
                rows, columns = take("weight_shape").tolist()
                q, middle = spread(take("weight_packed"), bits).flatten(1)[:rows, :columns], 2 ** (bits - 1)
                zero = zero if zero is None else spread(zero.T, bits).flatten(1).T[:rows]
            zero = torch.full_like(scale, middle).int() if zero is None else zero
            group = torch.arange(q.shape[1]) // (q.shape[1] // scale.shape[1])
        else:
            bits, scale = settings["bits"], take("scales").T
            order = [0, 2, 4, 6, 1, 3, 5, 7] if settings["quant_method"] == "awq" else None
            zero = spread(take("qzeros"), bits, order).flatten(1).T
            if order is None:
                q = spread(take("qweight").T, bits).flatten(1)
                zero = zero if settings.get("checkpoint_format") == "gptq_v2" else zero + 1
                group = take("g_idx").long()
            else:
                q = spread(take("qweight"), bits, order).flatten(1).T
                group = torch.arange(q.shape[1]) // settings["group_size"]
        tensors[module + ".weight"] = ((q - zero[:, group]).to(scale.dtype) * scale[:, group]).contiguous()
    assert all(value.is_floating_point() for value in tensors.values())
    save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    return made


class Transformers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def out(self, name):
        return pathlib.Path(self.folder.name) / name

    def check(self, folder, layers, reported, kind=AutoModelForCausalLM):
        theirs, n_layers = perplexity(folder, kind=kind)
        self.assertEqual(n_layers, layers)
        self.assertLess(abs(theirs / reported - 1), 1e-3, f"{theirs} against {reported}")

    def check_logits(self, folder, file, kind=AutoModelForCausalLM, rounds_inputs=False):
        """Compares the logits in a file of `laminate evaluate --logits` with those of transformers, one by one.

        Where what a matrix multiplies is rounded to 8 bits, two programs that differ in the seventh digit round a few of
        many millions of numbers to different neighbours, and all that a sequence has after that differs a little.
        """
        ours = load_file(file)
        with torch.no_grad():
            theirs = loaded(folder, kind)(ours["tokens"]).logits
        self.assertEqual(ours["logits"].shape, theirs.shape)
        self.assertGreater(theirs.std().item(), 0.1, "the logits say nothing")
        furthest = (ours["logits"] - theirs).abs().amax(-1)
        if not rounds_inputs:
            self.assertLess(furthest.max().item(), 1e-3)
        else:
            self.assertGreater((furthest < 1e-3).double().mean().item(), 0.9)
            self.assertLess(furthest.median().item(), 1e-5)
            self.assertLess(furthest.max().item(), 0.3)

    def test_the_compressed_demo(self):
        report = laminate("compress", "demo", "--remove", 7, "--method", "mka", "--out", self.out("x"))
        self.assertEqual(report["groups"], [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]])
        self.check(self.out("x"), 5, report["steps"][-1]["perplexity"])
        self.check(self.out("x"), 5, laminate("evaluate", self.out("x"), *STORIES)["perplexity"])

    def test_what_nothing_is_asked_for(self):
        for source, layers in (("demo", 9), (DATA / "stories260K", 4)):
            out = self.out(str(layers))
            report = laminate("compress", source, "--remove", 3 if source == "demo" else 1, "--out", out)
            self.assertEqual(report["recipe"]["plan"]["operator"], "pool-refit")
            self.check(out, layers, laminate("evaluate", out, *STORIES)["perplexity"])

    def test_shards_and_another_dtype(self):
        report = laminate("compress", DATA / "stories-planted-12L", "--remove", 2, "--dtype", "bf16",
                          "--max-shard-size", "200KB", "--out", self.out("x"))
        self.assertGreater(sum(f["name"].endswith(".safetensors") for f in report["files"]), 2)
        self.check(self.out("x"), 10, laminate("evaluate", self.out("x"), *STORIES)["perplexity"])

    def test_folders_made_of_quantised_gguf_files(self):
        for kind in ("Q8_0", "Q4_K_M"):
            source = DATA / f"gguf/stories260K-{kind}.gguf"
            report = laminate("compress", source, "--remove", 1, "--method", "mka", *STORIES, "--out",
                              self.out(kind))
            # Quantised weights become F16, which is measured as it is written.
            self.check(self.out(kind), 4, report["steps"][-1]["perplexity"])
            self.check(self.out(kind), 4, laminate("evaluate", self.out(kind), *STORIES)["perplexity"])

    def test_fitted_layers(self):
        for method in ("laminate", "laminate-search", "replaceme", "prunecomp", "flatten"):
            with self.subTest(method):
                out = self.out(method)
                laminate("compress", "demo", "--remove", 4, "--method", method, "--dtype", "f32", "--out", out)
                theirs, n_layers = perplexity(out)
                logits = self.out(f"{method}.safetensors")
                ours = laminate("evaluate", out, *STORIES, "--logits", logits)["perplexity"]
                self.assertEqual(n_layers, 8)
                self.check_logits(out, logits)
                self.assertLess(abs(theirs / ours - 1), 1e-5, f"{theirs} against {ours}")

    def test_every_architecture(self):
        for name, layers in dict(qwen2=2, qwen3=2, smollm3=4, granite=2, granite4=2, seed_oss=2, ernie4_5=2, ministral3=2, olmo2=2,
                                 olmo3=3, exaone4=2, exaone4_hybrid=4, hunyuan=2, glm4=2, gemma2=3, gemma3=5, gemma4=5, gemma4_dense=3,
                                 phi3=2, mixtral=2, qwen2moe=2, qwen3moe=2, granitemoe=2, jamba=7, lfm2=3, qwen3_5=3,
                                 cohere=2, cohere2=3, gptoss=3, gptoss_mxfp4=3).items():
            for source in ("hf", "model.gguf"):
                for method in ("shortgpt", "mka", "laminate"):
                    # In Gemma 2 and GPT-OSS windows alternate, in Jamba experts: no two neighbours can be averaged.
                    folder = ROOT / "tests/data/architectures" / name / source
                    if not folder.exists() or method == "mka" and name in ("gemma2", "jamba", "gptoss", "gptoss_mxfp4"):
                        continue
                    with self.subTest(f"{name}, {source}, {method}"):
                        out = self.out(f"{name}-{source}-{method}")
                        laminate("compress", folder, "--remove", 1, "--method",
                                 method, "--dtype", "f32", "--samples", 24, "--tokens", 32, "--out", out)
                        self.check(out, layers, laminate("evaluate", out, *STORIES)["perplexity"])

    def test_removed_experts(self):
        for name, layers in dict(mixtral=3, qwen2moe=3, qwen3moe=3, granitemoe=3, jamba=8, gptoss=4,
                                 gptoss_mxfp4=4).items():
            for source in ("hf", "model.gguf"):
                folder = ROOT / "tests/data/architectures" / name / source
                if not folder.exists():
                    continue
                with self.subTest(f"{name}, {source}"):
                    out = self.out(f"{name}-{source}-experts")
                    report = laminate("compress", folder, "--remove-experts", 1, "--dtype", "f32", "--samples", 24,
                                      "--tokens", 32, "--out", out)
                    self.assertTrue(all(len(layer["removed"]) == 1 for layer in report["experts"]))
                    self.check(out, layers, laminate("evaluate", out, *STORIES)["perplexity"])

    def test_experts_that_stay_in_mxfp4(self):
        for remove, experts, layers in ((0, 1, 4), (1, 0, 3), (1, 1, 3)):
            with self.subTest(f"{remove} layers, {experts} experts"):
                out = self.out(f"mxfp4-{remove}-{experts}")
                laminate("compress", ROOT / "tests/data/architectures/gptoss_mxfp4/hf", "--remove", remove, "--remove-experts",
                         experts, "--method", "shortgpt", "--samples", 24, "--tokens", 32, "--out", out)
                config = json.loads((out / "config.json").read_text())
                self.assertEqual(config["quantization_config"]["quant_method"], "mxfp4")
                self.check(decoded(out, self.out(f"decoded-{remove}-{experts}")), layers,
                           laminate("evaluate", out, *STORIES)["perplexity"])

    def packed(self, variant):
        """A packed model of the fixtures, with a tokenizer."""
        folder = self.out(variant)
        folder.mkdir()
        for file in ("config.json", "model.safetensors"):
            shutil.copyfile(ROOT / "tests/data/packed" / variant / file, folder / file)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(DATA / "stories260K" / file, folder / file)
        return folder

    def test_packed_models(self):
        for variant in ("ct_int4", "ct_int4_asym", "ct_int8", "ct_w8a8", "gptq", "gptq_ordered", "gptq_int8", "awq"):
            source = self.packed(variant)
            others = dict(ct_int4=[("laminate", "keep")], ct_int8=[("mka", "int4")], gptq=[("shortgpt", "keep"), ("mka", "int4")])
            for method, dtype in [("mka", "keep"), *others.get(variant, [])]:
                with self.subTest(f"{variant}, {method}, {dtype}"):
                    out = self.out(f"{variant}-{method}-{dtype}")
                    laminate("compress", source, "--remove", 1, "--method", method, "--dtype", dtype, "--samples", 24,
                             "--tokens", 32, "--out", out)
                    settings = json.loads((out / "config.json").read_text())["quantization_config"]
                    self.check_packed(out, settings)

    def check_packed(self, out, settings):
        """Checks a model of three layers, by what we make of its pieces and by what the package makes of them."""
        logits = self.out(f"{out.name}.safetensors")
        ours = laminate("evaluate", out, *STORIES, "--logits", logits)["perplexity"]
        groups = settings.get("config_groups", {}).values()
        rounds_inputs = any(group.get("input_activations") for group in groups)
        kind = W8A8 if rounds_inputs else lambda kind: kind
        plain = unpacked(out, self.out(f"{out.name}-plain"))
        loads = [(plain, kind(AutoModelForCausalLM))]
        if settings["quant_method"] == "compressed-tensors" and importlib.util.find_spec("compressed_tensors"):
            loads.append((out, kind(Dequantised)))
        for folder, by in loads:
            self.check(folder, 3, ours, by)
            self.check_logits(folder, logits, by, rounds_inputs)

    def test_models_rounded_by_their_inputs(self):
        source = self.packed("ct_int8")
        pairs = [("int4", "nearest"), ("int4", "gptq"), ("int4", "awq"), ("int8", "nearest"), ("int8", "smoothquant"),
                 ("gptq-int4", "gptq"), ("gptq-int4", "awq")]
        for method in ("mka", "laminate"):
            for dtype, rounding in pairs:
                with self.subTest(f"{method}, {dtype}, {rounding}"):
                    out = self.out(f"{method}-{dtype}-{rounding}")
                    report = laminate("compress", source, "--remove", 1, "--method", method, "--dtype", dtype,
                                      "--rounding", rounding, "--samples", 24, "--tokens", 32, "--out", out)
                    self.assertEqual(report["recipe"]["output"]["rounding"], rounding)
                    settings = json.loads((out / "config.json").read_text())["quantization_config"]
                    self.assertEqual(settings["quant_method"], "gptq" if "gptq" in dtype else "compressed-tensors")
                    self.check_packed(out, settings)

    def test_decoders_with_image_encoders(self):
        for name, layers in dict(gemma3=5, gemma4_dense=3, ministral3=2, qwen3_5=3).items():
            source = ROOT / "tests/data/architectures" / f"{name}_wrapped/hf"
            for method in ("shortgpt", "mka", "laminate"):
                with self.subTest(f"{name}, {method}"):
                    out = self.out(f"{name}-{method}")
                    laminate("compress", source, "--remove", 1, "--method", method, "--dtype", "f32", "--samples", 24,
                             "--tokens", 32, "--out", out)
                    self.check(out, layers, laminate("evaluate", out, *STORIES)["perplexity"], AutoModelForImageTextToText)
                    before, after = (load_file(folder / "model.safetensors") for folder in (source, out))
                    others = [key for key in before if "language_model" not in key]
                    self.assertGreater(len(others), 9)
                    for key in others:
                        self.assertEqual(before[key].dtype, after[key].dtype)
                        self.assertTrue(torch.equal(before[key].view(torch.int16), after[key].view(torch.int16)), key)
                    self.assertEqual({key for key in after if "language_model" not in key}, set(others))

    def test_sets_of_layers_that_leave_periods(self):
        for source in ("hf", "model.gguf"):
            for remove in (2, 4):
                for method in ("shortgpt", "laminate"):
                    with self.subTest(f"{source}, {remove}, {method}"):
                        out = self.out(f"{source}-{remove}-{method}")
                        laminate("compress", ROOT / "tests/data/architectures/jamba" / source, "--remove", remove, "--method",
                                 method, "--dtype", "f32", "--samples", 24, "--tokens", 32, "--out", out)
                        self.check(out, 8 - remove, laminate("evaluate", out, *STORIES)["perplexity"])

    def test_a_repeated_recipe_gives_the_same_bytes(self):
        for method in ("mka", "laminate"):
            one, two = self.out(method), self.out(method + "-again")
            laminate("compress", "demo", "--remove", 3, "--method", method, "--out", one)
            laminate("compress", "demo", "--recipe", one / "recipe.json", "--out", two)
            self.assertEqual(*((folder / "model.safetensors").read_bytes() for folder in (one, two)))


if __name__ == "__main__":
    sys.exit(unittest.main())
