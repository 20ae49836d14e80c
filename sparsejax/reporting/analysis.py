"""All that a report says, as one dictionary that JSON can hold.

F1 and its changes are fractions. What is missing is absent, and never a zero. The keys:

- title, versions, data, notes: of the report
- runs, languages, variants, series: what there is (`variants`)
- cells: F1 and its change by variant, language and perturbation
- groups: macro averages of the same
- summary: of each variant, how many languages changed, and how far they lie apart
- thresholds: of each series and language, the sparsity at which it falls below 95 % of dense F1
- correlations: of the change with how much there was to train on
- settings: macro F1 of monolingual and of multilingual runs over the same languages
- layers: the realised sparsity of each matrix
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import sparsejax
from sparsejax.data import embedded, languages
from sparsejax.data.languages import Language
from sparsejax.errors import UserError
from sparsejax.reporting import changes, settings, statistics, variants
from sparsejax.reporting import notes as in_words
from sparsejax.reporting import scores as scoring
from sparsejax.reporting.pairs import Pair, pair_up, prepare
from sparsejax.reporting.runs import Run
from sparsejax.reporting.scores import Resamples
from sparsejax.reporting.statistics import Interval
from sparsejax.reporting.variants import Variant

Analysis = dict[str, Any]
_DIGITS = 7  # of fractions in the dictionary


def analyse(found: Sequence[Run], title: str, notes: Iterable[str] = ()) -> Analysis:
    """Everything, from runs that were read.

    Args:
      found: finished and unfinished ones.
      title: of the report.
      notes: what is to be said before the analysis' own notes.

    Raises:
      UserError: no run has a score.
    """
    chosen = scoring.choose(found)
    scored = [run for run in found if (run.name, "none") in chosen]
    if not scored:
        raise UserError("no run has scores on its test split; is none finished?")
    members, more = variants.group(scored)
    table, unread = _table(scored)
    codes = _codes(scored, chosen, table)
    resamples = Resamples()
    pairs = pair_up(members, chosen, codes, resamples)
    prepare(pairs, codes, resamples)
    clean = [pair for pair in pairs if pair.perturbation == "none"]
    cells = {id(pair): changes.cells(pair) for pair in pairs}
    groupings = changes.groupings(codes, table)
    beside, differ = settings.compare(
        {pair.variant.id: pair.own for pair in clean}, members, groupings, resamples
    )
    averaged = [row for pair in pairs for row in changes.groups(pair, groupings)]
    sizes = _sizes(scored, codes, table)
    facts = _facts(table, codes, sizes)
    analysis = {
        "title": title,
        "versions": {"sparsejax": sparsejax.__version__},
        "data": sorted({chosen[run.name, "none"].setting["data"] for run in scored}),
        "notes": [],
        "runs": _runs(found, members),
        "languages": [_language(table, code, sizes) for code in codes],
        "series": _series(members),
        "variants": [_variant(pair) for pair in clean],
        "cells": [cell for pair in pairs for cell, _ in cells[id(pair)]],
        "groups": averaged,
        "summary": [changes.summary(pair, cells[id(pair)], table) for pair in clean],
        "thresholds": changes.thresholds(clean),
        "correlations": [row for pair in clean for row in changes.correlations(pair, facts)],
        "settings": beside,
        "layers": [row for variant in members for row in _layers(variant)],
    }
    analysis["notes"] = [
        *notes,
        *unread,
        *resamples.problems,
        *in_words.about(found, members, pairs, analysis),
        *more,
        *differ,
    ]
    rounded: Analysis = _rounded(analysis)
    return rounded


def _table(found: Sequence[Run]) -> tuple[dict[str, Language], list[str]]:
    """What is known of languages: the built-in table, then the runs' own."""
    table, notes = languages.table(), []
    for path in sorted({run.config.data.language_table or "" for run in found} - {""}):
        try:
            table |= languages.table(path)
        except UserError as error:
            notes.append(f"a table of languages is not used: {error}")
    return table, notes


def _codes(
    found: Sequence[Run], chosen: scoring.Evaluations, table: Mapping[str, Language]
) -> list[str]:
    """All languages with a score, in the table's order."""
    there = {code for run in found for code in chosen[run.name, "none"].rows}
    there |= {code for evaluation in chosen.values() for code in evaluation.rows}
    order = {code: place for place, code in enumerate(table)}
    return sorted(there, key=lambda code: (order.get(code, len(order)), code))


def _sizes(
    found: Sequence[Run], codes: Sequence[str], table: Mapping[str, Language]
) -> dict[str, int | None]:
    """Training sentences of each language, as far as they are known."""
    made = all(run.config.data.dir is run.config.data.hub is None for run in found)
    limits = {run.config.data.train_sentences for run in found}
    limit = limits.pop() if len(limits) == 1 else None
    sizes: dict[str, int | None] = {}
    for code in codes:
        whole = embedded.TRAIN_SENTENCES if made else {}
        size = whole.get(code, languages.lookup(table, code).wikiann_train)
        sizes[code] = size if size is None or limit is None else min(size, limit)
    return sizes


def _facts(
    table: Mapping[str, Language], codes: Sequence[str], sizes: Mapping[str, int | None]
) -> dict[str, list[int | None]]:
    return {
        "train": [sizes[code] for code in codes],
        "wikipedia_bytes": [languages.lookup(table, code).wikipedia_bytes for code in codes],
    }


def _layers(variant: Variant) -> list[dict[str, Any]]:
    """The realised sparsity of each pruned matrix, over the runs of a variant."""
    if variant.method == "none":
        return []
    values: dict[str, list[float]] = defaultdict(list)
    for run in variant.runs:
        for path, count in run.audit["leaves"].items() if run.audit else ():
            values[path].append(count["sparsity"])
    rows = []
    for path, found in values.items():
        layer, matrix = _place(path)
        sparsity = statistics.mean(found)
        row = {"variant": variant.id, "layer": layer, "matrix": matrix, "sparsity": sparsity}
        rows.append(row)
    # Embeddings, which are of no layer, come first.
    return sorted(rows, key=lambda r: (-1 if r["layer"] is None else r["layer"], r["matrix"]))


def _place(path: str) -> tuple[int | None, str]:
    """encoder/layer_3/attention/query/kernel is the matrix attention/query of layer 3."""
    parts = path.split("/")
    for at, part in enumerate(parts):
        number = part.removeprefix("layer_")
        if number != part and number.isdigit():
            return int(number), "/".join(parts[at + 1 : -1])
    return None, "/".join(parts[:-1])


def _runs(found: Sequence[Run], members: Sequence[Variant]) -> list[dict[str, Any]]:
    variant_of = {run.name: variant.id for variant in members for run in variant.runs}
    return [
        {
            "name": run.name,
            "variant": variant_of.get(run.name),
            "seed": run.seed,
            "status": "finished" if run.finished else "unfinished",
        }
        for run in found
    ]


def _language(
    table: Mapping[str, Language], code: str, sizes: Mapping[str, int | None]
) -> dict[str, Any]:
    known = languages.lookup(table, code)
    return {
        "code": code,
        "name": known.name or code,
        "family": known.family,
        "branch": known.branch,
        "script": known.script,
        "resource": languages.resource_group(known),
        "train": sizes[code],
        "wikipedia_bytes": known.wikipedia_bytes,
    }


def _series(members: Sequence[Variant]) -> list[dict[str, Any]]:
    curves: dict[int, list[Variant]] = defaultdict(list)
    for variant in members:
        if variant.series is not None:
            curves[variant.series].append(variant)
    found: list[dict[str, Any]] = []
    for number, points in sorted(curves.items()):
        first, extra = points[0], variants.extra_of_series(points, members)
        found.append(
            {
                "id": number,
                "label": variants.curve_label(first, extra),
                "setting": first.setting,
                "method": first.method,
                "embeddings": first.embeddings,
                "extra": extra,
            }
        )
    return found


def _variant(pair: Pair) -> dict[str, Any]:
    variant, present = pair.variant, np.any(pair.own.present, axis=0).tolist()
    return {
        "id": variant.id,
        "label": variant.label,
        "setting": variant.setting,
        "method": variant.method,
        "sparsity": variant.sparsity,
        "embeddings": variant.embeddings,
        "extra": variant.extra,
        "series": variant.series,
        "dense": None if variant.dense is None else variant.dense.id,
        "seeds": variant.seeds,
        "languages": [code for code, has in zip(pair.own.codes, present, strict=True) if has],
    }


def _rounded(value: Any) -> Any:
    """Plain JSON, with fractions cut to the digits that mean something on any machine."""
    if isinstance(value, Interval | statistics.Correlation):
        return _rounded(value._asdict())
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0  # no -0.0
    return value
