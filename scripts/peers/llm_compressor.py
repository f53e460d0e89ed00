"""Quantizes with llm-compressor's GPTQ (symmetric, static act order), or rounds to nearest with it, in f32 on the CPU.

    scripts/peers/run.sh llm-compressor MODEL CALIBRATION.json OUTPUT
    scripts/peers/run.sh llm-compressor-rtn MODEL CALIBRATION.json OUTPUT
"""
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from transformers import AutoModelForCausalLM, AutoTokenizer

from measured import arguments, measured, sequences

parser = arguments(__doc__)
parser.add_argument("--method", choices=["gptq", "rtn"], default="gptq")
args = parser.parse_args()

samples = sequences(args.calibration)
dataset = Dataset.from_dict({"input_ids": samples, "attention_mask": [[1] * len(tokens) for tokens in samples]})
weights = {"num_bits": args.bits, "type": "int", "symmetric": True, "strategy": "group", "group_size": args.group_size}
groups = lambda **more: {"group": QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights, **more))}
modifier = (
    GPTQModifier(config_groups=groups(actorder="static"), ignore=["lm_head"])
    if args.method == "gptq"
    else QuantizationModifier(config_groups=groups(), ignore=["lm_head"])
)
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(args.model)
with measured(args.output):
    oneshot(
        model=model, recipe=modifier, tokenizer=tokenizer,
        **({"dataset": dataset, "num_calibration_samples": len(samples), "max_seq_length": len(samples[0])} if args.method == "gptq" else {}),
    )
    model.save_pretrained(args.output, save_compressed=True)
    tokenizer.save_pretrained(args.output)
