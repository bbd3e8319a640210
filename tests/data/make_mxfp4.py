"""Makes a tiny GPT-OSS whose experts are in MXFP4, as published models are, and what transformers computes with it.

usage: make_mxfp4.py PLAIN TARGET

PLAIN is the fixture of a GPT-OSS without MXFP4, whose tokenizer, configuration and token ids are taken. TARGET gets a Hugging
Face directory `hf` and `golden.safetensors`, as pack_architectures.py writes them. There is no GGUF file. The experts are
drawn as blocks and exponents; transformers computes with the numbers that `convert_moe_packed_tensors` makes of them.
"""
import json, pathlib, shutil, sys

import numpy as np
import torch
from safetensors.numpy import load_file as load_numpy, save_file as save_numpy
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

plain, target = map(pathlib.Path, sys.argv[1:])
shutil.rmtree(target, ignore_errors=True)
(target / "hf").mkdir(parents=True)
for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
    shutil.copyfile(plain / "hf" / name, target / "hf" / name)
for name in ("config.json", "config.v5.json"):
    # Rows of whole blocks, and a width between the projections that is not that of the stream.
    config = json.loads((plain / "hf" / name).read_text()) | {"hidden_size": 64, "intermediate_size": 32}
    config["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
    }
    (target / "hf" / name).write_text(json.dumps(config, indent=2) + "\n")

torch.manual_seed(20261129)
torch.set_num_threads(1)
settings = AutoConfig.from_pretrained(target / "hf")
del settings.quantization_config
model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32, attn_implementation="eager").eval()
stored = {}
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, n_in, n_out = parameter.shape
            blocks = torch.randint(0, 256, (experts, n_out, n_in // 32, 16), dtype=torch.uint8)
            scales = torch.randint(120, 124, (experts, n_out, n_in // 32), dtype=torch.uint8)
            stored |= {name + "_blocks": blocks, name + "_scales": scales}
            parameter.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
            continue
        spread = 2.0 / parameter.shape[-1] ** 0.5 if parameter.dim() == 2 else 0.5
        parameter.normal_(1.0 if "norm" in name else 0.0, 0.2 if "norm" in name else spread)
        parameter.copy_(parameter.to(torch.bfloat16))
        stored[name] = parameter.detach().to(torch.bfloat16).contiguous()
save_file(stored, target / "hf/model.safetensors", metadata={"format": "pt"})

golden = {"token_ids": load_numpy(plain / "golden.safetensors")["token_ids"]}
ids = torch.from_numpy(golden["token_ids"].astype(np.int64))


def keep(name, value):
    golden[name] = np.ascontiguousarray(value[:2].numpy())


def routed(layer):
    def keep_routes(_, __, output):
        _, gates, chosen = output
        n = ids.shape[1]
        gates, order = gates[:n].sort(-1, descending=True)
        golden[f"experts_{layer}"] = chosen[:n].gather(-1, order).numpy().astype(np.int32)
        golden[f"gates_{layer}"] = gates.numpy()

    return keep_routes


for layer, block in enumerate(model.model.layers):
    block.register_forward_hook(lambda _, __, out, layer=layer: keep(f"layer_{layer}", out if torch.is_tensor(out) else out[0]))
    block.mlp.router.register_forward_hook(routed(layer))
model.model.embed_tokens.register_forward_hook(lambda _, __, out: keep("embedding", out))
with torch.no_grad():
    log = torch.log_softmax(model(ids).logits.double(), -1)
golden["nll"] = -log[:, :-1].gather(-1, ids[:, 1:, None])[..., 0].numpy().astype(np.float32)
save_numpy(golden, target / "golden.safetensors")
print(golden["nll"].mean(), {name: value.shape for name, value in golden.items()})
