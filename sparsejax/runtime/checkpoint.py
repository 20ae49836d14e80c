"""Checkpoints of a training: written in the background, few of them kept, none used but whole ones.

All processes call the same functions, and the first one reads and writes: no file system need be
shared, and a run can go on with other devices than those it began with.

A checkpoint is a directory named after its step: `state/`, which Orbax writes, `about.json`, and
SHA256SUMS over both. It gets its name when all of that is on the disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import absl.logging
import jax
import numpy as np
import orbax.checkpoint as ocp

from sparsejax import checksums, files
from sparsejax.errors import Stopped, UserError
from sparsejax.runtime import parallel, processes

_UNFINISHED = re.compile(r"\.(removed-)?\d+")  # being written, or being removed


@dataclass(frozen=True)
class About:
    """What is known of a checkpoint besides the state.

    The order of the data and all random numbers follow from the configuration and the step.
    """

    step: int  # updates made so far, and batches used
    config: str  # digest of the configuration
    data: str  # digest of the training data
    score: float | None = None  # of an evaluation, where the checkpoint may become the final model
    model: str = ""  # digest of what the model has and the state has not; empty: nothing


class Checkpoints:
    """The checkpoints of one run; see `save` and `newest`."""

    def __init__(self, directory: Path, keep: int) -> None:
        """Removes what a killed process left half-written.

        Args:
          directory: RUN/checkpoints, made if it is not there.
          keep: how many of the newest ones are kept; besides, the one with the best score.

        Raises:
          UserError: the directory cannot be written to.
        """
        self._directory, self._keep = directory.absolute(), max(1, keep)
        self._first = processes.is_first()
        if not self._first:
            return
        try:
            self._directory.mkdir(exist_ok=True)
            for path in self._directory.iterdir():
                if _UNFINISHED.fullmatch(path.name):
                    shutil.rmtree(path)
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from None
        self._scores = {step: self._score(step) for step in self.steps()}
        self._pending: About | None = None
        # Of a write that fails the user is told in one line, and not in pages of Orbax's context.
        absl.logging.set_verbosity(absl.logging.FATAL)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(),
            active_processes={jax.process_index()},
            barrier_sync_key_prefix="first",
        )
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
        self._writer = ocp.AsyncCheckpointer(handler, multiprocessing_options=alone)
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._written: Future[None] | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.wait()
        except UserError as failure:
            # A stop promises that the run can go on; any other error is the one to be told of.
            if error is None or isinstance(error, Stopped):
                raise
            error.add_note(str(failure))

    def steps(self) -> list[int]:
        """The steps of all checkpoints, whole or not, in order."""
        return sorted(int(p.name) for p in self._directory.iterdir() if p.name.isdecimal())

    def save(self, state: Any, about: About) -> None:
        """Copies the state to the host, and writes it while training goes on.

        Raises:
          UserError: this checkpoint, or the one before, cannot be written.
        """
        self.wait()
        if jax.process_count() > 1:
            state = parallel.to_host(state)
        if not self._first:
            return
        self._pending = about
        temporary = self._directory / f".{about.step}"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            # Asked first: TensorStore's threads print tracebacks of their own where a write fails.
            if shutil.disk_usage(self._directory).free < _size(state):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            temporary.mkdir()
            self._writer.save(temporary / "state", args=ocp.args.StandardSave(state))
            self._written = self._thread.submit(self._finish, about)
        except Exception as error:
            raise self._failure(error) from None

    def wait(self) -> None:
        """Returns when everything is on the disk.

        Raises:
          UserError: the last checkpoint could not be written; those before it are still there.
        """
        if not self._first:
            return
        try:
            if self._written is not None:
                self._written.result()
            self._written = None
        except Exception as error:  # OSError, or what TensorStore made of it
            self._written = None
            raise self._failure(error) from None

    def newest(self, about: About, say: Callable[[str], None]) -> int | None:
        """The step of the newest checkpoint that is whole; damaged ones are named and skipped.

        Args:
          about: what the run is about now; the step and the score do not matter.
          say: is told of each that is skipped.

        Raises:
          UserError: it is of another configuration, of other data or of another model.
        """
        step = (self._newest(about, say) if self._first else None) or 0
        return parallel.number_of_first(step) or None

    def _newest(self, about: About, say: Callable[[str], None]) -> int | None:
        for step in reversed(self.steps()):
            try:
                found = self._read(step)
            except UserError as error:
                say(f"checkpoint {step} is skipped: {error}")
                continue
            for name in ("config", "data", "model"):
                if getattr(found, name) != getattr(about, name):
                    raise UserError(
                        f"{self._directory / str(step)}: of a run with another {name}; "
                        "pass another --output, or --overwrite to begin again"
                    )
            return step
        return None

    def replace(self, state: Any, step: int) -> Any:
        """The state of a checkpoint, in the place of another one, whose memory is given back.

        Args:
          state: a tree of arrays of the same shapes and shardings; they are deleted.
          step: of the checkpoint.

        Raises:
          UserError: it is damaged, or of another model or optimizer.
        """
        if self._first:
            self._read(step)
        leaves, structure = jax.tree.flatten(state)
        shardings = [leaf.sharding for leaf in leaves]
        shapes = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), state)
        for leaf in leaves:
            leaf.delete()
        del state
        found = jax.tree.leaves(self._restore(shapes, step) if self._first else shapes)
        del shapes
        for i, sharding in enumerate(shardings):  # one by one, so that nothing is there twice
            found[i] = parallel.place(parallel.from_first(found[i]), sharding)
        return jax.tree.unflatten(structure, found)

    def _restore(self, shapes: Any, step: int) -> Any:
        path = self._directory / str(step) / "state"
        try:
            found = self._writer.restore(path, args=ocp.args.StandardRestore(shapes))
            # Orbax gives what it finds, whatever was asked for.
            jax.tree.map(_check_shape, found, shapes)
            return found
        except Exception as error:
            raise UserError(
                f"{path}: does not fit this run ({_line(error)}); if you remove "
                f"{self._directory / str(step)}, it goes on with an older one"
            ) from None

    def best(self) -> int | None:
        """The step of the checkpoint with the best score, the first of equal ones."""
        return parallel.number_of_first((self._best() if self._first else None) or 0) or None

    def _best(self) -> int | None:
        scored = {step: score for step, score in self._scores.items() if score is not None}
        return max(sorted(scored), key=scored.__getitem__) if scored else None

    def clear(self) -> None:
        """Removes all of them, and the directory if nothing else is in it."""
        for step in self.steps():
            self._remove(step)
        with contextlib.suppress(OSError):
            self._directory.rmdir()

    def _finish(self, about: About) -> None:
        """In the background: lets Orbax finish, then gives the checkpoint its name."""
        self._writer.wait_until_finished()
        step = about.step
        temporary, final = self._directory / f".{step}", self._directory / str(step)
        text = json.dumps(dataclasses.asdict(about), indent=2) + "\n"
        (temporary / "about.json").write_text(text, "utf-8")
        checksums.write(temporary)
        files.sync(temporary)  # before an older one is removed
        if final.exists():  # a damaged one
            self._remove(step)
        os.rename(temporary, final)
        self._scores[step] = about.score
        # Later ones are damaged: they were skipped when training went on before them.
        for old in [s for s in self.steps() if s <= step][: -self._keep]:
            if old != self._best():
                self._remove(old)

    def _remove(self, step: int) -> None:
        # Renamed first: one that is half removed must not look like a damaged one.
        removed = self._directory / f".removed-{step}"
        os.rename(self._directory / str(step), removed)
        shutil.rmtree(removed)
        self._scores.pop(step, None)

    def _read(self, step: int, only: str | None = None) -> About:
        path = self._directory / str(step)
        if not (path / checksums.NAME).is_file():
            raise UserError(f"{path / checksums.NAME}: missing")
        checksums.check(path, only)
        return About(**json.loads((path / "about.json").read_text("utf-8")))

    def _score(self, step: int) -> float | None:
        try:
            return self._read(step, only="about.json").score
        except (UserError, OSError, ValueError, TypeError):  # of one that will be skipped
            return None

    def _failure(self, error: Exception) -> UserError:
        step = None if self._pending is None else self._pending.step
        whole = []
        with contextlib.suppress(OSError):  # the directory itself may be gone
            whole = [s for s in self.steps() if s != step]
        rest = f"that of step {whole[-1]} is still there" if whole else "there is none before it"
        return UserError(
            f"{self._directory}: the checkpoint of step {step} cannot be written "
            f"({_line(error)}); {rest}"
        )


def _check_shape(found: Any, wanted: Any) -> None:
    if found.shape != wanted.shape:
        raise ValueError(f"an array of the shape {found.shape}, not {wanted.shape}")


def _size(state: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def _line(error: Exception) -> str:
    """What went wrong, without the pages of context that libraries add."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):  # of TensorStore
        return os.strerror(int(code[1]))
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
