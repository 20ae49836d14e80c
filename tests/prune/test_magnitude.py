"""The transform against a plain numpy loop, and the promises of its docstring."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune

SCHEDULE = prune.cubic(0.9, begin=5, end=42, interval=10)  # 42 is not on the grid 5, 15, 25, 35
SHAPES = {
    "encoder": {
        "layer_0": {
            "attention": {
                "query": {"kernel": (12, 17), "bias": (17,)},
                "norm": {"scale": (17,), "bias": (17,)},
            },
            "mlp": {"output": {"kernel": (17, 3, 5), "bias": (5,)}},
        }
    },
    "classifier": {"kernel": (17, 7), "bias": (7,)},
}


def is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(size, int) for size in x)


def normal(seed: int, dtype: Any = jnp.float32) -> Any:
    """Random numbers in the shape of the parameters."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), dtype), SHAPES, is_leaf=is_shape
    )


def stepper(tx: optax.GradientTransformation) -> Callable[..., Any]:
    @jax.jit
    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def masks_of(state: Any) -> dict[str, np.ndarray]:
    masks = prune.find_state(state, prune.MagnitudeState).masks
    return {prune.path(keys): np.asarray(mask) for keys, mask in jax.tree.leaves_with_path(masks)}


def by_path(tree: Any) -> dict[str, np.ndarray]:
    return {prune.path(keys): np.asarray(leaf) for keys, leaf in jax.tree.leaves_with_path(tree)}


def numpy_run(
    params: dict[str, np.ndarray], grads: list[dict[str, np.ndarray]], rate: float
) -> Any:
    """SGD, and gradual magnitude pruning as one would write it in a loop."""
    params = {name: np.array(value) for name, value in params.items()}
    kernels = [n for n in params if n.startswith("encoder/") and n.endswith("/kernel")]
    kept: dict[str, np.ndarray] = {name: np.ones(params[name].shape, bool) for name in kernels}
    for t, grad in enumerate(grads):
        for name in params:
            params[name] = params[name] - np.float32(rate) * grad[name]
        for name in kernels:
            if t in (5, 15, 25, 35, 42):
                sparsity = 0.9 - 0.9 * (1 - (t - 5) / (42 - 5)) ** 3
                n, shape = params[name].size, params[name].shape
                ranked = np.argsort(-np.abs(params[name] * kept[name]), axis=None, kind="stable")
                mask = np.zeros(n, bool)
                mask[ranked[: round((1 - sparsity) * n)]] = True
                kept[name] = mask.reshape(shape)
            params[name] = params[name] * kept[name]
        yield params, kept


def test_fifty_steps_of_sgd_are_those_of_a_numpy_loop() -> None:
    rate = 0.125  # a power of two: whether multiply and add are fused makes no difference
    tx = optax.chain(optax.sgd(rate), prune.magnitude(SCHEDULE, prune.ENCODER_KERNELS))
    params, step = normal(0), stepper(tx)
    state = tx.init(params)
    grads = [normal(seed) for seed in range(1, 51)]
    want = numpy_run(by_path(params), [by_path(grad) for grad in grads], rate)
    for grad, (want_params, want_masks) in zip(grads, want, strict=True):
        params, state = step(params, state, grad)
        got_params, got_masks = by_path(params), masks_of(state)
        assert got_masks.keys() == want_masks.keys()
        for name, mask in got_masks.items():
            np.testing.assert_array_equal(mask, want_masks[name])
        for name, value in got_params.items():
            np.testing.assert_array_equal(value, want_params[name])


@pytest.mark.parametrize(("dtype", "end"), [("float32", 42), ("bfloat16", 41), ("float32", 35)])
def test_ends_at_the_sparsity_asked_for(dtype: str, end: int) -> None:
    schedule = prune.cubic(0.9, begin=5, end=end, interval=10)
    tx = optax.chain(optax.adamw(0.1), prune.magnitude(schedule, prune.ENCODER_KERNELS))
    params, step = normal(0, dtype), stepper(tx)
    state = tx.init(params)
    before: dict[str, np.ndarray] = masks_of(state)
    for t in range(50):
        params, state = step(params, state, normal(t + 1, dtype))
        values, masks = by_path(params), masks_of(state)
        for name, mask in masks.items():
            assert values[name].dtype == jnp.dtype(dtype)
            assert np.all(values[name][~mask] == 0)  # exactly, after every step
            assert not np.any(mask & ~before[name])  # none returns
            if t < 5:
                assert mask.all()
            if t >= end:
                assert mask.sum() == round((1 - 0.9) * mask.size)
        assert all(values[name].all() for name in values.keys() - masks.keys())
        before = masks
    assert int(prune.find_state(state, prune.MagnitudeState).step) == 50
    prune.check(prune.audit(params, prune.ENCODER_KERNELS, state[-1].masks), schedule)


@pytest.mark.parametrize(
    ("dtype", "optimizer"),
    [
        ("float32", optax.adamw(1e-2)),
        ("bfloat16", optax.adamw(1e-2)),
        ("float32", optax.sgd(0.1, momentum=0.9)),
    ],
)
def test_no_sparsity_is_the_bare_optimizer_bit_for_bit(dtype: str, optimizer: Any) -> None:
    pruning = prune.magnitude(prune.cubic(0.0, 0, 10), prune.ENCODER_KERNELS)
    bare = optax.chain(optax.clip_by_global_norm(1.0), optimizer)
    finals = []
    for tx in (bare, optax.chain(bare, pruning)):
        params, step = normal(0, dtype), stepper(tx)
        state = tx.init(params)
        for seed in range(1, 21):
            params, state = step(params, state, normal(seed, dtype))
        finals.append(jax.tree.map(lambda x: np.asarray(x).tobytes(), params))
    assert finals[0] == finals[1]


def test_updates_pass_untouched_until_the_first_pruning() -> None:
    tx = prune.magnitude(prune.cubic(0.9, 1, 9), prune.ENCODER_KERNELS)
    params, updates = normal(0), normal(1)
    got, state = jax.jit(tx.update)(updates, tx.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, got, updates)
    got, _ = jax.jit(tx.update)(updates, state, params)  # at step 1 the sparsity is still 0
    jax.tree.map(np.testing.assert_array_equal, got, updates)


def test_only_targets_have_masks() -> None:
    params = normal(0)
    state = prune.magnitude(SCHEDULE, prune.ENCODER_KERNELS).init(params)
    assert state.step.dtype == jnp.int32
    assert set(masks_of(state)) == {
        "encoder/layer_0/attention/query/kernel",
        "encoder/layer_0/mlp/output/kernel",
    }
    assert all(mask.dtype == bool and mask.all() for mask in masks_of(state).values())
    assert state.masks["classifier"] == {"kernel": optax.MaskedNode(), "bias": optax.MaskedNode()}


def test_masks_rest_when_nothing_changes() -> None:
    schedule = prune.cubic(0.6, begin=0, end=10, initial=0.6)
    tx = prune.magnitude(schedule, prune.ENCODER_KERNELS)
    params, step, still = normal(0), stepper(tx), jax.tree.map(jnp.zeros_like, normal(0))
    params, state = step(params, tx.init(params), still)
    first_params, first_masks = by_path(params), masks_of(state)
    for _ in range(5):
        params, state = step(params, state, still)
        jax.tree.map(np.testing.assert_array_equal, by_path(params), first_params)
        jax.tree.map(np.testing.assert_array_equal, masks_of(state), first_masks)


def test_kept_zeros_do_not_swap_places_with_pruned_ones() -> None:
    tx = prune.magnitude(prune.cubic(0.8, 0, 9), [("w", True)])
    params, step = {"w": jnp.arange(20.0)}, stepper(tx)
    state, before = tx.init(params), np.ones(20, bool)
    for t in range(10):
        # From step 5 on every weight is zero, so that all are tied.
        gone = -params["w"] if t == 5 else jnp.zeros(20)
        params, state = step(params, state, {"w": gone})
        mask = masks_of(state)["w"]
        assert not np.any(mask & ~before)
        before = mask
    assert before.sum() == 4


def test_a_pruned_weight_stays_even_if_sparsity_falls() -> None:
    falling = prune.Schedule(lambda step: 0.8 - 0.1 * step, final=0.9, begin=0, end=8)
    tx = prune.magnitude(falling, [("w", True)])
    params, step = {"w": jnp.arange(1.0, 11.0)}, stepper(tx)
    state = tx.init(params)
    for _ in range(8):
        params, state = step(params, state, {"w": jnp.ones(10)})
        assert masks_of(state)["w"].tolist() == [False] * 8 + [True] * 2


def test_a_resurrected_gradient_cannot_wake_a_weight() -> None:
    tx = optax.chain(optax.sgd(1.0), prune.magnitude(prune.one_shot(0.5, 0), [("w", True)]))
    params, step = {"w": jnp.array([1.0, 4.0, 3.0, 2.0])}, stepper(tx)
    params, state = step(params, tx.init(params), {"w": jnp.zeros(4)})
    params, state = step(params, state, {"w": jnp.full(4, -100.0)})
    assert params["w"].tolist() == [0.0, 104.0, 103.0, 0.0]


def test_one_compilation_serves_the_whole_run() -> None:
    tx = prune.magnitude(SCHEDULE, prune.ENCODER_KERNELS)
    traces: list[None] = []

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, grads: Any) -> Any:
        traces.append(None)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = normal(0)
    state = tx.init(params)
    for seed in range(50):
        params, state = step(params, state, normal(seed))
    assert len(traces) == 1


def test_vmap_is_separate_runs() -> None:
    schedule = prune.cubic(0.7, begin=1, end=4, interval=2)
    tx = optax.chain(optax.sgd(0.125), prune.magnitude(schedule, prune.ENCODER_KERNELS))
    runs = [normal(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    states, step = jax.vmap(tx.init)(stacked), stepper(tx)
    separate = [(params, tx.init(params)) for params in runs]
    for t in range(6):
        grads = normal(10 + t)
        separate = [step(params, state, grads) for params, state in separate]
        stacked, states = jax.vmap(step, (0, 0, None))(stacked, states, grads)
        want = jax.tree.map(lambda *leaves: jnp.stack(leaves), *separate)
        jax.tree.map(np.testing.assert_array_equal, (stacked, states), want)


def test_a_nan_is_kept_where_it_can_be_seen() -> None:
    tx = prune.magnitude(prune.one_shot(0.75, 0), [("w", True)])
    params, step = {"w": jnp.array([5.0, jnp.nan, 7.0, 6.0])}, stepper(tx)
    params, _ = step(params, tx.init(params), {"w": jnp.zeros(4)})
    np.testing.assert_array_equal(params["w"], [0, np.nan, 0, 0])


def test_works_inside_other_transforms() -> None:
    tx = optax.MultiSteps(
        optax.chain(optax.sgd(0.1), prune.magnitude(prune.one_shot(0.5, 1), prune.ENCODER_KERNELS)),
        every_k_schedule=2,
    ).gradient_transformation()
    params, step = normal(0), stepper(tx)
    state = tx.init(params)
    kept = []
    for seed in range(4):
        params, state = step(params, state, normal(seed))
        mask = masks_of(state)["encoder/layer_0/attention/query/kernel"]
        kept.append(int(mask.sum()))
    assert kept == [204, 204, 204, 102]


def test_optax_finds_the_copies_of_the_parameters() -> None:
    # optax.tree_map_params is how shardings are given to an optimizer's state.
    params = normal(0)
    tx = optax.chain(optax.adamw(0.1), prune.magnitude(SCHEDULE, prune.ENCODER_KERNELS))
    marked = optax.tree_utils.tree_map_params(tx, lambda _: "param", tx.init(params))
    assert set(jax.tree.leaves(marked[1].masks)) == {"param"}
    assert marked[1].step == 0


def test_errors() -> None:
    tx, params = prune.magnitude(SCHEDULE, prune.ENCODER_KERNELS), normal(0)
    with pytest.raises(ValueError, match="magnitude pruning needs params"):
        tx.update(params, tx.init(params))
    with pytest.raises(ValueError, match="no rule matches the parameter 'classifier/bias'"):
        prune.magnitude(SCHEDULE, [("encoder/.*", True)]).init(params)
