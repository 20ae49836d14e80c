"""Latent magnitude pruning against a numpy loop: values are kept, trained on, and may come back."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune

RATE = 0.125  # a power of two: whether multiply and add are fused makes no difference
DUE = (3, 9, 15, 21, 24, 27, 33, 39)  # 24 ends the schedule; masks go on changing after it
STEPS = 40
RULES = [("a|b", True), (".*", False)]
SHAPES = {"a": (8, 12), "b": (4, 3, 12), "bias": (12,)}


def normal(seed: int, dtype: str = "float32", steps: int | None = None) -> dict[str, jax.Array]:
    rng, more = np.random.default_rng(seed), () if steps is None else (steps,)
    return {
        name: jnp.asarray(rng.normal(size=more + shape), dtype) for name, shape in SHAPES.items()
    }


def make(final: Any = 0.8, **options: Any) -> optax.GradientTransformationExtraArgs:
    return prune.latent_magnitude(optax.sgd(RATE), prune.cubic(final, 3, 24, 6), RULES, **options)


def descend(tx: Any, start: Any, goals: Any) -> Any:
    """The loss is half the squared distance of the effective parameters from a moving goal."""

    def step(carry: Any, goal: Any) -> Any:
        params, state = carry
        effective = prune.effective_params(params, state)
        grads = jax.tree.map(jnp.subtract, effective, goal)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        now = prune.effective_params(params, state)
        return (params, state), (params, prune.masks_of(state), now)

    return jax.lax.scan(step, (start, tx.init(start)), goals)[1]


def largest(scores: np.ndarray, kept: int) -> np.ndarray:
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores, axis=None, kind="stable")[:kept]] = True
    return mask.reshape(scores.shape)


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_forty_steps_are_those_of_a_numpy_loop(scope: str) -> None:
    start, goals = normal(0), normal(1, steps=STEPS)
    run = jax.jit(functools.partial(descend, make(scope=scope)))
    got_params, got_masks, got_effective = jax.tree.map(np.asarray, run(start, goals))
    params = {name: np.array(x) for name, x in start.items()}
    masks = {name: np.ones(SHAPES[name], bool) for name in ("a", "b")}
    returned = 0
    for t in range(STEPS):
        for name, x in params.items():
            used = x * masks[name] if name in masks else x
            params[name] = x - np.float32(RATE) * (used - np.asarray(goals[name][t]))
        if t in DUE:
            before, left = masks, max(0.0, (24 - t) / 21)
            density = 1 - 0.8 * (1 - left**3)
            if scope == "tensor":
                masks = {n: largest(abs(params[n]), round(density * params[n].size)) for n in masks}
            else:
                both = np.concatenate([abs(params[n]).ravel() for n in ("a", "b")])
                mask = largest(both, round(density * both.size))
                masks = {"a": mask[:96].reshape(8, 12), "b": mask[96:].reshape(4, 3, 12)}
            returned += sum(int(np.sum(masks[n] & ~before[n])) for n in masks)
        for name, mask in masks.items():
            np.testing.assert_array_equal(got_masks[name][t], mask, err_msg=f"{name} {t}")
            np.testing.assert_array_equal(got_effective[name][t], params[name] * mask)
            np.testing.assert_array_equal(got_effective[name][t] != 0, mask)
        for name, x in params.items():
            np.testing.assert_array_equal(got_params[name][t], x)
    assert returned > 10
    assert all(np.all(x) for x in got_params.values())  # nothing was lost


@pytest.mark.parametrize(
    ("pattern", "final", "kept"),
    [
        (prune.Blocks(1, None), 0.75, 2 * 12),
        (prune.Blocks(4, 3), 0.5, 48),
        (prune.NofM(1, 4), 0.75, 24),
    ],
)
def test_patterns(pattern: Any, final: float, kept: int) -> None:
    tx = prune.latent_magnitude(
        optax.sgd(RATE), prune.one_shot(final, 0), [("a", True), (".*", False)], pattern=pattern
    )
    params = normal(0)
    _, state = jax.jit(tx.update)(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    sizes, mask = np.abs(np.asarray(params["a"], np.float64)), np.asarray(state.masks["a"])
    assert mask.sum() == kept
    if isinstance(pattern, prune.NofM):
        groups = [largest(g, 1) for g in sizes.T.reshape(-1, 4)]
        np.testing.assert_array_equal(mask.T.reshape(-1, 4), groups)
    else:
        rows, columns = pattern.rows, pattern.columns or 12
        blocks = sizes.reshape(8 // rows, rows, 12 // columns, columns).sum((1, 3))
        want = largest(blocks, kept // (rows * columns)).repeat(rows, 0).repeat(columns, 1)
        np.testing.assert_array_equal(mask, want)


@pytest.mark.parametrize("jit", [True, False])
def test_a_pruned_weight_keeps_its_value_and_comes_back(jit: bool) -> None:
    schedule = prune.cubic(0.5, 0, 1, interval=3)  # due on 0, 1, 3, 6, ...
    tx = prune.latent_magnitude(optax.sgd(1.0), schedule, [("w", True)])
    update: Callable[..., Any] = jax.jit(tx.update) if jit else tx.update
    params = {"w": jnp.array([1.0, -2.0, 3.0, -4.0])}
    state, seen = tx.init(params), []
    for grad in ([0, 0, 0, 0], [0, 0, 0, 0], [-5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]):
        updates, state = update({"w": jnp.array(grad, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        seen.append((params["w"].tolist(), prune.effective_params(params, state)["w"].tolist()))
    assert seen == [
        ([1, -2, 3, -4], [1, -2, 3, -4]),
        ([1, -2, 3, -4], [0, 0, 3, -4]),
        ([6, -2, 3, -4], [0, 0, 3, -4]),  # trained on, though pruned
        ([6, -2, 3, -4], [6, 0, 0, -4]),  # and back
        ([6, -2, 3, -4], [6, 0, 0, -4]),
    ]
    assert prune.audit(params, state).targets == (2, 2, 4)


@pytest.mark.parametrize(
    ("dtype", "optimizer"),
    [
        ("float32", optax.adamw(1e-2)),
        ("bfloat16", optax.adamw(1e-2)),
        ("float32", optax.sgd(0.1, momentum=0.9)),
    ],
)
def test_no_sparsity_is_the_bare_optimizer_bit_for_bit(dtype: str, optimizer: Any) -> None:
    latent = prune.latent_magnitude(optimizer, prune.cubic(0.0, 0, 10), RULES)
    finals = []
    for tx in (optimizer, latent):
        params, state, update = normal(0, dtype), tx.init(normal(0, dtype)), jax.jit(tx.update)
        for seed in range(1, 11):
            updates, state = update(normal(seed, dtype), state, params)
            params = optax.apply_updates(params, updates)
        finals.append({name: np.asarray(x).tobytes() for name, x in params.items()})
    assert finals[0] == finals[1]
    assert state.step == 10


def test_bfloat16_ends_at_the_sparsity_asked_for() -> None:
    run = jax.jit(functools.partial(descend, make()))
    params, masks, effective = run(normal(0, "bfloat16"), normal(1, "bfloat16", STEPS))
    for name, mask in masks.items():
        assert params[name].dtype == effective[name].dtype == jnp.bfloat16
        assert set(mask[24:].reshape(STEPS - 24, -1).sum(1).tolist()) == {
            round((1 - 0.8) * mask[0].size)
        }


def test_vmap_over_sparsities_is_a_run_for_each_of_them() -> None:
    start, goals, finals = normal(0), normal(1, steps=STEPS), [0.5, 0.7, 0.9]
    together = jax.jit(jax.vmap(lambda final: descend(make(final), start, goals)))(
        jnp.array(finals, jnp.float32)
    )
    for i, final in enumerate(finals):
        alone = jax.jit(functools.partial(descend, make(final)))(start, goals)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), together, alone)


def test_the_state_and_its_tree() -> None:
    tx = prune.latent_magnitude(optax.adam(0.1), prune.one_shot(0.5, 0), RULES)
    state = tx.init(normal(0))
    assert isinstance(state, prune.LatentState)
    assert prune.masks_of(state).keys() == {"a", "b"}
    assert state.scores == optax.MaskedNode()
    marked = optax.tree_utils.tree_map_params(tx, lambda _: "param", state)
    assert set(jax.tree.leaves((marked.masks, marked.optimizer[0].mu))) == {"param"}


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_inside_apply_if_finite(jit: bool) -> None:
    tx = optax.apply_if_finite(make(), 3)
    params = normal(0)
    update = jax.jit(tx.update) if jit else tx.update
    updates, _ = update(normal(1), tx.init(params), params)
    jax.tree.map(lambda u, g: np.testing.assert_array_equal(u, -RATE * g), updates, normal(1))


def test_errors() -> None:
    tx, params = make(), normal(0)
    with pytest.raises(ValueError, match="latent_magnitude needs params"):
        tx.update(params, tx.init(params))
    once = prune.latent_magnitude(optax.sgd(RATE), prune.one_shot(0.5, 0), RULES)
    bad = {**params, "b": params["b"].at[0, 0, 0].set(jnp.nan)}
    with pytest.raises(ValueError, match="NaN cannot be ranked: b"):
        once.update(bad, once.init(params), params)
    with pytest.raises(ValueError, match="a: 2:4 is a sparsity of 0.5, not 0.8"):
        make(pattern=prune.NofM(2, 4, axis=0)).init(params)
