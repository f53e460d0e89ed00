"""Measures quantized checkpoints against their original by programs that others wrote: one line of JSON for each folder.

    .venv/bin/python scripts/peers/evaluate.py ORIGINAL WINDOWS.json FOLDER...

WINDOWS.json is a list of token sequences (scripts/bench-quality.ts writes it). GPTQModel (format gptq) or compressed-tensors dequantizes,
transformers computes, all in f32; every window is predicted by itself. All models are in memory at once.
"""
import argparse
import glob
import json
import logging
import math
import os
import sys
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
warnings.filterwarnings("ignore")

# Libraries print on standard output as they please; the results keep it for themselves.
results = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

logging.disable(logging.WARNING)
torch.set_grad_enabled(False)

# Of the logits, compared in f64 at a time: bounds the memory.
POSITIONS = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original")
    parser.add_argument("windows")
    parser.add_argument("folders", nargs="+")
    args = parser.parse_args()
    with open(args.windows) as file:
        windows = json.load(file)
    original = AutoModelForCausalLM.from_pretrained(args.original, dtype=torch.float32).eval()
    models = [load_dense(folder, args.original).eval() for folder in args.folders]
    # Of each model and window: KL divergence, whether the likeliest token is the same, loss, the original's loss; [predicted tokens].
    seen = [[] for _ in models]
    for done, window in enumerate(windows):
        tokens = torch.tensor([window])
        reference = original(tokens).logits[0, :-1]
        for i, model in enumerate(models):
            seen[i].append(compare(model(tokens).logits[0, :-1], reference, tokens[0, 1:]))
        print(f"window {done + 1} of {len(windows)}", file=sys.stderr)
    for folder, values in zip(args.folders, seen):
        kl, agreed, loss, reference = (torch.cat(column) for column in zip(*values))
        perplexity = loss.mean().exp().item()
        print(json.dumps({
            "folder": folder, "bitsAWeight": bits_a_weight(folder, original),
            "kl": kl.mean().item(), "klError": standard_error(kl), "top1": agreed.mean().item(),
            "perplexity": perplexity, "perplexityError": perplexity * standard_error(loss), "originalPerplexity": reference.mean().exp().item(),
            "tokens": len(kl), "windows": [[value[0].sum().item(), len(value[0])] for value in values],
        }), file=results)


def load_dense(folder, original):
    """A checkpoint as a plain model in f32."""
    with open(os.path.join(folder, "config.json")) as file:
        quantization = json.load(file).get("quantization_config")
    if quantization is None or quantization["quant_method"] != "gptq":
        # compressed-tensors unpacks by itself, at the first forward pass.
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    from gptqmodel import BACKEND, GPTQModel

    # GPTQModel takes half precision only. So its packed linears are dequantized here, and all else comes from the file as it is.
    packed = {
        name: module
        for name, module in GPTQModel.load(folder, device="cpu", dtype=torch.float16, backend=BACKEND.GPTQ_TORCH).model.named_modules()
        if hasattr(module, "qweight")
    }
    assert packed, f"{folder}: GPTQModel found no packed linear"
    model = AutoModelForCausalLM.from_pretrained(original, dtype=torch.float32)
    for name, module in packed.items():
        module.scales = module.scales.float()
        weight = module.dequantize_weight().T.float()
        dense = model.get_submodule(name)
        assert dense.weight.shape == weight.shape, f"{folder}: {name} is {list(weight.shape)}, not {list(dense.weight.shape)}"
        # A parameter of its own: lm_head may have shared the embedding's.
        dense.weight = torch.nn.Parameter(weight.contiguous(), requires_grad=False)
    state = model.state_dict()
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        with safe_open(path, framework="pt") as shard:
            for name in shard.keys():
                module, _, tensor = name.rpartition(".")
                if module in packed and tensor != "bias":
                    continue
                assert name in state, f"{folder}: the original has no {name}"
                state[name].copy_(shard.get_tensor(name))
    return model


def compare(logits, reference, targets):
    columns = []
    for at in range(0, len(targets), POSITIONS):
        part = slice(at, at + POSITIONS)
        log_q, log_p = logits[part].double().log_softmax(-1), reference[part].double().log_softmax(-1)
        target = targets[part, None]
        columns.append((
            (log_p.exp() * (log_p - log_q)).sum(-1), (log_p.argmax(-1) == log_q.argmax(-1)).double(),
            -log_q.gather(-1, target)[:, 0], -log_p.gather(-1, target)[:, 0],
        ))
    return tuple(torch.cat(column) for column in zip(*columns))


def standard_error(values):
    return (values.std() / math.sqrt(len(values))).item()


def bits_a_weight(folder, original):
    """Of all linears in the layers, packed or not: the bytes of all their tensors, biases aside."""
    linears = {name: module for name, module in original.named_modules() if isinstance(module, torch.nn.Linear) and ".layers." in name}
    size = 0
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        with safe_open(path, framework="pt") as shard:
            for name in shard.keys():
                module, _, tensor = name.rpartition(".")
                if module in linears and tensor != "bias":
                    value = shard.get_tensor(name)
                    size += value.numel() * value.element_size()
    return 8 * size / sum(module.weight.numel() for module in linears.values())


main()
