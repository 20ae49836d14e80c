"""Any pytree of parameters can be pruned: Flax NNX and plain JAX, shown as one would write it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sparsejax import prune

SCHEDULE = prune.cubic(0.75, begin=20, end=80, interval=5)
STEPS = 100


def data() -> tuple[jax.Array, jax.Array]:
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(np.stack([x[:, 0] * x[:, 1], x[:, 2] + x[:, 3]], -1))


class MLP(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear1 = nnx.Linear(8, 32, rngs=rngs)
        self.linear2 = nnx.Linear(32, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear2(nnx.relu(self.linear1(x)))


def error(model: MLP) -> jax.Array:
    x, y = data()
    return jnp.mean((model(x) - y) ** 2)


KERNELS = prune.ALL_KERNELS


def test_the_paths_of_nnx() -> None:
    masks = prune.masks_of(
        prune.magnitude(SCHEDULE, KERNELS).init(nnx.state(MLP(nnx.Rngs(0)), nnx.Param))
    )
    assert set(masks) == {"linear1/kernel/value", "linear2/kernel/value"}


def test_nnx_with_its_own_optimizer() -> None:
    model = MLP(nnx.Rngs(0))
    tx = optax.chain(optax.adam(1e-2), prune.magnitude(SCHEDULE, KERNELS))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model: MLP, optimizer: nnx.Optimizer) -> None:
        optimizer.update(model, nnx.grad(error)(model))

    before = error(model)
    for _ in range(STEPS):
        step(model, optimizer)
    assert error(model) < before / 2

    report = prune.audit(nnx.state(model, nnx.Param), optimizer.opt_state)
    prune.check(report, SCHEDULE)
    assert report.targets.sparsity == 0.75
    assert int(jnp.sum(model.linear1.kernel[...] == 0)) == 192


def test_nnx_with_a_latent_method() -> None:
    graph, params = nnx.split(MLP(nnx.Rngs(0)), nnx.Param)
    tx = prune.movement(optax.adam(1e-2), optax.adam(3e-2), SCHEDULE, KERNELS)
    state = tx.init(params)

    @jax.jit
    def step(params: nnx.State, state: Any) -> Any:
        grads = jax.grad(lambda params: error(nnx.merge(graph, params)))(
            prune.effective_params(params, state)
        )
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    before = error(nnx.merge(graph, params))
    for _ in range(STEPS):
        params, state = step(params, state)
    sparse = nnx.merge(graph, prune.effective_params(params, state))
    assert error(sparse) < before / 2

    prune.check(prune.audit(params, state), SCHEDULE)
    assert int(jnp.sum(sparse.linear1.kernel[...] == 0)) == 192


def test_plain_jax() -> None:
    x, y = data()
    keys = jax.random.split(jax.random.key(0), 2)
    params: Any = [
        {"w": jax.random.normal(key, shape) / 3, "b": jnp.zeros(shape[-1])}
        for key, shape in zip(keys, ((8, 32), (32, 2)), strict=True)
    ]

    def loss(params: Any) -> jax.Array:
        hidden = jax.nn.relu(x @ params[0]["w"] + params[0]["b"])
        return jnp.mean((hidden @ params[1]["w"] + params[1]["b"] - y) ** 2)

    rules = [("0/w", True), ("1/w", 0.5), ("./b", False)]
    tx = optax.chain(optax.adam(1e-2), prune.magnitude(SCHEDULE, rules))
    state = tx.init(params)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    before = loss(params)
    for _ in range(STEPS):
        params, state = step(params, state)
    assert loss(params) < before / 2

    report = prune.audit(params, state)
    prune.check(report, SCHEDULE, rules)
    assert {name: count.sparsity for name, count in report.leaves.items()} == {
        "0/w": 0.75,
        "1/w": 0.5,
    }
