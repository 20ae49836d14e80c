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

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import sparsejax
from sparsejax.data import embedded, languages
from sparsejax.data.languages import Language
from sparsejax.errors import UserError
from sparsejax.reporting import notes as in_words
from sparsejax.reporting import scores as scoring
from sparsejax.reporting import settings, statistics, variants
from sparsejax.reporting.runs import PERTURBATIONS, Run
from sparsejax.reporting.scores import Resamples, Scores, linear
from sparsejax.reporting.statistics import Interval
from sparsejax.reporting.variants import Variant

Analysis = dict[str, Any]
KEPT = 0.95  # of the dense F1: a language below it counts as lost
_DIGITS = 7  # of fractions in the dictionary


@dataclasses.dataclass
class _Pair:
    """A variant under one perturbation, and what it is compared with, at the seeds of both."""

    variant: Variant
    perturbation: str
    own: Scores
    mine: Scores | None  # as `own`, NaN where there is nothing to compare with
    dense: Scores | None
    resamples: Resamples | None  # None where sentences were not counted

    @property
    def terms(self) -> list[tuple[float, Scores]]:
        assert self.mine is not None and self.dense is not None
        return [(1.0, self.mine), (-1.0, self.dense)]


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
    pairs = _pairs(members, chosen, codes, resamples)
    _prepare(pairs, codes, resamples)
    clean = [pair for pair in pairs if pair.perturbation == "none"]
    cells = {id(pair): _cells(pair) for pair in pairs}
    beside, differ = settings.compare(
        {pair.variant.id: pair.own for pair in clean}, members, _groupings(codes, table), resamples
    )
    averaged = [row for pair in pairs for row in _groups(pair, table)]
    sizes = _sizes(scored, codes, table)
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
        "summary": [_summary(pair, cells[id(pair)], table) for pair in clean],
        "thresholds": _thresholds(clean),
        "correlations": [
            row for pair in clean for row in _correlations(pair, _facts(table, codes, sizes))
        ],
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


def _pairs(
    members: Sequence[Variant],
    chosen: scoring.Evaluations,
    codes: Sequence[str],
    resamples: Resamples,
) -> list[_Pair]:
    found = {
        (variant.id, perturbation): scoring.scores(variant, chosen, codes, perturbation)
        for variant in members
        for perturbation in PERTURBATIONS
    }
    pairs = []
    for variant in members:
        for perturbation in PERTURBATIONS:
            own = found[variant.id, perturbation]
            mine = dense = None
            if variant.dense is not None:
                mine, dense = scoring.paired(own, found[variant.dense.id, perturbation])
            counted = resamples if perturbation == "none" else None
            if own.present.any():
                pairs.append(_Pair(variant, perturbation, own, mine, dense, counted))
    return pairs


def _prepare(pairs: Sequence[_Pair], codes: Sequence[str], resamples: Resamples) -> None:
    """Resamples the sentences of a language once for all runs that are the only ones of a mean."""
    for column, code in enumerate(codes):
        wanted: dict[str, Run] = {}
        for pair in pairs:
            for scores in (pair.own, pair.mine, pair.dense):
                if scores is None or pair.resamples is None:
                    continue
                rows = _rows(scores, column)
                if len(rows) == 1:
                    run = scores.runs[rows[0], column]
                    wanted[run.name] = run
        resamples.prepare(code, wanted.values())


def _rows(scores: Scores, column: int) -> list[int]:
    """The seeds that have a score of a language."""
    found: list[int] = np.flatnonzero(scores.present[:, column]).tolist()
    return found


def _cells(pair: _Pair) -> list[tuple[dict[str, Any], float | None]]:
    """A row for each language, and the p-value of its change."""
    found = []
    for column, code in enumerate(pair.own.codes):
        rows = _rows(pair.own, column)
        if not len(rows):
            continue
        f1 = linear([(1.0, pair.own)], rows, {column: 1.0}, pair.resamples).interval
        change = p = None
        if pair.mine is not None:
            both = _rows(pair.mine, column)
            if len(both):
                estimate = linear(pair.terms, both, {column: 1.0}, pair.resamples)
                change, p = estimate.interval, estimate.p
        cell = {"variant": pair.variant.id, "language": code, "perturbation": pair.perturbation}
        found.append((cell | _judged(f1, change), p))
    return found


def _judged(f1: Interval, change: Interval | None) -> dict[str, Any]:
    return {"f1": f1, "change": change, "verdict": statistics.verdict(change)}


def _block(pair: _Pair, columns: Sequence[int]) -> tuple[Scores, list[int], list[int]]:
    """Scores, seeds and languages of an average: those that can be compared, if there are any."""
    for scores in (pair.mine, pair.own):
        if scores is not None:
            rows, places = statistics.complete_block(scores.present[:, list(columns)])
            if rows:
                return scores, rows, [columns[place] for place in places]
    return pair.own, [], []


def _groups(pair: _Pair, table: Mapping[str, Language]) -> list[dict[str, Any]]:
    codes = pair.own.codes
    found = []
    for by, group, columns in _groupings(codes, table):
        scores, rows, kept = _block(pair, columns)
        if not rows:
            continue
        weights = dict.fromkeys(kept, 1 / len(kept))
        f1 = linear([(1.0, scores)], rows, weights, pair.resamples).interval
        change = None
        if scores is pair.mine:
            change = linear(pair.terms, rows, weights, pair.resamples).interval
        about = {"variant": pair.variant.id, "by": by, "group": group}
        members = [codes[column] for column in kept]
        row = about | {"members": members, "perturbation": pair.perturbation}
        found.append(row | _judged(f1, change))
    return found


def _groupings(
    codes: Sequence[str], table: Mapping[str, Language]
) -> list[tuple[str, str, list[int]]]:
    """(by, group, columns): all languages, then the groups of each kind."""
    found = [("all", "all languages", list(range(len(codes))))]
    order = [name for _, name in languages.RESOURCES]
    for by, group_of in languages.GROUPINGS.items():
        groups: dict[str, list[int]] = defaultdict(list)
        for column, code in enumerate(codes):
            groups[group_of(languages.lookup(table, code))].append(column)
        names = sorted(groups, key=lambda g: (order.index(g) if g in order else len(order), g))
        found += [(by, name, groups[name]) for name in names]
    return found


def _summary(
    pair: _Pair,
    cells: Sequence[tuple[dict[str, Any], float | None]],
    table: Mapping[str, Language],
) -> dict[str, Any]:
    compared = [(cell, p) for cell, p in cells if cell["change"] is not None]
    verdicts = [cell["verdict"] for cell, _ in compared]
    up = [cell["change"].mean > 0 for cell, _ in compared]
    down = [cell["change"].mean < 0 for cell, _ in compared]
    tested = [(cell["change"].mean, p) for cell, p in compared if p is not None]
    kept = statistics.discoveries([p for _, p in tested])
    means = [mean for mean, _ in tested]
    scores, rows, columns = _block(pair, range(len(pair.own.codes)))
    worst = min(cells, key=lambda item: item[0]["f1"].mean)[0]
    gap, gap_change = _gap(pair, scores, rows, columns, table)
    return {
        "variant": pair.variant.id,
        "languages": len(compared),
        "improved": verdicts.count("higher"),
        "worse": verdicts.count("lower"),
        "undecided": len(compared) - verdicts.count("higher") - verdicts.count("lower"),
        "mean_up": sum(up),
        "mean_down": sum(down),
        "improved_fdr": sum(bool(k) and m > 0 for k, m in zip(kept, means, strict=True)),
        "worse_fdr": sum(bool(k) and m < 0 for k, m in zip(kept, means, strict=True)),
        "sd": _spread(scores, rows, columns),
        "worst": {"language": worst["language"], "f1": worst["f1"].mean},
        "gap": gap,
        "gap_change": gap_change,
        "gap_verdict": statistics.verdict(gap_change),
    }


def _spread(scores: Scores, rows: Sequence[int], columns: Sequence[int]) -> Interval | None:
    """The standard deviation between languages; of one seed without an interval.

    Resampled sentences would add their own noise to it, and the interval lie too high.
    """
    if len(columns) < 2:
        return None
    return statistics.of_seeds(np.std(scores.f1[np.ix_(rows, columns)], axis=1, ddof=1))


def _gap(
    pair: _Pair,
    scores: Scores,
    rows: Sequence[int],
    columns: Sequence[int],
    table: Mapping[str, Language],
) -> tuple[Interval | None, Interval | None]:
    """Macro F1 of the group with most training sentences minus that with fewest, and its change."""
    groups: dict[str, list[int]] = defaultdict(list)
    for column in columns:
        group = languages.resource_group(languages.lookup(table, scores.codes[column]))
        groups[group].append(column)
    there = [groups[name] for _, name in languages.RESOURCES if name in groups]
    if len(there) < 2:
        return None, None
    least, most = there[0], there[-1]
    weights = {column: 1 / len(most) for column in most}
    weights |= {column: -1 / len(least) for column in least}
    gap = linear([(1.0, scores)], rows, weights, pair.resamples).interval
    if scores is not pair.mine:
        return gap, None
    return gap, linear(pair.terms, rows, weights, pair.resamples).interval


def _thresholds(clean: Sequence[_Pair]) -> list[dict[str, Any]]:
    """Of each series and language, the lowest sparsity at which the mean is below KEPT of dense."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for pair in sorted(clean, key=lambda pair: pair.variant.sparsity):
        if pair.variant.series is None or pair.mine is None or pair.dense is None:
            continue
        terms = [(1.0, pair.mine), (-KEPT, pair.dense)]
        for column, code in enumerate(pair.mine.codes):
            rows = _rows(pair.mine, column)
            if not len(rows):
                continue
            key = pair.variant.series, code
            row = {"series": key[0], "language": code, "sparsity": None, "verdict": None}
            if found.setdefault(key, row)["sparsity"] is not None:
                continue
            rest = linear(terms, rows, {column: 1.0}, pair.resamples).interval
            if rest.mean < 0:
                judged = statistics.verdict(rest)
                verdict = {"lower": "below"}.get(judged or "", judged)
                found[key] = row | {"sparsity": pair.variant.sparsity, "verdict": verdict}
    order = {code: i for i, code in enumerate(clean[0].own.codes)}
    return sorted(found.values(), key=lambda row: (row["series"], order[row["language"]]))


def _facts(
    table: Mapping[str, Language], codes: Sequence[str], sizes: Mapping[str, int | None]
) -> dict[str, list[int | None]]:
    return {
        "train": [sizes[code] for code in codes],
        "wikipedia_bytes": [languages.lookup(table, code).wikipedia_bytes for code in codes],
    }


def _correlations(pair: _Pair, facts: Mapping[str, Sequence[int | None]]) -> list[dict[str, Any]]:
    """Spearman's correlation of the change over languages, each language's mean over seeds.

    With dense F1, the change is from every second seed, and dense F1 from the others: the noise of
    dense F1 is part of the change, and would correlate by itself. One seed leaves no choice.
    """
    if pair.mine is None or pair.dense is None or not pair.mine.present.any():
        return []
    change = pair.mine.f1 - pair.dense.f1
    fair = len(pair.mine.seeds) > 1
    sides = {
        name: (np.array([np.nan if v is None else v for v in values]), _mean(change))
        for name, values in facts.items()
    }
    sides["dense_f1"] = (
        _mean(pair.dense.f1[1::2] if fair else pair.dense.f1),
        _mean(change[::2] if fair else change),
    )
    found = []
    for name, (x, y) in sides.items():
        there = ~np.isnan(x) & ~np.isnan(y)
        if there.any():
            row = statistics.spearman(x[there], y[there])._asdict()
            found.append({"variant": pair.variant.id, "with": name} | row)
    return found


def _mean(values: statistics.Array) -> statistics.Array:
    """Over seeds; NaN for a language that no seed has."""
    number = (~np.isnan(values)).sum(axis=0)
    return np.where(number, np.nansum(values, axis=0) / np.maximum(number, 1), np.nan)


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


def _variant(pair: _Pair) -> dict[str, Any]:
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
