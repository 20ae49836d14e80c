"""counts.safetensors: what comes back is what was written, and damage is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsejax.errors import UserError
from sparsejax.runtime import counts


def written(path: Path) -> dict[str, np.ndarray]:
    arrays = {"en": np.array([[1, 2, 3], [0, 0, 65535]], np.uint16), "yo": np.zeros((0, 3), "u2")}
    counts.write(path, arrays, {"split": "test", "seed": None})
    return arrays


def test_round_trip(tmp_path: Path) -> None:
    arrays = written(tmp_path / "counts.safetensors")
    found, setting = counts.read(tmp_path / "counts.safetensors")
    assert setting == {"split": "test", "seed": None}
    assert found.keys() == arrays.keys()
    for code, array in arrays.items():
        np.testing.assert_array_equal(found[code], array)
        assert found[code].dtype == np.uint16


@pytest.mark.parametrize("keep", [0, 5, 100])
def test_a_file_that_was_cut_off(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "counts.safetensors"
    written(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="cannot be read or is damaged"):
        counts.read(path)


def test_a_file_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "counts.safetensors"
    monkeypatch.setattr(counts, "SCHEMA", "0")
    written(path)
    monkeypatch.undo()
    with pytest.raises(UserError, match="another version"):
        counts.read(path)
