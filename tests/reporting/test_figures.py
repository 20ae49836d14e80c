"""Figures are made where there is data, show all of it, and are the same bytes every time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import synthetic_runs as synthetic

from sparsejax.reporting import analysis, figures, runs, style

CODES = ("en", "hi", "eu", "yo")


def analysed(path: Path) -> dict[str, Any]:
    found = [runs.read(p, name) for p, name in runs.find([path]).items()]
    return analysis.analyse(found, "Title")


def write(
    path: Path,
    methods: Sequence[str] = ("none", "magnitude"),
    settings: Sequence[str] = ("multilingual", "monolingual"),
    perturbed: bool = True,
    scope: str = "global",
) -> None:
    for seed in range(2):
        for method in methods:
            for sparsity in (0.5, 0.9) if method != "none" else (0.9,):
                f1 = {c: 0.9 - 0.1 * at - 0.2 * sparsity * seed for at, c in enumerate(CODES)}
                noisy = {"noise": {code: value / 2 for code, value in f1.items()}}
                for setting in settings:
                    parts = [CODES] if setting == "multilingual" else [(c,) for c in CODES]
                    for codes in parts:
                        run = synthetic.config(
                            codes,
                            method,
                            sparsity,
                            seed,
                            data={"dir": "/d"},
                            prune={"scope": scope},
                        )
                        name = f"{setting}-{method}-{sparsity}-{seed}-{'-'.join(codes)}"
                        own = {code: f1[code] for code in codes}
                        synthetic.write_run(
                            path / name, run, own, noisy if perturbed and len(codes) > 1 else None
                        )


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("runs")
    write(path)
    return analysed(path)


def test_all_figures(result: dict[str, Any]) -> None:
    drawn, absent = figures.figures(result)
    assert list(drawn) == [
        "f1-multilingual", "f1-monolingual", "change-multilingual", "change-monolingual",
        "change-by-size", "robustness", "monolingual-multilingual", "layers",
    ]  # fmt: skip
    assert absent == {}


def test_figures_without_data_are_not_made(tmp_path: Path) -> None:
    write(tmp_path, ("magnitude",), ("multilingual",), perturbed=False, scope="tensor")
    drawn, absent = figures.figures(analysed(tmp_path))
    assert list(drawn) == ["f1-multilingual"]
    assert list(absent) == [
        "change", "change-by-size", "robustness", "monolingual-multilingual", "layers"
    ]  # fmt: skip


def test_only_dense_runs(tmp_path: Path) -> None:
    write(tmp_path, ("none",))
    drawn, absent = figures.figures(analysed(tmp_path))
    assert not drawn and len(absent) == 6


def test_curves_are_the_groups(result: dict[str, Any]) -> None:
    drawn, _ = figures.figures(result)
    panels = drawn["f1-multilingual"].axes
    titles = [axes.get_title() for axes in panels]
    assert titles == [
        "all 4 languages",
        "100 or fewer sentences (1 language)",
        "101 to 5,000 sentences (1 language)",
        "5,001 to 15,000 sentences (1 language)",
        "over 15,000 sentences (1 language)",
    ]
    (line,) = panels[0].lines
    x, y = (list(values) for values in line.get_data())
    assert x == pytest.approx([0, 0.30103, 1])  # -log10 of the weights left
    groups = [row for row in result["groups"] if row["by"] == "all"]
    expected = [g["f1"]["mean"] for g in groups if g["perturbation"] == "none"][:3]
    assert y == pytest.approx([100 * mean for mean in expected])
    assert len(panels[0].collections) == 1  # the band


def test_heat_map_leaves_gaps_blank(result: dict[str, Any]) -> None:
    def shown(cells: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
        drawn, _ = figures.figures(result | {"cells": cells})
        axes = drawn["change-multilingual"].axes[0]
        return [text.get_text() for text in axes.texts], [
            label.get_text() for label in axes.get_yticklabels()
        ]

    texts, labels = shown(result["cells"])
    assert len(texts) == 8
    assert labels == ["yo  100", "hi  5,000", "eu  10,000", "en  20,000"]
    key = {"variant": 1, "language": "yo", "perturbation": "none"}
    less = [c for c in result["cells"] if any(c[k] != v for k, v in key.items())]
    assert len(shown(less)[0]) == 7


def test_lines_differ_without_colour() -> None:
    looks = [style.line(number) for number in range(len(style.LINES))]
    for feature in ("linestyle", "marker", "color"):
        assert len({str(look[feature]) for look in looks}) == len(looks)


def test_ticks_do_not_touch() -> None:
    drawn = style.figure(2)
    axes = drawn.add_subplot()
    style.sparsity_axis(axes, (0, 0.5, 0.51, 0.9, 0.98), 3)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "98", "90", "51"]


@pytest.mark.parametrize("number", [0, 1, 6, 7, 13])
def test_parts_are_of_nearly_the_same_size(number: int) -> None:
    parts = style.chunks(list(range(number)), 6)
    assert [item for part in parts for item in part] == list(range(number))
    assert all(0 < len(part) <= 6 for part in parts)


PROGRAM = """
import hashlib, json, sys
from sparsejax.reporting import figures, style
drawn, _ = figures.figures(json.load(open(sys.argv[1])))
for name in ("f1-multilingual", "change-multilingual"):
    for kind in ("svg", "pdf"):
        print(hashlib.sha256(style.content(drawn[name], kind)).hexdigest())
"""


def test_the_same_bytes_in_every_process(result: dict[str, Any], tmp_path: Path) -> None:
    import json

    (tmp_path / "analysis.json").write_text(json.dumps(result))
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: none\n")

    def sums(seed: str, **more: str) -> str:
        import os

        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "analysis.json")],
            env=os.environ | {"PYTHONHASHSEED": seed} | more,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    first = sums("1")
    assert len(first.split()) == 4
    assert sums("2", MATPLOTLIBRC=str(tmp_path / "matplotlibrc"), SOURCE_DATE_EPOCH="1") == first


def test_svg_has_no_date(result: dict[str, Any]) -> None:
    drawn, _ = figures.figures(result)
    text = style.content(drawn["f1-multilingual"], "svg").decode()
    assert "<dc:date>" not in text and text.rstrip().endswith("</svg>")
