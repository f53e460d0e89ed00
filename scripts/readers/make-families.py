"""Makes a small random model of every family that Shardsmith knows, as transformers builds and saves them: wide enough for every format.

    make-families.py DEMO_MODEL OUT

OUT/<family> has the Hub's layout, with DEMO_MODEL's tokenizer. The models are the same whenever they are made.
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

demo, out = Path(sys.argv[1]), Path(sys.argv[2])
SIZES = dict(
    vocab_size=1024, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
    max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=1, initializer_range=0.06, sliding_window=None,
)
FAMILIES = {
    "llama": {},
    "mistral": {},
    "qwen2": dict(tie_word_embeddings=True),
    "qwen3": {},
    # Attention scaled by the head's width, which is what llama.cpp takes for it; and a window in five of six layers.
    "gemma3_text": dict(query_pre_attn_scalar=32, num_hidden_layers=6, sliding_window=32),
}

for name, own in FAMILIES.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**SIZES, **own}))
    with torch.no_grad():
        # Where transformers leaves ones or zeros, a reader that forgot them would not be found out.
        for parameter in (p for p in model.parameters() if p.dim() == 1):
            parameter += 0.1 * torch.randn_like(parameter)
    model.to(torch.bfloat16).save_pretrained(out / name)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / file, out / name)
