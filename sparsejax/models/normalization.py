"""Layer normalisation that keeps little for its gradient."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


class LayerNorm(nn.Module):
    """Of the last axis, with a scale and a bias of float32, computed in float32.

    Reference: Ba, Kiros and Hinton 2016, "Layer Normalization", equation 4.
    """

    epsilon: float
    dtype: jnp.dtype  # of what comes out

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        return layer_norm(self.epsilon, self.dtype, x, scale, bias)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def layer_norm(
    epsilon: float, dtype: jnp.dtype, x: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """What is kept for the gradient is x, and its mean and inverse deviation in each place.

    Left to JAX, several arrays of the size of x would be kept, in float32.

    Args:
      epsilon: added to the variance.
      dtype: of the result.
      x: [..., width].
      scale, bias: float32 [width].
    """
    return _forward(epsilon, dtype, x, scale, bias)[0]


def _forward(
    epsilon: float, dtype: jnp.dtype, x: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, Residuals]:
    mean = x.mean(-1, keepdims=True, dtype=jnp.float32)
    centred = x - mean
    # Of the centred values: E[x^2] - E[x]^2 loses the digits that parity with PyTorch needs.
    inverse = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    return (centred * (inverse * scale) + bias).astype(dtype), (x, mean, inverse, scale)


def _backward(
    epsilon: float, dtype: jnp.dtype, kept: Residuals, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, inverse, scale = kept
    normal, wide = (x - mean) * inverse, gradient.astype(jnp.float32)
    places = tuple(range(x.ndim - 1))
    scaled = wide * scale
    along = jnp.mean(scaled * normal, -1, keepdims=True)
    change = inverse * (scaled - scaled.mean(-1, keepdims=True) - normal * along)
    return change.astype(x.dtype), (wide * normal).sum(places), wide.sum(places)


layer_norm.defvjp(_forward, _backward)
