"""Rows of an analysis, found by what they are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


class Lookup:
    """Rows of an analysis by what they are of."""

    def __init__(self, analysis: Row) -> None:
        self.analysis = analysis
        self.variants: dict[int, Row] = {v["id"]: v for v in analysis["variants"]}
        self.series: dict[int, Row] = {s["id"]: s for s in analysis["series"]}
        self.cells = {
            (c["variant"], c["language"], c["perturbation"]): c for c in analysis["cells"]
        }
        self.groups = {
            (g["variant"], g["by"], g["group"], g["perturbation"]): g for g in analysis["groups"]
        }
        self.summary = {row["variant"]: row for row in analysis["summary"]}
        self.names = {language["code"]: language["name"] for language in analysis["languages"]}
        self.resources = list(
            dict.fromkeys(g["group"] for g in analysis["groups"] if g["by"] == "resource")
        )

    def all(self, variant: int, perturbation: str = "none") -> Row | None:
        """The macro average over all languages."""
        return self.groups.get((variant, "all", "all languages", perturbation))

    def points(self, series: int) -> list[Row]:
        """The variants of a curve, by sparsity."""
        found = [v for v in self.variants.values() if v["series"] == series]
        return sorted(found, key=lambda v: v["sparsity"])

    def dense(self, series: int) -> int | None:
        """The variant that a curve is compared with."""
        return next((v["dense"] for v in self.points(series) if v["dense"] is not None), None)

    def sections(self) -> list[tuple[str, list[Row]]]:
        """Every variant below the name of its curve, which begins with its dense variant."""
        found, shown = [], set()
        for number, series in self.series.items():
            dense = self.dense(number)
            before = [] if dense is None else [self.variants[dense]]
            found.append((series["label"], before + self.points(number)))
            shown.add(dense)
        alone = [v for v in self.variants.values() if v["series"] is None and v["id"] not in shown]
        return [(v["label"], [v]) for v in alone] + found


def uneven(look: Lookup) -> list[Row]:
    """The sparsest variant of each series whose matrices are not all as sparse as each other."""
    found = []
    for series in look.series:
        for variant in reversed(look.points(series)):
            rows = layer_rows(look, variant["id"])
            shares = [row["sparsity"] for row in rows]
            if shares and max(shares) - min(shares) > 0.005:
                found.append(variant)
                break
    return found


def layer_rows(look: Lookup, variant: int) -> list[Row]:
    """The realised sparsity of each matrix of a variant."""
    return [row for row in look.analysis["layers"] if row["variant"] == variant]
