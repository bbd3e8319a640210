"""Stores a Hugging Face directory in F16, as the embedded demo is, with its weights in planes (src/demo/planes.rs).

usage: make_demo.py SOURCE_DIR TARGET_DIR

Needs torch and safetensors. The demo is `stories-planted-12L`: karpathy's tinyllamas stories260K (MIT)
with seven near no-op layers inserted, so that the right answer is known.
"""
import json, pathlib, shutil, sys
import torch
from safetensors.torch import load_file, save_file

source, target = map(pathlib.Path, sys.argv[1:])
target.mkdir(parents=True, exist_ok=True)
tensors = {name: t.to(torch.float16) for name, t in load_file(source / "model.safetensors").items()}
save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
file = (target / "model.safetensors").read_bytes()
start = 8 + int.from_bytes(file[:8], "little")
(target / "model.safetensors.planes").write_bytes(file[:start] + file[start + 1::2] + file[start::2])
(target / "model.safetensors").unlink()
config = json.loads((source / "config.json").read_text())
config["dtype"] = "float16"
(target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
    shutil.copy(source / name, target / name)
