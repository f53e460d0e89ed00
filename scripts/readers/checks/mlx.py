"""The reader of the format mlx: mlx-lm, on the CPU."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from mlx_lm.utils import load_model

from .compared import EXACT

mx.set_default_device(mx.cpu)


def float32(array):
    return np.array(array.astype(mx.float32))


def dequantized(model):
    """Name, module, and weight [out, in] of each packed linear or embedding, as MLX unpacks it in float32."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.QuantizedLinear, nn.QuantizedEmbedding)):
            scales, biases = module.scales.astype(mx.float32), module.biases.astype(mx.float32)
            weight = mx.dequantize(module.weight, scales, biases, group_size=module.group_size, bits=module.bits)
            yield name, module, torch.from_numpy(np.array(weight))


def compare_logits(case, model, tolerance):
    model.set_dtype(mx.float32)
    logits = torch.from_numpy(float32(model(mx.array(case["tokens"].numpy()))[0]))
    difference = ((logits - case["logits"]).abs().max() / case["logits"].abs().max()).item()
    assert difference <= tolerance, f"logits differ by {difference:.1e} of the largest, more than {tolerance:.0e}"
    return f"logits within {difference:.1e}"


def mlx_lm(case):
    """Its loader and kernels, with activations in float32."""
    model, _ = load_model(Path(case["folder"]))
    compared = 0
    for name, _, weight in dequantized(model):
        ours = case["weights"][name]
        assert torch.equal(weight, ours), f"{name}: weights differ by {(weight - ours).abs().max()}"
        compared += 1
    assert compared == len(case["weights"]), f"{compared} packed linears instead of {len(case['weights'])}"
    return f"{compared} weights equal, {compare_logits(case, model, EXACT)}"


CHECKS = [mlx_lm]
