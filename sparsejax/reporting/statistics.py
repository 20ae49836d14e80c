"""Intervals, tests and correlations: small functions of arrays, each with its formula.

Everything is at 95 %. Where the data does not support a statement, the verdict is UNDECIDED, and
where there is nothing to judge by it is None.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEVEL = 0.95
ROUNDING = 1e-9  # of F1 and its sums: below it, numbers are the same
RESAMPLES = 1_000
UNDECIDED = "not distinguishable"
_SEED = 20_221_207  # of the resamples; any number, as long as it stays the same


class Interval(NamedTuple):
    """A mean, and where it may lie."""

    mean: float
    low: float | None  # None: no interval
    high: float | None
    n: int  # seeds or sentences that the interval is from; without one, the values averaged
    of: Literal["seeds", "sentences"] | None


def of_seeds(values: Sequence[float] | Array) -> Interval:
    """The mean of independent runs with Student's t interval: m ± t(n - 1) s / sqrt(n).

    Args:
      values: [n], one of each seed. Of one there is no interval, nor of several that are equal
        and not 0: small test sets have few possible scores, and that two seeds had the same one
        does not make it certain.
    """
    x = np.asarray(values, float)
    n, mean = len(x), float(np.mean(x))
    if n > 1 and float(np.max(np.abs(x))) <= ROUNDING:
        return Interval(0.0, 0.0, 0.0, n, "seeds")
    if n < 2 or _are_equal(x):
        return Interval(mean, None, None, n, None)
    half = _t_quantile(n - 1) * float(np.std(x, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, "seeds")


def p_of_seeds(differences: Sequence[float] | Array) -> float | None:
    """The two-sided p-value of a paired t test: of the differences being 0 on average.

    Returns:
      None for fewer than two, or for equal ones; of those that are 0, 1.
    """
    from scipy.special import stdtr

    x = np.asarray(differences, float)
    if len(x) < 2:
        return None
    if _are_equal(x):
        return None if abs(float(np.mean(x))) > ROUNDING else 1.0
    error = float(np.std(x, ddof=1)) / math.sqrt(len(x))
    return float(2 * stdtr(len(x) - 1, -abs(float(np.mean(x))) / error))


def _are_equal(values: Array) -> bool:
    """But for rounding."""
    return float(np.ptp(values)) <= ROUNDING


def _t_quantile(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def resampled_f1(counts: npt.NDArray[np.integer[Any]], language: str) -> Array:
    """F1 of some runs on the same sentences, drawn again with replacement: the bootstrap.

    Every run sees the same draws, so differences of columns are paired, and so do runs that are
    given in another call, as the draws depend only on the language and the number of sentences.
    Efron & Tibshirani 1993, chapter 13.

    Args:
      counts: [sentences, runs, 3]; of each sentence the correct, the predicted and the gold
        entities.
      language: its code; the sentences of two languages are drawn independently.

    Returns:
      [RESAMPLES, runs]; 0 where a draw has no entity at all.
    """
    sentences, runs = counts.shape[:2]
    flat = counts.reshape(sentences, 3 * runs).astype(np.float32)  # sums below 2**24 are exact
    rng = np.random.default_rng([_SEED, zlib.crc32(language.encode())])
    sums = np.empty((RESAMPLES, 3 * runs), np.float64)
    chunk = 250  # draws at a time, for memory
    rows = np.arange(chunk, dtype=np.int32)[:, None] * sentences
    for start in range(0, RESAMPLES, chunk):
        drawn = rng.integers(0, sentences, (chunk, sentences), dtype=np.int32) + rows
        times = np.bincount(drawn.ravel(), minlength=chunk * sentences)
        sums[start : start + chunk] = times.reshape(chunk, -1).astype(np.float32) @ flat
    correct, predicted, gold = np.moveaxis(sums.reshape(RESAMPLES, runs, 3), 2, 0)
    return 2 * correct / np.maximum(predicted + gold, 1)


def of_resamples(mean: float, resamples: Array | None, sentences: int) -> Interval:
    """A value of one run with the percentiles 2.5 and 97.5 of its resamples.

    It holds for other sentences of the same kind, and not for another seed.

    Args:
      mean: the value on the sentences as they are.
      resamples: [RESAMPLES]; None: there are none, so there is no interval.
      sentences: how many were resampled.
    """
    if resamples is None:
        return Interval(mean, None, None, 1, None)
    low, high = np.quantile(resamples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high), sentences, "sentences")


def p_of_resamples(resamples: Array) -> float:
    """Twice the smaller share of the resamples on one side of 0, which counts as both sides.

    With one added to count and number, so never 0. Davison & Hinkley 1997, section 4.2.
    """
    below, above = int((resamples <= 0).sum()), int((resamples >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(resamples) + 1))


def verdict(interval: Interval | None) -> str | None:
    """'higher' or 'lower' if 0 is outside the interval; None without one."""
    if interval is None or interval.low is None or interval.high is None:
        return None
    if interval.low > 0:
        return "higher"
    return "lower" if interval.high < 0 else UNDECIDED


def discoveries(p_values: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which of several tests stay significant with at most 5 % false discoveries expected.

    Benjamini & Hochberg 1995, by `scipy.stats.false_discovery_control`.
    """
    from scipy import stats

    if not len(p_values):
        return np.zeros(0, bool)
    return np.asarray(stats.false_discovery_control(p_values) <= 1 - LEVEL)


class Correlation(NamedTuple):
    rho: float | None  # None: fewer than three pairs, or all values of one side are equal
    low: float | None
    high: float | None
    n: int
    verdict: str


def spearman(x: Sequence[float] | Array, y: Sequence[float] | Array) -> Correlation:
    """Spearman's rank correlation, ties with their mean rank, and its interval.

    tanh(z ± 1.96 sqrt((1 + rho² / 2) / (n - 3))), z = artanh(rho): Bonett & Wright 2000,
    Psychometrika 65(1). For |rho| = 1, where z is infinite, the largest value below 1 that n ranks
    without ties can have takes its place, 1 - 12 / (n³ - n).

    Args:
      x, y: [n].

    Returns:
      No interval for n < 4 or where one side is constant.
    """
    from scipy import stats

    n = len(x)
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(None, None, None, n, UNDECIDED)
    rho = float(stats.spearmanr(x, y).statistic)
    if n < 4:
        return Correlation(rho, None, None, n, UNDECIDED)
    largest = 1 - 12 / (n**3 - n)
    inner = math.copysign(min(abs(rho), largest), rho)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(inner) + side * half) for side in (-1, 1))
    low, high = min(low, rho), max(high, rho)
    return Correlation(rho, low, high, n, verdict(Interval(rho, low, high, n, "seeds")) or "")


def complete_block(present: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Rows and columns of a large block without gaps: seeds and languages of a fair average.

    Rows are tried from the most complete on, one more each time, with the columns that all of them
    have; the block with the most entries wins, of equals the one with more columns.

    Args:
      present: [seeds, languages].

    Returns:
      Indices of rows and columns, both in ascending order; both empty if nothing is present.
    """
    order = sorted(range(len(present)), key=lambda row: -int(present[row].sum()))
    best: tuple[int, int, list[int]] = (0, 0, [])
    for number in range(1, len(order) + 1):
        columns = int(present[order[:number]].all(axis=0).sum())
        if (number * columns, columns) > best[:2]:
            best = (number * columns, columns, sorted(order[:number]))
    rows = best[2]
    columns_of = present[rows].all(axis=0) if rows else np.zeros(present.shape[1], bool)
    return rows, np.flatnonzero(columns_of).tolist()


def mean(values: Iterable[float]) -> float:
    """With the same last digit everywhere."""
    found = list(values)
    return math.fsum(found) / len(found)
