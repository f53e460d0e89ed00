"""Quantizes with AutoRound (rounding and clipping trained block by block), symmetric, in the auto_gptq format.

    scripts/peers/run.sh autoround MODEL CALIBRATION.json OUTPUT        200 iterations, its default
    scripts/peers/run.sh autoround-50 MODEL CALIBRATION.json OUTPUT     so many
"""
import glob
import os
import shutil

import torch
from auto_round import AutoRound
from transformers import AutoModelForCausalLM, AutoTokenizer

from measured import arguments, measured, sequences

parser = arguments(__doc__)
parser.add_argument("--iterations", type=int, default=200)
# Shorter sequences than GPTQ's are its own recommendation; the tokens are the same.
parser.add_argument("--sequence-length", type=int, default=512)
parser.add_argument("--batch", type=int, default=4)
args = parser.parse_args()

calibration = sequences(args.calibration)
length = min(args.sequence_length, len(calibration[0]))
samples = [
    torch.tensor([tokens[i:i + length]])
    for tokens in calibration
    for i in range(0, len(tokens) - length + 1, length)
]
# In f32, as the others: bf16 on a CPU is slower and no better.
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
with measured(args.output):
    work = AutoRound(
        model, AutoTokenizer.from_pretrained(args.model), bits=args.bits, group_size=args.group_size, sym=True,
        dataset=samples, nsamples=len(samples), seqlen=length, iters=args.iterations, batch_size=args.batch, device_map="cpu", seed=42,
    )
    work.quantize_and_save(output_dir=args.output, format="auto_gptq")
# It makes a folder inside, named by model and bits.
for config in glob.glob(f"{args.output}/*/config.json"):
    inner = os.path.dirname(config)
    for file in os.listdir(inner):
        shutil.move(os.path.join(inner, file), args.output)
    os.rmdir(inner)
