"""All rows of a training on the devices, and batches that are gathered there.

The host then sends numbers of rows, for several steps at once, and waits for none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sparsejax.data.packing import Packed
from sparsejax.data.tokenization import IGNORE
from sparsejax.runtime import parallel

STEPS = 10  # of one call at most: a tenth of what it costs the host to start one of them

Rows = dict[str, jax.Array]  # the columns of `Packed`, [rows, length], as narrow as they can be


def place(packed: Packed, mesh: Mesh) -> Rows:
    """All rows, on every device."""
    columns = {name: narrow(getattr(packed, name)) for name in Packed.COLUMNS}
    placed: Rows = parallel.place(columns, parallel.whole(mesh))
    return placed


def narrow(values: np.ndarray) -> np.ndarray:
    """The same numbers in the narrowest signed type that holds all of them."""
    ends = (int(values.min(initial=0)), int(values.max(initial=0)))
    for dtype in (np.int8, np.int16):
        if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.int32)


def gather(rows: Rows, numbers: jax.Array, mesh: Mesh | None) -> dict[str, jax.Array]:
    """`Packed.batch` on the devices: int32 [size, length] of each column.

    Args:
      rows: see `place`.
      numbers: int32 [size]; -1 is an empty row.
      mesh: whose devices divide the batch; None: as JAX finds best.
    """
    found = {}
    for name, column in rows.items():
        empty = IGNORE if name == "labels" else 0
        batch = jnp.where(numbers[:, None] < 0, empty, column[numbers].astype(jnp.int32))
        if mesh is not None:
            batch = jax.lax.with_sharding_constraint(batch, parallel.rows(mesh))
        found[name] = batch
    return found


def calls(
    batches: Iterable[np.ndarray], size: int, done: int, total: int, *every: int
) -> Iterator[tuple[np.ndarray, int]]:
    """The steps of a run in calls of at most STEPS of them.

    The first call is of one step, for it compiles; and none goes beyond a step after which the
    host has something to do.

    Args:
      batches: numbers of rows, for each step that is left.
      size: rows of a batch with the empty ones.
      done, total: steps made before, and in all.
      every: there is something to do after each multiple of any of them.

    Yields:
      int32 [STEPS, size] of numbers, -1 where there is none; how many steps.
    """
    numbers, count, step = _empty(size), 0, done
    for chosen in batches:
        numbers[count, : len(chosen)] = chosen
        count, step = count + 1, step + 1
        due = any(step % one == 0 for one in every)
        if count == STEPS or due or step in (done + 1, total):
            yield numbers, count
            numbers, count = _empty(size), 0


def _empty(size: int) -> np.ndarray:
    return np.full((STEPS, size), -1, np.int32)
