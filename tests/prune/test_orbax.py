"""A state saved by Orbax is the same to the bit, and training goes on as if nothing had been."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from sparsejax import prune

RULES = [("kernel", True), ("bias", False)]
SCHEDULE = prune.cubic(0.75, begin=1, end=8)


def magnitude() -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-2), prune.magnitude(SCHEDULE, RULES)
    )


def movement() -> optax.GradientTransformation:
    tx = prune.movement(optax.adamw(1e-2), optax.adam(0.1), SCHEDULE, RULES)
    return optax.chain(optax.clip_by_global_norm(1.0), tx)


def random() -> optax.GradientTransformation:
    tx = prune.random(SCHEDULE, RULES, key=jax.random.key(0), pattern=prune.Blocks(2, 2))
    return optax.chain(optax.sgd(1e-2), tx)


@pytest.mark.parametrize("method", [magnitude, movement, random])
def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_been(
    tmp_path: Path, method: Any
) -> None:
    tx = method()

    @jax.jit
    def step(params: Any, state: Any, seed: int) -> Any:
        keys = iter(jax.random.split(jax.random.key(seed), 2))
        grads = jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape), params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params: Any = {"kernel": jnp.linspace(-1.0, 1.0, 64).reshape(8, 8), "bias": jnp.ones(8)}
    state = tx.init(params)
    for seed in range(4):
        params, state = step(params, state, seed)

    saved = {"params": params, "opt_state": state}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", saved)
        checkpointer.wait_until_finished()
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), saved)
        restored = checkpointer.restore(tmp_path / "checkpoint", wanted)
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    jax.tree.map(same_bits, restored, saved)

    other = (restored["params"], restored["opt_state"])
    for seed in range(4, 12):
        params, state = step(params, state, seed)
        other = step(*other, seed)
    jax.tree.map(same_bits, other, (params, state))
    assert prune.audit(*other).targets.sparsity == 0.75


def same_bits(a: jax.Array, b: jax.Array) -> None:
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
