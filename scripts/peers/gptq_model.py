"""Quantizes with GPTQModel's GPTQ as it is by default (symmetric, group-aware order), on the CPU.

    scripts/peers/run.sh gptqmodel MODEL CALIBRATION.json OUTPUT
"""
import os

# It starts a thread pool of its own per core.
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")

import torch
from gptqmodel import GPTQModel, QuantizeConfig

from measured import arguments, measured, sequences

args = arguments(__doc__).parse_args()
samples = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in sequences(args.calibration)]
# bf16, in which it would load the model, is many times slower on a CPU.
model = GPTQModel.load(args.model, QuantizeConfig(bits=args.bits, group_size=args.group_size), device="cpu", dtype=torch.float32)
with measured(args.output):
    model.quantize(samples, batch_size=1)
    model.save(args.output)
