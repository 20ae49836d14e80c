"""A run computes the same whatever the devices and processes, and its results are written once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

BENCH = Path(__file__).resolve().parents[1] / "bench/device_counts.py"
DIVIDED, TOGETHER = "8 devices, parameters divided over 4", "2 processes of 2 devices"
LAYOUTS = ["1 device", DIVIDED, TOGETHER]
OTHERS = ["2 devices", "8 devices", "2 processes of 2 devices, parameters divided over 4"]
SMALL = (
    "--data.languages en sw --data.train_sentences 300 --data.eval_sentences 40 "
    "--model.layers 1 --model.width 32 --model.heads 2 --model.intermediate 64 "
    "--model.vocabulary 500 --train.epochs 4 --prune.interval 5"
)

Runs = tuple[dict[str, Path], Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return trained(tmp_path_factory.mktemp("layouts"), LAYOUTS)


@pytest.fixture(scope="module")
def other_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return trained(tmp_path_factory.mktemp("layouts"), ["1 device", *OTHERS])


def trained(root: Path, layouts: list[str]) -> Runs:
    """The directories of the runs, and the report."""
    line = [sys.executable, str(BENCH), "--out", str(root / "report.json"), "--runs", str(root)]
    line += ["--layouts", *layouts, "--", *SMALL.split()]
    subprocess.run(line, check=True, timeout=900)
    found = {name: root / str(i) for i, name in enumerate(layouts)}
    return found, json.loads((root / "report.json").read_text())


def rows(directory: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == "scores"]


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_the_same_result(runs: Runs, layout: str) -> None:
    same(*runs, layout)


@pytest.mark.slow
@pytest.mark.parametrize("layout", OTHERS)
def test_the_same_result_of_other_layouts(other_runs: Runs, layout: str) -> None:
    same(*other_runs, layout)


def same(directories: dict[str, Path], report: Any, layout: str) -> None:
    assert set(report["layouts"]) == set(directories)
    first, other = directories["1 device"], directories[layout]
    masks = load_file(first / "masks.safetensors")
    assert len(masks) == 6
    for name, mask in load_file(other / "masks.safetensors").items():
        np.testing.assert_array_equal(mask, masks[name], err_msg=name)
    params = load_file(first / "model/model.safetensors")
    for name, value in load_file(other / "model/model.safetensors").items():
        if name.endswith("attention.self.key.bias"):
            # It shifts all the scores of a query alike, so its gradient is zero but for rounding,
            # of which Adam makes steps: no layout's value is the right one, and all are small.
            assert max(np.abs(value).max(), np.abs(params[name]).max()) < 1e-4
        else:
            np.testing.assert_allclose(value, params[name], rtol=0, atol=1e-5, err_msg=name)
    counts = ("language", "precision", "recall", "f1", "support", "strict", "clean", "types")
    for mine, theirs in zip(rows(other), rows(first), strict=True):
        assert {k: mine.get(k) for k in counts} == {k: theirs.get(k) for k in counts}
        if mine["calibration_error"] is not None:
            assert mine["calibration_error"] == pytest.approx(theirs["calibration_error"], abs=1e-5)


def test_the_processes_did_learn_together(runs: Runs) -> None:
    """Or equal results would prove little."""
    directories, report = runs
    assert report["layouts"]["1 device"]["macro_f1"] > 0
    metrics = [
        json.loads(line)
        for line in (directories[TOGETHER] / "metrics.jsonl").read_text().splitlines()
    ]
    assert metrics[-1]["loss"] < 0.8 * metrics[0]["loss"]
    assert "4 devices (cpu) of 2 processes" in (directories[TOGETHER] / "log.txt").read_text()
    assert "parameters divided over 4" in (directories[DIVIDED] / "log.txt").read_text()
    assert [path.name for root in directories.values() for path in root.rglob(".*")] == []


def test_the_report_says_so(runs: Runs) -> None:
    _, report = runs
    assert len({found["masks_sha256"] for found in report["layouts"].values()}) == 1
    for found in report["layouts"].values():
        assert found["mask_bits_that_differ"] == 0
        assert found["largest_difference_but_key_biases"] < 1e-5
