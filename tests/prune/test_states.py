"""What the states of the transforms say about the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune

PARAMS = {"v": jnp.array([5.0, -6.0]), "w": jnp.array([-1.0, 2.0, -3.0, 4.0])}
RULES = [("w", True), ("v", False)]
HALF = prune.constant(0.5)


def hard() -> optax.GradientTransformation:
    return optax.chain(optax.sgd(0.0), prune.magnitude(HALF, RULES))


def latent() -> optax.GradientTransformation:
    return prune.latent_magnitude(optax.sgd(0.0), HALF, RULES)


def after_one_step(tx: optax.GradientTransformation) -> tuple[Any, Any]:
    updates, state = jax.jit(tx.update)(
        jax.tree.map(jnp.zeros_like, PARAMS), tx.init(PARAMS), PARAMS
    )
    return optax.apply_updates(PARAMS, updates), state


AROUND = [
    lambda tx: tx,
    lambda tx: optax.chain(tx, optax.identity()),
    lambda tx: optax.apply_if_finite(optax.chain(optax.identity(), tx), 3),
    lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    lambda tx: optax.inject_hyperparams(lambda rate: optax.chain(optax.scale(rate), tx))(1.0),
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("method", [hard, latent])
def test_masks_are_found_in_the_state_of_any_optimizer(method: Any, around: Any) -> None:
    params, state = after_one_step(around(method()))
    assert prune.is_pruning(state)
    masks = prune.masks_of({"opt": state})
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "w": [False, False, True, True]
    }
    used = prune.effective_params(params, state)
    assert used["w"].tolist() == [0.0, 0.0, -3.0, 4.0]
    assert used["v"] is params["v"]


def test_parameters_of_a_hard_method_are_returned_as_they_are() -> None:
    params, state = after_one_step(hard())
    assert prune.effective_params(params, state) is params
    assert params["w"].tolist() == [0.0, 0.0, -3.0, 4.0]


def test_a_latent_method_keeps_what_it_hides() -> None:
    params, state = after_one_step(latent())
    assert params["w"].tolist() == PARAMS["w"].tolist()
    used = np.asarray(prune.effective_params(params, state)["w"])
    assert not used[:2].view(np.int32).any()  # 0.0, not the -0.0 that a product would give


def test_without_pruning_nothing_is_masked() -> None:
    state = optax.adam(0.1).init(PARAMS)
    assert not prune.is_pruning(state)
    assert prune.effective_params(PARAMS, state) is PARAMS
    with pytest.raises(ValueError, match="no pruning transform"):
        prune.masks_of(state)


def test_methods_may_share_a_model_but_not_a_leaf() -> None:
    other = prune.magnitude(HALF, [("v", True), ("w", False)])
    _, state = after_one_step(optax.chain(hard(), other))
    assert set(prune.masks_of(state)) == {"v", "w"}
    _, state = after_one_step(optax.chain(hard(), prune.magnitude(HALF, RULES)))
    with pytest.raises(ValueError, match="w is pruned by two transforms"):
        prune.masks_of(state)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32"])
def test_apply_masks_sets_exact_zeros(dtype: str) -> None:
    params = {"v": jnp.ones(2), "w": jnp.asarray([-1, 2, -3, 4], dtype)}
    got = prune.apply_masks(params, {"w": np.array([True, False, False, True])})
    assert got["v"] is params["v"]
    assert got["w"].dtype == jnp.dtype(dtype)
    assert got["w"].tolist() == [-1, 0, 0, 4]
    assert not np.signbit(np.asarray(got["w"], np.float32)[1:3]).any()


def test_apply_masks_hides_nan_and_infinity() -> None:
    params = {"w": jnp.array([jnp.nan, -jnp.inf, 1.0])}
    assert prune.apply_masks(params, {"w": np.array([0, 0, 1], bool)})["w"].tolist() == [0, 0, 1]


def test_apply_masks_has_the_gradient_of_what_is_kept() -> None:
    masks = {"w": np.array([True, False, False, True])}
    grads = jax.jit(jax.grad(lambda p: jnp.sum(prune.apply_masks(p, masks)["w"] ** 2)))(PARAMS)
    assert grads["w"].tolist() == [-2.0, 0.0, 0.0, 8.0]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"x": np.ones(4, bool)}, "'x'"),
        ({"w": np.ones((4, 1), bool)}, r"w .*\(4, 1\)"),
        ({"w": np.ones(4)}, "w is float64, not boolean"),
        ({"w": jnp.ones(4, jnp.int8)}, "w is int8, not boolean"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune.apply_masks(PARAMS, masks)
