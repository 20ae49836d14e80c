"""Rows of results: each once, none lost, none silently another than it was."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparsejax.config import DataConfig
from sparsejax.errors import UserError
from sparsejax.runtime import results


def test_rows_are_the_old_ones_until_the_new_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results.write(path, [{"f1": 0.5}, {"language": "ελ"}])
    assert rows_of(path) == [{"f1": 0.5}, {"language": "ελ"}]
    before = path.read_bytes()
    with pytest.raises(TypeError):
        results.write(path, [{"f1": 0.6}, {"f1": object()}])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


ROWS = [
    {"kind": "scores", "split": "test", "language": "en", "f1": 0.5},
    {"kind": "scores", "split": "dev", "language": "en", "f1": 0.4},
    {"kind": "sparsity", "zeros": 7},
]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """As somebody else would read them."""
    head, *rows = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    assert head["kind"] == "checksum" and head["rows"] == len(rows)
    return rows


def test_rows_replace_those_of_the_same_setting(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results.replace(path, {"split": "test"}, ROWS[:1])  # there was no file
    results.replace(path, {"split": "dev"}, ROWS[1:])
    assert rows_of(path) == ROWS
    new = {"split": "test", "language": "sw"}
    results.replace(path, {"split": "test"}, [new])
    assert rows_of(path) == [ROWS[1], ROWS[2], new]
    results.replace(path, {"seed": None}, [])  # a field that is not there is not None
    assert rows_of(path) == [ROWS[1], ROWS[2], new]


def test_text_that_some_readers_take_for_the_end_of_a_line(tmp_path: Path) -> None:
    rows = [{"words": ["a\u2028b", "c\u2029", "\x85", "\x0b", "\x1c", "\r", "é", "漢"]}]
    results.replace(tmp_path / "rows.jsonl", {"x": 1}, rows)
    text = (tmp_path / "rows.jsonl").read_bytes().decode()
    assert len(text.splitlines()) == 2 and "é" in text and "漢" in text
    results.replace(tmp_path / "rows.jsonl", {"x": 1}, [])
    assert rows_of(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize("line", ["oops", "[1]", '"text"', "1", "", "\xff"])
def test_rows_that_are_none(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(('{"a": 1}\n' + line + "\n").encode("latin-1"))
    with pytest.raises(UserError) as caught:
        results.replace(path, {"a": 1}, [])
    assert str(caught.value) == f"{path}:2: damaged, not a JSON object"
    assert path.read_bytes() == ('{"a": 1}\n' + line + "\n").encode("latin-1")


REPLACE = """
import sys
from pathlib import Path
from sparsejax.runtime.results import replace
for i in range(30):
    replace(Path(sys.argv[1]), {"who": sys.argv[2], "i": i}, [{"who": sys.argv[2], "i": i}])
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
        results.setting(data, ["en", "de"], "test"),
        results.setting(data, ["en", "de"], "dev"),
        results.setting(data, ["en", "de"], "test", "noise", 0),
        results.setting(data, ["en", "de"], "test", "noise", 1),
        results.setting(dataclasses.replace(data, subsample=None), ["en", "de"], "test"),
        results.setting(dataclasses.replace(data, eval_sentences=None), ["en", "de"], "test"),
        results.setting(dataclasses.replace(data, dir="x"), ["en", "de"], "test"),
    ]
    settings.append(results.setting(data, ["en"], "test"))
    assert len({json.dumps(setting) for setting in settings}) == len(settings)
    # Nothing is replaced, and nothing is drawn: these seeds have no say.
    assert results.setting(data, ["en", "de"], "test", "none", 1) == settings[0]
    assert settings[5]["subsample"] is None
    # A run's own config names the directory in full, whatever the command line said.
    absolute = dataclasses.replace(data, dir=os.path.abspath("x"))
    assert results.setting(absolute, ["de", "en"], "test") == settings[6]


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, bytes]:
    path = tmp_path / "results.jsonl"
    results.write(path, ROWS * 5)
    return path, path.read_bytes()


def test_a_file_cut_off_anywhere_is_found(whole: tuple[Path, bytes]) -> None:
    path, content = whole
    for size in range(len(content) - 1):  # all but the last end of a line
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=str(path)):
            results.read(path)


def test_a_flipped_bit_is_found_or_changes_no_row(whole: tuple[Path, bytes]) -> None:
    path, content = whole
    head = content.index(b"\n")
    found = 0
    for place in random.Random(0).sample(range(8 * len(content)), 400):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            rows = results.read(path)
        except UserError as error:
            assert "\n" not in str(error)
            found += 1
        else:
            assert place // 8 < head and [r for r in rows if "crc32" not in r] == ROWS * 5
    assert found > 350


def test_rows_changed_by_hand_are_taken_without_the_checksum(whole: tuple[Path, bytes]) -> None:
    path, content = whole
    changed = content.replace(b"0.5", b"0.6")
    path.write_bytes(changed)
    with pytest.raises(UserError, match="if you changed it, remove its first line"):
        results.read(path)
    path.write_bytes(changed.partition(b"\n")[2])
    assert results.read(path)[0]["f1"] == 0.6
