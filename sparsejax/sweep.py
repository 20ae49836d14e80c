"""Work through a grid of runs that one YAML file states: train, prune and evaluate each of them.

GRID, the first argument, is that file. The same command again goes on where it was stopped; further
ones at the same time, on any machine that sees the directory, share the work.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsejax import command_line, config_checks, config_files, config_values
from sparsejax.config import SweepConfig
from sparsejax.errors import UserError, one_line
from sparsejax.grid import spec
from sparsejax.runtime import stopping

if TYPE_CHECKING:
    from sparsejax.grid.worker import Outcome

FIELDS = ("data", "model", "prune", "train", "checkpoint")  # of all runs


def run(path: str, config: SweepConfig, given: Mapping[str, Any]) -> None:
    """States the grid, then lists its runs, does them, or has them done.

    Args:
      path: of the grid's file.
      config: how.
      given: the fields of all runs that flags set, nested.

    Raises:
      UserError: a mistake in the file, the flags or the data; or a run failed.
      Stopped: as asked; the same command goes on.
    """
    grid = spec.read(path, given)
    if config.dry_run:
        show(grid)
        return
    from sparsejax.grid import directory

    where = Path(config.output or Path("runs", grid.name))
    for text in directory.begin(where, complete(grid), config.accept_changes):
        print(f"changed: {text}")
    if config.retry:
        number = directory.forget_failures(where, directory.load(where))
        print(f"{number} runs that failed are begun again")
    if config.executor == "slurm":
        from sparsejax.grid import slurm

        ids = slurm.submit(where.resolve(), config.slurm)
        print(f"submitted {len(ids)} workers: {', '.join(ids)}; logs in {where / 'slurm'}")
        return
    work(where)


def work(where: Path) -> None:
    """Does what is left of a grid, and says what came of it.

    Raises:
      UserError: a run failed.
      Stopped: as asked; the same call goes on.
    """
    from sparsejax.grid import worker
    from sparsejax.runtime import logging

    log = logging.Log()
    with stopping.listening() as stop:
        outcome = worker.work(where, log, stop)
    log(summary(outcome), f"results in {where / 'results.jsonl'}")
    if outcome.failed:
        name, why = next(iter(outcome.failed.items()))
        raise UserError(
            f"failed runs: {len(outcome.failed)}, {name} for one: {why}; --retry tries them again"
        )


def summary(outcome: Outcome) -> str:
    """One line for what a worker leaves."""
    text = f"finished: {outcome.finished} of {outcome.runs} runs, {outcome.mine} in this process"
    if outcome.elsewhere:
        text += f"; with other workers: {outcome.elsewhere}"
    programs = ("_steps", "predict")
    counts = (f"{outcome.compiled[name]} {name.strip('_')}" for name in programs)
    return f"{text}; programs compiled, or found: {', '.join(counts)}"


def complete(grid: spec.Grid) -> spec.Grid:
    """The grid with what is the same wherever its runs are made: absolute paths, languages by name.

    Raises:
      UserError: the data are not there.
    """
    from sparsejax.runtime import setup

    known: dict[Any, Any] = {}
    runs = []
    for one in grid.runs:
        config = config_files.settled(one.config)
        if config.data not in known:
            known[config.data] = setup.with_languages(config).data
        config = dataclasses.replace(config, data=known[config.data])
        config = dataclasses.replace(
            config, parallel=dataclasses.replace(config.parallel, fsdp=one.config.parallel.fsdp)
        )
        runs.append(dataclasses.replace(one, config=config))
    return dataclasses.replace(grid, runs=tuple(runs))


def show(grid: spec.Grid) -> None:
    """Prints the runs of a grid, how many there are by axis, and about how long they take."""
    from rich.console import Console

    from sparsejax.grid import cost, worker

    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, emoji=False)

    try:
        grid = complete(grid)
    except UserError as error:
        say(f"note: {error}; sizes are those of WikiAnn's official splits")
    for one in grid.runs:
        say(one.name)
    say(f"{len(grid.runs)} runs")
    for name, values in grid.axes.items():
        counts = Counter(one.axes.get(name, ...) for one in grid.runs)
        shown = [f"{counts[value]} with {short(value)}" for value in values]
        if counts[...]:
            shown.append(f"{counts[...]} without")
        say(f"  {name}: {', '.join(shown)}")
    costs = [cost.of(one.config, grid.evaluate) for one in grid.runs]
    programs = len({cost.program(one.config) for one in grid.runs})
    speed = cost.speed(grid.runs[0].config.model.dtype)
    took = worker.duration(cost.seconds(costs, programs, speed))
    say(
        f"about {took} on the devices here, one run after another: a rough estimate, from "
        f"{speed[0] / 1e12:.2g} TFLOP/s and {speed[1] / 1e9:.2g} GB/s"
    )


def short(value: Any) -> str:
    """A value of an axis, a long list by its length."""
    text = spec.word(value)
    return text if len(text) <= 40 else f"{len(value)} together"


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: a mistake of the user's ends in one line and exit status 1.

    Stopped by a signal, the exit status is that of work that can go on, `errors.STOPPED`.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    with one_line("stopped before the end of the grid; the same command goes on"):
        first = words[0] if words else ""
        path = None if first.startswith("-") or not first else words.pop(0)
        given = command_line.flags(
            SweepConfig, words, "python -m sparsejax.sweep GRID", __doc__ or ""
        )
        if path is None:
            raise UserError("the first argument is the YAML file of a grid; flags go after it")
        config: SweepConfig = config_values.overlay(SweepConfig(), given)
        config_checks.check_ranges(config)
        run(path, config, {name: given[name] for name in FIELDS if name in given})


if __name__ == "__main__":
    main()
