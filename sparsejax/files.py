"""Files that are either the old one or the new one, never a half."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync(directory: Path) -> None:
    """Returns when every file below a directory would outlive a loss of power."""
    for path in [*directory.rglob("*"), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # of a directory, on some file systems
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a temporary file beside `path` and moves it into place.

    Raises:
      OSError: it cannot be written; what was there before is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
