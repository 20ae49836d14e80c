"""Schedules against their closed forms, in float64 and in Python integers."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest

from sparsejax import prune


def zhu_gupta(step: Any, final: float, begin: int, end: int, initial: float = 0.0) -> float:
    progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return float(final + (initial - final) * (1 - progress) ** 3)


@pytest.mark.parametrize(
    ("final", "begin", "end", "initial"),
    [(0.9, 100, 700, 0.0), (0.5, 0, 1, 0.0), (0.97, 3, 50, 0.25), (0.3, 0, 10, 0.3)],
)
def test_cubic_is_the_closed_form(final: float, begin: int, end: int, initial: float) -> None:
    schedule = prune.cubic(final, begin, end, initial=initial)
    steps = np.unique(np.linspace(0, end + 20, 40, dtype=int))
    got = [float(schedule.sparsity(step)) for step in steps]
    want = [zhu_gupta(step, final, begin, end, initial) for step in steps]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("begin", "end", "interval", "due"),
    [
        (0, 6, 2, [0, 2, 4, 6]),
        (3, 10, 4, [3, 7, 10]),
        (3, 5, 100, [3, 5]),
        (4, 4, 3, [4]),
        (0, 3, 1, [0, 1, 2, 3]),
    ],
)
def test_due_on_the_grid_and_on_the_last_step(
    begin: int, end: int, interval: int, due: list[int]
) -> None:
    schedule = prune.cubic(0.9, begin, end, interval)
    assert [step for step in range(end + 10) if schedule.is_due(step)] == due
    assert np.flatnonzero(jax.jit(schedule.is_due)(np.arange(end + 10))).tolist() == due


@pytest.mark.parametrize("n", [0, 1, 2, 5, 13, 768 * 3072, 92_000_000, 92_000_001, 2**31 - 1])
@pytest.mark.parametrize("final", [0.0, 0.1, 0.5, 0.9, 0.99, 1 / 3, np.float32(0.9)])
def test_the_last_count_is_exact(n: int, final: float) -> None:
    schedule = prune.cubic(final, begin=10, end=27, interval=5)
    want = round((1 - float(final)) * n)
    assert schedule.kept_finally(n) == want
    assert schedule.kept(np.array([27, 28, 10_000]), n).tolist() == [want] * 3


def test_a_float32_count_would_be_wrong() -> None:
    # What the exact counts above are for: the plain formula misses by several weights.
    final, n = 0.9, 92_000_001
    naive = round(float(np.float32(1) - np.float32(final)) * n)
    assert abs(naive - prune.cubic(final, 0, 1).kept_finally(n)) > 1


@pytest.mark.parametrize("n", [1, 7, 1000, 2**24 + 1, 92_000_001])
@pytest.mark.parametrize("initial", [0.0, 0.2])
def test_counts_on_the_way_are_close_and_never_rise(n: int, initial: float) -> None:
    schedule = prune.cubic(0.9, begin=5, end=60, initial=initial)
    steps = np.arange(70)
    kept = jax.jit(schedule.kept, static_argnums=1)(steps, n)
    want = [(1 - zhu_gupta(step, 0.9, 5, 60, initial)) * n for step in steps]
    np.testing.assert_allclose(kept, want, rtol=0, atol=0.5 + n * 2**-22)
    assert kept.dtype == np.int32
    assert np.all(np.diff(kept) <= 0)
    assert kept[-1] == schedule.kept_finally(n)


def test_rounding_does_not_overshoot_the_end() -> None:
    # float32(0.8) is above 0.8, and late in a long schedule nothing else is left of the curve.
    schedule, n = prune.cubic(0.8, begin=0, end=10_000), 2**31 - 1
    assert round(float(np.float32(0.8)) * n) > n - schedule.kept_finally(n)
    late = schedule.kept(np.arange(9990, 10_002), n)
    assert late.min() == late[-1] == schedule.kept_finally(n)


@pytest.mark.parametrize("n", [1, 2**24 + 1, 92_000_001, 2**31 - 1])
def test_no_sparsity_keeps_everything(n: int) -> None:
    for schedule, step in itertools.product([prune.cubic(0.0, 0, 9), prune.one_shot(0, 4)], [0, 5]):
        assert int(schedule.kept(step, n)) == n
    assert int(prune.cubic(0.9, 3, 9).kept(3, n)) == n


def test_one_shot() -> None:
    schedule = prune.one_shot(0.75, step=4)
    assert [float(schedule.sparsity(step)) for step in (0, 3, 4, 5)] == [0, 0, 0.75, 0.75]
    assert [int(schedule.kept(step, 100)) for step in (0, 3, 4, 5)] == [100, 100, 25, 25]
    assert [step for step in range(9) if schedule.is_due(step)] == [4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: prune.cubic(1.0, 0, 9), r"final must be a sparsity in \[0, 1\), got 1.0"),
        (lambda: prune.cubic(-0.1, 0, 9, initial=-0.2), r"initial must be a sparsity.* got -0.2"),
        (lambda: prune.cubic(float("nan"), 0, 9), "final must be a sparsity.* got nan"),
        (lambda: prune.cubic(0.9, 0, 9, initial=1.5), "initial must be a sparsity.* got 1.5"),
        (lambda: prune.cubic(0.5, 0, 9, initial=0.6), "initial must not be above final=0.5"),
        (lambda: prune.cubic(0.9, 10, 9), "end must not come before begin=10, got 9"),
        (lambda: prune.cubic(0.9, -1, 9), "begin must be at least 0, got -1"),
        (lambda: prune.cubic(0.9, 0, 9, interval=0), "interval must be at least 1, got 0"),
        (lambda: prune.one_shot(2, 3), "final must be a sparsity.* got 2"),
        (lambda: prune.one_shot(0.5, -3), "begin must be at least 0, got -3"),
        (lambda: prune.Schedule(optax.constant_schedule(0.5), 90, 0, 9), "final must be.* got 90"),
    ],
)
def test_errors(make: Callable[[], prune.Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
