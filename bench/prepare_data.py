"""Reading and tokenising all training sentences: the first time, and from the cache.

    python bench/prepare_data.py --out docs/benchmarks/prepare_data.json

All languages that the directory has, packed into rows of 128. The second process finds what the
first one left. Peak memory is that of the process, and of the largest of those that it started.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def prepare(data_dir: Path, model: Path, cache: Path) -> dict[str, float]:
    import numpy as np

    from sparsejax.config import DataConfig
    from sparsejax.data import packing, preparation, sources, tokenization

    data = DataConfig(dir=str(data_dir), length=128, cache=str(cache))
    tokenizer = tokenization.load_tokenizer(model)
    began = time.perf_counter()
    parts = sources.parts(data, "train", sources.train_languages(data))
    found = preparation.prepare(parts, tokenizer, data, None)
    prepared = time.perf_counter() - began
    together = tokenization.concatenate([part.encoded for part in found.values()])
    order = np.random.default_rng(0).permutation(len(together.lengths))
    began = time.perf_counter()
    packed = packing.pack(together, 128, tokenizer.pad_token_id, order)
    peaks = [
        resource.getrusage(who).ru_maxrss * 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return {
        "languages": len(found),
        "sentences": len(together.words),
        "pieces": len(together.tokens),
        "rows": len(packed.tokens),
        "row_share_filled": len(together.tokens) / packed.tokens.size,
        "seconds_to_prepare": prepared,
        "seconds_to_pack": time.perf_counter() - began,
        "peak_bytes": peaks[0],
        "peak_bytes_of_a_worker": peaks[1],
        "cache_bytes": sum(file.stat().st_size for file in cache.iterdir()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/panx"))
    parser.add_argument("--model", type=Path, default=Path("../shared/models/e5-small-39"))
    parser.add_argument("--out", type=Path, help="JSON file to write; default: only print")
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cache:
        print(json.dumps(prepare(args.data, args.model, args.cache)))
        return
    if not args.data.is_dir():
        sys.exit(f"error: --data: {args.data} is not there")
    report: dict[str, object] = {
        "date": datetime.date.today().isoformat(),
        "device": f"{len(os.sched_getaffinity(0))} CPU cores, {platform.machine()}",
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "tokenizers")},
    }
    with tempfile.TemporaryDirectory() as cache:
        for time_ in ("first", "second"):
            command = [sys.executable, __file__, "--cache", cache]
            command += ["--data", str(args.data), "--model", str(args.model)]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            report[time_] = json.loads(result.stdout.splitlines()[-1])
            print(f"{time_} time: {result.stdout.strip()}", flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
