"""Where one of several processes ends, the others do, with a line that says why; then all go on."""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sparsejax import evaluate
from sparsejax.errors import STOPPED

WORDS = shlex.split(
    "--data.languages en sw --data.train_sentences 300 --data.eval_sentences 40 "
    "--model.layers 1 --model.width 32 --model.heads 2 --model.intermediate 64 "
    "--model.vocabulary 500 --train.epochs 4 --train.log_every 2 --checkpoint.every 10 "
    "--prune.interval 5 --resume auto"
)

Start = Callable[..., list["subprocess.Popen[str]"]]
Whole = Callable[[int], Path]


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one process has compiled the next ones need not."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        environment.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


def both(module: str, *words: str, second: str = "") -> list[subprocess.Popen[str]]:
    """Starts two processes of a program that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", module, *words, "--parallel.processes", "2"]
    line += ["--parallel.coordinator", f"127.0.0.1:{port}", "--parallel.process"]
    return [
        subprocess.Popen(
            [*line, str(i), *(second.split() if i else [])],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]


def train(directory: Path, *more: str, second: str = "") -> list[subprocess.Popen[str]]:
    words = [*WORDS, "--output", str(directory), *more]
    return both("sparsejax.train", *words, second=second)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts both processes of a run; no one of them outlives the test."""
    running: list[subprocess.Popen[str]] = []

    def begin(directory: Path, *more: str, second: str = "") -> list[subprocess.Popen[str]]:
        running.extend(processes := train(directory, *more, second=second))
        return processes

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
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The run to which nothing happened, by `parallel.fsdp`: with 2, each process has one half of
    the parameters."""

    @functools.cache
    def run(fsdp: int) -> Path:
        directory = tmp_path_factory.mktemp("whole") / "run"
        finish(train(directory, "--parallel.fsdp", str(fsdp)))
        return directory

    return run


def evidence(run: Path) -> dict[str, Any]:
    """What a run computed, to the bit."""
    masks = load_file(run / "masks.safetensors")
    found: dict[str, Any] = {name: mask.tobytes() for name, mask in masks.items()}
    for name in ("model/model.safetensors", "results.jsonl"):
        found[name] = (run / name).read_bytes()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return found | {"metrics": [row | {"tokens_per_second": None} for row in rows]}


@pytest.mark.parametrize(("victim", "fsdp"), [pytest.param(0, 1, marks=pytest.mark.slow), (1, 2)])
def test_killed(start: Start, whole: Whole, tmp_path: Path, victim: int, fsdp: int) -> None:
    run, width = tmp_path / "run", ("--parallel.fsdp", str(fsdp))
    processes = start(run, *width)
    reaches(run, 20, processes)
    processes[victim].kill()
    began = time.monotonic()
    survivor = processes[1 - victim]
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

    finish(start(run, *width))
    assert "goes on after step" in (run / "log.txt").read_text()
    assert evidence(run) == evidence(whole(fsdp))
    assert [path.name for path in run.rglob(".*")] == []


def test_evaluated_together(whole: Whole, tmp_path: Path) -> None:
    """Two processes give the scores of one, which only the first of them writes."""
    run = tmp_path / "run"
    shutil.copytree(whole(2), run)
    words = [str(run), "--data.eval_languages", "sw", "de", "--perturb", "noise"]
    evaluate.main(words)
    alone = (run / "results.jsonl").read_bytes()
    finish(both("sparsejax.evaluate", *words, "--parallel.fsdp", "2"))
    mine, theirs = (
        [json.loads(line) for line in raw.splitlines()[1:]]
        for raw in ((run / "results.jsonl").read_bytes(), alone)
    )
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        errors = [row.pop("calibration_error", None) or 0.0 for row in (one, other)]
        assert errors[0] == pytest.approx(errors[1], abs=1e-5)
        assert one == other


def test_other_sentences_are_refused(whole: Whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole(2), run)
    before = (run / "results.jsonl").read_bytes()
    processes = both("sparsejax.evaluate", str(run), second="--data.subsample 5")
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], errors
    assert all("the processes do not have the same sentences; start all" in e for e in errors)
    assert (run / "results.jsonl").read_bytes() == before


@pytest.mark.slow  # tests/runtime/test_vocabulary.py has a smaller one
def test_it_goes_on_in_one_process(start: Start, whole: Whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    processes = start(run, "--parallel.fsdp", "2")
    reaches(run, 20, processes)
    for process in processes:
        process.kill()
        process.communicate()
    line = [sys.executable, "-m", "sparsejax.train", *WORDS, "--output", str(run)]
    subprocess.run(line, check=True, capture_output=True, timeout=300)
    assert "goes on after step" in (run / "log.txt").read_text()
    masks, wanted = (load_file(path / "masks.safetensors") for path in (run, whole(1)))
    assert {name: mask.tobytes() for name, mask in masks.items()} == {
        name: mask.tobytes() for name, mask in wanted.items()
    }
    params, others = (load_file(path / "model/model.safetensors") for path in (run, whole(1)))
    for name, value in others.items():  # rounded in another order
        np.testing.assert_allclose(params[name], value, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("asked", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_one_is_asked_to_stop(start: Start, tmp_path: Path, asked: int) -> None:
    run = tmp_path / "run"
    processes = start(run, "--train.epochs", "2000")
    reaches(run, 10, processes)
    processes[asked].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [STOPPED, STOPPED], errors
    lines = [last_lines(text)[-1] for text in errors]
    assert lines[asked].startswith("SIGTERM: stopped after step ")
    assert lines[1 - asked].startswith("another process was asked to stop: stopped after step ")
    # After the very same step, of which there is a checkpoint.
    first, second = (int(line.split("after step ")[1].split()[0]) for line in lines)
    assert first == second
    assert max(int(path.name) for path in (run / "checkpoints").iterdir()) == first


def test_a_mistake_of_one_is_told_by_all(start: Start, tmp_path: Path) -> None:
    processes = start(tmp_path / "run", second="--data.dir /nowhere")
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], errors
    lines = [last_lines(text)[-1] for text in errors]
    assert lines[1].startswith("error: ") and "/nowhere" in lines[1]
    assert lines[0].startswith("error: process 1 has ended: ") and "/nowhere" in lines[0]
    assert not (tmp_path / "run/results.jsonl").exists()


@pytest.mark.parametrize(
    "other",
    ["--data.alpha 0.5", pytest.param("--model.dtype bfloat16", marks=pytest.mark.slow)],
)
def test_other_settings_are_refused(start: Start, tmp_path: Path, other: str) -> None:
    processes = start(tmp_path / "run", second=other)
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], errors
    for text in errors:
        assert "the processes do not have the same data and settings; start all" in text


def test_a_disk_that_fails_ends_all(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    processes = start(tmp_path / "run")
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], errors
    assert "is a file, not a directory" in last_lines(errors[0])[-1]
    assert "process 0 has ended: output" in last_lines(errors[1])[-1]
