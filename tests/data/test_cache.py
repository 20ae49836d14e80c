"""A file of the cache is what was written or counts as nothing, whatever happened to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors import SafetensorError
from safetensors.numpy import save_file

from sparsejax.data import cache
from sparsejax.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
ARRAYS = {
    "tokens": np.arange(40, dtype=np.int32),
    "keys": np.array([0, 2**64 - 1], np.uint64),
    "empty": np.zeros(0, np.int64),
}
NOTE = 'a note "é"\n'


def assert_found(path: Path, arrays: Mapping[str, np.ndarray], note: str) -> None:
    found = cache.read(path)
    assert found is not None and found[1] == note and set(found[0]) == set(arrays)
    for name, value in arrays.items():
        array = found[0][name]
        assert (array.dtype, array.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(array, value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some" / "directory" / "file.safetensors"
    cache.write(path, ARRAYS, NOTE)
    return path


def test_what_was_written_is_read(file: Path) -> None:
    assert_found(file, ARRAYS, NOTE)
    assert list(file.parent.iterdir()) == [file]  # and no temporary file
    cache.write(file, {}, "")
    assert_found(file, {}, "")


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name != "__metadata__"),
        st.sampled_from(["int32", "uint64", "float32", "bool"]).flatmap(
            lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=1, min_side=0))
        ),
        max_size=4,
    ),
    st.text(),
)
def test_any_arrays(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray], note: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    cache.write_whole(path, arrays, note)
    assert_found(path, arrays, note)


def test_arrays_that_are_not_contiguous(tmp_path: Path) -> None:
    arrays = {"turned": np.arange(6).reshape(2, 3).T, "every-second": np.arange(6)[::2]}
    cache.write(tmp_path / "file", arrays, "")
    assert_found(tmp_path / "file", arrays, "")


# ---- damage


def test_truncated_files(file: Path) -> None:
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        assert cache.read(file) is None
    file.write_bytes(whole + b"\0")
    assert cache.read(file) is None


def test_flipped_bits(file: Path) -> None:
    """One in each byte: what is read is what was written, or nothing is."""
    whole = file.read_bytes()
    unnoticed = 0
    for i in range(len(whole)):
        damaged = bytearray(whole)
        damaged[i] ^= 1 << (i % 8)
        file.write_bytes(damaged)
        if cache.read(file) is not None:  # white space of the header, say
            assert_found(file, ARRAYS, NOTE)
            unnoticed += 1
    assert unnoticed < 0.02 * len(whole)


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b'{"not": "safetensors"}' * 50])
def test_another_file(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert cache.read(file) is None


def test_arrays_that_something_else_wrote(file: Path) -> None:
    save_file(ARRAYS, file)
    assert cache.read(file) is None
    save_file(ARRAYS, file, metadata={"note": NOTE})
    assert cache.read(file) is None
    save_file(ARRAYS, file, metadata={"note": NOTE, "checksum": "?"})
    assert cache.read(file) is None


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "C64"])
def test_types_that_numpy_may_lack(file: Path, dtype: str) -> None:
    size = {"BF16": 2, "C64": 8}.get(dtype, 1)
    header = json.dumps({"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    assert cache.read(file) is None


@pytest.mark.parametrize("change", ["note", "name", "shape", "dtype", "value"])
def test_the_checksum_is_of_everything(file: Path, change: str) -> None:
    """Whole files of another content, but with the checksum of the first."""
    written = file.read_bytes()
    header = json.loads(written[8 : 8 + int.from_bytes(written[:8], "little")])
    checksum = header["__metadata__"]["checksum"]
    arrays, note = dict(ARRAYS), NOTE
    if change == "note":
        note += " "
    elif change == "name":
        arrays["other"] = arrays.pop("tokens")
    elif change == "shape":
        arrays["tokens"] = arrays["tokens"].reshape(8, 5)
    elif change == "dtype":
        arrays["tokens"] = arrays["tokens"].view(np.uint32)
    else:
        arrays["tokens"] = np.where(arrays["tokens"] == 3, 4, arrays["tokens"]).astype(np.int32)
    save_file(arrays, file, metadata={"note": note, "checksum": checksum})
    assert cache.read(file) is None
    save_file(ARRAYS, file, metadata={"note": NOTE, "checksum": checksum})
    assert_found(file, ARRAYS, NOTE)


# ---- where it is


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """Not by permissions, which do not bind root: a directory below a regular file."""
    (tmp_path / "file").write_text("in the way")
    for path in ("file/x", "file/below/x", "file/below/that/x", "y" * 300, f"{'y' * 300}/x"):
        cache.write(tmp_path / path, ARRAYS, NOTE)
        assert cache.read(tmp_path / path) is None
        with pytest.raises((OSError, SafetensorError)):
            cache.write_whole(tmp_path / path, ARRAYS, NOTE)
    assert (tmp_path / "file").read_text() == "in the way"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_directory_in_the_place_of_the_file(file: Path) -> None:
    file.unlink()
    file.mkdir()
    cache.write(file, ARRAYS, NOTE)
    assert cache.read(file) is None
    assert list(file.parent.iterdir()) == [file]  # no temporary file


@pytest.mark.parametrize("problem", [OSError(28, "no space"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [True, False])
def test_writing_that_fails(
    file: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException, before: bool
) -> None:
    """A full disk is no reason to stop; and a run stopped in the midst leaves no half of a file."""

    def half(path: Path, content: bytes) -> None:
        with open(path, "wb") as out:
            out.write(content[:20])
        raise problem

    if not before:
        file.unlink()
    monkeypatch.setattr(Path, "write_bytes", half)
    other = {"other": np.arange(3)}
    if isinstance(problem, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            cache.write(file, other, "")
    else:
        cache.write(file, other, "")
        with pytest.raises(type(problem)):
            cache.write_whole(file, other, "")
    assert list(file.parent.iterdir()) == ([file] if before else [])
    if before:
        assert_found(file, ARRAYS, NOTE)


def test_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("SPARSEJAX_CACHE", str(tmp_path / "own"))
    assert cache.default_directory() == tmp_path / "own"
    for unset in (lambda n: monkeypatch.setenv(n, ""), lambda n: monkeypatch.delenv(n)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        unset("SPARSEJAX_CACHE")
        assert cache.default_directory() == tmp_path / "xdg" / "sparsejax"
        unset("XDG_CACHE_HOME")
        assert cache.default_directory() == tmp_path / "home" / ".cache" / "sparsejax"
        monkeypatch.setenv("SPARSEJAX_CACHE", "x")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("SPARSEJAX_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(UserError, match="pass --data.cache"):
        cache.default_directory()
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.default_directory() == Path("/xdg/sparsejax")


# Waits for a word on its input, so that both processes are at it together.
WRITE = """
import sys
from pathlib import Path
import numpy as np
from sparsejax.data import cache
path = Path(sys.argv[1])
print("ready", flush=True)
input()
for i in range(300):
    value = 2 * i + int(sys.argv[2])
    cache.write_whole(path, {"a": np.full(2000, value)}, str(value))
    arrays, note = cache.read(path)
    assert (arrays["a"] == int(note)).all()
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Of either the whole file or nothing."""
    path = tmp_path / "file"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path), str(i)],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == [path]
