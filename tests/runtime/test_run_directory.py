"""Nothing that is there is lost, and nothing is ever half there."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sparsejax.errors import UserError
from sparsejax.runtime import run_directory


def test_default_names_never_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when runs start in the same second, at the same time."""
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: run_directory.create(None), range(24)))
    assert len(set(paths)) == 24
    assert all(path.is_dir() and path.parent.name == "runs" for path in paths)


def test_checking_changes_nothing(tmp_path: Path) -> None:
    run_directory.check(str(tmp_path / "new"), False, [])
    run_directory.check(None, False, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model", "log.txt", "thesis.tex", ".thesis.tex.12"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_what_no_run_left_is_never_removed(tmp_path: Path, name: str, overwrite: bool) -> None:
    """A user's own `model/` has a run's name, but there is no run."""
    (tmp_path / name).touch()
    with pytest.raises(UserError, match="is not just a run; choose another directory"):
        run_directory.check(str(tmp_path), overwrite, [])


def test_a_run_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", ".results.jsonl.123"):
        (tmp_path / name).touch()
    (tmp_path / ".model.77").mkdir()  # what a killed run leaves
    with pytest.raises(UserError, match="already holds a run; pass --overwrite"):
        run_directory.check(str(tmp_path), False, [])
    run_directory.check(str(tmp_path), True, [])
    assert run_directory.create(str(tmp_path)) == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_run_does_not_remove_what_it_reads(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="which this run reads"):
        run_directory.check(str(tmp_path), True, [None, str(tmp_path / "model")])
    run_directory.check(str(tmp_path), True, [str(tmp_path.parent)])


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
        run_directory.create(str(tmp_path / "file" / "run"))
