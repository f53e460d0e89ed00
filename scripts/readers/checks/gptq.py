"""Readers of the format gptq: transformers, through optimum and GPTQModel, and GPTQModel's own loader."""

import torch
from gptqmodel import GPTQModel
from transformers import AutoModelForCausalLM, GPTQConfig

from .compared import EXACT, HALF, compare


def weights(model):
    for name, module in model.named_modules():
        if hasattr(module, "qweight"):
            yield name, module.dequantize_weight().T


def exact_weights(model):
    """As above, and lets the kernel multiply in float32 from then on."""
    yield from weights(model)
    for _, module in model.named_modules():
        if hasattr(module, "qweight"):
            module.scales = module.scales.float()
            module.clear_weight_cache()


def transformers_plain(case):
    """Through optimum and GPTQModel's plain PyTorch kernel: nothing but our bytes can make a difference."""
    config = GPTQConfig(bits=case["quantization"]["bits"], backend="gptq_torch")
    model = AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32, device_map="cpu", quantization_config=config)
    return compare(case, model, EXACT, exact_weights)


def transformers_default(case):
    """As a user would load it, with the kernel that GPTQModel chooses for this CPU."""
    model = AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32, device_map="cpu")
    kernels = {type(module).__name__ for module in model.modules() if hasattr(module, "qweight")}
    return f"{', '.join(sorted(kernels))}: {compare(case, model, HALF)}"


def gptqmodel(case):
    """GPTQModel's own loader."""
    return compare(case, GPTQModel.load(case["folder"], device="cpu", dtype=torch.float16).model, HALF, weights)


def foretold(case, check):
    """What a reader is to say that refuses a checkpoint, where one of our notes foretells it, and what is the matter; else None."""
    if any(key.startswith("+:") for key in case["quantization"].get("dynamic", {})) and check in (transformers_plain, transformers_default):
        return "`ignore_mismatched_sizes`", "transformers does not read `dynamic`"
    if case["cpuKernelRefuses"] and check in (transformers_default, gptqmodel):
        return "expect qGroupSize to be 32, 64, 128 or 256", "its CPU kernel refuses this group size"
    return None


CHECKS = [transformers_plain, transformers_default, gptqmodel]
