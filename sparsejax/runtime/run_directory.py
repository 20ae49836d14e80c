"""A run's directory: refused when it is taken, and written so that no file is ever half there.

- config.yaml: the complete configuration
- metrics.jsonl: one row per logged step
- results.jsonl: one row per language and average, one for the realised sparsity
- disagreement.jsonl: where another run differs, once it was compared
- seen.safetensors: which sentences and entities it was trained on, as keys
- masks.safetensors: which weights are kept, of a run that pruned
- model/: the tagger in Hugging Face's format
- export/: the same in other forms, once it was exported
- log.txt: what was printed
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sparsejax.config import DataConfig
from sparsejax.errors import UserError
from sparsejax.files import write_whole

Row = dict[str, Any]

SCHEMA = 1  # of the rows of results.jsonl: raised when a field changes its meaning

_CONTENTS = (
    r"(config\.yaml|metrics\.jsonl|results\.jsonl|disagreement\.jsonl|masks\.safetensors|"
    r"seen\.safetensors|model|export|log\.txt)"
)
# Of a run, or a temporary file that a killed one left.
_OURS = re.compile(rf"{_CONTENTS}|\.{_CONTENTS}\.\d+")


def check(output: str | None, overwrite: bool, inputs: Iterable[str | None]) -> None:
    """Refuses a directory that a run must not use; nothing is created or removed.

    Args:
      output: the directory asked for; None is never refused.
      overwrite: whether a run that is there may be replaced.
      inputs: paths that the run reads.

    Raises:
      UserError: it holds a run and `overwrite` is off, it holds other things, or replacing the run
        would remove what is to be read.
    """
    if output is None or not Path(output).exists():
        return
    path = Path(output)
    if not path.is_dir():
        raise UserError(f"output: {path} is a file, not a directory")
    held = sorted(p.name for p in path.iterdir())
    foreign = [name for name in held if not _OURS.fullmatch(name)]
    if foreign or (held and "config.yaml" not in held):
        raise UserError(
            f"output: {path} holds {(foreign or held)[0]!r} and is not just a run; "
            "choose another directory"
        )
    if held and not overwrite:
        raise UserError(f"output: {path} already holds a run; pass --overwrite to replace it")
    for name in filter(None, inputs):
        if path.resolve() in (Path(name).resolve(), *Path(name).resolve().parents):
            raise UserError(f"output: replacing {path} would remove {name}, which this run reads")


def create(output: str | None) -> Path:
    """Makes the directory that `check` passed, without anything that an earlier run left in it.

    Args:
      output: None for a new one, runs/<date>-<time>, that no other process has.

    Raises:
      UserError: it cannot be made or written to.
    """
    try:
        if output is None:
            return _create_new(Path("runs", datetime.datetime.now().strftime("%Y%m%d-%H%M%S")))
        path = Path(output)
        path.mkdir(parents=True, exist_ok=True)
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        return path
    except OSError as error:
        raise UserError(
            f"output: {output or 'runs'}: cannot be written: {error.strerror}"
        ) from None


def _create_new(base: Path) -> Path:
    base.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("unreachable")


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds one JSON object as a line, in one write."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(_line(row))


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSON objects, one a line; the file appears whole."""
    write_whole(path, "".join(map(_line, rows)).encode())


# Ends of lines to some readers, though not to JSON.
_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False).translate(_BREAKS) + "\n"


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


def replace_rows(path: Path, where: Row, rows: Iterable[Row]) -> None:
    """Puts rows into a file of rows in the place of those that have all the values of `where`.

    The file is either the old one or the new one; two processes that do this wait for each other.

    Raises:
      UserError: the file holds something else than rows.
    """
    with _locked(path.parent):
        found = read_rows(path) if path.exists() else []
        kept = [r for r in found if any(r.get(k, ...) != value for k, value in where.items())]
        write_rows(path, [*kept, *rows])


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of rows.

    Raises:
      UserError: it cannot be read, or a line is something else.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines[:-1] if lines[-1] == b"" else lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            rows.append(None)
        if not isinstance(rows[-1], dict):
            raise UserError(f"{path}:{number}: not a JSON object; remove the line")
    return rows


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    import fcntl

    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # closing it, or the end of the process, unlocks
        yield
    finally:
        os.close(descriptor)


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
