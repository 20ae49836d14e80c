"""A regression with two layers, on which the tests of movement pruning train."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsejax import prune

RULES = [(".*/kernel", True), (".*", False)]
KERNELS = ["a/kernel", "b/kernel"]
STEPS = 50


def initial(dtype: Any = jnp.float32) -> Any:
    rng = np.random.default_rng(0)
    shapes = {"a": {"kernel": (8, 12), "bias": (12,)}, "b": {"kernel": (12, 4), "bias": (4,)}}
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape) / 3, dtype),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def batches(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(STEPS, 32, 8)).astype(np.float32)
    y = np.stack([x[..., 0] * x[..., 1], x[..., 2], x[..., 3] - x[..., 4], x[..., 5] ** 2], -1)
    return x, y


def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    hidden = jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"])
    return jnp.mean((hidden @ params["b"]["kernel"] + params["b"]["bias"] - y) ** 2)


def train(tx: optax.GradientTransformationExtraArgs, params: Any) -> tuple[Any, Any, Any]:
    """Parameters and state after all steps, and the masks after each."""

    def step(carry: Any, batch: Any) -> Any:
        params, state = carry
        grads = jax.grad(loss)(prune.effective_params(params, state), *batch)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), prune.masks_of(state)

    (params, state), masks = jax.lax.scan(step, (params, tx.init(params)), batches())
    return params, state, masks
