"""Two small random models in which some layers change next to nothing: fixtures of `tests/engine/planted.rs`.

usage: make_planted.py OUT_DIR TOKENIZER_DIR

Writes OUT_DIR/{qwen3,jamba} as Hugging Face directories in F16, with the tokenizer of TOKENIZER_DIR. What the layers in
PLANTED write to the residual stream is a hundredth of what the others write. Needs torch and transformers.
"""
import pathlib, shutil, sys

import torch
from transformers import JambaConfig, JambaForCausalLM, Qwen3Config, Qwen3ForCausalLM

COMMON = dict(vocab_size=512, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0, num_attention_heads=4,
              num_key_value_heads=2, tie_word_embeddings=True)
MODELS = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**COMMON, hidden_size=48, intermediate_size=64, head_dim=16, num_hidden_layers=10)),
    "jamba": (JambaForCausalLM, JambaConfig(**COMMON, hidden_size=32, intermediate_size=32, num_hidden_layers=12, num_experts=4,
              num_experts_per_tok=2, attn_layer_period=4, attn_layer_offset=2, expert_layer_period=2, expert_layer_offset=1,
              mamba_d_state=8)),
}
# In Jamba one layer of each kind: Mamba and an MLP, Mamba and experts, attention.
PLANTED = {"qwen3": [3, 4, 7], "jamba": [4, 7, 10]}
WRITES = ("o_proj", "out_proj", "down_proj")

out, tokenizer = map(pathlib.Path, sys.argv[1:])
for seed, (name, (Model, config)) in enumerate(MODELS.items()):
    torch.manual_seed(seed)
    model = Model(config).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if key.endswith(("A_log", ".D")):
                continue
            if p.dim() == 1:
                p.copy_(torch.rand_like(p) + 0.5 if "bias" not in key else 0.1 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) / p.shape[-1] ** 0.5)
            layer = key.split(".layers.")[1].split(".")[0] if ".layers." in key else None
            if layer and int(layer) in PLANTED[name] and any(word in key for word in WRITES):
                p.mul_(0.01)
    model.half().save_pretrained(out / name)
    (out / name / "generation_config.json").unlink(missing_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / file, out / name / file)
    print(name, sum(f.stat().st_size for f in (out / name).iterdir()))
