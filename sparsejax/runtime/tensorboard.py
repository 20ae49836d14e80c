"""Metrics as events for TensorBoard, written by the thread that trains.

tensorboardX's own writer has a thread, which on a full disk dies with a traceback and is not heard.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

FLUSH = 10.0  # seconds until what was written is seen by others


@contextlib.contextmanager
def _absent(name: str) -> Iterator[None]:
    """Meanwhile, a module that has not been imported yet cannot be.

    tensorboardX imports torch where there is one, for the name of a type, and that takes longer
    than everything else here.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # how Python marks what is not to be found
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def events(directory: Path, done: int) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A file of events; gives a function (step, values by name) -> None.

    Args:
      directory: where TensorBoard looks.
      done: TensorBoard hides what earlier files say of the steps after this one.
    """
    with _absent("torch"):
        from tensorboardX import RecordWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

    directory.mkdir(exist_ok=True)
    # A name in the order of time, as TensorBoard reads them, that no other process has.
    path = directory / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
    writer = RecordWriter(str(path))
    written = time.monotonic()

    def add(event: Event) -> None:
        nonlocal written
        event.wall_time = time.time()
        try:
            writer.write(event.SerializeToString())
            if time.monotonic() - written > FLUSH:
                writer.flush()
                written = time.monotonic()
        except OSError as error:  # which does not know the file
            raise OSError(error.errno, error.strerror, str(path)) from None

    def scalars(step: int, values: Mapping[str, float]) -> None:
        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        add(Event(step=step, summary=Summary(value=found)))

    add(Event(step=done + 1, file_version="brain.Event:2"))
    add(Event(step=done + 1, session_log=SessionLog(status=SessionLog.START)))
    try:
        yield scalars
    finally:
        with contextlib.suppress(OSError):  # what matters is in metrics.jsonl
            writer.close()
