"""What every peer's script has in common: its arguments, the calibration tokens, and what the work cost."""
import argparse
import json
import resource
import time
from contextlib import contextmanager


def arguments(what):
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("model", help="folder of the checkpoint")
    parser.add_argument("calibration", help="JSON: token sequences of one length, as scripts/bench-quality.ts writes them")
    parser.add_argument("output", help="folder for the quantized checkpoint")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=64)
    return parser


def sequences(path):
    with open(path) as file:
        return json.load(file)


@contextmanager
def measured(output):
    """Writes wall seconds, CPU seconds and peak RSS of the work inside to output/cost.json."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.time()
    yield
    after = resource.getrusage(resource.RUSAGE_SELF)
    cost = {
        "seconds": time.time() - began,
        "cpuSeconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peakBytes": after.ru_maxrss * 1024,
    }
    with open(f"{output}/cost.json", "w") as file:
        json.dump(cost, file)
    print(json.dumps(cost))
