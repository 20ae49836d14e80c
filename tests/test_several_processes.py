"""Where one of several processes ends, the others do, with a line that says why; then all go on."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from sparsejax.errors import STOPPED

WORDS = shlex.split(
    "--data.languages en sw --data.train_sentences 300 --data.eval_sentences 40 "
    "--model.layers 1 --model.width 32 --model.heads 2 --model.intermediate 64 "
    "--model.vocabulary 500 --train.epochs 8 --train.log_every 2 --checkpoint.every 10 "
    "--prune.interval 5 --resume auto"
)

Start = Callable[..., list["subprocess.Popen[str]"]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts both processes of a run; no one of them outlives the test."""
    running: list[subprocess.Popen[str]] = []

    def begin(directory: Path, *more: str, second: str = "") -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        line = [sys.executable, "-m", "sparsejax.train", *WORDS, "--output", str(directory)]
        line += ["--parallel.coordinator", f"127.0.0.1:{port}", "--parallel.processes", "2", *more]
        both = [
            subprocess.Popen(
                [*line, "--parallel.process", str(i), *(second.split() if i else [])],
                env=os.environ | {"JAX_PLATFORMS": "cpu"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(2)
        ]
        running.extend(both)
        return both

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def reaches(directory: Path, step: int, processes: list[subprocess.Popen[str]]) -> None:
    """Waits until there is a whole checkpoint of a step, or a later one."""
    while not any(
        path.name.isdecimal() and int(path.name) >= step for path in directory.glob("checkpoints/*")
    ):
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def finish(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


def last_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("[Gloo]")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to, in one process."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    line = [sys.executable, "-m", "sparsejax.train", *WORDS, "--output", str(directory)]
    subprocess.run(line, check=True, capture_output=True, timeout=300)
    return directory


@pytest.mark.parametrize("victim", [0, 1])
def test_killed(start: Start, whole: Path, tmp_path: Path, victim: int) -> None:
    run = tmp_path / "run"
    both = start(run)
    reaches(run, 20, both)
    both[victim].kill()
    began = time.monotonic()
    survivor = both[1 - victim]
    _, errors = survivor.communicate(timeout=100)
    assert time.monotonic() - began < 90
    if victim == 0:  # JAX has lost its service, and says so by itself
        assert survivor.returncode in (STOPPED, -signal.SIGABRT)
        assert "another task died" in errors or "gone" in errors
    else:
        assert survivor.returncode == STOPPED
        line = last_lines(errors)[-1]
        assert "process" in line and line.endswith("start all processes again with --resume auto")
        assert "Traceback" not in errors
    assert not (run / "results.jsonl").exists()

    finish(start(run))
    assert "goes on after step" in (run / "log.txt").read_text()
    mine, theirs = (load_file(path / "model/model.safetensors") for path in (run, whole))
    for name, value in theirs.items():
        assert abs(value - mine[name]).max() < 1e-4, name  # of another number of devices
    assert [path.name for path in run.rglob(".*")] == []


@pytest.mark.parametrize("asked", [0, 1])
def test_one_is_asked_to_stop(start: Start, tmp_path: Path, asked: int) -> None:
    run = tmp_path / "run"
    both = start(run, "--train.epochs", "2000")
    reaches(run, 10, both)
    both[asked].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [STOPPED, STOPPED], errors
    lines = [last_lines(text)[-1] for text in errors]
    assert lines[asked].startswith("SIGTERM: stopped after step ")
    assert lines[1 - asked].startswith("another process was asked to stop: stopped after step ")
    # After the very same step, of which there is a checkpoint.
    first, second = (int(line.split("after step ")[1].split()[0]) for line in lines)
    assert first == second
    assert max(int(path.name) for path in (run / "checkpoints").iterdir()) == first


def test_a_mistake_of_one_is_told_by_all(start: Start, tmp_path: Path) -> None:
    both = start(tmp_path / "run", second="--data.dir /nowhere")
    errors = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [1, 1], errors
    lines = [last_lines(text)[-1] for text in errors]
    assert lines[1].startswith("error: ") and "/nowhere" in lines[1]
    assert lines[0].startswith("error: process 1 has ended: ") and "/nowhere" in lines[0]
    assert not (tmp_path / "run/results.jsonl").exists()


def test_other_settings_are_refused(start: Start, tmp_path: Path) -> None:
    both = start(tmp_path / "run", second="--train.learning_rate 1e-4")
    errors = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [1, 1], errors
    for text in errors:
        assert "process 1 has data or settings other than those of process 0" in text


def test_a_disk_that_fails_ends_all(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    both = start(tmp_path / "run")
    errors = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [1, 1], errors
    assert "is a file, not a directory" in last_lines(errors[0])[-1]
    assert "process 0 has ended: output" in last_lines(errors[1])[-1]
