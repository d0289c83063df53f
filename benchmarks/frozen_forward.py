"""How close does the frozen forward come to the matrix-product peak of this machine? One process measures both.

Peak: the best of ten 4096-cubed bf16 products. Forward: whet's own prefix over the training texts of banking77 up to
the pooled features, with the precision, threads and kernel that whet chooses here. Counted as padding-free tokens x 2
x parameters of the blocks (embeddings and the unused pooler left out; attention's own products are not counted, so
the share is a little too low). Prints one JSON object.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

import whet
from whet.backbones.cut import FeatureCut
from whet.learners.fitted import drain
from whet.tasks.encode import encode_rows
from whet.training.precision import Working
from whet.training.replay import run_prefix

SIDE = 4096


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--target", default="category")
    parser.add_argument("--runs", type=int, default=3)
    wanted = parser.parse_args()
    prepared = whet.plan(wanted.train, wanted.target, text=wanted.text, test=wanted.test, method="probe")
    plan, machinery, processor = prepared.plan, prepared.plan.machinery, prepared.processor
    torch.set_num_threads(machinery.threads)
    peak = peak_rate()
    backbone = plan.backbone.load(Path(plan.model.folder), outputs=2, seed=0)
    began = time.perf_counter()
    examples = encode_rows(prepared.split.train, prepared.columns, processor, None)
    encoding = time.perf_counter() - began
    blocks = [backbone.model.get_submodule(name) for name in backbone.blocks]
    parameters = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    live = Working.of(backbone.model, machinery.precision, torch.device(machinery.device)).live
    seconds = []
    for _ in range(wanted.runs):
        began = time.perf_counter()
        steps = run_prefix(live, FeatureCut(), examples, processor, stage="forward", most_tokens=machinery.most_tokens)
        drain(steps)
        seconds.append(time.perf_counter() - began)
    tokens = int(examples.lengths.sum())
    rate = tokens * 2 * parameters / float(np.median(seconds))
    facts = {
        "peak_gflops": peak / 1e9,
        "forward_gflops": rate / 1e9,
        "share": rate / peak,
        "seconds": seconds,
        "encoding_seconds": encoding,
        "tokens": tokens,
        "rows": len(examples),
        "parameters": parameters,
        "precision": machinery.precision,
        "threads": machinery.threads,
        "most_tokens": machinery.most_tokens,
        "attention": plan.backbone.attention,
    }
    print(json.dumps(facts))


def peak_rate() -> float:
    """FLOP a second of the best of ten bf16 products."""
    left, right = (torch.randn(SIDE, SIDE).to(torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return 2 * SIDE**3 / best


if __name__ == "__main__":
    main()
