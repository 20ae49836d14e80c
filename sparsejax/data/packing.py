"""Sentences into rows of a fixed length, and values at their pieces back out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np

from sparsejax.data.tokenization import IGNORE, Encoded


@dataclasses.dataclass(frozen=True)
class Packed:
    """Rows of packed chunks, and where each piece went."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("tokens", "positions", "segments", "labels")

    tokens: np.ndarray  # int32 [rows, length]
    positions: np.ndarray  # int32 [rows, length]: restart at 0 in every chunk
    segments: np.ndarray  # int32 [rows, length]: 1, 2, ... per row; 0 is padding
    labels: np.ndarray  # int32 [rows, length]: IGNORE where there is nothing to learn
    index: np.ndarray  # int64 [pieces]: flat place in [rows * length] of each piece of `Encoded`

    def batch(self, rows: np.ndarray, size: int) -> dict[str, np.ndarray]:
        """The rows with these numbers, padded with empty rows to `size`: shapes never change."""
        return self.batches(padded(rows, size))

    def batches(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of several batches, int32 [..., length].

        Args:
          chosen: int [...], numbers of rows; -1 is an empty one.
        """
        out, empty = {}, chosen < 0
        for name in self.COLUMNS:
            out[name] = getattr(self, name)[chosen]
            out[name][empty] = IGNORE if name == "labels" else 0
        return out


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """The numbers of rows, and -1 up to `size` of them."""
    return np.pad(rows, (0, size - len(rows)), constant_values=-1)


def describe(packed: Packed) -> str:
    """How full the rows are, in words."""
    rows, length = packed.tokens.shape
    return (
        f"{len(packed.index):,} tokens in {rows:,} rows of {length}, "
        f"{100 * len(packed.index) / (rows * length):.1f} % full"
    )


def rows_per_step(packed: Packed, sentences: int, batch_size: int) -> int:
    """How many full rows hold `batch_size` sentences on average: at least one, at most all."""
    rows, length = packed.tokens.shape
    # Of full rows: how many there are depends on the order of packing, and so on the seed, by which
    # neither the batches nor the compiled step should differ.
    full = len(packed.index) / length
    return min(rows, max(1, round(batch_size * full / sentences)))


def batches(size: int, orders: Iterable[np.ndarray], skip: int = 0) -> Iterator[np.ndarray]:
    """The numbers of the rows of each batch: the rows of each epoch in its order (see `mixing`).

    The last batch of an epoch may be shorter; `Packed.batch` fills it up with empty rows.

    Args:
      size: rows of a batch.
      orders: numbers of rows, one array for each epoch.
      skip: batches left out at the beginning, which were used before an interruption.
    """
    chunks = (order[i : i + size] for order in orders for i in range(0, len(order), size))
    yield from itertools.islice(chunks, skip, None)


def stack(parts: Sequence[Packed]) -> Packed:
    """The rows of all parts, in order."""
    rows = np.cumsum([0] + [part.tokens.size for part in parts[:-1]])
    return Packed(
        **{n: np.concatenate([getattr(part, n) for part in parts]) for n in Packed.COLUMNS},
        index=np.concatenate([part.index + begin for part, begin in zip(parts, rows, strict=True)]),
    )


def best_fit(lengths: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Best-fit bin packing: each chunk, in order, goes where it leaves the least room.

    Returns:
      row and offset of each chunk, and the number of rows.
    """
    open_rows: list[list[int]] = [[] for _ in range(length + 1)]  # by room left
    rooms = 0  # bit r is set where open_rows[r] is not empty: the best fit in O(1)
    row_of = np.empty(len(lengths), np.int64)
    offset_of = np.empty(len(lengths), np.int64)
    rows = 0
    for i, size in enumerate(lengths.tolist()):
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = open_rows[room].pop()
            if not open_rows[room]:
                rooms &= ~(1 << room)
        else:
            room, row = length, rows
            rows += 1
        row_of[i], offset_of[i] = row, length - room
        if room > size:
            open_rows[room - size].append(row)
            rooms |= 1 << (room - size)
    return row_of, offset_of, rows


def pack(encoded: Encoded, length: int, pad: int, order: np.ndarray | None = None) -> Packed:
    """Packs chunks into rows.

    Args:
      encoded: chunks of at most `length` pieces.
      length: of a row.
      pad: the token at padding; nothing depends on it.
      order: int [chunks], the order in which chunks are packed; None: as they are.
    """
    sizes = encoded.lengths.astype(np.int64)
    order = np.arange(len(sizes)) if order is None else order
    row_of, offset_of, segment_of = (np.empty(len(sizes), np.int64) for _ in range(3))
    row_of[order], offset_of[order], rows = best_fit(sizes[order], length)
    # The segment of a chunk: how many chunks begin in its row up to it.
    by_place = np.lexsort((offset_of, row_of))
    sorted_rows = row_of[by_place]
    first = np.searchsorted(sorted_rows, sorted_rows)
    segment_of[by_place] = np.arange(len(sizes)) - first + 1

    begins = np.cumsum(sizes) - sizes
    position = np.arange(len(encoded.tokens)) - np.repeat(begins, sizes)
    index = np.repeat(row_of * length + offset_of, sizes) + position

    def lay_out(values: np.ndarray, fill: int) -> np.ndarray:
        flat = np.full(rows * length, fill, np.int32)
        flat[index] = values
        return flat.reshape(rows, length)

    return Packed(
        tokens=lay_out(encoded.tokens, pad),
        positions=lay_out(position, 0),
        segments=lay_out(np.repeat(segment_of, sizes), 0),
        labels=lay_out(encoded.labels, IGNORE),
        index=index,
    )


def unpack(values: np.ndarray, packed: Packed, encoded: Encoded) -> np.ndarray:
    """The value at the first piece of each word, [words] in the order of the text.

    Args:
      values: [rows, length], one value per packed position.
    """
    return values.reshape(-1)[packed.index][encoded.labels != IGNORE]
