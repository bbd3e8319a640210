"""Trains the small model with experts on which docs/RESULTS.md compares ways to remove experts: a Mixtral.

usage: make_experts.py TARGET_DIR [STEPS]

Needs torch and transformers. The model has 8 layers, a hidden size of 96, and 8 experts of which 2 serve a token. It
reads `src/demo/text.txt` (stories) and `src/prose/calibration.txt` (encyclopedia articles) with the demo's tokenizer,
never `src/demo/evaluation.txt`, on which it is judged. One thread and a fixed seed, so that the same versions of both
packages give the same model: 5 minutes. The numbers are measured by `tests/methods/compare_experts.py`.
"""
import pathlib, shutil, sys, time
import torch
from tokenizers import Tokenizer
from transformers import MixtralConfig, MixtralForCausalLM

ROOT = pathlib.Path(__file__).parents[2]
DEMO = ROOT / "src/demo"
TEXTS = [DEMO / "text.txt", ROOT / "src/prose/calibration.txt"]
BATCH, LENGTH, RATE, WARMUP = 24, 64, 3e-3, 60


def mixtral():
    return MixtralForCausalLM(MixtralConfig(
        vocab_size=512, hidden_size=96, intermediate_size=128, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2, sliding_window=None,
        max_position_embeddings=512, tie_word_embeddings=True, output_router_logits=True, router_aux_loss_coef=0.02,
        initializer_range=0.06, use_cache=False, bos_token_id=1, eos_token_id=2, pad_token_id=0))


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


def main(target, steps=1000):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    ids = torch.tensor([i for path in TEXTS for i in tokenizer.encode(path.read_text(), add_special_tokens=False).ids])
    net = mixtral()
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, {len(ids):,} tokens of text")
    train(net.train(), ids, int(steps))
    target = pathlib.Path(target)
    net.config.output_router_logits = False
    net.save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (DEMO / name).exists():
            shutil.copy(DEMO / name, target / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
