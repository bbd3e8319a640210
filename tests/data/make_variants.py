"""Tiny random models, one for each thing that a Llama-family configuration can vary, and what transformers
computes with them.

usage: make_variants.py OUT_DIR

Writes OUT_DIR/<name>/{config.json, *.safetensors, golden.json}; a tokenizer is not included. Needs torch and
transformers.
"""
import json, pathlib, sys
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

BASE = dict(vocab_size=512, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=None,
            tie_word_embeddings=True, rms_norm_eps=1e-5, initializer_range=0.3)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
VARIANTS = {
    "multi-query-untied": (LlamaForCausalLM, LlamaConfig, dict(num_key_value_heads=1, tie_word_embeddings=False)),
    "multi-head-biases": (LlamaForCausalLM, LlamaConfig, dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True)),
    "wide-heads-theta": (LlamaForCausalLM, LlamaConfig, dict(head_dim=12, rope_parameters=dict(rope_type="default", rope_theta=500000.0))),
    "rope-llama3": (LlamaForCausalLM, LlamaConfig, dict(rope_parameters=LLAMA3)),
    "rope-linear": (LlamaForCausalLM, LlamaConfig, dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0))),
    "mistral-window": (MistralForCausalLM, MistralConfig, dict(sliding_window=7, tie_word_embeddings=False)),
    "bf16-shards": (LlamaForCausalLM, LlamaConfig, dict()),
    "rope-yarn": (LlamaForCausalLM, LlamaConfig,
        dict(rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=32, beta_fast=4.0))),
    "rope-yarn-odd": (LlamaForCausalLM, LlamaConfig,
        dict(rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64, attention_factor=0.9, truncate=False))),
    "rope-dynamic": (LlamaForCausalLM, LlamaConfig,
        dict(rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=4.0))),
}

out = pathlib.Path(sys.argv[1])
for seed, (name, (Model, Config, changes)) in enumerate(VARIANTS.items()):
    torch.manual_seed(seed)
    model = Model(Config(**{**BASE, **changes})).eval()
    with torch.no_grad():
        for p in model.parameters():  # norms and biases too, so that forgetting one shows
            if p.dim() == 1: p.copy_(torch.rand_like(p) + 0.5)
    half = torch.bfloat16 if name == "bf16-shards" else torch.float16
    model = model.to(half)
    model.save_pretrained(out / name, max_shard_size="20KB" if name == "bf16-shards" else "5GB")
    (out / name / "generation_config.json").unlink(missing_ok=True)
    # Loaded anew, because a cast to half and back has rounded the rotary frequencies as well.
    model = Model.from_pretrained(out / name, dtype=torch.float32).eval()
    ids = torch.randint(3, 512, (2, 40)); ids[:, 0] = 1
    states = []
    hooks = [l.register_forward_hook(lambda _, i, o: states.append((o[0] if isinstance(o, tuple) else o).clone())) for l in model.model.layers]
    with torch.no_grad(): logits = model(ids, use_cache=False).logits.double()
    [h.remove() for h in hooks]
    log_p = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None])
    golden = {"ids": ids.tolist(), "nll": -log_p.sum().item(),
              "last_state_first8": [s[1, -1, :8].tolist() for s in states]}
    (out / name / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, golden["nll"], sum(f.stat().st_size for f in (out / name).iterdir()))
