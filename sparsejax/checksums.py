"""SHA256SUMS: a directory says of each of its files what it must hold, as `sha256sum` does.

README.md is left out: a model card is there to be edited.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from sparsejax.errors import UserError

NAME = "SHA256SUMS"


def write(directory: Path) -> None:
    """Writes SHA256SUMS over every file below a directory; `sha256sum -c` reads it as well."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    names = sorted(path.relative_to(directory).as_posix() for path in paths)
    lines = [
        f"{_digest(directory / name)}  {name}\n"
        for name in names
        if name not in (NAME, "README.md")
    ]
    # To `sha256sum` a comment; without it a file that was cut off would list fewer files.
    text = "".join([*lines, f"# {len(lines)} files\n"])
    (directory / NAME).write_text(text, "utf-8")


def check(directory: Path, only: str | None = None) -> None:
    """Holds the files of a directory to its SHA256SUMS; without one, nothing is known of them.

    Args:
      directory: with its files.
      only: one of them, the only one to be read; None: all.

    Raises:
      UserError: a file is missing or another than it was, or SHA256SUMS itself is damaged.
    """
    sums = directory / NAME
    try:
        text = sums.read_bytes().decode()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f"{sums}: cannot be read ({error})") from None
    *lines, last = text.removesuffix("\n").split("\n")
    if last != f"# {len(lines)} files":
        raise UserError(f"{sums}: damaged: its last line is not the number of files")
    for number, line in enumerate(lines, 1):
        found = re.fullmatch(r"([0-9a-f]{64})  ([^\x00]+)", line)
        # A name that leads out of the directory is nothing that was written here.
        if found is None or ".." in Path(found[2]).parts or Path(found[2]).is_absolute():
            raise UserError(f"{sums}:{number}: damaged")
        if only is not None and found[2] != only:
            continue
        path = directory / found[2]
        try:
            same = _digest(path) == found[1]
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}, though {NAME} lists it") from None
        if not same:
            raise UserError(f"{path}: damaged or changed: it is not what {NAME} beside it says")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
