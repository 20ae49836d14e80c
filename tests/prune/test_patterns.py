"""Patterns against sums and repetitions in numpy."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsejax import prune
from sparsejax.prune import patterns

FITTING = [
    # pattern, shape, rows, columns
    (prune.Blocks(2, 4), (6, 12), 2, 4),
    (prune.Blocks(3, 1), (3, 5), 3, 1),
    (prune.Blocks(1, None), (6, 7), 1, 7),
    (prune.Blocks(None, 1), (6, 7), 6, 1),
    (prune.Blocks(2, None), (5, 6, 7), 2, 7),
    (prune.Blocks(None, None), (2, 3, 6, 7), 6, 7),
    (prune.Blocks(7, 9), (4, 14, 9), 7, 9),
    (prune.Blocks(1, 1), (4, 3), 1, 1),
]


def in_units(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """[..., in, out] as [..., down, across, rows * columns], by slicing."""
    down, across = range(0, x.shape[-2], rows), range(0, x.shape[-1], columns)
    blocks = [[x[..., i : i + rows, j : j + columns] for j in across] for i in down]
    flat = np.stack([np.stack([b.reshape(*b.shape[:-2], -1) for b in row], -2) for row in blocks])
    return np.moveaxis(flat, 0, -3)


@pytest.mark.parametrize(("pattern", "shape", "rows", "columns"), FITTING)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sums_over_blocks(
    pattern: prune.Blocks, shape: tuple[int, ...], rows: int, columns: int, dtype: str
) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(jnp.dtype(dtype))
    got = jax.jit(patterns.unit_sums, static_argnums=0)(pattern, x)
    want = in_units(x.astype(np.float64), rows, columns).sum(-1)
    assert got.dtype == np.float32
    assert got.shape == want.shape == patterns.units_shape(pattern, shape)
    assert patterns.unit_size(pattern, shape) == rows * columns
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("pattern", "shape", "rows", "columns"), FITTING)
def test_masks_of_blocks(
    pattern: prune.Blocks, shape: tuple[int, ...], rows: int, columns: int
) -> None:
    mask = np.random.default_rng(0).random(shape) < 1 / (rows * columns)
    want = in_units(mask, rows, columns).any(-1)
    units = patterns.any_in_unit(pattern, jnp.asarray(mask))
    np.testing.assert_array_equal(units, want)
    whole = want.repeat(rows, -2).repeat(columns, -1)
    np.testing.assert_array_equal(patterns.expand(pattern, units, shape), whole)


@pytest.mark.parametrize("pattern", [None, prune.NofM(2, 4)])
@pytest.mark.parametrize("shape", [(4,), (8, 3), (2, 4, 5)])
def test_the_unit_of_other_patterns_is_a_weight(pattern: Any, shape: tuple[int, ...]) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.bfloat16)
    assert patterns.units_shape(pattern, shape) == shape
    assert patterns.unit_size(pattern, shape) == 1
    for same in (
        patterns.unit_sums(pattern, x),
        patterns.expand(pattern, x, shape),
        patterns.any_in_unit(pattern, x),
    ):
        assert same.dtype == x.dtype
        np.testing.assert_array_equal(same, x)


@pytest.mark.parametrize(
    ("pattern", "shape", "message"),
    [
        (prune.NofM(2, 4), (6, 8), "a/b: 2:4 wants a multiple of 4 along axis -2, "),
        (prune.NofM(2, 4, axis=-1), (8, 6), "a/b: 2:4 wants a multiple of 4 along axis -1, "),
        (prune.NofM(2, 4), (8,), "a/b: 2:4 wants axis -2, the shape is (8,)"),
        (prune.NofM(2, 4, axis=2), (8, 8), "a/b: 2:4 wants axis 2, the shape is (8, 8)"),
        (prune.Blocks(2, 4), (8,), "a/b: blocks of 2x4 want two axes, the shape is (8,)"),
        (prune.Blocks(None, None), (), "a/b: blocks of *x* want two axes, the shape is ()"),
        (prune.Blocks(3, 2), (4, 8), "a/b: blocks of 3x2 do not divide the shape (4, 8)"),
        (prune.Blocks(None, 3), (4, 8), "a/b: blocks of *x3 do not divide the shape (4, 8)"),
        (prune.Blocks(8, 8), (8, 4, 8), "a/b: blocks of 8x8 do not divide the shape (8, 4, 8)"),
    ],
)
def test_a_pattern_that_does_not_fit_names_the_leaf(
    pattern: Any, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        patterns.validate(pattern, "a/b", shape)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=re.escape(message)):  # and from init
        tx = prune.magnitude(prune.one_shot(0.5, 0), [("a/b", True)], pattern=pattern)
        tx.init({"a": {"b": jnp.ones(shape)}})


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [
        (None, ()),
        (prune.NofM(2, 4, axis=0), (8,)),
        (prune.NofM(2, 4, axis=0), (8, 3)),
        (prune.NofM(4, 4), (8, 3)),
        *(row[:2] for row in FITTING),
    ],
)
def test_a_pattern_that_fits(pattern: Any, shape: tuple[int, ...]) -> None:
    patterns.validate(pattern, "a/b", shape)


@pytest.mark.parametrize(("n", "m"), [(5, 4), (0, 4), (-1, 4), (1, 0)])
def test_n_above_m_or_below_one(n: int, m: int) -> None:
    with pytest.raises(ValueError, match=f"N:M wants 1 <= N <= M, got {n}:{m}"):
        prune.NofM(n, m)


@pytest.mark.parametrize(("rows", "columns"), [(0, 1), (1, 0), (None, -3)])
def test_blocks_below_one(rows: int | None, columns: int | None) -> None:
    with pytest.raises(ValueError, match="blocks must be at least 1x1, got "):
        prune.Blocks(rows, columns)


def test_names() -> None:
    assert [str(p) for p in (prune.NofM(2, 4), prune.Blocks(32, 1), prune.Blocks(1, None))] == [
        *("2:4", "32x1", "1x*")
    ]
