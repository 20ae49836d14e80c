"""When to prune, and how much: sparsity as a function of the step.

Steps are counted from 0: the update call number ``t`` (0-based) is step ``t``.
"""

import dataclasses
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Number: TypeAlias = Any
"""A Python number, or an array scalar, which may be traced."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
    """Sparsity that rises fast at first and slowly near the end, and the steps that prune.

    With ``t`` the step, ``s_t = final + (initial - final) * (1 - (t - begin) / (end - begin))**3``
    between ``begin`` and ``end``, ``initial`` before and ``final`` after. Where ``begin`` is
    ``end`` this is pruning in one shot.

    Masks change on the steps for which :meth:`is_due` holds: every ``interval`` steps from
    ``begin`` on, and always on ``end``. Without that last update a run whose ``end`` is not
    ``begin`` plus a multiple of ``interval`` would stop short of the sparsity it was asked for.

    A schedule is a pytree, and any of its numbers may be traced: one compiled program serves all
    of them, and ``jax.vmap`` over ``final`` trains several sparsities at once. In an array of
    32 bits a sparsity is read as the number of six decimals that it stands for, if there is one, so
    that float32's 0.9, which is 0.89999998, keeps as many of 85 million weights as Python's.

    Attributes:
      final: the sparsity from ``end`` on, in [0, 1).
      begin: the first step that may change a mask.
      end: the step that reaches ``final``.
      interval: steps between two mask updates.
      initial: the sparsity at ``begin``.

    Raises:
      ValueError: if ``final`` or ``initial`` is outside [0, 1), ``initial`` is above ``final``,
        ``begin`` is negative, ``end`` comes before ``begin``, ``interval`` is less than 1, or a
        step is not a whole number. Of what is traced only the type is known and checked.

    References:
      Zhu and Gupta, `To prune, or not to prune <https://arxiv.org/abs/1710.01878>`_, 2017, eq. 1
    """

    final: Number
    begin: Number
    end: Number
    interval: Number = 1
    initial: Number = 0.0

    def __post_init__(self) -> None:
        known = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if is_known(getattr(self, field.name))
        }
        for name in ("final", "initial"):
            value = getattr(self, name)
            if isinstance(value, jax.Array) and value.dtype.itemsize < 4:
                raise ValueError(f"{name} must not be {value.dtype}, which has no 0.9")
            if name in known and not 0 <= known[name] < 1:  # also refuses NaN
                raise ValueError(f"{name} must be a sparsity in [0, 1), got {known[name]}")
        if {"final", "initial"} <= known.keys() and known["initial"] > known["final"]:
            raise ValueError(
                f"initial must not be above final={known['final']}, got {known['initial']}"
            )
        for name in ("begin", "end", "interval"):
            value = getattr(self, name)
            fractions = isinstance(value, jax.core.Tracer) and jnp.issubdtype(
                value.dtype, jnp.floating
            )
            if fractions or (name in known and value != int(value)):
                raise ValueError(f"{name} must be a whole number of steps, got {value}")
        if known.get("begin", 0) < 0:
            raise ValueError(f"begin must be at least 0, got {known['begin']}")
        if {"begin", "end"} <= known.keys() and known["end"] < known["begin"]:
            raise ValueError(f"end must not come before begin={known['begin']}, got {known['end']}")
        if known.get("interval", 1) < 1:
            raise ValueError(f"interval must be at least 1, got {known['interval']}")

    def is_due(self, step: Number) -> jax.Array:
        """Whether masks are brought up to date at ``step``: a boolean of the shape of ``step``."""
        step = jnp.asarray(step)
        on_grid = (step - self.begin) % self.interval == 0
        return (self.begin <= step) & (on_grid | (step == self.end))

    def sparsity(self, step: Number) -> jax.Array:
        """The sparsity ``s_t`` at ``step``, float32 in [0, 1), whether or not masks are due."""
        with jax.enable_x64(True):
            return self._exact(step).astype(jnp.float32)

    def kept(self, step: Number, n: int) -> jax.Array:
        """How many of ``n`` entries are kept at ``step``, an int32: ``round((1 - s_t) * n)``."""
        # float32 cannot count to 92 million. These are a few scalars, whatever the device.
        with jax.enable_x64(True):
            return jnp.round((1 - self._exact(step)) * n).astype(jnp.int32)

    def kept_finally(self, n: int) -> int:
        """How many of ``n`` entries are kept from ``end`` on, by Python's own arithmetic."""
        return round((1 - _as_python_float(self.final)) * n)

    def _exact(self, step: Number) -> jax.Array:
        """``s_t`` in float64; 64-bit types must be enabled."""
        # optax.polynomial_schedule is this curve for Python numbers, in float32.
        begin, end, step = (
            jnp.asarray(x).astype(jnp.float64) for x in (self.begin, self.end, step)
        )
        initial, final = _read(self.initial), _read(self.final)
        left = (end - step) / jnp.maximum(end - begin, 1)
        rising = jnp.where(step <= begin, initial, final + (initial - final) * left**3)
        return jnp.where(step >= end, final, rising)


def cubic(
    final: Number, begin: Number, end: Number, interval: Number = 1, initial: Number = 0.0
) -> Schedule:
    """Gradual pruning; see :class:`Schedule`, which this is."""
    return Schedule(final, begin, end, interval, initial)


def one_shot(final: Number, step: Number) -> Schedule:
    """No pruning before ``step``, and the whole of it at ``step``.

    Where masks may still change later (latent methods), they do so after every step.
    """
    return Schedule(final, step, step)


def constant(final: Number, interval: Number = 1) -> Schedule:
    """The same sparsity from the first step on."""
    return Schedule(final, 0, 0, interval)


def is_known(value: Any) -> bool:
    # While jax rebuilds a pytree, anything may stand where numbers belong.
    return isinstance(value, (int, float, np.generic)) or (
        isinstance(value, (np.ndarray, jax.Array))
        and not isinstance(value, jax.core.Tracer)
        and value.ndim == 0
    )


def _as_python_float(value: Number) -> float:
    if isinstance(value, (int, float)) or value.dtype.itemsize == 8:
        return float(value)
    decimal = round(float(value) * 1e6) / 1e6
    return decimal if np.asarray(decimal, value.dtype) == np.asarray(value) else float(value)


def _read(sparsity: Number) -> jax.Array:
    """A sparsity in float64, the one that was meant; 64-bit types must be enabled."""
    if isinstance(sparsity, (int, float)) or sparsity.dtype.itemsize == 8:
        return jnp.asarray(sparsity, jnp.float64)
    exact = jnp.asarray(sparsity).astype(jnp.float64)
    millionths = jnp.round(exact * 1e6)
    # XLA would turn a division by a constant into a product, which rounds otherwise than Python.
    decimal = millionths / jnp.where(millionths < 0, jnp.nan, 1e6)
    error = decimal.astype(sparsity.dtype).astype(jnp.float64) - exact
    return jnp.where(jnp.abs(error) > 0, exact, decimal)
