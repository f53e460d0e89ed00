"""Makes test/fixtures/packing/packing.safetensors: random codes packed by GPTQModel's and compressed-tensors' own packers, and
what MLX quantized by itself, which test/formats compares ours with, so that `npm test` needs no Python. Run in the venv of scripts/python-venv.sh:

    sh scripts/python-venv.sh && .venv/bin/python scripts/readers/make-packing-fixtures.py
"""

import os

os.environ["GPTQMODEL_DISABLE_PACK_EXT"] = "1"

import mlx.core as mx
import numpy as np
import torch
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationScheme
from gptqmodel import QuantizeConfig
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module
from safetensors.torch import save_file

OUT = os.path.join(os.path.dirname(__file__), "../../test/fixtures/packing/packing.safetensors")

torch.manual_seed(20)
tensors = {}


def random_linear(out, inp, group, bits, sym, scale_dtype, act=False):
    groups = inp // group
    codes = torch.randint(0, 2**bits, (out, inp))
    scales = (torch.rand(out, groups) * 0.1 + 0.01).to(scale_dtype)
    zeros = torch.full((out, groups), 2 ** (bits - 1)) if sym else torch.randint(0, 2**bits, (out, groups))
    g_idx = torch.arange(inp) // group
    if act:
        g_idx = g_idx[torch.randperm(inp)]
    weight = scales.float()[:, g_idx] * (codes - zeros[:, g_idx])
    return codes, scales, zeros, g_idx.int(), weight


def keep(case, codes, zeros, packed):
    tensors[f"{case}.codes"] = codes.to(torch.uint8)
    tensors[f"{case}.zeros"] = zeros.to(torch.uint8)
    for suffix, tensor in packed.items():
        tensors[f"{case}.linear.{suffix}"] = tensor.contiguous()


def gptq(bits, sym, group, version, act=False):
    out, inp = 32, 96
    codes, scales, zeros, g_idx, weight = random_linear(out, inp, group, bits, sym, torch.float16, act)
    linear = torch.nn.Linear(inp, out, bias=False)
    linear.weight.data = weight
    packed = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=act, in_features=inp, out_features=out, bias=False)
    packed.pack_block(linear, scales.float(), zeros.float(), g_idx)
    if version == "gptq":
        packed.qzero_format(format=2)
        convert_gptq_v2_to_v1_format_module(packed, QuantizeConfig(bits=bits))
    case = f"{version}.{bits}.{group}.{'sym' if sym else 'asym'}{'.act' if act else ''}"
    keep(case, codes, zeros, {s: getattr(packed, s) for s in ("qweight", "qzeros", "scales", "g_idx")})


def compressed_tensors(bits, sym, group, out, inp):
    codes, scales, zeros, _, weight = random_linear(out, inp, group, bits, sym, torch.float32)
    weights = {"num_bits": bits, "type": "int", "symmetric": sym}
    weights |= {"strategy": "channel"} if group == inp else {"strategy": "group", "group_size": group}
    state = {"weight": weight, "weight_scale": scales, "weight_zero_point": (zeros - 2 ** (bits - 1)).to(torch.int8)}
    packed = PackedQuantizationCompressor.compress(state, QuantizationScheme(targets=["Linear"], weights=weights))
    case = f"compressed-tensors.{bits}.{group}.{'sym' if sym else 'asym'}.{out}x{inp}"
    keep(case, codes, zeros, packed)


def awq(sym, group, out, inp):
    codes, scales, zeros, _, weight = random_linear(out, inp, group, 4, sym, torch.float16)
    linear = torch.nn.Linear(inp, out, bias=False)
    linear.weight.data = weight
    packed = AwqTorchLinear(bits=4, group_size=group, sym=sym, desc_act=False, in_features=inp, out_features=out)
    packed.pack(linear, scales.float(), zeros.float())
    keep(f"awq.4.{group}.{'sym' if sym else 'asym'}", codes, zeros, {s: getattr(packed, s) for s in ("qweight", "qzeros", "scales")})


def mlx(bits, group, dtype):
    """Its biases are rounded by themselves, so that there need be no zero points; what it makes of them stands instead."""
    case = f"mlx.{bits}.{group}.{'bf16' if dtype == mx.bfloat16 else 'f16'}"
    weight, scales, biases = mx.quantize(mx.array(torch.randn(4, 128).numpy()).astype(dtype), group_size=group, bits=bits)
    made = mx.dequantize(weight, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group, bits=bits)
    tensors[f"{case}.dequantized"] = torch.from_numpy(np.array(made))
    tensors[f"{case}.linear.weight"] = torch.from_numpy(np.array(weight))
    for suffix, halves in (("scales", scales), ("biases", biases)):
        tensors[f"{case}.linear.{suffix}"] = torch.from_numpy(np.array(halves.view(mx.int16))).view(torch.bfloat16 if dtype == mx.bfloat16 else torch.float16)


for bits in (2, 3, 4, 8):
    for sym in (True, False):
        gptq(bits, sym, 32, "gptq" if sym else "gptq_v2")
    # GPTQModel writes such too: z - 1 borrows from the neighbour where z is 0. We read them, and write none.
    gptq(bits, False, 32, "gptq")
gptq(4, True, 96, "gptq")
gptq(4, True, 32, "gptq", act=True)
gptq(3, False, 16, "gptq_v2", act=True)
for bits in (4, 8):
    for sym in (True, False):
        compressed_tensors(bits, sym, 32, 20, 96)
        compressed_tensors(bits, sym, 43, 13, 43)

awq(True, 32, 40, 96)
awq(False, 32, 40, 96)
awq(False, 64, 24, 64)
for bits in (2, 3, 4, 6, 8):
    mlx(bits, 32, mx.bfloat16)
    mlx(bits, 128 if bits == 4 else 64, mx.float16)

save_file(tensors, OUT, metadata={"format": "pt"})
print(f"{len(tensors)} tensors, {os.path.getsize(OUT)} bytes")
