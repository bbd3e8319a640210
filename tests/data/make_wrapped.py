"""Makes models with image encoders of the tiny models of tests/data/architectures: the decoder is the tiny model, so that
what transformers computed with it is what the whole model computes of a text.

usage: make_wrapped.py NAME...

tests/data/architectures/NAME_wrapped/hf gets the whole model, with `config.json` as transformers 4 and `config.v5.json` as
transformers 5 spells it. The other parts are random, with a fixed seed. The likelihoods of the whole model are compared
with those in NAME/golden.safetensors.
"""
import json, pathlib, shutil, sys
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

ROOT = pathlib.Path(__file__).parent / "architectures"
SIGLIP = dict(model_type="siglip_vision_model", hidden_size=16, intermediate_size=24, num_hidden_layers=1,
              num_attention_heads=2, image_size=28, patch_size=14, vision_use_head=False)
PIXTRAL = dict(model_type="pixtral", hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
               head_dim=8, image_size=28, patch_size=14)
QWEN = dict(model_type="qwen3_5_vision", depth=1, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=4, out_hidden_size=64,
            num_position_embeddings=16)
GEMMA4 = dict(model_type="gemma4_vision", hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
              num_key_value_heads=2, head_dim=8, patch_size=4, position_embedding_size=16, pooling_kernel_size=1)
WHOLE = {
    "gemma3": dict(model_type="gemma3", architectures=["Gemma3ForConditionalGeneration"], vision_config=SIGLIP,
                   mm_tokens_per_image=1, boi_token_index=501, eoi_token_index=502, image_token_index=500),
    "gemma4_dense": dict(model_type="gemma4", architectures=["Gemma4ForConditionalGeneration"], vision_config=GEMMA4,
                         audio_config=None, image_token_id=3, video_token_id=3, audio_token_id=3, boi_token_id=501,
                         eoi_token_id=502, boa_token_id=501, eoa_token_index=502),
    "ministral3": dict(model_type="mistral3", architectures=["Mistral3ForConditionalGeneration"],
                       vision_config=PIXTRAL, image_token_index=500, spatial_merge_size=2, vision_feature_layer=-1),
    "qwen3_5": dict(model_type="qwen3_5", architectures=["Qwen3_5ForConditionalGeneration"], vision_config=QWEN,
                    image_token_id=500, video_token_id=503, vision_start_token_id=501, vision_end_token_id=502,
                    tie_word_embeddings=True),
}
PROCESSOR = {"processor_class": "Processor", "image_seq_length": 1}


def main(name):
    source, target = ROOT / name, ROOT / f"{name}_wrapped"
    shutil.rmtree(target, ignore_errors=True)
    (target / "hf").mkdir(parents=True)
    hf = target / "hf"
    for version, dtype in (("config.v5.json", "dtype"), ("config.json", "torch_dtype")):
        text = json.loads((source / "hf" / version).read_text())
        del text["architectures"], text["transformers_version"]
        if version == "config.json" and name != "qwen3_5":
            # Older files say nothing of the head there, and nothing outside.
            del text["tie_word_embeddings"]
        whole = WHOLE[name] | {"text_config": text, dtype: "bfloat16"}
        (hf / version).write_text(json.dumps(whole, indent=2) + "\n")
    torch.manual_seed(0)
    config = AutoConfig.for_model(**json.loads((hf / "config.json").read_text()))
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.3)
    model.save_pretrained(target / "saved")
    # Names and order as transformers writes them; the decoder's bytes are those of the tiny model.
    tensors, plain = load_file(target / "saved/model.safetensors"), load_file(source / "hf/model.safetensors")
    seen = 0
    for key in tensors:
        if "language_model." in key or key == "lm_head.weight":
            old = "model." + key.replace("language_model.", "").removeprefix("model.").replace("lm_head", "../lm_head")
            tensors[key], seen = plain[old.replace("model.../", "")], seen + 1
    assert seen == len(plain), (seen, len(plain))
    save_file(tensors, hf / "model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(target / "saved")
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(source / "hf" / file, hf / file)
    for file in ("processor_config.json", "preprocessor_config.json"):
        (hf / file).write_text(json.dumps(PROCESSOR) + "\n")
    golden = load_file(source / "golden.safetensors")
    whole = AutoModelForImageTextToText.from_pretrained(hf, dtype=torch.float32).eval()
    ids = golden["token_ids"].long()
    with torch.no_grad():
        log_p = torch.log_softmax(whole(ids).logits[:, :-1].double(), -1)
    nll = -log_p.gather(-1, ids[:, 1:, None])[..., 0]
    apart = (nll - golden["nll"].reshape(nll.shape)).abs().max().item()
    assert apart < 1e-4, apart
    print(name, apart, sum(f.stat().st_size for f in hf.iterdir()), [k for k in tensors if "layers" not in k])


for name in sys.argv[1:]:
    main(name)
