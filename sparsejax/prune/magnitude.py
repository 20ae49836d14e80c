"""Gradual magnitude pruning: a projection of the update, last in the chain."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsejax.prune.masks import top_k_mask
from sparsejax.prune.schedules import Schedule
from sparsejax.prune.targets import Rules, resolve


class MagnitudeState(NamedTuple):
    """State of :func:`magnitude`.

    Attributes:
      step: how many updates were made, an int32 scalar.
      masks: a tree like the parameters. At a target, a boolean array of its shape, True where the
        weight is kept; elsewhere ``optax.MaskedNode()``.
    """

    step: jax.Array
    masks: Any


def magnitude(schedule: Schedule, rules: Rules) -> optax.GradientTransformation:
    """Sets the smallest weights of each target to zero, more of them as training goes on.

    On each step that is due the weights that the optimizer is about to produce are ranked by
    absolute value within their tensor, and all but the ``schedule.kept(step, size)`` largest are
    pruned. Pruning is hard: a pruned weight is exactly 0.0 after ``optax.apply_updates`` and never
    returns, as its update is minus its value from then on. Between two updates of the masks this
    costs one select, and with a final sparsity of 0 nothing: the bare optimizer, bit for bit.

    This must be the last transform of the chain: one after it could move pruned weights away from
    zero, and the ranking would not see what it adds::

      tx = optax.chain(optax.adamw(5e-5), magnitude(cubic(0.9, 100, 700), ENCODER_KERNELS))

    Weights and updates may be float32 or bfloat16; the ranking is in the dtype of the weights.
    Runs under ``jax.jit``, with donated and sharded arguments, and under ``jax.vmap`` (where masks
    are computed on every step if the step is batched, for ``lax.cond`` becomes a select).

    Args:
      schedule: how sparse at which step; the first call of ``update`` is step 0.
      rules: which leaves are pruned, see :func:`sparsejax.prune.resolve`.

    Returns:
      A :class:`optax.GradientTransformation` with state :class:`MagnitudeState`.

    Raises:
      ValueError: from ``init`` if the rules do not fit the parameters (see
        :func:`sparsejax.prune.resolve`), from ``update`` if ``params`` is None.

    References:
      Zhu and Gupta, `To prune, or not to prune <https://arxiv.org/abs/1710.01878>`_, 2017, sec. 2-3

      Gale et al., `The State of Sparsity in Deep Neural Networks
      <https://arxiv.org/abs/1902.09574>`_, 2019
    """

    def init_fn(params: Any) -> MagnitudeState:
        def all_kept(prune: bool, param: jax.Array) -> Any:
            return jnp.ones_like(param, dtype=jnp.bool_) if prune else optax.MaskedNode()

        masks = jax.tree.map(all_kept, resolve(rules, params), params)
        return MagnitudeState(jnp.zeros([], jnp.int32), masks)

    def update_fn(
        updates: Any, state: MagnitudeState, params: Any = None
    ) -> tuple[Any, MagnitudeState]:
        if params is None:
            raise ValueError("magnitude pruning needs params: call update(updates, state, params)")
        if schedule.final == 0:
            # Not even a select of the update itself: between a product (the update) and a sum
            # (applying it) that would keep XLA from fusing them, and the fused one rounds once.
            return updates, state._replace(step=optax.safe_increment(state.step))

        def shrink(mask: Any, update: jax.Array, param: jax.Array) -> Any:
            if _untouched(mask):
                return mask
            k = schedule.kept(state.step, mask.size)
            scores = jnp.abs((param + update).astype(param.dtype))
            # What is pruned ranks below a kept zero, and stays pruned even if sparsity falls.
            return mask & top_k_mask(jnp.where(mask, scores, -1), k)

        def project(mask: Any, update: jax.Array, param: jax.Array) -> jax.Array:
            return update if _untouched(mask) else jnp.where(mask, update, -param)

        masks = jax.lax.cond(
            schedule.is_due(state.step),
            lambda: jax.tree.map(shrink, state.masks, updates, params, is_leaf=_untouched),
            lambda: state.masks,
        )
        updates = jax.tree.map(project, masks, updates, params, is_leaf=_untouched)
        return updates, MagnitudeState(optax.safe_increment(state.step), masks)

    return optax.GradientTransformation(init_fn, update_fn)


def _untouched(mask: Any) -> bool:
    return isinstance(mask, optax.MaskedNode)
