"""What training is made of: the state, the loss and the compiled steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsejax import prune
from sparsejax.data.tokenization import IGNORE
from sparsejax.models import bert
from sparsejax.runtime import parallel, pruning
from sparsejax.runtime.optimization import Numbers, Program, optimizer, weights_rate

Batch = Mapping[str, Any]  # tokens, positions, segments, labels: int32 [rows, length]


class TrainState(NamedTuple):
    params: bert.Params
    opt_state: Any
    step: jax.Array  # int32 scalar: updates made so far
    nonfinite: jax.Array  # int32 scalar: steps whose loss or gradient was not finite


Shardings = Any  # a tree of them


def initial(
    program: Program, params: bert.Params, numbers: Numbers, masks: prune.Masks | None = None
) -> TrainState:
    """The state before the first step."""
    tx = optimizer(program, numbers, masks)
    return TrainState(params, tx.init(params), jnp.int32(0), jnp.int32(0))


def make_initial(
    program: Program, shardings: Shardings, masks: prune.Masks | None = None
) -> Callable[[bert.Params, Numbers], TrainState]:
    """The compiled `initial`; the state comes out as `shardings`, a tree of them, says."""
    if masks is None:
        return _shared_initial(program, *_hashable(shardings))
    return jax.jit(partial(initial, program, masks=masks), out_shardings=shardings)


@functools.cache
def _shared_initial(
    program: Program, leaves: tuple[Any, ...], structure: Any
) -> Callable[[bert.Params, Numbers], TrainState]:
    shardings = jax.tree.unflatten(structure, leaves)
    return jax.jit(partial(initial, program), out_shardings=shardings)


def _hashable(shardings: Shardings) -> tuple[tuple[Any, ...], Any]:
    leaves, structure = jax.tree.flatten(shardings)
    return tuple(leaves), structure


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
    program: Program,
) -> Callable[[TrainState, Batch, Numbers], tuple[jax.Array, bert.Params]]:
    """(state, batch, numbers) -> the loss, and its gradient at the weights of the forward pass."""

    def gradient(
        state: TrainState, batch: Batch, numbers: Numbers
    ) -> tuple[jax.Array, bert.Params]:
        dropout_key = jax.random.wrap_key_data(numbers.dropout_key)

        def loss(params: bert.Params) -> jax.Array:
            logits = bert.apply(
                program.model,
                params,
                batch["tokens"],
                batch["positions"],
                batch["segments"],
                dtype=program.dtype,
                dropout_key=jax.random.fold_in(dropout_key, state.step),
                rows=None if program.mesh is None else parallel.rows(program.mesh),
            )
            return masked_loss(logits, batch["labels"])

        return jax.value_and_grad(loss)(prune.effective_params(state.params, state.opt_state))

    return gradient


TrainStep = Callable[[TrainState, Batch, Numbers], tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
    program: Program, shardings: Shardings | None = None, masks: prune.Masks | None = None
) -> TrainStep:
    """The compiled training step; it takes the state's buffers over (donation).

    It is made once for all runs with this program, so that the first one alone is compiled; only
    a model that is pruned already has one of its own.

    The host need not look at the loss of every step. Where the loss or the gradient is not
    finite, "skip" takes a gradient of zero, so that schedules keep their time, and "stop" leaves
    parameters, masks and counters as they were before the step, whatever batches follow. (Moments
    and scores decay meanwhile: to hold them, too, would cost up to a twelfth of a step on a CPU.)

    Args:
      program: of the run.
      shardings: of the state that comes out, a tree, and of the scalars; None: as JAX finds best.
      masks: of a model that is pruned already.

    Returns:
      (state, batch, numbers) -> (next state, {"loss", "grad_norm", "nonfinite"} as scalars on the
      device).
    """
    if masks is None:
        return _shared_train_step(program, *_hashable(shardings))
    step = partial(_one, program, masks)
    return jax.jit(step, donate_argnums=0, out_shardings=shardings)


@functools.cache
def _shared_train_step(program: Program, leaves: tuple[Any, ...], structure: Any) -> TrainStep:
    shardings = jax.tree.unflatten(structure, leaves)
    return jax.jit(partial(_one, program, None), donate_argnums=0, out_shardings=shardings)


TrainSteps = Callable[[TrainState, Batch, Any, Numbers], tuple[TrainState, dict[str, jax.Array]]]


def make_train_steps(
    program: Program, shardings: Shardings | None = None, masks: prune.Masks | None = None
) -> TrainSteps:
    """As `make_train_step`, for several steps.

    How many of the batches there is a step for is an argument of the program: it is compiled once.
    Masks are brought up to date after the last of the steps, if they are due there. They must not
    be due before, see `calls`: a condition on every step is what `prune.PruningTransformation`
    spares.

    Returns:
      (state, batches [most steps, rows, length], steps int32, numbers) -> (next state, what
      `make_train_step` gives of the last of the steps).
    """
    if masks is None:
        return _shared_train_steps(program, *_hashable(shardings))
    return jax.jit(partial(_steps, program, masks), donate_argnums=0, out_shardings=shardings)


@functools.cache
def _shared_train_steps(program: Program, leaves: tuple[Any, ...], structure: Any) -> TrainSteps:
    shardings = jax.tree.unflatten(structure, leaves)
    return jax.jit(partial(_steps, program, None), donate_argnums=0, out_shardings=shardings)


def _steps(
    program: Program,
    masks: prune.Masks | None,
    state: TrainState,
    batches: Batch,
    count: jax.Array,
    numbers: Numbers,
) -> tuple[TrainState, dict[str, jax.Array]]:
    def one(i: jax.Array, carried: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        batch = {name: column[i] for name, column in batches.items()}
        return _step(program, masks, carried[0], batch, numbers)

    zero = jnp.float32(0)
    nothing = {"loss": zero, "grad_norm": zero, "nonfinite": state.nonfinite}
    made, metrics = jax.lax.fori_loop(0, count, one, (state, nothing))
    return _pruned(program, masks, made, numbers), metrics


def _one(
    program: Program,
    masks: prune.Masks | None,
    state: TrainState,
    batch: Batch,
    numbers: Numbers,
) -> tuple[TrainState, dict[str, jax.Array]]:
    made, metrics = _step(program, masks, state, batch, numbers)
    return _pruned(program, masks, made, numbers), metrics


def _pruned(
    program: Program, masks: prune.Masks | None, state: TrainState, numbers: Numbers
) -> TrainState:
    """With masks as the schedule has them after the last step, if they were due there."""
    tx = optimizer(program, numbers, masks)
    if not isinstance(tx, prune.PruningTransformation):
        return state
    finite = True if program.nonfinite == "skip" else state.nonfinite == 0
    params, opt_state = tx.refresh(state.params, state.opt_state, finite)
    return state._replace(params=params, opt_state=opt_state)


def _step(
    program: Program,
    masks: prune.Masks | None,
    state: TrainState,
    batch: Batch,
    numbers: Numbers,
) -> tuple[TrainState, dict[str, jax.Array]]:
    loss, grads = make_gradient(program)(state, batch, numbers)
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    count = state.nonfinite + ~finite
    good = finite if program.nonfinite == "skip" else count == 0
    grads = jax.tree.map(lambda g: jnp.where(good, g, 0), grads)
    tx = optimizer(program, numbers, masks)
    # Finite, as the gradient is now, or clipping would make numbers of it that are not.
    known = None if pruning.masks_gradient(program.pruning) else jnp.where(good, norm, 0)
    # Else `_pruned` would do nothing, and masks rest for good.
    rest = isinstance(tx, prune.PruningTransformation)
    updates, opt_state = tx.update(
        grads, state.opt_state, state.params, grad_norm=known, masks_rest=rest
    )
    next_step = state.step + 1
    if program.nonfinite == "stop":
        updates = jax.tree.map(lambda u: jnp.where(good, u, 0), updates)
        opt_state = jax.tree.map(partial(_hold, good), opt_state, state.opt_state)
        next_step = state.step + good
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "grad_norm": norm, "nonfinite": count}
    return TrainState(params, opt_state, next_step, count), metrics


def _hold(good: jax.Array, after: jax.Array, before: jax.Array) -> jax.Array:
    """Masks and counters as they were; what has decayed."""
    is_float = jnp.issubdtype(after.dtype, jnp.floating)
    return after if is_float else jnp.where(good, after, before)


@functools.cache
def make_read(
    program: Program,
) -> Callable[[TrainState, jax.Array, Numbers], dict[str, jax.Array]]:
    """(state, who was asked to stop, numbers) -> what is logged besides, as scalars.

    Who was asked to stop is bool [devices].
    """

    def read(state: TrainState, asked: jax.Array, numbers: Numbers) -> dict[str, jax.Array]:
        rate = weights_rate(program, numbers)(state.step - 1)
        sparsity = pruning.sparsity(state.opt_state)
        return {"learning_rate": rate, "sparsity": sparsity, "stop": asked.any()}

    return jax.jit(read)
