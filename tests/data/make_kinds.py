"""Trains the two small models of the guided walk's screen on kinds of layers: a Jamba and a Mixtral.

usage: make_kinds.py jamba|mixtral TARGET_DIR [STEPS]

Needs torch and transformers. Both read `src/demo/text.txt` (stories) and `src/prose/calibration.txt` (encyclopedia
articles) with the demo's tokenizer, never `src/demo/evaluation.txt`, on which their layers are compared. One thread and
a fixed seed, so that the same versions of both packages give the same model, in 15 minutes (jamba) and 5. Then

    node scripts/kinds.mjs LAMINATE JAMBA_DIR MIXTRAL_DIR

stores what the walk shows.
"""
import json, pathlib, shutil, sys, time
import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import JambaConfig, JambaForCausalLM, MixtralConfig, MixtralForCausalLM
from transformers.models.jamba import modeling_jamba

ROOT = pathlib.Path(__file__).parents[2]
DEMO = ROOT / "src/demo"
TEXTS = [DEMO / "text.txt", ROOT / "src/prose/calibration.txt"]
BATCH, LENGTH, RATE, WARMUP = 16, 64, 3e-3, 60
COMMON = dict(vocab_size=512, hidden_size=96, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2,
              num_experts_per_tok=2, max_position_embeddings=512, tie_word_embeddings=True, output_router_logits=True,
              router_aux_loss_coef=0.02, initializer_range=0.06, use_cache=False, bos_token_id=1, eos_token_id=2,
              pad_token_id=0)


def jamba():
    """12 layers; attention in each fourth and Mamba in the others; experts in every second."""
    return JambaForCausalLM(JambaConfig(
        num_hidden_layers=12, attn_layer_period=4, attn_layer_offset=2, expert_layer_period=2, expert_layer_offset=1,
        num_experts=4, mamba_d_state=8, mamba_d_conv=4, mamba_expand=2, mamba_dt_rank=6, **COMMON))


def mixtral():
    """10 layers, each with attention and four experts."""
    return MixtralForCausalLM(MixtralConfig(num_hidden_layers=10, num_local_experts=4, sliding_window=None, **COMMON))


def scan(u, dt, a, b, c, D, z, delta_bias, **_):
    """Mamba's recurrence, for transformers' own in the same argument order. That one picks each step out of the whole
    sequence, so that its backward pass writes the whole sequence for each step; here the steps are parted once."""
    dt = functional.softplus(dt + delta_bias[:, None])
    decay = torch.exp(a[:, None, :] * dt[..., None]).unbind(2)
    written = (b.transpose(1, 2)[:, None] * (dt * u)[..., None]).unbind(2)
    state, states = 0, []
    for kept, added in zip(decay, written):
        state = kept * state + added
        states.append(state)
    out = torch.einsum("bdtn,bnt->bdt", torch.stack(states, 2), c)
    return (out + u * D[:, None]) * functional.silu(z)


def train(net, ids, steps):
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, betas=(.9, .95), weight_decay=.1)
    start, running = time.time(), None
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * max(.02, 1 - step / steps)
        at = torch.randint(len(ids) - LENGTH, (BATCH,))
        batch = torch.stack([ids[i:i + LENGTH] for i in at])
        batch[:, 0] = 1  # BOS, as every sequence begins with it
        loss = net(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        running = loss.item() if running is None else .98 * running + .02 * loss.item()
        if step % 100 == 0:
            print(f"step {step}, {time.time() - start:.0f} s, loss {running:.3f}", flush=True)
    print(f"{steps} steps, {steps * BATCH * LENGTH:,} tokens, {time.time() - start:.0f} s, loss {running:.3f}")


def main(kind, target, steps=1200):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    ids = torch.tensor([i for path in TEXTS for i in tokenizer.encode(path.read_text(), add_special_tokens=False).ids])
    modeling_jamba.mamba_selective_scan = scan
    net = {"jamba": jamba, "mixtral": mixtral}[kind]()
    print(f"{kind}: {sum(p.numel() for p in net.parameters()):,} parameters, {len(ids):,} tokens of text")
    train(net.train(), ids, int(steps))
    target = pathlib.Path(target)
    net.config.output_router_logits = False
    net.save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(DEMO / name, target / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
