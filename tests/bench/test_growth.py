"""What the benchmark of growth reports is consistent; how fast it was is another matter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "growth.py"


def run(*flags: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(SCRIPT), *map(str, flags)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def measured(shared: Path, out: Path, axis: str, *flags: object) -> list[dict[str, Any]]:
    """The points of one axis; there is no other one in the report."""
    done = run("--shared", shared, "--out", out, "--axes", axis, *flags)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report.keys() >= {"date", "device", "versions", "model"}
    assert {"sentences", "lengths", "languages"} & report.keys() == {axis}
    points: list[dict[str, Any]] = report[axis]
    assert done.stdout.count("\n") == len(points)
    return points


def test_sentences(shared: Path, tmp_path: Path) -> None:
    few, more = measured(shared, tmp_path / "new/out.json", "sentences", "--sentences", 100, 5000)
    for point, asked in ((few, 100), (more, 5000)):
        # Of each of 39 languages one more than there need be, at most.
        assert asked <= point["sentences"] < asked + 39
        assert point["sentences"] <= 39 * point["of_each_language_at_most"]
        assert point["pieces"] <= 128 * point["rows"]
        assert point["bytes_before"] <= point["peak_bytes"]
        assert all(seconds > 0 for seconds in point["seconds"].values())
    assert more["pieces"] > few["pieces"]
    assert more["peak_bytes"] >= 0.8 * few["peak_bytes"]


def test_lengths(shared: Path, tmp_path: Path) -> None:
    flags = ["--lengths", 32, "--tokens", 256, "--model", "quick"]
    (point,) = measured(shared, tmp_path / "out.json", "lengths", *flags)
    assert (point["length"], point["rows"]) == (32, 8)
    assert point["steps"] > 1
    assert 128 < point["useful_tokens_per_step"] < 512
    assert point["microseconds_per_token"] * point["tokens_per_second"] == pytest.approx(1e6)
    assert 0 < point["attention_share_of_flops"] < 1
    assert min(point["bytes_of_arguments"], point["bytes_of_temporaries"]) > 0


@pytest.mark.slow
def test_languages(shared: Path, tmp_path: Path) -> None:
    flags = ["--languages", 1, 3, "--evaluated", 60]
    one, three = measured(shared, tmp_path / "out.json", "languages", *flags)
    assert (one["languages"], three["languages"]) == (1, 3)
    assert one["sentences"] == three["sentences"] == 60
    # Two more rows of languages, and at least as many groups.
    assert three["rows_of_results"] >= one["rows_of_results"] + 2
    for point in (one, three):
        assert point["seconds"].keys() == {"tagging", "scoring", "table"}
        assert all(seconds > 0 for seconds in point["seconds"].values())
    assert three["peak_bytes"] >= 0.8 * one["peak_bytes"]


def test_mistakes(shared: Path, tmp_path: Path) -> None:
    done = run("--shared", tmp_path)
    assert done.stderr == f"error: --shared: {tmp_path}/data/panx is not there\n"
    done = run("--shared", shared, "--languages", 1, 40)
    assert done.stderr == "error: --languages: 40 is not between 1 and 39\n"
    done = run("--shared", shared, "--lengths", 4, "--axes", "lengths")
    assert done.stderr == "error: --lengths: 4 is not between 8 and 512\n"
    done = run("--shared", shared, "--evaluated", 1_000_000)
    assert done.stderr == "error: --evaluated: 1000000 is not between 1 and 3900\n"
    assert done.returncode == 1
