"""JSON lines: files of rows, one JSON object on each line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sparsejax.files import write_whole

Row = dict[str, Any]

# Ends of lines to some readers, though not to JSON.
_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def line(row: Row) -> str:
    """One row as JSON, its end of line included."""
    return json.dumps(row, ensure_ascii=False).translate(_BREAKS) + "\n"


def append(path: Path, row: Row) -> None:
    """Adds one row, in one write."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line(row))
    except OSError as error:  # of a write, which does not know the file
        raise OSError(error.errno, error.strerror, str(path)) from None


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows; the file is either the old one or the new one."""
    write_whole(path, "".join(map(line, rows)).encode())
