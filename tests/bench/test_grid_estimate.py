"""The estimate is that of the rates it is given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "grid_estimate.py"
TRAINING = {
    "device": "an abacus",
    "model": "e5-small",
    "dtype": "float32",
    "batches": {
        "32": {"tokens_per_second": {"sparsejax dense": 200.0, "sparsejax magnitude": 100.0}},
        "256": {"tokens_per_second": {"sparsejax dense": 900.0, "sparsejax magnitude": 900.0}},
    },
}
EVALUATION = {
    "device": "an abacus",
    "model": "e5-small",
    "dtype": "float32",
    "seconds": {"prediction": 6.0, "total": 8.0},
}
SMALL = {"device": "an abacus", "model": "e5-small", "seconds_beside_steps": 2.5}


def run(path: Path, shared: Path, **changed: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(SCRIPT), "--shared", str(shared), "--sentences", "3"]
    line += ["--out", str(path / "grid.json")]
    reports = {"training": TRAINING, "evaluation": EVALUATION, "small-runs": SMALL}
    for name, report in reports.items():
        text = json.dumps(report | changed.get(name.replace("-", "_"), {}))
        (path / f"{name}.json").write_text(text)
        line += [f"--{name}", str(path / f"{name}.json")]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def test_report(shared: Path, tmp_path: Path) -> None:
    done = run(tmp_path, shared)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "grid.json").read_text())
    assert (report["languages"], report["sentences"]) == (39, 117)
    tokens = report["tokens"]
    assert 117 * 3 < tokens < 117 * 128
    assert report["runs"] == 45 * 40  # 15 settings, 3 seeds; all languages, and each of 39
    hours = report["hours"]
    # All languages together and each alone: every sentence twice in each of three epochs.
    assert hours["steps"] * 3600 == pytest.approx(6 * tokens * (42 / 100 + 3 / 200))
    assert hours["evaluation"] * 3600 == pytest.approx(90 * 8)
    assert hours["beside"] * 3600 == pytest.approx(1800 * 2.5)
    assert hours["all"] == pytest.approx(sum(hours.values()) - hours["all"])
    assert report["seconds_of_an_epoch"] == pytest.approx(tokens / 100)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"evaluation": {"dtype": "bfloat16"}},
            "dtype is float32 in one file, bfloat16 in another",
        ),
        ({"small_runs": {"model": "quick"}}, "small runs of quick, but training of e5-small"),
        ({"training": {"device": "a slide rule"}}, "the files are of several devices"),
        ({"training": {"batches": {}}}, "32 sentences a step were not measured"),
        ({"small_runs": {"seconds_beside_steps": None}}, "every run compiled something"),
    ],
)
def test_mistakes(shared: Path, tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    done = run(tmp_path, shared, **changed)
    assert done.returncode == 1 and not (tmp_path / "grid.json").exists()
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1
