"""Random bits for dropout, written out so that the compiler makes them where they are used.

Reference: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3", section 3.2: Threefry
with two words of 32 bits and 20 rounds.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA  # of the key schedule


def bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Those of `jax.random.bits(key, shape, jnp.uint16)`, to the bit, as JAX makes them by default.

    JAX hands Threefry to the compiler as a loop on a CPU and as a kernel of its own on a GPU, whose
    words go through memory. Here a word is a function of its place, and fused with what takes it.

    Args:
      key: a typed key; that of another generator than Threefry is left to JAX.
      shape: of the values; JAX makes more than 2**32 of them.

    Returns:
      uint16 [*shape].
    """
    if str(jax.random.key_impl(key)) != "threefry2x32" or math.prod(shape) > 2**32:
        return jax.random.bits(key, shape, jnp.uint16)
    first, second = jax.random.key_data(key)
    schedule = (first, second, first ^ second ^ jnp.uint32(PARITY))
    # The counter is the place in the array; its upper word is 0.
    place = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    x, y = jnp.broadcast_to(schedule[0], shape), place + schedule[1]
    for i in range(5):
        for distance in ROTATIONS[i % 2]:
            x = x + y
            y = ((y << distance) | (y >> (32 - distance))) ^ x
        x = x + schedule[(i + 1) % 3]
        y = y + schedule[(i + 2) % 3] + jnp.uint32(i + 1)
    return (x ^ y).astype(jnp.uint16)
