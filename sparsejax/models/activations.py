"""What is between the two matrices of an MLP, by the names that Hugging Face gives it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution's share below x; what is kept for the gradient is x alone.

    Left to JAX, two more arrays of the size of x would be kept, for the widest layer of the model.

    Reference: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """
    # As PyTorch has it. Flax has erfc: more digits far below 0, and slower.
    wide = x.astype(jnp.float32)
    return (wide * _below(wide)).astype(x.dtype)


def _below(x: jax.Array) -> jax.Array:
    """The normal distribution's share below x; digits of less than 1e-6 are lost."""
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gelu(x), x


def _backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    wide = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * wide**2) / math.sqrt(2 * math.pi)
    return ((gradient * (_below(wide) + wide * density)).astype(x.dtype),)


gelu.defvjp(_forward, _backward)

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": functools.partial(nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(nn.gelu, approximate=True),
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
}
