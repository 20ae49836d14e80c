"""Being asked to stop: by the scheduler (SIGTERM) or from the keyboard (SIGINT, Ctrl-C)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from sparsejax.errors import Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOST = 0  # what is sent to the listening thread when an exception was lost; no signal's number


class Stop:
    """Whether this process was asked to stop, and what is to happen then."""

    def __init__(self) -> None:
        self.requested: str | None = None  # the signal's name
        self._number = 0
        self._waits = False
        self._repeats = False

    def check(self) -> None:
        """Raises `Stopped` if this process was asked to stop."""
        if self.requested:
            raise Stopped(f"stopped by {self.requested}")

    def finished(self) -> None:
        """From now on a signal is ignored: what is left to do is no work that could be stopped."""
        self.check()
        self._waits = True

    def heeded(self) -> None:
        """From now on a signal is heeded again: other work has begun."""
        self._waits = False

    @contextlib.contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Within, a signal only sets `requested`; elsewhere it raises `Stopped`."""
        self.check()
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._number, self.requested = number, signal.Signals(number).name
        if not self._waits:
            self.check()

    def _listen(self, pipe: int) -> None:
        # In a thread of its own: Python's handlers wait while the main thread compiles.
        count = 0
        while read := os.read(pipe, 1):
            number = read[0]
            if number == _LOST:
                time.sleep(0.05)  # somewhere else, perhaps, it is not lost
                self._repeats = True
                os.kill(os.getpid(), self._number)
            elif self._repeats and number == self._number:
                self._repeats = False
            elif number in _SIGNALS:
                count += 1
                if count > 1:
                    os._exit(128 + number)
                name = signal.Signals(number).name
                text = f"{name}: stopping in good order; a second signal stops at once\n"
                sys.stderr.write(text)


@contextlib.contextmanager
def listening() -> Iterator[Stop]:
    """Within, SIGTERM and SIGINT are dealt with as `Stop` says; a second one ends the process.

    Only in the main thread, where Python allows it; elsewhere nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    show = sys.unraisablehook

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        # Raised where nothing can be raised, as in a callback of the garbage collector.
        if isinstance(found.exc_value, Stopped):
            os.write(writing, bytes([_LOST]))
        else:
            show(found)

    thread = threading.Thread(target=stop._listen, args=(reading,), daemon=True)
    before = {number: signal.signal(number, stop._handle) for number in _SIGNALS}
    wakeup = signal.set_wakeup_fd(writing)
    sys.unraisablehook = unraisable
    thread.start()
    try:
        yield stop
    finally:
        sys.unraisablehook = show
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)  # which ends the thread
        thread.join()
        os.close(reading)
