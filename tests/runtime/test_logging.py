"""What is logged: complete, in order, and not waiting for the device."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sparsejax.errors import UserError
from sparsejax.runtime import logging


def quiet() -> tuple[logging.Log, io.StringIO]:
    out = io.StringIO()
    return logging.Log(Console(file=out, width=100)), out


def test_log_file_holds_what_was_printed_before_and_after(tmp_path: Path) -> None:
    log, out = quiet()
    log("before")
    log.open(tmp_path / "log.txt")
    log("after " + "x" * 150)
    text = "before\nafter " + "x" * 150 + "\n"
    assert (tmp_path / "log.txt").read_text() == text == out.getvalue()


def test_progress_without_a_terminal_is_ten_lines() -> None:
    log, out = quiet()
    with log.progress(1000) as show:
        for step in range(1, 1001):
            show(step, "loss 1.0")
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
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


def dense() -> float:
    return 0.0


@pytest.mark.parametrize(("total", "every"), [(30, 10), (25, 10), (5, 10), (7, 1)])
def test_rows_of_metrics(tmp_path: Path, total: int, every: int) -> None:
    follow = logging.Meter(tmp_path / "metrics.jsonl", total, every)
    shown = []
    for step in range(1, total + 1):
        follow.step({"loss": float(step)}, 100, lambda done, text: shown.append(done), dense)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = sorted({*range(every, total + 1, every), total})
    assert [row["step"] for row in rows] == steps == shown
    assert [row["loss"] for row in rows] == steps  # the values of that step and of no other


def test_sparsity_is_asked_for_only_when_it_is_logged(tmp_path: Path) -> None:
    follow = logging.Meter(tmp_path / "metrics.jsonl", 30, 10)
    asked = []
    for step in range(1, 31):

        def sparsity(step: int = step) -> float:
            asked.append(step)
            return step / 100

        follow.step({"loss": 1.0}, 1, lambda done, text: None, sparsity)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert asked == [10, 20, 30]
    assert [row["sparsity"] for row in rows] == [0.1, 0.2, 0.3]


def test_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    follow = logging.Meter(tmp_path / "metrics.jsonl", 9, 3)
    for step in range(1, 6):
        loss = float("nan") if step >= 3 else 1.0
        follow.step({"loss": loss}, 1, lambda done, text: None, dense)
    with pytest.raises(UserError, match=r"the loss is nan at step 3; lower --train\.learning_rate"):
        follow.step({"loss": float("nan")}, 1, lambda done, text: None, dense)
