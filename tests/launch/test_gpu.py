"""launch/gpu.sh with a stand-in for python, which records its arguments and ends as it is told."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "gpu.sh"

STAND_IN = """#!{python}
import json, os, pathlib, signal, sys, time
here = pathlib.Path({here!r})
if sys.argv[1] == "-c":
    print((here / "sees").read_text())
    sys.exit(0)
caught = []
signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
with open(here / "calls", "a") as calls:
    call = {{"argv": sys.argv[1:], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}}
    (here / "group").write_text(str(os.getpgrp()))
    calls.write(json.dumps(call) + "\\n")
plan = json.loads((here / "plan").read_text())
status = plan.pop(0)
(here / "plan").write_text(json.dumps(plan))
if status == "wait":
    until = time.monotonic() + 20
    while not caught and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)  # a second signal would come now
    (here / "caught").write_text(json.dumps(caught))
    status = 75
if status > 128:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), status - 128)
sys.exit(status)
"""


class Machine:
    """A directory with the stand-in: what JAX sees, how each training ends, what it was given."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.python = path / "a python"  # with a space, as a path may have
        self.python.write_text(STAND_IN.format(python=sys.executable, here=str(path)))
        self.python.chmod(0o755)
        (path / "sees").write_text("gpu 2")

    def start(self, *plan: int | str, args: tuple[str, ...] = (), **env: str) -> subprocess.Popen:
        (self.path / "plan").write_text(json.dumps(plan))
        inherited = {k: v for k, v in os.environ.items() if k not in ("GPUS", "RETRIES")}
        inherited.pop("CUDA_VISIBLE_DEVICES", None)
        return subprocess.Popen(
            ["bash", str(SCRIPT), *args],
            env={**inherited, "PYTHON": str(self.python), "PAUSE": "0", **env},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *plan: int | str, args: tuple[str, ...] = (), **env: str) -> tuple[int, str]:
        process = self.start(*plan, args=args, **env)
        error = process.communicate(timeout=30)[1]
        return process.returncode, error

    @property
    def calls(self) -> list[dict]:
        path = self.path / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_arguments_arrive_as_they_were(machine: Machine) -> None:
    args = ("--config", "a config.yaml", "--output", "$(touch x); 'y' \"z\"")
    assert machine.run(0, args=args) == (0, "")
    argv = ["-m", "sparsejax.train", "--resume", "auto", *args]
    assert machine.calls == [{"argv": argv, "gpus": None}]


def test_chosen_gpus_are_the_visible_ones(machine: Machine) -> None:
    assert machine.run(0, GPUS="0,3")[0] == 0
    assert machine.calls[0]["gpus"] == "0,3"


@pytest.mark.parametrize(
    ("plan", "status", "starts"),
    [
        ([0], 0, 1),
        ([1], 1, 1),
        ([2], 2, 1),
        ([128], 128, 1),
        ([75, 0], 0, 2),
        ([137, 75, 0], 0, 3),
        ([143, 1], 1, 2),
        ([75, 137, 75, 137], 137, 4),
    ],
)
def test_only_an_interrupted_training_is_started_again(
    machine: Machine, plan: list[int | str], status: int, starts: int
) -> None:
    assert machine.run(*plan)[0] == status
    assert len(machine.calls) == starts


def test_retries_are_bounded_by_what_is_asked_for(machine: Machine) -> None:
    status, error = machine.run(75, RETRIES="0")
    assert (status, len(machine.calls)) == (75, 1)
    assert error == "gpu.sh: exit status 75 after 1 starts; the same command goes on\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_once_and_ends_the_restarts(
    machine: Machine, number: signal.Signals
) -> None:
    process = machine.start("wait", 0)
    while not machine.calls and process.poll() is None:
        time.sleep(0.02)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does, to all of the group
    else:
        process.send_signal(number)
    error = process.communicate(timeout=30)[1]
    assert (process.returncode, error, len(machine.calls)) == (75, "", 1)
    # Two signals in a row may count as one: see that a terminal's reaches the script alone.
    assert int((machine.path / "group").read_text()) != process.pid
    assert json.loads((machine.path / "caught").read_text()) == [int(number)]


def test_a_signal_in_the_pause_ends_the_restarts(machine: Machine) -> None:
    process = machine.start(75, 0, PAUSE="60")
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(0.1)
    process.terminate()
    assert process.wait(timeout=20) == 75
    assert len(machine.calls) == 1
    process.stderr.close()


@pytest.mark.parametrize(
    ("sees", "env", "words"),
    [
        ("cpu 1", {}, "JAX sees no GPU (it sees: cpu 1)"),
        ("gpu 1", {"GPUS": "0,9"}, "GPUS=0,9 asks for 2, but JAX sees 1"),
        ("gpu 1", {"RETRIES": "often"}, "RETRIES=often is not a number"),
        ("gpu 1", {"PAUSE": "1m"}, "PAUSE=1m is not a number of seconds"),
    ],
)
def test_what_is_wrong_is_one_line(
    machine: Machine, sees: str, env: dict[str, str], words: str
) -> None:
    (machine.path / "sees").write_text(sees)
    status, error = machine.run(0, **env)
    assert (status, error.count("\n"), machine.calls) == (1, 1, [])
    assert error.startswith(f"gpu.sh: {words}")


def test_the_gpus_are_looked_for_before_every_start(machine: Machine) -> None:
    process = machine.start(137, 0, PAUSE="1")
    assert process.stderr is not None
    process.stderr.readline()
    (machine.path / "sees").write_text("cpu 1")
    assert "JAX sees no GPU" in process.communicate(timeout=30)[1]
    assert (process.returncode, len(machine.calls)) == (1, 1)


def test_the_cpu_has_to_be_allowed(machine: Machine) -> None:
    (machine.path / "sees").write_text("cpu 1")
    assert machine.run(0, ALLOW_CPU="1") == (0, "")


def documented() -> list[str]:
    text = (SCRIPT.parents[1] / "docs" / "launch.md").read_text("utf-8")
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    return [line for line in blocks.splitlines() if "launch/gpu.sh " in line]


@pytest.mark.parametrize("line", documented())
def test_documented_commands_are_accepted(machine: Machine, line: str) -> None:
    before, after = (shlex.split(part) for part in line.split("launch/gpu.sh "))
    env = dict(word.split("=", 1) for word in before)
    assert machine.run(0, args=tuple(after), **env) == (0, "")
    assert machine.calls[0]["argv"] == ["-m", "sparsejax.train", "--resume", "auto", *after]


def test_the_documentation_has_commands() -> None:
    assert len(documented()) == 2


def test_a_python_without_jax_is_named(machine: Machine) -> None:
    status, error = machine.run(0, PYTHON="/nowhere/python")
    assert status == 1
    assert error.splitlines()[-1].startswith("gpu.sh: /nowhere/python cannot start JAX")
