"""The analysis as the page's script reads it: the same numbers in a fraction of the bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparsejax.reporting.page.text import TEXTS, clean, label, micro, percent, text_name

VERDICTS = ("lower", "not distinguishable", "higher", "below")
"""A verdict in the data is its place here, or null."""
INTERVALS = ("seeds", "sentences")
"""What an interval is over is its place here, or null."""
GROUPINGS = ("all", "resource", "script", "family")


def compact(analysis: Mapping[str, Any], first: int | None, shown: Sequence[int]) -> dict[str, Any]:
    """What the script needs of an analysis.

    Scores come as columns, one block for each variant and perturbation. A column whose values are
    all the same is that value.

    Args:
      first: the variant that is shown at first.
      shown: the series that are.

    Returns:
      A JSON-able dict; `templates/base.js` reads it. Fractions are in millionths.
    """
    place = {one["code"]: number for number, one in enumerate(analysis["languages"])}
    kinds = {cell["perturbation"] for cell in analysis["cells"]}
    texts = [[kind, text_name(kind)] for kind in [*TEXTS, *sorted(kinds - set(TEXTS))]]
    return {
        "first": first,
        "shown": shown,
        "texts": [text for text in texts if text[0] in kinds],
        "verdicts": VERDICTS,
        "languages": [
            [
                clean(one["code"]),
                clean(one["name"] or one["code"]),
                *(clean(one[field]) for field in ("family", "script", "resource")),
                one["train"],
                one["wikipedia_bytes"],
            ]
            for one in analysis["languages"]
        ],
        "series": [[one["id"], clean(one["label"]), one["setting"]] for one in analysis["series"]],
        "variants": [
            [
                one["id"],
                label(one),
                one["setting"],
                micro(one["sparsity"]),
                percent(one["sparsity"]),
                one["series"],
                one["dense"],
                len(one["seeds"]),
                f"{one['method']} {one['embeddings']} {one['extra']}",  # what makes a pair
            ]
            for one in analysis["variants"]
        ],
        "cells": [
            [*key, [place[row["language"]] for row in rows], *_columns(rows)]
            for key, rows in _blocks(analysis["cells"], "variant", "perturbation")
        ],
        "groups": [
            [
                *key,
                [clean(row["group"]) for row in rows],
                _column([len(row["members"]) for row in rows]),
                *_columns(rows),
            ]
            for key, rows in _blocks(analysis["groups"], "variant", "perturbation", "by")
        ],
        "thresholds": [
            [
                *key,
                [place[row["language"]] for row in rows],
                _column([micro(row["sparsity"]) for row in rows]),
                _column([_verdict(row) for row in rows]),
            ]
            for key, rows in _blocks(analysis["thresholds"], "series")
        ],
        "correlations": [
            [row["variant"], row["with"]]
            + [micro(row[field]) for field in ("rho", "low", "high")]
            + [row["n"], _verdict(row)]
            for row in analysis["correlations"]
        ],
        "layers": [
            [
                *key,
                [row["layer"] for row in rows],
                [clean(row["matrix"]) for row in rows],
                _column([micro(row["sparsity"]) for row in rows]),
            ]
            for key, rows in _blocks(analysis["layers"], "variant")
        ],
    }


def script_json(value: Any) -> str:
    """JSON that can stand in a script element: no character of it means anything to HTML."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # in JSON they can only be inside of strings
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _blocks(
    rows: Iterable[Mapping[str, Any]], *fields: str
) -> Iterable[tuple[tuple[Any, ...], list[Mapping[str, Any]]]]:
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[field] for field in fields), []).append(row)
    return found.items()


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Of F1, then of the change: mean, low, high, n, of; then the verdicts."""
    columns = []
    for kind in ("f1", "change"):
        parts = [row[kind] or {} for row in rows]
        for field in ("mean", "low", "high"):
            columns.append(_column([micro(part.get(field)) for part in parts]))
        columns.append(_column([part.get("n") for part in parts]))
        columns.append(
            _column([INTERVALS.index(part["of"]) if part.get("of") else None for part in parts])
        )
    return [*columns, _column([_verdict(row) for row in rows])]


def _verdict(row: Mapping[str, Any]) -> int | None:
    return None if row["verdict"] is None else VERDICTS.index(row["verdict"])


def _column(values: list[Any]) -> Any:
    return values[0] if values and all(value == values[0] for value in values) else values
