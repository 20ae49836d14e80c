"""The steps of a run in calls of several of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsejax import prune
from sparsejax.config import Config, PruneConfig, TrainConfig
from sparsejax.data import packing
from sparsejax.data.packing import Packed
from sparsejax.data.tokenization import IGNORE
from sparsejax.models import bert
from sparsejax.runtime import calls, optimization, parallel, pruning, setup, steps

SHAPE = bert.BertConfig(
    vocab_size=50,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=16,
    num_labels=7,
)


def packed(rows: int, length: int, seed: int = 0) -> Packed:
    rng = np.random.default_rng(seed)
    shape = (rows, length)
    labels = np.where(rng.random(shape) < 0.5, IGNORE, rng.integers(0, 7, shape))
    return Packed(
        tokens=rng.integers(0, 50, shape).astype(np.int32),
        positions=np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        segments=np.ones(shape, np.int32),
        labels=labels.astype(np.int32),
        index=np.arange(rows * length),
    )


def lengths(done: int, total: int, *every: int, due: Any = lambda step: False) -> list[int]:
    batches = [np.array([n]) for n in range(done, total)]
    found = list(calls.calls(batches, 2, done, *every, due=due))
    sent = [n for numbers, _ in found for n in numbers[:, 0].tolist() if n >= 0]
    assert sent == list(range(done, total))  # every step once, in order
    for numbers, count in found:
        assert numbers.shape == (calls.STEPS, 2)
        assert np.all(numbers[:, 1] == -1) and np.all(numbers[count:] == -1)
    return [count for _, count in found]


def test_calls_end_where_the_host_has_something_to_do() -> None:
    assert lengths(0, 25, 10, 1000) == [1, 9, 10, 5]
    assert lengths(0, 7, 1) == [1] * 7
    assert lengths(0, 23, 1000, 1000) == [1, 10, 10, 2]
    assert lengths(0, 12, 4, 6) == [1, 3, 2, 2, 4]
    assert lengths(13, 30, 10, 25) == [1, 6, 5, 5]  # after an interruption
    assert lengths(5, 5, 10) == []


def test_calls_end_where_masks_are_due() -> None:
    # Of steps counted from 0: the last of each call is the one that is due.
    assert lengths(0, 20, 1000, due=lambda step: step in (4, 9, 17)) == [1, 4, 5, 8, 2]


@pytest.mark.parametrize(
    ("method", "nonfinite"),
    [
        pytest.param("none", "skip", marks=pytest.mark.slow),
        ("magnitude", "stop"),
        ("movement", "skip"),
        pytest.param("soft_movement", "stop", marks=pytest.mark.slow),
    ],
)
def test_steps_in_one_call_are_the_steps_one_by_one(method: Any, nonfinite: Any) -> None:
    """To the bit but for what the compiler rounds elsewhere; the last batch is a short one."""
    config = Config(
        train=TrainConfig(nonfinite=nonfinite, warmup=0.2),
        prune=PruneConfig(method, sparsity=0.5, begin=0.0, end=1.0, interval=2),
    )
    mesh = parallel.make_mesh()
    program = optimization.program(config, SHAPE, mesh)
    numbers = optimization.numbers(config, 7, mesh)
    all_rows, params = packed(20, 16), bert.init(SHAPE, jax.random.key(0))

    def start() -> Any:
        return setup.start(program, numbers, jax.tree.map(jnp.copy, params), None)

    order = [np.random.default_rng(1).permutation(20)]
    chosen = list(packing.batches(3, order))
    assert [len(c) for c in chosen] == [3, 3, 3, 3, 3, 3, 2]

    shardings = jax.tree.map(lambda leaf: leaf.sharding, start()), parallel.whole(mesh)
    one = steps.make_train_step(program, shardings)
    apart, losses = start(), []
    for rows in chosen:
        apart, metrics = one(apart, all_rows.batch(rows, 3), numbers)
        losses.append(float(metrics["loss"]))

    many = steps.make_train_steps(program, shardings)
    together, begin = start(), 0
    for rows, count in calls.calls(chosen, 3, 0, 4, due=pruning.due(config.prune, 7)):
        batches = parallel.batches(all_rows, rows, mesh)
        times = parallel.place(np.int32(count), parallel.whole(mesh))
        together, metrics = many(together, batches, times, numbers)
        begin += count
        assert float(metrics["loss"]) == pytest.approx(losses[begin - 1], rel=1e-5)
    assert many._cache_size() == 1  # whatever the number of steps
    assert int(together.step) == 7
    for a, b in zip(jax.tree.leaves(apart), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_masks_after_a_call_with_a_step_that_is_not_finite(nonfinite: Any) -> None:
    """They stay as they were, or are brought up to date as after any other step."""
    config = Config(
        train=TrainConfig(nonfinite=nonfinite, warmup=0.0),
        prune=PruneConfig("magnitude", sparsity=0.5, begin=0.5, end=0.5),
    )
    program, numbers = optimization.program(config, SHAPE), optimization.numbers(config, 8)
    params = bert.init(SHAPE, jax.random.key(0))
    params["classifier"]["bias"] = params["classifier"]["bias"].at[0].set(jnp.nan)
    state = steps.initial(program, params, numbers)
    rows = np.tile(np.arange(3), (calls.STEPS, 1))
    batches = jax.tree.map(jnp.asarray, packed(3, 16).batch(rows.ravel(), rows.size))
    batches = {name: column.reshape(*rows.shape, -1) for name, column in batches.items()}
    state, metrics = steps.make_train_steps(program)(state, batches, jnp.int32(5), numbers)
    assert metrics["nonfinite"] == 5
    assert state.step == (0 if nonfinite == "stop" else 5)
    kept = np.mean([mask.mean() for mask in prune.masks_of(state.opt_state).values()])
    assert kept == (1 if nonfinite == "stop" else 0.5)
