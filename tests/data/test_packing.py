"""Rows that hold every piece once, and the way back to the words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
import wikiann
from hypothesis import given
from hypothesis import strategies as st
from wikiann import TAGS

from sparsejax.data import packing, tokenization
from sparsejax.data.packing import Packed
from sparsejax.data.tokenization import Encoded

LENGTH = 16
IGNORE = -100
PAD = 7

# A corpus: sentences of chunks of words, a word being its number of pieces.
CHUNK = st.lists(st.integers(1, 5), min_size=1, max_size=2 * LENGTH).map(
    lambda words: [n for i, n in enumerate(words) if sum(words[: i + 1]) <= LENGTH - 2]
)
CORPUS = st.lists(st.lists(CHUNK, min_size=1, max_size=3), min_size=1, max_size=30)


def lay_end_to_end(
    corpus: Sequence[Sequence[Sequence[int]]], begin: int = 1000
) -> tuple[Encoded, list[list[int]]]:
    """The corpus with a token of its own for every piece, and the first pieces of each sentence."""
    labels: list[int] = []
    lengths: list[int] = []
    first_pieces: list[list[int]] = []
    for chunks in corpus:
        first_pieces.append([])
        for words in chunks:
            labels.append(IGNORE)
            for pieces in words:
                first_pieces[-1].append(begin + len(labels))
                labels += [len(labels) % 7] + [IGNORE] * (pieces - 1)
            labels.append(IGNORE)
            lengths.append(sum(words) + 2)
    encoded = Encoded(
        tokens=begin + np.arange(len(labels), dtype=np.int32),
        labels=np.array(labels, np.int32),
        lengths=np.array(lengths, np.int32),
        words=np.array([len(first) for first in first_pieces], np.int32),
        repairs=np.zeros(4, np.int64),
    )
    return encoded, first_pieces


def of_lengths(lengths: Sequence[int]) -> Encoded:
    """A sentence of one word for every chunk of at least 3 pieces."""
    return lay_end_to_end([[[length - 2]] for length in lengths])[0]


def assert_packed(packed: Packed, encoded: Encoded, length: int) -> None:
    """Every chunk whole in one row, in a segment of its own, its positions from 0; else padding."""
    assert packed.tokens.shape[1] == length
    arrays = (packed.tokens, packed.positions, packed.segments, packed.labels)
    assert all(a.dtype == np.int32 and a.shape == packed.tokens.shape for a in arrays)
    chunks = {}
    for begin, size in zip(
        np.cumsum(encoded.lengths) - encoded.lengths, encoded.lengths, strict=True
    ):
        chunks[encoded.tokens[begin]] = slice(begin, begin + size)
    for tokens, positions, segments, labels in zip(*arrays, strict=True):
        padding = segments == 0
        assert (tokens[padding] == PAD).all() and (labels[padding] == IGNORE).all()
        assert not positions[padding].any()
        numbers = segments[~padding]
        assert numbers.size, "an empty row"
        assert set(numbers) == set(range(1, numbers.max() + 1))
        for number in set(numbers):
            (where,) = np.nonzero(segments == number)
            chunk = chunks.pop(tokens[where[0]])
            np.testing.assert_array_equal(where, where[0] + np.arange(len(where)))
            np.testing.assert_array_equal(positions[where], np.arange(len(where)))
            np.testing.assert_array_equal(tokens[where], encoded.tokens[chunk])
            np.testing.assert_array_equal(labels[where], encoded.labels[chunk])
    assert not chunks, "chunks are missing"


@given(CORPUS, st.randoms(use_true_random=False))
def test_pack_and_unpack(corpus: list[list[list[int]]], random: Random) -> None:
    encoded, first_pieces = lay_end_to_end(corpus)
    order = np.arange(len(encoded.lengths))
    random.shuffle(order)
    for packed in (
        packing.pack(encoded, LENGTH, PAD),
        packing.pack(encoded, LENGTH, PAD, order),
    ):
        assert_packed(packed, encoded, LENGTH)
        np.testing.assert_array_equal(packed.tokens.reshape(-1)[packed.index], encoded.tokens)
        found = packing.unpack(packed.tokens, packed, encoded)
        assert found.tolist() == list(itertools.chain.from_iterable(first_pieces))


def test_pack_by_hand() -> None:
    packed = packing.pack(of_lengths([3, 8, 5]), 8, PAD)
    chunks = [[1000, 1001, 1002], list(range(1003, 1011)), list(range(1011, 1016))]
    assert packed.tokens.tolist() == [chunks[0] + chunks[2], chunks[1]]
    assert packed.positions.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4], list(range(8))]
    assert packed.segments.tolist() == [[1, 1, 1, 2, 2, 2, 2, 2], [1] * 8]
    packed = packing.pack(of_lengths([3, 4]), 8, PAD, np.array([1, 0]))
    assert packed.tokens.tolist() == [[1003, 1004, 1005, 1006, 1000, 1001, 1002, PAD]]
    assert packed.segments.tolist() == [[1, 1, 1, 1, 2, 2, 2, 0]]
    assert packing.describe(packed) == "7 tokens in 1 rows of 8, 87.5 % full"


@given(st.lists(st.integers(1, LENGTH), max_size=80))
def test_best_fit(lengths: list[int]) -> None:
    """As a search through all rows has it: the row with the least room that is enough.

    Rows of equal room are interchangeable, so only the rooms are compared.
    """
    rows, offsets, number = packing.best_fit(np.array(lengths, np.int32), LENGTH)
    rooms: list[int] = []
    for length, row, offset in zip(lengths, rows, offsets, strict=True):
        enough = [room for room in rooms if room >= length]
        if not enough:
            assert row == len(rooms)
            rooms.append(LENGTH)
        assert offset == LENGTH - rooms[row]  # where the row's last chunk ended
        assert rooms[row] == min(enough, default=LENGTH)
        rooms[row] -= length
    assert number == len(rooms)


@pytest.mark.parametrize("codes", [("en", "de", "fi"), ("zh", "ja"), ("ar", "sw", "te", "yo")])
def test_real_lengths_fill_their_rows(shared: Path, codes: tuple[str, ...]) -> None:
    tokenizer = tokenization.load_tokenizer(shared / "models" / "e5-small-39")
    sentences = [s for c in codes for s in wikiann.read(shared / f"data/panx/{c}/train.tsv", 1000)]
    encoded = tokenization.encode(sentences, tokenizer, 128, TAGS)
    order = np.random.default_rng(0).permutation(len(encoded.lengths))
    packed = packing.pack(encoded, 128, PAD, order)
    assert len(packed.index) == encoded.lengths.sum()
    assert encoded.lengths.sum() / packed.tokens.size >= 0.95


# ---- several parts


@given(st.lists(CORPUS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_stack(corpora: list[list[list[list[int]]]], random: Random) -> None:
    """The rows of one part after those of another, and the way back to the words of all."""
    parts, encoded, expected = [], [], []
    for corpus in corpora:
        part, first_pieces = lay_end_to_end(
            corpus, begin=1000 + sum(len(other.tokens) for other in encoded)
        )
        order = list(range(len(part.lengths)))
        random.shuffle(order)
        parts.append(packing.pack(part, LENGTH, PAD, np.array(order)))
        encoded.append(part)
        expected += itertools.chain.from_iterable(first_pieces)
    before = [part.index.copy() for part in parts]
    stacked = packing.stack(parts)
    for name in ("tokens", "positions", "segments", "labels"):
        rows = [row for part in parts for row in getattr(part, name).tolist()]
        assert getattr(stacked, name).tolist() == rows
        assert getattr(stacked, name).dtype == np.int32
    together = tokenization.concatenate(encoded)
    assert_packed(stacked, together, LENGTH)
    assert packing.unpack(stacked.tokens, stacked, together).tolist() == expected
    for part, index in zip(parts, before, strict=True):  # they are as they were
        np.testing.assert_array_equal(part.index, index)


# ---- batches


def packed_rows(number: int) -> Packed:
    """Rows that are known by their first token."""
    return packing.pack(of_lengths([LENGTH] * number), LENGTH, PAD)


def test_batch() -> None:
    packed = packing.pack(of_lengths([10, 11, 12]), LENGTH, PAD)
    batch = packed.batch(np.array([2, 0]), 4)
    assert set(batch) == {"tokens", "positions", "segments", "labels"}
    for name, array in batch.items():
        assert (array.dtype, array.shape) == (np.int32, (4, LENGTH))
        np.testing.assert_array_equal(array[:2], getattr(packed, name)[[2, 0]])
    assert not batch["segments"][2:].any()
    assert (batch["labels"][2:] == IGNORE).all()


@pytest.mark.parametrize(
    ("size", "orders"),
    [
        (4, [[3, 1, 0, 2, 5, 4], [5, 4, 3, 2, 1, 0]]),
        (3, [[3, 1, 0, 2, 5, 4]]),
        (5, [[2, 0, 2, 2], [1], [0, 1, 2, 3, 4, 5]]),  # rows that come again, or not at all
        (1, [[1, 0], [5]]),
        (9, [[0, 1, 2, 3, 4, 5]]),
        (4, []),
    ],
)
def test_batches(size: int, orders: list[list[int]]) -> None:
    """Each epoch in its order, its last batch filled up with empty rows."""
    packed = packed_rows(6)
    numbers = packed.tokens[:, 0].tolist()
    numbered = packing.batches(size, map(np.array, orders))
    found = (packed.batch(chosen, size) for chosen in numbered)
    for order in orders:
        part = list(itertools.islice(found, -(-len(order) // size)))
        assert {batch["tokens"].shape for batch in part} == {(size, LENGTH)}
        filled = np.concatenate([batch["segments"].any(axis=1) for batch in part])
        empty = -len(order) % size
        assert filled.tolist() == [True] * len(order) + [False] * empty
        seen = np.concatenate([batch["tokens"][:, 0] for batch in part])
        assert seen.tolist() == [*(numbers[row] for row in order), *[0] * empty]
    assert next(found, None) is None


def test_rows_per_step_do_not_depend_on_the_order_of_packing() -> None:
    encoded = of_lengths([6] * 9 + [10] * 9)  # two to a row of 16, if the longer ones come first
    orders = [np.arange(18), np.arange(18)[::-1]]
    found = [packing.pack(encoded, LENGTH, PAD, order) for order in orders]
    assert [len(packed.tokens) for packed in found] == [13, 9]
    assert [packing.rows_per_step(packed, 18, 12) for packed in found] == [6, 6]


@pytest.mark.parametrize(
    ("rows", "sentences", "batch_size", "expected"),
    [(100, 400, 32, 8), (100, 100, 32, 32), (300, 100, 32, 96), (1, 1000, 32, 1), (10, 37, 32, 9)],
)
def test_rows_per_step(rows: int, sentences: int, batch_size: int, expected: int) -> None:
    assert packing.rows_per_step(packed_rows(rows), sentences, batch_size) == expected
