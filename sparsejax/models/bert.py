"""BERT for token classification: the only file that knows Flax modules.

Everything else sees two functions, `init` and `apply`, and parameters that are plain nested dicts
with readable paths (`encoder/layer_3/attention/query/kernel`, kernels as [in, out]).

Reference: Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers", section 3;
layer order, activation and epsilon follow Hugging Face's `BertForTokenClassification`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Sharding

from sparsejax.errors import UserError
from sparsejax.models import random_bits
from sparsejax.models.activations import ACTIVATIONS
from sparsejax.models.attention import attend
from sparsejax.models.normalization import LayerNorm

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The fields of Hugging Face's `config.json` that change what the model computes.

    Defaults are Hugging Face's own, so that a field left out of `config.json` means the same here.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None  # None: hidden_dropout_prob
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    num_labels: int = 2
    # This package's own (`models.cutting`): heads that are there, each still of the width
    # hidden_size / num_attention_heads; None: all of them.
    kept_attention_heads: int | None = None

    @property
    def head_width(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def heads(self) -> int:
        """How many each layer has."""
        return self.kept_attention_heads or self.num_attention_heads

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], num_labels: int) -> BertConfig:
        """Reads a `config.json`; what this model cannot compute is refused by name."""
        unsupported = {
            "model_type": "bert",
            "position_embedding_type": "absolute",
            "is_decoder": False,
            "add_cross_attention": False,
            "pruned_heads": {},
        }
        for name, supported in unsupported.items():
            if raw.get(name, supported) != supported:
                raise UserError(
                    f"config.json: {name} {raw[name]!r} is not supported, only {supported!r}"
                )
        fields = {f.name for f in dataclasses.fields(cls)} - {"num_labels"}
        values = {name: value for name, value in raw.items() if name in fields}
        for names, fits, what in _FIELDS:
            for name in names.split():
                if name in values and not fits(values[name]):
                    raise UserError(f"config.json: {name} {values[name]!r} is not {what}")
        config = cls(num_labels=num_labels, **values)
        if config.hidden_size % config.num_attention_heads:
            raise UserError(
                f"config.json: hidden_size {config.hidden_size} is not a multiple of "
                f"num_attention_heads {config.num_attention_heads}"
            )
        if config.heads > config.num_attention_heads:
            raise UserError(
                f"config.json: kept_attention_heads {config.heads} is more than "
                f"num_attention_heads {config.num_attention_heads}"
            )
        return config


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# The fields of `config.json`, the values each may have, the same in words.
_FIELDS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
        "max_position_embeddings type_vocab_size",
        lambda value: type(value) is int and value > 0,  # not isinstance: True is an int
        "a whole number above 0",
    ),
    (
        "kept_attention_heads",
        lambda value: value is None or (type(value) is int and value > 0),
        "a whole number above 0, or null",
    ),
    (
        "pad_token_id",
        lambda value: value is None or (type(value) is int and value >= 0),
        "a whole number from 0, or null",
    ),
    (
        "hidden_dropout_prob attention_probs_dropout_prob",
        lambda value: _is_number(value) and 0 <= value < 1,
        "a number in [0, 1)",
    ),
    (
        "classifier_dropout",
        lambda value: value is None or (_is_number(value) and 0 <= value < 1),
        "a number in [0, 1), or null",
    ),
    (
        "layer_norm_eps initializer_range",
        lambda value: _is_number(value) and 0 < value < 1,
        "a number in (0, 1)",
    ),
    (
        "hidden_act",
        lambda value: isinstance(value, str) and value in ACTIVATIONS,
        f"one of {', '.join(ACTIVATIONS)}",
    ),
)


class _Layers:
    """The building blocks of one configuration, so that no module repeats its settings."""

    def __init__(self, config: BertConfig, dtype: jnp.dtype) -> None:
        normal = nn.initializers.normal(config.initializer_range)
        self.dense = functools.partial(nn.Dense, dtype=dtype, kernel_init=normal)
        self.embed = functools.partial(nn.Embed, dtype=jnp.float32, embedding_init=normal)
        self.norm = functools.partial(LayerNorm, config.layer_norm_eps, dtype)


class Embeddings(nn.Module):
    config: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, tokens: jax.Array, positions: jax.Array, train: bool) -> jax.Array:
        c, new = self.config, _Layers(self.config, self.dtype)
        # In float32, as the tables are, so that their gradients are added up in it: [CLS] is in
        # every sentence, and sums of many numbers stop growing in bfloat16.
        x = new.embed(c.vocab_size, c.hidden_size, name="word")(tokens)
        x += new.embed(c.max_position_embeddings, c.hidden_size, name="position")(positions)
        # All sentences are of the first type; others have no gradient and only decay. Looked up for
        # each token, it would be added to from everywhere at once in the backward pass, and a GPU
        # does that one after the other.
        x += new.embed(c.type_vocab_size, c.hidden_size, name="token_type").embedding[0]
        return _dropout(self, c.hidden_dropout_prob, new.norm(name="norm")(x), train)


class Attention(nn.Module):
    """Here and below, x is [rows * length, hidden_size], same_segment [rows, length, length]."""

    config: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, same_segment: jax.Array, train: bool) -> jax.Array:
        c, new = self.config, _Layers(self.config, self.dtype)
        heads, width = c.heads, c.head_width
        rows, length, _ = same_segment.shape

        def split(name: str) -> jax.Array:
            by_head = new.dense(heads * width, name=name)(x).reshape(rows, length, heads, width)
            return jnp.swapaxes(by_head, 1, 2)

        query, key, value = split("query"), split("key"), split("value")
        rate = c.attention_probs_dropout_prob
        kept = _kept(self, rate, (rows, heads, length, length), train)
        visible = same_segment[:, None]
        mixed = attend(query * width**-0.5, key, value, visible, kept, rate)
        mixed = jnp.swapaxes(mixed, 1, 2).reshape(rows * length, heads * width)
        out = new.dense(c.hidden_size, name="output")(mixed)
        return new.norm(name="norm")(x + _dropout(self, c.hidden_dropout_prob, out, train))


class Mlp(nn.Module):
    config: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        c, new = self.config, _Layers(self.config, self.dtype)
        hidden = ACTIVATIONS[c.hidden_act](new.dense(c.intermediate_size, name="intermediate")(x))
        out = new.dense(c.hidden_size, name="output")(hidden)
        return new.norm(name="norm")(x + _dropout(self, c.hidden_dropout_prob, out, train))


class Layer(nn.Module):
    config: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, same_segment: jax.Array, train: bool) -> jax.Array:
        x = Attention(self.config, self.dtype, name="attention")(x, same_segment, train)
        return Mlp(self.config, self.dtype, name="mlp")(x, train)


class Encoder(nn.Module):
    config: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, same_segment: jax.Array, train: bool) -> jax.Array:
        for i in range(self.config.num_hidden_layers):
            x = Layer(self.config, self.dtype, name=f"layer_{i}")(x, same_segment, train)
        return x


class Bert(nn.Module):
    config: BertConfig
    dtype: jnp.dtype
    rows: Sharding | None = None

    @nn.compact
    def __call__(
        self, tokens: jax.Array, positions: jax.Array, segments: jax.Array, train: bool
    ) -> jax.Array:
        c, new = self.config, _Layers(self.config, self.dtype)
        same_segment = (segments[:, :, None] == segments[:, None, :]) & (segments[:, None, :] > 0)
        x = Embeddings(c, self.dtype, name="embeddings")(tokens, positions, train)
        if self.rows is not None:
            # Else what is looked up in embeddings that devices divide among themselves stays
            # divided in that way, and with it all that follows.
            x = jax.lax.with_sharding_constraint(x, self.rows)
        # One axis for all places. With two, each matrix product reshapes what it is given, and XLA
        # on a CPU computes that again for each of them.
        x = x.reshape(-1, c.hidden_size)
        x = Encoder(c, self.dtype, name="encoder")(x, same_segment, train)
        rate = c.hidden_dropout_prob if c.classifier_dropout is None else c.classifier_dropout
        logits = new.dense(c.num_labels, name="classifier")(_dropout(self, rate, x, train))
        return logits.astype(jnp.float32).reshape(*tokens.shape, c.num_labels)


@functools.partial(jax.jit, static_argnums=0)  # by themselves, its parts are some sixty programs
def init(config: BertConfig, key: jax.Array) -> Params:
    """Random float32 parameters, as BERT draws them: normal(0, initializer_range), zero biases."""
    row = jnp.zeros((1, 1), jnp.int32)
    model = Bert(config, jnp.dtype("float32"))
    return model.init(key, row, row, row, train=False)["params"]


@functools.cache
def shapes(config: BertConfig) -> Params:
    """The parameters that `init` would give, as shapes only."""
    return jax.eval_shape(lambda: init(config, jax.random.key(0)))


def apply(
    config: BertConfig,
    params: Params,
    tokens: jax.Array,
    positions: jax.Array,
    segments: jax.Array,
    *,
    dtype: str = "float32",
    dropout_key: jax.Array | None = None,
    rows: Sharding | None = None,
) -> jax.Array:
    """Logits float32 [rows, length, num_labels] of packed rows.

    Args:
      config: the model's shape.
      params: what `init` or a checkpoint gave.
      tokens, positions, segments: int32 [rows, length]. Attention sees only positions of the same
        segment; segment 0 is padding (its logits mean nothing). Positions restart per sentence.
      dtype: of the computation, float32 or bfloat16; softmax is float32 in both, and the
        logits, computed in dtype, are returned as float32.
      dropout_key: with a key, dropout is on (training); without, off.
      rows: how devices divide the rows among themselves; None: as JAX finds best.
    """
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    model = Bert(config, jnp.dtype(dtype), rows)
    train = dropout_key is not None
    logits: jax.Array = model.apply(
        {"params": params}, tokens, positions, segments, train, rngs=rngs
    )  # type: ignore[assignment]  # a tuple only with mutable collections, and there are none
    return logits


def _kept(module: nn.Module, rate: float, shape: tuple[int, ...], train: bool) -> jax.Array | None:
    """Which values dropout spares, from 16 random bits for each; None: all."""
    if not train or rate == 0.0:
        return None
    return random_bits.bits(module.make_rng("dropout"), shape) >= round(rate * 2**16)


def _dropout(module: nn.Module, rate: float, x: jax.Array, train: bool) -> jax.Array:
    """x with some values at zero and the others larger, by `_kept`."""
    kept = _kept(module, rate, x.shape, train)
    return x if kept is None else jnp.where(kept, x / (1.0 - rate), 0)
