"""Readers of the format compressed-tensors: transformers, through compressed-tensors."""

import torch
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

from .compared import EXACT, HALF, compare


def transformers(case):
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


CHECKS = [transformers]
