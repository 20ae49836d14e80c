"""The directory of a grid: which runs it is made of, who has begun which, and their results.

- grid.json: the runs and their configurations, as they were when the grid was started
- runs/NAME/: one directory each, see `runtime.run_directory`
- claims/NAME: held by the worker that is at this run; a line for every start and every failure
- results.jsonl: the scores of all finished runs
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from sparsejax import config_files, config_values, files
from sparsejax.config import Config, EvaluateConfig
from sparsejax.config_values import show
from sparsejax.errors import UserError
from sparsejax.grid.spec import Grid, Run
from sparsejax.runtime import results, run_directory
from sparsejax.runtime.rows import Row

SCHEMA = 1  # of grid.json: raised when a field changes its meaning
STARTS = 5  # of a run that never gets any further, before it counts as failed


def begin(directory: Path, grid: Grid, accept: bool) -> list[str]:
    """Makes the directory that of this grid.

    Args:
      directory: a new one, or that of the same grid.
      grid: with the configurations of the runs complete, see `config_files.settled`.
      accept: whether the grid may have changed; runs with other settings are then begun again.

    Returns:
      What was changed, in words.

    Raises:
      UserError: it holds something else, or the grid has changed.
    """
    path, new = directory / "grid.json", _as_json(grid)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            if not path.exists():
                if any(not p.name.startswith(".grid.json.") for p in directory.iterdir()):
                    raise UserError(f"output: {directory} holds other things than a grid")
                files.write_whole(path, new)
                return []
            if path.read_bytes() == new:
                return []
            old = load(directory)
            found = differences(old, grid)
            if found and not accept:
                raise UserError(
                    f"output: {directory} holds a grid that differs: {'; '.join(found)}; pass "
                    "--accept-changes to go on with the new one, or another --output"
                )
            before = {run.name: run.config for run in old.runs}
            changed = [
                run.name
                for run in grid.runs
                if run.name in before and config_files.difference(run.config, before[run.name])
            ]
            with _claimed(directory, changed) as claims:
                files.write_whole(path, new)
                for name, mine in claims.items():
                    shutil.rmtree(run_path(directory, name), ignore_errors=True)
                    mine.clear()
            return found
    except OSError as error:
        raise UserError(f"output: {directory}: cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _claimed(directory: Path, names: list[str]) -> Iterator[dict[str, Claim]]:
    """Within, all of these runs are this process's alone, before the first of them is touched."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name in names:
            mine = stack.enter_context(claim(directory, name))
            if mine is None:
                raise UserError(
                    f"output: {directory}: a worker is at {name}, which has changed; stop it first"
                )
            found[name] = mine
        yield found


def forget_failures(directory: Path, grid: Grid) -> int:
    """Lets runs that failed be begun again; returns their number."""
    count = 0
    for run in grid.runs:
        with claim(directory, run.name) as mine:
            if mine is not None and mine.failure() is not None:
                mine.clear()
                count += 1
    return count


def _as_json(grid: Grid) -> bytes:
    usual = {name: value for name, _, value in config_values.leaves(Config())}
    runs = [
        {
            "name": run.name,
            "axes": run.axes,
            "set": {n: v for n, _, v in config_values.leaves(run.config) if v != usual[n]},
        }
        for run in grid.runs
    ]
    content = {
        "schema": SCHEMA,
        "name": grid.name,
        "axes": grid.axes,
        "evaluate": {"perturb": grid.evaluate.perturb, "seed": grid.evaluate.seed},
        "runs": runs,
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def load(directory: Path) -> Grid:
    """The grid of a directory.

    Raises:
      UserError: there is none, or it is damaged or of another version.
    """
    path = directory / "grid.json"
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA:
            raise UserError(
                f"{path}: a grid of another version of sparsejax (schema {content['schema']}, not "
                f"{SCHEMA}); start it anew in another --output"
            )
        runs = []
        for entry in content["runs"]:
            config = Config()
            for name, value in entry["set"].items():
                *sections, last = name.split(".")
                nested: dict[str, Any] = {last: value}
                for section in reversed(sections):
                    nested = {section: nested}
                config = config_values.overlay(config, nested)
            runs.append(Run(entry["name"], config, _tuples(entry["axes"])))
        evaluate = config_values.overlay(EvaluateConfig(), content["evaluate"])
        axes = {
            name: tuple(_tuples(dict(enumerate(values))).values())
            for name, values in content["axes"].items()
        }
        return Grid(content["name"], tuple(runs), evaluate, axes)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: damaged; remove it and start the grid again") from None


def _tuples(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Values as they were before JSON made lists of tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def differences(old: Grid, new: Grid) -> list[str]:
    """What has changed from one grid to the other, in words."""
    found = []
    before, after = ({run.name: run.config for run in grid.runs} for grid in (old, new))
    for names, what in (
        ([name for name in after if name not in before], "new"),
        ([name for name in before if name not in after], "gone"),
    ):
        if names:
            found.append(f"{len(names)} runs are {what} ({names[0]}{' ...' * (len(names) > 1)})")
    fields: dict[str, int] = {}
    for name in before.keys() & after.keys():
        if text := config_files.difference(after[name], before[name]):
            fields[text] = fields.get(text, 0) + 1
    found += (f"in {count} runs it has {text}" for text, count in fields.items())
    for field in ("perturb", "seed"):
        first, second = (getattr(grid.evaluate, field) for grid in (old, new))
        if first != second:
            found.append(f"evaluate: {field} was {show(first)} and is {show(second)}")
    return found


def run_path(directory: Path, name: str) -> Path:
    """The directory of a run."""
    return directory / "runs" / name


class Claim:
    """A run that this worker alone may work on; see `claim`."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def entries(self) -> list[dict[str, Any]]:
        """What was noted of this run so far; the last line may have been cut off by a kill."""
        self._file.seek(0)
        found = []
        for line in self._file:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def note(self, entry: Mapping[str, Any]) -> None:
        """Notes something of this run."""
        self._file.seek(0, os.SEEK_END)
        self._file.write("\n" * (self._file.tell() > 0) + json.dumps(entry))
        self._file.flush()

    def clear(self) -> None:
        """Forgets it all."""
        self._file.truncate(0)

    def failure(self) -> str | None:
        """Why this run failed, in words; None if it may be begun."""
        entries = self.entries()
        if entries and "error" in entries[-1]:
            return str(entries[-1]["error"])
        # Starts since it last ended in good order, from the same checkpoint.
        starts = list(itertools.takewhile(lambda entry: "step" in entry, reversed(entries)))
        last = list(itertools.takewhile(lambda e: e["step"] == starts[0]["step"], starts))
        if len(last) >= STARTS:
            return (
                f"begun {STARTS} times, and each time the process ended before it got any further"
            )
        return None


@contextlib.contextmanager
def claim(directory: Path, name: str) -> Iterator[Claim | None]:
    """Within, a run is this worker's alone; None if another one is at it.

    What is held is a lock of the operating system's, which ends with the process, however it ends.

    Raises:
      UserError: the file system has no locks.
    """
    path = directory / "claims" / name
    path.parent.mkdir(exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except OSError:
            raise UserError(
                f"output: the file system of {directory} has no locks, by which workers tell who "
                "is at which run; choose another one"
            ) from None
        yield Claim(file)


def is_done(directory: Path, run: Run, evaluate: EvaluateConfig) -> bool:
    """Whether a run is trained, and evaluated in all the ways that were asked for.

    Raises:
      UserError: its directory holds a run with other settings.
    """
    path = run_path(directory, run.name)
    if not run_directory.is_finished(path):
        return False
    mine = dataclasses.replace(run.config, output=str(path))
    if found := config_files.difference(mine, config_files.load(path / "config.yaml", True)):
        raise UserError(f"{path}: holds a run with {found}; move it away")
    if not evaluate.perturb:
        return True
    rows = results.read(path / "results.jsonl")
    there = {row.get("perturbation") for row in rows if row.get("seed") == evaluate.seed}
    return set(evaluate.perturb) <= there


def write_results(directory: Path) -> tuple[int, int]:
    """Writes the scores of all finished runs, in the order of the grid as it is now.

    Each row is one of a run's own results.jsonl, with the run's name and values on the axes. A run
    whose directory is damaged, or of another one, is left out.

    Returns:
      How many runs are finished, of how many.
    """
    done, rows = 0, list[Row]()
    with _locked(directory):
        grid = load(directory)
        for run in grid.runs:
            try:
                if is_done(directory, run, grid.evaluate):
                    found = results.read(run_path(directory, run.name) / "results.jsonl")
                    rows += ({"run": run.name, "axes": run.axes} | row for row in found)
                    done += 1
            except UserError:
                continue  # a worker says why
        results.write(directory / "results.jsonl", rows)
    return done, len(grid.runs)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
