"""The same training on 1, 2 and 8 emulated devices and in 2 processes of 2: what differs?

    python bench/device_counts.py --out docs/scaling/device_counts.json

Flags after `--` go to the training; without any, one epoch of the quickstart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import workload
from safetensors.numpy import load_file

# name: (processes, devices of each, devices that share the parameters)
LAYOUTS = {
    "1 device": (1, 1, 1),
    "2 devices": (1, 2, 1),
    "8 devices": (1, 8, 1),
    "8 devices, parameters divided over 4": (1, 8, 4),
    "2 processes of 2 devices": (2, 2, 1),
    "2 processes of 2 devices, parameters divided over 4": (2, 2, 4),
}


def train(
    directory: Path, words: list[str], processes: int, devices: int, fsdp: int
) -> subprocess.CompletedProcess[str]:
    """One run in so many processes; returns what the first of them printed."""
    line = [sys.executable, "-m", "sparsejax.train", *words, "--output", str(directory)]
    line += ["--parallel.cpu_devices", str(devices), "--parallel.fsdp", str(fsdp)]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        line += ["--parallel.coordinator", f"127.0.0.1:{port}"]
        line += ["--parallel.processes", str(processes), "--parallel.process"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen(
            [*line, str(i)] if processes > 1 else line,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]
    found = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, found, strict=True):
        if process.returncode:
            sys.exit(f"{' '.join(line)}: exit status {process.returncode}\n{errors[-2000:]}")
    return subprocess.CompletedProcess(line, 0, *found[0])


def scores(directory: Path) -> dict[str, Any]:
    rows = map(json.loads, (directory / "results.jsonl").read_text().splitlines())
    return {row["language"]: row for row in rows if row["kind"] == "scores"}


def compare(directory: Path, other: Path) -> dict[str, Any]:
    """A run beside the first one."""
    masks = [load_file(path / "masks.safetensors") for path in (directory, other)]
    params = [load_file(path / "model/model.safetensors") for path in (directory, other)]
    gaps = {name: float(np.abs(value - params[1][name]).max()) for name, value in params[0].items()}
    worst = max(gaps, key=gaps.__getitem__)
    keys = {name for name in gaps if name.endswith("attention.self.key.bias")}
    bits = b"".join(masks[0][name].tobytes() for name in sorted(masks[0]))
    different = sum(
        int(np.unpackbits(value ^ masks[1][name]).sum()) for name, value in masks[0].items()
    )
    return {
        "macro_f1": scores(directory)["macro"]["f1"],
        "masks_sha256": hashlib.sha256(bits).hexdigest(),
        "mask_bits_that_differ": different,
        "largest_difference": gaps[worst],
        "where": worst,
        # The gradient of these is zero but for rounding, and Adam makes steps of it.
        "largest_difference_but_key_biases": max(v for k, v in gaps.items() if k not in keys),
    }


def row(name: str, found: dict[str, Any]) -> str:
    """A line of the table in Markdown."""
    cells = (
        f"{100 * found['macro_f1']:.2f}",
        f"`{found['masks_sha256'][:12]}`",
        *(
            f"{found[key]:.1e}"
            for key in ("largest_difference", "largest_difference_but_key_biases")
        ),
    )
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--runs", type=Path, help="keep the runs there, 0 and on")
    parser.add_argument(
        "--layouts",
        nargs="+",
        choices=list(LAYOUTS),
        default=list(LAYOUTS),
        metavar="NAME",
        help=f"by default all: {'; '.join(LAYOUTS)}. The first is what others are compared with",
    )
    parser.add_argument("train", nargs="*", help="flags of the training, after --")
    args = parser.parse_args()
    words = args.train or ["--train.epochs", "1"]
    with tempfile.TemporaryDirectory() as temporary:
        root = args.runs or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        found: dict[str, Any] = {}
        first = root / "0"
        for i, name in enumerate(args.layouts):
            train(root / str(i), words, *LAYOUTS[name])
            found[name] = compare(root / str(i), first)
            print(row(name, found[name]), flush=True)
    report = workload.report(("jax", "flax", "optax"), workload.host(), train=words, layouts=found)
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
