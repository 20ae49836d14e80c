"""Arrays on disk that can be made again: whole files or none, damaged ones made anew."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sparsejax import files
from sparsejax.errors import UserError


def default_directory() -> Path:
    """$SPARSEJAX_CACHE, else sparsejax in the user's cache directory."""
    if os.environ.get("SPARSEJAX_CACHE"):
        return Path(os.environ["SPARSEJAX_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".cache") / "sparsejax"
    except RuntimeError:  # a user without a home, as in some containers
        raise UserError("data.cache: there is no home directory; pass --data.cache") from None


def write(path: Path, arrays: Mapping[str, np.ndarray], note: str) -> None:
    """As `write_whole`; where that fails, the cache is lost and nothing else."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, arrays, note)


def write_whole(path: Path, arrays: Mapping[str, np.ndarray], note: str) -> None:
    """Writes arrays and a text; the file is either the old one or the new one, never a half."""
    metadata = {"note": note, "checksum": _checksum(arrays, note)}
    # As they are in memory, so that what is not contiguous would be written wrong.
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # Not save_file: its files are for their owner alone, and a full disk is no OSError there.
    files.write_whole(path, save(whole, metadata=metadata))


def read(path: Path) -> tuple[dict[str, np.ndarray], str] | None:
    """What `write` wrote; None where it is not there or is not what was written."""
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError, AttributeError, TypeError):  # the last: a type NumPy lacks
        return None
    note = metadata.get("note", "")
    return (arrays, note) if metadata.get("checksum") == _checksum(arrays, note) else None


def _checksum(arrays: Mapping[str, np.ndarray], note: str) -> str:
    digest = hashlib.blake2b(note.encode(), digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
