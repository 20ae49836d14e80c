"""How long one waits before anything happens: import, --help, the first step.

    python bench/startup.py --out docs/benchmarks/startup.json

Whole processes, wall time in seconds, medians. The first step is that of the quickstart with 30
training sentences a language: until it is made the corpus is written out and tokenised, and the
training step compiled, or found where an earlier process left it. "Cold" is with empty caches.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import workload

RUN = "--data.train_sentences 30 --data.eval_sentences 5 --train.epochs 1 --train.log_every 1"


def timed(words: list[str], cache: str) -> float:
    """Seconds of a whole process."""
    ours = {"SPARSEJAX_CACHE": cache}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=kept | ours)
    return time.perf_counter() - began


def first_step(cache: str) -> float:
    """Seconds until the first step of a run is made: all of it but what follows that step."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run"
        words = [sys.executable, "-m", "sparsejax.train", *RUN.split(), "--output", str(path)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        began = time.perf_counter()
        process = subprocess.Popen(
            words, env=kept | {"SPARSEJAX_CACHE": cache}, stdout=subprocess.DEVNULL
        )
        # A row is written one logged step late.
        while not (path / "metrics.jsonl").exists():
            if process.poll() not in (None, 0):
                sys.exit("error: the run failed; see above")
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        process.wait()
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    measured: dict[str, list[float]] = {}

    def add(name: str, seconds: float) -> None:
        measured.setdefault(name, []).append(seconds)
        print(f"{name}: {seconds:.2f} s", flush=True)

    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as cache:
            add("python -c pass", timed(["-c", "pass"], cache))
            add("import sparsejax", timed(["-c", "import sparsejax"], cache))
            add("from sparsejax import prune", timed(["-c", "from sparsejax import prune"], cache))
            for program in ("train", "sweep", "report"):
                add(f"{program} --help", timed(["-m", f"sparsejax.{program}", "--help"], cache))
            add("first step, cold", first_step(cache))
            add("first step, warm", first_step(cache))
    seconds = {name: statistics.median(values) for name, values in measured.items()}
    report = workload.report(("jax", "flax", "tyro"), seconds=seconds, repeats=measured)
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
