"""Masks on disk: one bit per weight, in a safetensors file."""

import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from sparsejax.prune.states import Masks

_FORMAT = "sparsejax masks 1"


def write_masks(file: str | os.PathLike[str], masks: Masks) -> None:
    """Writes masks as packed bits.

    The tensor of a path is uint8 ``[ceil(n / 8)]``: the mask in row-major order, the first weight
    in the highest bit, the last byte filled up with zeros. The header's metadata has ``format``,
    ``shapes``, a JSON object of path -> shape, and ``crc32``, of ``shapes`` and then the tensors in
    the order of its paths, in hexadecimal digits. The file is the old one or the new one, never a
    half.

    Args:
      file: where to; its directory must be there.
      masks: path -> boolean array, of :func:`sparsejax.prune.masks_of`.
    """
    packed = {name: np.asarray(_pack(jnp.asarray(mask))) for name, mask in masks.items()}
    shapes = json.dumps({name: list(np.shape(mask)) for name, mask in masks.items()})
    metadata = {"format": _FORMAT, "shapes": shapes, "crc32": _crc32(shapes, packed)}
    target = Path(file)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        # Not save_file: it makes files that only their owner can read.
        temporary.write_bytes(safetensors.numpy.save(packed, metadata))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def read_masks(file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads what :func:`write_masks` wrote.

    Returns:
      path -> boolean array.

    Raises:
      ValueError: if the file is damaged or something else, naming it and the mask.
      OSError: if it cannot be read.
    """
    with open(file, "rb"):  # safetensors does not say why a file cannot be opened
        pass
    try:
        with safetensors.safe_open(file, "numpy") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
            packed = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"holds no masks: its format is not {_FORMAT!r}")
        shapes: dict[str, list[int]] = json.loads(metadata["shapes"])
        if _crc32(metadata["shapes"], {n: packed[n] for n in shapes}) != metadata["crc32"]:
            raise ValueError("is damaged: its checksum is wrong")
        return {name: _unpack(name, packed[name], shape) for name, shape in shapes.items()}
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    except (safetensors.SafetensorError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: is damaged: {' '.join(str(error).split())}") from None


@jax.jit
def _pack(mask: jax.Array) -> jax.Array:
    return jnp.packbits(mask.reshape(-1))


def _crc32(shapes: str, packed: Mapping[str, np.ndarray]) -> str:
    crc = zlib.crc32(shapes.encode())
    for bits in packed.values():
        crc = zlib.crc32(bits.tobytes(), crc)
    return f"{crc:08x}"


def _unpack(name: str, packed: np.ndarray, shape: list[int]) -> np.ndarray:
    n = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (-(-n // 8),):
        raise ValueError(f"is damaged: the mask of {name} does not have its shape {shape}")
    return np.unpackbits(packed, count=n).astype(np.bool_).reshape(shape)
