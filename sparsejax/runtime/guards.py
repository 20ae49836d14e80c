"""What may go wrong on the device: numbers that are not finite, memory that is not enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from sparsejax import files
from sparsejax.errors import UserError
from sparsejax.prune.targets import by_path
from sparsejax.runtime import parallel, processes
from sparsejax.runtime.optimization import Numbers, Program, weights_rate
from sparsejax.runtime.steps import Batch, TrainState, make_gradient


def not_finite(
    state: TrainState,
    batch: Batch,
    program: Program,
    numbers: Numbers,
    path: Path,
    pieces: np.ndarray | None = None,
) -> UserError:
    """Writes the state before a step that could not be made, and says what was wrong with it.

    The file holds, as `parameters/...`, `gradients/...` and `batch/...`, what the step began with
    and what came out. Where word embeddings are trained in part, `pieces` has the piece of each of
    their rows, and tokens are numbers of rows.

    Args:
      state: before the step.
      batch: of the step.
      program, numbers: of the run.
      path: of the file, in the safetensors format.
      pieces: int [rows]; None: each row is the piece of its number.

    Returns:
      The error to be raised.
    """
    loss, grads = jax.jit(make_gradient(program))(state, batch, numbers)
    learning_rate = float(weights_rate(program, numbers)(state.step))
    params, grads, batch = parallel.to_host((state.params, grads, batch))
    if not processes.is_first():
        return UserError(f"the loss is {float(loss):.3g} at step {int(state.step) + 1}")
    groups: dict[str, Mapping[str, Any]] = {
        "parameters": by_path(params),
        "gradients": by_path(grads),
        "batch": batch,
    }
    arrays = {
        f"{group}/{name}": np.ascontiguousarray(value)
        for group, values in groups.items()
        for name, value in values.items()
    }
    if pieces is not None:
        arrays["pieces"] = np.asarray(pieces, np.int32)
    step = int(state.step) + 1
    about = {"step": str(step), "loss": str(float(loss)), "learning_rate": str(learning_rate)}
    files.write_whole(path, save(arrays, metadata=about))
    # A parameter that is not finite explains everything that comes after it.
    bad: list[str] = []
    for group in ("parameters/", "gradients/"):
        bad = bad or [n for n, a in arrays.items() if n.startswith(group) and not _is_finite(a)]
    where = "the norm of the gradient overflows"
    if bad:
        others = f" and {len(bad) - 1} others" if len(bad) > 1 else ""
        where = f"not finite: {bad[0]}{others}"
    return UserError(
        f"the loss is {float(loss):.3g} at step {step}, at learning rate {learning_rate:.3g}; "
        f"{where}; the state before the step is in {path}; lower --train.learning_rate, "
        "or pass --train.nonfinite skip"
    )


def _is_finite(array: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(array)))


@contextlib.contextmanager
def memory(what: str, remedy: str) -> Iterator[None]:
    """Within, a device that is out of memory is a UserError.

    Args:
      what: needs the memory.
      remedy: what to do about it.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "ut of memory" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(f"out of memory in {what}; {remedy} ({reason})") from None
