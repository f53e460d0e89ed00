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

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_OFFLINE"] = "1"
# Compiling kernels takes longer than all they compute here.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
warnings.filterwarnings("ignore")

# Libraries print on standard output as they please; the results keep it for themselves.
results = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import torch
from compressed_tensors.version import __version__ as compressed_tensors_version
from gptqmodel import GPTQModel
from gptqmodel.version import __version__ as gptqmodel_version
from huggingface_hub import ModelCard
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig, GPTQConfig
from transformers import __version__ as transformers_version

logging.disable(logging.WARNING)
torch.set_grad_enabled(False)

# Of the largest logit.
EXACT = 1e-3
# Where the reader itself computes in half precision, whatever dtype is asked of it.
HALF = 2e-2


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
    expected = {"library_name": "transformers", "pipeline_tag": "text-generation", "quantized_by": "shardsmith"}
    assert expected.items() <= data.items(), f"{data}"
    assert case["quantization"]["quant_method"] in data["tags"], f"tags {data['tags']}"
    return ", ".join(data)


def tokenize(case):
    """transformers' tokenizer, from the files that were carried over, makes our tokens."""
    ids = AutoTokenizer.from_pretrained(case["folder"])(case["text"])["input_ids"]
    assert ids == case["tokens"][0].tolist(), f"{ids[:8]} ... instead of {case['tokens'][0].tolist()[:8]} ..."
    return f"{len(ids)} tokens"


def compare(case, model, tolerance, weights=None):
    """Weights equal to ours, once both are rounded to the reader's dtype; logits within `tolerance`."""
    model.eval()
    if weights is not None:
        compared = 0
        for name, weight in weights(model):
            ours = case["weights"][name].to(weight.dtype).to(torch.float32)
            assert torch.equal(weight.float(), ours), f"{name}: weights differ by {(weight.float() - ours).abs().max()}"
            compared += 1
        assert compared == len(case["weights"]), f"{compared} packed linears instead of {len(case['weights'])}"
    logits = model(case["tokens"]).logits[0].float()
    difference = ((logits - case["logits"]).abs().max() / case["logits"].abs().max()).item()
    assert difference <= tolerance, f"logits differ by {difference:.1e} of the largest, more than {tolerance:.0e}"
    return f"{len(case['weights'])} weights equal, " * (weights is not None) + f"logits within {difference:.1e}"


def gptq_weights(model):
    for name, module in model.named_modules():
        if hasattr(module, "qweight"):
            yield name, module.dequantize_weight().T


def exact_gptq_weights(model):
    """As above, and lets the kernel multiply in float32 from then on."""
    yield from gptq_weights(model)
    for _, module in model.named_modules():
        if hasattr(module, "qweight"):
            module.scales = module.scales.float()
            module.clear_weight_cache()


def gptq_transformers(case):
    """Through optimum and GPTQModel's plain PyTorch kernel: nothing but our bytes can make a difference."""
    config = GPTQConfig(bits=case["quantization"]["bits"], backend="gptq_torch")
    model = AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32, device_map="cpu", quantization_config=config)
    return compare(case, model, EXACT, exact_gptq_weights)


def gptq_transformers_default(case):
    """As a user would load it, with the kernel that GPTQModel chooses for this CPU."""
    model = AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32, device_map="cpu")
    kernels = {type(module).__name__ for module in model.modules() if hasattr(module, "qweight")}
    return f"{', '.join(sorted(kernels))}: {compare(case, model, HALF)}"


def gptq_gptqmodel(case):
    """GPTQModel's own loader."""
    return compare(case, GPTQModel.load(case["folder"], device="cpu", dtype=torch.float16).model, HALF, gptq_weights)


def compressed_tensors_transformers(case):
    """Through compressed-tensors. Asymmetric ones it only loads dequantized, in the dtype of their scales."""
    groups = case["quantization"]["config_groups"].values()
    symmetric = all(group["weights"]["symmetric"] for group in groups)
    if symmetric:
        model = AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32)
        # Weights are unpacked by the first forward pass.
        model(case["tokens"][:, :1])
        return compare(case, model, EXACT, lambda m: ((n, x.weight) for n, x in m.named_modules() if hasattr(x, "quantization_scheme")))
    model = AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32, quantization_config=CompressedTensorsConfig(dequantize=True))
    scales = case["scale_dtype"]
    weights = lambda m: ((name, m.get_submodule(name).weight.to(scales)) for name in case["weights"])
    return compare(case, model, EXACT if scales == torch.float32 else HALF, weights)


CHECKS = {
    "gptq": [open_shards, model_card, tokenize, gptq_transformers, gptq_transformers_default, gptq_gptqmodel],
    "compressed-tensors": [open_shards, model_card, tokenize, compressed_tensors_transformers],
}


def foretold_refusal(case, check):
    """What a reader is to say that refuses a checkpoint, where one of our notes foretells it, and what is the matter; else None."""
    if any(key.startswith("+:") for key in case["quantization"].get("dynamic", {})) and check in (gptq_transformers, gptq_transformers_default):
        return "`ignore_mismatched_sizes`", "transformers does not read `dynamic`"
    if case["cpuKernelRefuses"] and check in (gptq_transformers_default, gptq_gptqmodel):
        return "expect qGroupSize to be 32, 64, 128 or 256", "its CPU kernel refuses this group size"
    return None


def prepare(case):
    with open(os.path.join(case["folder"], "config.json")) as f:
        case["quantization"] = json.load(f)["quantization_config"]
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


print(json.dumps({"versions": f"transformers {transformers_version}, GPTQModel {gptqmodel_version}, compressed-tensors {compressed_tensors_version}, torch {torch.__version__}"}), file=results)
with open(sys.argv[1]) as f:
    cases = json.load(f)
for case in cases:
    prepare(case)
    for check in CHECKS[case["quantization"]["quant_method"]]:
        foretold = foretold_refusal(case, check)
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
