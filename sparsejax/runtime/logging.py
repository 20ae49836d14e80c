"""What a person sees of a run: lines and tables on the terminal and in log.txt, a progress bar."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sparsejax.errors import UserError
from sparsejax.runtime.run_directory import append_row


class Log:
    """Prints to the terminal and to a log file; what was printed before `open` is in it too."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._file = Console(file=io.StringIO(), width=100, highlight=False)

    def open(self, path: Path) -> None:
        """From now on everything is also written to `path`."""
        early = self._file.file
        self._file.file = path.open("a", encoding="utf-8", buffering=1)
        if isinstance(early, io.StringIO):
            self._file.file.write(early.getvalue())

    def __call__(self, *things: Any) -> None:
        for thing in things:
            # Lines are not broken, and brackets in a path are no markup.
            plain = isinstance(thing, str)
            for console in (self.console, self._file):
                console.print(thing, soft_wrap=plain, markup=False, emoji=False)

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[int, str], None]]:
        """A progress bar over `total` steps; gives a function (steps done, text) -> None.

        Where there is no terminal, about ten lines over the whole run instead.
        """
        if self.console.is_terminal:
            bar = Progress(
                TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=10),  # all columns fit into 80 characters
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=self.console,
            )
            with bar:
                task = bar.add_task("", total=total, text="compiling")
                yield lambda done, text: bar.update(task, completed=done, text=text)
            return
        began, next_tenth = time.monotonic(), 1

        def line(done: int, text: str) -> None:
            nonlocal next_tenth
            if done * 10 >= next_tenth * total:
                next_tenth = done * 10 // total + 1
                left = (time.monotonic() - began) * (total - done) / done
                self.console.print(f"step {done}/{total}  {text}  {left:.0f} s left")

        yield line

    def patient(self, what: str) -> Callable[[int, int], None]:
        """A function (done, total) -> None for work that is usually short.

        It says nothing for two seconds; then it keeps one line of a terminal up to date, or, where
        there is none, prints about ten lines.
        """
        began, tenths = time.monotonic(), 0

        def show(done: int, total: int) -> None:
            nonlocal tenths
            if time.monotonic() - began < 2:
                return
            text = f"{what}: {done:,} of {total:,}"
            if self.console.is_terminal:
                self.console.print(text, end="\n" if done == total else "\r")
            elif done * 10 // total > tenths:
                tenths = done * 10 // total
                self.console.print(text)

        return show


class Meter:
    """Follows the training steps: metrics.jsonl, the text of the progress bar, speed.

    Values on the device are fetched only when they are logged, and then one interval late, so that
    the device never waits for the log.
    """

    def __init__(self, path: Path, total: int, every: int) -> None:
        self._path, self._total, self._every = path, total, every
        self._began = time.monotonic()
        self._pending: tuple[int, int, dict[str, Any]] | None = None
        self._done = self._tokens = 0
        self.seconds = 0.0  # of all steps but the first
        self.compilation = 0.0  # seconds of the first step, which compiles
        self.tokens_per_second = 0.0  # of all steps but the first, padding not counted

    def step(
        self,
        metrics: dict[str, Any],
        tokens: int,
        show: Callable[[int, str], None],
        sparsity: Callable[[], Any],
    ) -> None:
        """Counts one step.

        Args:
          metrics: scalars on the device.
          tokens: of the batch, padding not counted.
          show: of the progress bar.
          sparsity: gives another such scalar; asked only for steps that are logged.

        Raises:
          UserError: the loss is not finite.
        """
        self._done += 1
        if self._done == 1:
            jax.block_until_ready(metrics)
            self.compilation = time.monotonic() - self._began
            self._began = time.monotonic()
        else:
            self._tokens += tokens
        last = self._done == self._total
        if self._done % self._every == 0 or last:
            self._write(show)
            self._pending = (self._done, self._tokens, metrics | {"sparsity": sparsity()})
        if last:
            self._write(show)

    def _write(self, show: Callable[[int, str], None]) -> None:
        if self._pending is None:
            return
        step, tokens, metrics = self._pending
        row = {"step": step} | {name: float(value) for name, value in metrics.items()}
        self.seconds = time.monotonic() - self._began
        self.tokens_per_second = tokens / self.seconds
        row["tokens_per_second"] = round(self.tokens_per_second, 1)
        # JSON has no NaN.
        append_row(self._path, {k: v if math.isfinite(v) else None for k, v in row.items()})
        if not math.isfinite(row["loss"]):
            raise UserError(
                f"the loss is {row['loss']} at step {step}; lower --train.learning_rate"
            )
        show(
            step,
            f"loss {row['loss']:.3f}  sparsity {100 * row['sparsity']:.0f} %  "
            f"{self.tokens_per_second:,.0f} tokens/s",
        )
