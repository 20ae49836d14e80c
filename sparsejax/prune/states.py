"""The states of the pruning transforms, and what they say about the parameters."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsejax.prune.targets import by_path, path

Masks: TypeAlias = Mapping[str, jax.Array | np.ndarray]
"""path -> a boolean array of the shape of the parameter, True where a weight is kept."""


class HardState(NamedTuple):
    """State of a method whose pruned weights are zero themselves.

    Attributes:
      step: how many updates were made, an int32 scalar.
      masks: a tree like the parameters. At a target, a boolean array of its shape, True where the
        weight is kept; elsewhere ``optax.MaskedNode()``.
    """

    step: jax.Array
    masks: Any


class LatentState(NamedTuple):
    """State of a method that keeps the values of pruned weights, which may come back.

    Attributes:
      step: how many updates were made, an int32 scalar.
      masks: as in :class:`HardState`.
      scores: a tree like the parameters. At a target, a float32 array with one score per unit of
        its pattern; elsewhere ``optax.MaskedNode()``. For a method that learns no scores, the
        whole is ``optax.MaskedNode()``.
      optimizer: state of the optimizer of the weights.
      score_optimizer: state of the optimizer of the scores.
    """

    step: jax.Array
    masks: Any
    scores: Any
    optimizer: Any
    score_optimizer: Any


def effective_params(params: Any, opt_state: Any) -> Any:
    """The parameters that the forward pass uses: with every pruned weight at zero.

    For a hard method these are the parameters themselves, at no cost; for a latent one, zero where
    the mask forbids. Differentiate at these, and evaluate and export these::

      grads = jax.grad(loss)(prune.effective_params(params, opt_state))
      updates, opt_state = tx.update(grads, opt_state, params)
      params = optax.apply_updates(params, updates)

    Args:
      params: a pytree of parameters.
      opt_state: the state of any optimizer around a pruning transform. Without one in it, nothing
        is pruned.

    Returns:
      A pytree like ``params``.
    """
    masks: dict[str, jax.Array] = {}
    for state in _states(opt_state):
        if isinstance(state, LatentState):
            masks |= by_path(state.masks)
    return apply_masks(params, masks) if masks else params


def apply_masks(params: Any, masks: Masks) -> Any:
    """Sets to zero what the masks forbid, exactly and whatever was there, NaN too.

    Args:
      params: a pytree of parameters.
      masks: for some or all of them.

    Raises:
      ValueError: if a mask has no parameter or another shape.
    """
    check_masks(masks, by_path(params))

    def apply(keys: tuple[Any, ...], param: jax.Array) -> jax.Array:
        mask = masks.get(path(keys))
        return param if mask is None else jnp.where(mask, param, jnp.zeros_like(param))

    return jax.tree.map_with_path(apply, params)


def masks_of(opt_state: Any) -> dict[str, jax.Array]:
    """The masks of all pruning transforms in the state of an optimizer, by path.

    Raises:
      ValueError: if there is no pruning transform, or two prune the same leaf.
    """
    masks: dict[str, jax.Array] = {}
    states = _states(opt_state)
    if not states:
        raise ValueError("there is no pruning transform in the optimizer state")
    for state in states:
        for name, mask in by_path(state.masks).items():
            if name in masks:
                raise ValueError(f"{name} is pruned by two transforms")
            masks[name] = mask
    return masks


def scores_of(opt_state: Any) -> dict[str, jax.Array]:
    """The learned scores of all pruning transforms in the state of an optimizer, by path."""
    scores: dict[str, jax.Array] = {}
    for state in _states(opt_state):
        if isinstance(state, LatentState):
            scores |= by_path(state.scores)
    return scores


def is_pruning(opt_state: Any) -> bool:
    """Whether a pruning transform is in the state of an optimizer."""
    return bool(_states(opt_state))


def check_masks(masks: Masks, params: Mapping[str, Any], complete: bool = False) -> None:
    """Holds masks to parameters, both by path.

    Args:
      complete: whether every parameter must have a mask.

    Raises:
      ValueError: naming a mask without a parameter, of another shape or not boolean, or a
        parameter without a mask.
    """
    for name, mask in masks.items():
        if name not in params:
            raise ValueError(f"there is a mask for {name!r}, but no such parameter to prune")
        if np.shape(mask) != np.shape(params[name]):
            raise ValueError(
                f"the mask of {name} has the shape {np.shape(mask)}, "
                f"the parameter {np.shape(params[name])}"
            )
        if mask.dtype != np.bool_:
            raise ValueError(f"the mask of {name} is {mask.dtype}, not boolean")
    if complete and (missing := params.keys() - masks.keys()):
        raise ValueError(f"there is no mask for {min(missing)}")


def like(params: Any, values: Mapping[str, Any]) -> Any:
    """A tree like ``params`` with the values at their paths, ``optax.MaskedNode()`` elsewhere."""
    return jax.tree.map_with_path(
        lambda keys, _: values.get(path(keys), optax.MaskedNode()), params
    )


def is_traced(*trees: Any) -> bool:
    """Whether any leaf is an abstract value of a program that is being compiled."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def refuse_nan(arrays: Mapping[str, jax.Array]) -> None:
    """Raises a ValueError that names the leaves with NaN, where values are known.

    In a compiled program they are not; there NaN is kept, for the audit to find.
    """
    counts = {name: jnp.sum(jnp.isnan(array)) for name, array in arrays.items()}
    if is_traced(counts):
        return
    if bad := [name for name, count in counts.items() if count]:
        raise ValueError(f"NaN cannot be ranked: {', '.join(bad)}")


def _states(opt_state: Any) -> list[HardState | LatentState]:
    kinds = (HardState, LatentState)
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kinds))
    return [node for node in nodes if isinstance(node, kinds)]
