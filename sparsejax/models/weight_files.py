"""The tensors in the files of a checkpoint: safetensors, packed weights, or PyTorch's pickle."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparsejax.errors import UserError
from sparsejax.models import compressed

# Name, dtype (as its file names it; packed weights are float32), and what gives the values.
Stored = tuple[str, str, Callable[[], np.ndarray]]


def read(directory: Path) -> Iterator[Stored]:
    """Every stored tensor, of the first kind of files that is there.

    A safetensors file is open only until the next tensor is asked for, and is read tensor by
    tensor, when the values are asked for; the others are read as a whole.

    Raises:
      UserError: there are no weights, or a file is damaged or holds something else.
    """
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    pickled = directory / "pytorch_model.bin"
    packed = directory / compressed.FILE
    if single.is_file():
        yield from _safetensors(single)
    elif packed.is_file():
        for name, value in compressed.read(packed).items():
            yield name, "float32", partial(np.asarray, value)
    elif index.is_file():
        try:
            names = json.loads(index.read_text("utf-8"))["weight_map"]
            files = sorted(set(names.values()))
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise UserError(f"{index}: cannot be read ({error!r})") from None
        for file in files:
            # A shard lies beside its index: nothing else is opened on an index file's word.
            if not isinstance(file, str) or Path(file).name != file:
                raise UserError(f"{index}: {file!r} is not a file name")
            yield from _safetensors(directory / file)
    elif pickled.is_file():
        yield from _pickled(pickled)
    else:
        raise UserError(
            f"{directory}: no weights (model.safetensors, its .index.json, {compressed.FILE} or "
            "pytorch_model.bin)"
        )


def _safetensors(path: Path) -> Iterator[Stored]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118, not a dict
                dtype = file.get_slice(name).get_dtype()
                yield name, dtype, partial(file.get_tensor, name)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, though the index names it") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or cut off ({error})") from None


def _pickled(path: Path) -> Iterator[Stored]:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading it needs torch (pip install torch); or pass a directory with "
            "model.safetensors"
        ) from None
    # Before 2.6, weights_only could be made to run code (CVE-2025-32434).
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise UserError(
            f"{path}: reading it safely needs torch 2.6 or newer, not {torch.__version__}; or pass "
            "a directory with model.safetensors"
        )
    try:
        # weights_only refuses to run code from the file.
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's message advises to run the code: it is not repeated
        raise UserError(
            f"{path}: damaged, or holds more than weights, which could run code; "
            "pass a directory with model.safetensors"
        ) from None
    except Exception as error:  # torch raises its own, zipfile's and EOF errors here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: damaged or cut off ({reason})") from None
    if not isinstance(tensors, dict):
        raise UserError(f"{path}: holds a {type(tensors).__name__}, not tensors by name")
    for name, tensor in tensors.items():
        if not (isinstance(name, str) and isinstance(tensor, torch.Tensor)):
            raise UserError(f"{path}: {name!r} is a {type(tensor).__name__}, not a named tensor")
        dtype = str(tensor.dtype).removeprefix("torch.")
        yield name, dtype, partial(_as_float32, tensor)


def _as_float32(tensor: Any) -> np.ndarray:
    found: np.ndarray = tensor.detach().float().numpy()
    return found
