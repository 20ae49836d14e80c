"""Tables as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sparsejax.reporting.tables import Cell, Section, Table


def markdown(analysis: Mapping[str, Any], found: Sequence[Table], absent: Mapping[str, str]) -> str:
    """All tables with the notes.

    Args:
      absent: names of the figures that were not made, and why.
    """
    lines = [f"# {_escaped(analysis['title'])}", ""]
    lines += [f"Data: {_escaped(', '.join(analysis['data']))}.", ""]
    for heading, notes in (
        ("Notes", analysis["notes"]),
        ("Figures not made", [f"{name}: {why}" for name, why in absent.items()]),
    ):
        if notes:
            lines += [f"## {heading}", "", *(f"- {_escaped(note)}" for note in notes), ""]
    for table in found:
        lines += [f"## {_escaped(table.title)}", "", _escaped(table.note), ""]
        rows = [" | ".join(map(_escaped, table.columns))]
        rows.append(" | ".join(["---"] + ["---:"] * (len(table.columns) - 1)))
        for section in table.sections:
            if section.heading and section.rows:
                rows.append(f"**{_escaped(section.heading)}**" + " |" * (len(table.columns) - 1))
            rows += [" | ".join(map(_cell, row)) for row in section.rows]
        lines += [f"| {row} |".replace("  |", " |") for row in rows]
        lines.append("")
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    return f"**{_escaped(cell.text)}**" if cell.bold else _escaped(cell.text)


def _escaped(text: str) -> str:
    return re.sub(r"([\\|*_<>`\[\]#])", r"\\\1", " ".join(text.split()))


_LINES = 44  # of a table that fits on a page
_WIDE = 90  # letters across, above which a table is set smaller


def latex(found: Sequence[Table]) -> str:
    r"""Tables for \input, over both columns of a page; long ones are cut between their sections."""
    lines = [r"% Tables of sparsejax.report; they need \usepackage{booktabs}.", ""]
    for table in found:
        for number, sections in enumerate(_pages(table.sections)):
            lines += _tabular(table, sections, number)
    return "\n".join(lines)


def _pages(sections: Sequence[Section]) -> list[list[Section]]:
    pages: list[list[Section]] = [[]]
    used = 0
    for section in sections:
        size = len(section.rows) + bool(section.heading)
        if pages[-1] and used + size > _LINES:
            pages.append([])
            used = 0
        pages[-1].append(section)
        used += size
    return pages


def _tabular(table: Table, sections: Sequence[Section], page: int) -> list[str]:
    number = len(table.columns)
    cells = [table.columns, *([cell.text for cell in row] for s in sections for row in s.rows)]
    width = sum(max(map(len, column)) + 2 for column in zip(*cells, strict=True))
    caption = f"{_tex(table.title)}{' (continued)' if page else ''}. {_tex(table.note)}"
    lines = [
        r"\begin{table*}[p]",
        r"\centering\setlength{\tabcolsep}{3pt}" + (r"\scriptsize" if width > _WIDE else r"\small"),
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{table.name}{f'-{page + 1}' if page else ''}}}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (number - 1)}@{{}}}}",
        r"\toprule",
        " & ".join(map(_tex, table.columns)) + r" \\",
    ]
    for section in sections:
        if section.rows:
            lines.append(r"\midrule")
            if section.heading:
                heading = rf"\emph{{{_tex(section.heading)}}}"
                lines.append(rf"\multicolumn{{{number}}}{{@{{}}l}}{{{heading}}} \\")
            lines += [" & ".join(map(_tex_cell, row)) + r" \\" for row in section.rows]
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""]


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # or a row that begins with it would be an argument of \\
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


def _tex(text: str) -> str:
    """Text that any LaTeX sets: letters beyond Latin ones, which it has no font for, become ?."""
    return "".join(
        _TEX.get(c, c if " " <= c < "\x7f" or "\xc0" <= c <= "\u017f" else "?")
        for c in " ".join(text.split())
    )


def _tex_cell(cell: Cell) -> str:
    if not cell.bold:
        return _tex(cell.text)
    # \textbf leaves formulas light, so the minus sign is made bold with the rest.
    return rf"\textbf{{{_tex(cell.text)}}}".replace("$-$", r"\boldmath$-$\unboldmath{}")
