"""Useful tokens per second of a training, by rows per step, on the devices at hand.

    python bench/throughput.py --rows 8 32 128 512 --out docs/scaling/throughput.json -- \\
      --config configs/panx.yaml --data.dir DATA --model.path MODEL --model.dtype bfloat16

Flags after `--` are those of the training whose steps are measured; padding is not counted. On a
device whose peak is known there is MFU, too: 6 operations for each useful token and weight of a
matrix, over time and peak in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import workload

from sparsejax import command_line
from sparsejax.config import Config


def measure(
    config: Config, job: Any, step: Any, state: Any, rows: int, seconds: float
) -> tuple[float, Any]:
    """Tokens per second with so many rows per step, and the state afterwards."""
    import jax
    import numpy as np

    from sparsejax.data import mixing, packing
    from sparsejax.runtime import parallel, pruning
    from sparsejax.runtime.calls import calls

    pieces = np.count_nonzero(job.packed.segments, axis=1)
    size = parallel.padded(rows, job.mesh)
    numbers = packing.batches(rows, mixing.concatenation(len(pieces), 10**6, 0))
    tokens, began, before = 0, 0.0, None
    done, due = int(state.step), pruning.due(config.prune, job.total)
    for i, (chosen, count) in enumerate(calls(numbers, size, done, due=due)):
        batches = parallel.batches(job.packed, chosen, job.mesh)
        times = parallel.place(np.int32(count), parallel.whole(job.mesh))
        state, metrics = parallel.in_turn(step(state, batches, times, job.numbers))
        if i < 2:  # the first compiles, and the next one may wait for it
            jax.block_until_ready(metrics)
            began = time.perf_counter()
            continue
        # The devices have the next call before the last one is waited for.
        jax.block_until_ready(before)
        before = metrics
        tokens += int(pieces[chosen[chosen >= 0]].sum())
        if time.perf_counter() - began > seconds:
            break
    jax.block_until_ready(before)
    return tokens / (time.perf_counter() - began), state


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

    from sparsejax.runtime import chips, guards, logging, parallel, processes, setup, steps

    with processes.joined(config.parallel):
        config = setup.with_languages(config)
        job = setup.prepare(config, setup.read(config, logging.Log()))
        shardings = jax.tree.map(lambda leaf: leaf.sharding, job.state), parallel.whole(job.mesh)
        step = steps.make_train_steps(job.program, shardings, job.masks)
        state, found, peak = job.state, [], workload.peak()
        for rows in args.rows:
            rates: list[float] = []
            with guards.memory(f"a step of {rows} rows", "leave it out of --rows"):
                for _ in range(args.repeats):
                    rate, state = measure(config, job, step, state, rows, args.seconds)
                    rates.append(rate)
            found.append({"rows": rows, "tokens_per_second": statistics.median(rates)})
            found[-1]["repeats"] = rates
            if peak is not None:
                each = chips.matrix_flops(state.params, 1, training=True)
                found[-1]["mfu"] = found[-1]["tokens_per_second"] * each / peak
            print(json.dumps(found[-1]), flush=True)
        report = workload.report(
            ("jax", "flax", "optax"),
            train=args.train,
            length=config.data.length,
            by_rows=found,
        )
        if processes.is_first():
            workload.write(report, args.out)


if __name__ == "__main__":
    main()
