"""The tables of docs/results.md show the figures that are committed beside them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def script(name: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "bench")  # as for a script that is started
        return runpy.run_path(str(ROOT / "bench" / name))


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def test_39_languages() -> None:
    runs = json.loads((DOCS / "results/wikiann39.json").read_text("utf-8"))
    lines = (DOCS / "results.md").read_text("utf-8").splitlines()
    assert len(runs["dense"]["none"]) == 39 + 2  # macro and micro
    for code in runs["dense"]["none"]:
        cells = [
            percent(run["none"][code][name]) for name in ("f1", "clean") for run in runs.values()
        ]
        assert f"| {code} | {' | '.join(cells)} |" in lines
    for kind in ("language", "script", "family", "unseen", "noise"):
        found = [
            percent(run[kind]["macro"][name])
            for run in runs.values()
            for name in ("before", "after")
        ]
        assert any(line.endswith(f" | {' | '.join(found)} |") for line in lines)


def test_speed_of_cut_models() -> None:
    report = json.loads((DOCS / "benchmarks/cut_speed.json").read_text("utf-8"))
    lines = (DOCS / "export.md").read_text("utf-8").splitlines()
    for name, size in report["encoder_parameters"].items():
        cells = [
            f"{report['tokens_per_second'][side][name]:,.0f}"
            f" | {report['times_as_fast_as_whole'][side][name]:.2f}"
            for side in ("sparsejax", "pytorch")
        ]
        assert f"| {name} | {size:,} | {' | '.join(cells)} |" in lines


def test_sizes_of_compressed_models_are_those_measured() -> None:
    text = (DOCS / "export.md").read_text("utf-8")
    found = json.loads((DOCS / "benchmarks/compressed_size.json").read_text("utf-8"))
    for values, shares in found["384 wide"].items():
        wide = found["768 wide"][values]["tensors"]
        row = (
            f"| {values} | {shares['tensors']:.3f} | {wide:.3f} | {shares['plain_bit_mask']:.3f} |"
        )
        assert row in text


def test_devices_and_processes() -> None:
    report = json.loads((DOCS / "scaling/device_counts.json").read_text("utf-8"))
    lines = (DOCS / "scaling.md").read_text("utf-8").splitlines()
    row = script("device_counts.py")["row"]
    assert len(report["layouts"]) == 6
    for name, found in report["layouts"].items():
        assert row(name, found) in lines


def test_pods() -> None:
    report = json.loads((DOCS / "scaling/aot.json").read_text("utf-8"))
    lines = (DOCS / "scaling.md").read_text("utf-8").splitlines()
    bench = script("aot_table.py")
    commands = {f"python -m sparsejax.aot {flags}" for flags in bench["LINES"]}
    assert {line["command"] for line in report["lines"]} == commands
    for line in report["lines"]:
        assert bench["row"](line) in lines


def test_startup() -> None:
    seconds = json.loads((DOCS / "benchmarks/startup.json").read_text("utf-8"))["seconds"]
    text = (DOCS / "benchmarks.md").read_text("utf-8")
    for name, value in seconds.items():
        shown = name if "step" in name else f"`{name}`"
        assert f"| {shown} | {value:.2f} |" in text
