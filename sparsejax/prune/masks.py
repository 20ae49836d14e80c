"""Which entries to keep: the exact k largest, found by counting instead of sorting.

Floats are seen as integers of the same order, and the k-th largest integer is built from its top
digit down, one counting pass per digit. A pass reduces the array to three integers, and these are
all that devices exchange when the array is sharded; the answer is the same however it is sharded.
Sorting would gather the array first.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@jax.jit
def top_k_mask(scores: jax.Array, k: jax.typing.ArrayLike) -> jax.Array:
    """Marks exactly the ``k`` largest entries.

    Entries are ordered by value: infinities and denormals have their place, and -0.0 equals 0.0.
    Of equal entries the one with the lowest flat index goes first. NaN ranks above infinity, so a
    NaN is kept, where it can be seen, and is not turned into a harmless zero
    (:func:`sparsejax.prune.audit` raises on it).

    Args:
      scores: floats, any shape.
      k: how many to mark, an integer; may be traced. Below 0 acts as 0, above the size as the size.

    Returns:
      A boolean array of the shape of ``scores``.

    Raises:
      TypeError: if ``scores`` are not floats.
      ValueError: if there are more than an int32 can count.
    """
    bits = ordered_bits(scores)
    threshold = kth_largest(bits, k)
    above, tied = bits > threshold, bits == threshold
    n_above, n_tied = _count(above, tied)
    n_wanted = jnp.asarray(k, jnp.int32) - n_above

    def first_tied() -> jax.Array:
        rank = jnp.where(tied, scores.size - 1 - _flat_index(scores.shape), -1)
        return rank >= kth_largest(rank, n_wanted)

    # Almost always all entries tied at the threshold are wanted: then nothing is left to rank.
    chosen: jax.Array = lax.cond(n_tied > n_wanted, first_tied, lambda: tied)
    return above | chosen


def ordered_bits(x: jax.Array) -> jax.Array:
    """Integers of the width of ``x`` that are ordered as the floats ``x`` are, NaN above all.

    Comparing these never flushes a denormal to zero, which comparing floats may do.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"only floats can be ranked, got {x.dtype}")
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"int{8 * x.dtype.itemsize}"))
    largest = np.iinfo(bits.dtype).max
    # Floats are sign and magnitude, integers two's complement. This also makes -0.0 equal 0.0.
    ordered = jnp.where(bits < 0, -(bits & largest), bits)
    return jnp.where(jnp.isnan(x), largest, ordered)


def kth_largest(values: jax.Array, k: jax.typing.ArrayLike) -> jax.Array:
    """The ``k``-th largest of some signed integers above the least one of their type.

    It is the largest t with ``sum(values >= t) >= k``: the largest integer there is if ``k <= 0``,
    the least if ``k`` is above the size.
    """
    if values.size > np.iinfo(jnp.int32).max:
        raise ValueError(f"cannot rank {values.size} entries: int32 counts them")
    dtype, width = values.dtype, np.iinfo(values.dtype).bits

    def fix_digit(i: jax.Array, t: jax.Array) -> jax.Array:
        # Two bits a pass: three thresholds counted together cost hardly more than one.
        # The least integer is 100..0, so xor sets a bit, and the sign bit in the right sense.
        shift = (width - 2 - 2 * i).astype(dtype)
        counts = _count(*(values >= t ^ (jnp.asarray(d, dtype) << shift) for d in (1, 2, 3)))
        digit = sum((count >= k).astype(dtype) for count in counts)
        return t ^ (digit << shift)

    least = jnp.asarray(np.iinfo(dtype).min, dtype)
    result: jax.Array = lax.fori_loop(0, width // 2, fix_digit, least)
    return result


def _count(*conditions: jax.Array) -> tuple[jax.Array, ...]:
    """How many entries of each boolean array hold, all arrays in one pass over memory."""
    ones = tuple(condition.astype(jnp.int32) for condition in conditions)
    zeros = tuple(jnp.int32(0) for _ in ones)
    axes = tuple(range(ones[0].ndim))
    return tuple(lax.reduce(ones, zeros, lambda a, b: tuple(map(jnp.add, a, b)), axes))


def _flat_index(shape: tuple[int, ...]) -> jax.Array:
    """Each entry's row-major index. Without a reshape, which could move a sharded array."""
    index = jnp.zeros(shape, jnp.int32)
    for axis in range(len(shape)):
        index += lax.broadcasted_iota(jnp.int32, shape, axis) * math.prod(shape[axis + 1 :])
    return index
