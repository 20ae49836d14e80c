"""Reading and tokenising all training sentences: the first time, and from the cache.

    python bench/prepare_data.py --out docs/benchmarks/prepare_data.json

All languages that the directory has, packed into rows of 128. The second process finds what the
first one left. Peak memory is the sum of the resident pages of the process and of those that it
started, sampled every tenth of a second; pages that they share count more than once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import workload


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
    return {
        "languages": len(found),
        "sentences": len(together.words),
        "pieces": len(together.tokens),
        "different_pieces": len(np.unique(together.tokens)),
        "rows": len(packed.tokens),
        "row_share_filled": len(together.tokens) / packed.tokens.size,
        "seconds_to_prepare": prepared,
        "seconds_to_pack": time.perf_counter() - began,
        "cache_bytes": sum(file.stat().st_size for file in cache.iterdir()),
    }


def resident_bytes(root: int) -> int:
    """Memory of a process and all that descend from it, as Linux tells it."""
    parents, sizes = {}, {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            status = (directory / "status").read_text()
        except OSError:  # it has ended
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        pid = int(directory.name)
        parents[pid] = int(fields["PPid"])
        sizes[pid] = int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
    family, waiting = set(), {root}
    while waiting:
        family |= waiting
        waiting = {pid for pid, parent in parents.items() if parent in waiting} - family
    return sum(sizes.get(pid, 0) for pid in family)


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
    times = {}
    with tempfile.TemporaryDirectory() as cache:
        for time_ in ("first", "second"):
            command = [sys.executable, __file__, "--cache", cache]
            command += ["--data", str(args.data), "--model", str(args.model)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            peak = 0
            while process.poll() is None:
                peak = max(peak, resident_bytes(process.pid))
                time.sleep(0.1)
            if process.returncode:
                sys.exit(process.returncode)
            assert process.stdout is not None
            found = json.loads(process.stdout.read().splitlines()[-1]) | {"peak_bytes": peak}
            times[time_] = found
            print(f"{time_} time: {json.dumps(found)}", flush=True)
    workload.write(workload.report(("numpy", "tokenizers"), workload.host(), **times), args.out)


if __name__ == "__main__":
    main()
