"""Attention within segments, and its gradient.

Reference: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

Residuals = tuple[jax.Array, ...]
# Of float32, where accelerators would round what they multiply to fewer digits: two terms of the
# gradient cancel out that would be rounded apart.
_einsum = partial(jnp.einsum, precision="highest")


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    visible: jax.Array,
    kept: jax.Array | None,
    rate: float,
) -> jax.Array:
    """The mean of the values, weighted by the softmax, in float32, of queries times keys.

    Args:
      query: [rows, heads, length, width], scaled already; float32 or bfloat16.
      key, value: of the same shape and type.
      visible: bool, broadcasts to [rows, heads, length, length]: which query sees which key. A
        query that sees none (padding) gets the mean of all values.
      kept: bool [rows, heads, length, length], which weights dropout spares; None: all of them.
      rate: the share that dropout removes, a number in [0, 1); not used where `kept` is None.

    Returns:
      [rows, heads, length, width], of the type of the query.
    """
    if query.dtype == jnp.float32:
        return _attend(0.0 if kept is None else rate, query, key, value, visible, kept)
    # The gradient is left to JAX, which keeps the softmax in float32. Weights that are rounded to
    # bfloat16 do not add up to 1, and the gradient made of them is wrong where values are alike.
    weights = _exponentials(query, key, visible)
    weights = (weights / weights.sum(axis=-1, keepdims=True)).astype(query.dtype)
    if kept is not None:
        weights = jnp.where(kept, weights / (1 - rate), 0)
    return jnp.einsum("rhqk,rhkd->rhqd", weights, value)


def _exponentials(query: jax.Array, key: jax.Array, visible: jax.Array) -> jax.Array:
    """The softmax before it is divided by its sum, float32, 1 at the most."""
    scores = jnp.einsum("rhqd,rhkd->rhqk", query, key)
    # A finite number: a row of padding has no segment to look at and must not become NaN.
    scores = jnp.where(visible, scores.astype(jnp.float32), -1e30)
    return jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    rate: float,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    visible: jax.Array,
    kept: jax.Array | None,
) -> jax.Array:
    """In float32. Of the arrays that are [length, length] for each head one is kept.

    The others are not needed: the sum in the gradient of a softmax, of each weight times its
    gradient, is that of each result times its gradient, with dropout and without (Dao et al. 2022,
    "FlashAttention", appendix B.2), and a weight that dropout removes is kept with the other sign.
    """
    return _forward(rate, query, key, value, visible, kept)[0]


def _forward(
    rate: float,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    visible: jax.Array,
    kept: jax.Array | None,
) -> tuple[jax.Array, Residuals]:
    weights = _exponentials(query, key, visible)
    total = weights.sum(axis=-1, keepdims=True)
    signed = weights if kept is None else jnp.where(kept, weights, -weights)
    # What is divided by the sum is the mixed values: they are fewer than the weights where rows are
    # longer than heads are wide.
    scale = 1 / ((1 - rate) * total)
    mixed = _einsum("rhqk,rhkd->rhqd", jnp.maximum(signed, 0), value) * scale
    return mixed, (query, key, value, visible, signed, total, mixed)


def _backward(
    rate: float, residuals: Residuals, gradient: jax.Array
) -> tuple[jax.Array | None, ...]:
    query, key, value, visible, signed, total, mixed = residuals
    scaled = gradient * (1 / ((1 - rate) * total))
    # If a weight is not a number, neither is the total, so that no maximum below can hide it.
    along = (gradient * mixed).sum(axis=-1, keepdims=True) / total
    spared = jnp.maximum(signed, 0)
    change = spared * _einsum("rhqd,rhkd->rhqk", scaled, value) - jnp.abs(signed) * along
    change = jnp.where(visible, change, 0)
    # As [width, length], so that the compiler transposes query and gradient, which are smaller.
    of_key = _einsum("rhqd,rhqk->rhdk", query, change)
    of_value = _einsum("rhqd,rhqk->rhdk", scaled, spared)
    of_query = _einsum("rhqk,rhkd->rhqd", change, key)
    return of_query, jnp.swapaxes(of_key, 2, 3), jnp.swapaxes(of_value, 2, 3), None, None


_attend.defvjp(_forward, _backward)
