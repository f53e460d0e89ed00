"""Trains the demo model in test/fixtures/demo-model/: a tiny Llama with a tokenizer of its own.

It learns from calibration-data/*.txt alone, in about six minutes of one core. A few documents are set aside to choose
the best checkpoint; test/fixtures/held-out.txt is read only at the end, to measure.

    scripts/python-venv.sh                        # once: makes .venv/ with torch and transformers
    nice -n 10 .venv/bin/python scripts/train-demo-model.py

The same seed, machine and package versions give the same files.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = 1024
CONTEXT = 512
BOS, EOS = "<s>", "</s>"
# How often an epoch reads each document. The held-out text is prose and dialogue, and so is what the demo prints.
REPEATS = {"prose": 2, "dialogue": 2}


def documents(path):
    return [text.strip() for text in path.read_text(encoding="utf-8").split("\n=====\n") if text.strip()]


def split_data():
    """Training and validation documents; of prose and dialogue, every tenth validates."""
    train, validation = [], []
    for path in sorted((ROOT / "calibration-data").glob("*.txt")):
        for i, text in enumerate(documents(path)):
            if path.stem in REPEATS and i % 10 == 7:
                validation.append(text)
            else:
                train += [text] * REPEATS.get(path.stem, 1)
    return train, validation


def train_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, 0)]
    )
    return tokenizer


def save_tokenizer(tokenizer, folder):
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "bos_token": BOS,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "model_max_length": CONTEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def encode(tokenizer, texts, eos=True):
    """All documents one after another: <s> document </s>."""
    ids = []
    for text in texts:
        ids += tokenizer.encode(text).ids + ([1] if eos else [])
    return torch.tensor(ids)


def add_dropout(model, p):
    """Drops parts of what each block adds to the residual stream, while training. Llama itself has no such thing."""

    def drop(module, _, output):
        return torch.nn.functional.dropout(output, p, training=module.training)

    blocks = [part for layer in model.model.layers for part in (layer.self_attn.o_proj, layer.mlp.down_proj)]
    return [block.register_forward_hook(drop) for block in [model.model.embed_tokens, *blocks]]


@torch.no_grad()
def perplexity(model, ids, length):
    """Windows of `length` one after another; every token but the first of a window is predicted from those before it."""
    model.eval()
    total, count = 0.0, 0
    for window in ids.split(length):
        if len(window) > 1:
            logits = model(window[None]).logits[0, :-1].float()
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
            count += len(window) - 1
    model.train()
    return math.exp(total / count)


def train(model, tokenizer, train_texts, validation_texts, args):
    validation = encode(tokenizer, validation_texts)
    decayed = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": args.decay}, {"params": others, "weight_decay": 0.0}],
        lr=args.rate, betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / 100, 0.02 + 0.49 * (1 + math.cos(math.pi * s / args.steps)))
    )
    hooks = add_dropout(model, args.dropout)
    shuffled = random.Random(args.seed)
    best, best_state, best_step, step, start = math.inf, None, 0, 0, time.time()
    while step < min(args.steps, best_step + args.patience):
        texts = list(train_texts)
        shuffled.shuffle(texts)
        stream = encode(tokenizer, texts)
        # Another offset each time, so that windows do not always break at the same words.
        stream = stream[shuffled.randrange(args.length):]
        windows = stream[: len(stream) // args.length * args.length].view(-1, args.length)
        for batch in windows.split(args.batch):
            if step == args.steps or len(batch) < args.batch:
                break
            loss = model(batch, labels=batch).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 100 == 0 or step == args.steps:
                score = perplexity(model, validation, args.length)
                print(f"step {step:5d}  {time.time() - start:4.0f} s  loss {loss.item():.3f}  validation {score:.2f}", flush=True)
                if score < best:
                    best, best_step = score, step
                    best_state = {k: v.clone() for k, v in model.state_dict().items()}
    for hook in hooks:
        hook.remove()
    model.load_state_dict(best_state)
    return best


@torch.no_grad()
def scale_channels(model, seed, factor=8, share=6 / 128):
    """Makes a few input channels large and the weights that read them small, as large models have it ("outlier channels").

    The function computed stays the same to the bit, since the factor is a power of two; but a quantizer that looks at
    weights alone now pays more for its ignorance, as it does on large models.
    """

    chance = torch.Generator().manual_seed(seed)

    def choose(size):
        return torch.randperm(size, generator=chance)[: round(share * size)]

    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for source, readers in (
            (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
            (mlp.up_proj, (mlp.down_proj,)),
        ):
            channels = choose(source.weight.shape[0])
            source.weight[channels] *= factor
            for reader in readers:
                reader.weight[:, channels] /= factor


@torch.no_grad()
def round_to_nearest(model, bits, group):
    """Naive symmetric quantization of every linear but the head, to show what it costs."""
    top = 2 ** (bits - 1) - 1
    for layer in model.model.layers:
        for linear in (m for m in layer.modules() if isinstance(m, torch.nn.Linear)):
            w = linear.weight.view(linear.out_features, -1, group)
            scale = w.abs().amax(-1, keepdim=True).clamp(min=1e-8) / (top + 0.5)
            linear.weight.copy_(((w / scale).round().clamp(-top - 1, top) * scale).view_as(linear.weight))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "test/fixtures/demo-model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--patience", type=int, default=500, help="stop after so many steps without a better checkpoint")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.12)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    train_texts, validation_texts = split_data()
    tokenizer = train_tokenizer(train_texts)
    save_tokenizer(tokenizer, args.out)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=CONTEXT, rope_theta=10000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=True, initializer_range=0.06, bos_token_id=0, eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    tokens = len(encode(tokenizer, train_texts))
    print(f"{model.num_parameters():,} parameters, {tokens:,} training tokens an epoch, {len(validation_texts)} documents validate")
    best = train(model, tokenizer, train_texts, validation_texts, args)
    print(f"best on validation: {best:.2f}")
    scale_channels(model.to(torch.bfloat16), args.seed)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1)
    model.save_pretrained(args.out)
    (args.out / "model.safetensors").chmod(0o644)

    # What was saved is what is measured, through the public classes.
    held_out = documents(ROOT / "test/fixtures/held-out.txt")
    loaded = AutoTokenizer.from_pretrained(args.out)
    for text in held_out:
        assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
    ids = encode(tokenizer, held_out, eos=False)
    text_bytes = sum(len(text.encode()) for text in held_out)

    def fresh():
        return AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.float32)

    original = perplexity(fresh(), ids, args.length)
    print(f"held-out: {len(ids)} tokens ({text_bytes / len(ids):.2f} bytes each), perplexity {original:.2f}; chance {VOCABULARY}")
    for bits in (8, 4, 3, 2):
        model = fresh()
        round_to_nearest(model, bits, 32)
        print(f"rounded to {bits} bit, groups of 32: {perplexity(model, ids, args.length):.2f}")


if __name__ == "__main__":
    main()
