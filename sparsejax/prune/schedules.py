"""When to prune, and how much: sparsity as a function of the step.

Steps are counted from 0: the update call number ``t`` (0-based) is step ``t``.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Sparsity over the steps of a run.

    Masks change on the steps for which :meth:`is_due` holds: every ``interval`` steps from
    ``begin`` on, and always on ``end``. Without that last update a run whose ``end`` is not
    ``begin`` plus a multiple of ``interval`` would stop short of the sparsity it was asked for.

    Attributes:
      sparsity: step -> the fraction of each target that is zero, in [0, 1), never falling.
      final: the sparsity from ``end`` on, a Python float: what a finished run is held to.
      begin: the first step that may change a mask.
      end: the last step that changes a mask.
      interval: steps between two mask updates.

    Raises:
      ValueError: if ``final`` is outside [0, 1), ``begin`` is negative, ``end`` comes before
        ``begin``, or ``interval`` is less than 1.
    """

    sparsity: optax.Schedule
    final: float
    begin: int
    end: int
    interval: int = 1

    def __post_init__(self) -> None:
        _check_sparsity("final", self.final)
        if self.begin < 0:
            raise ValueError(f"begin must be at least 0, got {self.begin}")
        if self.end < self.begin:
            raise ValueError(f"end must not come before begin={self.begin}, got {self.end}")
        if self.interval < 1:
            raise ValueError(f"interval must be at least 1, got {self.interval}")

    def is_due(self, step: jax.typing.ArrayLike) -> jax.Array:
        """Whether masks are updated at ``step``: a boolean of the shape of ``step``."""
        step = jnp.asarray(step)
        on_grid = (step - self.begin) % self.interval == 0
        return (self.begin <= step) & (step <= self.end) & (on_grid | (step == self.end))

    def kept_finally(self, n: int) -> int:
        """How many of ``n`` entries are kept from ``end`` on: ``round((1 - final) * n)``.

        In Python floats, for float32 cannot count to 92 million.
        """
        return round((1 - float(self.final)) * n)

    def kept(self, step: jax.typing.ArrayLike, n: int) -> jax.Array:
        """How many of ``n`` entries are kept at ``step``, int32 from ``kept_finally(n)`` to ``n``.

        Exact from ``end`` on and where the sparsity is 0; within float32 rounding elsewhere.
        """
        last = self.kept_finally(n)
        # What is pruned is rounded, not what is kept, so that a sparsity of 0 keeps all n of them.
        pruned = jnp.round(jnp.asarray(self.sparsity(step), jnp.float32) * n).astype(jnp.int32)
        # Rounding must not overshoot the end: a pruned weight would be missing there.
        return jnp.where(jnp.asarray(step) >= self.end, last, jnp.clip(n - pruned, last, n))


def cubic(final: float, begin: int, end: int, interval: int = 1, initial: float = 0.0) -> Schedule:
    """Sparsity that rises fast at first and slowly near the end.

    With ``t`` the step, ``s_t = final + (initial - final) * (1 - (t - begin) / (end - begin))**3``
    between ``begin`` and ``end``, ``initial`` before and ``final`` after.

    Args:
      final: the sparsity reached at step ``end``, in [0, 1).
      begin: the first step that prunes.
      end: the last step that prunes.
      interval: steps between two mask updates.
      initial: the sparsity at step ``begin``, at most ``final``.

    Returns:
      A :class:`Schedule`.

    Raises:
      ValueError: as :class:`Schedule`; and if ``initial`` is outside [0, 1) or above ``final``.

    References:
      Zhu and Gupta, `To prune, or not to prune <https://arxiv.org/abs/1710.01878>`_, 2017, eq. 1
    """
    _check_sparsity("initial", initial)
    if initial > final:
        raise ValueError(f"initial must not be above final={final}, got {initial}")
    rise = optax.polynomial_schedule(initial, final, 3, max(end - begin, 1), begin)
    # The curve has arrived at ``end`` by itself, unless that is where it begins.
    sparsity = optax.join_schedules([rise, optax.constant_schedule(final)], [end])
    return Schedule(sparsity, final, begin, end, interval)


def one_shot(final: float, step: int) -> Schedule:
    """No pruning before ``step``, and the whole of it at ``step``.

    Args:
      final: the sparsity from ``step`` on, in [0, 1).
      step: the only step that prunes.

    Returns:
      A :class:`Schedule`.

    Raises:
      ValueError: as :class:`Schedule`.
    """
    return cubic(final, begin=step, end=step)


def _check_sparsity(name: str, value: float) -> None:
    if not 0 <= value < 1:  # also refuses NaN
        raise ValueError(f"{name} must be a sparsity in [0, 1), got {value}")
