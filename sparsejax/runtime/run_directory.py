"""A run's directory: refused when it is taken, and written so that no file is ever half there.

- config.yaml: the complete configuration
- metrics.jsonl: one row per logged step
- results.jsonl: one row per language and average, one for the realised sparsity
- model/: the tagger in Hugging Face's format
- log.txt: what was printed
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sparsejax.errors import UserError

CONTENTS = ("config.yaml", "metrics.jsonl", "results.jsonl", "model", "log.txt")


def choose(output: str | None, overwrite: bool) -> Path:
    """The directory a run will use; nothing is created or removed yet.

    Raises:
      UserError: it holds a run and `overwrite` is off, or it holds other things.
    """
    if output is None:
        base = Path("runs", datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))
        path, number = base, 1
        while path.exists():
            number += 1
            path = base.with_name(f"{base.name}-{number}")
        return path
    path = Path(output)
    if not path.exists():
        return path
    if not path.is_dir():
        raise UserError(f"output: {path} is a file, not a directory")
    held = sorted(p.name for p in path.iterdir())
    if "config.yaml" in held and not overwrite:
        raise UserError(f"output: {path} already holds a run; pass --overwrite to replace it")
    foreign = [name for name in held if name not in CONTENTS]
    if foreign:
        raise UserError(
            f"output: {path} holds {foreign[0]!r}, which no run writes; choose another directory"
        )
    return path


def create(path: Path) -> None:
    """Makes the directory, without anything that an earlier run left in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name in CONTENTS:
            if (path / name).is_dir():
                shutil.rmtree(path / name)
            else:
                (path / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"output: {path}: cannot be written: {error.strerror}") from None


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds one JSON object as a line, in one write."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSON objects, one a line; the file appears whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)


def write_directory(path: Path, fill: Callable[[Path], None]) -> None:
    """Makes a directory appear whole: `fill` writes a temporary one, which is then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        fill(temporary)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
