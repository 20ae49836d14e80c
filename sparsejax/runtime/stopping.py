"""Being asked to stop: by the scheduler (SIGTERM) or from the keyboard (SIGINT, Ctrl-C)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from sparsejax.errors import Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether this process was asked to stop, and what is to happen then."""

    def __init__(self) -> None:
        self.requested: str | None = None  # the signal's name
        self._waits = False

    @contextlib.contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Within, a signal only sets `requested`; elsewhere it raises `Stopped`."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        if not self._waits:
            raise Stopped(f"stopped by {self.requested}")

    def _listen(self, pipe: int) -> None:
        # In a thread of its own: Python's handlers wait while the main thread compiles.
        count = 0
        while number := os.read(pipe, 1):
            if number[0] not in _SIGNALS:
                continue
            count += 1
            if count > 1:
                os._exit(128 + number[0])
            name = signal.Signals(number[0]).name
            sys.stderr.write(f"{name}: stopping in good order; a second signal stops at once\n")


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
    thread = threading.Thread(target=stop._listen, args=(reading,), daemon=True)
    before = {number: signal.signal(number, stop._handle) for number in _SIGNALS}
    wakeup = signal.set_wakeup_fd(writing)
    thread.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)  # which ends the thread
        thread.join()
        os.close(reading)
