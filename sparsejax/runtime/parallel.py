"""Arrays over all devices of all processes: one mesh, with the rows of a batch divided over it.

The mesh has two axes. Rows are divided over both. Parameters, and what an optimizer keeps for each
of them, are whole on every device along `data` and divided along `fsdp`, which is one device wide
unless asked for: `Zhao et al. 2023, "PyTorch FSDP" <https://arxiv.org/abs/2304.11277>`_, section 3,
calls the first one replication and the second one full sharding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsejax.data import packing
from sparsejax.data.packing import Packed
from sparsejax.errors import UserError
from sparsejax.runtime import processes

T = TypeVar("T")

ROWS = P(("data", "fsdp"))


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """All devices, in an order that suits their network.

    Args:
      fsdp: how many devices share one copy of the parameters.
      devices: other ones than those of all processes.

    Raises:
      UserError: fsdp does not divide their number.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % fsdp:
        raise UserError(f"parallel.fsdp: {fsdp} does not divide the {len(devices)} devices")
    shape, types = (len(devices) // fsdp, fsdp), (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh(shape, ("data", "fsdp"), types, devices=devices)


def describe(mesh: Mesh) -> str:
    """How many devices of which kind there are, in words."""
    kind, count = mesh.devices.flat[0].device_kind, jax.process_count()
    several = f" of {count} processes" if count > 1 else ""
    width = mesh.shape["fsdp"]
    divided = f", parameters divided over {width}" if width > 1 else ""
    return f"{mesh.size} devices ({kind}){several}{divided}"


def whole(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device has all of."""
    return NamedSharding(mesh, P())


def rows(mesh: Mesh, before: int = 0) -> NamedSharding:
    """The sharding of an array whose first axis, or the one after some, is the rows of a batch."""
    return NamedSharding(mesh, P(*[None] * before, *ROWS))


def of_parameters(tree: Any, mesh: Mesh) -> Any:
    """The shardings of parameters, gradients, moments, masks or scores, or a tree of all of them.

    Arrays of two axes and more are divided along `fsdp`, at the largest axis that it divides;
    arrays of the same shape alike, so that an update needs no communication.

    Args:
      tree: of arrays or of their shapes.
    """
    width = mesh.shape["fsdp"]

    def of(leaf: Any) -> NamedSharding:
        fitting = [axis for axis, size in enumerate(leaf.shape) if size % width == 0]
        if width == 1 or len(leaf.shape) < 2 or not fitting:
            return whole(mesh)
        chosen = max(fitting, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*([None] * chosen), "fsdp"))

    return jax.tree.map(of, tree)


def place(tree: Any, shardings: Any) -> Any:
    """Arrays that every process has on the devices, each process its own share of them.

    Args:
      tree: of arrays, the same in every process.
      shardings: one for all, or a tree of them.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def one(value: Any, sharding: NamedSharding) -> jax.Array:
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, sharding, value.__getitem__)

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda value: one(value, shardings), tree)
    return jax.tree.map(one, tree, shardings)


def batch(packed: Packed, numbers: np.ndarray, size: int, mesh: Mesh) -> dict[str, jax.Array]:
    """The rows with these numbers, padded with empty rows to `size`, on the devices.

    Args:
      packed: the rows.
      numbers: of at most `size` rows, the same in every process.
      size: a multiple of the devices.
      mesh: the devices.
    """
    return batches(packed, packing.padded(numbers, size), mesh)


def batches(packed: Packed, chosen: np.ndarray, mesh: Mesh) -> dict[str, jax.Array]:
    """The columns of one batch or several on the devices, which divide the rows of each.

    Each process lays out only the rows of its own devices.

    Args:
      packed: the rows.
      chosen: int [..., size], numbers of rows, the same in every process; -1 is an empty one.
        The size is a multiple of the devices.
      mesh: the devices.

    Returns:
      int32 [..., size, length] of each column.
    """
    before = chosen.ndim - 1
    sharding = rows(mesh, before)
    if mesh.size == 1:
        return jax.device_put(packed.batches(chosen), sharding)
    shape = (*chosen.shape, packed.tokens.shape[1])
    shares: dict[int, dict[str, np.ndarray]] = {}

    def share(name: str, where: tuple[slice, ...]) -> np.ndarray:
        begin, end, _ = where[before].indices(chosen.shape[-1])
        if begin not in shares:
            shares[begin] = packed.batches(chosen[..., begin:end])
        return shares[begin][name]

    return {
        name: jax.make_array_from_callback(shape, sharding, partial(share, name))
        for name in Packed.COLUMNS
    }


def padded(size: int, mesh: Mesh) -> int:
    """The smallest multiple of the devices that is at least `size`."""
    return -(-size // mesh.size) * mesh.size


def to_host(tree: Any) -> Any:
    """The arrays in the memory of the first process, as copies; in the others None in their place.

    All processes must call it, where there are several.
    """

    def one(value: jax.Array) -> np.ndarray | None:
        if not (value.is_fully_addressable or value.is_fully_replicated):
            sharding: Any = value.sharding
            value = jax.jit(_same, out_shardings=whole(sharding.mesh))(value)
        return np.array(value) if processes.is_first() else None

    return jax.tree.map(one, tree)


def on_host() -> AbstractContextManager[Any]:
    """Within, what is computed from arrays of the host is computed there, where JAX has its CPU."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return nullcontext()


def _same(value: jax.Array) -> jax.Array:
    return value


def from_first(tree: Any) -> Any:
    """The arrays of the first process, in all of them, to the bit.

    Args:
      tree: of arrays in the memory of the host; in the other processes only their shapes matter.
    """
    if jax.process_count() == 1:
        return tree

    def one(value: np.ndarray) -> np.ndarray:
        # As bytes: what is broadcast is summed up, and -0.0 would come out as 0.0.
        raw = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        sent = np.asarray(multihost_utils.broadcast_one_to_all(raw, is_source=processes.is_first()))
        return np.frombuffer(sent.tobytes(), value.dtype).reshape(value.shape)

    return jax.tree.map(one, tree)


def number_of_first(value: int) -> int:
    """A whole number of the first process, in all of them."""
    return int(from_first(np.int64(value)))


def by_device(value: bool, mesh: Mesh) -> jax.Array:
    """What each process says, bool [devices]; all of them must say something."""
    mine = np.array([value])
    return jax.make_array_from_callback((mesh.size,), rows(mesh), lambda where: mine)


def anywhere(value: bool, mesh: Mesh) -> bool:
    """Whether this is true in any process; all of them must ask."""
    return bool(jax.jit(jnp.any)(by_device(value, mesh)))


def in_turn(tree: T) -> T:
    """The arrays, once they are there if the devices are several ones of a CPU.

    Programs in which such devices wait for each other must not overlap: each could hold threads
    that the other needs.
    """
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        jax.block_until_ready(tree)
    return tree


def check_same(text: str, what: str) -> None:
    """Raises a UserError, in every process, if the processes do not have the same text.

    Args:
      text: of any length.
      what: it says, in words.
    """
    if jax.process_count() == 1:
        return
    mine = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    found = np.asarray(multihost_utils.process_allgather(mine))
    if (found != found[0]).any():
        raise UserError(f"the processes do not have the same {what}; start all of them alike")
