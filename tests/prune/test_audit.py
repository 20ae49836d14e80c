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


def small() -> dict[str, Any]:
    """Zeros at known places; keys whose paths sort differently from the tree."""
    return {
        "encoder": {
            "a-b": {"kernel": jnp.array([[0.0, 1.0], [2.0, -0.0]]), "bias": jnp.zeros(2)},
            "a": {"kernel": jnp.array([0.0, 0.0, 3.0, 0.0], jnp.bfloat16)},
        },
        "classifier": {"kernel": jnp.array([[0.0, 5.0, 6.0]]), "steps": jnp.array([0, 7])},
    }


def test_counts_and_denominators() -> None:
    report = prune.audit(small(), RULES)
    assert report.leaves == {
        "encoder/a/kernel": prune.Count(3, 3, 4),
        "encoder/a-b/kernel": prune.Count(2, 2, 4),
    }
    assert report.targets == (5, 5, 8)
    assert report.encoder == (7, 7, 10)
    assert report.model == (9, 9, 15)
    assert report.targets.sparsity == 5 / 8


def test_json() -> None:
    report = json.loads(json.dumps(prune.audit(small(), RULES).to_dict()))
    assert report["encoder"] == {"zeros": 7, "pruned": 7, "size": 10, "sparsity": 0.7}
    assert report["leaves"]["encoder/a/kernel"]["sparsity"] == 0.75
    assert set(report) == {"targets", "encoder", "model", "leaves"}


def test_the_encoder_is_what_lies_below_that_name() -> None:
    params = {"encoder": {"w": jnp.zeros(3)}, "encoder_norm": jnp.zeros(2)}
    assert prune.audit(params, [(".*", True)]).encoder == (3, 3, 3)


def test_no_encoder_and_no_targets() -> None:
    report = prune.audit({"w": jnp.ones(3)}, [("w", False)])
    assert report.encoder is None
    assert report.to_dict()["encoder"] is None
    assert (report.leaves, report.targets, report.targets.sparsity) == ({}, (0, 0, 0), 0.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_denormals_are_not_zero(dtype: str) -> None:
    bits = np.array([0, 1, 2, 3], np.uint32 if dtype == "float32" else np.uint16)
    report = prune.audit({"w": bits.view(jnp.dtype(dtype))}, [("w", True)])
    assert report.model == (1, 1, 4)


def test_masks_tell_pruned_weights_from_zeros() -> None:
    params, masks = {"w": jnp.array([0.0, 0.0, 1.0, 2.0])}, {"w": jnp.array([0, 1, 1, 1], bool)}
    report = prune.audit(params, [("w", True)], masks)
    assert report.leaves["w"] == prune.Count(zeros=2, pruned=1, size=4)


@pytest.mark.parametrize(
    ("zeros", "fine"), [(88, False), (89, True), (90, True), (91, True), (92, False)]
)
def test_check_allows_one_weight(zeros: int, fine: bool) -> None:
    report = prune.audit({"a": {"w": jnp.arange(100) >= jnp.float32(zeros)}}, [("a/w", True)])
    schedule = prune.cubic(0.9, 0, 10)
    if fine:
        prune.check(report, schedule)
    else:
        with pytest.raises(ValueError, match=f"a/w: {zeros} of 100 pruned, 90 asked"):
            prune.check(report, schedule)


def test_check_goes_by_the_masks() -> None:
    params = {"w": jnp.zeros(10)}
    prune.check(
        prune.audit(params, [("w", True)], {"w": jnp.arange(10) < 5}), prune.one_shot(0.5, 0)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad: float) -> None:
    params = small()
    params["classifier"]["kernel"] = jnp.array([[bad, 5.0, bad]])
    params["encoder"]["a"]["kernel"] = jnp.array([bad, 5.0])
    with pytest.raises(
        ValueError, match=r"NaN or infinity in classifier/kernel \(2\), encoder/a/k"
    ):
        prune.audit(params, RULES)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"v": optax.MaskedNode(), "w": jnp.array([True, False])}, r"not zero in w \(1\)"),
        ({"v": optax.MaskedNode(), "w": optax.MaskedNode()}, "disagree on whether 'w' is a target"),
        ({"v": jnp.ones(1, bool), "w": jnp.ones(2, bool)}, "disagree on whether 'v' is a target"),
    ],
)
def test_masks_that_do_not_fit(masks: Any, message: str) -> None:
    params = {"v": jnp.ones(1), "w": jnp.ones(2)}
    with pytest.raises(ValueError, match=message):
        prune.audit(params, [("w", True), ("v", False)], masks)


def test_rules_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="the rule 'encoder"):
        prune.audit({"w": jnp.ones(2)}, RULES)


def test_find_state_in_any_chain() -> None:
    pruning = prune.magnitude(prune.one_shot(0.5, 0), [("w", True)])
    params = {"w": jnp.ones(4)}
    inner = optax.chain(optax.adam(0.1), optax.chain(optax.identity(), pruning))
    state = jax.jit(optax.apply_if_finite(inner, 3).init)(params)
    found = prune.find_state({"opt": state}, prune.MagnitudeState)
    assert isinstance(found, prune.MagnitudeState)
    assert found.masks["w"].shape == (4,)


@pytest.mark.parametrize("count", [0, 2])
def test_find_state_wants_exactly_one(count: int) -> None:
    pruning = prune.magnitude(prune.one_shot(0.5, 0), [("w", True)])
    state = optax.chain(*[pruning] * count, optax.adam(0.1)).init({"w": jnp.ones(4)})
    with pytest.raises(
        ValueError, match=f"one MagnitudeState in the optimizer state, found {count}"
    ):
        prune.find_state(state, prune.MagnitudeState)
