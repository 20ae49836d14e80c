"""What mBERT needs on TPU pods that are not there: every line of the table in docs/scaling.md.

python bench/aot_table.py --out docs/scaling/aot.json

Takes an hour or more on two CPU cores, up to 10 GB of memory, and libtpu: pip install '.[tpu]'.
Each line is one command of `sparsejax.aot`, which is kept with its report, or with its error where
it does not fit. Lines that the file holds already, made by the same versions, are not made again.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sparsejax import files

MAGNITUDE, MOVEMENT = (f"configs/wikiann_mbert_{name}.yaml" for name in ("magnitude", "movement"))
TOPOLOGIES = ("v4:2x2x2", "v5e:4x4", "v5e:16x16", "v6e:4x4")
LINES = (
    *(f"--config {c} --topology {t} --rows 256" for c in (MAGNITUDE, MOVEMENT) for t in TOPOLOGIES),
    f"--config {MAGNITUDE} --topology v5e:4x4 --rows 256 --parallel.fsdp 4",
    f"--config {MOVEMENT} --topology v5e:4x4 --rows 256 --parallel.fsdp 4",
    # As large as a step can be: above a point the compiler keeps less and computes it again.
    f"--config {MAGNITUDE} --topology v5e:4x4 --rows 4096",
    f"--config {MAGNITUDE} --topology v5e:4x4 --rows 8192",
)

HEAD = """\
| method | topology | chips, hosts | rows on each | training, GiB | evaluation, GiB | TFLOP \
| by XLA | all-reduce, MB | others, MB | bound, ms | compiled in, s |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


def compile_line(flags: str) -> dict[str, Any]:
    """Runs one command, and returns what it said."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.json"
        words = [sys.executable, "-m", "sparsejax.aot", *shlex.split(flags), "--json", str(path)]
        began = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True)
        line = {
            "command": f"python -m sparsejax.aot {flags}",
            "status": done.returncode,
            "seconds": round(time.monotonic() - began, 1),
        }
        if done.returncode:
            return line | {"error": done.stderr.strip().splitlines()[-1]}
        return line | {"report": json.loads(path.read_text())}


def row(line: dict[str, Any]) -> str:
    """A line of the table in Markdown."""
    if "report" not in line:
        return f"`{line['command']}` ends with status {line['status']}: {line['error']}"
    report = line["report"]
    step = report["training"]
    evaluation = sum(report["evaluation"]["memory"].values()) + report["beside"]
    sums = {"all-reduce": 0, "others": 0}
    for one in step["collectives"]:
        if one["on"] == "every step":
            sums[one["kind"] if one["kind"] in sums else "others"] += one["bytes"]
    bound = report["lower_bound"]
    longest = max(bound, key=lambda name: bound[name])
    cells = (
        report["method"],
        f"{report['topology']}{' fsdp ' + str(report['fsdp']) if report['fsdp'] > 1 else ''}",
        f"{report['devices']}, {report['hosts']}",
        step["rows"],
        f"{sum(step['memory'].values()) / 2**30:.2f} of {report['memory'] / 2**30:.0f}",
        f"{evaluation / 2**30:.2f}",
        f"{(step['matrix_flops'] + step['attention_flops']) / 1e12:.3f}",
        f"{step['xla_flops'] / 1e12:.3f}",
        *(f"{size / 1e6:,.0f}" for size in sums.values()),
        f"{1e3 * bound[longest]:.1f} ({longest})",
        f"{step['compile_seconds']:.0f} + {report['evaluation']['compile_seconds']:.0f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "libtpu")},
        "lines": [],
    }
    made = {}
    if out.exists():
        earlier = json.loads(out.read_text())
        if earlier["versions"] == content["versions"]:
            made = {line["command"]: line for line in earlier["lines"]}
    print(HEAD)
    for flags in LINES:
        line = made.get(f"python -m sparsejax.aot {flags}") or compile_line(flags)
        content["lines"].append(line)
        print(row(line), flush=True)
        rest = [made[command] for command in made if command not in commands(content)]
        whole = content | {"lines": content["lines"] + rest}
        files.write_whole(out, f"{json.dumps(whole, indent=1)}\n".encode())


def commands(content: dict[str, Any]) -> set[str]:
    return {line["command"] for line in content["lines"]}


if __name__ == "__main__":
    main()
