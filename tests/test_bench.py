"""The benchmarks run; what they measure is another matter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.mark.slow
def test_train_speed(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "speed.json"
    line = [sys.executable, str(BENCH / "train_speed.py"), "--shared", str(shared)]
    line += ["--out", str(out), "--repeats", "1", "--seconds", "1"]
    subprocess.run(line, check=True, timeout=900)
    report = json.loads(out.read_text())
    assert set(report["tokens_per_second"]) == {
        "pytorch",
        "sparsejax dense",
        "sparsejax magnitude",
    }
    assert all(rate > 0 for rate in report["tokens_per_second"].values())
