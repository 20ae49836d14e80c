"""One device: arrays come through as they were. More of them: see test_device_counts."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from sparsejax.data.packing import Packed
from sparsejax.errors import UserError
from sparsejax.runtime import parallel


def packed(rows: int, length: int = 4) -> Packed:
    columns = {name: np.full((rows, length), i, np.int32) for i, name in enumerate(Packed.COLUMNS)}
    columns["tokens"] = np.arange(rows * length, dtype=np.int32).reshape(rows, length)
    return Packed(**columns, index=np.arange(rows * length))


@pytest.mark.parametrize("chosen", [[2, 0, 1], [1], []])
def test_a_batch_is_that_of_its_rows(chosen: list[int]) -> None:
    found = parallel.batch(packed(3), np.array(chosen, int), 4, parallel.make_mesh())
    wanted = packed(3).batch(np.array(chosen, int), 4)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


def test_several_batches_at_once() -> None:
    chosen = np.array([[2, -1], [0, 1], [-1, -1]])
    found = parallel.batches(packed(3), chosen, parallel.make_mesh())
    for i, numbers in enumerate(chosen):
        wanted = packed(3).batch(numbers[numbers >= 0], 2)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert found[name].dtype == value.dtype == np.int32
            np.testing.assert_array_equal(found[name][i], value)


def test_values_stay() -> None:
    mesh = parallel.make_mesh()
    tree = {"a": np.float32([[1.5, -0.0], [np.nan, np.inf]]), "b": np.array([True, False])}
    placed = parallel.place(tree, parallel.of_parameters(tree, mesh))
    for back in (parallel.to_host(placed), parallel.from_first(tree)):
        for name, value in tree.items():
            assert back[name].dtype == value.dtype and back[name].shape == value.shape
            assert back[name].tobytes() == value.tobytes()


def test_copies_on_the_host_outlive_the_arrays() -> None:
    array = jax.numpy.arange(3.0)
    kept = parallel.to_host(array)
    jax.jit(lambda x: x + 1, donate_argnums=0)(array)
    assert kept.tolist() == [0, 1, 2]


def test_devices_are_shared_evenly_or_not_at_all() -> None:
    with pytest.raises(UserError, match=r"^parallel.fsdp: 3 does not divide the 1 devices$"):
        parallel.make_mesh(3)


@pytest.mark.parametrize(
    ("shape", "fsdp", "spec"),
    [
        ((384, 1536), 4, P(None, "fsdp")),
        ((1536, 384), 4, P("fsdp")),
        ((119547, 768), 4, P(None, "fsdp")),  # an odd vocabulary
        ((384, 384), 4, P("fsdp")),
        ((384, 7), 4, P("fsdp")),
        ((7, 9), 4, P()),
        ((384,), 4, P()),
        ((), 4, P()),
        ((384, 1536), 1, P()),
    ],
)
def test_what_is_divided(shape: tuple[int, ...], fsdp: int, spec: Any) -> None:
    mesh: Any = AbstractMesh((2, fsdp), ("data", "fsdp"))
    leaf = jax.ShapeDtypeStruct(shape, np.float32)
    assert parallel.of_parameters({"a": leaf}, mesh)["a"].spec == spec
