"""A model with its dead heads and neurons cut out is smaller and says the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wikiann import TAGS

from sparsejax.errors import UserError
from sparsejax.models import bert, cutting, huggingface

CONFIG = bert.BertConfig(
    vocab_size=53,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=16,
    num_labels=len(TAGS),
)
HEADS = ((1, 2), (0,))  # dead ones of each layer
NEURONS = (range(0, 30), range(5, 25))

apply = jax.jit(bert.apply, static_argnums=0)


def random_params(config: bert.BertConfig = CONFIG) -> bert.Params:
    """Nothing near zero, biases included, so that whatever is lost shows."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: bert.init(config, key), jax.random.key(0))

    def draw(keys: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        center = 1.0 if keys[-1].key == "scale" else 0.0
        return rng.normal(center, 0.3, leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(draw, shapes)


def kill(params: bert.Params, heads: Any = (), neurons: Any = ()) -> bert.Params:
    """Sets the rows of heads and neurons to zero, in place; of either sign."""
    for i, dead in enumerate(heads):
        for head in dead:
            rows = slice(6 * head, 6 * head + 6)
            params["encoder"][f"layer_{i}"]["attention"]["output"]["kernel"][rows] = 0
    for i, dead in enumerate(neurons):
        params["encoder"][f"layer_{i}"]["mlp"]["output"]["kernel"][list(dead)] = -0.0
    return params


def logits(params: bert.Params, config: bert.BertConfig) -> np.ndarray:
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, 53, (3, 16)), jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(16), (3, 16))
    with jax.default_matmul_precision("highest"):
        return np.asarray(apply(config, params, tokens, positions, jnp.ones((3, 16), int)))


@pytest.mark.parametrize(
    ("heads", "neurons", "kept", "activation"),
    [
        (HEADS, (), (3, 40), "gelu"),
        ((), NEURONS, (4, 20), "gelu"),
        *((HEADS, NEURONS, (3, 20), name) for name in ("gelu", "gelu_new", "relu", "silu")),
    ],
)
def test_the_same_logits(heads: Any, neurons: Any, kept: tuple[int, int], activation: str) -> None:
    config = dataclasses.replace(CONFIG, hidden_act=activation)
    params = kill(random_params(), heads, neurons)
    smaller, shape, used = cutting.cut(params, config)
    assert (shape.heads, shape.intermediate_size) == kept
    assert used.heads == ((2, 3) if heads else (4, 4))
    assert used.neurons == ((10, 20) if neurons else (40, 40))
    np.testing.assert_allclose(logits(smaller, shape), logits(params, config), atol=1e-4)
    # As the shape says, and as a new model of that shape would be.
    expected = jax.eval_shape(lambda key: bert.init(shape, key), jax.random.key(0))
    assert jax.tree.map(np.shape, smaller) == jax.tree.map(lambda leaf: leaf.shape, expected)


def test_what_has_an_effect_stays() -> None:
    """The comparison sees one that is wrongly gone: the logits then differ by far more."""
    params = kill(random_params(), HEADS, NEURONS)
    smaller, shape, _ = cutting.cut(params, CONFIG)
    for part, rows in (("attention", slice(12, 18)), ("mlp", slice(19, 20))):
        changed = jax.tree.map(np.array, smaller)
        changed["encoder"]["layer_1"][part]["output"]["kernel"][rows] = 0
        assert np.abs(logits(changed, shape) - logits(params, CONFIG)).max() > 1e-2


def test_a_layer_without_effect_keeps_one() -> None:
    params = kill(random_params(), [range(4)] * 2, [range(40)] * 2)
    smaller, shape, used = cutting.cut(params, CONFIG)
    assert (shape.heads, shape.intermediate_size) == (1, 1)
    assert used == ((0, 0), (0, 0))
    np.testing.assert_allclose(logits(smaller, shape), logits(params, CONFIG), atol=1e-4)


def test_a_cut_model_is_cut_again() -> None:
    params, shape, _ = cutting.cut(kill(random_params(), HEADS), CONFIG)
    for layer in params["encoder"].values():
        layer["attention"]["output"]["kernel"][:6] = 0
    smaller, again, _ = cutting.cut(params, shape)
    assert (shape.heads, again.heads, again.head_width) == (3, 2, 6)
    np.testing.assert_allclose(logits(smaller, again), logits(params, shape), atol=1e-4)


def test_nothing_to_cut() -> None:
    """Dead ones in one layer are no use if another needs all."""
    params = kill(random_params(), ((1, 2), ()), ((3, 4), ()))
    with pytest.raises(UserError, match="all 4 heads have an effect.*all 40 neurons") as caught:
        cutting.cut(params, CONFIG)
    assert "\n" not in str(caught.value)


# --- on disk ------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path, letters: Any) -> tuple[Path, bert.Params, bert.BertConfig]:
    config = dataclasses.replace(CONFIG, vocab_size=len(letters))
    params = kill(random_params(config), HEADS, NEURONS)
    smaller, shape, _ = cutting.cut(params, config)
    huggingface.save(tmp_path, smaller, shape, TAGS, letters)
    return tmp_path, smaller, shape


def test_this_package_reads_it(saved: tuple[Path, bert.Params, bert.BertConfig]) -> None:
    directory, params, shape = saved
    _, found = huggingface.load_shape(directory, len(TAGS))
    assert found == shape
    loaded, notes = huggingface.load(directory, found, TAGS, jax.random.key(0))
    assert notes == []
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


@pytest.mark.parametrize("kept", [0, 5, True, "3"])
def test_numbers_of_heads_that_cannot_be(
    kept: Any, saved: tuple[Path, bert.Params, bert.BertConfig]
) -> None:
    path = saved[0] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kept_attention_heads": kept}))
    with pytest.raises(UserError, match=f"kept_attention_heads {kept!r} is ") as caught:
        huggingface.load_shape(saved[0], len(TAGS))
    assert "\n" not in str(caught.value)


def test_transformers_reads_it_with_the_code_beside_it(
    saved: tuple[Path, bert.Params, bert.BertConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    directory, params, shape = saved
    modules = str(directory / "modules")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", modules)
    monkeypatch.syspath_prepend(modules)
    load = transformers.AutoModelForTokenClassification.from_pretrained
    model = load(directory, trust_remote_code=True).eval()
    tokens = np.random.default_rng(1).integers(5, 53, (3, 16))
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).logits.numpy()
    positions = jnp.broadcast_to(jnp.arange(16), (3, 16))
    with jax.default_matmul_precision("highest"):
        ours = apply(shape, params, jnp.asarray(tokens), positions, jnp.ones((3, 16), int))
    np.testing.assert_allclose(theirs, np.asarray(ours), atol=1e-4)


def test_transformers_refuses_it_without_that_code(
    saved: tuple[Path, bert.Params, bert.BertConfig],
) -> None:
    """Loudly: a model that is silently another would be worse than none."""
    pytest.importorskip("torch")
    import transformers

    load = transformers.AutoModelForTokenClassification.from_pretrained
    with pytest.raises(Exception, match="size mismatch|ignore_mismatched_sizes"):
        load(saved[0], trust_remote_code=False)
