"""Reads quantized checkpoints with programs that others wrote, and compares with what Shardsmith computed itself.

    read.py CASES.json

CASES.json is a list of {name, folder, ours, text}: the checkpoint, and the file that scripts/readers/our-logits.js made of
it. One line of JSON a check: {case, check, ok, detail}; "done" at the end of a case. Everything runs on the CPU.
"""

import glob
import json
import logging
import os
import sys
import traceback
import warnings
from importlib.metadata import version

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_OFFLINE"] = "1"
# Compiling kernels takes longer than all they compute here.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
warnings.filterwarnings("ignore")

# Libraries print on standard output as they please; the results keep it for themselves.
results = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import torch
from checks import awq, compressed_tensors, files, gptq, mlx
from safetensors import safe_open

logging.disable(logging.WARNING)
torch.set_grad_enabled(False)

READERS = {"gptq": gptq, "compressed-tensors": compressed_tensors, "awq": awq, "mlx": mlx}


def prepare(case):
    with open(os.path.join(case["folder"], "config.json")) as f:
        case["quantization"] = json.load(f)["quantization_config"]
    # Only mlx-lm's config names no method.
    case["format"] = case["quantization"].get("quant_method", "mlx")
    with safe_open(case["ours"], framework="pt") as ours:
        tensors = {name: ours.get_tensor(name) for name in ours.keys()}
    case["logits"] = tensors.pop("logits")
    case["tokens"] = tensors.pop("tokens").long().unsqueeze(0)
    case["weights"] = tensors
    for file in glob.glob(os.path.join(case["folder"], "*.safetensors")):
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():
                if name.endswith(".weight_scale"):
                    case["scale_dtype"] = shard.get_tensor(name).dtype


def report(case, check, ok, detail):
    print(json.dumps({"case": case["name"], "check": check, "ok": ok, "detail": detail}), file=results)


VERSIONS = ("transformers", "GPTQModel", "compressed-tensors", "mlx-lm", "mlx", "torch")
print(json.dumps({"versions": ", ".join(f"{name} {version(name)}" for name in VERSIONS)}), file=results)
with open(sys.argv[1]) as f:
    cases = json.load(f)
for case in cases:
    prepare(case)
    for check in [*files.CHECKS, *READERS[case["format"]].CHECKS]:
        foretold = gptq.foretold(case, check)
        try:
            detail = check(case)
            report(case, check.__name__, not foretold, f"{detail}, though we say that it would not load" if foretold else detail)
        except Exception as error:
            if foretold and foretold[0] in str(error):
                report(case, check.__name__, True, f"{foretold[1]}, as our note says")
                continue
            traceback.print_exc()
            report(case, check.__name__, False, f"{type(error).__name__}: {error}")
    print(json.dumps({"case": case["name"], "done": True}), file=results)
