"""Packs tiny models and what transformers computes with them as fixtures of `tests/engine/architectures.rs`.

usage: pack_architectures.py SOURCE TARGET NAME...

SOURCE/NAME holds a random model as a Hugging Face directory (`hf`, with `config.json` as transformers 4 and
`config.v5.json` as transformers 5 spells it), as `model.gguf` where llama.cpp can compute the model, and `golden.json` and `states.npz` by transformers.
TARGET/NAME gets the models as they are and one file `golden.safetensors`: the token ids, the negative log-likelihood of
each token but the first (also that of llama.cpp, `gguf_nll`, where it computes something else), the states of the first sequences after the embedding and after each layer, and, where layers have
experts, those that were chosen for each token, and their gates.
"""
import json, pathlib, shutil, sys

import numpy as np
from safetensors.numpy import save_file



def exact(folder, tensors):
    """What transformers computes in 64-bit floats, of the same tensors."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    ids, n = torch.tensor(tensors["token_ids"].astype(np.int64)), len(tensors["layer_0"])
    found = {}

    def keep(key):
        def hook(_, inputs, output):
            found[key] = (output[0] if isinstance(output, tuple) else output)[:n].float().numpy().copy()
        return hook

    for layer, module in enumerate(model.model.layers):
        module.register_forward_hook(keep(f"layer_{layer}"))
    with torch.no_grad():
        log_p = torch.log_softmax(model(ids).logits[:, :-1], -1)
    found["nll"] = -log_p.gather(-1, ids[:, 1:, None])[..., 0].float().numpy()
    assert all(found[key].shape == tensors[key].shape for key in found)
    return found


source, target, *names = sys.argv[1:]
for name in names:
    given, made = pathlib.Path(source) / name, pathlib.Path(target) / name
    shutil.rmtree(made, ignore_errors=True)
    (made / "hf").mkdir(parents=True)
    for file in (given / "hf").iterdir():
        shutil.copyfile(file, made / "hf" / file.name)
    # llama.cpp cannot compute every model.
    if (given / "model.gguf").exists():
        shutil.copyfile(given / "model.gguf", made / "model.gguf")
    golden, states = json.loads((given / "golden.json").read_text()), np.load(given / "states.npz")
    tensors = {"token_ids": np.array(golden["token_ids"], np.int32), "nll": np.array(golden["nll"], np.float32)}
    # Where llama.cpp computes something else, but for the table of 16-bit floats by which it rounds GELU.
    if "gguf_nll" in golden and not golden["model_type"].startswith("gemma"):
        tensors["gguf_nll"] = np.array(golden["gguf_nll"], np.float32)
    for layer, tokens in golden.get("experts", {}).items():
        tensors[f"experts_{layer}"] = np.array([token["experts"] for token in tokens], np.int32)
        tensors[f"gates_{layer}"] = np.array([token["gates"] for token in tokens], np.float32)
    tensors |= {key: np.ascontiguousarray(states[key]) for key in states.files if key != "final"}
    if json.loads((given / "hf/config.json").read_text()).get("hidden_size_per_layer_input"):
        # A norm after a product of 8 numbers makes much of the rounding of 32-bit floats.
        tensors |= exact(given / "hf", tensors)
    save_file(tensors, made / "golden.safetensors")
