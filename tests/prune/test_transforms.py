"""Masks that are brought up to date apart from the updates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune
from sparsejax.prune import selection

RULES = [("w.*", True), ("half", 0.5), (".*", False)]
SCHEDULE = prune.cubic(0.8, 1, 9, 3, initial=0.2)
PAIRS = prune.NofM(1, 2)


def adam() -> optax.GradientTransformation:
    return optax.adamw(0.1)


def hard(make: Callable[..., Any], *args: Any, **kwargs: Any) -> prune.PruningTransformation:
    return prune.last_of_chain(adam(), make(*args, **kwargs))


METHODS: dict[str, Callable[[], prune.PruningTransformation]] = {
    "magnitude": lambda: hard(prune.magnitude, SCHEDULE, RULES),
    "magnitude, global": lambda: hard(
        prune.magnitude, SCHEDULE, [("w", True), (".*", False)], scope="global"
    ),
    "magnitude, 1:2": lambda: hard(
        prune.magnitude, prune.cubic(0.5, 1, 9, 3), [("w", True), (".*", False)], pattern=PAIRS
    ),
    "random": lambda: hard(prune.random, SCHEDULE, RULES, key=jax.random.key(0)),
    "latent_magnitude": lambda: prune.latent_magnitude(adam(), SCHEDULE, RULES),
    "movement": lambda: prune.movement(adam(), optax.adam(0.1), SCHEDULE, RULES),
    "soft_movement": lambda: prune.soft_movement(
        adam(),
        optax.adam(0.1),
        prune.cubic(0.6, 1, 9, 3),
        [("w.*", True), (".*", False)],
        penalty=1.0,
    ),
}
each_method = pytest.mark.parametrize("method", METHODS)


def start() -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 6), "w2": (8, 6), "w3": (6, 8), "half": (8, 6), "free": (6,)}
    return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}


def gradient(params: Any, state: Any, step: int) -> Any:
    rng = np.random.default_rng(step + 1)
    noise = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)
    return jax.tree.map(jnp.add, noise, prune.effective_params(params, state))


@each_method
def test_it_ends_where_updates_that_decide_for_themselves_do(method: str) -> None:
    tx = METHODS[method]()
    together = apart = (start(), tx.init(start()))
    rest, refresh = jax.jit(partial(tx.update, masks_rest=True)), jax.jit(tx.refresh)
    changed = []
    for step in range(14):
        params, state = together
        updates, state = jax.jit(tx.update)(gradient(params, state, step), state, params)
        together = optax.apply_updates(params, updates), state

        params, state = apart
        updates, state = rest(gradient(params, state, step), state, params)
        resting = prune.masks_of(state)
        jax.tree.map(np.testing.assert_array_equal, resting, prune.masks_of(apart[1]))
        apart = optax.apply_updates(params, updates), state
        if step % 2 or SCHEDULE.is_due(step):  # where it is not due, nothing changes
            apart = refresh(*apart)
        after = prune.masks_of(apart[1])
        changed.append(any(np.any(after[name] != resting[name]) for name in after))
        jax.tree.map(np.testing.assert_array_equal, prune.masks_of(together[1]), after)
        close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
        jax.tree.map(close, together[0], apart[0])
    assert {4} <= set(np.flatnonzero(changed)) <= {1, 4, 7, 9, 10, 13}
    prune.audit(*apart)


@each_method
def test_what_is_not_allowed_changes_nothing(method: str) -> None:
    tx = METHODS[method]()
    params, state = start(), tx.init(start())
    for step in range(5):
        updates, state = tx.update(gradient(params, state, step), state, params, masks_rest=True)
        params = optax.apply_updates(params, updates)
    same = jax.jit(tx.refresh)(params, state, jnp.bool_(False))
    jax.tree.map(np.testing.assert_array_equal, (params, state), same)
    other = jax.jit(tx.refresh)(params, state, jnp.bool_(True))
    assert not all(mask.all() for mask in prune.masks_of(other[1]).values())


@each_method
def test_not_a_number_is_refused(method: str) -> None:
    tx = METHODS[method]()
    params, state = start(), tx.init(start())
    for step in range(5):
        updates, state = tx.update(gradient(params, state, step), state, params, masks_rest=True)
        params = optax.apply_updates(params, updates)
    broken = params | {"w": params["w"].at[0, 0].set(jnp.nan)}
    with pytest.raises(ValueError, match="^NaN cannot be ranked: w$"):
        tx.refresh(broken, state)


def test_a_leak_is_not_mended_unseen() -> None:
    tx = prune.magnitude(prune.constant(0.5), [("w", True), (".*", False)])
    params, state = start(), tx.init(start())
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, state = tx.update(zero, state, params)
    params = optax.apply_updates(params, updates)
    leaking = params | {"w": jnp.where(params["w"] == 0, 0.5, params["w"])}
    with pytest.raises(ValueError, match="^w: 24 pruned weights are not zero"):
        tx.refresh(leaking, state)
    after, state = jax.jit(tx.refresh)(leaking, state)  # where nothing can be raised
    np.testing.assert_array_equal(after["w"], leaking["w"])
    with pytest.raises(ValueError, match=r"not zero in w \(24\)"):
        prune.check(prune.audit(after, state))


def test_given_masks_wait_for_an_update() -> None:
    mask = np.arange(48).reshape(8, 6) < 24
    rules = [("w", True), (".*", False)]
    tx = prune.magnitude(prune.constant(0.5), rules, masks={"w": mask})
    params, state = start(), tx.init(start())
    same = jax.jit(tx.refresh)(params, state, jnp.bool_(False))
    jax.tree.map(np.testing.assert_array_equal, (params, state), same)


def test_a_copy_is_as_good() -> None:
    tx = METHODS["magnitude"]()
    made = copy.copy(tx)
    assert (made.init, made.update, made.refresh) == (tx.init, tx.update, tx.refresh)


def test_a_final_sparsity_of_zero_changes_nothing() -> None:
    tx = prune.last_of_chain(adam(), prune.magnitude(prune.constant(0.0), [(".*", True)]))
    params, state = start(), tx.init(start())
    assert tx.refresh(params, state) == (params, state)


def test_targets_that_are_alike_are_ranked_together_but_not_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same masks, whatever the groups; and groups as large as they may be."""
    rng = np.random.default_rng(1)
    params = {f"w{i}": jnp.asarray(rng.normal(size=(4, 4)), jnp.float32) for i in range(5)}
    grads = jax.tree.map(jnp.zeros_like, params)
    tx = prune.magnitude(prune.constant(0.5), [(".*", True)])
    found, groups, rank = [], [], selection.masks.top_k_of_each

    def recorded(scores: jax.Array, k: jax.Array) -> jax.Array:
        groups.append(len(scores))
        return rank(scores, k)

    monkeypatch.setattr(selection.masks, "top_k_of_each", recorded)
    for most in (1, 33, 10**6):
        monkeypatch.setattr(selection, "AT_ONCE", most)
        found.append(prune.masks_of(tx.update(grads, tx.init(params), params)[1]))
    assert groups == [1] * 5 + [2, 2, 1] + [5]
    for masks in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, masks, found[0])
