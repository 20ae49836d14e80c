"""Random bits: those of JAX, whatever it does to make them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsejax.models.random_bits import bits


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5, 2), (2, 4, 16, 16), (70_000,), (0, 3)])
@pytest.mark.parametrize("seed", [0, 1, 2**31 + 5])
def test_the_bits_are_those_of_jax(shape: tuple[int, ...], seed: int) -> None:
    key = jax.random.fold_in(jax.random.key(seed), 3)
    found = jax.jit(bits, static_argnums=1)(key, shape)
    assert found.dtype == jnp.uint16
    np.testing.assert_array_equal(found, jax.random.bits(key, shape, jnp.uint16))


def test_another_generator_is_left_to_jax() -> None:
    key = jax.random.key(3, impl="rbg")
    np.testing.assert_array_equal(bits(key, (9,)), jax.random.bits(key, (9,), jnp.uint16))


def test_nothing_is_kept_in_memory() -> None:
    """Used at once, the words need no memory: they are a function of their place."""
    key, x = jax.random.key(0), jnp.ones((1000, 1000))

    def drop(key: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.where(bits(key, x.shape) >= 6554, x, 0)

    needed = jax.jit(drop).lower(key, x).compile().memory_analysis()
    assert needed.temp_size_in_bytes < x.nbytes / 10
