"""Nothing that is there is lost, and nothing is ever half there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparsejax.errors import UserError
from sparsejax.runtime import run_directory


def test_default_names_never_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = []
    for _ in range(4):
        paths.append(run_directory.choose(None, overwrite=False))
        run_directory.create(paths[-1])
    assert len(set(paths)) == 4
    assert all(path.is_dir() and path.parent.name == "runs" for path in paths)


def test_choosing_changes_nothing(tmp_path: Path) -> None:
    assert run_directory.choose(str(tmp_path / "new"), overwrite=False) == tmp_path / "new"
    assert list(tmp_path.iterdir()) == []


def test_rows_are_the_old_ones_until_the_new_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    run_directory.write_rows(path, [{"f1": 0.5}, {"language": "ελ"}])
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
        {"f1": 0.5},
        {"language": "ελ"},
    ]
    with pytest.raises(TypeError):
        run_directory.write_rows(path, [{"f1": 0.6}, {"f1": object()}])
    assert path.read_text("utf-8").startswith('{"f1": 0.5}')
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(path: Path) -> None:
        (path / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_directory.write_directory(tmp_path / "model", fill)
    assert list(tmp_path.iterdir()) == []
    run_directory.write_directory(tmp_path / "model", lambda path: (path / "weights").touch())
    assert (tmp_path / "model/weights").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        run_directory.create(tmp_path / "file" / "run")
