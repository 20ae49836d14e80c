"""The report as one HTML page that needs nothing else: no network, no fonts, no library.

`page` puts it together: sentences (`headline`), what is there without its script (`tables`), the
numbers for the script (`data`), and `templates/`, of which the script's files are parts of one
function, in the order of `SCRIPTS`.
"""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Mapping
from importlib import resources
from typing import Any

from sparsejax.reporting.page import data, headline, tables
from sparsejax.reporting.page.text import clean, counted, escape, label, listed, name

SCRIPTS = ("base", "tip", "plot", "lines", "heat", "scatter", "table", "controls", "main")


def page(analysis: Mapping[str, Any]) -> str:
    """An analysis as a page; the same analysis gives the same page.

    Args:
      analysis: as `sparsejax.reporting.analysis` makes it.

    Returns:
      HTML that can be encoded as UTF-8.
    """
    first = headline.first_variant(analysis)
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    title = analysis["title"]
    return string.Template(_template("page.html")).substitute(
        policy=f"'sha256-{digest}'",
        title=escape(title),
        heading=name(title),
        style=_template("page.css"),
        about=_about(analysis),
        lead=escape(headline.lead(analysis)),
        sentences=tables.sentences(headline.sentences(analysis)),
        notes=tables.notes(analysis["notes"]),
        shown=name(label(first)) if first else "",
        headings=tables.headings(),
        languages=tables.languages(analysis, first),
        overview=tables.overview(analysis),
        runs=tables.runs(analysis),
        # A sweep may have thousands; on paper they would be more than all else.
        paper=" on-paper" if len(analysis["runs"]) <= 200 else "",
        number_of_runs=counted(len(analysis["runs"]), "run", "runs"),
        versions=escape(listed([f"{key} {value}" for key, value in analysis["versions"].items()])),
        data=data.script_json(_data(analysis, first)),
        script=script,
    )


def _about(analysis: Mapping[str, Any]) -> str:
    seeds = {run["seed"] for run in analysis["runs"]}
    sources = ", ".join(clean(one) for one in analysis["data"])
    return " · ".join(
        [
            counted(len(analysis["languages"]), "language", "languages"),
            counted(len(analysis["runs"]), "run", "runs"),
            counted(len(seeds), "seed", "seeds"),
            *([f"data: {name(sources)}"] if sources else []),
        ]
    )


def _data(analysis: Mapping[str, Any], first: Mapping[str, Any] | None) -> dict[str, Any]:
    return data.compact(analysis, first["id"] if first else None, headline.first_series(analysis))


def _script() -> str:
    parts = "\n".join(_template(f"{part}.js") for part in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _template(file: str) -> str:
    return resources.files(__package__).joinpath("templates", file).read_text("utf-8")
