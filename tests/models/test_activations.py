"""GELU with a gradient of its own, against the closed form in double precision."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsejax.models.activations import ACTIVATIONS, gelu

X = np.concatenate([np.linspace(-12, 12, 1001), [0.0, -0.0, -40.0, 40.0, 1e-30, -1e-30]])


@pytest.mark.parametrize(("dtype", "error"), [(jnp.float32, 1e-6), (jnp.bfloat16, 0.02)])
def test_gelu_and_its_gradient(dtype: jnp.dtype, error: float) -> None:
    x = jnp.asarray(X, dtype)
    exact = np.asarray(x, np.float64)
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in exact])
    slope = below + exact * np.exp(-(exact**2) / 2) / math.sqrt(2 * math.pi)
    value, backward = jax.vjp(gelu, x)
    (found,) = backward(jnp.full_like(x, 3))
    assert value.dtype == found.dtype == dtype
    np.testing.assert_allclose(np.asarray(value, np.float64), exact * below, rtol=error, atol=error)
    np.testing.assert_allclose(np.asarray(found, np.float64), 3 * slope, rtol=error, atol=3 * error)


def test_little_is_lost_where_the_gradient_is_small() -> None:
    x = np.linspace(-7, -3, 41).astype(np.float32)
    exact = x.astype(np.float64)
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in exact])
    slope = below + exact * np.exp(-(exact**2) / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(x), slope, rtol=1e-4, atol=1e-6)


def test_nothing_but_the_input_is_kept_for_the_gradient() -> None:
    x = jax.ShapeDtypeStruct((64, 96), jnp.bfloat16)
    kept = jax.eval_shape(lambda x: jax.vjp(gelu, x)[1], x)
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)) == 64 * 96 * 2


def test_the_names_are_those_of_hugging_face() -> None:
    transformers = pytest.importorskip("transformers.activations")
    torch = pytest.importorskip("torch")
    for name, activation in ACTIVATIONS.items():
        wanted = transformers.ACT2FN[name](torch.tensor(X, dtype=torch.float32)).numpy()
        np.testing.assert_allclose(activation(jnp.float32(X)), wanted, atol=2e-6, err_msg=name)
