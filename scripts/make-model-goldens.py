#!/usr/bin/env python3
"""Makes test/fixtures/models: tiny random models of each family with logits by transformers, and rope parameters.

usage: scripts/python-venv.sh && .venv/bin/python scripts/make-model-goldens.py

Each family's folder has the Hub's layout (config.json, model.safetensors in bf16), and beside it
- variants.json: name -> fields that replace those of config.json (null: JSON null; "absent": the field is taken away)
- golden.safetensors: `tokens` [2, 40] and `positions` [n], I64; for each variant `logits.NAME` [2, n, vocab], F32
rope.json has inverse frequencies and attention factors of many rope parameters at several sequence lengths.
stories260K/golden.safetensors is the same for the trained model in ../shared/models, if it is there; the model itself stays out.
All logits are by transformers in float32 with eager attention, from config files as they stand in the variants.
"""
import json, pathlib, shutil, tempfile
import torch
from tokenizers import Tokenizer
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "test/fixtures/models"
STORIES = ROOT / "../shared/models/stories260K"
TOKENS, POSITIONS, VOCAB = 40, [0, 1, 2, 5, 8, 13, 19, 25, 32, 39], 96
ABSENT = "absent"
STORY_STARTS = [
    "Once upon a time, there was a little girl named Lily. She had a red ball and a small dog. One day, they went to the park to play with her friend Ben.",
    "Tom was a big cat who liked to sit by the window. He saw a bird in the tree and wanted to be its friend. The bird was not happy, and it flew away.",
]

LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
LONGROPE = dict(rope_type="longrope", short_factor=[1.0, 1.1, 1.3, 1.5], long_factor=[1.5, 2.5, 4.0, 9.0], original_max_position_embeddings=32)

def v5(rope, theta=10000.0):
    return dict(rope_parameters=dict(rope_theta=theta, **rope))

def v4(rope, theta=10000.0):
    return dict(rope_parameters=ABSENT, rope_theta=theta, rope_scaling=rope and {("type" if k == "rope_type" else k): v for k, v in rope.items()})

SMALL = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
# name -> (config of the saved model, variants). Every variant has the same weights; only config.json differs.
FAMILIES = {
    "llama": (dict(SMALL, model_type="llama", rms_norm_eps=1e-5, **v5(dict(rope_type="default"))), {
        "v4": v4(None),
        "theta": v4(None, 500.0),
        "linear": v4(dict(rope_type="linear", factor=4.0)),
        "dynamic-short": v5(dict(rope_type="dynamic", factor=2.0)),
        "dynamic-long": dict(v4(dict(rope_type="dynamic", factor=2.0)), max_position_embeddings=16),
        "yarn": v5(YARN),
        "yarn-v4": v4(dict(YARN, beta_fast=16, beta_slow=2, attention_factor=1.5)),
        "llama3": v5(LLAMA3),
        "llama3-v4": v4(LLAMA3, 500.0),
        "longrope-long": v5(LONGROPE),
        "longrope-short": v5(dict(LONGROPE, original_max_position_embeddings=48)),
        "gelu": dict(hidden_act="gelu"),
    }),
    "llama-biases": (dict(SMALL, model_type="llama", num_key_value_heads=1, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                          head_dim=12, **v5(dict(rope_type="default"))), {}),
    "mistral": (dict(SMALL, model_type="mistral", sliding_window=7, **v5(dict(rope_type="default"))), {
        "no-window": dict(sliding_window=None),
        "default-window": dict(sliding_window=ABSENT, **v4(None)),
    }),
    "qwen2": (dict(SMALL, model_type="qwen2", num_hidden_layers=3, tie_word_embeddings=True, use_sliding_window=False, **v5(dict(rope_type="default"), 1000.0)), {
        "windows": dict(use_sliding_window=True, sliding_window=5, max_window_layers=1, layer_types=ABSENT, **v4(None, 1000.0)),
        "layer-types": dict(use_sliding_window=True, sliding_window=5, layer_types=["sliding_attention", "full_attention", "full_attention"]),
    }),
    "qwen3": (dict(SMALL, model_type="qwen3", head_dim=16, **v5(dict(rope_type="default"), 1000.0)), {
        "yarn": v5(YARN, 1000.0),
    }),
    "gemma3-text": (dict(SMALL, model_type="gemma3_text", num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=20, sliding_window=6,
                         layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                         rope_parameters=dict(full_attention=dict(rope_type="linear", factor=2.0, rope_theta=5000.0),
                                              sliding_attention=dict(rope_type="default", rope_theta=100.0))), {
        "v4": dict(rope_parameters=ABSENT, layer_types=ABSENT, sliding_window_pattern=2, rope_theta=5000.0, rope_local_base_freq=100.0,
                   rope_scaling=dict(rope_type="linear", factor=2.0), tie_word_embeddings=ABSENT),
        "v4-defaults": dict(rope_parameters=ABSENT, layer_types=ABSENT, tie_word_embeddings=ABSENT),
        "softcap": dict(final_logit_softcapping=3.0),
    }),
}

def fill(model, seed):
    """Weights large enough that attention, rotation and norms all show in the logits."""
    generator = torch.Generator().manual_seed(seed)
    gemma = model.config.model_type.startswith("gemma")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name: value = noise * 0.3 + (0.0 if gemma else 1.0)
            elif name.endswith("bias"): value = noise * 0.4
            elif "embed" in name: value = noise * (0.3 if gemma else 1.0)
            elif "q_proj" in name or "k_proj" in name: value = noise * 2 / parameter.shape[1] ** 0.5
            else: value = noise / parameter.shape[1] ** 0.5
            parameter.copy_(value.to(torch.bfloat16))

def changed(config, fields):
    return {k: v for k, v in {**config, **fields}.items() if v != ABSENT}

def logits_of(weights, config, tokens):
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copy(weights, pathlib.Path(tmp) / "model.safetensors")
        (pathlib.Path(tmp) / "config.json").write_text(json.dumps(config))
        model = AutoModelForCausalLM.from_pretrained(tmp, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(tokens).logits[:, POSITIONS].contiguous()

def make_family(name, config, variants, seed):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(config)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager").to(torch.bfloat16)
    fill(model, seed)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    weights = folder / "model.safetensors"
    saved = json.loads((folder / "config.json").read_text())
    tokens = torch.randint(0, VOCAB, (2, TOKENS), generator=torch.Generator().manual_seed(seed + 1))
    golden = {"tokens": tokens, "positions": torch.tensor(POSITIONS)}
    for variant, fields in {"saved": {}, **variants}.items():
        golden[f"logits.{variant}"] = logits_of(weights, changed(saved, fields), tokens)
        difference = (golden[f"logits.{variant}"] - golden["logits.saved"]).abs().max() / golden["logits.saved"].abs().max()
        print(f"{name:14} {variant:16} differs from the saved one by {difference:.1e}")
    (folder / "variants.json").write_text(json.dumps(variants, indent=1) + "\n")
    save_file(golden, folder / "golden.safetensors")

def make_ropes():
    cases = []
    def case(parameters, head_dim=64, max_positions=4096, lengths=(16,), **fields):
        config = AutoConfig.for_model("llama", hidden_size=head_dim * 4, num_attention_heads=4, head_dim=head_dim,
                                      max_position_embeddings=max_positions, rope_parameters=dict(parameters), **fields)
        for length in lengths:
            kind = config.rope_parameters["rope_type"]
            init = LlamaRotaryEmbedding.compute_default_rope_parameters if kind == "default" else ROPE_INIT_FUNCTIONS[kind]
            frequencies, factor = init(config, device="cpu", seq_len=length)
            cases.append(dict(parameters=parameters, headDim=head_dim, maxPositions=max_positions, positions=length,
                              inverseFrequencies=frequencies.tolist(), attentionFactor=float(factor), **fields))
    for theta in (10000.0, 500000.0, 1000000):
        case(dict(rope_type="default", rope_theta=theta))
        case(dict(rope_type="llama3", rope_theta=theta, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=1024))
    case(dict(rope_type="default", rope_theta=100000), head_dim=80)
    case(dict(rope_type="linear", rope_theta=10000.0, factor=2.5))
    case(dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0), max_positions=2048, lengths=(16, 2048, 2049, 8192))
    yarn = dict(rope_type="yarn", rope_theta=1000000.0, factor=4.0, original_max_position_embeddings=32768)
    case(yarn, head_dim=128, max_positions=131072)
    case(dict(yarn, attention_factor=0.9), head_dim=32)
    case(dict(yarn, mscale=0.707, mscale_all_dim=1.0))
    case(dict(yarn, beta_fast=24, beta_slow=3, truncate=False))
    case(dict(yarn, factor=0.5))
    case(dict(yarn, factor=None), max_positions=65536)
    long = dict(rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=1024,
                short_factor=[1 + i / 50 for i in range(16)], long_factor=[1 + i * i / 7 for i in range(16)])
    case(long, head_dim=32, lengths=(1024, 1025))
    case(dict(long, factor=32.0), head_dim=32, lengths=(1024, 1025))
    case(dict(long, attention_factor=1.25), head_dim=32)
    case({k: v for k, v in long.items() if k != "original_max_position_embeddings"}, head_dim=32, max_positions=2048, lengths=(2048, 2049))
    case(long, head_dim=32, lengths=(512, 2048), original_max_position_embeddings=512)
    (OUT / "rope.json").write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")

def make_stories():
    if not STORIES.exists():
        print(f"{STORIES} is not there: its golden stays as it is")
        return
    encode = Tokenizer.from_file(str(STORIES / "tokenizer.json")).encode
    tokens = torch.tensor([encode(text).ids[:TOKENS] for text in STORY_STARTS])
    (OUT / "stories260K").mkdir(exist_ok=True)
    logits = logits_of(STORIES / "model.safetensors", json.loads((STORIES / "config.json").read_text()), tokens)
    save_file({"tokens": tokens, "positions": torch.tensor(POSITIONS), "logits.saved": logits}, OUT / "stories260K/golden.safetensors")

if __name__ == "__main__":
    for i, (name, (config, variants)) in enumerate(FAMILIES.items()):
        make_family(name, config, variants, 100 * (i + 1))
    make_ropes()
    make_stories()
