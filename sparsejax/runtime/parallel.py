"""Arrays over all devices of all processes: rows of a batch divided, parameters on each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def row_mesh() -> Mesh:
    """All devices in one axis, `rows`."""
    return Mesh(np.array(jax.devices()), ("rows",))


def divide_rows(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The batch with its rows divided among the devices.

    Args:
      batch: arrays [rows, ...], the same ones in every process; rows a multiple of the devices.
    """
    sharding = NamedSharding(mesh, P("rows"))
    return {
        name: jax.make_array_from_callback(value.shape, sharding, value.__getitem__)
        for name, value in batch.items()
    }


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a tree, the same in every process, on every device."""
    return jax.device_put(tree, NamedSharding(mesh, P()))
