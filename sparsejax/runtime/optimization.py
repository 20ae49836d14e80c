"""What a run is optimised with: what is compiled into its program, and the numbers it is given.

Runs whose `Program` is the same share one compiled training step: sparsity, schedule, learning
rates, seeds and the number of steps are arguments of it, see `Numbers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from sparsejax import prune
from sparsejax.config import Config, PruneConfig
from sparsejax.models import bert
from sparsejax.runtime import parallel, pruning


@dataclass(frozen=True)
class Program:
    """All that decides which program is compiled, but the shapes of the batches; see `program`."""

    model: bert.BertConfig
    dtype: str
    pruning: PruneConfig  # without its numbers and masks
    decay: Literal["linear", "constant"]
    nonfinite: Literal["stop", "skip"]
    mesh: Mesh | None  # None: as JAX finds best


class Numbers(NamedTuple):
    """What may differ between runs of one program: scalars of numpy, or traced ones."""

    total: Any  # int32: steps of the run
    warmup: Any  # int32: steps over which the learning rate rises
    learning_rate: Any  # float32, as are the others
    weight_decay: Any
    clip_norm: Any
    score_learning_rate: Any
    penalty: Any
    schedule: prune.Schedule  # of the sparsity, or the threshold
    dropout_key: Any  # uint32 [2]: data of a key, as is the other one
    pruning_key: Any


def program(config: Config, model: bert.BertConfig, mesh: Mesh | None = None) -> Program:
    """The program of a run."""
    own = config.prune
    return Program(
        model=model,
        dtype=config.model.dtype,
        pruning=PruneConfig(
            method=own.method, scope=own.scope, pattern=own.pattern, embeddings=own.embeddings
        ),
        decay=config.train.decay,
        nonfinite=config.train.nonfinite,
        mesh=mesh,
    )


def numbers(config: Config, total: int, mesh: Mesh | None = None) -> Numbers:
    """The numbers of a run.

    Args:
      config: of the run.
      total: its steps.
      mesh: whose devices they are put on, so that no step has to send them; None: on none.
    """
    train, key = config.train, jax.random.key(config.seed)
    planned = pruning.schedule(config.prune, total)
    found = Numbers(
        total=np.int32(total),
        warmup=np.int32(round(train.warmup * total)),
        learning_rate=np.float32(train.learning_rate),
        weight_decay=np.float32(train.weight_decay),
        clip_norm=np.float32(train.clip_norm),
        score_learning_rate=np.float32(config.prune.score_learning_rate),
        penalty=np.float32(config.prune.penalty),
        schedule=prune.cubic(
            np.float32(planned.final),
            np.int32(planned.begin),
            np.int32(planned.end),
            np.int32(planned.interval),
            initial=np.float32(planned.initial),
        ),
        dropout_key=np.asarray(jax.random.key_data(jax.random.split(key)[1])),
        pruning_key=np.asarray(jax.random.key_data(key)),
    )
    if mesh is None:
        return found
    placed: Numbers = parallel.place(found, parallel.whole(mesh))
    return placed


def learning_rate(
    peak: Any, warmup: Any, total: Any, decay: Literal["linear", "constant"]
) -> optax.Schedule:
    """Rises linearly from 0 over the warm-up, then falls linearly to 0 or stays.

    Args:
      peak: the highest one.
      warmup, total: steps. Any of the three may be traced, which optax's own schedules refuse.
      decay: what follows the warm-up.
    """

    def rate(step: Any) -> jax.Array:
        rising = step / jnp.maximum(warmup, 1)
        falling = (total - step) / jnp.maximum(total - warmup, 1)
        after = jnp.clip(falling, 0, 1) if decay == "linear" else 1
        return jnp.asarray(peak * jnp.where(step < warmup, rising, after), jnp.float32)

    return rate


def weights_rate(program: Program, numbers: Numbers) -> optax.Schedule:
    """The learning rate of the weights."""
    return learning_rate(numbers.learning_rate, numbers.warmup, numbers.total, decay=program.decay)


def left_by_decay(program: Program, numbers: Numbers, steps: int) -> float:
    """What is left of a matrix that has had no gradient in so many steps, as a fraction of it."""
    # Those of all steps, so that a run computes them by one program, whatever their number here.
    rates = np.asarray(weights_rate(program, numbers)(np.arange(int(numbers.total))), np.float64)
    return float(np.prod(1 - rates[:steps] * float(numbers.weight_decay)))


def clip_by_global_norm(max_norm: Any) -> optax.GradientTransformationExtraArgs:
    """`optax.clip_by_global_norm`, which can be told the norm by whoever knows it already.

    To compute it, all gradients are read once more.

    Args:
      max_norm: the highest norm; it may be traced.

    Returns:
      A transform whose `update` takes `grad_norm`: that of the updates, which must be finite, or
      None.
    """

    def update_fn(
        updates: Any, state: Any, params: Any = None, *, grad_norm: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        norm = optax.tree.norm(updates) if grad_norm is None else grad_norm
        # One number to multiply by. A division of each element would be a pass of its own over all
        # gradients: both moments need what comes out, and XLA divides only once.
        factor = jnp.where(norm < max_norm, 1, max_norm / norm)
        return jax.tree.map(lambda u: (u * factor).astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)


def optimizer(
    program: Program, numbers: Numbers, masks: prune.Masks | None = None
) -> optax.GradientTransformation:
    """AdamW with clipped gradients, and pruning.

    The norm that is clipped is that of all gradients of weights, those of pruned ones included
    but for movement, which masks them; `update` can be told it as `grad_norm`. Scores have Adam
    without decay, at a rate of the same shape.

    Args:
      program: of the run.
      numbers: of the run.
      masks: of a model that is pruned already.
    """
    weights = optax.chain(
        clip_by_global_norm(numbers.clip_norm),
        optax.adamw(
            weights_rate(program, numbers), weight_decay=numbers.weight_decay, mask=_is_matrix
        ),
    )
    scores = optax.adam(
        learning_rate(numbers.score_learning_rate, numbers.warmup, numbers.total, program.decay)
    )
    return pruning.optimizer(
        program.pruning,
        program.model,
        numbers.schedule,
        weights,
        scores,
        masks,
        key=jax.random.wrap_key_data(numbers.pruning_key),
        penalty=numbers.penalty,
    )


def _is_matrix(params: bert.Params) -> Any:
    # Biases and layer norms are not decayed, as in BERT's own fine-tuning.
    return jax.tree.map(lambda p: p.ndim > 1, params)
