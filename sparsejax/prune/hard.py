"""Hard pruning: a projection of the update, last in the chain. Pruned weights are zero for good."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsejax.prune import patterns
from sparsejax.prune.selection import Leaf, Selection
from sparsejax.prune.states import (
    HardState,
    Masks,
    apply_masks,
    check_masks,
    is_traced,
    like,
    refuse_nan,
)
from sparsejax.prune.targets import by_path, path
from sparsejax.prune.transforms import PruningTransformation


def hard(
    method: str,
    selection: Selection,
    score: Callable[[str, patterns.Pattern, jax.Array], jax.Array],
    masks: Masks | None = None,
) -> PruningTransformation:
    """A transform that prunes the lowest scores of the weights the optimizer is about to produce.

    Args:
      method: its name, for errors.
      selection: which targets, how many, ranked among whom.
      score: (path, pattern, weights) -> one score per unit of the pattern, at least 0.
      masks: of weights that are pruned already.
    """

    def init_fn(params: Any) -> HardState:
        leaves = selection.leaves(params)
        kept = selection.start_masks(leaves, params, masks)
        return HardState(jnp.zeros([], jnp.int32), like(params, kept))

    def brought_up(
        step: jax.Array,
        due: Any,
        weights: dict[str, jax.Array],
        before: dict[str, jax.Array],
        leaves: dict[str, Leaf],
        changes: dict[str, jax.Array] | None = None,
    ) -> dict[str, jax.Array]:
        """The masks after a step, ranked by the weights with the changes, where they are due."""

        def produced() -> dict[str, jax.Array]:
            if changes is None:
                return {name: weights[name] for name in leaves}
            return {n: (weights[n] + changes[n]).astype(weights[n].dtype) for n in leaves}

        def ranked() -> dict[str, jax.Array]:
            scores = {}
            for name, w in produced().items():
                pattern = leaves[name].pattern
                # What is pruned ranks below a kept zero, and stays pruned even if sparsity falls.
                kept = patterns.any_in_unit(pattern, before[name])
                scores[name] = jnp.where(kept, score(name, pattern, w), -jnp.inf)
            selected = selection.select(leaves, step, scores)
            return {name: before[name] & selected[name] for name in leaves}

        due &= selection.schedule.is_due(step) & (step <= selection.schedule.end)
        if not is_traced(due, weights, changes) and due:
            refuse_nan({name: jnp.where(before[name], w, 0) for name, w in produced().items()})
        return jax.lax.cond(due, ranked, lambda: {name: before[name] for name in leaves})

    def update_fn(
        updates: Any,
        state: HardState,
        params: Any = None,
        *,
        masks_rest: bool = False,
        **extra_args: Any,
    ) -> tuple[Any, HardState]:
        del extra_args
        if params is None:
            raise ValueError(f"{method} needs params: call update(updates, state, params)")
        step = optax.safe_increment(state.step)
        if masks is None and selection.is_dense():
            # Not even a select of the update itself: between a product (the update) and a sum
            # (applying it) that would keep XLA from fusing them, and the fused one rounds once.
            return updates, HardState(step, state.masks)
        leaves = selection.leaves(params)
        before, weights = by_path(state.masks), by_path(params)
        _refuse_leaks(method, state.step, before, weights)
        if masks_rest:
            return project(updates, params, before), HardState(step, state.masks)
        after = brought_up(state.step, True, weights, before, leaves, by_path(updates))
        return project(updates, params, after), HardState(step, like(params, after))

    def refresh(params: Any, state: HardState, allowed: Any = True) -> tuple[Any, HardState]:
        if masks is None and selection.is_dense():
            return params, state
        leaves, before, weights = selection.leaves(params), by_path(state.masks), by_path(params)
        _refuse_leaks(method, state.step, before, weights)
        after = brought_up(state.step - 1, allowed, weights, before, leaves)
        # What was pruned before is left as it is, lest a leak be mended unseen.
        fresh = {name: mask | ~before[name] for name, mask in after.items()}
        return apply_masks(params, fresh), HardState(state.step, like(params, after))

    return PruningTransformation(init_fn, update_fn, refresh)


def fixed_masks(masks: Masks) -> optax.GradientTransformation:
    """Keeps a pruned model pruned while it is trained on: the masks never change.

    The last transform of the chain::

      masks = prune.read_masks("masks.safetensors")
      params = prune.apply_masks(params, masks)
      tx = optax.chain(optax.adamw(5e-5), prune.fixed_masks(masks))

    To prune such a model further, give the masks to :func:`sparsejax.prune.magnitude` instead.

    Args:
      masks: path -> mask, from :func:`sparsejax.prune.read_masks` or
        :func:`sparsejax.prune.masks_of`. Parameters without a mask are trained freely.

    Returns:
      A :class:`optax.GradientTransformation` with state :class:`HardState`.

    Raises:
      ValueError: from ``init`` if a mask has no parameter or another shape; from ``update`` if
        ``params`` is None or, outside of ``jax.jit``, a pruned weight is not zero.
    """

    def init_fn(params: Any) -> HardState:
        leaves = by_path(params)
        if leaves:  # without leaves, optax asks for the structure of the state
            check_masks(masks, leaves)
        # Copies: a step that donates its state must not delete what the caller holds.
        kept = {name: jnp.array(mask) for name, mask in masks.items()}
        return HardState(jnp.zeros([], jnp.int32), like(params, kept))

    def update_fn(updates: Any, state: HardState, params: Any = None) -> tuple[Any, HardState]:
        if params is None:
            raise ValueError("fixed_masks needs params: call update(updates, state, params)")
        kept = by_path(state.masks)
        _refuse_leaks("fixed_masks", state.step, kept, by_path(params))
        step = optax.safe_increment(state.step)
        return project(updates, params, kept), HardState(step, state.masks)

    return optax.GradientTransformation(init_fn, update_fn)


def project(updates: Any, params: Any, masks: Masks) -> Any:
    """The updates that leave the parameters exactly 0.0 where the masks forbid."""
    weights = by_path(params)

    def of_leaf(keys: tuple[Any, ...], update: jax.Array) -> jax.Array:
        name = path(keys)
        return jnp.where(masks[name], update, -weights[name]) if name in masks else update

    return jax.tree.map_with_path(of_leaf, updates)


def _refuse_leaks(
    method: str, step: jax.Array, masks: Masks, weights: dict[str, jax.Array]
) -> None:
    """Raises a ValueError if a pruned weight is not zero, where values are known.

    In a compiled program they are not; there the audit finds it. Before the first update, weights
    that given masks forbid need not be zero yet: that update makes them so.
    """
    first = step == 0
    if is_traced(first, masks, weights) or first:
        return
    for name, mask in masks.items():
        count = jnp.sum(~mask & (weights[name] != 0))
        if not is_traced(count) and count:
            raise ValueError(
                f"{name}: {count} pruned weights are not zero; {method} must be last in the chain"
            )
