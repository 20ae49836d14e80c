"""What is measured while training, and where it goes: metrics.jsonl, TensorBoard and others."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax

from sparsejax.config import Config, TrainConfig
from sparsejax.errors import UserError
from sparsejax.runtime import rows, tensorboard
from sparsejax.runtime.rows import Row
from sparsejax.runtime.steps import TrainState

Sink = Callable[[Row], None]


class NonFinite(Exception):
    """The loss or the gradient of a step was not finite, and training was to stop there."""


class Meter:
    """Follows the training steps.

    Values on the device are fetched only when they are logged, and then one interval late, so that
    the device never waits for the log.
    """

    def __init__(
        self,
        sinks: list[Sink],
        total: int,
        config: TrainConfig,
        done: int,
        show: Callable[[int, str], None],
    ) -> None:
        """Begins with the next step.

        Args:
          sinks: each is given every row.
          total: steps of the run.
          config: how many steps there are between rows, and what a step is that is not finite.
          done: steps that an earlier process made.
          show: of the progress bar.
        """
        self._sinks, self._total, self._show = sinks, total, show
        self._every, self._stops = config.log_every, config.nonfinite == "stop"
        self._began = time.monotonic()
        self._pending: tuple[int, int, dict[str, Any]] | None = None
        self._first = self.done = done
        self._tokens = 0
        self.seconds = 0.0  # of all steps but the first ones
        self.compilation = 0.0  # seconds of the first ones, which compile
        self.tokens_per_second = 0.0  # of all steps but the first ones, padding not counted
        self.stop = False  # whether any process was asked to stop, as of the last row written

    def steps(
        self, count: int, metrics: dict[str, Any], tokens: int, more: Callable[[], dict[str, Any]]
    ) -> None:
        """Counts steps; none but the last of them may be one that is logged.

        Args:
          count: how many.
          metrics: scalars on the device, of the last of them.
          tokens: of their batches, padding not counted.
          more: gives other such scalars; asked only for steps that are logged.

        Raises:
          NonFinite: an earlier step could not be made.
        """
        compiles = self.done == self._first
        self.done += count
        if compiles:
            jax.block_until_ready(metrics)
            self.compilation = time.monotonic() - self._began
            self._began = time.monotonic()
        else:
            self._tokens += tokens
        if self.done % self._every == 0 or self.done == self._total:
            self._write_pending()
            self._pending = (self.done, self._tokens, metrics | more())

    def flush(self, state: TrainState) -> None:
        """Writes the row that is waiting for its values, and makes sure that the step was made.

        Raises:
          NonFinite: this step or an earlier one could not be made.
        """
        self._write_pending()
        if self._stops and int(state.nonfinite):
            raise NonFinite

    def _write_pending(self) -> None:
        if self._pending is None:
            return
        (step, tokens, metrics), self._pending = self._pending, None
        values = {name: float(value) for name, value in metrics.items()}
        skipped, self.stop = int(values.pop("nonfinite")), bool(values.pop("stop"))
        if self._stops and skipped:
            raise NonFinite
        self.seconds = max(time.monotonic() - self._began, 1e-9)
        self.tokens_per_second = tokens / self.seconds
        row = {"step": step} | values | {"skipped": skipped}
        self._write(row | {"tokens_per_second": round(self.tokens_per_second, 1)})
        self._show(
            step,
            f"loss {values['loss']:.3f}  sparsity {100 * values['sparsity']:.0f} %  "
            f"{self.tokens_per_second:,.0f} tokens/s",
        )

    def score(self, f1: float) -> None:
        """Adds the macro F1 on the dev split after the last step."""
        self._write({"step": self.done, "dev_f1": f1})

    def _write(self, row: Row) -> None:
        # JSON has no NaN.
        row = {k: v if math.isfinite(v) else None for k, v in row.items()}
        for sink in self._sinks:
            sink(row)


@contextlib.contextmanager
def sinks(directory: Path, config: Config, done: int) -> Iterator[list[Sink]]:
    """Where the rows of a run go: metrics.jsonl, tensorboard/, and Weights & Biases if asked for.

    Rows that an earlier process wrote after step `done` are removed, or hidden.

    Raises:
      UserError: Weights & Biases cannot be logged to.
    """
    keep_rows(directory / "metrics.jsonl", done)
    with contextlib.ExitStack() as stack:
        add = stack.enter_context(tensorboard.events(directory / "tensorboard", done))
        found: list[Sink] = [
            partial(rows.append, directory / "metrics.jsonl"),
            lambda row: add(row["step"], _values(row)),
        ]
        if config.train.wandb is not None:
            found.append(stack.enter_context(wandb_run(config.train.wandb, directory, config)))
        yield found


def keep_rows(path: Path, done: int) -> None:
    """Removes the rows after step `done`, and what is none, as where a process was killed."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            row = json.loads(line)
            if row["step"] <= done:
                kept.append(row)
    rows.write(path, kept)


@contextlib.contextmanager
def wandb_run(project: str, directory: Path, config: Config) -> Iterator[Sink]:
    """A run on Weights & Biases: the same one again when the training of a directory goes on.

    Raises:
      UserError: it cannot be started, for want of a login, say.
    """
    # Another one for a run that replaces this one in its directory.
    begun = (directory / "config.yaml").stat().st_mtime_ns
    identity = hashlib.sha256(f"{directory.resolve()} {begun}".encode()).hexdigest()[:16]
    try:
        import wandb

        run = wandb.init(
            project=project,
            name=directory.name,
            id=identity,
            resume="allow",
            dir=str(directory),
            config=dataclasses.asdict(config),
        )
    except Exception as error:  # of its client and of whatever network library it uses
        reason = " ".join(str(error).split())
        raise UserError(f"train.wandb: {project!r} cannot be logged to ({reason})") from None
    with run:  # which marks the run as failed where there is an error
        yield lambda row: run.log(_values(row), step=row["step"])


def _values(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "step" and value is not None}
