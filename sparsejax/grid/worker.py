"""A worker: goes through a grid and does every run that is neither done nor another worker's."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from sparsejax import evaluate, train
from sparsejax.config import EvaluateConfig
from sparsejax.errors import UserError
from sparsejax.grid import cost, directory
from sparsejax.grid.spec import Grid, Run
from sparsejax.runtime import compilation, host_memory, logging, run_directory, setup, stopping


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a worker leaves behind."""

    finished: int  # runs of the grid, whoever did them
    mine: int  # of them, those that this worker did
    failed: dict[str, str]  # run -> why
    elsewhere: int  # runs that other workers are at
    compiled: Counter[str]  # name of a program -> how often it was compiled


def work(where: Path, log: logging.Log, stop: stopping.Stop, retry: bool = False) -> Outcome:
    """Does all runs of a grid that are left, one after another, then writes the grid's results.

    A run that fails is noted and not tried again. One line tells how far the whole grid is.

    Args:
      where: the directory of the grid.
      log: for that line.
      stop: whether the process is asked to stop.
      retry: whether to try again what failed in an earlier call.

    Raises:
      UserError: a run's directory holds something else.
      Stopped: as asked; the same call goes on.
    """
    compilation.keep_programs()
    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    grid = directory.load(where)
    todo = in_order(grid)
    tried: set[str] = set()
    failed: dict[str, str] = {}
    last, progress = (setup.LastData(), evaluate.LastReplaced()), Progress(where, grid, log)
    with compilation.counted() as compiled:
        try:
            while True:
                before = len(tried)
                for run in todo:
                    stop.check()
                    if run.name in tried:
                        continue
                    with directory.claim(where, run.name) as mine:
                        if mine is None:
                            continue
                        tried.add(run.name)
                        if directory.is_done(where, run, grid.evaluate):
                            continue
                        if retry:
                            mine.clear()
                        why = mine.failure() or attempt(
                            where, run, grid.evaluate, mine, last, stop, progress
                        )
                        if why is not None:
                            failed[run.name] = why
                            log(f"failed: {run.name}: {why}")
                # What another worker was at may have been left by it since.
                if len(tried) == before:
                    break
        finally:
            finished = directory.write_results(where, grid)
    return Outcome(finished, progress.mine, failed, len(grid.runs) - len(tried), Counter(compiled))


def in_order(grid: Grid) -> list[Run]:
    """The runs, those with the same data together: they are tokenised once for all of them."""
    first: dict[Any, int] = {}
    for run in grid.runs:
        first.setdefault((run.config.data, run.config.model), len(first))
    return sorted(grid.runs, key=lambda run: first[run.config.data, run.config.model])


def attempt(
    where: Path,
    run: Run,
    asked: EvaluateConfig,
    mine: directory.Claim,
    last: tuple[setup.LastData, evaluate.LastReplaced],
    stop: stopping.Stop,
    progress: Progress,
) -> str | None:
    """Trains and evaluates one run; returns why it failed, or None."""
    path = directory.run_path(where, run.name)
    saved = [int(p.name) for p in (path / "checkpoints").glob("*") if p.name.isdecimal()]
    mine.note({"step": max(saved, default=0)})
    config = dataclasses.replace(run.config, output=str(path), resume="auto")
    try:
        with progress.of(run) as log:
            train.run(config, stop, log, last[0])
            stop.check()
            if asked.perturb:
                trained = evaluate.load_run(path)
                evaluate.run(path, trained, trained.data, asked, log, last[1])
    except UserError as error:
        why = str(error)
    except Exception as error:
        # One run that the program itself fails at must not cost the others.
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        with (path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
    else:
        return None
    mine.note({"error": why})
    return why


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
