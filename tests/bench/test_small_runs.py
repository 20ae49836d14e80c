"""What the benchmark of small runs reports is consistent; how fast they were is another matter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "small_runs.py"


def run(*flags: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(SCRIPT), *map(str, flags)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def test_report(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "small_runs.json"
    few = ["--languages", "yo", "--sparsities", 0, "--epochs", 1, "--eval-sentences", 5]
    done = run("--shared", shared, "--out", out, "--seeds", 3, *few)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())

    assert report.keys() >= {"date", "device", "versions"}
    assert (report["model"], report["seeds"], report["sparsities"]) == ("quick", 3, [0])
    runs = report["runs"]
    assert [row["run"] for row in runs] == ["yo-0-0", "yo-0-1", "yo-0-2"]
    for row in runs:
        assert (row["language"], row["sentences"]) == ("yo", 100)
        assert row["steps"] >= 3
        assert sum(row["seconds"].values()) == pytest.approx(row["wall"])
        # No part is timed twice: then more would be timed than there was.
        assert all(seconds > -0.1 for seconds in row["seconds"].values())
        assert sum(row["compiled"].values()) == row["programs"]
        assert row["compile_seconds"] < row["wall"]
    first, *later = runs
    # The corpus is read and the programs are compiled by the first run.
    assert first["seconds"]["reading"] > 0 and not any(r["seconds"]["reading"] for r in later)
    assert first["programs"] > max(row["programs"] for row in later)
    assert all(row["seconds"]["training"] > 0 for row in runs)
    # Another seed packs other rows, but needs no other training step.
    assert "_steps" in first["compiled"]
    assert not any("_steps" in row["compiled"] for row in later)
    assert 0 < report["seconds_beside_steps"] < max(row["wall"] for row in later)

    (group,) = report["by_sentences"].values()
    assert report["by_sentences"].keys() == {"100"}
    assert group["runs"] == 3 and group["first"] == first["wall"]
    assert group["later"] <= 1.5 * group["first"]
    assert group["later_that_compile"] == sum(bool(row["programs"]) for row in later)
    assert sum(group["shares"].values()) - group["shares"]["not training"] == pytest.approx(1)
    for shares in filter(None, (group["shares"], group["shares_without_compiling"])):
        assert shares["not training"] == pytest.approx(1 - shares["training"])
    assert bool(group["shares_without_compiling"]) == (group["later_that_compile"] < 2)
    for name in ("programs", "compile_seconds", "wall"):
        assert report[name] == pytest.approx(sum(row[name] for row in runs))
    assert "100 sentences: 3 runs, the first" in done.stdout


def test_mistakes(shared: Path, tmp_path: Path) -> None:
    done = run("--shared", tmp_path)
    assert done.stderr == f"error: --shared: {tmp_path}/data/panx is not there\n"
    done = run("--shared", shared, "--languages", "xx")
    assert done.stderr == f"error: --languages: {shared}/data/panx/xx is not there\n"
    done = run("--shared", shared, "--seeds", 0)
    assert done.stderr == "error: --seeds: 0 is less than 1\n"
    assert done.returncode == 1
