"""How often each language is seen, against the closed form, and which rows are seen when."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsejax.data import mixing

# Of each language its sentences and rows: up to 20 sentences a row, up to 4 rows a sentence.
LANGUAGE = st.tuples(st.integers(1, 20_000), st.floats(0.05, 4)).map(
    lambda pair: (pair[0], max(1, round(pair[0] * pair[1])))
)
LANGUAGES = st.lists(LANGUAGE, min_size=1, max_size=40)
ALPHA = st.floats(0, 1)


def exactly(languages: list[tuple[int, int]], alpha: float) -> list[float]:
    """Rows of each language, were there parts of rows: sentences seen in proportion to n**alpha.

    The scale is what makes them as many rows in all as there are.
    """
    seen = [n**alpha for n, _ in languages]
    as_rows = [s * rows / n for s, (n, rows) in zip(seen, languages, strict=True)]
    scale = sum(rows for _, rows in languages) / math.fsum(as_rows)
    return [scale * rows for rows in as_rows]


def rows_per_epoch(languages: list[tuple[int, int]], alpha: float) -> list[int]:
    sentences, rows = zip(*languages, strict=True)
    found = mixing.rows_per_epoch(sentences, rows, alpha)
    assert found.dtype == np.int64
    return found.tolist()


@given(LANGUAGES, ALPHA)
def test_rows_per_epoch(languages: list[tuple[int, int]], alpha: float) -> None:
    found = rows_per_epoch(languages, alpha)
    assert sum(found) == sum(rows for _, rows in languages)
    assert min(found) >= 1
    exact = exactly(languages, alpha)
    # What languages with less than a row are given beyond their share is taken from others.
    given_away = sum(1 for share in exact if share < 1)
    for count, share in zip(found, exact, strict=True):
        assert abs(count - share) < 1 + given_away + 1e-6


@given(LANGUAGES)
def test_one_is_every_sentence_once(languages: list[tuple[int, int]]) -> None:
    assert rows_per_epoch(languages, 1.0) == [rows for _, rows in languages]


@given(LANGUAGES)
def test_zero_is_as_many_sentences_of_each(languages: list[tuple[int, int]]) -> None:
    """But for one row."""
    per_row = [n / rows for n, rows in languages]
    total = sum(rows for _, rows in languages)
    each = total / math.fsum(1 / n for n in per_row)
    for count, n in zip(rows_per_epoch(languages, 0.0), per_row, strict=True):
        assert abs(count * n - each) < n * (1 + 1e-6)


@given(LANGUAGES, ALPHA, ALPHA)
def test_the_smallest_language_gains_from_a_smaller_exponent(
    languages: list[tuple[int, int]], a: float, b: float
) -> None:
    smallest = min(range(len(languages)), key=lambda i: languages[i][0])
    a, b = sorted((a, b))
    assert rows_per_epoch(languages, a)[smallest] >= rows_per_epoch(languages, b)[smallest] - 1


@pytest.mark.parametrize(
    ("sentences", "rows", "alpha", "expected"),
    [
        ([100, 10_000], [10, 1000], 0.5, [92, 918]),  # 1 : 10 of 1010 rows
        ([100, 10_000], [10, 1000], 0.0, [505, 505]),
        ([100, 10_000], [20, 1000], 0.0, [680, 340]),  # the first's sentences are twice as long
        ([5], [3], 0.3, [3]),
        ([7, 7, 7], [4, 4, 4], 0.7, [4, 4, 4]),
        ([1, 4, 4], [1, 2, 2], 0.0, [3, 1, 1]),  # 2.5, 1.25, 1.25: one left, the largest remainder
        ([4, 4, 16], [1, 1, 2], 0.5, [2, 1, 1]),  # equal thirds of 4: to the first
    ],
)
def test_by_hand(sentences: list[int], rows: list[int], alpha: float, expected: list[int]) -> None:
    assert mixing.rows_per_epoch(sentences, rows, alpha).tolist() == expected


# ---- orders


def concatenation(rows: int, epochs: int, seed: int) -> list[list[int]]:
    return [order.tolist() for order in mixing.concatenation(rows, epochs, seed)]


@given(st.integers(1, 60), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_concatenation(rows: int, epochs: int, seed: int) -> None:
    found = concatenation(rows, epochs, seed)
    assert len(found) == epochs
    assert all(sorted(order) == list(range(rows)) for order in found)
    assert concatenation(rows, epochs + 3, seed)[:epochs] == found


def test_orders_differ() -> None:
    orders = [order for seed in range(3) for order in concatenation(50, 3, seed)]
    assert len({tuple(order) for order in [*orders, list(range(50))]}) == 10
    assert concatenation(50, 3, 0) == orders[:3]


def sampling(
    languages: list[tuple[int, int]], alpha: float, epochs: int, seed: int
) -> list[list[int]]:
    sentences, rows = zip(*languages, strict=True)
    return [order.tolist() for order in mixing.sampling(sentences, rows, alpha, epochs, seed)]


SMALL = st.lists(
    st.tuples(st.integers(1, 200), st.floats(0.05, 2)).map(
        lambda pair: (pair[0], max(1, round(pair[0] * pair[1])))
    ),
    min_size=1,
    max_size=6,
)


@given(SMALL, ALPHA, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_sampling(languages: list[tuple[int, int]], alpha: float, epochs: int, seed: int) -> None:
    found = sampling(languages, alpha, epochs, seed)
    assert len(found) == epochs
    counts = rows_per_epoch(languages, alpha)
    ends = list(itertools.accumulate(rows for _, rows in languages))
    assert all(0 <= row < ends[-1] for order in found for row in order)
    for (_, rows), end, count in zip(languages, ends, counts, strict=True):
        # Used up before one comes again, over the ends of epochs too: after each of them no row
        # was used more often than another by more than once.
        used = [0] * rows
        for number, order in enumerate(found, 1):
            for row in order:
                if end - rows <= row < end:
                    used[row - (end - rows)] += 1
            assert sum(used) == number * count
            assert max(used) - min(used) <= 1
    assert sampling(languages, alpha, epochs, seed) == found
    assert sampling(languages, alpha, epochs + 2, seed)[:epochs] == found


def test_samples_differ() -> None:
    languages = [(30, 30), (300, 300)]
    orders = [order for seed in range(3) for order in sampling(languages, 0.5, 3, seed)]
    assert len({tuple(order) for order in orders}) == 9
    assert len({frozenset(order) for order in orders}) == 9  # not only in their order


def test_languages_are_mixed_within_an_epoch() -> None:
    """Not one after the other, and not the same rows of two languages of one size."""
    (order,) = sampling([(100, 100), (100, 100)], 0.0, 1, seed=0)
    changes = sum((a < 100) != (b < 100) for a, b in itertools.pairwise(order))
    assert 70 < changes < 130
    (order,) = sampling([(100, 100), (100, 100), (2, 2)], 0.0, 1, seed=0)
    first, second = ({row - b for row in order if 0 <= row - b < 100} for b in (0, 100))
    assert {len(first), len(second)} <= {67, 68} and len(first & second) < 60


def test_a_language_with_few_but_long_rows_is_seen() -> None:
    """Its one row holds so many sentences that less than half a row would be its share."""
    assert mixing.rows_per_epoch([20, 1], [1, 1], 0.0).tolist() == [1, 1]
    assert mixing.rows_per_epoch([500, 1, 1], [1, 3, 2], 0.0).min() == 1
