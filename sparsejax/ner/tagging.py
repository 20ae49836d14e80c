"""From a model and tokenised sentences to a tag for every word."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sparsejax.data.packing import pack, unpack
from sparsejax.data.tokenization import Encoded, concatenate
from sparsejax.models import bert
from sparsejax.runtime import parallel

IN_FLIGHT = 4  # batches sent to the devices before the first is fetched

Batch = Mapping[str, Any]
Predict = Callable[[Any, Batch], tuple[jax.Array, jax.Array]]


class Tagged(NamedTuple):
    """What a model says of every word of some sentences, laid end to end."""

    ids: np.ndarray  # int32 [words]: label ids
    confidence: np.ndarray  # float32 [words]: probability of that label


@functools.cache
def make_predict(config: bert.BertConfig, dtype: str, mesh: Mesh) -> Predict:
    """The compiled prediction: (params, batch) -> label ids int32, probabilities float32.

    It is made once for each model and mesh, so that a second tagger of them compiles nothing.
    Both are [rows, length], and whole on every device, so that every process reads all of them.
    """

    def predict(params: bert.Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits = bert.apply(
            config,
            params,
            batch["tokens"],
            batch["positions"],
            batch["segments"],
            dtype=dtype,
            rows=parallel.rows(mesh),
        )
        probabilities = jax.nn.softmax(logits.astype(jnp.float32))
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), jnp.max(probabilities, axis=-1)

    return jax.jit(predict, out_shardings=parallel.whole(mesh))


def max_rows(mesh: Mesh, length: int) -> int:
    """Rows of a batch on each device: enough to keep it busy, few enough for its memory.

    On a CPU about as many pieces as its caches hold: larger batches take longer a row there.

    Args:
      mesh: the devices.
      length: of a row.
    """
    return max(1, 2048 // length) if mesh.devices.flat[0].platform == "cpu" else 32


def batch_rows(rows: int, devices: int, most: int) -> int:
    """Rows of a batch: a multiple of the devices, at most so many on each, see `max_rows`.

    A few batches share the rows evenly, where the last of them would be mostly padding; of many it
    does not matter, and one size for all sets of sentences is compiled once.
    """
    most *= devices
    batches = -(-rows // most)
    size = most if batches > 16 else -(-rows // batches)
    return -(-size // devices) * devices


def tag(
    predict: Predict,
    params: Any,
    parts: Mapping[str, Encoded],
    length: int,
    pad: int,
    mesh: Mesh,
    show: Callable[[int, int], None] = lambda done, total: None,
    size: int | None = None,
) -> dict[str, Tagged]:
    """Tags every word of every sentence once; all languages share their packed rows.

    Args:
      predict: see `make_predict`.
      params: of the model, on the devices of `mesh`.
      parts: tokenised sentences by language.
      length: of a row.
      pad: id of the padding piece.
      mesh: the devices, which divide the rows among themselves.
      show: is told how many rows are done, of how many.
      size: rows of a batch, a multiple of the devices; None: as many as suit, see `batch_rows`.
    """
    together = concatenate(list(parts.values()))
    packed = pack(together, length, pad)
    rows, devices = len(packed.tokens), mesh.size
    size = batch_rows(rows, devices, max_rows(mesh, length)) if size is None else size
    numbers = np.arange(rows)
    waiting: collections.deque[tuple[jax.Array, jax.Array]] = collections.deque()
    fetched: list[tuple[np.ndarray, np.ndarray]] = []

    def fetch() -> None:
        ids, confidence = waiting.popleft()
        fetched.append((np.asarray(ids), np.asarray(confidence)))
        show(min(len(fetched) * size, rows), rows)

    for begin in range(0, rows, size):
        # The devices compute while the host lays out the next rows.
        batch = parallel.batch(packed, numbers[begin : begin + size], size, mesh)
        waiting.append(parallel.in_turn(predict(params, batch)))
        if len(waiting) == IN_FLIGHT:
            fetch()
    while waiting:
        fetch()

    ends = np.cumsum([part.words.sum() for part in parts.values()])[:-1]
    columns = [
        np.split(unpack(np.concatenate(values)[:rows], packed, together), ends)
        for values in zip(*fetched, strict=True)
    ]
    return {code: Tagged(*found) for code, *found in zip(parts, *columns, strict=True)}
