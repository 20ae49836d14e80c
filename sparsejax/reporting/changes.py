"""How F1 changes: by language, on average, between languages and with what they had.

Each function gives rows of the dictionary that `analysis` describes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparsejax.data import languages
from sparsejax.data.languages import Language
from sparsejax.reporting import statistics
from sparsejax.reporting.pairs import Pair, block, rows_of
from sparsejax.reporting.scores import Scores, linear
from sparsejax.reporting.statistics import Interval

KEPT = 0.95  # of the dense F1: a language below it counts as lost
Grouping = tuple[str, str, list[int]]  # by what, which group, and the columns of its languages


def cells(pair: Pair) -> list[tuple[dict[str, Any], float | None]]:
    """A row for each language, and the p-value of its change."""
    found = []
    for column, code in enumerate(pair.own.codes):
        rows = rows_of(pair.own, column)
        if not rows:
            continue
        f1 = linear([(1.0, pair.own)], rows, {column: 1.0}, pair.resamples).interval
        change = p = None
        if pair.mine is not None:
            both = rows_of(pair.mine, column)
            if both:
                estimate = linear(pair.terms, both, {column: 1.0}, pair.resamples)
                change, p = estimate.interval, estimate.p
        cell = {"variant": pair.variant.id, "language": code, "perturbation": pair.perturbation}
        found.append((cell | _judged(f1, change), p))
    return found


def _judged(f1: Interval, change: Interval | None) -> dict[str, Any]:
    return {"f1": f1, "change": change, "verdict": statistics.verdict(change)}


def groups(pair: Pair, averages: Sequence[Grouping]) -> list[dict[str, Any]]:
    """A row for each macro average, of `groupings`, and its change."""
    codes = pair.own.codes
    found = []
    for by, group, columns in averages:
        scores, rows, kept = block(pair, columns)
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


def groupings(codes: Sequence[str], table: Mapping[str, Language]) -> list[Grouping]:
    """All languages, then the groups of each kind."""
    found = [("all", "all languages", list(range(len(codes))))]
    order = [name for _, name in languages.RESOURCES]
    for by, group_of in languages.GROUPINGS.items():
        members: dict[str, list[int]] = defaultdict(list)
        for column, code in enumerate(codes):
            members[group_of(languages.lookup(table, code))].append(column)
        names = sorted(members, key=lambda g: (order.index(g) if g in order else len(order), g))
        found += [(by, name, members[name]) for name in names]
    return found


def summary(
    pair: Pair,
    cells: Sequence[tuple[dict[str, Any], float | None]],
    table: Mapping[str, Language],
) -> dict[str, Any]:
    """The row of a variant: how many languages changed, and how far they lie apart.

    Args:
      pair: the variant on its sentences as they are.
      cells: of the pair, by `cells`.
      table: of languages.
    """
    compared = [(cell, p) for cell, p in cells if cell["change"] is not None]
    verdicts = [cell["verdict"] for cell, _ in compared]
    up = [cell["change"].mean > 0 for cell, _ in compared]
    down = [cell["change"].mean < 0 for cell, _ in compared]
    tested = [(cell["change"].mean, p) for cell, p in compared if p is not None]
    kept = statistics.discoveries([p for _, p in tested])
    means = [mean for mean, _ in tested]
    scores, rows, columns = block(pair, range(len(pair.own.codes)))
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
    pair: Pair,
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


def thresholds(clean: Sequence[Pair]) -> list[dict[str, Any]]:
    """Of each series and language, the lowest sparsity at which the mean is below KEPT of dense."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for pair in sorted(clean, key=lambda pair: pair.variant.sparsity):
        if pair.variant.series is None or pair.mine is None or pair.dense is None:
            continue
        terms = [(1.0, pair.mine), (-KEPT, pair.dense)]
        for column, code in enumerate(pair.mine.codes):
            rows = rows_of(pair.mine, column)
            if not rows:
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


def correlations(pair: Pair, facts: Mapping[str, Sequence[int | None]]) -> list[dict[str, Any]]:
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
