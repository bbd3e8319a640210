"""Trains a small language model of another kind than SmolLM2, to try methods on: by default of 3.5 million parameters
in 16 layers of width 128, with biases of q, k, v and o, untied embeddings, and a vocabulary of 2048 of its own.

    python train_small.py OUT MINUTES TEXT...

Each tenth block of 8,000 characters of the texts is held back: OUT gets `model` (a Hugging Face directory), and the
held back text in two halves, `calibration.txt` and `heldout.txt`.
"""
import os
import sys
import time

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BLOCK, EVERY = 8000, 10
BATCH, LENGTH, RATE, WARMUP = 8, 256, 3e-3, 100


def split(paths):
    """All blocks but each tenth, and those in turn."""
    train, held = [], ([], [])
    for path in paths:
        with open(path, encoding='utf8') as file:
            text = file.read()
        for i, start in enumerate(range(0, len(text), BLOCK)):
            block = text[start:start + BLOCK]
            (held[i // EVERY % 2] if i % EVERY == EVERY - 1 else train).append(block)
    return train, [''.join(blocks) for blocks in held]


def tokenizer(blocks, vocabulary):
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(blocks, vocab_size=vocabulary, min_frequency=2, special_tokens=['<s>', '</s>'])
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token='<s>', eos_token='</s>')


def model(vocabulary):
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=128, intermediate_size=352, num_hidden_layers=16, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, attention_bias=True, tie_word_embeddings=False,
        rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=1))


def train(net, ids, minutes):
    matrices = [p for p in net.parameters() if p.ndim == 2]
    vectors = [p for p in net.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW([{'params': matrices, 'weight_decay': .1}, {'params': vectors, 'weight_decay': 0}],
                                  lr=RATE, betas=(.9, .95))
    net.train()
    start, step, running = time.time(), 0, None
    while (done := (time.time() - start) / (60 * minutes)) < 1:
        rate = RATE * min(1, (step + 1) / WARMUP) * max(.02, 1 - done)
        for group in optimiser.param_groups:
            group['lr'] = rate
        at = torch.randint(len(ids) - LENGTH, (BATCH,))
        batch = torch.stack([ids[i:i + LENGTH] for i in at])
        batch[:, 0] = 0  # BOS, as every sequence begins with it
        with torch.autocast('cpu', torch.bfloat16):
            loss = net(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        running = loss.item() if running is None else .98 * running + .02 * loss.item()
        if step % 100 == 0:
            print(f'{step} steps, {step * BATCH * LENGTH:,} tokens, {time.time() - start:.0f} s, loss {running:.3f}', flush=True)
        step += 1
    print(f'{step * BATCH * LENGTH:,} tokens of {len(ids):,}, loss {running:.3f}')


def main(out, minutes, *paths):
    torch.manual_seed(0)
    os.makedirs(out, exist_ok=True)
    blocks, held = split(paths)
    for name, text in zip(('calibration', 'heldout'), held):
        with open(os.path.join(out, name + '.txt'), 'w', encoding='utf8') as file:
            file.write(text)
    tokens = tokenizer(blocks, 2048)
    torch.manual_seed(0)
    order = torch.randperm(len(blocks)).tolist()
    ids = torch.tensor([i for b in order for i in tokens.encode(blocks[b], add_special_tokens=False)])
    net = model(2048)
    train(net, ids, float(minutes))
    net.float().save_pretrained(os.path.join(out, 'model'))
    tokens.save_pretrained(os.path.join(out, 'model'))


if __name__ == '__main__':
    main(*sys.argv[1:])
