"""From the configuration to a pruning transform, and from its state to the audit at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsejax import prune
from sparsejax.config import PruneConfig
from sparsejax.errors import UserError
from sparsejax.models.bert import BertConfig


def schedule(config: PruneConfig, steps: int) -> prune.Schedule:
    """The cubic schedule of Zhu & Gupta 2017, its begin and end turned from fractions to steps.

    For soft movement it is that of the threshold.
    """
    begin, end = (min(round(x * steps), steps - 1) for x in (config.begin, config.end))
    final = config.threshold if config.method == "soft_movement" else config.sparsity
    return prune.cubic(final, begin, end, config.interval)


def due(config: PruneConfig, steps: int) -> Callable[[int], bool]:
    """Step, counted from 0 -> whether its update may change masks."""
    if config.method in ("none", "fixed"):
        return lambda step: False
    when = schedule(config, steps)
    begin, end, interval = int(when.begin), int(when.end), int(when.interval)
    last = end if config.method in ("magnitude", "random") else steps

    def found(step: int) -> bool:
        return step == end or (begin <= step <= last and (step - begin) % interval == 0)

    return found


def final_step(config: PruneConfig, steps: int) -> int:
    """After how many steps the model is as sparse as it will be."""
    if config.method in ("none", "fixed"):
        return 0
    return min(round(config.end * steps), steps - 1) + 1


def targets(config: PruneConfig, model: BertConfig) -> prune.Rules:
    """Which leaves are pruned: the encoder's kernels, or the word embeddings as well.

    Whole heads and neurons are pruned where their results come together, in the kernel that
    follows: with its rows at zero, nothing else of a head or a neuron has any effect.
    """
    if config.pattern == "heads":
        width = model.hidden_size // model.num_attention_heads
        heads = prune.Target(pattern=prune.Blocks(width, None))
        return ((r"encoder/.*/attention/output/kernel", heads), (r".*", False))
    if config.pattern == "neurons":
        neurons = prune.Target(pattern=prune.Blocks(1, None))
        return ((r"encoder/.*/mlp/output/kernel", neurons), (r".*", False))
    return prune.ENCODER_KERNELS_AND_EMBEDDINGS if config.embeddings else prune.ENCODER_KERNELS


def pattern(config: PruneConfig) -> prune.NofM | prune.Blocks | None:
    """The granularity that all targets share; None: single weights, or as the targets say."""
    for separator, kind in ((":", prune.NofM), ("x", prune.Blocks)):
        first, found, second = config.pattern.partition(separator)
        if found and first.isdigit():
            return kind(int(first), int(second))
    return None


def read_masks(config: PruneConfig) -> prune.Masks | None:
    """The masks of the model that training starts from, if it is pruned.

    Raises:
      UserError: the file cannot be read or is damaged.
    """
    if config.masks is None:
        return None
    try:
        return prune.read_masks(config.masks)
    except OSError as error:
        raise UserError(f"prune.masks: {config.masks}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"prune.masks: {error}") from None


def optimizer(
    config: PruneConfig,
    model: BertConfig,
    when: prune.Schedule,
    weights: optax.GradientTransformation,
    scores: optax.GradientTransformation,
    masks: prune.Masks | None,
    *,
    key: jax.Array,
    penalty: float | jax.Array,
) -> optax.GradientTransformation:
    """The optimizer that also prunes.

    Args:
      config: method, scope, pattern and targets; its numbers are not read.
      model: whose parameters are pruned.
      when: of `schedule`; it may be traced, as the penalty may.
      weights: the optimizer of the dense model.
      scores: the optimizer of the scores, for a method that learns some.
      masks: of a model that is pruned already.
      key: of random pruning.
      penalty: of soft movement.
    """
    if config.method == "none":
        return weights
    if config.method == "fixed":
        assert masks is not None  # config.validate
        return optax.chain(weights, prune.fixed_masks(masks))
    what = targets(config, model)
    common: dict[str, Any] = {"scope": config.scope, "pattern": pattern(config)}
    if config.method == "magnitude":
        return prune.last_of_chain(weights, prune.magnitude(when, what, masks=masks, **common))
    if config.method == "random":
        pruned = prune.random(when, what, key=key, masks=masks, **common)
        return prune.last_of_chain(weights, pruned)
    if config.method == "latent_magnitude":
        return prune.latent_magnitude(weights, when, what, **common)
    if config.method == "movement":
        return prune.movement(weights, scores, when, what, masks=masks, **common)
    return prune.soft_movement(
        weights, scores, when, what, penalty=penalty, pattern=pattern(config), masks=masks
    )


def masks_gradient(config: PruneConfig) -> bool:
    """Whether weights learn from another gradient than the one `optimizer` is given."""
    return config.method in ("movement", "soft_movement")


def sparsity(opt_state: Any) -> jax.Array:
    """The share of the targets that is pruned at the moment, a float32 scalar on the device."""
    if not prune.is_pruning(opt_state):
        return jnp.float32(0)
    masks = prune.masks_of(opt_state).values()
    pruned = sum(jnp.sum(~mask, dtype=jnp.int32) for mask in masks)
    return jnp.asarray(pruned / (sum(mask.size for mask in masks) or 1), jnp.float32)


def audit(
    config: PruneConfig, model: BertConfig, params: Any, opt_state: Any, steps: int
) -> prune.Audit:
    """The realised sparsity, held to what was asked for where a number was asked for.

    Raises:
      UserError: it is not what was asked for, or a parameter is not finite.
    """
    rules = targets(config, model)
    try:
        if config.method == "none":
            return prune.audit(params, targets=rules)
        report = prune.audit(params, opt_state)
        if config.method not in ("fixed", "soft_movement"):
            when, units = schedule(config, steps), pattern(config)
            prune.check(report, when, rules, scope=config.scope, pattern=units)
    except ValueError as error:
        raise UserError(f"the run does not pass its audit: {error}") from error
    return report
