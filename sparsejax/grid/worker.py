"""A worker: goes through a grid and does every run that is neither done nor another worker's."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from sparsejax import evaluate, train
from sparsejax.errors import Stopped, UserError
from sparsejax.grid import cost, directory
from sparsejax.grid.spec import Grid, Run
from sparsejax.ner import replaced
from sparsejax.runtime import compilation, host_memory, logging, run_directory, setup, stopping

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
ROOM = 2**20  # bytes: a disk with less has no room for a run


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a worker leaves behind."""

    finished: int  # runs of the grid, whoever did them
    runs: int  # of the grid
    mine: int  # of those that are finished, those that this worker did
    failed: dict[str, str]  # run -> why
    elsewhere: int  # runs that other workers are at
    compiled: Counter[str]  # name of a program -> how often it was compiled, or found


def work(where: Path, log: logging.Log, stop: stopping.Stop) -> Outcome:
    """Does all runs of a grid that are left, one after another, then writes the grid's results.

    A run that fails is noted and not tried again. One line tells how far the whole grid is.

    Args:
      where: the directory of the grid.
      log: for that line.
      stop: whether the process is asked to stop.

    Raises:
      UserError: the disk is full, or the grid was changed meanwhile.
      Stopped: as asked; the same call goes on.
    """
    compilation.keep_programs()
    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    worker = Worker(where, log, stop)
    with compilation.counted() as compiled:
        try:
            # What another worker was at may have been left by it since.
            while worker.go_through():
                pass
        except Stopped as stopped:
            raise Stopped(f"{stopped}; the same command goes on with {where}") from None
        finally:
            finished, runs = directory.write_results(where)
    elsewhere = len(worker.grid.runs) - len(worker.tried)
    mine = worker.progress.mine
    return Outcome(finished, runs, mine, worker.failed, elsewhere, Counter(compiled))


class Worker:
    """What a worker knows of its grid; see `work`."""

    def __init__(self, where: Path, log: logging.Log, stop: stopping.Stop) -> None:
        self.where, self.log, self.stop = where, log, stop
        self._stated = (where / "grid.json").read_bytes()
        self.grid = directory.load(where)
        self.todo = in_order(self.grid)
        self.progress = Progress(where, self.grid, log)
        self.tried: set[str] = set()  # and need not be looked at again
        self.failed: dict[str, str] = {}
        self._last = setup.LastData(), replaced.LastReplaced()

    def go_through(self) -> int:
        """Does the runs that nobody has; returns how many were settled, by whomever."""
        before = len(self.tried)
        for run in self.todo:
            if run.name in self.tried:
                continue
            self.stop.check()
            with directory.claim(self.where, run.name) as mine:
                if mine is None:
                    continue
                if (self.where / "grid.json").read_bytes() != self._stated:
                    raise UserError(f"{self.where}: the grid was changed; start this worker again")
                self.tried.add(run.name)
                why = self._settle(run, mine)
                if why is not None:
                    self.failed[run.name] = why
                    self.log(f"failed: {run.name}: {why}")
        return len(self.tried) - before

    def _settle(self, run: Run, mine: directory.Claim) -> str | None:
        """Does a run unless it is done; returns why it failed, or None."""
        try:
            if directory.is_done(self.where, run, self.grid.evaluate):
                return None
        except UserError as error:
            return str(error)
        return mine.failure() or self._attempt(run, mine)

    def _attempt(self, run: Run, mine: directory.Claim) -> str | None:
        path = directory.run_path(self.where, run.name)
        saved = [int(p.name) for p in (path / "checkpoints").glob("*") if p.name.isdecimal()]
        mine.note({"step": max(saved, default=0)})
        try:
            with self.progress.of(run) as log:
                self._train_and_evaluate(run, path, log)
        except Stopped:
            mine.note({"stopped": True})
            raise
        except UserError as error:
            why, trace = str(error), ""
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK:
                raise  # it is no fault of this run
            # One run that the program itself fails at must not cost the others.
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            trace = traceback.format_exc()
        else:
            mine.note({"done": True})
            return None
        if shutil.disk_usage(self.where).free < ROOM:
            raise UserError(f"{self.where}: the disk is full ({why})")
        mine.note({"error": why})
        if trace:
            path.mkdir(parents=True, exist_ok=True)
            with (path / "log.txt").open("a", encoding="utf-8") as file:
                file.write(trace)
        return why

    def _train_and_evaluate(self, run: Run, path: Path, log: logging.Log) -> None:
        config = dataclasses.replace(run.config, output=str(path), resume="auto")
        train.run(config, self.stop, log, self._last[0])
        self.stop.heeded()
        self.stop.check()
        if self.grid.evaluate.perturb:
            trained = evaluate.load_run(path)
            evaluate.run(path, trained, trained.data, self.grid.evaluate, log, self._last[1])


def in_order(grid: Grid) -> list[Run]:
    """The runs, those with the same data together: they are tokenised once for all of them."""
    first: dict[Any, int] = {}
    for run in grid.runs:
        first.setdefault((run.config.data, run.config.model), len(first))
    return sorted(grid.runs, key=lambda run: first[run.config.data, run.config.model])


class Progress:
    """One line for the whole grid: how many runs are done, which one is under way, time left."""

    def __init__(self, where: Path, grid: Grid, log: logging.Log) -> None:
        self._where, self._log = where, log
        self._costs = {run.name: cost.of(run.config, grid.evaluate).flops for run in grid.runs}
        self._before: float | None = None  # the cost of what was done when this worker began
        self._began = time.monotonic()
        self.mine = 0

    @contextmanager
    def of(self, run: Run) -> Iterator[logging.Log]:
        """Within, a run is under way; gives the log for it, which prints nothing."""
        left = {
            name: flops
            for name, flops in self._costs.items()
            if not run_directory.is_finished(directory.run_path(self._where, name))
        }
        done = sum(self._costs.values()) - sum(left.values())
        time_left = ""
        if self._before is None:
            self._before = done
        elif done > self._before:  # by this worker or by others
            rate = (time.monotonic() - self._began) / (done - self._before)
            time_left = f", about {duration(rate * sum(left.values()))} left"
        number = len(self._costs) - len(left)
        self._log(f"{number} of {len(self._costs)} runs{time_left}; now {run.name}")
        yield logging.Log(quiet=True)
        self.mine += 1


def duration(seconds: float) -> str:
    """In words, to two digits or so."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 360_000 else f"{seconds / 86400:.0f} days"
