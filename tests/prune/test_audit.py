"""The audit counts by hand."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsejax import prune

RULES = prune.ENCODER_KERNELS
ALL = [(".*", True)]


def small() -> dict[str, Any]:
    """Zeros at known places; keys whose paths sort differently from the tree."""
    return {
        "encoder": {
            "a-b": {"kernel": jnp.array([[0.0, 1.0], [2.0, -0.0]]), "bias": jnp.zeros(2)},
            "a": {"kernel": jnp.array([0.0, 0.0, 3.0, 0.0], jnp.bfloat16)},
        },
        "classifier": {"kernel": jnp.array([[0.0, 5.0, 6.0]]), "steps": jnp.array([0, 7])},
    }


def pruned(masks: Any, rules: Any = ALL) -> tuple[Any, Any]:
    """Parameters that are zero where pruned, and the state of a run that pruned them."""
    masks = {name: jnp.asarray(mask, bool) for name, mask in masks.items()}
    params = jax.tree.map(lambda mask: jnp.where(mask, 1.0, 0.0), masks)
    state = prune.fixed_masks({n: m for n, m in masks.items() if dict(rules).get(n, True)})
    return params, (optax.EmptyState(), state.init(params))


def zeros_of(zeros: int, size: int, shape: Any = None) -> np.ndarray:
    """A mask that prunes the first so many."""
    return (np.arange(size) >= zeros).reshape(shape or (size,))


def latent(scope: Any = "tensor") -> prune.LatentState:
    tx = prune.movement(optax.sgd(1.0), optax.sgd(1.0), prune.constant(0.5), ALL, scope=scope)
    params = {"w": jnp.arange(1.0, 5.0)}
    state: prune.LatentState = tx.update({"w": jnp.arange(4.0)}, tx.init(params), params)[1]
    return state


def test_counts_and_denominators() -> None:
    report = prune.audit(small(), targets=RULES)
    assert report.leaves == {
        "encoder/a/kernel": prune.Count(3, 3, 4),
        "encoder/a-b/kernel": prune.Count(2, 2, 4),
    }
    assert report.shapes == {"encoder/a/kernel": (4,), "encoder/a-b/kernel": (2, 2)}
    assert report.targets == (5, 5, 8)
    assert report.encoder == (7, 7, 10)
    assert report.model == (9, 9, 15)
    assert report.targets.sparsity == 5 / 8


def test_json() -> None:
    report = json.loads(json.dumps(prune.audit(small(), targets=RULES).to_dict()))
    assert report["encoder"] == {"zeros": 7, "pruned": 7, "size": 10, "sparsity": 0.7}
    assert report["leaves"]["encoder/a/kernel"]["sparsity"] == 0.75
    assert set(report) == {"targets", "encoder", "model", "leaves"}


def test_the_table_has_every_target_and_every_denominator() -> None:
    lines = str(prune.audit(small(), targets=RULES)).splitlines()
    rows = [line.rsplit(maxsplit=3) for line in lines[1:]]
    assert rows == [
        ["encoder/a/kernel", "3", "4", "75.0000%"],
        ["encoder/a-b/kernel", "2", "4", "50.0000%"],
        ["all targets", "5", "8", "62.5000%"],
        ["all encoder", "7", "10", "70.0000%"],
        ["all model", "9", "15", "60.0000%"],
    ]
    assert len({len(line) for line in lines}) == 1  # the columns line up


def test_the_encoder_is_what_lies_below_that_name() -> None:
    params = {"encoder": {"w": jnp.zeros(3)}, "encoder_norm": jnp.zeros(2)}
    assert prune.audit(params, targets=ALL).encoder == (3, 3, 3)


def test_no_encoder_and_no_targets() -> None:
    report = prune.audit({"w": jnp.ones(3)}, targets=[("w", False)])
    assert report.encoder is None
    assert report.to_dict()["encoder"] is None
    assert (report.leaves, report.targets, report.targets.sparsity) == ({}, (0, 0, 0), 0.0)
    assert "all encoder" not in str(report)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_denormals_are_not_zero(dtype: str) -> None:
    bits = np.array([0, 1, 2, 3], np.uint32 if dtype == "float32" else np.uint16)
    report = prune.audit({"w": bits.view(jnp.dtype(dtype))}, targets=[("w", True)])
    assert report.model == (1, 1, 4)


def test_masks_tell_pruned_weights_from_zeros() -> None:
    params, state = pruned({"w": [0, 1, 1, 1]})
    report = prune.audit({"w": params["w"].at[1].set(0.0)}, state)
    assert report.leaves["w"] == prune.Count(zeros=2, pruned=1, size=4)


def test_only_what_has_a_mask_is_a_target() -> None:
    params, state = pruned({"v": [1, 1], "w": [0, 1]}, [("v", False)])
    report = prune.audit(params, state)
    assert (list(report.leaves), report.model) == (["w"], (1, 1, 4))


def test_pruned_weights_of_a_latent_method_count_as_zero() -> None:
    params, state = {"w": jnp.arange(1.0, 5.0)}, latent()
    assert prune.audit(params, (state,)).targets == (2, 2, 4)
    assert prune.audit(params, targets=ALL).targets == (0, 0, 4)


def test_a_nan_that_a_mask_hides_is_found() -> None:
    state = latent()
    hidden = {"w": jnp.where(state.masks["w"], 1.0, jnp.nan)}
    assert bool(jnp.isfinite(prune.effective_params(hidden, state)["w"]).all())
    with pytest.raises(ValueError, match=r"NaN or infinity in w \(2\)"):
        prune.audit(hidden, state)


def test_a_nan_score_is_found() -> None:
    params, state = {"w": jnp.arange(1.0, 5.0)}, latent()
    state = state._replace(scores={"w": state.scores["w"].at[2].set(jnp.nan)})
    with pytest.raises(ValueError, match=r"NaN or infinity in the scores of w \(1\)"):
        prune.audit(params, state)


def test_a_transform_that_is_not_last_is_found() -> None:
    tx = optax.chain(prune.magnitude(prune.constant(0.5), ALL), optax.add_decayed_weights(0.5))
    params = {"v": jnp.arange(1.0, 5.0), "w": jnp.arange(1.0, 7.0)}
    updates, state = jax.jit(tx.update)(
        jax.tree.map(jnp.zeros_like, params), tx.init(params), params
    )
    with pytest.raises(ValueError, match=r"last in the chain\?.* v \(2\), w \(3\)"):
        prune.audit(optax.apply_updates(params, updates), state)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad: float) -> None:
    params = small()
    params["classifier"]["kernel"] = jnp.array([[bad, 5.0, bad]])
    params["encoder"]["a"]["kernel"] = jnp.array([bad, 5.0])
    with pytest.raises(
        ValueError, match=r"NaN or infinity in classifier/kernel \(2\), encoder/a/k"
    ):
        prune.audit(params, targets=RULES)


def test_rules_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="the rule 'encoder"):
        prune.audit({"w": jnp.ones(2)}, targets=RULES)


def test_a_state_that_does_not_fit() -> None:
    _, state = pruned({"w": [0, 1, 1, 1]})
    with pytest.raises(ValueError, match="the mask of w"):
        prune.audit({"w": jnp.ones(3)}, state)
    with pytest.raises(ValueError, match="'w'"):
        prune.audit({"v": jnp.ones(4)}, state)
    with pytest.raises(ValueError, match="no pruning transform"):
        prune.audit({"w": jnp.ones(4)}, optax.adam(0.1).init({"w": jnp.ones(4)}))


def test_wants_a_state_or_targets() -> None:
    params, state = pruned({"w": [0, 1]})
    for options in ({}, {"opt_state": state, "targets": ALL}):
        with pytest.raises(ValueError, match="one of the two"):
            prune.audit(params, **options)


@pytest.mark.parametrize(
    ("zeros", "fine"), [(88, False), (89, True), (90, True), (91, True), (92, False)]
)
@pytest.mark.parametrize("with_state", [False, True])
def test_check_allows_one_weight(zeros: int, fine: bool, with_state: bool) -> None:
    params, state = pruned({"a/w": zeros_of(zeros, 100)})
    report = prune.audit(params, state) if with_state else prune.audit(params, targets=ALL)
    schedule = prune.cubic(0.9, 0, 10)
    if fine:
        prune.check(report, schedule)
    else:
        with pytest.raises(ValueError, match=f"a/w: {zeros} of 100 pruned, 90 asked"):
            prune.check(report, schedule)


def test_check_goes_by_the_masks() -> None:
    _, state = pruned({"w": zeros_of(5, 10)})
    prune.check(prune.audit({"w": jnp.zeros(10)}, state), prune.one_shot(0.5, 0))


@pytest.mark.parametrize(
    ("zeros", "fine"), [((60, 0), True), ((59, 0), True), ((58, 0), False), ((0, 62), False)]
)
def test_check_of_the_whole(zeros: tuple[int, int], fine: bool) -> None:
    params, state = pruned({"v": zeros_of(zeros[0], 100), "w": zeros_of(zeros[1], 100)})
    report, schedule = prune.audit(params, state), prune.constant(0.3)
    if fine:
        prune.check(report, schedule, scope="global")
    else:
        with pytest.raises(ValueError, match=f"all targets: {sum(zeros)} of 200 pruned, 60 asked"):
            prune.check(report, schedule, scope="global")
    with pytest.raises(ValueError, match="v: .*; w: "):
        prune.check(report, schedule)


@pytest.mark.parametrize(
    ("blocks", "fine"), [(2, False), (3, True), (4, True), (5, True), (6, False)]
)
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_check_allows_one_block(blocks: int, fine: bool, scope: Any) -> None:
    params, state = pruned({"w": zeros_of(blocks * 8, 64, (32, 2))})  # blocks of 4x2, 4 asked
    arguments = (prune.audit(params, state), prune.constant(0.5))
    pattern = prune.Blocks(4, 2)
    if fine:
        prune.check(*arguments, scope=scope, pattern=pattern)
    else:
        with pytest.raises(ValueError, match=f"{blocks * 8} of 64 pruned, 32 asked"):
            prune.check(*arguments, scope=scope, pattern=pattern)


def test_blocks_are_asked_for_whole() -> None:
    # A third of 4 blocks is 1 block of 8, not 11 of 32 weights.
    params, state = pruned({"w": zeros_of(24, 32, (16, 2))})
    with pytest.raises(ValueError, match="w: 24 of 32 pruned, 8 asked"):
        prune.check(prune.audit(params, state), prune.constant(1 / 3), pattern=prune.Blocks(4, 2))


@pytest.mark.parametrize(("zeros", "fine"), [(6, False), (7, True), (8, True), (10, False)])
def test_check_of_n_of_m(zeros: int, fine: bool) -> None:
    params, state = pruned({"w": zeros_of(zeros, 16, (8, 2))})
    report = prune.audit(params, state)
    if fine:
        prune.check(report, prune.constant(0.5), pattern=prune.NofM(2, 4))
    else:
        with pytest.raises(ValueError, match=f"w: {zeros} of 16 pruned, 8 asked"):
            prune.check(report, prune.constant(0.5), pattern=prune.NofM(2, 4))


def test_check_of_rules_with_their_own_sparsity_and_pattern() -> None:
    rules = [
        ("v", 0.25),
        ("w", prune.Target(sparsity=0.5, pattern=prune.Blocks(2, None))),
        ("x", prune.Target(sparsity=0.75, pattern=prune.NofM(1, 4))),
        (".*", True),
    ]
    masks = {
        "v": zeros_of(5, 20),
        "w": zeros_of(8, 16, (8, 2)),
        "x": zeros_of(12, 16, (8, 2)),
        "y": zeros_of(18, 20),
    }
    schedule = prune.constant(0.9)
    prune.check(prune.audit(*pruned(masks)), schedule, rules)
    wrong = {**masks, "v": zeros_of(18, 20), "w": zeros_of(14, 16, (8, 2))}
    with pytest.raises(ValueError, match=r"v: 18 of 20 pruned, 5 asked; w: 14 of 16 pruned, 8 as"):
        prune.check(prune.audit(*pruned(wrong)), schedule, rules)


def test_check_of_a_target_without_a_rule() -> None:
    with pytest.raises(ValueError, match="no rule matches the parameter 'w'"):
        prune.check(prune.audit(*pruned({"w": [0, 1]})), prune.constant(0.5), [("v", True)])


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_overlap_is_that_of_numpy(array: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = ({"v": rng.random((7, 9)) < 0.5, "w": rng.random(11) < 0.3} for _ in range(2))
    got = prune.mask_overlap({n: array(m) for n, m in a.items()}, b)
    for name in a:
        kept = [{i for i, keep in enumerate(mask[name].ravel()) if keep} for mask in (a, b)]
        assert got[name] == (len(kept[0] & kept[1]), len(kept[0] | kept[1]))
        assert got[name].jaccard == len(kept[0] & kept[1]) / len(kept[0] | kept[1])


@pytest.mark.parametrize("mask", [np.zeros(4, bool), np.ones(4, bool), np.ones(0, bool)])
def test_equal_masks_overlap_wholly(mask: np.ndarray) -> None:
    assert prune.mask_overlap({"w": mask}, {"w": mask})["w"].jaccard == 1.0


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({"v": (2,)}, {"w": (2,)}, "'v'"),
        ({"v": (2,)}, {"v": (2,), "w": (2,)}, "w"),
        ({"v": (2,), "w": (2,)}, {"v": (2,)}, "'w'"),
        ({"v": (2, 3)}, {"v": (3, 2)}, r"v .*\(2, 3\)"),
    ],
)
def test_masks_of_other_models_are_not_compared(a: Any, b: Any, message: str) -> None:
    first, second = ({n: np.ones(shape, bool) for n, shape in x.items()} for x in (a, b))
    with pytest.raises(ValueError, match=message):
        prune.mask_overlap(first, second)
