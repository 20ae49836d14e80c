"""Rules over parameter paths."""

from typing import Any, NamedTuple

import jax
import optax
import pytest

from sparsejax import prune


class Point(NamedTuple):
    x: Any
    y: Any


def bert(layers: int = 12) -> dict[str, Any]:
    """The parameter tree of the tagger; sizes do not matter here."""

    def dense() -> dict[str, Any]:
        return {"kernel": 0, "bias": 0}

    def layer() -> dict[str, Any]:
        heads = {name: dense() for name in ("query", "key", "value", "output")}
        mlp = {name: dense() for name in ("intermediate", "output")}
        return {"attention": {**heads, "norm": norm()}, "mlp": {**mlp, "norm": norm()}}

    def norm() -> dict[str, Any]:
        return {"scale": 0, "bias": 0}

    tables = {name: {"embedding": 0} for name in ("word", "position", "token_type")}
    return {
        "embeddings": {**tables, "norm": norm()},
        "encoder": {f"layer_{i}": layer() for i in range(layers)},
        "classifier": dense(),
    }


def targets_of(rules: prune.Rules, params: Any) -> set[str]:
    decided = jax.tree.leaves_with_path(prune.resolve(rules, params))
    return {prune.path(keys) for keys, target in decided if target}


KERNELS = {
    f"encoder/layer_{i}/{name}/kernel"
    for i in range(12)
    for name in (
        *("attention/query", "attention/key", "attention/value", "attention/output"),
        *("mlp/intermediate", "mlp/output"),
    )
}


@pytest.mark.parametrize(
    ("rules", "want"),
    [
        (prune.ENCODER_KERNELS, KERNELS),
        (prune.ENCODER_KERNELS_AND_EMBEDDINGS, KERNELS | {"embeddings/word/embedding"}),
        ([(".*", False)], set()),
    ],
)
def test_what_is_pruned_in_bert(rules: prune.Rules, want: set[str]) -> None:
    assert targets_of(rules, bert()) == want


def test_neither_biases_nor_norms() -> None:
    targets = targets_of(prune.ENCODER_KERNELS_AND_EMBEDDINGS, bert())
    assert not any("norm" in name or "bias" in name or "classifier" in name for name in targets)


def test_the_first_match_wins() -> None:
    rules = [("encoder/layer_0/.*", False), (".*/mlp/.*/kernel", True), (".*", False)]
    want = {f"encoder/layer_1/mlp/{name}/kernel" for name in ("intermediate", "output")}
    assert targets_of(rules, bert(layers=2)) == want


def test_a_pattern_is_the_whole_path() -> None:
    params = {"a": {"kernel": 0, "kernel_scale": 0}, "b": {"a": {"kernel": 0}}}
    assert targets_of([("a/kernel", True), (".*", False)], params) == {"a/kernel"}


def test_paths_of_any_container() -> None:
    params = {"layers": [0, (1, 2)], "point": Point(3, {"z": 4})}
    names = [prune.path(keys) for keys, _ in jax.tree.leaves_with_path(params)]
    assert names == ["layers/0", "layers/1/0", "layers/1/1", "point/x", "point/y/z"]


def test_the_answer_is_a_tree_of_booleans() -> None:
    rules = [("a/.*", True), (".*", False)]
    assert prune.resolve(rules, {"a": [1.0, 2.0], "b": (3.0,)}) == {
        "a": [True, True],
        "b": (False,),
    }


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("encoder/.*", True)], "no rule matches the parameter 'classifier/bias'"),
        ([], "no rule matches the parameter 'classifier/bias'"),
        ([("encoder/.*/kernal", True), (".*", False)], "the rule 'encoder/.*/kernal' is not the"),
        ([(".*", False), ("encoder/.*", True)], "the rule 'encoder/.*' is not the first"),
        ([("kernel", True), (".*", False)], "the rule 'kernel' is not the first"),
    ],
)
def test_errors(rules: prune.Rules, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        prune.resolve(rules, bert())
    assert "\n" not in str(error.value)


def test_wrapped_parameters_are_not_silently_dense() -> None:
    with pytest.raises(ValueError, match="the rule 'encoder/"):
        prune.magnitude(prune.cubic(0.5, 0, 1), prune.ENCODER_KERNELS).init({"params": bert()})


def test_an_empty_tree_needs_no_rule() -> None:
    assert prune.resolve(prune.ENCODER_KERNELS, {}) == {}
    assert prune.resolve(prune.ENCODER_KERNELS, optax.MaskedNode()) == optax.MaskedNode()
