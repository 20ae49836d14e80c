"""Tagged tokens per second of models with heads and neurons cut out, against the whole one.

    python bench/cut_speed.py --shared ../shared --out docs/benchmarks/cut_speed.json

The encoder in shared (12 layers, 384 wide, a random classifier), float32, the CPU cores of this
process, full rows of 128 pieces. Half of the neurons, half of the heads or both are set to zero in
each layer, those of the smallest norm: the masked models. `sparsejax.models.cutting` makes the cut
ones of them. Both sides read the same directories: sparsejax compiles with JAX, and PyTorch runs
the models as transformers loads them. In each round every model runs once, in another order;
medians count. Nothing is timed before a model has run twice.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import workload

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
SHARES = {
    "half of the neurons": ("neurons",),
    "half of the heads": ("heads",),
    "half of both": ("neurons", "heads"),
}


def mask(params, config, what):
    """Copies of the parameters with half of these set to zero, in each layer."""
    import copy

    import jax
    import numpy as np

    params = copy.deepcopy(jax.tree.map(np.array, params))
    for layer in params["encoder"].values():
        for part, width in (("mlp", 1), ("attention", config.head_width)):
            if {"mlp": "neurons", "attention": "heads"}[part] in what:
                kernel = layer[part]["output"]["kernel"]
                blocks = kernel.reshape(-1, width * kernel.shape[1])
                least = np.argsort(np.linalg.norm(blocks, axis=1))[: len(blocks) // 2]
                blocks[least] = 0
    return params


def make_models(shared: Path, directory: Path) -> dict[str, int]:
    """A model directory of each name; returns the parameters of their encoders."""
    import jax

    from sparsejax.models import cutting, huggingface

    checkpoint = shared / "models/e5-small-39"
    tokenizer, shape = huggingface.load_shape(checkpoint, len(TAGS))
    params, _ = huggingface.load(checkpoint, shape, TAGS, jax.random.key(0))
    models = {"whole": (params, shape)}
    for name, what in SHARES.items():
        masked = mask(params, shape, what)
        models[f"{name}, masked"] = (masked, shape)
        models[f"{name}, cut"] = cutting.cut(masked, shape)[:2]
    for name, (tree, config) in models.items():
        (directory / name).mkdir()
        huggingface.save(directory / name, tree, config, TAGS, tokenizer)
    return {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree["encoder"]))
        for name, (tree, _) in models.items()
    }


def sparsejax_side(directory: Path, tokens):
    """A function that runs the model of a directory on these rows and gives its logits."""
    import jax
    import numpy as np

    from sparsejax.models import bert, huggingface

    _, config = huggingface.load_shape(directory, len(TAGS))
    params, _ = huggingface.load(directory, config, TAGS, jax.random.key(0))
    params = jax.tree.map(jax.numpy.asarray, params)
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    ones = np.ones_like(tokens)
    compiled = jax.jit(bert.apply, static_argnums=0)
    return lambda: np.asarray(compiled(config, params, tokens, positions, ones))


def pytorch_side(directory: Path, tokens):
    import torch
    import transformers

    model = transformers.AutoModelForTokenClassification.from_pretrained(
        directory, trust_remote_code=True
    ).eval()
    inputs = torch.tensor(tokens, dtype=torch.long)

    def run():
        with torch.inference_mode():
            return model(inputs).logits.numpy()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, help="JSON file to write; default: only print")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=8)
    args = parser.parse_args()
    if not (args.shared / "models/e5-small-39").is_dir():
        sys.exit(f"error: --shared: {args.shared}/models/e5-small-39 is not there")
    import numpy as np
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tokens = np.random.default_rng(0).integers(1000, 40000, (args.rows, 128), np.int32)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        sizes = make_models(args.shared, directory)
        runs = {
            (side, name): make(directory / name, tokens)
            for side, make in (("sparsejax", sparsejax_side), ("pytorch", pytorch_side))
            for name in sizes
        }
        logits = {key: run() for key, run in runs.items()}
        for run in runs.values():
            run()
        found: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
        shuffle = random.Random(0)
        for round_ in range(args.rounds):
            for key in shuffle.sample(list(runs), len(runs)):
                began = time.perf_counter()
                runs[key]()
                found[key].append(tokens.size / (time.perf_counter() - began))
            print(f"round {round_ + 1} of {args.rounds}", flush=True)
    sides = ("sparsejax", "pytorch")
    medians = {s: {n: statistics.median(found[s, n]) for n in sizes} for s in sides}
    report = workload.report(("jax", "torch", "transformers"), workload.host()) | {
        "rows": args.rows,
        "encoder_parameters": sizes,
        "largest_difference_of_logits": {
            s: {n: float(np.abs(logits[s, f"{n}, cut"] - logits[s, f"{n}, masked"]).max())
                for n in SHARES}
            for s in sides
        },
        "tokens_per_second": medians,
        "times_as_fast_as_whole": {
            s: {n: medians[s][n] / medians[s]["whole"] for n in sizes} for s in sides
        },
        "rounds": {s: {n: found[s, n] for n in sizes} for s in sides},
    }  # fmt: skip
    for side in sides:
        for name, ratio in report["times_as_fast_as_whole"][side].items():
            print(f"{side}, {name}: {medians[side][name]:,.0f} tokens/s, {ratio:.2f}")
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
