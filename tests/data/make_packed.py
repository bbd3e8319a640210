"""Makes small random Llama models whose weights are packed by compressed-tensors, GPTQ and AWQ, with golden values.

usage: make_packed.py TOKENIZER TARGET

TOKENIZER is a folder with tokenizer.json and tokenizer_config.json (tests/data/models/stories260K). TARGET gets a Hugging
Face directory for each variant, with `golden.safetensors` beside the model: `plain.NAME`, the weights of layer 1 as loaders
make floats of them; `token_ids`; and by transformers in f32 with these floats `embedding`, `layer_N` (the states after layer
N) and `nll` of the next tokens. Where the settings tell to round activations (`ct_w8a8`), what these matrices multiply is
rounded to 8 bits, each token by itself, with the scale of its largest magnitude / 127, as vLLM does.

Packages: torch, transformers, compressed-tensors 0.20 (with loguru and psutil). Pieces of compressed-tensors are packed and
unpacked by its own functions; those of GPTQ and AWQ from the definition of their layouts (AutoGPTQ's `QuantLinear.pack`,
AutoAWQ's `WQLinear_GEMM.from_linear`), by numpy.
"""
import json, pathlib, shutil, sys

import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

tokenizer, target = map(pathlib.Path, sys.argv[1:])
LAYERS, HIDDEN, INNER, HEADS, KV, VOCAB = 4, 32, 64, 2, 1, 512
IDS = torch.randint(3, VOCAB, (2, 16), generator=torch.Generator().manual_seed(5))
IDS[:, 0] = 1


def base():
    torch.manual_seed(20261130)
    settings = LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=True)
    model = LlamaForCausalLM(settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 1.0 / parameter.shape[-1] ** 0.5 if parameter.dim() == 2 else 0.2
            parameter.normal_(1.0 if "norm" in name else 0.0, spread)
    return model


def groups(weight, bits, size, symmetric, dtype):
    """Scales and zero points `[out, groups]` by the smallest and largest weight of each group."""
    grouped = weight.reshape(weight.shape[0], -1, size)
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
    top = 2 ** bits - 1
    if symmetric:
        scale = (torch.maximum(-low, high) / (top / 2)).to(dtype)
        return scale, torch.full(scale.shape, 2 ** (bits - 1))
    scale = ((high - low) / top).to(dtype)
    return scale, (-low / scale.float()).round().clamp(1, top).to(torch.int64)


def codes(weight, scale, zero, bits, of_column):
    return ((weight / scale.float()[:, of_column]).round() + zero[:, of_column]).clamp(0, 2 ** bits - 1).to(torch.int64)


def words(numbers, bits, order=None):
    """Packs neighbours along the first dimension into int32, the first in the lowest bits."""
    per = 32 // bits
    numbers = numbers.numpy().astype(np.uint32).reshape(-1, per, numbers.shape[1])
    packed = np.zeros((numbers.shape[0], numbers.shape[2]), np.uint32)
    for place, number in enumerate(order or range(per)):
        packed |= numbers[:, number] << np.uint32(bits * place)
    return torch.from_numpy(packed.astype(np.int32))


def floats(q, zero, scale, of_column):
    # As GPTQModel and AutoAWQ do: whole numbers, then one product in the type of the scales.
    return (q - zero[:, of_column]).to(scale.dtype) * scale[:, of_column]


def compressed(bits, size, symmetric, dtype, layout):
    def pack(weight):
        columns = weight.shape[1]
        strategy = dict(strategy="group", group_size=size) if size else dict(strategy="channel")
        scheme = QuantizationScheme(targets=["Linear"], weights=dict(num_bits=bits, type="int", symmetric=symmetric, **strategy))
        scale, zero = groups(weight, bits, size or columns, symmetric, dtype)
        state = {"weight": weight.to(dtype), "weight_scale": scale}
        if not symmetric:
            state["weight_zero_point"] = (zero - 2 ** (bits - 1)).to(torch.int8)
        compressor = BaseCompressor.get_value_from_registry(layout)
        packed = compressor.compress(state, scheme)
        plain = compressor.decompress(dict(packed), scheme)["weight"]
        return {"." + name: value for name, value in packed.items()}, plain
    return pack


def gptq(bits, size, symmetric, less_one, ordered):
    def pack(weight):
        columns = weight.shape[1]
        of_column = torch.arange(columns) // (size or columns)
        if ordered:
            of_column = of_column[torch.randperm(columns, generator=torch.Generator().manual_seed(columns))]
            sorted_columns = torch.argsort(of_column, stable=True)
            scale, zero = groups(weight[:, sorted_columns], bits, size or columns, symmetric, torch.float16)
        else:
            scale, zero = groups(weight, bits, size or columns, symmetric, torch.float16)
        q = codes(weight, scale, zero, bits, of_column)
        pieces = {
            ".qweight": words(q.T.contiguous(), bits),
            ".qzeros": words((zero - less_one).contiguous(), bits).T.contiguous(),
            ".scales": scale.T.contiguous(),
            ".g_idx": of_column.to(torch.int32),
        }
        return pieces, floats(q, zero, scale, of_column)
    return pack


def awq(size):
    def pack(weight):
        of_column = torch.arange(weight.shape[1]) // size
        scale, zero = groups(weight, 4, size, False, torch.float16)
        q = codes(weight, scale, zero, 4, of_column)
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        pieces = {
            ".qweight": words(q, 4, order).T.contiguous(),
            ".qzeros": words(zero, 4, order).T.contiguous(),
            ".scales": scale.T.contiguous(),
        }
        return pieces, floats(q, zero, scale, of_column)
    return pack


def settings_of(bits, size, symmetric, layout, ignore, activations=None, targets=("Linear",)):
    strategy = dict(strategy="group", group_size=size) if size else dict(strategy="channel", group_size=None)
    group = {
        "targets": list(targets), "input_activations": activations, "output_activations": None, "format": layout,
        "weights": {"num_bits": bits, "type": "int", "symmetric": symmetric, "dynamic": False, "actorder": None, **strategy},
    }
    return {"quant_method": "compressed-tensors", "format": layout, "quantization_status": "compressed",
            "config_groups": {"group_0": group}, "ignore": list(ignore), "kv_cache_scheme": None}


TOKENS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
VARIANTS = {
    # name: type of the scales, packing of a matrix, modules that stay plain, settings
    "ct_int4": (torch.bfloat16, compressed(4, 32, True, torch.bfloat16, "pack-quantized"), ["model.layers.1.mlp.down_proj"],
                settings_of(4, 32, True, "pack-quantized", ["lm_head", "model.layers.1.mlp.down_proj"])),
    "ct_int4_asym": (torch.float16, compressed(4, 16, False, torch.float16, "pack-quantized"), [],
                     settings_of(4, 16, False, "pack-quantized", ["re:.*lm_head"], targets=["re:.*self_attn.*_proj$", "re:.*mlp.*"])),
    "ct_int8": (torch.float16, compressed(8, None, True, torch.float16, "pack-quantized"), [],
                settings_of(8, None, True, "pack-quantized", ["lm_head"])),
    "ct_w8a8": (torch.bfloat16, compressed(8, None, True, torch.bfloat16, "int-quantized"), [],
                settings_of(8, None, True, "int-quantized", ["lm_head"], TOKENS)),
    "gptq": (torch.float16, gptq(4, 32, True, 1, False), [],
             {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False, "checkpoint_format": "gptq"}),
    "gptq_ordered": (torch.float16, gptq(4, 16, False, 0, True), ["model.layers.1.self_attn.v_proj"],
                     {"quant_method": "gptq", "bits": 4, "group_size": 16, "sym": False, "desc_act": True,
                      "checkpoint_format": "gptq_v2", "dynamic": {"-:.*v_proj": {}}}),
    "gptq_int8": (torch.float16, gptq(8, None, False, 1, False), [],
                  {"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": False, "desc_act": False}),
    "awq": (torch.float16, awq(32), ["model.layers.2.self_attn.v_proj"],
            {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm",
             "modules_to_not_convert": ["lm_head", "model.layers.2.self_attn.v_proj"]}),
}

def rounded_to_bytes(_, inputs):
    x, = inputs
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale).round() * scale,


for variant, (dtype, pack, plain_modules, quantisation) in VARIANTS.items():
    folder = target / variant
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model, stored, golden = base(), {}, {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            module, is_linear = name.removesuffix(".weight"), name.split(".")[-2] in LINEAR
            if variant == "gptq_ordered" and name.endswith("v_proj.weight"):
                is_linear = False
            if is_linear and module not in plain_modules:
                if variant == "ct_w8a8":
                    model.get_submodule(module).register_forward_pre_hook(rounded_to_bytes)
                pieces, plain = pack(parameter.detach().clone())
                stored |= {module + end: piece for end, piece in pieces.items()}
                assert plain.dtype == dtype
            else:
                stored[name] = plain = parameter.detach().to(dtype).contiguous()
            if ".layers.1." in name:
                golden["plain." + name] = plain.contiguous()
            parameter.copy_(plain.float())
        keep = lambda name: lambda _, __, out: golden.update({name: (out if torch.is_tensor(out) else out[0]).clone()})
        model.model.embed_tokens.register_forward_hook(keep("embedding"))
        for number, block in enumerate(model.model.layers):
            block.register_forward_hook(keep(f"layer_{number}"))
        log = torch.log_softmax(model(IDS).logits.double(), -1)
    golden["nll"] = -log[:, :-1].gather(-1, IDS[:, 1:, None])[..., 0].float().contiguous()
    golden["token_ids"] = IDS.to(torch.int32)
    settings = model.config.to_dict() | {"architectures": ["LlamaForCausalLM"], "quantization_config": quantisation}
    settings |= {"dtype": str(dtype).removeprefix("torch."), "_name_or_path": ""}
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    save_file(dict(sorted(stored.items())), folder / "model.safetensors", metadata={"format": "pt"})
    save_file(golden, folder / "golden.safetensors")
    print(variant, golden["nll"].mean().item(), sum(f.stat().st_size for f in folder.iterdir()))
