"""What the benchmark of evaluation reports is consistent; how fast it was is another matter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "evaluate_all.py"
LANGUAGES = 39


def run(*flags: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(SCRIPT), *map(str, flags)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def test_report(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "evaluate_all.json"
    done = run("--shared", shared, "--sentences", 1, "--repeats", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())

    assert report.keys() >= {"date", "device", "versions"}
    assert (report["model"], report["dtype"], report["length"]) == ("e5-small", "float32", 128)
    assert report["languages"] == report["sentences"] == LANGUAGES
    assert report["sentences"] < report["words"] < report["tokens"]
    positions = report["batches"] * report["rows_per_batch"] * report["length"]
    assert report["padding"] == pytest.approx(1 - report["tokens"] / positions)
    assert 0 <= report["padding"] < 1
    assert report["rows"] <= report["batches"] * report["rows_per_batch"]
    assert 0 < report["attention_share_of_flops"] < 1
    assert 0 <= report["macro_f1"] <= 1

    parts = {"packing", "unpacking", "clean", "scoring", "total"}
    assert len(report["repeats"]) == len(report["host_only_repeats"]) == 2
    for other, several in (
        ("prediction", [report["first_seconds"], report["seconds"], *report["repeats"]]),
        ("batches", [report["host_only"], *report["host_only_repeats"]]),
    ):
        for seconds in several:
            assert seconds.keys() == parts | {other}
            assert all(value >= 0 for value in seconds.values())
            assert sum(seconds.values()) == pytest.approx(2 * seconds["total"])
    assert report["seconds"] in report["repeats"]
    assert report["host_only"] in report["host_only_repeats"]

    seconds, tokens = report["seconds"], report["tokens"]
    assert report["sentences_per_second"] * seconds["total"] == pytest.approx(LANGUAGES)
    assert report["tokens_per_second"] * seconds["total"] == pytest.approx(tokens)
    rate = report["prediction_tokens_per_second"]
    assert rate * seconds["prediction"] == pytest.approx(tokens)
    if report["peak_flops"] is None:
        assert report["mfu"] is None
    else:
        needed = rate * report["matrix_flops_per_token"]
        assert report["mfu"] == pytest.approx(needed / report["peak_flops"])

    assert f"{LANGUAGES} sentences of {LANGUAGES} languages" in done.stdout


def test_the_host_alone(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "host.json"
    done = run("--shared", shared, "--sentences", 1, "--repeats", 1, "--host-only", "--out", out)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["sentences"] == LANGUAGES and "seconds" not in report
    assert report["host_only"]["total"] > 0 and "host only: " in done.stdout


def test_mistakes(shared: Path, tmp_path: Path) -> None:
    done = run("--shared", tmp_path)
    assert done.stderr == f"error: --shared: {tmp_path}/data/panx is not there\n"
    done = run("--shared", shared, "--sentences", 0)
    assert done.stderr == "error: --sentences: 0 is less than 1\n"
    assert done.returncode == 1
