"""The compressed form: every value comes back, in few bytes, and damage never goes unnoticed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from safetensors.numpy import load, load_file

from sparsejax.errors import UserError
from sparsejax.models import compressed

Type = Literal["float32", "float16", "int8"]
DOCS = Path(__file__).resolve().parents[2] / "docs/export.md"
WIDTHS = {"float32": 4, "float16": 2, "int8": 1}


def round_trip(
    tensors: dict[str, np.ndarray], values: Type, path: Path
) -> tuple[dict[str, np.ndarray], compressed.Lost]:
    content, lost = compressed.encode(tensors, values)
    path.write_bytes(content)
    return compressed.read(path), lost


def dense(tensor: np.ndarray, values: Type) -> np.ndarray:
    """What the documentation says of each type, one number after the other."""
    if values == "float32":
        return tensor
    if values == "float16" or tensor.ndim < 2:
        return tensor.astype(np.float16).astype(np.float32)
    out = np.zeros_like(tensor)
    for i, row in enumerate(tensor):
        exact = np.float32(np.abs(row).max()) / np.float32(127)
        scale = np.float16(exact)
        if scale < exact:
            scale = np.nextafter(scale, np.float16(np.inf))
        for j, weight in enumerate(row):
            steps = round(float(weight / np.float32(scale))) if scale else 0  # half to even
            assert abs(steps) <= 127
            out[i, j] = np.float32(steps) * np.float32(scale)
    return out


def prune(tensor: np.ndarray, sparsity: float) -> np.ndarray:
    """Magnitude pruning of one matrix, exact zeros."""
    out = tensor.copy().reshape(-1)
    pruned = round(sparsity * out.size)
    out[np.argpartition(np.abs(out), pruned)[:pruned]] = 0
    return out.reshape(tensor.shape)


def bert_encoder(width: int, layers: int) -> dict[str, np.ndarray]:
    """The shapes of an encoder, drawn as BERT is."""
    rng, out = np.random.default_rng(0), {}
    for i in range(layers):
        at = f"bert.encoder.layer.{i}"
        matrices = dict.fromkeys(
            (f"attention.{n}" for n in ("self.query", "self.key", "self.value", "output.dense")),
            (width, width),
        ) | {"intermediate.dense": (4 * width, width), "output.dense": (width, 4 * width)}
        for name, shape in matrices.items():
            weights = rng.normal(0, 0.02, shape).astype(np.float32)
            out[f"{at}.{name}.weight"] = prune(weights, 0.9)
            out[f"{at}.{name}.bias"] = rng.normal(0, 0.02, shape[0]).astype(np.float32)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            out[f"{at}.{name}.weight"] = rng.normal(1, 0.1, width).astype(np.float32)
            out[f"{at}.{name}.bias"] = rng.normal(0, 0.1, width).astype(np.float32)
    return out


@pytest.fixture(scope="module")
def real(shared: Path) -> dict[str, np.ndarray]:
    """The real model with each matrix of its encoder pruned to 90 %."""
    stored = load_file(shared / "models/e5-small-39/model.safetensors")
    tensors = {name: value.astype(np.float32) for name, value in stored.items()}
    for name, value in tensors.items():
        if ".encoder." in name and value.ndim == 2:
            tensors[name] = prune(value, 0.9)
    return tensors


MIXED = {
    "sparse": prune(np.random.default_rng(0).normal(0, 0.02, (60, 50)).astype(np.float32), 0.9),
    "sparser": prune(np.random.default_rng(1).normal(0, 1, (40, 90)).astype(np.float32), 0.999),
    "dense": np.random.default_rng(2).normal(0, 0.5, (7, 9)).astype(np.float32),
    "bias": np.linspace(-1, 1, 50, dtype=np.float32),
    "empty": np.zeros((30, 40), np.float32),
    "none": np.zeros((0, 4), np.float32),
}


# --- values come back --------------------------------------------------------------------------


@pytest.mark.parametrize("values", get_args(Type))
def test_values_are_those_of_a_dense_file(values: Type, tmp_path: Path) -> None:
    found, _ = round_trip(MIXED, values, tmp_path / "m")
    assert set(found) == set(MIXED)
    for name, tensor in MIXED.items():
        assert found[name].dtype == np.float32 and found[name].shape == tensor.shape, name
        assert found[name].tobytes() == dense(tensor, values).tobytes(), name


def test_what_gains_nothing_is_stored_as_it_is() -> None:
    parts = load(compressed.encode(MIXED, "float32")[0])
    for name in ("dense", "bias", "none"):
        assert parts[name].tobytes() == MIXED[name].tobytes()
    assert {name for name in parts if name.endswith(".mask")} == {
        "sparse.mask", "sparser.mask", "empty.mask"
    }  # fmt: skip


def test_float32_is_bit_exact(tmp_path: Path) -> None:
    """Zeros with a sign, denormals and the extremes, among many zeros."""
    tensor = np.zeros((50, 20), np.float32)
    tensor.reshape(-1)[::97] = np.float32([-0.0, 1e-45, -1e-40, 3.4e38, -1.2e-38, 1, -0.0, 2, -3,
                                           5, 7])  # fmt: skip
    content, lost = compressed.encode({"x": tensor}, "float32")
    assert "x.mask" in load(content)  # or nothing would have been coded
    found, _ = round_trip({"x": tensor}, "float32", tmp_path / "m")
    assert found["x"].tobytes() == tensor.tobytes()
    assert lost == (9, 0)  # -0.0 is stored, and is no weight


@hypothesis.given(
    mask=arrays.arrays(bool, st.integers(0, 3000), elements=st.just(False), fill=st.just(False)),
    places=st.lists(st.integers(0, 2999), max_size=60),
    run=st.tuples(st.integers(0, 2999), st.integers(0, 400)),
)
def test_masks_of_any_kind(mask: np.ndarray, places: list[int], run: tuple[int, int]) -> None:
    mask[[i for i in places if i < len(mask)]] = True
    mask[run[0] : sum(run)] = True
    positions = np.flatnonzero(mask)
    k, coded = compressed._encode_gaps(positions)
    found = compressed._decode_gaps(k, coded, len(positions))
    np.testing.assert_array_equal(found, positions)
    # Never larger than the bit mask, which is the code with k = 0.
    assert coded.nbytes <= -(-len(mask) // 8)


def test_dense_masks_are_plain_bits() -> None:
    """k = 0 is the mask in row-major order, as far as the last kept weight."""
    mask = np.random.default_rng(0).random(1000) < 0.7
    k, coded = compressed._encode_gaps(np.flatnonzero(mask))
    plain = np.packbits(mask)
    assert k == 0 and coded.tobytes() == plain[: len(coded)].tobytes()
    assert not plain[len(coded) :].any()


# --- what does not fit the type -----------------------------------------------------------------


def test_what_rounding_takes_is_counted(tmp_path: Path) -> None:
    tensor = np.zeros((4, 400), np.float32)
    tensor[0, :3] = [1.0, 1e-9, 0.003]  # float16 loses the second, int8 both
    tensor[1, 0] = 1e-12  # alone in its row, but no float16 scale is as small
    assert round_trip({"x": tensor}, "float32", tmp_path / "m")[1] == (4, 0)
    assert round_trip({"x": tensor}, "float16", tmp_path / "m")[1] == (4, 2)
    found, lost = round_trip({"x": tensor}, "int8", tmp_path / "m")
    assert lost == (4, 3)
    assert np.count_nonzero(found["x"]) == 1
    np.testing.assert_array_equal(found["x"], dense(tensor, "int8"))


@pytest.mark.parametrize(
    ("values", "bad", "words"),
    [
        ("float16", 7e4, "layer.weight: 1 weights too large for --values float16, the largest"),
        ("int8", 1e9, "layer.weight: 1 weights too large for --values int8"),
        ("float32", np.nan, "layer.weight: holds NaN or infinity"),
        ("int8", -np.inf, "layer.weight: holds NaN or infinity"),
    ],
)
def test_what_cannot_be_stored_is_refused(values: Type, bad: float, words: str) -> None:
    tensor = np.ones((3, 4), np.float32)
    tensor[1, 2] = bad
    with pytest.raises(UserError, match=words):
        compressed.encode({"layer.weight": tensor}, values)


# --- bytes --------------------------------------------------------------------------------------


def check_bytes(tensors: dict[str, np.ndarray], values: Type) -> None:
    """At most 0.17 of the dense encoder: tensors alone, strictly, and file against file."""
    encoder = {name: value for name, value in tensors.items() if ".encoder." in name}
    weights = sum(value.size for value in encoder.values())
    content, _ = compressed.encode(encoder, values)
    stored = sum(part.nbytes for part in load(content).values())
    assert stored <= 0.17 * weights * WIDTHS[values]
    full = {n: np.where(value == 0, np.float32(0.01), value) for n, value in encoder.items()}
    assert len(content) <= 0.17 * len(compressed.encode(full, values)[0])


@pytest.mark.parametrize("values", get_args(Type))
def test_bytes_of_the_real_model(values: Type, real: dict[str, np.ndarray]) -> None:
    check_bytes(real, values)


@pytest.mark.parametrize("values", get_args(Type))
def test_bytes_at_the_width_of_mbert(values: Type) -> None:
    """Two of its twelve layers, which are alike."""
    check_bytes(bert_encoder(768, 2), values)


@pytest.mark.parametrize("values", get_args(Type))
def test_real_model_round_trip(values: Type, real: dict[str, np.ndarray], tmp_path: Path) -> None:
    found, _ = round_trip(real, values, tmp_path / "m")
    for name, tensor in real.items():
        expected = tensor if values == "float32" else tensor.astype(np.float16)
        if values == "int8" and tensor.ndim == 2:
            exact = np.abs(tensor).max(1) / np.float32(127)
            scale = exact.astype(np.float16)
            scale[scale < exact] = np.nextafter(scale[scale < exact], np.float16(9))
            scale = scale.astype(np.float32)[:, None]
            expected = np.rint(tensor / np.where(scale == 0, 1, scale)) * scale + np.float32(0)
        assert found[name].tobytes() == expected.astype(np.float32).tobytes(), name


# --- damage -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def content() -> bytes:
    return compressed.encode(MIXED, "int8")[0]


@pytest.mark.parametrize("seed", range(50))
def test_a_file_cut_off(seed: int, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(content[: np.random.default_rng(seed).integers(len(content))])
    with pytest.raises(UserError) as caught:
        compressed.read(tmp_path / "m")
    assert "\n" not in str(caught.value) and str(tmp_path / "m") in str(caught.value)


@pytest.mark.parametrize("part", ["header", "tensors"])
@pytest.mark.parametrize("seed", range(50))
def test_a_flipped_bit(part: str, seed: int, content: bytes, tmp_path: Path) -> None:
    """Detected, wherever it is; in the padding of the header alone could it be harmless."""
    start = 8 + int.from_bytes(content[:8], "little")
    span = (0, start) if part == "header" else (start, len(content))
    rng = np.random.default_rng(seed)
    damaged = bytearray(content)
    damaged[rng.integers(*span)] ^= 1 << rng.integers(8)
    (tmp_path / "m").write_bytes(damaged)
    with pytest.raises(UserError) as caught:
        compressed.read(tmp_path / "m")
    assert "\n" not in str(caught.value) and str(tmp_path / "m") in str(caught.value)


def rewritten(content: bytes, change: Any) -> bytes:
    """The file of a careless program: another layout, and the checksum of that."""
    import safetensors.numpy

    size = int.from_bytes(content[:8], "little")
    layout = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["layout"])
    parts = load(content)
    change(layout, parts)
    described = json.dumps(layout)
    metadata = {"format": compressed._FORMAT, "layout": described}
    metadata["crc32"] = compressed._crc32(described, parts)
    return safetensors.numpy.save(parts, metadata)


@pytest.mark.parametrize(
    "change",
    [
        lambda layout, parts: layout["sparse"].update(shape=[10, 10]),
        lambda layout, parts: layout["sparse"].update(shape="wide"),
        lambda layout, parts: layout["sparse"].update(shape=[10**9, 10**9]),
        lambda layout, parts: layout["sparse"].update(k=-1),
        lambda layout, parts: layout["sparse"].pop("k"),
        lambda layout, parts: layout.update(other={"k": 0, "shape": [3]}),
        lambda layout, parts: parts.pop("sparse.mask"),
        lambda layout, parts: parts.pop("dense.scales"),
        lambda layout, parts: parts.update({"sparse.values": parts["sparse.values"][:-1]}),
        lambda layout, parts: parts.update({"sparse.values": parts["sparse.values"][:1]}),
    ],
)
def test_a_wrong_layout(change: Any, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(rewritten(content, change))
    with pytest.raises(UserError, match="its layout is wrong") as caught:
        compressed.read(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_other_files(tmp_path: Path) -> None:
    import safetensors.numpy

    (tmp_path / "m").write_bytes(safetensors.numpy.save(MIXED))
    with pytest.raises(UserError, match="its format is not"):
        compressed.read(tmp_path / "m")
    with pytest.raises(UserError, match="nowhere: cannot be read"):
        compressed.read(tmp_path / "nowhere")


# --- the documented reader ----------------------------------------------------------------------


@pytest.mark.parametrize("values", get_args(Type))
def test_the_reader_of_the_docs(values: Type, tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(import json.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(snippet.splitlines()) <= 30
    assert "sparsejax." not in snippet and "jax" not in re.findall(r"import (\w+)", snippet)
    names: dict[str, Any] = {}
    exec(snippet, names)
    path = tmp_path / "m"
    ours, _ = round_trip(MIXED, values, path)
    theirs = names["read"](path)
    assert set(theirs) == set(ours)
    for name, tensor in ours.items():
        assert theirs[name].dtype == np.float32, name
        assert theirs[name].shape == tensor.shape, name
        assert theirs[name].tobytes() == tensor.tobytes(), name
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(AssertionError):
        names["read"](path)
