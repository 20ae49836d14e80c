"""Bytes of a compressed encoder at 90 % sparsity, as shares of the dense one in the same type.

python bench/compressed_size.py --shared ../shared --out docs/benchmarks/compressed_size.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from sparsejax.models import compressed

WIDTHS = {"float32": 4, "float16": 2, "int8": 1}


def prune(weights: np.ndarray) -> np.ndarray:
    """The tenth of a matrix that is largest in magnitude."""
    out = weights.copy().reshape(-1)
    pruned = round(0.9 * out.size)
    out[np.argpartition(np.abs(out), pruned)[:pruned]] = 0
    return out.reshape(weights.shape)


def real(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, "numpy") as file:
        tensors = {n: file.get_tensor(n) for n in file.keys() if "encoder." in n}  # noqa: SIM118
    return {n: prune(x.astype(np.float32)) if x.ndim == 2 else x.astype(np.float32)
            for n, x in tensors.items()}  # fmt: skip


def drawn(like: dict[str, np.ndarray], factor: int) -> dict[str, np.ndarray]:
    """Random weights of a wider encoder."""
    rng = np.random.default_rng(0)
    shapes = {name: tuple(factor * size for size in x.shape) for name, x in like.items()}
    found = {n: rng.normal(0, 0.02, shape).astype(np.float32) for n, shape in shapes.items()}
    return {name: prune(x) if x.ndim == 2 else x for name, x in found.items()}


def report(tensors: dict[str, np.ndarray], values: compressed.Values) -> dict[str, float]:
    width = WIDTHS[values]
    dense = width * sum(x.size for x in tensors.values())
    content, _ = compressed.encode(tensors, values)
    parts = safetensors.numpy.load(content)
    full = {name: np.where(x == 0, np.float32(0.01), x) for name, x in tensors.items()}
    # What all forms have besides the masks: kept values, vectors, scales.
    stored = sum(part.nbytes for part in parts.values())
    rest = sum(part.nbytes for name, part in parts.items() if not name.endswith(".mask"))
    matrices = [x for x in tensors.values() if x.ndim == 2]
    bits = sum(-(-x.size // 8) for x in matrices)
    # compressed-tensors: a bit for each weight, rows filled up to bytes, and an int64 for each row.
    offsets = sum(x.shape[0] * (-(-x.shape[1] // 8) + 8) for x in matrices)
    return {
        "tensors": stored / dense,
        "file": len(content) / len(compressed.encode(full, values)[0]),
        "plain_bit_mask": (rest + bits) / dense,
        "compressed_tensors": (rest + offsets) / dense,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    encoder = real(args.shared / "models/e5-small-39/model.safetensors")
    found = {}
    for name, tensors in (("384 wide", encoder), ("768 wide", drawn(encoder, 2))):
        found[name] = {values: report(tensors, values) for values in WIDTHS}
        for values, shares in found[name].items():
            print(name, values, {key: round(share, 4) for key, share in shares.items()}, flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
