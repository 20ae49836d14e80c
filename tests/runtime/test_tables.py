"""Tables show the numbers of the rows, in percent, and a dash for what is undefined."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from sparsejax.data.languages import LANGUAGES
from sparsejax.runtime import tables

SCORE = {"precision": 0.25, "recall": 0.5, "f1": 1 / 3, "support": 4}
NONE = {"precision": 0.0, "recall": None, "f1": None, "support": 0}


def row(language: str, score: dict[str, Any], **more: Any) -> dict[str, Any]:
    both = {"strict": score, "clean": NONE, "calibration_error": 0.123}
    counts = {"sentences": 1200, "clean_sentences": 7}
    return {"kind": "scores", "language": language} | score | both | counts | more


ROWS = [row("sw", SCORE), row("xx", NONE), row("macro", SCORE, worst="sw"), row("micro", SCORE)]
ROWS += [
    {"kind": "group", "by": "script", "group": "Latn", "members": ["sw"], "languages": 1}
    | {name: value for name, value in row("", SCORE).items() if name not in ("kind", "language")}
]


def lines(*shown: Any) -> list[list[str]]:
    """The words of each line of a terminal with 80 columns, without the frame."""
    out = io.StringIO()
    console = Console(file=out, width=80)
    for table in shown:
        console.print(table)
    assert "…" not in out.getvalue()  # nothing is cut off
    return [[w for w in line.split() if w not in "│┃"] for line in out.getvalue().splitlines()]


def test_scores() -> None:
    found = lines(tables.scores(ROWS, LANGUAGES))
    assert ["sw", "Swahili", "25.0", "50.0", "33.3", "4"] in found
    assert ["xx", "0.0", "-", "-", "0"] in found


def test_evaluation() -> None:
    found = lines(*tables.evaluation(ROWS, LANGUAGES))
    assert ["sw", "Swahili", "25.0", "50.0", "33.3", "33.3", "-", "12.3", "4"] in found
    assert ["xx", "0.0", "-", "-", "-", "-", "12.3", "0"] in found
    assert ["script", "Latn", "33.3", "33.3", "-", "1"] in found
    text = " ".join(word for line in found for word in line)
    assert "the 7 of 1,200 sentences" in text and "lowest F1: sw" in text


def test_perturbations() -> None:
    change = {"before": SCORE, "after": NONE}
    counts = {"changed": 3, "without_candidate": 2, "without_entity": 1, "replaced": 1234}
    replaced = [r | {"changed": change, "replacement": counts} for r in ROWS[:2]]
    replaced += [r | {"changed": change} for r in ROWS[2:4]]
    rows = {"none": ROWS} | dict.fromkeys(("language", "script", "family", "unseen"), replaced)
    rows["noise"] = replaced
    found = lines(tables.perturbations(rows, LANGUAGES), tables.replacements(rows))
    assert ["sw", "Swahili", *["33.3→-"] * 5] in found
    assert ["noise", "6", "4", "2", "2,468"] in found


def test_disagreement() -> None:
    one = {"sentences": 10, "differ": 4, "only_first_right": 3, "only_second_right": 1}
    one |= {"both_wrong": 0, "entities": 8, "lost": 2, "gained": 1}
    rates = {"sw": one | {"unseen": {"entities": 0, "lost": 0, "gained": 0}}}
    rates["all"] = rates["sw"]
    found = lines(tables.disagreement(rates, LANGUAGES))
    assert ["sw", "Swahili", "40.0", "30.0", "10.0", "25.0", "12.5", "-", "-"] in found
