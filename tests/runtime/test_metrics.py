"""Rows of metrics: complete, in order, and not waiting for the device."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsejax.config import Config, TrainConfig
from sparsejax.errors import UserError
from sparsejax.runtime import metrics
from sparsejax.runtime.rows import Row


def meter(
    rows: list[Row], total: int, every: int, nonfinite: Any = "stop", done: int = 0
) -> metrics.Meter:
    config = TrainConfig(log_every=every, nonfinite=nonfinite)
    return metrics.Meter([rows.append], total, config, done, lambda step, text: None)


def values(loss: float = 1.0, nonfinite: int = 0) -> dict[str, Any]:
    return {"loss": loss, "nonfinite": nonfinite}


def dense() -> dict[str, Any]:
    return {"sparsity": 0.0, "stop": False}


def state(nonfinite: int) -> Any:
    return types.SimpleNamespace(nonfinite=nonfinite)


@pytest.mark.parametrize(("total", "every"), [(30, 10), (25, 10), (5, 10), (7, 1)])
def test_rows_of_metrics(total: int, every: int) -> None:
    rows: list[Row] = []
    follow = meter(rows, total, every)
    for step in range(1, total + 1):
        follow.steps(1, values(float(step)), 100, dense)
    follow.flush(state(0))
    steps = sorted({*range(every, total + 1, every), total})
    assert [row["step"] for row in rows] == steps
    assert [row["loss"] for row in rows] == steps  # the values of that step and of no other


def test_a_row_waits_for_its_values() -> None:
    rows: list[Row] = []
    follow = meter(rows, 30, 10)
    for _ in range(10):
        follow.steps(1, values(), 1, dense)
    assert rows == []
    follow.flush(state(0))
    assert [row["step"] for row in rows] == [10]


def test_sparsity_is_asked_for_only_when_it_is_logged() -> None:
    rows: list[Row] = []
    follow = meter(rows, 30, 10)
    asked = []
    for step in range(1, 31):

        def sparsity(step: int = step) -> dict[str, Any]:
            asked.append(step)
            return {"sparsity": step / 100, "stop": step == 30}

        follow.steps(1, values(), 1, sparsity)
    follow.flush(state(0))
    assert asked == [10, 20, 30]
    assert [row["sparsity"] for row in rows] == [0.1, 0.2, 0.3]


def test_a_step_that_could_not_be_made_stops() -> None:
    rows: list[Row] = []
    follow = meter(rows, 9, 3)
    for step in range(1, 6):
        follow.steps(1, values(nonfinite=int(step >= 3)), 1, dense)
    with pytest.raises(metrics.NonFinite):
        follow.steps(1, values(nonfinite=1), 1, dense)
    assert rows == []


def test_a_state_is_not_saved_whose_step_could_not_be_made() -> None:
    follow = meter([], 9, 3)
    follow.steps(1, values(nonfinite=1), 1, dense)
    with pytest.raises(metrics.NonFinite):
        follow.flush(state(1))


def test_skipped_steps_are_counted() -> None:
    rows: list[Row] = []
    follow = meter(rows, 4, 2, "skip")
    for skipped in (0, 1, 1, 2):
        follow.steps(1, values(float("nan") if skipped else 1.0, skipped), 1, dense)
    follow.flush(state(2))
    assert [(row["loss"], row["skipped"]) for row in rows] == [(None, 1), (None, 2)]
    json.dumps(rows, allow_nan=False)


def test_rows_after_the_checkpoint_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    metrics.keep_rows(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    metrics.keep_rows(tmp_path / "none.jsonl", 2)
    assert not (tmp_path / "none.jsonl").exists()


def test_events_hold_the_same_numbers(tmp_path: Path) -> None:
    with metrics.sinks(tmp_path, Config(), 0) as sinks:
        for step in (1, 2):
            for sink in sinks:
                sink({"step": step, "loss": 0.5 / step, "grad_norm": None})
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert events(path) == [(1, "loss", 0.5), (2, "loss", 0.25)]
    assert (tmp_path / "metrics.jsonl").read_text().count("grad_norm") == 2


def test_events_do_without_torch(tmp_path: Path) -> None:
    """It takes seconds to import, and can be imported afterwards by whoever wants it."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no torch")
    program = """if True:
        import pathlib, sys
        from sparsejax.runtime import tensorboard
        with tensorboard.events(pathlib.Path(sys.argv[1]), 0) as add:
            add(1, {"loss": 0.5})
        print("torch" in sys.modules)
        import torch
    """
    line = [sys.executable, "-c", program, str(tmp_path / "events")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


def events(path: Path) -> list[tuple[int, str, float]]:
    """The scalars of a file of events: records of length, checksum, content, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, place, found = path.read_bytes(), 0, []
    while place < len(content):
        size = int(np.frombuffer(content, "<u8", 1, place)[0])
        event = Event.FromString(content[place + 12 : place + 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        place += size + 16
    return found


class Recorded:
    """What stands in for Weights & Biases' client, which needs an account."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.arguments, self.rows, self.ended = fails, {}, [], False

    def init(self, **arguments: Any) -> Recorded:
        if self.fails:
            raise RuntimeError("no API key\nconfigured")
        self.arguments = arguments
        return self

    def log(self, row: Row, step: int) -> None:
        self.rows.append((step, row))

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True


def test_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Recorded()
    (tmp_path / "config.yaml").touch()
    monkeypatch.setitem(sys.modules, "wandb", client)
    for _ in range(2):
        with metrics.wandb_run("mine", tmp_path, Config()) as sink:
            sink({"step": 3, "loss": 0.5, "grad_norm": None})
        identity = client.arguments["id"]
    assert client.rows == [(3, {"loss": 0.5})] * 2 and client.ended
    assert client.arguments["id"] == identity and client.arguments["resume"] == "allow"
    assert client.arguments["config"]["train"]["epochs"] == Config().train.epochs


def test_weights_and_biases_without_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Recorded(fails=True))
    (tmp_path / "config.yaml").touch()
    with (
        pytest.raises(UserError, match=r"'mine' cannot be logged to \(no API key configured\)"),
        metrics.wandb_run("mine", tmp_path, Config()),
    ):
        raise AssertionError("unreachable")
