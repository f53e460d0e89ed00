"""What readers of every safetensors format ask of a checkpoint's files."""

import glob
import json
import os

from huggingface_hub import ModelCard
from safetensors import safe_open
from transformers import AutoTokenizer


def open_shards(case):
    """safetensors (Rust, by its Python binding) opens every file and reads every tensor; the index is right."""
    files = sorted(glob.glob(os.path.join(case["folder"], "*.safetensors")))
    found = {}
    for file in files:
        with safe_open(file, framework="pt") as shard:
            assert shard.metadata() == {"format": "pt"}, f"{file}: metadata {shard.metadata()}"
            for name in shard.keys():
                assert name not in found, f"{name} is in two shards"
                shard.get_tensor(name)
                found[name] = os.path.basename(file)
    index = os.path.join(case["folder"], "model.safetensors.index.json")
    if len(files) > 1:
        with open(index) as f:
            assert json.load(f)["weight_map"] == found, "the index does not say what the shards hold"
    else:
        assert not os.path.exists(index)
    return f"{len(found)} tensors in {len(files)} files"


def model_card(case):
    """huggingface_hub reads the model card's front matter."""
    data = ModelCard.load(os.path.join(case["folder"], "README.md")).data.to_dict()
    expected = {"pipeline_tag": "text-generation", "quantized_by": "shardsmith"}
    assert expected.items() <= data.items(), f"{data}"
    assert data["library_name"] == ("mlx" if case["format"] == "mlx" else "transformers"), f"library_name {data['library_name']}"
    assert case["format"] in data["tags"], f"tags {data['tags']}"
    return ", ".join(data)


def tokenize(case):
    """transformers' tokenizer, from the files that were carried over, makes our tokens."""
    ids = AutoTokenizer.from_pretrained(case["folder"])(case["text"])["input_ids"]
    assert ids == case["tokens"][0].tolist(), f"{ids[:8]} ... instead of {case['tokens'][0].tolist()[:8]} ..."
    return f"{len(ids)} tokens"


CHECKS = [open_shards, model_card, tokenize]
