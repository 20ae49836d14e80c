"""Intervals, tests and correlations against textbook values, scipy and simulations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sparsejax.reporting import statistics
from sparsejax.reporting.statistics import UNDECIDED, Interval


def test_t_interval_of_three_seeds() -> None:
    found = statistics.of_seeds([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # the table's t for 2 degrees of freedom, s = 1
    assert found == (2.0, pytest.approx(2 - half), pytest.approx(2 + half), 3, "seeds")


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_t_interval_and_test_are_scipys(n: int) -> None:
    x = np.random.default_rng(n).normal(0.3, 1, n)
    found = statistics.of_seeds(x)
    expected = stats.ttest_1samp(x, 0)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert statistics.p_of_seeds(x) == pytest.approx(expected.pvalue)


def test_one_seed_has_no_interval() -> None:
    found = statistics.of_seeds([0.7])
    assert found == (0.7, None, None, 1, None)
    assert statistics.verdict(found) is None
    assert statistics.p_of_seeds([0.7]) is None


@pytest.mark.parametrize("rounding", [0.0, 1e-16])
def test_equal_values_are_no_certainty(rounding: float) -> None:
    """Not even those that only rounding tells apart."""
    assert statistics.p_of_seeds([0.5, 0.5 + rounding]) is None
    found = statistics.of_seeds([0.5, 0.5 + rounding])
    assert found == (0.5, None, None, 2, None) and statistics.verdict(found) is None
    assert statistics.p_of_seeds([0.0, rounding]) == 1
    assert statistics.verdict(statistics.of_seeds([0.0, rounding])) == "not distinguishable"


def test_t_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [statistics.of_seeds(rng.normal(0.5, 0.02, 3)) for _ in range(4000)]
    covered = np.mean([f.low < 0.5 < f.high for f in found if f.low and f.high])
    assert covered == pytest.approx(0.95, abs=0.01)


def one_entity_each(p: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Counts [n, 3] whose F1 is the share of sentences that are right."""
    right = (rng.random(n) < p).astype(np.uint16)
    return np.stack([right, np.ones_like(right), np.ones_like(right)], axis=1)


def test_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    runs = [one_entity_each(0.7, 300, rng) for _ in range(1500)]
    values = statistics.resampled_f1(np.stack(runs, axis=1), "xx")
    low, high = np.quantile(values, [0.025, 0.975], axis=0)
    assert np.mean((low < 0.7) & (high > 0.7)) == pytest.approx(0.95, abs=0.025)


def test_bootstrap_has_the_spread_of_a_proportion() -> None:
    counts = one_entity_each(0.8, 2000, np.random.default_rng(3))
    share = counts[:, 0].mean()
    values = statistics.resampled_f1(counts[:, None], "xx")[:, 0]
    assert values.mean() == pytest.approx(share, abs=0.002)
    assert values.std() == pytest.approx(math.sqrt(share * (1 - share) / 2000), rel=0.1)


def test_f1_of_a_resample_is_of_its_sums() -> None:
    """Two kinds of sentences, so a draw is known by how often the first one is in it."""
    counts = np.array([[2, 3, 2]] * 5 + [[0, 1, 4]] * 5, np.uint16)
    values = statistics.resampled_f1(counts[:, None], "xx")[:, 0]
    possible = [2 * 2 * k / (3 * k + 10 - k + 2 * k + 4 * (10 - k)) for k in range(11)]
    assert np.abs(values[:, None] - possible).min(axis=1).max() < 1e-9


def test_runs_are_resampled_together_in_whatever_call() -> None:
    rng = np.random.default_rng(4)
    one, other = (one_entity_each(p, 500, rng) for p in (0.6, 0.9))
    together = statistics.resampled_f1(np.stack([one, other, one], axis=1), "xx")
    assert (together[:, 0] == together[:, 2]).all()
    assert (together[:, 1] == statistics.resampled_f1(other[:, None], "xx")[:, 0]).all()
    elsewhere = statistics.resampled_f1(one[:, None], "yy")[:, 0]
    assert abs(np.corrcoef(together[:, 0], elsewhere)[0, 1]) < 0.15


def test_resamples_without_any_entity_are_zero() -> None:
    counts = np.zeros((3, 1, 3), np.uint16)
    assert (statistics.resampled_f1(counts, "xx") == 0).all()


def test_percentiles_of_resamples() -> None:
    values = np.arange(1000.0)
    found = statistics.of_resamples(5.0, values, 77)
    assert found == (5.0, pytest.approx(24.975), pytest.approx(974.025), 77, "sentences")
    assert statistics.of_resamples(5.0, None, 0) == (5.0, None, None, 1, None)


def test_p_of_resamples() -> None:
    assert statistics.p_of_resamples(np.ones(1000)) == pytest.approx(2 / 1001)
    assert statistics.p_of_resamples(np.zeros(1000)) == 1
    few = np.where(np.arange(1000) < 9, -1.0, 1.0)
    assert statistics.p_of_resamples(few) == statistics.p_of_resamples(-few)
    assert statistics.p_of_resamples(few) == pytest.approx(20 / 1001)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.2, "higher"),
        (-0.2, -0.1, "lower"),
        (-0.1, 0.1, UNDECIDED),
        (0.0, 0.1, UNDECIDED),
        (-0.1, 0.0, UNDECIDED),
        (None, None, None),
    ],
)
def test_verdict(low: float | None, high: float | None, expected: str | None) -> None:
    assert statistics.verdict(Interval(0.0, low, high, 3, "seeds")) == expected


def test_example_of_benjamini_and_hochberg() -> None:
    """1995, section 3.3: 15 tests, of which four remain; Bonferroni leaves three."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert statistics.discoveries(p).tolist() == [True] * 4 + [False] * 11
    assert statistics.discoveries([]).tolist() == []


def test_false_discoveries_are_few() -> None:
    """Where there is nothing to find, in 5 % of the families something is found."""
    rng = np.random.default_rng(5)
    wrong = [statistics.discoveries(rng.random(40)).any() for _ in range(2000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.015)


def test_spearman_with_ties_by_ranks() -> None:
    x, y = [1, 1, 2, 3, 5, 8], [2, 1, 1, 4, 3, 9]
    ranks = [stats.rankdata(v) for v in (x, y)]
    found = statistics.spearman(x, y)
    assert found.rho == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_interval_of_bonett_and_wright() -> None:
    x = np.arange(40.0)
    y = np.random.default_rng(6).permutation(x) + x
    found = statistics.spearman(x, y)
    assert found.rho is not None
    z, error = math.atanh(found.rho), math.sqrt((1 + found.rho**2 / 2) / 37)
    expected = [math.tanh(z - 1.959964 * error), math.tanh(z + 1.959964 * error)]
    assert [found.low, found.high] == pytest.approx(expected, abs=1e-6)
    assert found.verdict == "higher"


def test_interval_of_spearman_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    rho = 0.6
    truth = 6 / math.pi * math.asin(rho / 2)  # of a bivariate normal distribution
    covered = []
    for _ in range(1000):
        x = rng.normal(size=40)
        found = statistics.spearman(x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=40))
        assert found.low is not None and found.high is not None
        covered.append(found.low < truth < found.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_perfect_correlations_are_not_certain() -> None:
    four = statistics.spearman([1, 2, 3, 4], [1, 2, 3, 4])
    assert four.rho == pytest.approx(1) and four.high == pytest.approx(1)
    assert four.verdict == UNDECIDED  # one order in 24
    many = statistics.spearman(range(40), range(0, -40, -1))
    assert many.low == pytest.approx(-1) and many.verdict == "lower"
    assert many.high is not None and -1 < many.high < -0.99


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]), ([], []), ([1], [2])]
)
def test_too_little_for_a_correlation(x: list[float], y: list[float]) -> None:
    found = statistics.spearman(x, y)
    assert (found.low, found.high, found.verdict, found.n) == (None, None, UNDECIDED, len(x))


def test_complete_block() -> None:
    def block(*rows: str) -> tuple[list[int], list[int]]:
        return statistics.complete_block(np.array([[c == "x" for c in row] for row in rows]))

    assert block("xxx", "xxx") == ([0, 1], [0, 1, 2])
    assert block("xxxx", "xxx.", "xxx.") == ([0, 1, 2], [0, 1, 2])  # 9 of 4 x 1, 3 x 3
    assert block("xxxx", "x...") == ([0], [0, 1, 2, 3])
    assert block("xxxx", "xx..") == ([0], [0, 1, 2, 3])  # 4 and 4: more languages
    assert block("...", "xx.") == ([1], [0, 1])
    assert block("..", "..") == ([], [])


def test_a_block_has_no_gap_and_is_nearly_the_largest() -> None:
    rng = np.random.default_rng(8)
    for _ in range(200):
        present = rng.random((3, 8)) < 0.8
        rows, columns = statistics.complete_block(present)
        assert present[np.ix_(rows, columns)].all()
        sizes = [
            len(some) * int(present[list(some)].all(axis=0).sum())
            for k in (1, 2, 3)
            for some in itertools.combinations(range(3), k)
        ]
        assert len(rows) * len(columns) >= 0.6 * max(sizes)
