"""Nothing that is there is lost, and nothing is ever half there."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sparsejax.config import DataConfig
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


ROWS = [
    {"kind": "scores", "split": "test", "language": "en", "f1": 0.5},
    {"kind": "scores", "split": "dev", "language": "en", "f1": 0.4},
    {"kind": "sparsity", "zeros": 7},
]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_rows_replace_those_of_the_same_setting(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    run_directory.replace_rows(path, {"split": "test"}, ROWS[:1])  # there was no file
    run_directory.replace_rows(path, {"split": "dev"}, ROWS[1:])
    assert rows_of(path) == ROWS
    new = {"split": "test", "language": "sw"}
    run_directory.replace_rows(path, {"split": "test"}, [new])
    assert rows_of(path) == [ROWS[1], ROWS[2], new]
    run_directory.replace_rows(path, {"seed": None}, [])  # a field that is not there is not None
    assert rows_of(path) == [ROWS[1], ROWS[2], new]


def test_text_that_some_readers_take_for_the_end_of_a_line(tmp_path: Path) -> None:
    rows = [{"words": ["a\u2028b", "c\u2029", "\x85", "\x0b", "\x1c", "\r", "é", "漢"]}]
    run_directory.replace_rows(tmp_path / "rows.jsonl", {"x": 1}, rows)
    text = (tmp_path / "rows.jsonl").read_bytes().decode()
    assert len(text.splitlines()) == 1 and "é" in text and "漢" in text
    run_directory.replace_rows(tmp_path / "rows.jsonl", {"x": 1}, [])
    assert rows_of(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize("line", ["oops", "[1]", '"text"', "1", "", "\xff"])
def test_rows_that_are_none(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(('{"a": 1}\n' + line + "\n").encode("latin-1"))
    with pytest.raises(UserError) as caught:
        run_directory.replace_rows(path, {"a": 1}, [])
    assert str(caught.value) == f"{path}:2: not a JSON object; remove the line"
    assert path.read_bytes() == ('{"a": 1}\n' + line + "\n").encode("latin-1")


REPLACE = """
import sys
from pathlib import Path
from sparsejax.runtime.run_directory import replace_rows
for i in range(30):
    replace_rows(Path(sys.argv[1]), {"who": sys.argv[2], "i": i}, [{"who": sys.argv[2], "i": i}])
"""


def test_processes_that_replace_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    running = [
        subprocess.Popen([sys.executable, "-c", REPLACE, str(path), who]) for who in ("a", "b", "c")
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    found = sorted((row["who"], row["i"]) for row in rows_of(path))
    assert found == sorted((who, i) for who in "abc" for i in range(30))


def test_setting_tells_evaluations_apart() -> None:
    data = DataConfig(eval_sentences=5, subsample=2)
    settings = [
        run_directory.setting(data, ["en", "de"], "test"),
        run_directory.setting(data, ["en", "de"], "dev"),
        run_directory.setting(data, ["en", "de"], "test", "noise", 0),
        run_directory.setting(data, ["en", "de"], "test", "noise", 1),
        run_directory.setting(dataclasses.replace(data, subsample=None), ["en", "de"], "test"),
        run_directory.setting(dataclasses.replace(data, eval_sentences=None), ["en", "de"], "test"),
        run_directory.setting(dataclasses.replace(data, dir="x"), ["en", "de"], "test"),
    ]
    settings.append(run_directory.setting(data, ["en"], "test"))
    assert len({json.dumps(setting) for setting in settings}) == len(settings)
    # Nothing is replaced, and nothing is drawn: these seeds have no say.
    assert run_directory.setting(data, ["en", "de"], "test", "none", 1) == settings[0]
    assert settings[5]["subsample"] is None
    # A run's own config names the directory in full, whatever the command line said.
    absolute = dataclasses.replace(data, dir=os.path.abspath("x"))
    assert run_directory.setting(absolute, ["de", "en"], "test") == settings[6]
