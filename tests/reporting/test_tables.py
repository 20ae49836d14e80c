"""Tables, Markdown, LaTeX and CSV say what the analysis says, and show gaps as gaps."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import synthetic_runs as synthetic

from sparsejax.reporting import analysis, markup, numbers, runs, scores, sheets, tables

CODES = ("en", "sw", "yo")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds, multi- and monolingual; sw loses 10 points, yo 20; one language is missing."""
    path = tmp_path_factory.mktemp("runs")
    drop = {"en": 0.0, "sw": 0.1, "yo": 0.2}
    for seed in range(3):
        for method in ("none", "magnitude"):
            pruned = method != "none"
            f1 = {c: 0.8 + 0.01 * seed * (1 + pruned) - pruned * drop[c] for c in CODES}
            perturbed = {"noise": {code: value / 2 for code, value in f1.items()}}
            more: dict[str, Any] = {"prune": {"scope": "global"}}
            run = synthetic.config(CODES, method, 0.9, seed, data={"dir": "/d_1%"}, **more)
            synthetic.write_run(path / f"multi-{method}-{seed}", run, f1, perturbed)
            for code in ("en", "sw"):
                run = synthetic.config([code], method, 0.9, seed, data={"dir": "/d_1%"}, **more)
                synthetic.write_run(path / f"{code}-{method}-{seed}", run, {code: f1[code] - 0.1})
    return path


@pytest.fixture(scope="module")
def found(directory: Path) -> list[runs.Run]:
    return [runs.read(path, name) for path, name in runs.find([directory]).items()]


@pytest.fixture(scope="module")
def result(found: list[runs.Run]) -> dict[str, Any]:
    return analysis.analyse(found, "A | title", ["a *note*"])


@pytest.fixture(scope="module")
def made(result: dict[str, Any]) -> dict[str, tables.Table]:
    return {table.name: table for table in tables.tables(result)}


def rows(table: tables.Table) -> dict[str, list[str]]:
    """By heading and first cell, the others."""
    return {
        f"{section.heading}: {row[0].text}": [cell.text for cell in row[1:]]
        for section in table.sections
        for row in section.rows
    }


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (numbers.percent, 0.8134, "81.3"),
        (numbers.percent, -0.02, "−2.0"),
        (numbers.percent, None, "–"),
        (numbers.points, 0.004, "+0.4"),
        (numbers.points, -0.004, "−0.4"),
        (numbers.points, -0.00004, "0.0"),
        (numbers.points, 0.00004, "0.0"),
        (numbers.plain, -0.456, "−0.46"),
    ],
)
def test_numbers(write: Any, value: float | None, text: str) -> None:
    assert write(value) == text


def test_overview(made: dict[str, tables.Table]) -> None:
    found = rows(made["overview"])
    # Changes of 0, -10 and -20 points, and 1 point more with each seed: s = 1 point.
    seeds, size, f1, change, verdicts, signs, _ = found["multilingual, magnitude: 90 %"]
    assert (seeds, size, f1) == ("3", "3", "72.0 [67.0, 77.0]")
    assert change == "−9.0 [−11.5, −6.5]"
    assert (verdicts, signs) == ("0 / 2 / 1", "1 / 2")
    assert found["multilingual, magnitude: dense"][3:] == ["–"] * 4
    assert found["monolingual, magnitude: 90 %"][1] == "2"


def test_bold_is_what_can_be_told_apart(made: dict[str, tables.Table]) -> None:
    bold = {
        row[0].text: [cell.bold for cell in row]
        for section in made["languages-0"].sections
        for row in section.rows
    }
    assert bold["en English"] == [False] * 4
    assert bold["yo Yoruba"] == [False, False, True, True]


def test_languages_and_groups(made: dict[str, tables.Table]) -> None:
    assert made["languages-0"].columns == ["language", "dense F1", "90 %", "below 95 %"]
    found = rows(made["languages-0"])
    assert found[": en English"] == ["81.0", "+1.0", "none"]
    assert found[": yo Yoruba"] == ["81.0", "−19.0", "90 %"]
    assert ": yo Yoruba" not in rows(made["languages-1"])  # no monolingual run
    groups = rows(made["groups-0"])
    assert groups["by script: Latn"] == ["3", "81.0", "−9.0"]
    assert groups["by resource: 100 or fewer"] == ["1", "81.0", "−19.0"]


def test_settings_side_by_side(made: dict[str, tables.Table]) -> None:
    """Over en and sw, the two that are trained alone as well; each gains 10 points."""
    found = rows(made["settings"])
    both = "71.0 / 81.0 (+10.0)"
    assert found[": dense"] == ["2", both, "–", both, both]
    assert found[": magnitude, 90 %"][1] == "67.0 / 77.0 (+10.0)"


def test_robustness(made: dict[str, tables.Table]) -> None:
    assert made["robustness"].columns == ["sparsity", "as they are", "noise"]
    found = rows(made["robustness"])
    assert found["multilingual, magnitude: 90 %"] == ["72.0 (−9.0)", "36.0 (−4.5)"]
    assert not any(name.startswith("monolingual") for name in found)


def test_layers_only_where_they_differ(
    made: dict[str, tables.Table], result: dict[str, Any]
) -> None:
    assert rows(made["layers-1"])[": layer 1"] == ["92.0"] * 6
    even = [row | {"sparsity": 0.9} for row in result["layers"]]
    names = [table.name for table in tables.tables(result | {"layers": even})]
    assert "overview" in names and not any(name.startswith("layers") for name in names)


def test_markdown(made: dict[str, tables.Table], result: dict[str, Any]) -> None:
    text = markup.markdown(result, list(made.values()), {"f1": "no *data*"})
    assert text.startswith("# A \\| title\n")
    assert "- a \\*note\\*" in text and "- f1: no \\*data\\*" in text
    for block in text.split("\n\n"):
        lines = block.strip().split("\n")
        if lines[0].startswith("| "):
            widths = {line.replace("\\|", "").count("|") for line in lines}
            assert len(widths) == 1, lines[0]
    assert "| yo Yoruba | 81.0 | **−19.0** | **90 %** |" in text


def test_latex_compiles(
    made: dict[str, tables.Table], result: dict[str, Any], tmp_path: Path
) -> None:
    odd = tables.Cell('50 % & #1 $x_y$ {a} \\b ~c ^d "e" <f> |g| −1 – é ł 中', bold=True)
    strange = tables.Table("odd", "[A] title_1", "100 % & more", ["[x", "y"], [])
    strange.sections = [tables.Section("a_b", [[odd, tables.Cell("[1]")]] * 60)] * 2
    text = markup.latex([*made.values(), strange])
    assert text.count(r"\begin{table*}") == text.count(r"\bottomrule") == len(made) + 2
    assert r"\textbf{\boldmath$-$\unboldmath{}19.0}" in text
    pdflatex = shutil.which("pdflatex")
    if pdflatex is None:
        pytest.skip("no pdflatex")
    (tmp_path / "tables.tex").write_text(text, "utf-8")
    for kind in ("article", "[twocolumn]{article}"):
        kind = kind if kind.startswith("[") else f"{{{kind}}}"
        (tmp_path / "paper.tex").write_text(
            rf"\documentclass{kind}\usepackage[T1]{{fontenc}}\usepackage{{booktabs}}"
            r"\begin{document}\input{tables.tex}\end{document}"
        )
        done = subprocess.run(
            [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
            cwd=tmp_path, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_scores_of_every_run(result: dict[str, Any], found: list[runs.Run]) -> None:
    lines = read_csv(sheets.scores(result, found, scores.choose(found)))
    assert len(lines) == 6 * 3 * 2 + 12
    (line,) = [
        line
        for line in lines
        if (line["run"], line["language"], line["perturbation"])
        == ("multi-magnitude-2", "yo", "none")
    ]
    assert float(line["f1"]) == pytest.approx(0.64)
    assert (line["method"], line["sparsity"], line["seed"]) == ("magnitude", "0.9", "2")
    assert (line["name"], line["resource"], line["support"]) == ("Yoruba", "100 or fewer", "200")
    assert (line["data"], line["split"], line["setting"]) == ("/d_1%", "test", "multilingual")


def test_means(result: dict[str, Any]) -> None:
    lines = read_csv(sheets.means(result))
    assert len(lines) == len(result["cells"]) + len(result["groups"])
    (line,) = [
        line
        for line in lines
        if (line["label"], line["by"], line["perturbation"])
        == ("multilingual, magnitude, 90 %", "all", "none")
    ]
    assert float(line["change_mean"]) == pytest.approx(-0.09)
    assert (line["languages"], line["verdict"]) == ("3", "lower")
    dense = [line for line in lines if line["label"] == "multilingual, dense"]
    assert {line["change_mean"] for line in dense} == {""}


def test_summary(result: dict[str, Any]) -> None:
    lines = {line["label"]: line for line in read_csv(sheets.summary(result))}
    line = lines["multilingual, magnitude, 90 %"]
    assert (line["seeds"], line["worse"], line["worst_language"]) == ("3", "2", "yo")
    assert lines["multilingual, dense"]["gap_change_mean"] == ""
