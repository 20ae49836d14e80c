"""Sparse tensors in few bytes: which weights are kept, as coded gaps, and their values.

docs/export.md documents the file for readers that do not have this package.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from sparsejax.errors import UserError

Values = Literal["float32", "float16", "int8"]

FILE = "model.compressed.safetensors"
_FORMAT = "sparsejax compressed 1"
_MAX_LOW = 32  # bits of a remainder: no tensor has gaps that would want more


class Lost(NamedTuple):
    """What storing in few bits did to the weights that are not zero."""

    kept: int  # weights that are not zero
    zero: int  # of those: too small for the type of the values, so that they are read as zero


def encode(tensors: Mapping[str, np.ndarray], values: Values) -> tuple[bytes, Lost]:
    """The content of the file for these tensors, each stored in whichever form is smaller.

    A weight is kept unless it is +0.0, so float32 values come back bit by bit, -0.0 and denormals
    included. The mask is that of the float32 weights, whatever the type of the values.

    Args:
      tensors: name -> float32 array.
      values: type to store. int8 is for arrays of two and more axes, with a float16 scale for each
        index of the first one (an output in PyTorch's layout); others are then float16.

    Raises:
      UserError: a weight is not finite, or too large for the type of the values.
    """
    import safetensors.numpy

    parts: dict[str, np.ndarray] = {}
    layout: dict[str, dict[str, Any]] = {}
    kept = zero = 0
    for name, tensor in tensors.items():
        stored, scales = _quantise(name, tensor, values)
        kept += int(np.count_nonzero(tensor))
        zero += int(np.count_nonzero(tensor) - np.count_nonzero(stored))
        positions = np.flatnonzero(tensor.reshape(-1).view(np.uint32))
        if scales is not None:
            parts[f"{name}.scales"] = scales
        if (tensor.size - len(positions)) * stored.itemsize <= tensor.size // 8:
            parts[name] = stored  # a bit for each weight is more than that
            continue
        k, mask = _encode_gaps(positions)
        chosen = stored.reshape(-1)[positions]
        if chosen.nbytes + mask.nbytes < stored.nbytes:
            layout[name] = {"k": k, "shape": list(tensor.shape)}
            parts |= {f"{name}.values": chosen, f"{name}.mask": mask}
        else:
            parts[name] = stored
    described = json.dumps(layout, separators=(",", ":"))
    metadata = {"format": _FORMAT, "layout": described, "crc32": _crc32(described, parts)}
    return safetensors.numpy.save(parts, metadata), Lost(kept, zero)


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file that `encode` made.

    Returns:
      name -> float32 array.

    Raises:
      UserError: it cannot be read, is damaged or something else.
    """
    import safetensors

    try:
        with open(path, "rb"):  # safetensors does not say why a file cannot be opened
            pass
        with safetensors.safe_open(path, "numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise UserError(f"{path}: its format is not {_FORMAT!r}")
            parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _crc32(metadata["layout"], parts) != metadata["crc32"]:
            raise UserError(f"{path}: damaged: its checksum is wrong")
        layout = json.loads(metadata["layout"])
        names = [name for name in parts if not name.endswith((".values", ".mask", ".scales"))]
        return {name: _decode(name, layout.get(name), parts) for name in [*names, *layout]}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: damaged or cut off ({error})") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError) as error:
        # The checksum is right, so another program wrote it, and wrote it wrong.
        raise UserError(f"{path}: its layout is wrong ({' '.join(repr(error).split())})") from None


def _quantise(name: str, tensor: np.ndarray, values: Values) -> tuple[np.ndarray, Any]:
    """The array in the type of the values, and the scales of an int8 one."""
    if not np.isfinite(tensor).all():
        raise UserError(f"{name}: holds NaN or infinity, which is not exported")
    if values == "float32":
        return tensor, None
    if values == "float16" or tensor.ndim < 2:
        return _float16(name, tensor, values), None
    exact = np.abs(tensor).max(tuple(range(1, tensor.ndim)), initial=0) / np.float32(127)
    scales = _float16(name, exact, values)
    # Never rounded down, so that the largest weight of an output needs no more than 127.
    scales = np.where(scales < exact, np.nextafter(scales, np.float16(np.inf)), scales)
    divisor = np.where(scales > 0, scales, 1).astype(np.float32)
    steps = np.rint(tensor / divisor.reshape(-1, *[1] * (tensor.ndim - 1)))
    return steps.astype(np.int8), scales


def _float16(name: str, tensor: np.ndarray, values: Values) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = tensor.astype(np.float16)
    if count := np.count_nonzero(np.isinf(stored)):
        raise UserError(
            f"{name}: {count} weights too large for --values {values}, the largest "
            f"{np.abs(tensor).max():g}; use --values float32"
        )
    return stored


def _encode_gaps(positions: np.ndarray) -> tuple[int, np.ndarray]:
    """Rice's code (Rice & Plaunt 1971) of the number of zeros before each kept weight.

    The lower k bits of every gap lie apart, and what is above them is written as so many zeros and
    a one. With k = 0 this is the mask itself, one bit for each weight.

    Args:
      positions: of the kept weights, ascending.

    Returns:
      k of the fewest bytes; the zeros and ones, then the lower bits, each as whole bytes.
    """
    gaps = np.diff(positions, prepend=-1) - 1
    zeros = [int(np.sum(gaps >> k)) for k in range(_MAX_LOW)]
    k = int(np.argmin([-(-(len(gaps) + z) // 8) - (-len(gaps) * k // 8)
                       for k, z in enumerate(zeros)]))  # fmt: skip
    high = np.zeros(len(gaps) + zeros[k], np.uint8)
    high[np.cumsum((gaps >> k) + 1) - 1] = 1
    low = (gaps[:, None] >> np.arange(k)[::-1]).astype(np.uint8) & 1
    return k, np.concatenate([np.packbits(high), np.packbits(low)])


def _decode_gaps(k: int, mask: np.ndarray, kept: int) -> np.ndarray:
    """The positions that `_encode_gaps` was given."""
    high, low = np.split(mask, [len(mask) + -kept * k // 8])
    above = np.diff(np.flatnonzero(np.unpackbits(high)), prepend=-1) - 1
    below = np.unpackbits(low, count=kept * k).reshape(kept, k) @ (1 << np.arange(k)[::-1])
    return np.cumsum((above << k) + below + 1) - 1


def _decode(name: str, entry: dict[str, Any] | None, parts: Mapping[str, Any]) -> np.ndarray:
    if entry is None:
        stored = parts[name]
    else:
        chosen = parts[f"{name}.values"]
        stored = np.zeros(math.prod(entry["shape"]), chosen.dtype)
        stored[_decode_gaps(entry["k"], parts[f"{name}.mask"], len(chosen))] = chosen
        stored = stored.reshape(entry["shape"])
    values = stored.astype(np.float32)
    if stored.dtype == np.int8:
        scales = parts[f"{name}.scales"].astype(np.float32)
        values *= scales.reshape(-1, *[1] * (stored.ndim - 1))
    return values


def _crc32(layout: str, parts: Mapping[str, np.ndarray]) -> str:
    """Of the layout, then name, type and bytes of each part by the order of names."""
    crc = zlib.crc32(layout.encode())
    for name in sorted(parts):
        crc = zlib.crc32(f"{name}{parts[name].dtype}".encode(), crc)
        crc = zlib.crc32(parts[name].tobytes(), crc)
    return f"{crc:08x}"
