"""Masks do not depend on how arrays are laid out over devices, to the bit."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

# On eight devices that XLA makes of one CPU; a process cannot change their number afterwards.
SCRIPT = """
import hashlib, json
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sparsejax import prune

jax.config.update("jax_cpu_enable_async_dispatch", False)
assert len(jax.devices()) == 8
RULES, STEPS = [(".*/kernel", True), (".*", False)], 8
SHAPES = {"a": {"kernel": (16, 24), "bias": (24,)}, "b": {"kernel": (24, 8), "bias": (8,)}}

def normal(seed, steps=()):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda shape: rng.normal(size=(*steps, *shape)).astype(np.float32),
                        SHAPES, is_leaf=lambda x: isinstance(x, tuple))

PATTERNS = {"weights": None, "blocks": prune.Blocks(4, 2), "2:4": prune.NofM(2, 4)}
rate = 2.0**-6
sgd, adam = optax.sgd(rate), optax.adam(0.05)

def method(name, scope, pattern):
    schedule = prune.cubic(0.5, begin=1, end=6, interval=2)
    options = dict(scope=scope, pattern=pattern)
    if name == "magnitude":
        return optax.chain(sgd, prune.magnitude(schedule, RULES, **options))
    if name == "random":
        return optax.chain(sgd, prune.random(schedule, RULES, key=jax.random.key(0), **options))
    if name == "latent_magnitude":
        return prune.latent_magnitude(sgd, schedule, RULES, **options)
    if name == "movement":
        return prune.movement(sgd, adam, schedule, RULES, **options)
    threshold = prune.cubic(0.45, begin=1, end=6, interval=2)
    return prune.soft_movement(sgd, adam, threshold, RULES, penalty=1.0, pattern=pattern)

def layouts():  # what is left out, fewer devices and replicated on 8, held too but takes long
    for layout, n in (("replicated", 1), ("rows", 8), ("columns", 8)):
        axes = {"replicated": (), "rows": ("x",), "columns": (None, "x")}[layout]
        yield f"{layout} on {n}", Mesh(np.array(jax.devices()[:n]), ("x",)), PartitionSpec(*axes)

def put(tree, mesh, spec, steps=()):
    def one(x):
        own = spec if x.ndim - len(steps) == 2 else PartitionSpec()
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*steps, *own)))
    return jax.tree.map(one, tree)

digests = {}
for name in ("magnitude", "random", "latent_magnitude", "movement", "soft_movement"):
    for scope in ("tensor", "global"):
        for label, pattern in PATTERNS.items():
            if scope == "global" and (name == "soft_movement" or label == "2:4"):
                continue
            if scope == "global" and label == "blocks" and name in ("random", "latent_magnitude"):
                continue  # only to save time
            if name == "soft_movement" and label == "2:4":
                continue
            tx = method(name, scope, pattern)

            @jax.jit
            def run(params, grads):
                def step(carry, grad):
                    params, state = carry
                    updates, state = tx.update(grad, state, params)
                    return (optax.apply_updates(params, updates), state), prune.masks_of(state)
                return jax.lax.scan(step, (params, tx.init(params)), grads)[1]

            for where, mesh, spec in layouts():
                grads = put(normal(1, (STEPS,)), mesh, spec, (None,))
                masks = run(put(normal(0), mesh, spec), grads)
                bits = b"".join(np.asarray(masks[path]).tobytes() for path in sorted(masks))
                digests.setdefault(f"{name} {scope} {label}", {})[where] = [
                    hashlib.sha256(bits).hexdigest(),
                    float(np.mean(np.frombuffer(bits, bool))),
                ]
print(json.dumps(digests))
"""


@pytest.fixture(scope="module")
def digests() -> Any:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


RANKED = [
    f"{method} {what}"
    for method in ("magnitude", "random", "latent_magnitude", "movement")
    for what in ("tensor weights", "tensor blocks", "tensor 2:4", "global weights")
] + ["magnitude global blocks", "movement global blocks"]


@pytest.mark.parametrize(
    "run", [*RANKED, "soft_movement tensor weights", "soft_movement tensor blocks"]
)
def test_masks_are_the_same_to_the_bit_however_arrays_are_sharded(digests: Any, run: str) -> None:
    assert len(digests[run]) == 3
    assert len({digest for digest, _ in digests[run].values()}) == 1, digests[run]
    assert 0.4 < digests[run]["replicated on 1"][1] < 1  # of all masks: something was pruned
