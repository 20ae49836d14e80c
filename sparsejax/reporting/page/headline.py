"""What an analysis says, in sentences: which pruning costs what, and whom."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from sparsejax.reporting.page.text import (
    SPACE,
    between,
    counted,
    listed,
    percent,
    points,
    text_name,
)

Row = Mapping[str, Any]
Sentence = tuple[str, str]
"""What it is about, and what is said of it."""


def first_variant(analysis: Row) -> Row | None:
    """The variant to begin with: of the first series, the sparsity that divides the languages most.

    That is where both many languages are distinguishably worse and many are not. Without any
    verdict it is the series' middle; without a series the first variant; None without variants.
    """
    variants = analysis["variants"]
    if not analysis["series"]:
        return variants[0] if variants else None
    series = _series(analysis)[0]["id"]
    mine = sorted((one for one in variants if one["series"] == series), key=_sparsity)
    summaries = {row["variant"]: row for row in analysis["summary"]}

    def divides(variant: Row) -> int:
        row = summaries.get(variant["id"])
        return 0 if row is None else min(row["worse"], row["languages"] - row["worse"])

    best = max(mine, key=divides, default=None)
    return mine[len(mine) // 2] if best is not None and not divides(best) else best


def first_series(analysis: Row) -> list[int]:
    """The series to begin with: the first one, and another method under the same circumstances."""
    series = _series(analysis)

    def unlike(one: Row) -> tuple[bool, bool, bool]:
        first = series[0]
        return (
            one["setting"] != first["setting"],
            one["embeddings"] != first["embeddings"],
            one["method"] == first["method"],
        )

    return [one["id"] for one in [*series[:1], *sorted(series[1:], key=unlike)[:1]]]


def lead(analysis: Row) -> str:
    """The first sentences, of the variant that the page shows at first."""
    variant = first_variant(analysis)
    if variant is None:
        return "There is no run with results yet."
    found = _macro(analysis, variant["id"], "none")
    if found is None:
        return f"{variant['label']}: no scores on text as it is."
    languages = counted(len(found["members"]), "language", "languages")
    f1 = points(found["f1"]["mean"])
    what = f"{_method(variant)} at {percent(variant['sparsity'])} sparsity"
    if variant["dense"] is None:
        if variant["series"] is None:
            return f"F1 without pruning is {f1}, averaged over {languages}."
        return f"{what} has an F1 of {f1}, averaged over {languages}; no dense run to compare with."
    change = found["change"]
    if change is None:
        return f"{what} has an F1 of {f1}, averaged over {languages}."
    size, ends = _size(change)
    interval = f"(95{SPACE}% interval {between(change, signed=True)})"
    sizes = f"(95{SPACE}% interval {ends})"
    mean = {
        "lower": f"{what} costs {size} points of F1, averaged over {languages} {sizes}.",
        "higher": f"{what} gains {size} points of F1, averaged over {languages} {sizes}.",
        "not distinguishable": f"{what} is not distinguishable from dense, averaged over "
        f"{languages}: {points(change['mean'], signed=True)} points of F1 {interval}.",
    }.get(
        found["verdict"],
        f"{what} changes F1 by {points(change['mean'], signed=True)} points, averaged over "
        f"{languages}; there is no interval, so this may be chance.",
    )
    return f"{mean} {_languages(analysis, variant)}".strip()


def sentences(analysis: Row, most: int = 8) -> list[Sentence]:
    """One for each of the first series, then what the first variant does to whom."""
    found = [_along(analysis, series) for series in _series(analysis)[:most]]
    variant = first_variant(analysis)
    if variant is not None and variant["dense"] is not None:
        at = percent(variant["sparsity"])
        found += [
            ("Most and least", _extremes(analysis, variant, at)),
            ("Languages with little to train on", _resources(analysis, variant, at)),
            ("Changed text", _robustness(analysis, variant, at)),
        ]
    return [(label, text) for label, text in found if text]


def _size(change: Row) -> tuple[str, str]:
    """Of a cost or a gain, whichever it is: both without a sign, and the interval upwards."""
    sign = -1 if change["mean"] < 0 else 1
    ends = {"low": change["low"], "high": change["high"]}
    if sign < 0 and None not in ends.values():
        ends = {"low": -change["high"], "high": -change["low"]}
    return points(sign * change["mean"]), between(ends)


def _sparsity(variant: Row) -> float:
    return float(variant["sparsity"])


def _series(analysis: Row) -> Sequence[Row]:
    """Those of all languages together first, otherwise in their own order."""
    return sorted(analysis["series"], key=lambda one: one["setting"] != "multilingual")


def _macro(analysis: Row, variant: int, perturbation: str) -> Row | None:
    for row in analysis["groups"]:
        if (row["variant"], row["perturbation"], row["by"]) == (variant, perturbation, "all"):
            return row if row["members"] else None
    return None


def _method(variant: Row) -> str:
    words = variant["method"].replace("_", " ")
    extras = [word for word in ("embeddings too" * variant["embeddings"], variant["extra"]) if word]
    if variant["setting"] != "multilingual":
        extras.insert(0, variant["setting"])
    return f"{words[:1].upper()}{words[1:]} pruning" + (f" ({', '.join(extras)})" if extras else "")


def _languages(analysis: Row, variant: Row) -> str:
    row = next((one for one in analysis["summary"] if one["variant"] == variant["id"]), None)
    if row is None or not row["worse"] + row["improved"] + row["undecided"]:
        return ""
    told = row["worse"] + row["improved"]
    text = (
        f"{told} of {counted(row['languages'], 'language is', 'languages are')} distinguishable "
        f"from dense: {row['worse'] or 'none'} lower, {row['improved'] or 'none'} higher"
    )
    corrected = row["worse_fdr"], row["improved_fdr"]
    if corrected == (row["worse"], row["improved"]):
        return f"{text}."
    lower, higher = (number or "none" for number in corrected)
    return f"{text}; corrected for comparing so many, {lower} and {higher}."


def _along(analysis: Row, series: Row) -> Sentence:
    """What a series costs from its lowest sparsity to its highest."""
    rows = []
    for variant in sorted(analysis["variants"], key=_sparsity):
        if variant["series"] == series["id"]:
            found = _macro(analysis, variant["id"], "none")
            if found is not None and found["change"] is not None:
                rows.append((percent(variant["sparsity"]), found["change"]["mean"], found))
    parts = []
    for verdict, same in itertools.groupby(rows, key=lambda row: row[2]["verdict"]):
        run = list(same)
        if verdict == "not distinguishable":
            where = listed([at for at, _, _ in run])
            parts.append(f"not distinguishable from dense at {where}")
        elif verdict is None:
            each = [f"{points(change, signed=True)} at {at}" for at, change, _ in run]
            parts.append(f"{listed(each)} (no interval)")
        else:
            each = [f"{points(abs(change))} at {at}" for at, change, _ in run]
            each[0] = each[0].replace(" at ", " points at ", 1)
            parts.append(f"{'costs' if verdict == 'lower' else 'gains'} {listed(each)}")
    return series["label"], "; ".join(parts) + "." if parts else ""


def _extremes(analysis: Row, variant: Row, at: str) -> str:
    names = {one["code"]: one["name"] or one["code"] for one in analysis["languages"]}
    changes = [
        cell
        for cell in analysis["cells"]
        if cell["variant"] == variant["id"]
        and cell["perturbation"] == "none"
        and cell["change"] is not None
    ]
    parts = []
    for verdict, word in (("lower", "loses most"), ("higher", "gains most")):
        sign = -1 if verdict == "higher" else 1
        sure = [cell for cell in changes if cell["verdict"] == verdict]
        if sure:
            cell = min(sure, key=lambda one: sign * one["change"]["mean"])
            size, ends = _size(cell["change"])
            parts.append(f"{names[cell['language']]} {word}, {size} points ({ends})")
    return f"At {at}, {listed(parts)}; only distinguishable changes count." if parts else ""


def _resources(analysis: Row, variant: Row, at: str) -> str:
    row = next((one for one in analysis["summary"] if one["variant"] == variant["id"]), None)
    parts = []
    if row and row["gap_change"] and row["gap"]:
        # Of dense, what it is over the seeds that are compared.
        gap = points(row["gap"]["mean"])
        before = points(row["gap"]["mean"] - row["gap_change"]["mean"])
        what = "the gap in F1 between the languages with most and with least training data is"
        told = {
            "higher": f"{what} {gap} points, wider than the {before} of dense",
            "lower": f"{what} {gap} points, narrower than the {before} of dense",
            "not distinguishable": f"{what} {gap} points, not distinguishable from the {before} "
            "of dense",
        }.get(row["gap_verdict"], f"{what} {gap} points, and {before} in dense (no interval)")
        parts.append(f"at {at}, {told}")
    for one in analysis["correlations"]:
        if (one["variant"], one["with"]) == (variant["id"], "train") and one["rho"] is not None:
            rho = f"{one['rho']:.2f}".replace("-", "\N{MINUS SIGN}")
            told = {
                "higher": "the fewer sentences to train on, the worse the change",
                "lower": "the more sentences to train on, the worse the change",
            }.get(one["verdict"], "the change does not distinguishably go with fine-tuning size")
            parts.append(f"{told} (Spearman {rho} over {one['n']} languages)")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _robustness(analysis: Row, variant: Row, at: str) -> str:
    """F1 on changed text, dense and pruned."""
    parts = []
    for kind in ("script", "family", "language", "unseen", "noise"):
        found = _macro(analysis, variant["id"], kind)
        if found is None or found["change"] is None:
            continue
        word = {"not distinguishable": "not distinguishable", None: "no interval"}.get(
            found["verdict"], found["verdict"]
        )
        before = found["f1"]["mean"] - found["change"]["mean"]  # over the same seeds
        scores = f"{points(before)} dense, {points(found['f1']['mean'])} at {at}"
        parts.append(f"{text_name(kind)}: {scores} ({word})")
        if len(parts) == 2:
            break
    return f"F1 with {'; with '.join(parts)}." if parts else ""
