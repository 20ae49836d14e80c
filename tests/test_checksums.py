"""A directory that says what its files must hold."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sparsejax import checksums
from sparsejax.errors import UserError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a file").write_bytes(bytes(range(256)))
    (tmp_path / "inner" / "b").write_bytes(b"")
    checksums.write(tmp_path)
    return tmp_path


def test_is_what_sha256sum_reads(directory: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum on this machine")
    command = ["sha256sum", "--check", "--strict", checksums.NAME]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert result.stdout == "a file: OK\ninner/b: OK\n" and result.returncode == 0


def test_whole_directory_passes_and_one_without_sums_too(directory: Path) -> None:
    checksums.check(directory)
    (directory / "a file").write_bytes(b"")
    (directory / checksums.NAME).unlink()
    checksums.check(directory)


@pytest.mark.parametrize("name", ["a file", checksums.NAME])
def test_every_flipped_bit_is_found(directory: Path, name: str) -> None:
    content = (directory / name).read_bytes()
    for place in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        (directory / name).write_bytes(damaged)
        with pytest.raises(UserError):
            checksums.check(directory)


def test_sums_that_were_cut_off_are_found(directory: Path) -> None:
    content = (directory / checksums.NAME).read_bytes()
    for size in range(len(content) - 1):  # all but the last end of a line
        (directory / checksums.NAME).write_bytes(content[:size])
        with pytest.raises(UserError):
            checksums.check(directory)


def test_a_card_may_be_edited_and_files_may_be_added(directory: Path) -> None:
    (directory / "README.md").write_text("mine")
    checksums.write(directory)
    (directory / "README.md").write_text("changed")
    (directory / ".gitattributes").touch()
    checksums.check(directory)


def test_missing_file_is_named(directory: Path) -> None:
    (directory / "inner" / "b").unlink()
    with pytest.raises(UserError, match="inner/b: No such file"):
        checksums.check(directory)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd"])
def test_no_file_outside_is_opened(directory: Path, name: str) -> None:
    (directory / checksums.NAME).write_text(f"{'0' * 64}  {name}\n# 1 files\n")
    with pytest.raises(UserError, match="SHA256SUMS:1: damaged"):
        checksums.check(directory)
