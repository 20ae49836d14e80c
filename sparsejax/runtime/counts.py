"""counts.safetensors: how many entities of each sentence are right, so that it can be resampled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sparsejax import files
from sparsejax.errors import UserError
from sparsejax.runtime.rows import Row

SCHEMA = "1"


def write(path: Path, counts: Mapping[str, np.ndarray], setting: Row) -> None:
    """Writes the counts of an evaluation; the file is either the old one or the new one.

    Args:
      path: of the file.
      counts: by language, uint16 [sentences, 3]: correct, predicted and gold entities.
      setting: which evaluation it is, of `results.setting`.
    """
    arrays = {code: np.ascontiguousarray(array) for code, array in counts.items()}
    about = {"schema": SCHEMA, "setting": json.dumps(setting)}
    files.write_whole(path, save(arrays, metadata=about))


def read(path: Path) -> tuple[dict[str, np.ndarray], Row]:
    """Counts and setting, as they were written.

    Raises:
      UserError: it cannot be read, is damaged, or is of another version.
    """
    try:
        with safe_open(path, "numpy") as file:
            about = file.metadata() or {}
            if about.get("schema") != SCHEMA:
                raise UserError(f"{path}: of another version of sparsejax; evaluate the run again")
            counts = {code: file.get_tensor(code) for code in file.keys()}  # noqa: SIM118
        setting: Row = json.loads(about["setting"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read or is damaged: {reason}") from None
    return counts, setting
