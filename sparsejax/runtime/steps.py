"""What a run is made of: optimizer, loss, compiled step and prediction, audit at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsejax import prune
from sparsejax.config import PruneConfig, TrainConfig
from sparsejax.data.tokenization import IGNORE
from sparsejax.errors import UserError
from sparsejax.models import bert

Batch = Mapping[str, Any]  # tokens, positions, segments, labels: int32 [rows, length]


class TrainState(NamedTuple):
    params: bert.Params
    opt_state: Any
    step: jax.Array  # int32 scalar: updates made so far


def learning_rate(config: TrainConfig, steps: int) -> optax.Schedule:
    """Rises linearly from 0 over the warm-up, then falls linearly to 0 or stays."""
    warmup = round(config.warmup * steps)
    last = 0.0 if config.decay == "linear" else config.learning_rate
    rise = optax.linear_schedule(0.0, config.learning_rate, warmup)
    fall = optax.linear_schedule(config.learning_rate, last, max(1, steps - warmup))
    return optax.join_schedules([rise, fall], [warmup])


def sparsity_schedule(config: PruneConfig, steps: int) -> prune.Schedule:
    """The cubic schedule of Zhu & Gupta 2017, its begin and end turned from fractions to steps."""
    final = 0.0 if config.method == "none" else config.sparsity
    begin, end = (min(round(x * steps), steps - 1) for x in (config.begin, config.end))
    return prune.cubic(final, begin, end, config.interval)


def pruning_rules(config: PruneConfig) -> prune.Rules:
    """Which leaves are targets: the encoder's kernels, or the word embeddings as well."""
    return prune.ENCODER_KERNELS_AND_EMBEDDINGS if config.embeddings else prune.ENCODER_KERNELS


def optimizer(train: TrainConfig, pruning: PruneConfig, steps: int) -> optax.GradientTransformation:
    """AdamW with clipped gradients, then the pruning transform, which must be last.

    The norm that is clipped is that of all gradients, those of pruned weights included.
    """
    chain = [
        optax.clip_by_global_norm(train.clip_norm),
        optax.adamw(learning_rate(train, steps), weight_decay=train.weight_decay, mask=_is_matrix),
    ]
    if pruning.method == "magnitude":
        chain.append(prune.magnitude(sparsity_schedule(pruning, steps), pruning_rules(pruning)))
    return optax.chain(*chain)


def _is_matrix(params: bert.Params) -> Any:
    # Biases and layer norms are not decayed, as in BERT's own fine-tuning.
    return jax.tree.map(lambda p: p.ndim > 1, params)


def audit(config: PruneConfig, state: TrainState, steps: int) -> prune.Audit:
    """The realised sparsity, held to what was asked for.

    Raises:
      UserError: it is not what was asked for, or a parameter is not finite.
    """
    rules = pruning_rules(config)
    try:
        if config.method == "none":
            return prune.audit(state.params, rules)
        masks = prune.find_state(state.opt_state, prune.MagnitudeState).masks
        report = prune.audit(state.params, rules, masks)
        prune.check(report, sparsity_schedule(config, steps))
    except ValueError as error:
        raise UserError(f"the run does not pass its audit: {error}") from error
    return report


def masked_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy summed over labelled pieces, divided by how many the global batch has.

    Args:
      logits: float32 [rows, length, classes].
      labels: int32 [rows, length]; IGNORE where there is nothing to learn.
    """
    labelled = labels != IGNORE
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(labelled, labels, 0))
    return jnp.sum(losses * labelled) / jnp.maximum(jnp.sum(labelled), 1)


def make_train_step(
    config: bert.BertConfig, tx: optax.GradientTransformation, dtype: str, dropout_key: jax.Array
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The compiled training step; it takes the state's buffers over (donation).

    Returns:
      (state, batch) -> (next state, {"loss", "grad_norm"} as scalars on the device).
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        def loss(params: bert.Params) -> jax.Array:
            logits = bert.apply(
                config,
                params,
                batch["tokens"],
                batch["positions"],
                batch["segments"],
                dtype=dtype,
                dropout_key=jax.random.fold_in(dropout_key, state.step),
            )
            return masked_loss(logits, batch["labels"])

        value, grads = jax.value_and_grad(loss)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "grad_norm": optax.tree.norm(grads)}
        return TrainState(params, opt_state, state.step + 1), metrics

    return jax.jit(step, donate_argnums=0)


def make_predict(config: bert.BertConfig, dtype: str) -> Callable[[bert.Params, Batch], jax.Array]:
    """The compiled prediction: (params, batch) -> label ids int32 [rows, length]."""

    def predict(params: bert.Params, batch: Batch) -> jax.Array:
        logits = bert.apply(
            config, params, batch["tokens"], batch["positions"], batch["segments"], dtype=dtype
        )
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    return jax.jit(predict)
