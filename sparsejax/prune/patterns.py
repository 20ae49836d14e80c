"""What is pruned as one: single weights, N of M along an axis, blocks, whole rows or heads.

The unit of a pattern is what is kept or pruned as a whole: a block, else a single weight.
"""

import dataclasses
import math
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = TypeVar("Array", jax.Array, np.ndarray)


@dataclasses.dataclass(frozen=True)
class NofM:
    """``n`` of every ``m`` consecutive weights along an axis are kept, as sparse hardware wants it.

    Attributes:
      n: how many are kept of each group in the end; a schedule gets there by m - 1, m - 2, ...
      m: the size of a group; it must divide the axis.
      axis: the input axis of a kernel: -2 for Flax's (..., in, out).

    Raises:
      ValueError: unless ``1 <= n <= m``.

    References:
      Mishra et al., `Accelerating Sparse Deep Neural Networks <https://arxiv.org/abs/2104.08378>`_,
      2021, sec. 3: 2:4 sparsity
    """

    n: int
    m: int
    axis: int = -2

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m:
            raise ValueError(f"N:M wants 1 <= N <= M, got {self.n}:{self.m}")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Blocks of the last two axes, kept or pruned as a whole; axes before these are not grouped.

    ``Blocks(32, 32)`` are tiles; ``Blocks(1, None)`` the rows of a kernel (in, out), one for each
    input; ``Blocks(None, 1)`` its columns, one for each output; ``Blocks(64, None)`` the heads, 64
    wide each, in the kernel that follows attention, and ``Blocks(None, 64)`` in those before it.

    Attributes:
      rows: entries of a block along the second to last axis, which it must divide; None: all.
      columns: the same along the last axis.

    Raises:
      ValueError: if either is less than 1.

    References:
      Narang et al., `Block-Sparse Recurrent Neural Networks <https://arxiv.org/abs/1711.02782>`_,
      2017

      Lagunas et al., `Block Pruning For Faster Transformers <https://arxiv.org/abs/2109.04838>`_,
      2021
    """

    rows: int | None
    columns: int | None

    def __post_init__(self) -> None:
        for size in (self.rows, self.columns):
            if size is not None and size < 1:
                raise ValueError(f"blocks must be at least 1x1, got {self}")

    def __str__(self) -> str:
        return "x".join("*" if size is None else str(size) for size in (self.rows, self.columns))


Pattern: TypeAlias = NofM | Blocks | None
"""None: single weights."""


def validate(pattern: Pattern, name: str, shape: tuple[int, ...]) -> None:
    """Raises a ValueError that names the leaf if the pattern does not fit its shape."""
    if pattern is None:
        return
    if isinstance(pattern, NofM):
        if not -len(shape) <= pattern.axis < len(shape):
            raise ValueError(f"{name}: {pattern} wants axis {pattern.axis}, the shape is {shape}")
        if shape[pattern.axis] % pattern.m:
            raise ValueError(
                f"{name}: {pattern} wants a multiple of {pattern.m} along axis {pattern.axis}, "
                f"the shape is {shape}"
            )
        return
    if len(shape) < 2:
        raise ValueError(f"{name}: blocks of {pattern} want two axes, the shape is {shape}")
    rows, columns = _sizes(pattern, shape)
    if shape[-2] % rows or shape[-1] % columns:
        raise ValueError(f"{name}: blocks of {pattern} do not divide the shape {shape}")


def units_shape(pattern: Pattern, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an array with one entry per unit."""
    if not isinstance(pattern, Blocks):
        return shape
    rows, columns = _sizes(pattern, shape)
    return (*shape[:-2], shape[-2] // rows, shape[-1] // columns)


def unit_size(pattern: Pattern, shape: tuple[int, ...]) -> int:
    """How many weights there are in a unit."""
    return math.prod(_sizes(pattern, shape)) if isinstance(pattern, Blocks) else 1


def unit_sums(pattern: Pattern, x: jax.Array) -> jax.Array:
    """The sum over each unit, in float32 where a unit is a block.

    The order of the additions is fixed, so that an array sharded over several devices has the same
    sums to the bit; a reduction's order is the compiler's.
    """
    if not isinstance(pattern, Blocks):
        return x
    blocks = _split(pattern, x.astype(jnp.float32))
    return _pairwise_sum(_pairwise_sum(blocks, blocks.ndim - 1), blocks.ndim - 3)


def any_in_unit(pattern: Pattern, mask: jax.Array) -> jax.Array:
    """Whether any entry of each unit is True."""
    return jnp.any(_split(pattern, mask), (-3, -1)) if isinstance(pattern, Blocks) else mask


def is_whole(pattern: Blocks, mask: np.ndarray) -> bool:
    """Whether every block is kept or pruned as a whole."""
    blocks = _split(pattern, mask)
    return bool(np.all(blocks.all((-3, -1)) == blocks.any((-3, -1))))


def expand(pattern: Pattern, units: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Gives each weight the entry of its unit."""
    if not isinstance(pattern, Blocks):
        return units
    rows, columns = _sizes(pattern, shape)
    split = (*shape[:-2], shape[-2] // rows, rows, shape[-1] // columns, columns)
    return jnp.broadcast_to(units[..., :, None, :, None], split).reshape(shape)


def _sizes(pattern: Blocks, shape: tuple[int, ...]) -> tuple[int, int]:
    return (
        (shape[-2] or 1) if pattern.rows is None else pattern.rows,
        (shape[-1] or 1) if pattern.columns is None else pattern.columns,
    )


def _split(pattern: Blocks, x: Array) -> Array:
    """[..., in, out] as [..., blocks, rows, blocks, columns]."""
    rows, columns = _sizes(pattern, x.shape)
    return x.reshape(*x.shape[:-2], x.shape[-2] // rows, rows, x.shape[-1] // columns, columns)


def _pairwise_sum(x: jax.Array, axis: int) -> jax.Array:
    """The sum along an axis, which is removed; halves are added to halves."""
    while (size := x.shape[axis]) > 1:
        half = size // 2
        low, high = (lax.slice_in_dim(x, i * half, (i + 1) * half, axis=axis) for i in (0, 1))
        rest = lax.slice_in_dim(x, 2 * half, size, axis=axis)
        x = lax.concatenate([low + high, rest], axis) if size % 2 else low + high
    return x.squeeze(axis)
