"""Makes test/fixtures/gguf with PyPI's gguf 0.19 (numpy and safetensors beside it), for test/formats/gguf:

blocks.safetensors: for each type, `{type}.blocks` as gguf quantizes random rows, or for those that it only reads random blocks, and `{type}.weights` as it
dequantizes them.
values.gguf: a key of every type of value, and small tensors at an alignment of 64.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

FOLDER = Path(__file__).parents[2] / "test/fixtures/gguf"
TYPES = ["Q4_0", "Q4_1", "Q8_0"]


def blocks() -> None:
    rng = np.random.default_rng(7)
    tensors = {}
    for name in TYPES:
        kind = GGMLQuantizationType[name]
        packed = quantize(rng.normal(0, 0.05, (6, 96)).astype(np.float32), kind)
        tensors[f"{name}.blocks"] = packed
        tensors[f"{name}.weights"] = dequantize(packed, kind)
    packed = random_super_blocks(6, 2)
    tensors["Q4_K.blocks"] = packed
    tensors["Q4_K.weights"] = dequantize(packed, GGMLQuantizationType.Q4_K)
    packed = random_signed_super_blocks(6, 2)
    tensors["Q6_K.blocks"] = packed
    tensors["Q6_K.weights"] = dequantize(packed, GGMLQuantizationType.Q6_K)
    save_file(tensors, FOLDER / "blocks.safetensors")


def random_super_blocks(rows: int, count: int) -> np.ndarray:
    """Q4_K: two steps in float16, the second one once 0, and 140 bytes that may be anything."""
    rng = np.random.default_rng(8)
    steps = rng.uniform(1e-5, 1e-3, (rows, count, 2)).astype(np.float16)
    steps[0, 0, 1] = 0
    rest = rng.integers(0, 256, (rows, count, 140), dtype=np.uint8)
    return np.concatenate([steps.view(np.uint8), rest], axis=-1).reshape(rows, count * 144)


def random_signed_super_blocks(rows: int, count: int) -> np.ndarray:
    """Q6_K: 208 bytes that may be anything, and a step in float16."""
    rng = np.random.default_rng(9)
    rest = rng.integers(0, 256, (rows, count, 208), dtype=np.uint8)
    step = rng.uniform(1e-5, 1e-3, (rows, count, 1)).astype(np.float16)
    return np.concatenate([rest, step.view(np.uint8)], axis=-1).reshape(rows, count * 210)


def values() -> None:
    writer = GGUFWriter(FOLDER / "values.gguf", "llama")
    writer.add_custom_alignment(64)
    numbers = {"uint8": 200, "int8": -100, "uint16": 60_000, "int16": -30_000, "uint32": 4_000_000_000, "int32": -2_000_000_000,
               "float32": 0.5, "uint64": 2**63, "int64": -(2**62), "float64": 0.1, "bool": True}
    for name, value in numbers.items():
        getattr(writer, f"add_{name}")(f"one.{name}", value)
        if name in ("uint32", "float32", "int64", "bool"):
            writer.add_key_value(f"many.{name}", [value, value], GGUFValueType.ARRAY, sub_type=GGUFValueType[name.upper()])
    writer.add_string("one.string", "grüß")
    writer.add_array("many.string", ["a", "", "▁b"])
    for name, kind in {"a": "F32", "b": "Q4_0", "c": "F16"}.items():
        weights = np.arange(64, dtype=np.float32).reshape(2, 32)
        writer.add_tensor(name, quantize(weights, GGMLQuantizationType[kind]), raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


FOLDER.mkdir(exist_ok=True)
blocks()
values()
