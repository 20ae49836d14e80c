"""How often each language is seen in an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def rows_per_epoch(sentences: Sequence[int], rows: Sequence[int], alpha: float) -> np.ndarray:
    """Rows of each language in an epoch, in all as many as there are.

    The sentences of a language with n of them are seen in proportion to n ** alpha (the exponential
    smoothing of Conneau et al. 2020, "Unsupervised Cross-lingual Representation Learning at Scale",
    section 3.1): 1 is every sentence once, 0 as many of each language.

    Args:
      sentences: of each language, at least 1.
      rows: that they fill, at least 1.
      alpha: in [0, 1].

    Returns:
      int64 [languages], at least 1 each.
    """
    # A language's rows hold the same number of its sentences whenever they are drawn.
    wanted = np.array(rows) * np.array(sentences, np.float64) ** (alpha - 1)
    wanted *= sum(rows) / wanted.sum()
    counts = np.floor(wanted).astype(np.int64)
    left = sum(rows) - int(counts.sum())
    # The largest remainders first, and among equal ones the first language.
    counts[np.argsort(counts - wanted, kind="stable")[:left]] += 1
    # A few rows may hold so many sentences that their share of the rows is less than half a one.
    while not counts.all():
        counts[np.argmax(counts)] -= 1
        counts[np.argmin(counts)] += 1
    return counts


def concatenation(rows: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """The order of the rows in each epoch: every row once."""
    for epoch in range(epochs):
        yield np.random.default_rng([seed, 1, epoch]).permutation(rows)


def sampling(
    sentences: Sequence[int], rows: Sequence[int], alpha: float, epochs: int, seed: int
) -> Iterator[np.ndarray]:
    """The order of the rows in each epoch: `rows_per_epoch` of each language.

    A language's rows are used up before one of them comes again, over the ends of epochs too.

    Args:
      sentences: of each language.
      rows: of each language; row numbers run through the languages, in order.
      alpha: the exponent of `rows_per_epoch`.
      epochs: how many.
      seed: of the choice and the order.
    """
    counts = rows_per_epoch(sentences, rows, alpha)
    first = np.cumsum(rows) - rows
    decks = [_endless(size, np.random.default_rng([seed, 2, i])) for i, size in enumerate(rows)]
    for epoch in range(epochs):
        drawn = [
            begin + np.fromiter((next(deck) for _ in range(count)), np.int64, count)
            for begin, deck, count in zip(first, decks, counts, strict=True)
        ]
        yield np.random.default_rng([seed, 1, epoch]).permutation(np.concatenate(drawn))


def _endless(size: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(size).tolist()
