"""What is logged: complete, in order, and not waiting for the device."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sparsejax.errors import Stopped, UserError
from sparsejax.runtime import logging


def quiet() -> tuple[logging.Log, io.StringIO]:
    out = io.StringIO()
    return logging.Log(Console(file=out, width=100)), out


def test_log_file_holds_what_was_printed_before_and_after(tmp_path: Path) -> None:
    log, out = quiet()
    log("before")
    with log.kept((tmp_path / "log.txt").open("a")):
        log("after " + "x" * 150)
    text = "before\nafter " + "x" * 150 + "\n"
    assert (tmp_path / "log.txt").read_text() == text == out.getvalue()


def test_log_file_says_why_a_run_ended(tmp_path: Path) -> None:
    for error in (UserError("no [such] file"), Stopped("SIGTERM"), ValueError("a bug")):
        log, _ = quiet()
        with pytest.raises(type(error)), log.kept((tmp_path / "log.txt").open("a")):
            raise error
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("error: no [such] file\nerror: SIGTERM\nTraceback")
    assert text.endswith("ValueError: a bug\n\n")


def test_progress_of_a_run_that_goes_on_counts_its_own_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(logging.time, "monotonic", lambda: clock[0])
    log, out = quiet()
    with log.progress(1000, 500) as show:
        clock[0] = 10.0
        show(600, "")
    assert out.getvalue() == "step 600/1000    40 s left\n"


def test_progress_without_a_terminal_is_ten_lines(tmp_path: Path) -> None:
    log, out = quiet()
    with log.kept((tmp_path / "log.txt").open("a")), log.progress(1000) as show:
        for step in range(1, 1001):
            show(step, "loss 1.0")
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert out.getvalue() == (tmp_path / "log.txt").read_text()
    assert lines[0].startswith("step 100/1000  loss 1.0") and lines[-1].startswith("step 1000/1000")


@pytest.mark.parametrize(("terminal", "lines"), [(False, 10), (True, 1)])
def test_short_work_says_nothing_and_long_work_says_how_far(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, lines: int
) -> None:
    clock = [0.0]
    monkeypatch.setattr(logging.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    show = logging.Log(
        Console(file=out, width=100, force_terminal=terminal, highlight=False)
    ).patient("reading")
    for clock[0], done in ((0.0, 1), (1.9, 2)):
        show(done, 2)
    assert out.getvalue() == ""
    clock[0] = 3.0
    for done in range(1, 1001):
        show(done, 1000)
    assert out.getvalue().endswith("reading: 1,000 of 1,000\n")
    assert out.getvalue().count("\n") == lines
