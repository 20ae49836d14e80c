"""An analysis as tables: rows of text, for `markup` to write down."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

from sparsejax.reporting.lookup import Lookup, Row, layer_rows, uneven
from sparsejax.reporting.numbers import (
    MISSING,
    distinguishable,
    interval,
    percent,
    plain,
    points,
)
from sparsejax.reporting.runs import PERTURBATIONS


class Cell(NamedTuple):
    text: str
    bold: bool = False  # what can be told from no change


@dataclasses.dataclass
class Section:
    """Rows below a heading of their own; without one if it is empty."""

    heading: str
    rows: list[list[Cell]]


@dataclasses.dataclass
class Table:
    name: str  # for references
    title: str
    note: str  # what bold is, and the unit
    columns: list[str]
    sections: list[Section]


_CHANGE = "F1 in %; changes to dense in percentage points, bold where they are distinguishable."


def tables(analysis: Row) -> list[Table]:
    """All tables that have a row."""
    look = Lookup(analysis)
    found = [
        _overview(look),
        _resources(look),
        _spread(look),
        _correlations(look),
        _robustness(look),
        _settings(look),
        *(_languages(look, number) for number in look.series),
        *(_groups(look, number) for number in look.series),
        *_layers(look),
    ]
    return [table for table in found if any(section.rows for section in table.sections)]


def _sparsity(variant: Row) -> Cell:
    return Cell("dense" if variant["method"] == "none" else f"{100 * variant['sparsity']:.4g} %")


def _changed(row: Row | None, spread: bool = False) -> Cell:
    """The change of a row of cells or groups."""
    if row is None or row["change"] is None:
        return Cell(MISSING)
    change = row["change"]
    text = interval(change, points) if spread else points(change["mean"])
    return Cell(text, distinguishable(row["verdict"]))


def _f1(row: Row | None, spread: bool = False) -> Cell:
    if row is None:
        return Cell(MISSING)
    return Cell(interval(row["f1"]) if spread else percent(row["f1"]["mean"]))


def _both(row: Row | None) -> Cell:
    """F1, and in parentheses its change."""
    if row is None or row["change"] is None:
        return _f1(row)
    change = _changed(row)
    return Cell(f"{_f1(row).text} ({change.text})", change.bold)


def _sections(look: Lookup, cells: Any, wanted: Any = lambda variant: True) -> list[Section]:
    """A row for each variant, below the name of its curve."""
    found = []
    for heading, variants in look.sections():
        if any(wanted(v) for v in variants if v["method"] != "none" or len(variants) == 1):
            rows = [[_sparsity(v), *cells(v)] for v in variants if wanted(v)]
            found.append(Section(heading, rows))
    return found


def _overview(look: Lookup) -> Table:
    def cells(variant: Row) -> list[Cell]:
        average, row = look.all(variant["id"]), look.summary[variant["id"]]
        counts: list[tuple[int, ...]] = [(row["improved"], row["worse"], row["undecided"])]
        counts += [(row["mean_up"], row["mean_down"]), (row["improved_fdr"], row["worse_fdr"])]
        shown = [" / ".join(map(str, count)) if row["languages"] else MISSING for count in counts]
        size = Cell(MISSING if average is None else str(len(average["members"])))
        return [
            Cell(str(len(variant["seeds"]))),
            size,
            _f1(average, spread=True),
            _changed(average, spread=True),
            *map(Cell, shown),
        ]

    return Table(
        "overview",
        "Macro F1 and the number of languages that change",
        _CHANGE + " Better, worse and undecided: languages by the 95 % interval of their change;"
        " up, down: by its sign alone; FDR: better and worse after Benjamini-Hochberg at 5 %.",
        [
            "sparsity",
            "seeds",
            "languages",
            "macro F1",
            "change",
            "better / worse / undecided",
            "up / down",
            "FDR better / worse",
        ],
        _sections(look, cells),
    )


def _resources(look: Lookup) -> Table:
    def cells(variant: Row) -> list[Cell]:
        rows = [look.groups.get((variant["id"], "resource", g, "none")) for g in look.resources]
        return [_both(look.all(variant["id"])), *map(_both, rows)]

    return Table(
        "resources",
        "Macro F1 (and its change) by how many training sentences WikiAnn has",
        _CHANGE,
        ["sparsity", "all", *look.resources],
        _sections(look, cells),
    )


def _spread(look: Lookup) -> Table:
    def cells(variant: Row) -> list[Cell]:
        row = look.summary[variant["id"]]
        worst = row["worst"]
        gap_change = row["gap_change"]
        return [
            Cell(interval(row["sd"])),
            Cell(f"{worst['language']} {percent(worst['f1'])}"),
            Cell(interval(row["gap"], points)),
            Cell(interval(gap_change, points), distinguishable(row["gap_verdict"])),
        ]

    return Table(
        "spread",
        "How far languages lie apart",
        "Standard deviation of F1 between languages, lowest F1, and the gap between the groups with"
        " most and with fewest training sentences, with its change to dense, bold where it is"
        " distinguishable; all in percentage points.",
        ["sparsity", "standard deviation", "lowest", "gap", "change of the gap"],
        _sections(look, cells),
    )


_WITH = {"train": "training sentences", "wikipedia_bytes": "Wikipedia", "dense_f1": "dense F1"}


def _correlations(look: Lookup) -> Table:
    rows = {(row["variant"], row["with"]): row for row in look.analysis["correlations"]}

    def cell(variant: Row, name: str) -> Cell:
        row = rows.get((variant["id"], name))
        if row is None or row["rho"] is None:
            return Cell(MISSING)
        text = interval({"mean": row["rho"], "low": row["low"], "high": row["high"]}, plain)
        return Cell(text, distinguishable(row["verdict"]))

    return Table(
        "correlations",
        "Spearman's correlation over languages of the change with what they had",
        "With 95 % intervals (Bonett and Wright 2000); bold where they exclude 0.",
        ["sparsity", *_WITH.values()],
        _sections(
            look,
            lambda variant: [cell(variant, name) for name in _WITH],
            lambda variant: any((variant["id"], name) in rows for name in _WITH),
        ),
    )


def _robustness(look: Lookup) -> Table:
    kinds = [p for p in PERTURBATIONS if any(look.all(id, p) for id in look.variants)]

    def cells(variant: Row) -> list[Cell]:
        return [_both(look.all(variant["id"], kind)) for kind in kinds]

    def has_any(variant: Row) -> bool:
        return any(look.all(variant["id"], kind) for kind in kinds if kind != "none")

    return Table(
        "robustness",
        "Macro F1 (and its change) with every entity replaced",
        _CHANGE + " The averages of two columns may be of different languages: those for which"
        " there is something to replace entities with.",
        ["sparsity", *("as they are" if kind == "none" else kind for kind in kinds)],
        _sections(look, cells, has_any) if len(kinds) > 1 else [],
    )


def _settings(look: Lookup) -> Table:
    groups = [("all", "all languages"), *(("resource", group) for group in look.resources)]
    found = {
        (row["multilingual"], row["by"], row["group"]): row for row in look.analysis["settings"]
    }

    def cell(variant: int, by: str, group: str) -> Cell:
        row = found.get((variant, by, group))
        if row is None:
            return Cell(MISSING)
        before, after = (percent(row["f1"][s]["mean"]) for s in ("monolingual", "multilingual"))
        bold = distinguishable(row["verdict"])
        return Cell(f"{before} / {after} ({points(row['change']['mean'])})", bold)

    rows = []
    for variant in dict.fromkeys(row["multilingual"] for row in look.analysis["settings"]):
        size = Cell(str(len(found[variant, "all", "all languages"]["members"])))
        name = Cell(look.variants[variant]["label"].removeprefix("multilingual, "))
        rows.append([name, size, *(cell(variant, *group) for group in groups)])
    return Table(
        "settings",
        "Macro F1, monolingual / multilingual (and the difference)",
        "In %, over the seeds and languages that both have; the difference is paired by seed, bold "
        "where it is distinguishable. Groups by training sentences of WikiAnn.",
        ["", "languages", "all", *look.resources],
        [Section("", rows)],
    )


def _languages(look: Lookup, series: int) -> Table:
    curve, dense = look.points(series), look.dense(series)
    lost = {row["language"]: row for row in look.analysis["thresholds"] if row["series"] == series}

    def threshold(code: str) -> Cell:
        row = lost.get(code)
        if row is None:
            return Cell(MISSING)
        if row["sparsity"] is None:
            return Cell("none")
        return Cell(f"{100 * row['sparsity']:.4g} %", distinguishable(row["verdict"]))

    rows = []
    for code, name in look.names.items():
        found = [look.cells.get((variant["id"], code, "none")) for variant in curve]
        if any(found):
            before = _f1(None if dense is None else look.cells.get((dense, code, "none")))
            row = [Cell(f"{code} {name}" if name != code else code), before]
            rows.append([*row, *map(_changed, found), threshold(code)])
    return Table(
        f"languages-{series}",
        f"Change of F1 by language: {look.series[series]['label']}",
        _CHANGE + " Below 95 %: the lowest sparsity at which the mean F1 is below 95 % of dense"
        " F1, bold where the interval is as well.",
        ["language", "dense F1", *(_sparsity(v).text for v in curve), "below 95 %"],
        [Section("", rows)],
    )


def _groups(look: Lookup, series: int) -> Table:
    curve, dense = look.points(series), look.dense(series)
    sections = []
    for by in ("all", "resource", "script", "family"):
        names = list(dict.fromkeys(g["group"] for g in look.analysis["groups"] if g["by"] == by))
        rows = []
        for group in names:
            found = [look.groups.get((variant["id"], by, group, "none")) for variant in curve]
            if any(found):
                size = next(len(row["members"]) for row in found if row)
                before = look.groups.get((dense, by, group, "none")) if dense is not None else None
                row = [Cell(group), Cell(str(size)), _f1(before), *map(_changed, found)]
                rows.append(row)
        sections.append(Section("" if by == "all" else f"by {by}", rows))
    return Table(
        f"groups-{series}",
        f"Change of macro F1 by group of languages: {look.series[series]['label']}",
        _CHANGE,
        ["group", "languages", "dense F1", *(_sparsity(v).text for v in curve)],
        sections,
    )


def _layers(look: Lookup) -> Iterable[Table]:
    for variant in uneven(look):
        rows = layer_rows(look, variant["id"])
        matrices = list(dict.fromkeys(row["matrix"] for row in rows if row["layer"] is not None))
        share = {(row["layer"], row["matrix"]): row["sparsity"] for row in rows}
        layers = sorted({row["layer"] for row in rows if row["layer"] is not None})
        cells = [
            [Cell(f"layer {at}"), *(Cell(percent(share.get((at, name)))) for name in matrices)]
            for at in layers
        ]
        others = [row for row in rows if row["layer"] is None]
        note = "In %." + "".join(f" {r['matrix']}: {percent(r['sparsity'])}." for r in others)
        yield Table(
            f"layers-{variant['id']}",
            f"Realised sparsity of each matrix: {variant['label']}",
            note,
            ["", *matrices],
            [Section("", cells)],
        )
