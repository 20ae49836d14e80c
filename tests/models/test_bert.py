"""The model computes what PyTorch's BERT computes, sentence by sentence, however it is packed."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import wikiann
from wikiann import TAGS

from sparsejax.data import packing, tokenization
from sparsejax.data.tokenization import IGNORE, Encoded
from sparsejax.errors import UserError
from sparsejax.models import bert, huggingface
from sparsejax.runtime import steps

GOLDEN = Path(__file__).with_name("golden")
ATOL = 1e-4  # of logits, in float32

CONFIG = bert.BertConfig(
    vocab_size=53,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=16,
    num_labels=len(TAGS),
)

apply = jax.jit(bert.apply, static_argnames=("config", "dtype"))


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """Accelerators multiply float32 matrices in fewer bits unless told otherwise."""
    with jax.default_matmul_precision("highest"):
        yield


def paths(tree: bert.Params) -> dict[str, Any]:
    return {"/".join(k.key for k in keys): x for keys, x in jax.tree.leaves_with_path(tree)}


def shapes(config: bert.BertConfig) -> Any:
    return jax.eval_shape(lambda key: bert.init(config, key), jax.random.key(0))


def random_params(config: bert.BertConfig) -> bert.Params:
    """Far from the initial values, where attention is all but uniform and biases are zero."""
    rng = np.random.default_rng(0)

    def draw(keys: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        center = 1.0 if keys[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(center, 0.3, leaf.shape), jnp.float32)

    return jax.tree.map_with_path(draw, shapes(config))


def random_sentences(lengths: Sequence[int], config: bert.BertConfig = CONFIG) -> Encoded:
    """Random pieces with a label on about two thirds of them."""
    rng = np.random.default_rng(0)
    size = sum(lengths)
    labels = rng.integers(config.num_labels, size=size)
    return Encoded(
        tokens=rng.integers(1, config.vocab_size, size).astype(np.int32),
        labels=np.where(rng.random(size) < 0.67, labels, IGNORE).astype(np.int32),
        lengths=np.array(lengths, np.int32),
        words=np.zeros(len(lengths), np.int32),  # not used here
        repairs=np.zeros(3, np.int64),
    )


def one_per_row(encoded: Encoded, length: int) -> packing.Packed:
    """Each sentence in a row of its own, written without `packing.pack`."""
    rows = np.zeros((4, len(encoded.lengths), length), np.int32)
    rows[3] = IGNORE
    begin = 0
    for row, size in enumerate(encoded.lengths):
        rows[0, row, :size] = encoded.tokens[begin : begin + size]
        rows[1, row, :size] = np.arange(size)
        rows[2, row, :size] = 1
        rows[3, row, :size] = encoded.labels[begin : begin + size]
        begin += size
    return packing.Packed(*rows, index=np.flatnonzero(rows[2]))


def inputs(packed: packing.Packed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return packed.tokens, packed.positions, packed.segments


def three_rows(encoded: Encoded) -> packing.Packed:
    """Packed, then filled up with empty rows."""
    packed = packing.pack(encoded, 16, 0)
    assert len(packed.tokens) < 3
    return packing.Packed(**packed.batch(np.arange(len(packed.tokens)), 3), index=packed.index)


def at_pieces(values: Any, packed: packing.Packed) -> np.ndarray:
    """[pieces, ...] in the order of the sentences."""
    values = np.asarray(values)
    return values.reshape(-1, *values.shape[2:])[packed.index]


def stages(config: bert.BertConfig, params: bert.Params, packed: packing.Packed) -> dict[str, Any]:
    """The outputs of the embeddings, of each layer, and the logits."""
    logits, state = bert.Bert(config, jnp.dtype("float32")).apply(
        {"params": params}, *inputs(packed), False,
        capture_intermediates=True, mutable=["intermediates"],
    )  # fmt: skip
    inner = state["intermediates"]
    named = {"embeddings": inner["embeddings"]["__call__"][0], "logits": logits}
    for name, layer in inner["encoder"].items():
        named[name] = layer[0] if name == "__call__" else layer["__call__"][0]
    # Layers have one axis for all places.
    shape = packed.tokens.shape
    return {name: np.asarray(x).reshape(*shape, x.shape[-1]) for name, x in named.items()}


# --- the same numbers as PyTorch ---------------------------------------------------------------


def test_every_stage_equals_stored_values_of_pytorch() -> None:
    """The golden model, through the same door as any checkpoint; see make_golden.py."""
    expected = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
    config = bert.BertConfig.from_dict(huggingface.read_config(GOLDEN), len(TAGS))
    params, _ = huggingface.load(GOLDEN, config, TAGS, jax.random.key(0))
    real = np.arange(10) < np.array(expected["lengths"])[:, None]
    batch = packing.Packed(
        tokens=np.array(expected["tokens"], np.int32),
        positions=np.tile(np.arange(10, dtype=np.int32), (3, 1)),
        segments=real.astype(np.int32),
        labels=np.full((3, 10), IGNORE, np.int32),
        index=np.flatnonzero(real),
    )
    found = stages(config, params, batch)
    for stage in ("embeddings", "layer_0", "layer_1", "logits"):
        np.testing.assert_allclose(
            at_pieces(found[stage], batch), at_pieces(expected[stage], batch),
            rtol=0, atol=ATOL, err_msg=stage,
        )  # fmt: skip
    assert np.std(expected["logits"]) > 0.5  # the tolerance means something


CASES = {
    "as BERT": {},
    "one head": {"num_attention_heads": 1},
    "odd sizes": {"hidden_size": 15, "num_attention_heads": 5, "intermediate_size": 7},
    "heads of width one": {"hidden_size": 6, "num_attention_heads": 6, "num_hidden_layers": 1},
    "gelu_new": {"hidden_act": "gelu_new"},
    "gelu_pytorch_tanh": {"hidden_act": "gelu_pytorch_tanh"},
    "relu, one token type": {"hidden_act": "relu", "type_vocab_size": 1},
    "silu, large epsilon": {"hidden_act": "silu", "layer_norm_eps": 0.1},
}


def torch_model(config: bert.BertConfig) -> Any:
    """Hugging Face's model with random parameters; the test is skipped where there is no torch."""
    torch = pytest.importorskip("torch")
    import transformers

    raw = {k: v for k, v in dataclasses.asdict(config).items() if k != "num_labels"}
    theirs = transformers.BertConfig(**raw, id2label=dict(enumerate(TAGS)))
    torch.manual_seed(1)
    model = transformers.BertForTokenClassification(theirs).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.3)
    return model


def torch_logits(model: Any, packed: packing.Packed) -> Any:
    """Logits of one sentence per row: PyTorch's model knows no packing."""
    import torch

    tokens, mask = torch.tensor(packed.tokens), torch.tensor(packed.segments)
    return model(tokens.long(), attention_mask=mask.long()).logits


@pytest.mark.parametrize("lengths", [(9, 9, 9), (9, 4, 1)], ids=["no padding", "padding"])
@pytest.mark.parametrize("case", CASES)
def test_logits_equal_pytorch(case: str, lengths: Sequence[int], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, **CASES[case])
    model = torch_model(config)
    model.save_pretrained(tmp_path)
    params, notes = huggingface.load(tmp_path, config, TAGS, jax.random.key(0))
    assert notes == []
    batch = one_per_row(random_sentences(lengths), max(lengths))
    theirs = at_pieces(torch_logits(model, batch).detach(), batch)
    ours = at_pieces(apply(config, params, *inputs(batch)), batch)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=ATOL)
    assert np.std(theirs) > 0.5


@pytest.mark.parametrize("packed", [False, True])
def test_gradients_equal_pytorch(packed: bool, tmp_path: Path) -> None:
    model = torch_model(CONFIG)
    import torch

    encoded = random_sentences((9, 4, 6))
    single = one_per_row(encoded, 16)
    loss = torch.nn.functional.cross_entropy(
        torch_logits(model, single).flatten(0, 1),
        torch.tensor(single.labels).long().flatten(),
        ignore_index=IGNORE,
    )
    loss.backward()
    model.save_pretrained(tmp_path / "weights")
    for parameter in model.parameters():
        parameter.data = parameter.grad
    model.save_pretrained(tmp_path / "gradients")
    params, theirs = (
        huggingface.load(tmp_path / name, CONFIG, TAGS, jax.random.key(0))[0]
        for name in ("weights", "gradients")
    )

    value, ours = loss_and_gradients(params, three_rows(encoded) if packed else single)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    for path, gradient in paths(ours).items():
        np.testing.assert_allclose(
            gradient, paths(theirs)[path], rtol=1e-3, atol=1e-6, err_msg=path
        )


@jax.jit
def _loss_and_gradients(params: bert.Params, *batch: jax.Array) -> Any:
    def loss(params: bert.Params) -> jax.Array:
        return steps.masked_loss(bert.apply(CONFIG, params, *batch[:3]), batch[3])

    return jax.value_and_grad(loss)(params)


def loss_and_gradients(params: bert.Params, batch: packing.Packed) -> tuple[Any, bert.Params]:
    return _loss_and_gradients(params, *inputs(batch), batch.labels)


# --- the real model ----------------------------------------------------------------------------

LANGUAGES = ("en", "de", "ru", "ar", "zh", "ja", "hi", "ta", "sw", "el")


@pytest.fixture(scope="module")
def real(shared: Path) -> tuple[Path, bert.BertConfig, bert.Params]:
    """e5-small with a head large enough that the logits differ."""
    directory = shared / "models/e5-small-39"
    config = bert.BertConfig.from_dict(huggingface.read_config(directory), len(TAGS))
    params, _ = huggingface.load(directory, config, TAGS, jax.random.key(0))
    head = params["classifier"]
    params["classifier"] = {
        "kernel": 0.3 * jax.random.normal(jax.random.key(1), head["kernel"].shape),
        "bias": 0.3 * jax.random.normal(jax.random.key(2), head["bias"].shape),
    }
    return directory, config, jax.tree.map(jnp.asarray, params)


@pytest.fixture(scope="module")
def real_sentences(shared: Path, real: Any) -> Encoded:
    """Two sentences of each language, of at most 48 pieces."""
    tokenizer = tokenization.load_tokenizer(real[0])
    panx = shared / "data/panx"
    corpus = [s for x in LANGUAGES for s in wikiann.read(panx / x / "test.tsv", 2)]
    return tokenization.encode(corpus, tokenizer, 48, TAGS)


@pytest.fixture(scope="module")
def real_torch(real: Any) -> Any:
    torch = pytest.importorskip("torch")
    import transformers

    directory, config, params = real
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = transformers.BertForTokenClassification.from_pretrained(
        directory, num_labels=config.num_labels, dtype=torch.float32
    ).eval()
    with torch.no_grad():
        model.classifier.weight.copy_(torch.tensor(np.array(params["classifier"]["kernel"].T)))
        model.classifier.bias.copy_(torch.tensor(np.array(params["classifier"]["bias"])))
    return model


@pytest.mark.parametrize("layout", ["padded", "packed", "no padding"])
def test_the_real_model_equals_pytorch(
    layout: str, real: Any, real_sentences: Encoded, real_torch: Any
) -> None:
    import torch

    _, config, params = real
    sentences = same_length(real_sentences) if layout == "no padding" else real_sentences
    single = one_per_row(sentences, max(sentences.lengths))
    batch = packing.pack(sentences, 48, config.pad_token_id) if layout == "packed" else single
    with torch.no_grad():
        theirs = at_pieces(torch_logits(real_torch, single), single)
    # Operation by operation: quicker than to compile twelve layers.
    ours = at_pieces(bert.apply(config, params, *inputs(batch)), batch)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=ATOL)
    assert np.std(theirs) > 0.5


def same_length(encoded: Encoded) -> Encoded:
    """The sentences that have the most frequent length: rows without padding."""
    length = np.bincount(encoded.lengths).argmax()
    chosen = np.repeat(encoded.lengths == length, encoded.lengths)
    assert np.count_nonzero(encoded.lengths == length) > 1
    return dataclasses.replace(
        encoded,
        tokens=encoded.tokens[chosen],
        labels=encoded.labels[chosen],
        lengths=encoded.lengths[encoded.lengths == length],
    )


def test_packing_the_real_model_changes_nothing(real: Any, real_sentences: Encoded) -> None:
    _, config, params = real
    single = one_per_row(real_sentences, max(real_sentences.lengths))
    packed = packing.pack(real_sentences, 48, config.pad_token_id)
    assert len(packed.tokens) < len(single.tokens)
    one, other = (
        at_pieces(bert.apply(config, params, *inputs(batch)), batch) for batch in (single, packed)
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=ATOL)


# --- packing -----------------------------------------------------------------------------------


def test_a_packed_row_gives_the_logits_of_its_sentences() -> None:
    encoded = random_sentences((1, 9, 9, 6, 6, 1))
    params = random_params(CONFIG)
    packed = three_rows(encoded)
    assert packed.segments.max(axis=1).tolist() == [3, 3, 0]
    logits = at_pieces(apply(CONFIG, params, *inputs(packed)), packed)
    begin = 0
    for size in encoded.lengths:  # alone: no padding either
        alone = encoded.tokens[None, begin : begin + size]
        expected = apply(
            CONFIG, params, alone, np.arange(size, dtype=np.int32)[None], np.ones_like(alone)
        )
        np.testing.assert_allclose(logits[begin : begin + size], expected[0], rtol=0, atol=ATOL)
        begin += size


def test_another_sentence_in_the_row_changes_nothing() -> None:
    packed = packing.pack(random_sentences((5, 3, 6)), 16, 0)
    params = random_params(CONFIG)
    before = np.asarray(apply(CONFIG, params, *inputs(packed)))
    other = packed.segments == 2
    assert other.sum() == 3
    tokens = np.where(other, packed.tokens % (CONFIG.vocab_size - 1) + 1, packed.tokens)
    positions = np.where(other, 15 - packed.positions, packed.positions)
    after = np.asarray(apply(CONFIG, params, tokens, positions, packed.segments))
    rest = (packed.segments > 0) & ~other
    np.testing.assert_array_equal(after[rest], before[rest])
    assert np.abs(after - before)[other].max(axis=-1).min() > 0.01


def test_the_order_inside_a_sentence_matters() -> None:
    """Or the positions were not used, and the tests above proved little."""
    batch = one_per_row(random_sentences((6,)), 6)
    params = random_params(CONFIG)
    before = apply(CONFIG, params, *inputs(batch))
    after = apply(CONFIG, params, batch.tokens, batch.positions[:, ::-1], batch.segments)
    assert np.abs(after - before).max() > 0.01


def test_biases_of_keys_do_not_matter() -> None:
    """They move all the scores of a query alike: why no run's values of them are held to another's.

    That of a query is another matter.
    """
    packed = one_per_row(random_sentences([9, 16]), 16)
    params = random_params(CONFIG)

    def logits(name: str) -> np.ndarray:
        moved = jax.tree.map_with_path(
            lambda keys, x: x + 1 if f"['{name}']['bias']" in jax.tree_util.keystr(keys) else x,
            params,
        )
        found = apply(CONFIG, moved, packed.tokens, packed.positions, packed.segments)
        return np.asarray(found)[packed.segments > 0]

    np.testing.assert_allclose(logits("key"), logits("none"), rtol=0, atol=ATOL)
    assert np.abs(logits("query") - logits("none")).max() > 100 * ATOL


def test_the_content_of_padding_does_not_matter() -> None:
    batch = three_rows(random_sentences((5, 3, 6)))
    params = random_params(CONFIG)
    real = batch.segments > 0
    changed = dataclasses.replace(
        batch,
        tokens=np.where(real, batch.tokens, 7),
        positions=np.where(real, batch.positions, 11),
    )
    one, other = (np.asarray(apply(CONFIG, params, *inputs(b))) for b in (batch, changed))
    np.testing.assert_array_equal(one[real], other[real])
    for one, other in zip(
        *(jax.tree.leaves(loss_and_gradients(params, b)) for b in (batch, changed)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_rows_of_padding_are_harmless() -> None:
    params = random_params(CONFIG)
    rows = three_rows(random_sentences((5,))).batch(np.arange(0), 3)
    empty = packing.Packed(**rows, index=np.arange(0))
    assert np.isfinite(apply(CONFIG, params, *inputs(empty))).all()
    value, gradients = loss_and_gradients(params, empty)
    assert value == 0
    for path, gradient in paths(gradients).items():
        np.testing.assert_array_equal(gradient, 0, err_msg=path)


# --- dropout -----------------------------------------------------------------------------------


class Drop(nn.Module):
    rate: float

    def __call__(self, x: jax.Array) -> jax.Array:
        return bert._dropout(self, self.rate, x, True)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_fraction_and_scales_it(rate: float) -> None:
    n = 2**20
    x = jnp.linspace(1.0, 2.0, n)
    out = np.asarray(Drop(rate).apply({}, x, rngs={"dropout": jax.random.key(0)}))
    kept = out != 0
    # The rate is rounded to a multiple of 2**-16; five standard errors of a binomial.
    assert abs(kept.mean() - (1 - rate)) < 2**-17 + 5 * np.sqrt(rate * (1 - rate) / n)
    np.testing.assert_allclose(out[kept], np.asarray(x)[kept] / (1 - rate), rtol=1e-6)
    # No place is favoured: the kept fraction is the same in both halves.
    halves = kept.reshape(2, -1).mean(axis=1)
    assert abs(halves[0] - halves[1]) < 10 * np.sqrt(rate * (1 - rate) / n)


def test_dropout_keeps_the_dtype() -> None:
    x = jnp.ones(8, jnp.bfloat16)
    assert Drop(0.5).apply({}, x, rngs={"dropout": jax.random.key(0)}).dtype == jnp.bfloat16


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return inputs(packing.pack(random_sentences((5, 3, 6)), 16, 0))


SHALLOW = dataclasses.replace(CONFIG, num_hidden_layers=1)  # random numbers are slow to compile
NO_DROPOUT = dataclasses.replace(
    SHALLOW, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0
)


def test_without_a_key_there_is_no_dropout(batch: Any) -> None:
    params = random_params(SHALLOW)
    first = np.asarray(apply(SHALLOW, params, *batch))
    np.testing.assert_array_equal(first, apply(SHALLOW, params, *batch))
    np.testing.assert_array_equal(first, apply(NO_DROPOUT, params, *batch))
    # Rate 0 with a key is bit by bit the same too.
    with_key = apply(NO_DROPOUT, params, *batch, dropout_key=jax.random.key(0))
    np.testing.assert_array_equal(first, with_key)


@pytest.mark.parametrize(
    "kind", ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"]
)
def test_the_key_decides_each_kind_of_dropout(kind: str, batch: Any) -> None:
    config = dataclasses.replace(NO_DROPOUT, **{kind: 0.2})
    params = random_params(config)
    first, again, other = (
        apply(config, params, *batch, dropout_key=jax.random.key(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert np.abs(first - apply(NO_DROPOUT, params, *batch)).max() > 0.01


def test_the_expectation_of_the_logits_is_kept(batch: Any) -> None:
    """Exactly so for the classifier's dropout, after which everything is linear."""
    config = dataclasses.replace(NO_DROPOUT, classifier_dropout=0.3)
    params = random_params(config)
    keys = jax.random.split(jax.random.key(0), 2000)
    draws = jax.vmap(lambda key: apply(config, params, *batch, dropout_key=key))(keys)
    error = np.std(draws, axis=0) / np.sqrt(len(keys))
    z = (np.mean(draws, axis=0) - apply(NO_DROPOUT, params, *batch)) / error
    assert np.abs(z).max() < 5  # of a hundred logits
    assert 0.5 < np.std(z) < 2


Recorded = tuple[list[tuple[str, float]], list[np.ndarray], np.ndarray]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorded]:
    """Place and rate of each dropout of a pass in order, the factors it multiplied by, logits."""
    original = bert._kept

    def run(config: bert.BertConfig, params: bert.Params, batch: Any) -> Recorded:
        places: list[tuple[str, float]] = []

        def both(params: bert.Params) -> Any:
            masks = []

            def kept(module: nn.Module, rate: float, *given: Any) -> jax.Array | None:
                found = original(module, rate, *given)
                assert found is not None
                masks.append(found / (1 - rate))
                places.append(("/".join(module.path), rate))
                return found

            monkeypatch.setattr(bert, "_kept", kept)
            logits = bert.apply(config, params, *batch, dropout_key=jax.random.key(0))
            return masks, logits

        masks, logits = jax.jit(both)(params)
        return places, [np.asarray(mask) for mask in masks], np.asarray(logits)

    return run


def test_no_dropout_mask_repeats_another(record: Callable[..., Recorded], batch: Any) -> None:
    config = dataclasses.replace(
        CONFIG, hidden_size=240, hidden_dropout_prob=0.4, attention_probs_dropout_prob=0.5
    )
    places, masks, _ = record(config, random_params(config), batch)
    # The classifier's rate is the hidden states' unless it has its own.
    layer = [("attention", 0.5), ("attention", 0.4), ("mlp", 0.4)]
    layers = [(f"encoder/layer_{i}/{name}", rate) for i in range(2) for name, rate in layer]
    assert places == [("embeddings", 0.4), *layers, ("", 0.4)]
    drawn = [mask.ravel() != 0 for mask in masks]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            n = min(len(one), len(other))
            assert abs(np.corrcoef(one[:n], other[:n])[0, 1]) < 5 / np.sqrt(n)


def test_pytorch_with_the_same_masks_gives_the_same_logits(
    record: Callable[..., Recorded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So dropout is where Hugging Face has it: before the residual, after the softmax, ..."""
    config = dataclasses.replace(
        CONFIG, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3, classifier_dropout=0.4
    )
    model = torch_model(config)
    model.set_attn_implementation("eager")  # the one that calls `dropout` on the weights
    model.save_pretrained(tmp_path)
    params, _ = huggingface.load(tmp_path, config, TAGS, jax.random.key(0))
    batch = one_per_row(random_sentences((9, 4, 1)), 9)
    places, masks, ours = record(config, params, inputs(batch))

    import torch

    rates = []

    def dropout(x: Any, p: float, training: bool, inplace: bool = False) -> Any:
        assert training
        rates.append(p)
        return x * torch.tensor(masks[len(rates) - 1]).reshape(x.shape)

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    theirs = torch_logits(model.train(), batch).detach()
    assert rates == [rate for _, rate in places]
    np.testing.assert_allclose(at_pieces(ours, batch), at_pieces(theirs, batch), rtol=0, atol=ATOL)


# --- bfloat16 ----------------------------------------------------------------------------------


def test_bfloat16_is_close_and_returns_float32(batch: Any) -> None:
    params = random_params(CONFIG)
    exact = np.asarray(apply(CONFIG, params, *batch))
    logits = apply(CONFIG, params, *batch, dtype="bfloat16")
    assert logits.dtype == jnp.float32
    # bfloat16 has 8 bits: a relative error of 0.4 % per rounding, a few dozen of them in a row.
    difference = np.abs(logits - exact)[batch[2] > 0]
    assert 1e-3 < difference.max() < 0.05 * np.abs(exact).max()


def test_bfloat16_computes_in_bfloat16_with_float32_gradients(batch: Any) -> None:
    model = bert.Bert(CONFIG, jnp.dtype("bfloat16"))
    _, state = jax.eval_shape(
        lambda params: model.apply(
            {"params": params}, *batch, False, capture_intermediates=True, mutable=["intermediates"]
        ),
        shapes(CONFIG),
    )
    # Each module's results are in a tuple, for it might be called again.
    found = jax.tree.map(lambda x: x[0], state["intermediates"], is_leaf=lambda x: type(x) is tuple)
    kinds = {name: x.dtype for name, x in paths(found).items()}
    full = {name for name, dtype in kinds.items() if dtype == jnp.dtype("float32")}
    tables = {"embeddings/word/__call__", "embeddings/position/__call__"}
    assert full == {"__call__", *tables}
    assert set(kinds.values()) == {jnp.dtype("float32"), jnp.dtype("bfloat16")}

    def loss(params: bert.Params) -> jax.Array:
        return bert.apply(CONFIG, params, *batch, dtype="bfloat16").sum()

    gradients = jax.eval_shape(jax.grad(loss), shapes(CONFIG))
    assert {x.dtype for x in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_bfloat16_adds_up_the_gradients_of_embeddings_in_float32() -> None:
    # A bfloat16 that something small is added to again and again stops growing at 256 times that:
    # its next neighbour is twice as far away.
    params = random_params(CONFIG)
    shape = (64, 128)
    tokens = jnp.full(shape, 7)
    positions = jnp.broadcast_to(jnp.arange(128) % 2, shape)
    segments = jnp.broadcast_to(1 + jnp.arange(128) // 2, shape)

    def gradient(dtype: str) -> dict[str, Any]:
        def loss(params: bert.Params) -> jax.Array:
            return apply(CONFIG, params, tokens, positions, segments, dtype=dtype)[..., 0].sum()

        return paths(jax.grad(loss)(params)["embeddings"])

    exact, found = gradient("float32"), gradient("bfloat16")
    for name in ("word/embedding", "position/embedding", "token_type/embedding"):
        error = np.linalg.norm(found[name] - exact[name]) / np.linalg.norm(exact[name])
        assert error < 0.05, name


def test_bfloat16_keeps_the_gradient_of_attention_where_values_are_alike() -> None:
    """A part that all values of a row share has no effect on queries and keys, nor noise of it."""
    attention = bert.Attention(CONFIG, jnp.dtype("float32"))
    rng = np.random.default_rng(0)
    x, direction = (jnp.float32(rng.normal(size=(8 * 16, 24))) for _ in range(2))
    same = jnp.ones((8, 16, 16), bool)
    params = random_params(CONFIG)["encoder"]["layer_0"]["attention"]
    params["value"]["bias"] = params["value"]["bias"] + 50.0

    def gradient(dtype: str) -> dict[str, Any]:
        own = attention.clone(dtype=jnp.dtype(dtype))

        def along(params: bert.Params) -> Any:
            out = own.apply({"params": params}, x.astype(dtype), same, False)
            return (out.astype(jnp.float32) * direction).sum()  # type: ignore[union-attr]

        return paths(jax.grad(along)(params))

    exact, found = gradient("float32"), gradient("bfloat16")
    for name in ("query/kernel", "key/kernel"):
        error = np.linalg.norm(found[name] - exact[name]) / np.linalg.norm(exact[name])
        assert error < 0.1, name


# --- parameters --------------------------------------------------------------------------------


def documented_shapes(c: bert.BertConfig) -> dict[str, tuple[int, ...]]:
    h, m = c.hidden_size, c.intermediate_size
    norm = {"scale": (h,), "bias": (h,)}
    square = {"kernel": (h, h), "bias": (h,)}
    layer = {
        **{f"attention/{name}": square for name in ("query", "key", "value", "output")},
        "attention/norm": norm,
        "mlp/intermediate": {"kernel": (h, m), "bias": (m,)},
        "mlp/output": {"kernel": (m, h), "bias": (h,)},
        "mlp/norm": norm,
    }
    modules = {
        "embeddings/word": {"embedding": (c.vocab_size, h)},
        "embeddings/position": {"embedding": (c.max_position_embeddings, h)},
        "embeddings/token_type": {"embedding": (c.type_vocab_size, h)},
        "embeddings/norm": norm,
        "classifier": {"kernel": (h, c.num_labels), "bias": (c.num_labels,)},
        **{
            f"encoder/layer_{i}/{name}": leaves
            for i in range(c.num_hidden_layers)
            for name, leaves in layer.items()
        },
    }
    return {f"{name}/{leaf}": x for name, leaves in modules.items() for leaf, x in leaves.items()}


def test_paths_and_shapes_are_the_documented_ones() -> None:
    config = dataclasses.replace(CONFIG, num_hidden_layers=11)  # layer_10 is not layer_1
    assert {path: x.shape for path, x in paths(shapes(config)).items()} == documented_shapes(config)


def test_parameters_are_plain_nested_dicts_of_float32() -> None:
    def check(node: Any) -> None:
        if isinstance(node, jax.ShapeDtypeStruct):
            assert node.dtype == jnp.float32
            return
        assert type(node) is dict
        for key, below in node.items():
            assert type(key) is str
            assert "/" not in key
            check(below)

    check(shapes(CONFIG))


def test_initial_values() -> None:
    config = dataclasses.replace(CONFIG, initializer_range=0.05)
    params = paths(bert.init(config, jax.random.key(0)))
    drawn = {path: np.asarray(x) for path, x in params.items() if x.ndim == 2}
    for path, x in params.items():
        if x.ndim == 1:
            np.testing.assert_array_equal(x, 1.0 if path.endswith("scale") else 0.0)
    for path, x in drawn.items():
        assert abs(x.mean()) < 5 * 0.05 / np.sqrt(x.size), path
        assert abs(x.std() / 0.05 - 1) < 5 / np.sqrt(2 * x.size), path
    assert len({x.tobytes() for x in drawn.values()}) == len(drawn)  # no key is used twice
    again = paths(bert.init(config, jax.random.key(0)))
    other = paths(bert.init(config, jax.random.key(1)))
    for path, x in drawn.items():
        np.testing.assert_array_equal(x, again[path])
        assert (x != other[path]).all(), path


# --- config.json -------------------------------------------------------------------------------


def test_fields_are_read_and_others_ignored() -> None:
    raw = {"model_type": "bert", "hidden_size": 24, "num_attention_heads": 3, "use_cache": True,
           "num_labels": 99, "pad_token_id": None, "classifier_dropout": 0, "pruned_heads": {},
           "position_embedding_type": "absolute", "is_decoder": False}  # fmt: skip
    config = bert.BertConfig.from_dict(raw, num_labels=7)
    assert config == bert.BertConfig(
        hidden_size=24, num_attention_heads=3, num_labels=7, pad_token_id=None, classifier_dropout=0
    )


def test_defaults_are_those_of_transformers() -> None:
    import transformers

    theirs = transformers.BertConfig()
    ours = {field.name for field in dataclasses.fields(bert.BertConfig)} - {"kept_attention_heads"}
    for name in ours:
        assert getattr(bert.BertConfig(), name) == getattr(theirs, name), name
    raw = json.loads(theirs.to_json_string(use_diff=False))
    assert bert.BertConfig.from_dict(raw, theirs.num_labels) == bert.BertConfig()
    assert bert.BertConfig.from_dict({}, 2) == bert.BertConfig()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("pruned_heads", {"0": [1]}),
        ("model_type", "roberta"),
        ("hidden_act", "mish"),
        ("hidden_act", ["gelu"]),
        ("hidden_size", "384"),
        ("hidden_size", 385),
        ("hidden_size", 384.0),
        ("hidden_size", None),
        ("num_hidden_layers", True),
        ("num_attention_heads", 0),
        ("intermediate_size", -1),
        ("vocab_size", [30522]),
        ("max_position_embeddings", "512"),
        ("type_vocab_size", 0),
        ("layer_norm_eps", "1e-12"),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", float("nan")),
        ("initializer_range", -0.02),
        ("hidden_dropout_prob", 1.0),
        ("hidden_dropout_prob", None),
        ("attention_probs_dropout_prob", -0.1),
        ("classifier_dropout", "0.1"),
        ("pad_token_id", -1),
        ("pad_token_id", "0"),
    ],
)
def test_what_the_model_cannot_compute_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        bert.BertConfig.from_dict({field: value}, num_labels=7)
    message = str(caught.value)
    assert message.startswith(f"config.json: {field} ")
    assert str(value) in message
    assert "\n" not in message


def test_the_message_says_what_is_possible() -> None:
    with pytest.raises(UserError, match="not one of gelu, gelu_new, .*relu, silu"):
        bert.BertConfig.from_dict({"hidden_act": "mish"}, num_labels=7)
    with pytest.raises(UserError, match="hidden_size 385 .* num_attention_heads 12"):
        bert.BertConfig.from_dict({"hidden_size": 385}, num_labels=7)
