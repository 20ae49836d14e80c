"""Layer normalisation with a gradient of its own, against PyTorch in double precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsejax.models.normalization import layer_norm

EPSILON = 1e-3  # large enough to matter


def double(*arrays: jax.Array, gradient: jax.Array) -> list[np.ndarray]:
    """The result, and the gradients of x, scale and bias."""
    torch = pytest.importorskip("torch")
    x, scale, bias = (torch.tensor(np.asarray(a, np.float64), requires_grad=True) for a in arrays)
    y = torch.nn.functional.layer_norm(x, x.shape[-1:], scale, bias, EPSILON)
    y.backward(torch.tensor(np.asarray(gradient, np.float64)))
    return [y.detach().numpy(), *(t.grad.numpy() for t in (x, scale, bias))]


@pytest.mark.parametrize(
    ("taken", "given", "error"),
    [("float32", "float32", 1e-5), ("bfloat16", "bfloat16", 0.02), ("float32", "bfloat16", 0.01)],
)
def test_it_and_its_gradient(taken: str, given: str, error: float) -> None:
    rng = np.random.default_rng(0)
    # Far from zero, where E[x^2] - E[x]^2 loses what is looked for, and nearly constant.
    centre, spread = (30.0, 0.1) if taken == "float32" else (1.0, 1.0)
    x = jnp.asarray(rng.normal(centre, spread, (3, 5, 48)), taken)
    scale, bias = (jnp.float32(rng.normal(size=48)) for _ in range(2))
    gradient = jnp.asarray(rng.normal(size=x.shape), given)
    wanted = double(x, scale, bias, gradient=gradient)

    def norm(*arrays: jax.Array) -> jax.Array:
        return layer_norm(EPSILON, jnp.dtype(given), *arrays)

    y, backward = jax.vjp(norm, x, scale, bias)
    found = [y, *backward(gradient)]
    assert [str(a.dtype) for a in found] == [given, taken, "float32", "float32"]
    for one, other in zip(found, wanted, strict=True):
        size = np.abs(other).max()
        np.testing.assert_allclose(np.asarray(one, np.float64), other, atol=5 * error * size)


def test_little_is_kept_for_the_gradient() -> None:
    x = jax.ShapeDtypeStruct((16, 128, 64), jnp.bfloat16)
    vector = jax.ShapeDtypeStruct((64,), jnp.float32)

    def kept(*arrays: jax.Array) -> object:
        return jax.vjp(lambda *a: layer_norm(1e-12, jnp.dtype("bfloat16"), *a), *arrays)[1]

    leaves = jax.tree.leaves(jax.eval_shape(kept, x, vector, vector))
    # x, and per place the mean and the rate; the scale.
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) == 16 * 128 * (64 * 2 + 8) + 256
