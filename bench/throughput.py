"""Useful tokens per second of a training, by rows per step, on the devices at hand.

    python bench/throughput.py --rows 8 32 128 512 --out docs/scaling/throughput.json -- \\
      --config configs/panx.yaml --data.dir DATA --model.path MODEL --model.dtype bfloat16

Flags after `--` are those of the training whose step is measured; padding is not counted.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import statistics
import time
from pathlib import Path
from typing import Any

from sparsejax import command_line


def measure(job: Any, step: Any, state: Any, rows: int, seconds: float) -> tuple[float, Any]:
    """Tokens per second with so many rows per step, and the state afterwards."""
    import jax
    import numpy as np

    from sparsejax.data import mixing, packing
    from sparsejax.runtime import parallel

    pieces = np.count_nonzero(job.packed.segments, axis=1)
    size = parallel.padded(rows, job.mesh)
    orders = mixing.concatenation(len(pieces), 10**6, 0)
    tokens, began, ends = 0, 0.0, 0.0
    for i, numbers in enumerate(packing.batches(rows, orders)):
        batch = parallel.batch(job.packed, numbers, size, job.mesh)
        state, metrics = parallel.in_turn(step(state, batch, job.numbers))
        if i < 3:  # the first compiles, and the next ones may wait for it
            jax.block_until_ready(metrics)
            began = time.perf_counter()
            continue
        tokens += int(pieces[numbers].sum())
        # Looking at a clock does not wait for the device; every tenth step does.
        if i % 10 == 0:
            jax.block_until_ready(metrics)
            ends = time.perf_counter()
            if ends - began > seconds:
                break
    return tokens / (ends - began), state


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", required=True, help="per step, in all")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("train", nargs="*", help="flags of the training, after --")
    args = parser.parse_args()
    config = command_line.parse(args.train, "bench/throughput.py --", __doc__ or "")

    import jax

    from sparsejax.runtime import guards, logging, parallel, processes, setup, steps

    with processes.joined(config.parallel):
        config = setup.with_languages(config)
        job = setup.prepare(config, setup.read(config, logging.Log()))
        shardings = jax.tree.map(lambda leaf: leaf.sharding, job.state), parallel.whole(job.mesh)
        step = steps.make_train_step(job.program, shardings, job.masks)
        state, found = job.state, []
        for rows in args.rows:
            rates: list[float] = []
            with guards.memory(f"a step of {rows} rows", "leave it out of --rows"):
                for _ in range(args.repeats):
                    rate, state = measure(job, step, state, rows, args.seconds)
                    rates.append(rate)
            found.append({"rows": rows, "tokens_per_second": statistics.median(rates)})
            found[-1]["repeats"] = rates
            print(json.dumps(found[-1]), flush=True)
        report = {
            "date": datetime.date.today().isoformat(),
            "device": parallel.describe(job.mesh),
            "versions": {n: importlib.metadata.version(n) for n in ("jax", "flax", "optax")},
            "train": args.train,
            "length": config.data.length,
            "by_rows": found,
        }
        if processes.is_first():
            args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
