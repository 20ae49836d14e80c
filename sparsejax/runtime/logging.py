"""What a person sees of a run: lines and tables on the terminal and in log.txt, a progress bar."""

from __future__ import annotations

import io
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sparsejax.errors import Stopped, UserError


class Log:
    """Prints to the terminal and to a log file; what was printed before `open` is in it too."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        """Begins with nothing printed.

        Args:
          console: the terminal; None: standard output.
          quiet: whether to print nothing there.
        """
        self.console = console or Console(highlight=False, quiet=quiet)
        self._file = Console(file=io.StringIO(), width=100, highlight=False)

    @contextmanager
    def kept(self, file: TextIO) -> Iterator[None]:
        """Within, everything also goes to `file`: what was printed before, and why it ended."""
        early = self._file.file
        with file:
            self._file.file = file
            assert isinstance(early, io.StringIO)
            file.write(early.getvalue())
            try:
                yield
            except (UserError, Stopped) as error:
                self._file_only(f"error: {error}")
                raise
            except BaseException:
                self._file_only(traceback.format_exc())
                raise
            finally:
                self._file.file = io.StringIO()

    def _file_only(self, text: str) -> None:
        with suppress(OSError):  # a full disk must not hide what it led to
            self._file.print(text, soft_wrap=True, markup=False, emoji=False)

    def __call__(self, *things: Any) -> None:
        for thing in things:
            # Lines are not broken, and brackets in a path are no markup.
            plain = isinstance(thing, str)
            for console in (self.console, self._file):
                console.print(thing, soft_wrap=plain, markup=False, emoji=False)

    @contextmanager
    def progress(self, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
        """A progress bar over `total` steps; gives a function (steps done, text) -> None.

        Where there is no terminal, about ten lines over the whole run instead; in the file too.

        Args:
          total: steps of the run.
          done: steps of them that an earlier process made.
        """
        began, tenths = time.monotonic(), done * 10 // total

        def line(steps: int, text: str) -> str | None:
            nonlocal tenths
            if steps * 10 // total <= tenths:
                return None
            tenths = steps * 10 // total
            left = (time.monotonic() - began) * (total - steps) / (steps - done)
            return f"step {steps}/{total}  {text}  {left:.0f} s left"

        if not self.console.is_terminal:
            yield lambda steps, text: self(*filter(None, [line(steps, text)]))
            return
        bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=10),  # all columns fit into 80 characters
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
        )
        with bar:
            task = bar.add_task("", total=total, completed=done, text="compiling")

            def show(steps: int, text: str) -> None:
                bar.update(task, completed=steps, text=text)
                if found := line(steps, text):
                    self._file_only(found)

            yield show

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
