"""Which entries to keep: the exact k largest, found by counting instead of sorting.

Floats are seen as integers of the same order, and the k-th largest integer is built from its top
digit down, one counting pass per digit. A pass reduces what is ranked together to three integers,
and these are all that devices exchange when the arrays are sharded; the answer is the same however
they are sharded. Sorting would gather them first.
"""

import math
from collections.abc import Sequence

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
    return _top_k([ordered_bits(scores)], k)[0]


@jax.jit
def top_k_of_each(scores: jax.Array, k: jax.Array) -> jax.Array:
    """Marks the largest entries of several arrays of one shape, each ranked by itself.

    As :func:`top_k_mask` of one after the other, but a pass counts in all of them: an accelerator
    would spend more time on starting its kernels than on what these do.

    Args:
      scores: floats [arrays, ...].
      k: int32 [arrays], how many to mark in each.

    Returns:
      A boolean array of the shape of ``scores``.
    """
    return _top_k([ordered_bits(scores)], k)[0]


@jax.jit
def top_k_masks(scores: Sequence[jax.Array], k: jax.typing.ArrayLike) -> list[jax.Array]:
    """Marks exactly the ``k`` largest entries of several arrays together.

    As :func:`top_k_mask`; of equal entries those of earlier arrays go first. The arrays are not
    concatenated. Their types may differ: floats of 16 and 32 bits are compared as float32.

    Args:
      scores: floats, of any shapes.
      k: how many to mark in all.

    Returns:
      Boolean arrays of the shapes of ``scores``.
    """
    dtype = jnp.result_type(*scores)
    return _top_k([ordered_bits(x.astype(dtype)) for x in scores], k)


def n_of_m_mask(scores: jax.Array, n: jax.typing.ArrayLike, m: int, axis: int) -> jax.Array:
    """Marks exactly the ``n`` largest of every ``m`` consecutive entries along an axis.

    Args:
      scores: floats, any shape; the axis must be a multiple of ``m`` long.
      n: how many to mark in each group, an integer; may be traced.
      m: the size of a group.
      axis: along which entries are grouped.

    Returns:
      A boolean array of the shape of ``scores``. Ties go to the lower index.
    """
    axis %= scores.ndim
    before, after = scores.shape[:axis], scores.shape[axis + 1 :]
    groups = ordered_bits(scores).reshape(*before, -1, m, *after)
    within = lax.broadcasted_iota(jnp.int32, groups.shape, axis + 1)
    rank = jnp.zeros(groups.shape, jnp.int32)
    for j in range(m):  # m is small: 4, 8 or 16
        other = lax.slice_in_dim(groups, j, j + 1, axis=axis + 1)
        ahead = (other > groups) | ((other == groups) & (j < within))
        rank += ahead.astype(jnp.int32)
    return (rank < n).reshape(scores.shape)


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


def kth_largest(values: Sequence[jax.Array], k: jax.typing.ArrayLike) -> jax.Array:
    """The ``k``-th largest of all entries of some arrays of signed integers of one type.

    It is the largest t with ``sum(values >= t) >= k``: the largest integer there is if ``k <= 0``,
    the least if ``k`` is above the size. No entry may be the least integer of the type.

    Args:
      values: the arrays.
      k: a scalar, or an array: then the first axes of ``values`` are those of ``k``, and what is
        ranked are the entries along the others.

    Returns:
      Integers of the shape of ``k``.
    """
    k = jnp.asarray(k)
    size = sum(_size(x, k.ndim) for x in values)
    if size > np.iinfo(jnp.int32).max:
        raise ValueError(f"cannot rank {size} entries: int32 counts them")
    dtype, width = values[0].dtype, np.iinfo(values[0].dtype).bits

    def fix_digit(i: jax.Array, t: jax.Array) -> jax.Array:
        # Two bits a pass: three thresholds counted together cost hardly more than one.
        # The least integer is 100..0, so xor sets a bit, and the sign bit in the right sense.
        shift = jnp.asarray(width - 2 - 2 * i, dtype)
        thresholds = [t ^ (jnp.asarray(d, dtype) << shift) for d in (1, 2, 3)]
        conditions = [[x >= _beside(threshold, x) for threshold in thresholds] for x in values]
        digit = sum((count >= k).astype(dtype) for count in _count(conditions, k.ndim))
        return t ^ (digit << shift)

    least = jnp.full(k.shape, np.iinfo(dtype).min, dtype)
    result: jax.Array = lax.fori_loop(0, width // 2, fix_digit, least)
    return result


def _top_k(bits: Sequence[jax.Array], k: jax.typing.ArrayLike) -> list[jax.Array]:
    """Masks of the arrays; with an array ``k`` as in :func:`kth_largest`."""
    k = jnp.asarray(k, jnp.int32)
    threshold = kth_largest(bits, k)
    above = [x > _beside(threshold, x) for x in bits]
    tied = [x == _beside(threshold, x) for x in bits]
    n_above, n_tied = _count(list(zip(above, tied, strict=True)), k.ndim)
    n_wanted = k - n_above

    def first_tied() -> list[jax.Array]:
        ranks, last = [], sum(_size(x, k.ndim) for x in bits) - 1
        for x in tied:
            index = _flat_index(x.shape[k.ndim :])
            ranks.append(jnp.where(x, last - index, -1))
            last -= index.size
        threshold = kth_largest(ranks, n_wanted)
        return [rank >= _beside(threshold, rank) for rank in ranks]

    # Almost always all entries tied at the threshold are wanted: then nothing is left to rank.
    chosen = lax.cond(jnp.any(n_tied > n_wanted), first_tied, lambda: tied)
    return [a | c for a, c in zip(above, chosen, strict=True)]


def _count(conditions: Sequence[Sequence[jax.Array]], batched: int) -> list[jax.Array]:
    """For each condition, how many entries of all arrays hold: one pass over each array.

    Args:
      conditions: for each array the same number of boolean arrays of its shape.
      batched: along how many of the first axes entries are counted apart.
    """
    totals = [jnp.int32(0)] * len(conditions[0])
    for of_array in conditions:
        ones = tuple(condition.astype(jnp.int32) for condition in of_array)
        zeros = tuple(jnp.int32(0) for _ in ones)
        axes = tuple(range(batched, ones[0].ndim))
        counts = lax.reduce(ones, zeros, lambda a, b: tuple(map(jnp.add, a, b)), axes)
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
    return totals


def _beside(thresholds: jax.Array, x: jax.Array) -> jax.Array:
    """With as many axes as what they are compared with."""
    return thresholds.reshape(thresholds.shape + (1,) * (x.ndim - thresholds.ndim))


def _size(x: jax.Array, batched: int) -> int:
    return math.prod(x.shape[batched:])


def _flat_index(shape: tuple[int, ...]) -> jax.Array:
    """Each entry's row-major index. Without a reshape, which could move a sharded array."""
    index = jnp.zeros(shape, jnp.int32)
    for axis in range(len(shape)):
        index += lax.broadcasted_iota(jnp.int32, shape, axis) * math.prod(shape[axis + 1 :])
    return index
