"""Readers of the format awq: transformers, through GPTQModel's kernels, GPTQModel's own loader, and mlx-lm."""

from pathlib import Path

import torch
from gptqmodel import GPTQModel
from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
from mlx_lm.utils import load_model
from transformers import AutoModelForCausalLM, AwqConfig

from . import mlx
from .compared import HALF, compare
from .gptq import transformers_default


def weights(model):
    """As GPTQModel unpacks them, in float32."""
    for name, module in model.named_modules():
        if hasattr(module, "qweight"):
            yield name, dequantize_gemm(module.qweight, module.qzeros, module.scales.float(), module.bits, module.group_size).T


def transformers_plain(case):
    """With GPTQModel's plain PyTorch kernel, which multiplies in half precision."""
    settings = {key: case["quantization"][key] for key in ("bits", "group_size", "zero_point", "modules_to_not_convert")}
    config = AwqConfig(**settings, backend="torch_awq")
    model = AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32, device_map="cpu", quantization_config=config)
    return compare(case, model, HALF, weights)


def gptqmodel(case):
    """GPTQModel's own loader."""
    return compare(case, GPTQModel.load(case["folder"], device="cpu", dtype=torch.float16).model, HALF)


def mlx_lm(case):
    """mlx-lm makes its own format of it when it loads it, with scale · zero point rounded to half precision: an unpacking of its own."""
    model, _ = load_model(Path(case["folder"]))
    for name, module, weight in mlx.dequantized(model):
        rounding = torch.from_numpy(mlx.float32(abs(module.biases))).repeat_interleave(module.group_size, dim=1) * 2**-11
        assert ((weight - case["weights"][name]).abs() <= rounding).all(), f"{name}: weights differ by more than the rounding of biases"
    return mlx.compare_logits(case, model, HALF)


CHECKS = [transformers_plain, transformers_default, gptqmodel, mlx_lm]
