"""Reads GGUF files with PyPI's gguf, and compares with what Shardsmith computed itself.

    gguf-file.py CASES.json

CASES.json is a list of {name, folder, ours, twin}: `ours` is what scripts/readers/our-logits.js made of the folder; `twin` is where the same
model is written in F32, by gguf from what it dequantizes, for scripts/readers/llama-logits.js. Lines of JSON as read.py prints them.
"""

import glob
import json
import os
import sys
from importlib.metadata import version

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, MODEL_ARCH, MODEL_ARCH_NAMES, dequantize, get_tensor_name_map
from safetensors.numpy import load_file


def weights(reader):
    """Every tensor in float32, [out, in], rows as they are stored."""
    return {t.name: dequantize(t.data, t.tensor_type).astype(np.float32).reshape(t.shape[::-1]) for t in reader.tensors}


def in_own_order(rows, heads):
    """Undoes what convert_hf_to_gguf.py does to the rows of q and k of the architecture llama."""
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def compare(reader, stored, ours):
    key = lambda name: reader.fields[name].contents()
    name = key("general.architecture")
    arch = next(one for one in MODEL_ARCH if MODEL_ARCH_NAMES[one] == name)
    names = get_tensor_name_map(arch, key(f"{name}.block_count"))
    heads = {"attn_q": f"{name}.attention.head_count", "attn_k": f"{name}.attention.head_count_kv"}
    for module, weight in ours.items():
        own = names.get_name(module)
        rows = stored[f"{own}.weight"]
        count = heads.get(own.split(".")[-1])
        if name == "llama" and count:
            rows = in_own_order(rows, key(count))
        assert np.array_equal(rows, weight), f"{module}: weights differ by {abs(rows - weight).max()}"
    return f"{len(stored)} tensors read, {len(ours)} packed weights equal"


def write_twin(reader, stored, path):
    writer = GGUFWriter(path, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=of)
    for name, values in stored.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


print(json.dumps({"versions": f"gguf {version('gguf')}"}))
with open(sys.argv[1]) as f:
    cases = json.load(f)
for case in cases:
    reader = GGUFReader(glob.glob(os.path.join(case["folder"], "*.gguf"))[0])
    stored = weights(reader)
    packed = {name: values for name, values in load_file(case["ours"]).items() if name not in ("logits", "tokens")}
    try:
        ok, detail = True, compare(reader, stored, packed)
    except (AssertionError, KeyError, TypeError) as error:
        ok, detail = False, f"{type(error).__name__}: {error}"
    print(json.dumps({"case": case["name"], "check": "gguf", "ok": ok, "detail": detail}))
    write_twin(reader, stored, case["twin"])
    print(json.dumps({"case": case["name"], "done": True}), flush=True)
