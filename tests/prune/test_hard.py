"""What hard methods share: masks to start from, leaks, NaN, and life inside other transforms."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune

RULES = [("w", True), (".*", False)]
METHODS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "magnitude": prune.magnitude,
    "random": lambda *args, **kwargs: prune.random(*args, key=jax.random.key(0), **kwargs),
}
each_method = pytest.mark.parametrize("method", METHODS)


def start(seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=(8, 6)), jnp.float32) for name in ("v", "w")}


def run(tx: optax.GradientTransformation, params: Any, steps: int, jit: bool = True) -> Any:
    update = jax.jit(tx.update) if jit else tx.update
    state = tx.init(params)
    for t in range(steps):
        updates, state = update(start(t + 1), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def given_mask(kept: int) -> np.ndarray:
    mask = np.zeros(48, bool)
    mask[np.random.default_rng(7).permutation(48)[:kept]] = True
    return mask.reshape(8, 6)


def kept_in(state: Any) -> int:
    return int(prune.masks_of(state)["w"].sum())


# Masks to start from.


@each_method
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_pruning_further_adds_to_the_masks_and_ends_where_asked(method: str, scope: str) -> None:
    mask, params = given_mask(30), start()
    params = prune.apply_masks(params, {"w": mask})
    pruning = METHODS[method](prune.cubic(0.8, 1, 6, 2), RULES, scope=scope, masks={"w": mask})
    tx = optax.chain(optax.sgd(0.125), pruning)
    np.testing.assert_array_equal(prune.masks_of(tx.init(params))["w"], mask)
    for steps, kept in [(1, 30), (2, 30), (4, 18), (8, 10)]:  # 48, 48, 17.9, 9.6 by the schedule
        after, state = run(tx, params, steps)
        got = np.asarray(prune.masks_of(state)["w"])
        assert got.sum() == kept
        assert not np.any(got & ~mask)
        assert not np.any(np.asarray(after["w"])[~got])
        assert np.all(np.asarray(after["v"]))


def test_pruning_further_is_magnitude_pruning_of_what_is_left() -> None:
    mask = given_mask(30)
    params = prune.apply_masks(start(), {"w": mask})
    tx = prune.magnitude(prune.one_shot(0.75, 0), RULES, masks={"w": mask})
    still = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(tx.update)(still, tx.init(params), params)
    sizes = np.where(mask, np.abs(np.asarray(params["w"])), -1).ravel()
    want = np.array(params["w"]).ravel()
    want[np.argsort(-sizes, kind="stable")[12:]] = 0
    np.testing.assert_array_equal(optax.apply_updates(params, updates)["w"].ravel(), want)


@each_method
def test_what_is_pruned_stays_pruned_if_the_schedule_asks_for_less(method: str) -> None:
    mask = given_mask(24)  # half of them, while the schedule passes 10 % on its way
    params = prune.apply_masks(start(), {"w": mask})
    pruning = METHODS[method](prune.cubic(0.5, 0, 4, initial=0.1), RULES, masks={"w": mask})
    _, state = run(optax.chain(optax.sgd(0.125), pruning), params, 6)
    np.testing.assert_array_equal(prune.masks_of(state)["w"], mask)


@pytest.mark.parametrize("pattern", [prune.Blocks(2, 3), prune.NofM(2, 4)])
def test_pruning_further_in_units_of_a_pattern(pattern: Any) -> None:
    first = prune.magnitude(prune.one_shot(0.25, 0), RULES, pattern=prune.Blocks(2, 3))
    if isinstance(pattern, prune.NofM):
        rules = [("w", prune.Target(0.25, prune.NofM(3, 4))), (".*", False)]
        first = prune.magnitude(prune.one_shot(0.25, 0), rules)
    params, state = run(first, start(), 1)
    masks = prune.masks_of(state)
    assert int(masks["w"].sum()) == 36
    further = prune.magnitude(prune.one_shot(0.5, 1), RULES, pattern=pattern, masks=masks)
    _, state = run(optax.chain(optax.sgd(0.125), further), params, 3)
    got = np.asarray(prune.masks_of(state)["w"])
    assert not np.any(got & ~np.asarray(masks["w"]))
    if isinstance(pattern, prune.NofM):
        assert np.all(got.reshape(2, 4, 6).sum(1) == 2)
    else:
        assert sorted(got.reshape(4, 2, 2, 3).sum((1, 3)).ravel().tolist()) == [0] * 4 + [6] * 4


@each_method
@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({}, "there is no mask for w"),
        ({"w": (8, 6), "v": (8, 6)}, "there is a mask for 'v', but no such parameter to prune"),
        ({"w": (8, 6), "x": (8, 6)}, "there is a mask for 'x', but no such parameter"),
        ({"w": (6, 8)}, "the mask of w has the shape (6, 8), the parameter (8, 6)"),
        ({"w": (48,)}, "the mask of w has the shape (48,), the parameter (8, 6)"),
    ],
)
def test_masks_that_do_not_fit(
    method: str, masks: dict[str, tuple[int, ...]], message: str
) -> None:
    given = {name: np.ones(shape, bool) for name, shape in masks.items()}
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        METHODS[method](prune.one_shot(0.5, 0), RULES, masks=given).init(start())
    assert "\n" not in str(error.value)


def test_masks_of_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="the mask of w is float32, not boolean"):
        prune.fixed_masks({"w": jnp.ones((8, 6))}).init(start())


def test_masks_that_are_sparser_than_asked_are_refused() -> None:
    tx = prune.magnitude(prune.one_shot(0.5, 0), RULES, masks={"w": given_mask(23)})
    with pytest.raises(ValueError, match="w: the masks keep 23 weights, fewer than the 24"):
        tx.init(start())


def test_masks_of_half_a_block_are_refused() -> None:
    mask = np.ones((8, 6), bool)
    mask[0, 0] = False
    for pattern in (prune.Blocks(2, 3), prune.Blocks(1, None)):
        tx = prune.magnitude(prune.one_shot(0.5, 0), RULES, pattern=pattern, masks={"w": mask})
        with pytest.raises(
            ValueError, match=f"the mask of w .* blocks of {re.escape(str(pattern))}"
        ):
            tx.init(start())
    mask[:3] = False
    tx = prune.magnitude(prune.one_shot(0.5, 0), RULES, pattern=prune.NofM(2, 4), masks={"w": mask})
    with pytest.raises(ValueError, match="the mask of w keeps less than 2:4 in some group"):
        tx.init(start())


@each_method
def test_the_state_of_a_transform_with_masks_has_a_shape(method: str) -> None:
    for mask in (given_mask(30), jnp.asarray(given_mask(30))):
        tx = METHODS[method](prune.one_shot(0.5, 0), RULES, masks={"w": mask})
        shapes = jax.eval_shape(tx.init, start())
        assert shapes.masks["w"] == jax.ShapeDtypeStruct((8, 6), bool)
        jax.jit(tx.init)(start())


# Fixed masks.


def test_fixed_masks_hold_and_leave_the_rest_to_the_optimizer() -> None:
    mask = given_mask(20)
    params = prune.apply_masks(start(), {"w": mask})
    tx = optax.chain(optax.adam(0.1), prune.fixed_masks({"w": mask}))
    got, state = run(tx, params, 10)
    bare, _ = run(optax.adam(0.1), params, 10)
    np.testing.assert_array_equal(prune.masks_of(state)["w"], mask)
    np.testing.assert_array_equal(got["w"], np.where(mask, bare["w"], 0))
    np.testing.assert_array_equal(got["v"], bare["v"])
    assert state[-1].step == 10
    assert state[-1].masks["v"] == optax.MaskedNode()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [("x", (8, 6), "there is a mask for 'x'"), ("w", (6, 8), "the mask of w has the shape (6, 8)")],
)
def test_fixed_masks_must_fit(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        prune.fixed_masks({name: np.ones(shape, bool)}).init(start())
    assert "\n" not in str(error.value)


def test_fixed_masks_need_params_and_zeros_that_stay() -> None:
    params, tx = start(), prune.fixed_masks({"w": given_mask(20)})
    _, state = tx.update(params, tx.init(params), params)
    # The update was not applied, so at the next one the weights are not zero.
    with pytest.raises(ValueError, match="w: 28 pruned weights are not zero; fixed_masks must be"):
        tx.update(params, state, params)
    with pytest.raises(ValueError, match="fixed_masks needs params"):
        tx.update(params, state)


# Leaks and NaN.


def leaky(method: str) -> optax.GradientTransformation:
    pruning = METHODS[method](prune.one_shot(0.5, 0), RULES)
    return optax.chain(pruning, optax.add_decayed_weights(0.1))


@each_method
def test_a_transform_after_pruning_is_found_at_the_next_update(method: str) -> None:
    message = f"w: 24 pruned weights are not zero; {method} must be last in the chain"
    with pytest.raises(ValueError, match=message) as error:
        run(leaky(method), start(), 2, jit=False)
    assert "\n" not in str(error.value)


@each_method
def test_a_transform_after_pruning_is_found_by_the_audit(method: str) -> None:
    params, state = run(leaky(method), start(), 2)
    with pytest.raises(ValueError, match=r"not last in the chain\?.* w \(24\)"):
        prune.audit(params, state)


@each_method
def test_a_nan_is_refused_by_name(method: str) -> None:
    params = start()
    tx = METHODS[method](prune.one_shot(0.5, 1), RULES)
    still = jax.tree.map(jnp.zeros_like, params)
    _, state = tx.update(still, tx.init(params), params)
    bad = {**still, "w": still["w"].at[1, 2].set(jnp.nan)}
    infinite = {**params, "w": params["w"].at[1, 2].set(jnp.inf)}
    for grads, weights in [(bad, params), ({**still, "w": -infinite["w"]}, infinite)]:
        with pytest.raises(ValueError, match="NaN cannot be ranked: w") as error:
            tx.update(grads, state, weights)
        assert "\n" not in str(error.value)


def test_under_jit_a_nan_is_kept_and_the_audit_names_it() -> None:
    params = {"w": jnp.array([5.0, jnp.nan, 7.0, 6.0])}
    tx = prune.magnitude(prune.one_shot(0.75, 0), [("w", True)])
    updates, state = jax.jit(tx.update)({"w": jnp.zeros(4)}, tx.init(params), params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params["w"], [0, np.nan, 0, 0])
    with pytest.raises(ValueError, match=r"NaN or infinity in w \(1\)"):
        prune.audit(params, state)


@each_method
@pytest.mark.parametrize("final", [0.0, 0.5])
def test_params_are_needed(method: str, final: float) -> None:
    tx, params = METHODS[method](prune.one_shot(final, 0), RULES), start()
    for update in (tx.update, jax.jit(tx.update)):
        with pytest.raises(ValueError, match=f"{method} needs params"):
            update(params, tx.init(params))


# The state.


@each_method
def test_only_targets_have_masks(method: str) -> None:
    state = METHODS[method](prune.one_shot(0.5, 0), RULES).init(start())
    assert isinstance(state, prune.HardState)
    assert (state.step.dtype, state.step.shape) == (jnp.int32, ())
    assert prune.masks_of(state).keys() == {"w"}
    assert state.masks["w"].dtype == bool
    assert state.masks["w"].all()
    assert state.masks["v"] == optax.MaskedNode()


@pytest.mark.parametrize("masks", [None, {"w": given_mask(30)}])
@each_method
def test_optax_finds_the_copies_of_the_parameters(method: str, masks: Any) -> None:
    # optax.tree_map_params is how shardings are given to an optimizer's state.
    pruning = METHODS[method](prune.one_shot(0.5, 0), RULES, masks=masks)
    tx = optax.chain(optax.adamw(0.1), pruning)
    marked = optax.tree_utils.tree_map_params(tx, lambda _: "param", tx.init(start()))
    assert set(jax.tree.leaves(marked[1].masks)) == {"param"}
    assert marked[1].step == 0


@each_method
@pytest.mark.parametrize("dtypes", [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_weights_and_updates_of_other_types(method: str, dtypes: tuple[str, str]) -> None:
    weights, updates = (jax.tree.map(lambda x, t=t: x.astype(t), start()) for t in dtypes)
    tx = METHODS[method](prune.one_shot(0.5, 0), RULES)
    got, state = jax.jit(tx.update)(updates, tx.init(weights), weights)
    after = optax.apply_updates(weights, got)["w"]
    mask = np.asarray(prune.masks_of(state)["w"])
    assert after.dtype == weights["w"].dtype
    assert mask.sum() == 24
    np.testing.assert_array_equal(np.asarray(after) != 0, mask)


# Inside other transforms of optax, compiled and not.

each_way = pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])


@each_way
def test_inside_multi_steps(jit: bool) -> None:
    pruning = prune.magnitude(prune.one_shot(0.5, 1), RULES)
    tx = optax.MultiSteps(optax.chain(optax.sgd(0.1), pruning), every_k_schedule=2)
    update = jax.jit(tx.update) if jit else tx.update
    params, kept = start(), []
    state = tx.init(params)
    for t in range(4):
        updates, state = update(start(t + 1), state, params)
        params = optax.apply_updates(params, updates)
        kept.append(kept_in(state))
    assert kept == [48, 48, 48, 24]


@each_way
@pytest.mark.parametrize("method", [*METHODS, "fixed_masks"])
def test_inside_apply_if_finite(method: str, jit: bool) -> None:
    masks = {"w": given_mask(24)}
    pruning = (
        prune.fixed_masks(masks)
        if method == "fixed_masks"
        else METHODS[method](prune.one_shot(0.5, 1), RULES)
    )
    tx = optax.apply_if_finite(optax.chain(optax.sgd(0.1), pruning), 5)
    update = jax.jit(tx.update) if jit else tx.update
    params = prune.apply_masks(start(), masks) if method == "fixed_masks" else start()
    state = tx.init(params)
    first = kept_in(state)
    bad = jax.tree.map(lambda x: x * jnp.nan, params)
    for grads, kept in [(start(1), first), (bad, first), (start(2), 24), (bad, 24)]:
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        assert kept_in(state) == kept  # a step that is skipped is not counted
    np.testing.assert_array_equal(np.asarray(params["w"]) != 0, prune.masks_of(state)["w"])


@each_way
def test_two_prunings_of_disjoint_leaves(jit: bool) -> None:
    half = prune.magnitude(prune.one_shot(0.5, 0), [("w", True)])
    quarter = prune.random(prune.one_shot(0.75, 0), [("v", True)], key=jax.random.key(1))
    tx = optax.partition(
        {"half": optax.chain(optax.sgd(0.1), half), "quarter": optax.chain(optax.adam(1), quarter)},
        {"w": "half", "v": "quarter"},
    )
    params, state = run(tx, start(), 2, jit)
    masks = prune.masks_of(state)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"w": 24, "v": 12}
    for name, mask in masks.items():
        np.testing.assert_array_equal(np.asarray(params[name]) != 0, mask)
    assert prune.audit(params, state).targets == (60, 60, 96)


def test_two_prunings_in_one_chain() -> None:
    tx = optax.chain(
        optax.sgd(0.1),
        prune.magnitude(prune.one_shot(0.5, 0), [("w", True), ("v", False)]),
        prune.magnitude(prune.one_shot(0.75, 0), [("v", True), ("w", False)]),
    )
    _, state = run(tx, start(), 2)
    masks = prune.masks_of(state)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"w": 24, "v": 12}


@pytest.mark.parametrize("kind", ["fixed", "magnitude", "movement"])
def test_given_masks_outlive_a_step_that_donates_its_state(kind: str) -> None:
    masks = {"w": jnp.arange(8) < 6}
    rules = [("w", True)]
    tx = {
        "fixed": lambda: prune.fixed_masks(masks),
        "magnitude": lambda: prune.magnitude(prune.one_shot(0.5, 0), rules, masks=masks),
        "movement": lambda: prune.movement(
            optax.sgd(0.1), optax.sgd(0.1), prune.one_shot(0.5, 0), rules, masks=masks
        ),
    }[kind]()
    params = prune.apply_masks({"w": jnp.arange(8.0)}, masks)
    step = jax.jit(tx.update, donate_argnums=1)
    step({"w": jnp.ones(8)}, tx.init(params), params)
    assert np.asarray(masks["w"]).sum() == 6


def test_what_is_no_float_is_refused() -> None:
    params = {"kernel": jnp.ones(4), "ids": jnp.arange(4)}
    with pytest.raises(ValueError, match="ids: only floats can be pruned, got int32"):
        prune.magnitude(prune.one_shot(0.5, 0), [(".*", True)]).init(params)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.9, [(".*", True)]), "schedule must be a prune.Schedule, got 0.9"),
        ((prune.one_shot(0.5, 0), {".*": True}), "targets must be a list of rules"),
        ((prune.one_shot(0.5, 0), [(".*", "0.5")]), "not '0.5'"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune.magnitude(*arguments).init({"w": jnp.ones(4)})
    with pytest.raises(ValueError, match="pattern must be NofM, Blocks or None, got '2:4'"):
        prune.magnitude(prune.one_shot(0.5, 0), [(".*", True)], pattern="2:4")  # type: ignore[arg-type]


def test_ranking_runs_without_jit() -> None:
    with jax.disable_jit():
        assert prune.top_k_mask(jnp.arange(9.0), 3).tolist() == [False] * 6 + [True] * 3


@each_way
@pytest.mark.parametrize("kind", ["fixed", "magnitude"])
def test_the_first_update_zeroes_what_given_masks_forbid(kind: str, jit: bool) -> None:
    """Whether compiled or not, parameters that nobody masked become what the masks say."""
    masks = {"w": jnp.arange(8) < 6}
    pruning = (
        prune.fixed_masks(masks)
        if kind == "fixed"
        else prune.magnitude(prune.one_shot(0.25, 5), [("w", True)], masks=masks)
    )
    tx = optax.chain(optax.sgd(0.0), pruning)
    update = jax.jit(tx.update) if jit else tx.update
    params = {"w": jnp.arange(1.0, 9.0)}
    state = tx.init(params)
    for _ in range(2):
        updates, state = update({"w": jnp.ones(8)}, state, params)
        params = optax.apply_updates(params, updates)
        assert params["w"].tolist() == [1, 2, 3, 4, 5, 6, 0, 0]
