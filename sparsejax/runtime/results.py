"""results.jsonl: the rows of every evaluation of a run, each of them once and none damaged.

The first line holds the number of rows and a checksum of all that follows. Whoever changes a row by
hand removes that line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from sparsejax import files
from sparsejax.config import DataConfig
from sparsejax.errors import UserError
from sparsejax.runtime.rows import Row, line

SCHEMA = 1  # of the rows: raised when a field changes its meaning


def setting(
    data: DataConfig, codes: Iterable[str], split: str, perturbation: str = "none", seed: int = 0
) -> Row:
    """What tells the scores of one evaluation from those of another: fields of each of its rows."""
    return {
        "schema": SCHEMA,
        "data": os.path.abspath(data.dir) if data.dir else data.hub or "embedded",
        "split": split,
        "evaluated": sorted(codes),  # other languages, other averages and replacements
        "limit": data.eval_sentences,
        "subsample": None if data.eval_sentences is None else data.subsample,
        "perturbation": perturbation,
        "seed": None if perturbation == "none" else seed,
    }


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows and their checksum; the file is either the old one or the new one."""
    lines = [line(row) for row in rows]
    content = "".join(lines).encode()
    head = {"schema": SCHEMA, "kind": "checksum", "rows": len(lines), "crc32": _crc32(content)}
    files.write_whole(path, line(head).encode() + content)


def replace(path: Path, where: Row, rows: Iterable[Row]) -> None:
    """Puts rows into a file in the place of those that have all the values of `where`.

    The file is either the old one or the new one; two processes that do this wait for each other.

    Raises:
      UserError: the file is damaged, or holds something else than rows.
    """
    with _locked(path.parent):
        found = read(path) if path.exists() else []
        kept = [r for r in found if any(r.get(k, ...) != value for k, value in where.items())]
        write(path, [*kept, *rows])


def read(path: Path) -> list[Row]:
    """The rows of a file, without the checksum.

    Raises:
      UserError: it cannot be read, is damaged, or holds something else than rows.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if not content:
        raise UserError(f"{path}: empty, so it was cut off; remove it")
    rows = []
    for number, text in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        try:
            rows.append(json.loads(text))
        except (ValueError, RecursionError):
            rows.append(None)
        if not isinstance(rows[-1], dict):
            raise UserError(f"{path}:{number}: damaged, not a JSON object")
    if rows[0].get("kind") == "checksum":
        rest = content.partition(b"\n")[2]
        if rows[0].get("crc32") != _crc32(rest) or rows[0].get("rows") != len(rows) - 1:
            raise UserError(
                f"{path}: damaged or changed: its checksum is wrong; if you changed it, remove its "
                "first line"
            )
        return rows[1:]
    return rows


def _crc32(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # closing it, or the end of the process, unlocks
        yield
    finally:
        os.close(descriptor)
