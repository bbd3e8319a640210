"""A small SentencePiece model, and the ids that SentencePiece gives: fixtures of `tests/engine/sentence_piece.rs`.

usage: make_sentencepiece.py TEXT OUT_DIR

Writes OUT_DIR/tokenizer.model, a BPE model of 512 pieces with bytes that was trained on TEXT as Llama's was, and
OUT_DIR/ids.json, texts and their ids. Needs sentencepiece.
"""
import json, pathlib, sys

import sentencepiece

text, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)
sentencepiece.SentencePieceTrainer.train(
    input=str(text), model_prefix=str(out / "tokenizer"), vocab_size=512, model_type="bpe", byte_fallback=True,
    normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, num_threads=1)
(out / "tokenizer.vocab").unlink()
model = sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
texts = ["Once upon a time", " two  spaces and\ta tab\n", "", "Ünïcode, 漢字 and 🙂", "12345 and more", text.read_text()[:2000]]
(out / "ids.json").write_text(json.dumps([[each, model.encode(each)] for each in texts], ensure_ascii=False) + "\n")
