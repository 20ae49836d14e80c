"""What a model was trained on, as keys: enough to tell whether a sentence or an entity is new."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sparsejax.data import cache
from sparsejax.data.preparation import Prepared
from sparsejax.errors import UserError


class Seen(NamedTuple):
    """Keys (`sentences.key`) of the training data of all languages, sorted, each once."""

    sentences: np.ndarray  # uint64
    entities: np.ndarray  # uint64: of the words of an entity, whatever its type


def seen(parts: Mapping[str, Prepared]) -> Seen:
    """The keys of these training sentences."""
    return Seen(
        np.unique(np.concatenate([part.sentence_keys for part in parts.values()])),
        np.unique(np.concatenate([part.entity_keys for part in parts.values()])),
    )


def union(*several: Seen) -> Seen:
    """The keys of any of these."""
    return Seen(*(np.unique(np.concatenate(keys)) for keys in zip(*several, strict=True)))


def among(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """bool [keys]: which of them are known.

    Args:
      keys: uint64, in any order.
      known: a field of `Seen`. It is sorted, so that each key costs a binary search; np.isin would
        go through all that is known, half a million keys, once for every language.
    """
    return np.searchsorted(known, keys, side="right") > np.searchsorted(known, keys, side="left")


def save(known: Seen, path: Path) -> None:
    """Writes keys that `load` reads back."""
    cache.write_whole(path, known._asdict(), "")


def load(path: Path) -> Seen:
    """The keys that a run saved.

    Raises:
      UserError: they are not there or damaged.
    """
    found = cache.read(path)
    if found is None or set(found[0]) != set(Seen._fields):
        raise UserError(f"{path}: missing or damaged; it says what the run was trained on")
    return Seen(**found[0])


def of_checkpoint(checkpoint: Path | None) -> Seen | None:
    """The keys of what a checkpoint was trained on, if it is a run's: RUN/model, RUN/export/NAME.

    Raises:
      UserError: they are damaged.
    """
    if checkpoint is None:
        return None
    above = checkpoint.resolve().parent
    path = (above.parent if above.name == "export" else above) / "seen.safetensors"
    return load(path) if path.is_file() else None
