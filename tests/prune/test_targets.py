"""Rules over parameter paths."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from sparsejax import prune
from sparsejax.models import bert as bert_model
from sparsejax.prune.targets import by_path


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
    return {name for name, target in prune.resolve(rules, params).items() if target}


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
        (prune.ALL_KERNELS, KERNELS | {"classifier/kernel"}),
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


def test_the_answer_has_a_target_for_every_path_in_order() -> None:
    own = prune.Target(0.25, prune.Blocks(1, None))
    rules = [("a/0", True), ("a/1", 0.5), ("a/.*", own), (".*", False)]
    assert list(prune.resolve(rules, {"b": (3.0,), "a": [1.0, 2.0, 3.0]}).items()) == [
        ("a/0", prune.Target()),
        ("a/1", prune.Target(sparsity=0.5)),
        ("a/2", own),
        ("b/0", None),
    ]


def test_floats_of_nothing_are_not_booleans() -> None:
    rules = [("a", 0.0), ("b", 1), ("c", False)]
    assert prune.resolve(rules, {"a": 0, "b": 0, "c": 0}) == {
        "a": prune.Target(sparsity=0.0),
        "b": prune.Target(sparsity=1),
        "c": None,
    }


@pytest.mark.parametrize("sparsity", [1.0, 1, -0.5, float("nan"), 90])
def test_a_sparsity_of_a_rule_is_checked_and_the_leaf_named(sparsity: float) -> None:
    for what in (sparsity, prune.Target(sparsity)):
        tx = prune.magnitude(prune.one_shot(0.5, 0), [("a/w", what)])
        with pytest.raises(ValueError, match=f"a/w: final must be a sparsity.* got {sparsity}"):
            tx.init({"a": {"w": jnp.ones(4)}})


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
    params = {"params": jax.tree.map(jnp.float32, bert(layers=1))}
    with pytest.raises(ValueError, match="the rule 'encoder/"):
        prune.magnitude(prune.cubic(0.5, 0, 1), prune.ENCODER_KERNELS).init(params)


def test_an_empty_tree_needs_no_rule() -> None:
    assert prune.resolve(prune.ENCODER_KERNELS, {}) == {}
    assert prune.resolve(prune.ENCODER_KERNELS, optax.MaskedNode()) == {}


def test_the_model_of_this_package_has_these_paths() -> None:
    config = bert_model.BertConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=12,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=10,
        num_labels=3,
    )
    params = jax.eval_shape(lambda key: bert_model.init(config, key), jax.random.key(0))
    assert by_path(params).keys() == by_path(bert()).keys()
    assert targets_of(prune.ENCODER_KERNELS, params) == KERNELS


def test_paths_of_nnx() -> None:
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first = nnx.Linear(2, 3, rngs=rngs)
            self.rest = nnx.List([nnx.Linear(3, 3, rngs=rngs)])

    params = nnx.to_pure_dict(nnx.state(Net(nnx.Rngs(0)), nnx.Param))
    assert targets_of(prune.ALL_KERNELS, params) == {"first/kernel", "rest/0/kernel"}


def test_a_last_rule_that_leaves_alone_may_find_nothing() -> None:
    assert set(prune.resolve(prune.ALL_KERNELS, {"a": {"kernel": 0}})) == {"a/kernel"}
    with pytest.raises(ValueError, match="the rule 'b' is not the first"):
        prune.resolve([("b", True), (".*", False)], {"a": 0})


def test_two_leaves_of_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="two parameters have the path 'a/b'"):
        prune.resolve([(".*", True)], {"a/b": 0, "a": {"b": 1}})


@pytest.mark.parametrize("kind", [optax.masked, optax.partition])
def test_a_wrapper_that_shows_only_the_targets(kind: Any) -> None:
    params = {"kernel": jnp.arange(8.0), "bias": jnp.ones(2)}
    hard = optax.chain(optax.sgd(0.1), prune.magnitude(prune.one_shot(0.5, 0), prune.ALL_KERNELS))
    if kind is optax.masked:
        tx = optax.masked(hard, {"kernel": True, "bias": False})
    else:
        tx = optax.partition({"k": hard, "b": optax.sgd(0.1)}, {"kernel": "k", "bias": "b"})
    state = tx.init(params)
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, state = jax.jit(tx.update)(grads, state, params)
    assert prune.audit(optax.apply_updates(params, updates), state).targets == (4, 4, 8)
