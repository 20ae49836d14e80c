"""When there is more than one process; what happens among them is in test_several_processes."""

from __future__ import annotations

import socket

import jax
import pytest

from sparsejax.config import Config, ParallelConfig
from sparsejax.config_checks import validate
from sparsejax.errors import Stopped, UserError
from sparsejax.runtime import processes


@pytest.mark.parametrize(
    ("coordinator", "environment", "expected"),
    [
        ("auto", {}, False),
        ("auto", {"SLURM_STEP_NUM_TASKS": "1"}, False),
        ("auto", {"SLURM_STEP_NUM_TASKS": "2"}, True),
        # A batch script is not started once for each task.
        ("auto", {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, False),
        ("auto", {"OMPI_COMM_WORLD_SIZE": "4"}, True),
        ("auto", {"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ("auto", {"TPU_WORKER_HOSTNAMES": "a-0.a,a-1.a"}, True),
        ("cluster", {}, True),
        ("10.0.0.1:1234", {}, True),
        (None, {"SLURM_STEP_NUM_TASKS": "2"}, False),
    ],
)
def test_several(coordinator: str | None, environment: dict[str, str], expected: bool) -> None:
    config = ParallelConfig(coordinator=coordinator)
    assert processes.several(config, environment) is expected


@pytest.mark.parametrize(
    ("tasks", "nodes", "expected"), [("2", "2", True), ("16", "2", False), (None, None, False)]
)
def test_a_process_that_has_a_node_to_itself_takes_all_its_devices(
    tasks: str | None, nodes: str | None, expected: bool
) -> None:
    names = {"SLURM_STEP_NUM_TASKS": tasks, "SLURM_STEP_NUM_NODES": nodes}
    environment = {name: value for name, value in names.items() if value is not None}
    assert processes._one_on_each_node(environment) is expected


def test_one_process_needs_no_one() -> None:
    with processes.joined(ParallelConfig()):
        assert processes.is_first()
        processes.wait_for_all("nobody")


def test_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{free.getsockname()[1]}"
        config = ParallelConfig(address, processes=2, process=1)
        with (
            pytest.raises(Stopped, match=rf"nobody has answered at {address} for 1 s; look"),
            processes.joined(config),
        ):
            pass
    assert capsys.readouterr().err == f"process 1 of 2, the first at {address}\n"


def test_devices_cannot_be_emulated_too_late() -> None:
    jax.devices()
    with (
        pytest.raises(UserError, match=r"^parallel.cpu_devices: 7: JAX has its devices in this"),
        processes.joined(ParallelConfig(cpu_devices=7)),
    ):
        pass


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        (ParallelConfig("here"), "parallel.coordinator: 'here' is not HOST:PORT, auto, cluster or"),
        (
            ParallelConfig("here:65536", 1, 0),
            "'here:65536' is not HOST:PORT, auto, cluster or",
        ),
        (ParallelConfig("here:1"), "'here:1' needs --parallel.processes and --parallel.process"),
        (ParallelConfig("here:1", 2), "'here:1' needs --parallel.processes and --parallel.process"),
        (ParallelConfig("auto", 2, 0), "auto needs no parallel.processes nor parallel.process"),
        (ParallelConfig(None, 2, 0), "none needs no parallel.processes nor parallel.process"),
        (ParallelConfig("here:1", 2, 2), "parallel.process: 2 is not below parallel.processes 2"),
        (ParallelConfig("here:1", 0, 0), "parallel.processes: 0 is not at least 1"),
        (ParallelConfig(fsdp=0), "parallel.fsdp: 0 is not at least 1"),
        (ParallelConfig(cpu_devices=0), "parallel.cpu_devices: 0 is not at least 1"),
    ],
)
def test_what_does_not_go_together(parallel: ParallelConfig, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(Config(parallel=parallel))
    assert message in str(caught.value)
