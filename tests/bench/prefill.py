"""Tokens per second of a prefill by PyTorch in f32: what the prefill benchmarks compare with.

usage: prefill.py MODEL_DIR THREADS

Eight sequences of 256 tokens through transformers' model and head; prints the median of three runs.
"""
import sys, time
import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(int(sys.argv[2]))
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
ids = torch.randint(5, model.config.vocab_size, (8, 256))
seconds = []
with torch.no_grad():
    model(ids, use_cache=False)
    for _ in range(3):
        start = time.perf_counter()
        model(ids, use_cache=False)
        seconds.append(time.perf_counter() - start)
print(ids.numel() / sorted(seconds)[1])
