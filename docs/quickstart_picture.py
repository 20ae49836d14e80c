"""Draws what a run printed at its end: python docs/quickstart_picture.py RUN docs/quickstart.svg"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console

from sparsejax.data import languages
from sparsejax.prune import Audit, Count
from sparsejax.runtime import tables

PARTS = ("targets", "encoder", "model")


def main(run: Path, picture: Path) -> None:
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text("utf-8").splitlines()]
    (sparsity,) = [row for row in rows if row["kind"] == "sparsity"]
    of = {name: Count(*(sparsity[name][field] for field in Count._fields)) for name in PARTS}
    audit = Audit({}, *(of[name] for name in PARTS), {})
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=76, file=nowhere)
        console.print(tables.scores(rows, languages.table()))
        console.print(tables.sparsity(audit))
    console.save_svg(str(picture), title="python -m sparsejax.train")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
