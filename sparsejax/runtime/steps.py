"""What training is made of: optimizer, loss and compiled step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from sparsejax import prune
from sparsejax.config import PruneConfig, TrainConfig
from sparsejax.data.tokenization import IGNORE
from sparsejax.models import bert
from sparsejax.runtime import parallel
from sparsejax.runtime import pruning as pruning_lib

Batch = Mapping[str, Any]  # tokens, positions, segments, labels: int32 [rows, length]


class TrainState(NamedTuple):
    params: bert.Params
    opt_state: Any
    step: jax.Array  # int32 scalar: updates made so far
    nonfinite: jax.Array  # int32 scalar: steps whose loss or gradient was not finite


def initial(params: bert.Params, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(params, tx.init(params), jnp.int32(0), jnp.int32(0))


def learning_rate(config: TrainConfig, peak: float, steps: int) -> optax.Schedule:
    """Rises linearly from 0 over the warm-up, then falls linearly to 0 or stays."""
    warmup = round(config.warmup * steps)
    last = 0.0 if config.decay == "linear" else peak
    rise = optax.linear_schedule(0.0, peak, warmup)
    fall = optax.linear_schedule(peak, last, max(1, steps - warmup))
    return optax.join_schedules([rise, fall], [warmup])


def optimizer(
    train: TrainConfig,
    pruning: PruneConfig,
    model: bert.BertConfig,
    steps: int,
    masks: prune.Masks | None = None,
    seed: int = 0,
) -> optax.GradientTransformation:
    """AdamW with clipped gradients, and pruning.

    The norm that is clipped is that of all gradients of weights, those of pruned ones included
    but for movement, which masks them. Scores have Adam without decay, at a rate of the same shape.
    """
    weights = optax.chain(
        optax.clip_by_global_norm(train.clip_norm),
        optax.adamw(
            learning_rate(train, train.learning_rate, steps),
            weight_decay=train.weight_decay,
            mask=_is_matrix,
        ),
    )
    scores = optax.adam(learning_rate(train, pruning.score_learning_rate, steps))
    key = jax.random.key(seed)
    return pruning_lib.optimizer(pruning, model, steps, weights, scores, masks, key)


def _is_matrix(params: bert.Params) -> Any:
    # Biases and layer norms are not decayed, as in BERT's own fine-tuning.
    return jax.tree.map(lambda p: p.ndim > 1, params)


def masked_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy summed over labelled pieces, divided by how many the global batch has.

    Args:
      logits: float32 [rows, length, classes].
      labels: int32 [rows, length]; IGNORE where there is nothing to learn.
    """
    labelled = labels != IGNORE
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(labelled, labels, 0))
    return jnp.sum(losses * labelled) / jnp.maximum(jnp.sum(labelled), 1)


def make_gradient(
    config: bert.BertConfig, dtype: str, dropout_key: jax.Array, mesh: Mesh | None = None
) -> Callable[[TrainState, Batch], tuple[jax.Array, bert.Params]]:
    """(state, batch) -> the loss and its gradient at the weights that the forward pass uses."""

    def gradient(state: TrainState, batch: Batch) -> tuple[jax.Array, bert.Params]:
        def loss(params: bert.Params) -> jax.Array:
            logits = bert.apply(
                config,
                params,
                batch["tokens"],
                batch["positions"],
                batch["segments"],
                dtype=dtype,
                dropout_key=jax.random.fold_in(dropout_key, state.step),
                rows=None if mesh is None else parallel.rows(mesh),
            )
            return masked_loss(logits, batch["labels"])

        return jax.value_and_grad(loss)(prune.effective_params(state.params, state.opt_state))

    return gradient


def make_train_step(
    gradient: Callable[[TrainState, Batch], tuple[jax.Array, bert.Params]],
    tx: optax.GradientTransformation,
    nonfinite: Literal["stop", "skip"],
    shardings: tuple[Any, Any] | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The compiled training step; it takes the state's buffers over (donation).

    The host need not look at the loss of every step. Where the loss or the gradient is not
    finite, "skip" takes a gradient of zero, so that schedules keep their time, and "stop" leaves
    parameters, masks and counters as they were before the step, whatever batches follow. (Moments
    and scores decay meanwhile: to hold them, too, would cost up to a twelfth of a step on a CPU.)

    Args:
      gradient: of `make_gradient`.
      tx: the optimizer.
      nonfinite: "stop" or "skip".
      shardings: of the state that comes out, a tree, and of the scalars; None: as JAX finds best.

    Returns:
      (state, batch) -> (next state, {"loss", "grad_norm", "nonfinite"} as scalars on the device).
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        loss, grads = gradient(state, batch)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        count = state.nonfinite + ~finite
        good = finite if nonfinite == "skip" else count == 0
        grads = jax.tree.map(lambda g: jnp.where(good, g, 0), grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        next_step = state.step + 1
        if nonfinite == "stop":
            updates = jax.tree.map(lambda u: jnp.where(good, u, 0), updates)
            opt_state = jax.tree.map(partial(_hold, good), opt_state, state.opt_state)
            next_step = state.step + good
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "grad_norm": norm, "nonfinite": count}
        return TrainState(params, opt_state, next_step, count), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=shardings)


def _hold(good: jax.Array, after: jax.Array, before: jax.Array) -> jax.Array:
    """Masks and counters as they were; what has decayed."""
    is_float = jnp.issubdtype(after.dtype, jnp.floating)
    return after if is_float else jnp.where(good, after, before)
