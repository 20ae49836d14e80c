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
from sparsejax.prune.masks import kth_largest, n_of_m_mask, ordered_bits, top_k_of_each

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
def floats(draw: st.DrawFn, name: str | None = None) -> Any:
    """Arrays of any bits at all, or of few values so that most are tied."""
    name = name or draw(st.sampled_from(list(DTYPES)))
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
    k = data.draw(st.integers(-1, scores.size + 1))
    check(scores, k)


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(st.data())
def test_several_arrays_are_ranked_as_their_concatenation(data: st.DataObject) -> None:
    # The pairs of types are few, as every shape is compiled once.
    names = data.draw(st.sampled_from([("float32", "float32"), ("bfloat16", "float32")]))
    arrays = [data.draw(floats(name)) for name in names]
    arrays = [x.reshape(-1, 13) if x.size == 13 else x for x in arrays]
    k = data.draw(st.integers(-1, sum(x.size for x in arrays) + 1))
    masks = prune.top_k_masks([jnp.asarray(x) for x in arrays], k)
    assert [mask.shape for mask in masks] == [x.shape for x in arrays]
    got = np.concatenate([np.ravel(mask) for mask in masks])
    want = reference(np.concatenate([np.ravel(x).astype(np.float64) for x in arrays]), k)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("k", [0, 4, 6, 7, 19, 40, 41])
def test_ties_across_arrays_go_to_earlier_ones(k: int) -> None:
    shapes = [(2, 3), (), (5, 1, 2), (24,)]
    masks = prune.top_k_masks([jnp.zeros(shape) for shape in shapes], k)
    assert [mask.shape for mask in masks] == shapes
    np.testing.assert_array_equal(np.concatenate([m.ravel() for m in masks]), np.arange(41) < k)


@pytest.mark.parametrize("k", [0, 1, 700, 5000, 15_000])
def test_many_entries_of_several_types_together(k: int) -> None:
    rng = np.random.default_rng(k)
    dtypes = ["bfloat16", "float32", "bfloat16"]
    shapes = [(50, 100), (5000,), (5, 10, 100)]
    arrays = [rng.normal(size=s).astype(jnp.dtype(t)) for s, t in zip(shapes, dtypes, strict=True)]
    got = prune.top_k_masks([jnp.asarray(x) for x in arrays], k)
    want = reference(np.concatenate([np.ravel(x).astype(np.float64) for x in arrays]), k)
    np.testing.assert_array_equal(np.concatenate([np.ravel(mask) for mask in got]), want)


@pytest.mark.parametrize(
    ("shape", "n", "m", "axis"),
    [
        ((8,), 2, 4, 0),
        ((8, 6), 2, 4, -2),
        ((8, 6), 1, 2, 1),
        ((2, 12, 5), 3, 4, 1),
        ((12, 2, 3), 1, 4, 0),
        ((3, 16), 3, 8, -1),
        ((3, 16), 16, 16, -1),
        ((3, 16), 0, 4, -1),
    ],
)
@pytest.mark.parametrize("values", ["many", "few", "special"])
def test_n_of_m_is_a_stable_sort_of_every_group(
    shape: tuple[int, ...], n: int, m: int, axis: int, values: str
) -> None:
    rng = np.random.default_rng(0)
    if values == "many":
        scores = rng.normal(size=shape).astype(np.float32)
    else:
        few = [-1, 0, 1] if values == "few" else [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45]
        scores = rng.choice(np.asarray(few, np.float32), size=shape)
    lines = np.moveaxis(scores, axis, -1)
    groups = lines.reshape(-1, m)
    want = np.stack([reference(group, n) for group in groups]).reshape(lines.shape)
    got = np.asarray(n_of_m_mask(jnp.asarray(scores), n, m, axis))
    assert got.shape == scores.shape
    np.testing.assert_array_equal(np.moveaxis(got, axis, -1), want)


def test_n_of_m_with_a_traced_n() -> None:
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.bfloat16)
    masks = jax.jit(jax.vmap(lambda n: n_of_m_mask(scores, n, 4, 0)))(np.arange(5))
    assert masks.reshape(5, 2, 4, 3).sum(2).tolist() == [[[n] * 3] * 2 for n in range(5)]


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


def test_each_of_several_arrays_is_ranked_by_itself() -> None:
    scores = np.random.default_rng(3).normal(size=(6, 4, 5)).astype(np.float32)
    scores[2:] = np.round(scores[2:])  # with ties that go beyond k, and without
    ks = np.array([0, 3, 7, 19, 20, 10])
    want = [reference(row, k) for row, k in zip(scores, ks, strict=True)]
    np.testing.assert_array_equal(top_k_of_each(jnp.asarray(scores), jnp.asarray(ks)), want)


def test_kth_largest_is_an_entry() -> None:
    values = np.random.default_rng(2).integers(-(2**31) + 1, 2**31, size=100, dtype=np.int32)
    got = jax.vmap(kth_largest, (None, 0))([jnp.asarray(values)], np.arange(1, 101))
    assert got.tolist() == sorted(values.tolist(), reverse=True)


def test_kth_largest_out_of_range() -> None:
    values = [jnp.array([3, -1], jnp.int16), jnp.array([[5]], jnp.int16)]
    limits = np.iinfo(np.int16)
    assert [int(kth_largest(values, k)) for k in (-1, 0, 1, 3, 4)] == [
        *(limits.max, limits.max, 5, -1, limits.min)
    ]


def test_errors() -> None:
    with pytest.raises(TypeError, match="only floats can be ranked, got int32"):
        prune.top_k_mask(jnp.arange(3), 1)
    with pytest.raises(ValueError, match="cannot rank 2147483648 entries"):
        jax.eval_shape(lambda: prune.top_k_mask(jnp.zeros(2**31), 1))
    with pytest.raises(ValueError, match="cannot rank 2147483648 entries"):
        jax.eval_shape(lambda: prune.top_k_masks([jnp.zeros(2**30), jnp.zeros(2**30)], 1))


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
