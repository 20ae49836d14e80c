"""Masks on disk: the format by hand, and every kind of damage."""

import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from sparsejax import prune


def masks(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "encoder/layer_0/attention/query/kernel": (7, 9),
        "odd": (13,),
        "even": (2, 3, 4),
        "scalar": (),
        "empty": (0, 5),
        "ümlaut \"quoted\" 'and' spaced": (8,),
    }
    return {name: rng.random(shape) < 0.5 for name, shape in shapes.items()}


def assert_same(a: Any, b: Any) -> None:
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == np.bool_
        assert a[name].shape == b[name].shape
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_what_is_written_is_read(tmp_path: Path, array: Any) -> None:
    prune.write_masks(tmp_path / "m", {n: array(mask) for n, mask in masks().items()})
    assert_same(prune.read_masks(tmp_path / "m"), masks())
    assert_same(prune.read_masks(str(tmp_path / "m")), masks())


def test_no_masks_at_all(tmp_path: Path) -> None:
    prune.write_masks(tmp_path / "m", {})
    assert prune.read_masks(tmp_path / "m") == {}


def test_views_are_written_in_their_own_order(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((6, 10)) < 0.5
    views = {"t": mask.T, "s": mask[::2, ::-3], "f": np.asfortranarray(mask)}
    prune.write_masks(tmp_path / "m", views)
    assert_same(prune.read_masks(tmp_path / "m"), views)


def test_a_weight_takes_a_bit(tmp_path: Path) -> None:
    prune.write_masks(tmp_path / "m", {"a/b": np.ones((1000, 803), bool), "c": np.ones(9, bool)})
    packed = 803_000 // 8 + 2
    assert packed < (tmp_path / "m").stat().st_size < packed + 500


def test_the_bits_are_where_the_documentation_says(tmp_path: Path) -> None:
    prune.write_masks(tmp_path / "m", masks())
    with safetensors.safe_open(tmp_path / "m", "numpy") as opened:
        shapes = json.loads(opened.metadata()["shapes"])
        assert shapes == {name: list(mask.shape) for name, mask in masks().items()}
        for name, mask in masks().items():
            packed = opened.get_tensor(name)
            assert (packed.dtype, packed.shape) == (np.uint8, (-(-mask.size // 8),))
            bits = [bool(packed[i // 8] & (128 >> i % 8)) for i in range(8 * packed.size)]
            assert bits[: mask.size] == mask.reshape(-1).tolist()
            assert not any(bits[mask.size :])


def read_damaged(file: Path, data: bytes) -> dict[str, np.ndarray] | None:
    """None if it was refused as it should be."""
    file.write_bytes(data)
    try:
        return prune.read_masks(file)
    except ValueError as error:
        assert str(file) in str(error)
        assert "\n" not in str(error)
        return None


def small_masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {"a/kernel": rng.random((7, 9)) < 0.5, "b": rng.random(5) < 0.5, "c": np.ones((), bool)}


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    prune.write_masks(tmp_path / "whole", small_masks())
    whole = (tmp_path / "whole").read_bytes()
    for size in range(len(whole)):
        assert read_damaged(tmp_path / "m", whole[:size]) is None
    assert read_damaged(tmp_path / "m", whole + b"\0") is None


def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path) -> None:
    """Harmless are bits of the spaces that fill up the header, and a key that nobody reads."""
    prune.write_masks(tmp_path / "whole", small_masks())
    whole = (tmp_path / "whole").read_bytes()
    read = 0
    for i in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[i] ^= 1 << bit
            masks = read_damaged(tmp_path / "m", bytes(data))
            if masks is not None:
                read += 1
                assert masks.keys() == small_masks().keys()
                for name, mask in small_masks().items():
                    np.testing.assert_array_equal(masks[name], mask)
    assert read < len(whole) / 10


@pytest.mark.parametrize("seed", range(50))
def test_random_damage_is_refused_or_harmless(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prune.write_masks(tmp_path / "whole", masks())
    data = np.frombuffer((tmp_path / "whole").read_bytes(), np.uint8).copy()
    places = rng.integers(0, data.size, size=rng.integers(1, 20))
    data[places] = rng.integers(0, 256, size=places.size)
    read = read_damaged(tmp_path / "m", data.tobytes())
    if read is not None:
        assert read.keys() == masks().keys()
        for name, mask in masks().items():
            np.testing.assert_array_equal(read[name], mask)


def header(**metadata: str) -> dict[str, str]:
    return {"format": "sparsejax masks 1", **metadata}


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"w": np.zeros(1, np.uint8)}, None),
        ({"w": np.zeros(1, np.uint8)}, {"format": "pt"}),
        ({"w": np.zeros(1, np.uint8)}, {"format": "sparsejax masks 2", "shapes": '{"w": [8]}'}),
        ({"w": np.zeros(1, np.uint8)}, header()),
        ({"w": np.zeros(1, np.uint8)}, header(shapes="{")),
        ({"w": np.zeros(1, np.uint8)}, header(shapes="[[8]]")),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"v": [8]}')),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"v": [8], "w": [8]}')),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"w": [9]}')),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"w": [-8]}')),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"w": [-2, -4]}')),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"w": [8.0]}')),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"w": [true]}')),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"w": 8}')),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"w": [4294967296, 4294967296]}')),
        ({"w": np.zeros(0, np.uint8)}, header(shapes='{"w": [4294967296, 4294967296]}')),
        ({"w": np.zeros(0, np.uint8)}, header(shapes='{"w": [0, 18446744073709551616]}')),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"w": ' + "[" * 99999 + "]" * 99999 + "}")),
        ({"w": np.zeros(1, np.uint8)}, header(shapes='{"w": [' + "1, " * 99 + "8]}")),
        ({"w": np.zeros((1, 1), np.uint8)}, header(shapes='{"w": [8]}')),
        ({"w": np.zeros(1, np.int8)}, header(shapes='{"w": [8]}')),
        ({"w": np.array([0b11110001], np.uint8)}, header(shapes='{"w": [7]}')),
    ],
)
def test_another_file_is_refused(tmp_path: Path, tensors: Any, metadata: Any) -> None:
    safetensors.numpy.save_file(tensors, tmp_path / "m", metadata)
    assert read_damaged(tmp_path / "m", (tmp_path / "m").read_bytes()) is None


@pytest.mark.parametrize("data", [b"", b"no masks", b"\0" * 8, b"\xff" * 100, b"{}" * 1000])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    assert read_damaged(tmp_path / "m", data) is None


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        prune.read_masks(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        prune.read_masks(tmp_path)
    with pytest.raises(OSError, match="missing"):
        prune.write_masks(tmp_path / "missing" / "m", small_masks())


@pytest.mark.parametrize("fails", ["write", "replace"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    write_bytes = Path.write_bytes

    def half(file: Path, data: bytes) -> None:
        write_bytes(file, data[: len(data) // 2])
        raise OSError("no space left")

    def refused(*_: Any) -> None:
        raise OSError("no space left")

    prune.write_masks(tmp_path / "m", masks(0))
    with monkeypatch.context() as patch:
        if fails == "write":
            patch.setattr(Path, "write_bytes", half)
        else:
            patch.setattr(os, "replace", refused)
        with pytest.raises(OSError, match="no space left"):
            prune.write_masks(tmp_path / "m", masks(1))
    assert_same(prune.read_masks(tmp_path / "m"), masks(0))
    assert [file.name for file in tmp_path.iterdir()] == ["m"]
    prune.write_masks(tmp_path / "m", masks(1))
    assert_same(prune.read_masks(tmp_path / "m"), masks(1))
