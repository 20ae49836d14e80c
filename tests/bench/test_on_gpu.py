"""bench/on_gpu.sh with a stand-in for python, which records its arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STAND_IN = """#!{python}
import json, os, pathlib, sys, time
here = pathlib.Path({here!r})
if sys.argv[1] == "-c":
    print((here / "sees").read_text())
    sys.exit(0)
with open(here / "calls", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if (here / "sleeps").exists():
    (here / f"pid{{os.getpid()}}").touch()
    time.sleep(60)
sys.exit(any((here / "fails").read_text() in word for word in sys.argv))
"""


class Machine:
    """A directory with the stand-in: what JAX sees, and which script fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.python = path / "python"
        self.python.write_text(STAND_IN.format(python=sys.executable, here=str(path)))
        self.python.chmod(0o755)
        (path / "shared/data/panx").mkdir(parents=True)
        (path / "out").mkdir()
        (path / "out/train.json").touch()
        (path / "sees").write_text("gpu")
        (path / "fails").write_text("nothing")

    def run(self, part: str, **env: str) -> tuple[int, str]:
        words = ["bash", str(REPOSITORY / "bench/on_gpu.sh"), part]
        words += [str(self.path / "shared"), str(self.path / "out")]
        dropped = ("ALLOW_CPU", "MODEL", "SENTENCES", "ROWS", "EPOCHS", "DTYPE", "ON_GPU_STARTED")
        inherited = {k: v for k, v in os.environ.items() if k not in dropped}
        done = subprocess.run(
            words,
            env=inherited | {"PYTHON": str(self.python)} | env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stderr

    @property
    def calls(self) -> list[list[str]]:
        path = self.path / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("part", "calls"),
    [("speed", 3), ("grid", 3), ("pruning", 2), ("throughput", 8), ("tests", 1)],
)
def test_what_is_called_is_there(machine: Machine, part: str, calls: int) -> None:
    assert machine.run(part) == (0, "")
    assert len(machine.calls) == calls
    for script, *flags in machine.calls:
        if script == "-m":
            continue
        assert script.startswith("bench/")
        known = (REPOSITORY / script).read_text() + (REPOSITORY / "bench/workload.py").read_text()
        own = flags[: flags.index("--")] if "--" in flags else flags
        for flag in (word for word in own if word.startswith("--")):
            assert f'"{flag}"' in known, (script, flag)
    assert len(list((machine.path / "out").glob("*.log"))) == calls


def test_the_sides_arrive_whole(machine: Machine) -> None:
    machine.run("speed")
    (call,) = (call for call in machine.calls if "2048" in call)
    start = call.index("--sides") + 1
    assert call[start : start + 2] == ["pytorch, best", "sparsejax dense"]


def test_one_that_fails_does_not_keep_others_from_being_measured(machine: Machine) -> None:
    (machine.path / "fails").write_text("evaluate_all")
    status, error = machine.run("grid")
    assert (status, len(machine.calls)) == (1, 3)
    assert error == f"on_gpu.sh: failed: evaluate; see the logs in {machine.path}/out\n"


@pytest.mark.parametrize(
    ("part", "sees", "words"),
    [("speed", "cpu", "JAX sees no GPU, only cpu"), ("all", "gpu", "usage: ")],
)
def test_mistakes(machine: Machine, part: str, sees: str, words: str) -> None:
    (machine.path / "sees").write_text(sees)
    status, error = machine.run(part)
    assert (status, error.count("\n"), machine.calls) == (1, 1, [])
    assert words in error


def test_the_grid_needs_the_rates(machine: Machine) -> None:
    (machine.path / "out/train.json").unlink()
    status, error = machine.run("grid")
    assert (status, error.count("\n"), machine.calls) == (1, 1, [])
    assert "out/train.json is not there: the part speed makes it" in error


def test_the_cpu_has_to_be_allowed(machine: Machine) -> None:
    (machine.path / "sees").write_text("cpu")
    assert machine.run("tests", ALLOW_CPU="1") == (0, "")


def is_running(pid: int) -> bool:
    """Not if it has ended and nobody has asked for its status yet."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_what_runs_too_long_is_stopped_and_leaves_nothing_running(machine: Machine) -> None:
    (machine.path / "sleeps").touch()
    assert machine.run("speed", MINUTES="0.05", TMPDIR=str(machine.path))[0] == 124
    pids = [int(path.name.removeprefix("pid")) for path in machine.path.glob("pid*")]
    assert len(pids) == 1
    for _ in range(100):
        running = [pid for pid in pids if is_running(pid)]
        if not running:
            break
        time.sleep(0.1)
    assert not running
    assert not list(machine.path.glob("tmp.*"))  # where programs were kept
