"""Draws what a run printed at its end: python docs/quickstart_picture.py RUN docs/quickstart.svg"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console

from sparsejax.prune import Audit, Count
from sparsejax.runtime.logging import score_table, sparsity_table


def main(run: Path, picture: Path) -> None:
    lines = (run / "results.jsonl").read_text("utf-8").splitlines()
    *scores, sparsity = [json.loads(line) for line in lines]

    def count(name: str) -> Count:
        return Count(*(sparsity[name][field] for field in Count._fields))

    audit = Audit({}, count("targets"), count("encoder"), count("model"), {})
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=76, file=nowhere)
        console.print(score_table({row["language"]: row for row in scores}))
        console.print(sparsity_table(audit))
    console.save_svg(str(picture), title="python -m sparsejax.train")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
