"""Attention and its gradient, held to the formula in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsejax.models.attention import attend

ROWS, HEADS, LENGTH, WIDTH = 3, 2, 12, 4


def given(seed: int, dtype: Any = jnp.float32) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """Query, key, value and a gradient; which keys are visible; what dropout keeps.

    Two rows of several segments, one of them with padding at its end; a row of padding alone.
    """
    rng = np.random.default_rng(seed)
    drawn = [jnp.asarray(2 * rng.normal(size=(ROWS, HEADS, LENGTH, WIDTH)), dtype) for _ in "qkvg"]
    segments = np.array([[1] * 5 + [2] * 3 + [3] * 4, [1] * 2 + [2] * 7 + [0] * 3, [0] * LENGTH])
    visible = (segments[:, :, None] == segments[:, None, :]) & (segments[:, None, :] > 0)
    kept = rng.random((ROWS, HEADS, LENGTH, LENGTH)) < 0.75
    return drawn, jnp.asarray(visible[:, None]), jnp.asarray(kept)


def formula(drawn: Any, visible: Any, kept: Any, rate: float) -> list[np.ndarray]:
    """Result, and gradients of query, key and value, row by row, in float64 and by the Jacobian."""
    query, key, value, gradient = (np.asarray(x, np.float64) for x in drawn)
    visible = np.broadcast_to(visible, kept.shape)
    found = [np.zeros_like(query) for _ in range(4)]
    for r, h, q in np.ndindex(query.shape[:3]):
        seen = np.flatnonzero(visible[r, h, q])
        if not len(seen):
            continue
        scores = key[r, h, seen] @ query[r, h, q]
        weights = np.exp(scores) / np.exp(scores).sum()
        spared = kept[r, h, q, seen] / (1 - rate)
        found[0][r, h, q] = (weights * spared) @ value[r, h, seen]
        of_weights = spared * (value[r, h, seen] @ gradient[r, h, q])
        jacobian = np.diag(weights) - np.outer(weights, weights)
        of_scores = jacobian @ of_weights
        found[1][r, h, q] = of_scores @ key[r, h, seen]
        found[2][r, h, seen] += np.outer(of_scores, query[r, h, q])
        found[3][r, h, seen] += np.outer(weights * spared, gradient[r, h, q])
    return found


@pytest.mark.parametrize("rate", [0.0, 0.25])
@pytest.mark.parametrize("seed", range(3))
def test_result_and_gradient_are_those_of_the_formula(rate: float, seed: int) -> None:
    drawn, visible, kept = given(seed)
    real = np.asarray(visible.any(-1))[..., None]  # queries that see something
    *inputs, gradient = drawn
    gradient = jnp.where(real, gradient, 0)  # nothing is learned from padding
    mask = kept if rate else None
    wanted = formula((*inputs, gradient), visible, np.asarray(kept) | (rate == 0), rate)

    def attended(*inputs: jax.Array) -> jax.Array:
        return attend(*inputs, visible, mask, rate)

    for transformed in (lambda f: f, jax.jit):
        result, pullback = jax.vjp(transformed(attended), *inputs)
        np.testing.assert_allclose(np.where(real, result, 0), wanted[0], rtol=2e-5, atol=2e-6)
        for found, right in zip(pullback(gradient), wanted[1:], strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-5, atol=2e-6 * np.abs(right).max())


def test_values_that_are_alike() -> None:
    """What they share has no effect on queries and keys; two terms of the gradient cancel out."""
    (query, key, value, gradient), visible, kept = given(0)
    value = value + 50
    gradient = jnp.where(visible.any(-1)[..., None], gradient, 0)
    wanted = formula((query, key, value, gradient), visible, np.ones_like(kept), 0.0)
    _, pullback = jax.vjp(lambda *x: attend(*x, visible, None, 0.0), query, key, value)
    for found, right in zip(pullback(gradient), wanted[1:], strict=True):
        np.testing.assert_allclose(found, right, atol=1e-4 * np.abs(right).max())


def test_dropout_that_keeps_all_or_nothing() -> None:
    (*inputs, gradient), visible, kept = given(0)

    def both(kept: jax.Array | None) -> list[jax.Array]:
        result, pullback = jax.vjp(lambda *x: attend(*x, visible, kept, 0.5), *inputs)
        return [result, *pullback(gradient)]

    for found, without in zip(both(jnp.ones_like(kept)), both(None), strict=True):
        np.testing.assert_allclose(found, 2 * without, rtol=1e-5, atol=1e-5)
    assert not any(x.any() for x in both(jnp.zeros_like(kept)))


def test_padding_gives_finite_numbers_and_scores_no_gradient() -> None:
    (*inputs, gradient), visible, kept = given(0)
    result, pullback = jax.vjp(lambda *given: attend(*given, visible, kept, 0.25), *inputs)
    assert np.isfinite(result).all()
    of_query, of_key, _ = pullback(gradient)  # padding has a gradient here
    for found in (of_query, of_key):
        assert not found[2].any() and not found[1, :, -3:].any()


def test_scores_far_apart_stay_finite() -> None:
    (query, key, value, gradient), visible, kept = given(0)
    result, pullback = jax.vjp(
        lambda *x: attend(*x, visible, kept, 0.25), query * 100, key * 100, value
    )
    assert np.isfinite(result).all() and all(np.isfinite(x).all() for x in pullback(gradient))


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_shows(which: int, wrong: float) -> None:
    drawn, visible, kept = given(0)
    drawn[which] = drawn[which].at[0, 1, 2, 3].set(wrong)
    *inputs, gradient = drawn
    result, pullback = jax.vjp(lambda *x: attend(*x, visible, kept, 0.25), *inputs)
    assert not all(np.isfinite(x).all() for x in (result, *pullback(gradient)))


def test_one_array_as_large_as_the_weights_is_kept_for_the_gradient() -> None:
    drawn, visible, kept = given(0)

    def kept_arrays(*inputs: jax.Array) -> Any:
        return jax.vjp(lambda *x: attend(*x, visible, kept, 0.25), *inputs)[1]

    sizes = [x.size for x in jax.tree.leaves(jax.eval_shape(kept_arrays, *drawn[:3]))]
    assert sizes.count(ROWS * HEADS * LENGTH**2) == 1 and max(sizes) == ROWS * HEADS * LENGTH**2


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_bfloat16_is_the_same_but_for_rounding(rate: float) -> None:
    drawn, visible, kept = given(1, jnp.bfloat16)
    *inputs, gradient = drawn
    gradient = jnp.where(visible.any(-1)[..., None], gradient, 0)
    mask = kept if rate else None
    wanted = formula((*inputs, gradient), visible, np.asarray(kept) | (rate == 0), rate)
    result, pullback = jax.vjp(lambda *given: attend(*given, visible, mask, rate), *inputs)
    real = np.asarray(visible.any(-1))[..., None]
    for found, right in zip((jnp.where(real, result, 0), *pullback(gradient)), wanted, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float64(found), right, atol=0.03 * np.abs(right).max())
