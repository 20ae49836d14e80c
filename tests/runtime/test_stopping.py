"""A process that is asked to stop, once and twice, in a step and outside of one."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from sparsejax import errors
from sparsejax.runtime import stopping

PROGRAM = """
import sys, time
from sparsejax import errors
from sparsejax.runtime import stopping
with stopping.listening() as stop:
    try:
        with stop.after_the_step():
            print("ready", flush=True)
            for _ in range(600):
                if stop.requested:
                    print("asked by", stop.requested, flush=True)
                    {afterwards}
                    sys.exit(errors.STOPPED)
                time.sleep(0.01)
    except errors.Stopped:
        sys.exit("raised, though it was to wait")
"""


def start(afterwards: str) -> subprocess.Popen[str]:
    code = PROGRAM.format(afterwards=afterwards)
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_step_is_finished(number: signal.Signals) -> None:
    process = start("pass")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert out == f"asked by {number.name}\n"
    assert err == f"{number.name}: stopping in good order; a second signal stops at once\n"
    assert process.returncode == errors.STOPPED


def test_a_second_signal_ends_it_even_inside_compiled_code() -> None:
    # Compiled code like XLA's, without Python's lock: no handler runs in it.
    process = start("import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "asked by SIGINT\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM


def test_elsewhere_it_is_raised_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with (
        pytest.raises(errors.Stopped, match="stopped by SIGTERM"),
        stopping.listening() as stop,
    ):
        signal.raise_signal(signal.SIGTERM)
    assert stop.requested == "SIGTERM"
    assert signal.getsignal(signal.SIGINT) is before


def test_it_is_not_lost_where_nothing_can_be_raised() -> None:
    """As in a callback of the garbage collector, which prints what is raised and goes on."""

    class Weak:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(errors.Stopped), stopping.listening():
        Weak()
        time.sleep(10)
        raise AssertionError("it was lost")


def test_once_asked_no_step_is_begun() -> None:
    with stopping.listening() as stop:
        with pytest.raises(errors.Stopped):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(errors.Stopped), stop.after_the_step():
            raise AssertionError("unreachable")
        with pytest.raises(errors.Stopped):
            stop.check()


def test_what_is_finished_cannot_be_stopped() -> None:
    with stopping.listening() as stop:
        stop.finished()
        signal.raise_signal(signal.SIGTERM)
    assert stop.requested == "SIGTERM"


def test_other_threads_change_nothing() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stopping.listening() as stop:
            found.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, before)]
