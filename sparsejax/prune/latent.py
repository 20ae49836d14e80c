"""Latent pruning: weights stay dense, the forward pass uses ``W * M``, pruned ones may return."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsejax.prune import patterns
from sparsejax.prune.selection import Leaf, Selection
from sparsejax.prune.states import LatentState, Masks, is_traced, like, refuse_nan
from sparsejax.prune.targets import by_path, path
from sparsejax.prune.transforms import PruningTransformation

Arrays = dict[str, jax.Array]


def latent(
    method: str,
    optimizer: optax.GradientTransformation,
    score_optimizer: optax.GradientTransformation | None,
    selection: Selection,
    rank: Callable[[jax.Array, Arrays, Arrays, dict[str, Leaf]], Arrays],
    *,
    straight_through: bool = False,
    penalty: Callable[[jax.Array, Arrays], Arrays] | None = None,
    masks: Masks | None = None,
) -> PruningTransformation:
    """A complete optimizer of weights and, with a ``score_optimizer``, of scores.

    With g the gradient at ``W * M``, ``dS = g * W`` summed over each unit of the pattern, and
    ``dW = g * M``, or ``dW = g`` if ``straight_through``. That is the straight-through estimator
    with no derivative of its own and no change to the model.

    Args:
      method: its name, for errors.
      optimizer: of the weights.
      score_optimizer: of the scores; None for a method without any.
      selection: which targets, how many, ranked among whom.
      rank: (step, scores, weights, targets) -> masks, all by path.
      straight_through: whether pruned weights are trained on.
      penalty: (step, scores) -> what is added to the gradient of each score.
      masks: of weights that are pruned already; their scores are minus infinity for good.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init_fn(params: Any) -> LatentState:
        leaves = selection.leaves(params)
        kept = selection.start_masks(leaves, params, masks, final=penalty is None)
        scores: Any = optax.MaskedNode()
        if score_optimizer is not None:
            scores = like(params, {n: _first_scores(leaves[n], m) for n, m in kept.items()})
        return LatentState(
            step=jnp.zeros([], jnp.int32),
            masks=like(params, kept),
            scores=scores,
            optimizer=optimizer.init(params),
            score_optimizer=() if score_optimizer is None else score_optimizer.init(scores),
        )

    def update_fn(
        updates: Any,
        state: LatentState,
        params: Any = None,
        *,
        masks_rest: bool = False,
        **extra_args: Any,
    ) -> tuple[Any, LatentState]:
        if params is None:
            raise ValueError(f"{method} needs params: call update(grads, state, params)")
        step = optax.safe_increment(state.step)
        dense = masks is None and selection.is_dense()
        leaves, before, grads = selection.leaves(params), by_path(state.masks), by_path(updates)

        def masked(keys: tuple[Any, ...], grad: jax.Array) -> jax.Array:
            mask = before.get(path(keys))
            return grad if mask is None else jnp.where(mask, grad, jnp.zeros_like(grad))

        weight_grads = updates
        if not (dense or straight_through):
            weight_grads = jax.tree.map_with_path(masked, updates)
        changes, optimizer_state = optimizer.update(
            weight_grads, state.optimizer, params, **extra_args
        )
        if dense:  # the bare optimizer, bit for bit
            return changes, state._replace(step=step, optimizer=optimizer_state)

        weights = {name: by_path(params)[name] for name in leaves}
        scores, score_state = state.scores, state.score_optimizer
        if score_optimizer is not None:
            score_grads = {
                name: _score_gradient(leaf.pattern, grads[name], weights[name])
                for name, leaf in leaves.items()
            }
            if penalty is not None:
                for name, extra in penalty(state.step, by_path(scores)).items():
                    score_grads[name] += extra
            score_changes, score_state = score_optimizer.update(
                like(params, score_grads), score_state, scores
            )
            # Once at minus infinity, a score stays there, whatever its optimizer does.
            scores = jax.tree.map(
                lambda old, new: jnp.where(old == -jnp.inf, old, new),
                scores,
                optax.apply_updates(scores, score_changes),
            )

        def after(masks: Any) -> tuple[Any, LatentState]:
            return changes, LatentState(step, masks, scores, optimizer_state, score_state)

        if masks_rest:
            return after(state.masks)
        masks_after = brought_up(
            state.step, True, by_path(scores), weights, before, leaves, by_path(changes)
        )
        return after(like(params, masks_after))

    def brought_up(
        step: jax.Array,
        due: Any,
        scores: Arrays,
        weights: Arrays,
        before: Arrays,
        leaves: dict[str, Leaf],
        changes: Arrays | None = None,
    ) -> Arrays:
        """The masks after a step, by scores and by weights with the changes, where they are due."""

        def produced() -> Arrays:
            if changes is None:
                return weights
            return {name: (w + changes[name]).astype(w.dtype) for name, w in weights.items()}

        due &= selection.schedule.is_due(step)
        if not is_traced(due, weights, scores, changes) and due:
            refuse_nan(produced())
            refuse_nan({f"the scores of {name}": s for name, s in scores.items()})
        return jax.lax.cond(
            due,
            lambda: rank(step, scores, produced(), leaves),
            lambda: {name: before[name] for name in leaves},
        )

    def refresh(params: Any, state: LatentState, allowed: Any = True) -> tuple[Any, LatentState]:
        if masks is None and selection.is_dense():
            return params, state
        leaves, before = selection.leaves(params), by_path(state.masks)
        weights = {name: by_path(params)[name] for name in leaves}
        after = brought_up(state.step - 1, allowed, by_path(state.scores), weights, before, leaves)
        return params, state._replace(masks=like(params, after))

    return PruningTransformation(init_fn, update_fn, refresh)


def _score_gradient(pattern: patterns.Pattern, grad: jax.Array, weights: jax.Array) -> jax.Array:
    product = grad.astype(jnp.float32) * weights.astype(jnp.float32)
    return patterns.unit_sums(pattern, product)


def _first_scores(leaf: Leaf, mask: jax.Array) -> jax.Array:
    """Zero, and minus infinity where a unit is pruned already."""
    return jnp.where(patterns.any_in_unit(leaf.pattern, mask), jnp.float32(0), -jnp.inf)
