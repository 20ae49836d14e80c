"""The parts of the page that are there without its script: rows of tables, notes, runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparsejax.reporting.page.text import between, escape, label, name, percent, points

Row = Mapping[str, Any]

VERDICTS = {
    "lower": ("lower", "▼", "lower"),
    "higher": ("higher", "▲", "higher"),
    "not distinguishable": ("same", "≈", "not distinguishable"),
    None: ("none", "–", "no interval"),
}
"""Class, sign and words of a verdict."""

COLUMNS = (
    ("name", "Language", ""),
    ("train", "Sentences", "to fine-tune on"),
    ("dense", "F1 dense", ""),
    ("f1", "F1", ""),
    ("change", "Change", "in points"),
    ("low", "95 % interval", "of the change"),
    ("verdict", "Verdict", ""),
    ("below", "Below 95 % from", "the lowest sparsity with F1 under 95 % of dense"),
    ("script", "Script", ""),
    ("family", "Family", ""),
)
"""Of the table of languages: key, heading, what it means."""


def headings() -> str:
    def cell(key: str, title: str, more: str) -> str:
        meaning = f' title="{escape(more)}"' if more else ""
        return f'<th scope="col" data-key="{key}"{meaning}>{escape(title)}</th>'

    return f"<tr>{''.join(cell(*column) for column in COLUMNS)}</tr>"


def languages(analysis: Row, variant: Row | None) -> str:
    """The rows of the table of languages for one variant; the script replaces them."""
    if variant is None:
        return ""
    cells = {
        (cell["variant"], cell["language"]): cell
        for cell in analysis["cells"]
        if cell["perturbation"] == "none"
    }
    thresholds = {
        row["language"]: row for row in analysis["thresholds"] if row["series"] == variant["series"]
    }
    rows = []
    for one in sorted(analysis["languages"], key=lambda one: (one["name"] or one["code"]).lower()):
        dense = cells.get((variant["dense"], one["code"]))
        cell = cells.get((variant["id"], one["code"]))
        change = cell["change"] if cell else None
        rows.append(
            f'<tr><th scope="row">{name(one["name"] or one["code"])} '
            f'<span class="code">{name(one["code"])}</span></th>'
            f"<td>{'–' if one['train'] is None else format(one['train'], ',')}</td>"
            f"<td>{points(dense['f1']['mean']) if dense else '–'}</td>"
            f"<td>{points(cell['f1']['mean']) if cell else '–'}</td>"
            f"<td>{points(change['mean'] if change else None, signed=True)}</td>"
            f"<td>{between(change, signed=True)}</td>"
            f"{_verdict(cell['verdict']) if cell else '<td>no score</td>'}"
            f"<td>{_below(thresholds.get(one['code']))}</td>"
            f"<td>{name(one['script'])}</td><td>{name(one['family'])}</td></tr>"
        )
    return "\n".join(rows)


def overview(analysis: Row) -> str:
    """A row for each variant: its mean over languages, and how many languages it changes."""
    macro = {
        row["variant"]: row
        for row in analysis["groups"]
        if row["by"] == "all" and row["perturbation"] == "none"
    }
    summaries = {row["variant"]: row for row in analysis["summary"]}
    names = {one["code"]: one["name"] or one["code"] for one in analysis["languages"]}
    return "\n".join(
        _overview_row(one, macro.get(one["id"]), summaries.get(one["id"]), names)
        for one in analysis["variants"]
    )


def _overview_row(
    variant: Row, macro: Row | None, summary: Row | None, names: Mapping[str, str]
) -> str:
    change = macro["change"] if macro else None
    counts = worst = gap = corrected = "–"
    if summary:
        worst = f"{name(names[summary['worst']['language']])} {points(summary['worst']['f1'])}"
        gap = points((summary["gap_change"] or {}).get("mean"), signed=True)
        if summary["gap_verdict"] is not None:
            sign = VERDICTS[summary["gap_verdict"]][1]
            gap += f' <span title="{summary["gap_verdict"]}">{sign}</span>'
    if summary and variant["dense"] is not None:
        counts = f"{summary['worse']} / {summary['improved']} / {summary['undecided']}"
        corrected = f"{summary['worse_fdr']} / {summary['improved_fdr']}"
    return (
        f'<tr data-variant="{variant["id"]}"><th scope="row">{name(label(variant))}</th>'
        f"<td>{len(variant['seeds'])}</td>"
        f"<td>{points(macro['f1']['mean']) if macro else '–'}</td>"
        f"<td>{points(change['mean'] if change else None, signed=True)}</td>"
        f"<td>{between(change, signed=True)}</td>"
        f"{_verdict(macro['verdict']) if macro and change else '<td>–</td>'}"
        f"<td>{counts}</td><td>{corrected}</td><td>{worst}</td><td>{gap}</td></tr>"
    )


def notes(found: Sequence[str], at_once: int = 6) -> str:
    """All of them, of which a reader sees so many without opening the rest."""
    if not found:
        return "<p>None: every run of every variant is there.</p>"

    def items(some: Sequence[str]) -> str:
        return f"<ul>{''.join(f'<li>{name(note)}</li>' for note in some)}</ul>"

    if len(found) <= at_once + 1:
        return items(found)
    rest = f"<summary>{len(found) - at_once} more</summary>{items(found[at_once:])}"
    return f"{items(found[:at_once])}<details>{rest}</details>"


def sentences(found: Iterable[tuple[str, str]]) -> str:
    return "".join(
        f"<div><dt>{name(about[:1].upper() + about[1:])}</dt><dd>{escape(text)}</dd></div>"
        for about, text in found
    )


def runs(analysis: Row) -> str:
    labels = {one["id"]: label(one) for one in analysis["variants"]}
    return "\n".join(
        f'<tr><th scope="row">{name(run["name"])}</th>'
        f"<td>{name(labels.get(run['variant'], '–'))}</td><td>{escape(run['seed'])}</td>"
        f"<td>{escape(run['status'])}</td></tr>"
        for run in analysis["runs"]
    )


def _verdict(verdict: str | None) -> str:
    kind, sign, words = VERDICTS[verdict]
    return f'<td class="verdict {kind}"><span aria-hidden="true">{sign}</span> {words}</td>'


def _below(threshold: Row | None) -> str:
    if threshold is None:
        return "–"
    if threshold["sparsity"] is None:
        return "at none"
    sign = "≈ " if threshold["verdict"] == "not distinguishable" else ""
    return f"{sign}{percent(threshold['sparsity'])}"
