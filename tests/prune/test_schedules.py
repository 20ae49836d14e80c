"""Schedules against their closed forms, in float64 and in Python's own arithmetic."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune

CURVES = [
    # final, begin, end, initial
    (0.9, 100, 700, 0.0),
    (0.5, 0, 1, 0.0),
    (0.97, 3, 50, 0.25),
    (0.3, 0, 10, 0.3),
]
# 15, 25, ...: (1 - s) * n is x.5 for many s of three digits, and 0.9 of 15 in float32 rounds up.
SIZES = [1, 5, 15, 25, 250, 500, 1000, 768 * 3072, 92_000_000, 92_000_001]


def zhu_gupta(step: Any, final: float, begin: int, end: int, initial: float = 0.0) -> Any:
    progress = np.clip((np.asarray(step, np.float64) - begin) / (end - begin), 0, 1)
    return final + (initial - final) * (1 - progress) ** 3


@pytest.mark.parametrize(("final", "begin", "end", "initial"), CURVES)
def test_cubic_is_the_closed_form_at_every_step(
    final: float, begin: int, end: int, initial: float
) -> None:
    got = prune.cubic(final, begin, end, initial=initial).sparsity(np.arange(end + 20))
    want = zhu_gupta(np.arange(end + 20), final, begin, end, initial)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=2**-24)


@pytest.mark.parametrize(("final", "begin", "end", "initial"), CURVES)
def test_cubic_is_the_polynomial_schedule_of_optax(
    final: float, begin: int, end: int, initial: float
) -> None:
    theirs = optax.polynomial_schedule(initial, final, 3, end - begin, begin)
    steps = np.arange(end + 20)
    ours = prune.cubic(final, begin, end, initial=initial).sparsity(steps)
    np.testing.assert_allclose(ours, jax.vmap(theirs)(steps), rtol=0, atol=5e-7)


@pytest.mark.parametrize(
    ("begin", "end", "interval", "due"),
    [
        (0, 6, 2, [0, 2, 4, 6]),
        (3, 10, 4, [3, 7, 10]),
        (3, 5, 100, [3, 5]),
        (4, 4, 30, [4]),
        (0, 3, 1, [0, 1, 2, 3]),
    ],
)
def test_due_on_the_grid_and_always_on_the_last_step(
    begin: int, end: int, interval: int, due: list[int]
) -> None:
    schedule = prune.cubic(0.9, begin, end, interval)
    steps = np.arange(end + 10)
    later = [step for step in range(end + 1, end + 10) if (step - begin) % interval == 0]
    assert [step for step in steps if schedule.is_due(step)] == due + later
    assert np.flatnonzero(jax.jit(schedule.is_due)(steps)).tolist() == due + later
    traced = jax.jit(prune.Schedule.is_due)(schedule, steps)
    assert np.flatnonzero(traced).tolist() == due + later


@pytest.mark.parametrize("n", [0, *SIZES, 2**31 - 1])
@pytest.mark.parametrize("final", [0.0, 0.1, 0.5, 0.9, 0.99, 1 / 3])
def test_the_last_count_is_exact(n: int, final: float) -> None:
    schedule = prune.cubic(final, begin=10, end=27, interval=5)
    want = round((1 - final) * n)
    assert schedule.kept_finally(n) == want
    assert schedule.kept(np.array([27, 28, 10_000]), n).tolist() == [want] * 3


def test_the_last_count_is_exact_at_decimal_ties() -> None:
    for i in range(1, 1000, 7):
        ties = [n for n in range(1, 2000) if (1000 - i) * n % 1000 == 500]
        for n in ties[:1] + ties[-1:]:
            schedule = prune.cubic(i / 1000, 0, 9)
            want = round((1 - i / 1000) * n)
            assert (int(schedule.kept(9, n)), schedule.kept_finally(n)) == (want, want), (i, n)


@pytest.mark.parametrize("n", SIZES)
def test_a_traced_float32_counts_as_python_does(n: int) -> None:
    def kept(final: jax.Array) -> jax.Array:
        return prune.cubic(final, begin=10, end=27, interval=5).kept(27, n)

    millionths = np.unique(np.random.default_rng(n).integers(0, 10**6, 2000)).tolist()
    finals = [i / 1000 for i in range(1000)] + [i / 10**6 for i in millionths]
    want = [round((1 - final) * n) for final in finals]
    assert jax.jit(jax.vmap(kept))(jnp.asarray(finals, jnp.float32)).tolist() == want
    single = jax.jit(kept)
    assert [int(single(jnp.float32(final))) for final in finals[:1000:9]] == want[:1000:9]
    for final in (0.9, 0.35, 0.985):  # known, but of 32 bits
        assert prune.one_shot(np.float32(final), 0).kept_finally(n) == round((1 - final) * n)


def test_a_float32_count_would_be_wrong() -> None:
    # What the exact counts above are for: the plain formula misses by several weights.
    final, n = 0.9, 92_000_001
    naive = round(float(np.float32(1) - np.float32(final)) * n)
    assert abs(naive - prune.cubic(final, 0, 1).kept_finally(n)) > 1


@pytest.mark.parametrize("n", [1, 7, 1009, 2**24 + 1, 92_000_001])
@pytest.mark.parametrize("initial", [0.0, 0.2])
def test_counts_on_the_way_are_exact_and_never_rise(n: int, initial: float) -> None:
    schedule, steps = prune.cubic(0.9, begin=5, end=60, initial=initial), np.arange(70)
    want = np.round((1 - zhu_gupta(steps, 0.9, 5, 60, initial)) * n)
    for kept in (
        jax.jit(schedule.kept, static_argnums=1)(steps, n),
        jax.jit(prune.Schedule.kept, static_argnums=2)(schedule, steps, n),
    ):
        np.testing.assert_array_equal(kept, want)
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
    assert [step for step in range(9) if schedule.is_due(step)] == [4, 5, 6, 7, 8]


def test_constant() -> None:
    schedule = prune.constant(0.75, interval=3)
    assert schedule.sparsity(np.arange(4)).tolist() == [0.75] * 4
    assert schedule.kept(np.arange(4), 100).tolist() == [25] * 4
    assert [step for step in range(8) if schedule.is_due(step)] == [0, 3, 6]


def test_a_schedule_is_a_pytree_and_one_program_serves_all_numbers() -> None:
    traces: list[None] = []

    @jax.jit
    def count(schedule: prune.Schedule, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        traces.append(None)
        return schedule.kept(step, 1009), schedule.is_due(step)

    steps = np.arange(40)
    for final, begin, end, interval, initial in [
        (0.9, 3, 30, 7, 0.0),
        (0.35, 0, 0, 1, 0.0),
        (0.5, 10, 11, 5, 0.25),
    ]:
        schedule = prune.cubic(final, begin, end, interval, initial)
        kept, due = count(schedule, steps)
        np.testing.assert_array_equal(kept, schedule.kept(steps, 1009))
        np.testing.assert_array_equal(due, schedule.is_due(steps))
        assert kept[-1] == round((1 - final) * 1009)
    assert len(traces) == 1


def test_vmap_over_every_number() -> None:
    rows = [(0.9, 3, 30, 0.0), (0.5, 10, 11, 0.25), (0.7, 0, 20, 0.1)]
    columns = [np.asarray(column) for column in zip(*rows, strict=True)]
    got = jax.vmap(lambda f, b, e, i: prune.cubic(f, b, e, initial=i).kept(np.arange(40), 1009))(
        *columns
    )
    for row, (final, begin, end, initial) in zip(got, rows, strict=True):
        want = np.round((1 - zhu_gupta(np.arange(40), final, begin, end, initial)) * 1009)
        np.testing.assert_array_equal(row, want)


def test_traced_values_are_not_validated() -> None:
    jax.jit(lambda *numbers: prune.cubic(*numbers).kept(0, 4))(2.0, -1, -5, 0, float("nan"))
    jax.vmap(lambda final: prune.one_shot(final, 0).kept(0, 4))(jnp.array([0.5, 1.5]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: prune.cubic(1.0, 0, 9), r"final must be a sparsity in \[0, 1\), got 1.0"),
        (lambda: prune.cubic(-0.1, 0, 9, initial=-0.2), r"final must be a sparsity.* got -0.1"),
        (lambda: prune.cubic(0.1, 0, 9, initial=-0.2), r"initial must be a sparsity.* got -0.2"),
        (lambda: prune.cubic(float("nan"), 0, 9), "final must be a sparsity.* got nan"),
        (lambda: prune.cubic(jnp.float32(jnp.nan), 0, 9), "final must be a sparsity.* got nan"),
        (lambda: prune.cubic(np.float32(90), 0, 9), "final must be a sparsity.* got 90"),
        (lambda: prune.cubic(0.9, 0, 9, initial=1.5), "initial must be a sparsity.* got 1.5"),
        (lambda: prune.cubic(0.9, 0, 9, initial=float("nan")), "initial must be a spars.* got nan"),
        (lambda: prune.cubic(0.5, 0, 9, initial=0.6), "initial must not be above final=0.5"),
        (lambda: prune.cubic(0.9, 10, 9), "end must not come before begin=10, got 9"),
        (lambda: prune.cubic(0.9, -1, 9), "begin must be at least 0, got -1"),
        (lambda: prune.cubic(0.9, 0, 9, interval=0), "interval must be at least 1, got 0"),
        (lambda: prune.one_shot(2, 3), "final must be a sparsity.* got 2"),
        (lambda: prune.one_shot(0.5, -3), "begin must be at least 0, got -3"),
        (lambda: prune.constant(-1), "final must be a sparsity.* got -1"),
        (lambda: prune.constant(0.5, 0), "interval must be at least 1, got 0"),
    ],
)
def test_errors(make: Callable[[], prune.Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["begin", "end", "interval"])
def test_steps_are_whole_numbers(name: str) -> None:
    """Fractions of a run, or a product such as 0.7 * steps, would never be due."""
    steps = {"begin": 1, "end": 9, "interval": 2}
    assert prune.Schedule(0.9, **(steps | {name: float(steps[name])})) is not None
    with pytest.raises(ValueError, match=f"{name} must be a whole number of steps, got 1.5"):
        prune.Schedule(0.9, **({"begin": 1, "end": 9, "interval": 2} | {name: 1.5}))
    with pytest.raises(ValueError, match=f"{name} must be a whole number of steps"):
        jax.jit(lambda x: prune.Schedule(0.9, **(steps | {name: x})).kept(0, 5))(1.0)


def test_an_array_that_stands_for_no_decimal_is_read_as_it_is() -> None:
    third, n = np.float32(2 / 3), 84_934_656
    got = jax.jit(lambda s: prune.one_shot(s, 0).kept(0, n))(third)
    assert int(got) == round((1 - float(third)) * n) == prune.one_shot(third, 0).kept_finally(n)
    almost = np.float32(0.9999999)
    assert int(jax.jit(lambda s: prune.one_shot(s, 0).kept(0, 10**8))(almost)) == 12


def test_sixteen_bits_are_too_few_for_a_sparsity() -> None:
    with pytest.raises(ValueError, match="final must not be bfloat16"):
        prune.one_shot(jnp.bfloat16(0.5), 0)
