"""The exact top k against a stable sort in numpy."""

import os
import subprocess
import sys
from typing import Any

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsejax import prune
from sparsejax.prune.masks import kth_largest, ordered_bits

DTYPES = {"float32": np.uint32, "bfloat16": np.uint16, "float16": np.uint16}
# Few, as every shape is compiled once.
SIZES = [1, 13, 64]


def reference(scores: Any, k: int) -> np.ndarray:
    """By value with NaN first, then by index. float64 holds every value of the others."""
    values = np.asarray(scores).astype(np.float64).ravel()
    nan = np.isnan(values)
    order = np.lexsort((np.arange(values.size), -np.where(nan, 0, values), ~nan))
    mask = np.zeros(values.size, bool)
    mask[order[: max(k, 0)]] = True
    return mask.reshape(np.shape(scores))


def check(scores: Any, k: int) -> None:
    mask = np.asarray(prune.top_k_mask(jnp.asarray(scores), k))
    assert mask.dtype == bool
    assert mask.shape == np.shape(scores)
    np.testing.assert_array_equal(mask, reference(scores, k))


@st.composite
def floats(draw: st.DrawFn) -> Any:
    """Arrays of any bits at all, or of few values so that most are tied."""
    name = draw(st.sampled_from(list(DTYPES)))
    size = draw(st.sampled_from(SIZES))
    bits: Any = DTYPES[name]
    top = np.iinfo(bits).max
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]).astype(jnp.dtype(name))
    denormal = [1, 2, top // 2 + 2]  # the two least above zero, and the first below
    pools = [st.integers(0, top), st.sampled_from([*special.view(bits).tolist(), *denormal])]
    some = draw(st.lists(pools[1], min_size=1, max_size=3))
    elements = draw(st.sampled_from([*pools, st.sampled_from(some)]))
    drawn = draw(hypothesis.extra.numpy.arrays(bits, size, elements=elements))
    return drawn.view(jnp.dtype(name))


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(st.data())
def test_any_floats(data: st.DataObject) -> None:
    scores = data.draw(floats())
    k = data.draw(st.integers(0, scores.size))
    check(scores, k)


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(floats())
def test_integers_order_like_the_floats(x: np.ndarray) -> None:
    bits, values = np.asarray(jax.jit(ordered_bits)(x)), x.astype(np.float64)
    numbers = ~np.isnan(values)
    less, equal = np.less.outer(values, values), np.equal.outer(values, values)
    both = np.logical_and.outer(numbers, numbers)
    np.testing.assert_array_equal(np.less.outer(bits, bits) & both, less)
    np.testing.assert_array_equal(np.equal.outer(bits, bits) & both, equal)
    assert np.all(bits[~numbers] == np.iinfo(bits.dtype).max)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -3.0, 1e-45, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("k", [0, 1, 5, 12, 13])
def test_equal_entries_keep_the_first_k(value: float, k: int) -> None:
    mask = prune.top_k_mask(jnp.full(13, value), k)
    np.testing.assert_array_equal(mask, np.arange(13) < k)


@pytest.mark.parametrize("dtype", [*DTYPES, "float64"])
@pytest.mark.parametrize("k", [0, 1, 1000, 2**11, 9999, 10_000])
def test_many_random_entries(dtype: str, k: int) -> None:
    # In bfloat16 most of the 10 000 are tied with others.
    with jax.enable_x64(dtype == "float64"):
        check(np.random.default_rng(k).normal(size=(100, 100)).astype(jnp.dtype(dtype)), k)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 5, 7), (4, 1, 6)])
def test_shapes_and_row_major_ties(shape: tuple[int, ...]) -> None:
    scores = np.random.default_rng(0).integers(-1, 2, size=shape).astype(np.float32)
    for k in {0, 1, scores.size // 2, scores.size}:
        check(scores, k)


@pytest.mark.parametrize("k", [-3, 20])
def test_k_out_of_range_is_all_or_nothing(k: int) -> None:
    scores = jnp.array([1.0, jnp.nan, -jnp.inf, 0.0])
    np.testing.assert_array_equal(prune.top_k_mask(scores, k), np.full(4, k > 0))


def test_one_compilation_serves_every_k() -> None:
    traces: list[None] = []

    @jax.jit
    def count(scores: jax.Array, k: jax.Array) -> jax.Array:
        traces.append(None)
        return jnp.sum(prune.top_k_mask(scores, k))

    scores = jnp.arange(50.0)
    assert [int(count(scores, jnp.int32(k))) for k in range(51)] == list(range(51))
    assert len(traces) == 1


def test_vmap_over_scores_and_k() -> None:
    scores = np.random.default_rng(1).integers(-3, 4, size=(6, 4, 5)).astype(np.float32)
    ks = np.array([0, 3, 7, 19, 20, 10])
    masks = jax.vmap(prune.top_k_mask)(scores, ks)
    want = [reference(row, k) for row, k in zip(scores, ks, strict=True)]
    np.testing.assert_array_equal(masks, want)


def test_kth_largest_is_an_entry() -> None:
    values = np.random.default_rng(2).integers(-(2**31) + 1, 2**31, size=100, dtype=np.int32)
    got = jax.vmap(kth_largest, (None, 0))(jnp.asarray(values), np.arange(1, 101))
    assert got.tolist() == sorted(values.tolist(), reverse=True)


def test_errors() -> None:
    with pytest.raises(TypeError, match="only floats can be ranked, got int32"):
        prune.top_k_mask(jnp.arange(3), 1)
    with pytest.raises(ValueError, match="cannot rank 2147483648 entries"):
        jax.eval_shape(lambda: prune.top_k_mask(jnp.zeros(2**31), 1))


SHARDED = """
import math, re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from sparsejax import prune
mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
few = np.random.default_rng(0).integers(-2, 3, size=(8, 12)).astype(np.float32)
want = np.asarray(prune.top_k_mask(few, 37))
for spec in [P(), P("x"), P(None, "y"), P("y", "x"), P(("x", "y"))]:
    sharding = NamedSharding(mesh, spec)
    fn = jax.jit(prune.top_k_mask, out_shardings=sharding)
    scores = jax.device_put(few, sharding)
    np.testing.assert_array_equal(fn(scores, 37), want)
    hlo = fn.lower(scores, 37).compile().as_text()
    # The devices exchange their counts, and nothing as large as the array.
    collective = r"= \\w+\\[([\\d,]*)\\]\\S* (?:all-|collective-|reduce-scatter)\\w*\\("
    shapes = [[int(d) for d in found.split(",") if d] for found in re.findall(collective, hlo)]
    assert bool(shapes) == (spec != P()), spec
    assert all(math.prod(shape) <= mesh.size for shape in shapes), (spec, shapes)
"""


def test_sharding_changes_no_mask_and_moves_no_array() -> None:
    # Another process, as the number of CPU devices is fixed when JAX starts.
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", SHARDED], check=True, env={**os.environ, **flags})
