"""Random pruning: as many as asked, anywhere, and the key alone decides."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune

KEY = jax.random.key(0)
RULES = [(".*/kernel", True), (".*", False)]


def params(seed: int = 0, size: int = 30) -> Any:
    rng = np.random.default_rng(seed)
    shapes = {"a": (40, size), "b": (40, size), "c": (2, 5, 6)}
    return {
        name: {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32), "bias": jnp.ones(3)}
        for name, shape in shapes.items()
    }


def masks_of_each_step(tx: optax.GradientTransformation, start: Any, steps: int) -> Any:
    def step(carry: Any, _: None) -> Any:
        weights, state = carry
        grads = jax.tree.map(jnp.ones_like, weights)
        updates, state = tx.update(grads, state, weights)
        weights = optax.apply_updates(weights, updates)
        kernels = {name: leaves["kernel"] for name, leaves in weights.items()}
        return (weights, state), (prune.masks_of(state), kernels)

    return jax.lax.scan(step, (start, tx.init(start)), None, length=steps)[1]


@functools.partial(jax.jit, static_argnames=("scope", "pattern"))
def once(start: Any, key: jax.Array, final: Any, **options: Any) -> Any:
    tx = prune.random(prune.one_shot(final, 0), RULES, key=key, **options)
    _, state = tx.update(start, tx.init(start), start)
    return prune.masks_of(state)


def final_masks(
    start: Any, key: jax.Array = KEY, final: float = 0.9, **options: Any
) -> dict[str, np.ndarray]:
    masks = once(start, key, final, **options)
    return {name.removesuffix("/kernel"): np.asarray(mask) for name, mask in masks.items()}


def test_as_many_as_asked_and_each_mask_is_part_of_the_former() -> None:
    schedule = prune.cubic(0.9, begin=2, end=11, interval=4)  # due on 2, 6, 10, 11
    tx = prune.random(schedule, RULES, key=KEY)
    masks, kernels = jax.jit(lambda start: masks_of_each_step(tx, start, 15))(params())
    assert masks.keys() == {"a/kernel", "b/kernel", "c/kernel"}
    for name, mask in masks.items():
        mask, n = np.asarray(mask), mask[0].size
        kept = [n] * 6 + [round((1 - 0.9 * (1 - (5 / 9) ** 3)) * n)] * 4
        kept += [round((1 - 0.9 * (1 - (1 / 9) ** 3)) * n)] + [round((1 - 0.9) * n)] * 4
        assert mask.reshape(15, -1).sum(1).tolist() == kept
        assert not np.any(mask[1:] & ~mask[:-1])
        assert not np.any(np.asarray(kernels[name[0]])[~mask])


def test_globally_as_many_as_asked() -> None:
    masks = final_masks(params(), scope="global", final=0.7)
    assert sum(mask.sum() for mask in masks.values()) == round((1 - 0.7) * 2460)
    assert abs(masks["a"].mean() - 0.3) < 0.05  # as much of each, roughly


def test_the_key_decides() -> None:
    first, again = final_masks(params()), final_masks(params())
    other = final_masks(params(), jax.random.key(1))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert np.any(first[name] != other[name])
    both, either = (f(first["a"], other["a"]).sum() for f in (np.logical_and, np.logical_or))
    assert both / either < 0.15  # 0.1 / 1.9 = 0.053 of independent masks


@pytest.mark.parametrize("seed", [1, 2])
def test_values_do_not_matter(seed: int) -> None:
    first, other = final_masks(params()), final_masks(params(seed))
    jax.tree.map(np.testing.assert_array_equal, first, other)
    small = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params(seed))
    jax.tree.map(np.testing.assert_array_equal, first, final_masks(small))


def test_a_leaf_has_numbers_of_its_own_whatever_else_there_is() -> None:
    masks = final_masks(params())
    assert np.any(masks["a"] != masks["b"])  # of one shape
    alone = final_masks({"b": params()["b"]})
    np.testing.assert_array_equal(alone["b"], masks["b"])


def test_roughly_uniform_over_the_tensor() -> None:
    masks = final_masks(params(size=500), final=0.5)
    for mask in (masks["a"], masks["b"]):  # 40 x 500; five standard deviations
        assert np.all(np.abs(mask.mean(1) - 0.5) < 5 * 0.5 / 500**0.5)
        assert np.all(np.abs(mask.mean(0) - 0.5) < 5 * 0.5 / 40**0.5)
        assert abs(np.mean(mask[:, 1:] == mask[:, :-1]) - 0.5) < 5 * 0.5 / 20_000**0.5


def test_blocks_and_n_of_m() -> None:
    blocks = final_masks({"a": params()["a"]}, final=0.75, pattern=prune.Blocks(2, 3))["a"]
    counts = blocks.reshape(20, 2, 10, 3).sum((1, 3))
    assert sorted(np.unique(counts)) == [0, 6]
    assert (counts == 6).sum() == 50
    groups = final_masks({"a": params()["a"]}, final=0.5, pattern=prune.NofM(2, 4))["a"]
    assert np.all(groups.reshape(10, 4, 30).sum(1) == 2)
    assert np.all(np.abs(groups.reshape(10, 4, 30).mean((0, 2)) - 0.5) < 5 * 0.5 / 300**0.5)


def test_vmap_over_keys_is_a_run_for_each_of_them() -> None:
    keys = jax.random.split(KEY, 3)
    together = jax.vmap(once, (None, 0, None))(params(), keys, 0.9)["a/kernel"]
    for got, key in zip(together, keys, strict=True):
        np.testing.assert_array_equal(got, final_masks(params(), key)["a"])


def test_no_sparsity_touches_nothing() -> None:
    tx = prune.random(prune.cubic(0.0, 0, 5), RULES, key=KEY)
    grads = params(1)
    updates, _ = jax.jit(tx.update)(grads, tx.init(params()), params())
    jax.tree.map(np.testing.assert_array_equal, updates, grads)
