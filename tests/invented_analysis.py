"""Analyses with invented numbers, of the shape that sparsejax/reporting/analysis.py gives.

Nothing in them was measured: a language loses the more, the fewer sentences it has to train on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparsejax.data.languages import LANGUAGES, RESOURCES, UNKNOWN, Language, resource_group

SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
TEXTS = {"language": 0.08, "script": 0.14, "family": 0.12, "unseen": 0.2, "noise": 0.1}
"""What each change of the text costs a dense model."""
STUDENT = {2: 12.706, 3: 4.303}
"""t(0.975) by the number of seeds."""
MATRICES = ("attention/query", "attention/key", "attention/value", "attention/output")


class Curve(NamedTuple):
    """A series, and the dense variant it is compared with, to be made up."""

    method: str = "magnitude"
    setting: str = "multilingual"
    embeddings: bool = False
    extra: str = ""
    harm: float = 1.0  # how much it loses, against magnitude pruning

    @property
    def label(self) -> str:
        pruned = "embeddings pruned" if self.embeddings else ""
        words = (self.setting, self.method.replace("_", " "), pruned, self.extra)
        return ", ".join(filter(None, words))


CURVES = (
    Curve(),
    Curve("movement", harm=0.55),
    Curve(embeddings=True, harm=1.5),
    Curve("movement", embeddings=True, harm=1.1),
    Curve("soft_movement", harm=0.5),
    Curve(setting="monolingual", harm=1.4),
)


def analysis(
    languages: Iterable[Language] = LANGUAGES.values(),
    curves: Sequence[Curve] = CURVES,
    sparsities: Sequence[float] = SPARSITIES,
    texts: Sequence[str] = tuple(TEXTS),
    seeds: int = 3,
    seed: int = 0,
    missing: float = 0.01,
) -> dict[str, Any]:
    """An analysis in which everything has a value that was drawn.

    Args:
      languages: of the report.
      curves: the series; one dense variant is added for each setting and extra among them.
      texts: perturbations besides "none".
      seeds: of each variant; the last variant has one less. With one there are no intervals.
      missing: the share of cells that are not there.
    """
    random = np.random.default_rng(seed)
    known = list(languages)
    codes = [language.code for language in known]
    variants: list[dict[str, Any]] = []
    drawn: dict[tuple[int, str, str], np.ndarray[Any, Any]] = {}  # F1 by seed

    def add(curve: Curve, series: int | None, sparsity: float, dense: int | None) -> int:
        identity = len(variants)
        realised = sparsity + (0.0137 * math.sin(7 * sparsity) if "soft" in curve.method else 0)
        label = curve.label if dense is None else f"{curve.label}, {100 * realised:.4g} %"
        variants.append(
            {
                "id": identity,
                "label": label,
                "setting": curve.setting,
                "method": curve.method,
                "sparsity": realised,
                "embeddings": curve.embeddings,
                "extra": curve.extra,
                "series": series,
                "dense": dense,
                "seeds": list(range(seeds)),
                "languages": codes,
            }
        )
        return identity

    dense: dict[tuple[str, str], int] = {}
    series = []
    for curve in curves:
        key = curve.setting, curve.extra
        if key not in dense:
            plain = Curve("none", curve.setting, extra=curve.extra)
            dense[key] = add(plain, None, 0.0, None)
            variants[dense[key]]["label"] = f"{curve.setting}, dense"
    for number, curve in enumerate(curves):
        fields = {"setting": curve.setting, "method": curve.method, "embeddings": curve.embeddings}
        series.append({"id": number, "label": curve.label} | fields | {"extra": curve.extra})
        for sparsity in sparsities:
            add(curve, number, sparsity, dense[curve.setting, curve.extra])
    if seeds > 1:
        variants[-1]["seeds"] = list(range(seeds - 1))

    for language in known:
        train = language.wikiann_train or 1_000
        base = 0.93 - 0.02 * (4.3 - math.log10(train)) ** 2 - 0.12 * random.random()
        shift = 0.012 * random.standard_normal()
        for variant in variants:
            number = variant["series"]
            harm = 0.0 if number is None else curves[number].harm
            left = 1 / (1 - min(variant["sparsity"], 0.999))
            weight = 0.35 + 0.5 * max(0.0, 4.3 - math.log10(train))
            loss = harm * weight * 0.004 * left**1.25 - (0.008 if 1 < left < 3 else 0)
            if variant["setting"] == "monolingual":
                loss += 0.12 * max(0.0, 4.3 - math.log10(train))
            robust = 1 - (0.35 if 1 < left < 5 and not variant["embeddings"] else 0)
            for text in ("none", *texts):
                f1 = base + shift * (left > 1) - loss - robust * TEXTS.get(text, 0)
                draw = f1 + 0.006 * random.standard_normal(len(variant["seeds"]))
                if random.random() >= missing or number is None:
                    drawn[variant["id"], language.code, text] = np.clip(draw, 0, 1)

    def mean_over(variant: int, text: str, members: Sequence[str]) -> np.ndarray[Any, Any] | None:
        found = [drawn[variant, code, text] for code in members if (variant, code, text) in drawn]
        return np.mean(found, axis=0) if found else None

    def compared(
        variant: dict[str, Any], text: str, members: Sequence[str]
    ) -> dict[str, Any] | None:
        here = [code for code in members if (variant["id"], code, text) in drawn]
        value = mean_over(variant["id"], text, here)
        if value is None:
            return None
        change = None
        if variant["dense"] is not None:
            before = mean_over(variant["dense"], text, here)
            assert before is not None
            change = interval(value - before[: len(value)])
        found = {"f1": interval(value), "change": change, "verdict": verdict(change)}
        return {"members": here} | found

    cells, groups = [], []
    by: dict[str, Callable[[Language], str]] = {
        "all": lambda _: "all",
        "resource": resource_group,
        "script": lambda language: language.script,
        "family": lambda language: language.family,
    }
    for variant in variants:
        for text in ("none", *texts):
            where = {"variant": variant["id"], "perturbation": text}
            for code in codes:
                found = compared(variant, text, [code])
                if found:
                    del found["members"]
                    cells.append(where | {"language": code} | found)
            for kind, name in by.items():
                names = sorted({name(language) for language in known})
                for group in names:
                    members = [one.code for one in known if name(one) == group]
                    found = compared(variant, text, members)
                    if found:
                        groups.append(where | {"by": kind, "group": group} | found)

    plain = {
        (cell["variant"], cell["language"]): cell
        for cell in cells
        if cell["perturbation"] == "none"
    }
    return {
        "title": "Who pays for pruning",
        "versions": {"sparsejax": "0.1.0"},
        "data": ["invented numbers"],
        "notes": notes(variants, drawn, codes, known),
        "runs": [
            {
                "name": f"runs/{variant['id']}-{variant['method']}-{variant['sparsity']:.3f}-{s}",
                "variant": variant["id"],
                "seed": s,
                "status": "finished",
            }
            for variant in variants
            for s in variant["seeds"]
        ],
        "languages": [
            {
                "code": language.code,
                "name": language.name,
                "family": language.family,
                "branch": language.branch,
                "script": language.script,
                "resource": resource_group(language),
                "train": language.wikiann_train,
                "wikipedia_bytes": language.wikipedia_bytes,
            }
            for language in known
        ],
        "series": series,
        "variants": variants,
        "cells": cells,
        "groups": groups,
        "summary": [summary(variant, plain, groups, codes) for variant in variants],
        "thresholds": [
            threshold(one["id"], code, variants, plain) for one in series for code in codes
        ],
        "correlations": [
            correlation(variant, by_what, plain, known)
            for variant in variants
            if variant["dense"] is not None
            for by_what in ("train", "wikipedia_bytes", "dense_f1")
        ],
        "layers": [
            {"variant": variant["id"], "layer": layer, "matrix": matrix, "sparsity": sparsity}
            for variant in variants
            if variant["dense"] is not None
            for layer, matrix, sparsity in layers(variant)
        ],
    }


def interval(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Mean and Student's 95 % interval over seeds."""
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return {"mean": mean, "low": None, "high": None, "n": count, "of": None}
    half = STUDENT[count] * float(np.std(values, ddof=1)) / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": count, "of": "seeds"}


def verdict(change: dict[str, Any] | None) -> str | None:
    if change is None or change["low"] is None:
        return None
    if change["low"] > 0:
        return "higher"
    return "lower" if change["high"] < 0 else "not distinguishable"


def notes(
    variants: Sequence[dict[str, Any]],
    drawn: dict[tuple[int, str, str], Any],
    codes: Sequence[str],
    known: Sequence[Language],
) -> list[str]:
    found = []
    for variant in variants:
        gone = [code for code in codes if (variant["id"], code, "none") not in drawn]
        if gone:
            found.append(f"{variant['label']}: not evaluated on {', '.join(gone)}")
    unknown = [language.code for language in known if resource_group(language) == UNKNOWN]
    if unknown:
        found.append(f"the size of the training data is not known: {', '.join(unknown)}")
    if variants and len(variants[-1]["seeds"]) < len(variants[0]["seeds"]):
        found.append(
            f"{variants[-1]['label']}: {len(variants[-1]['seeds'])} seeds, others have more"
        )
    return found


def summary(
    variant: dict[str, Any],
    plain: dict[tuple[int, str], dict[str, Any]],
    groups: Sequence[dict[str, Any]],
    codes: Sequence[str],
) -> dict[str, Any]:
    mine = {code: plain[variant["id"], code] for code in codes if (variant["id"], code) in plain}
    verdicts = [cell["verdict"] for cell in mine.values()]
    signs = [cell["change"]["mean"] for cell in mine.values() if cell["change"]]
    worst = min(mine, key=lambda code: mine[code]["f1"]["mean"])

    def group(identity: int, name: str) -> float | None:
        for row in groups:
            if (row["variant"], row["perturbation"], row["group"]) == (identity, "none", name):
                return float(row["f1"]["mean"])
        return None

    ends = RESOURCES[-1][1], RESOURCES[0][1]
    most, least = (group(variant["id"], name) for name in ends)
    gap = (
        None
        if most is None or least is None
        else interval(most - least + np.array([-1, 0, 2]) / 500)
    )
    gap_change = None
    if variant["dense"] is not None and gap is not None:
        before = [group(variant["dense"], name) for name in ends]
        assert before[0] is not None and before[1] is not None
        gap_change = interval(gap["mean"] - (before[0] - before[1]) + np.array([-1, 0, 2]) / 500)
    f1 = [cell["f1"]["mean"] for cell in mine.values()]
    return {
        "variant": variant["id"],
        "languages": len(mine),
        "improved": verdicts.count("higher"),
        "worse": verdicts.count("lower"),
        "undecided": verdicts.count("not distinguishable"),
        "mean_up": sum(sign > 0 for sign in signs),
        "mean_down": sum(sign < 0 for sign in signs),
        "improved_fdr": verdicts.count("higher") // 2,
        "worse_fdr": verdicts.count("lower") - verdicts.count("lower") // 10,
        "sd": interval(float(np.std(f1)) + np.array([-1, 0, 1]) / 500),
        "worst": {"language": worst, "f1": mine[worst]["f1"]["mean"]},
        "gap": gap,
        "gap_change": gap_change,
        "gap_verdict": verdict(gap_change),
    }


def threshold(
    series: int,
    code: str,
    variants: Sequence[dict[str, Any]],
    plain: dict[tuple[int, str], dict[str, Any]],
) -> dict[str, Any]:
    found: dict[str, Any] = {"series": series, "language": code, "sparsity": None, "verdict": None}
    for variant in sorted(variants, key=lambda one: one["sparsity"]):
        cell = plain.get((variant["id"], code))
        if variant["series"] != series or cell is None:
            continue
        before = plain[variant["dense"], code]["f1"]["mean"]
        if cell["f1"]["mean"] < 0.95 * before:
            clear = cell["f1"]["high"] is not None and cell["f1"]["high"] < 0.95 * before
            word = "below" if clear else "not distinguishable"
            return found | {"sparsity": variant["sparsity"], "verdict": word}
    return found


def correlation(
    variant: dict[str, Any],
    by_what: str,
    plain: dict[tuple[int, str], dict[str, Any]],
    known: Sequence[Language],
) -> dict[str, Any]:
    pairs = []
    for language in known:
        cell = plain.get((variant["id"], language.code))
        if cell is None:
            continue
        x = {
            "train": language.wikiann_train,
            "wikipedia_bytes": language.wikipedia_bytes,
            "dense_f1": plain[variant["dense"], language.code]["f1"]["mean"],
        }[by_what]
        if x is not None:
            pairs.append((x, cell["change"]["mean"]))
    where = {"variant": variant["id"], "with": by_what, "n": len(pairs)}
    if len(pairs) < 4:
        return where | {"rho": None, "low": None, "high": None, "verdict": None}
    ranks = [np.argsort(np.argsort(column)) for column in zip(*pairs, strict=True)]
    rho = float(np.corrcoef(*ranks)[0, 1])
    half = 1.96 / math.sqrt(len(pairs) - 3)
    low, high = (float(np.tanh(np.arctanh(min(rho, 0.999)) + sign * half)) for sign in (-1, 1))
    word = "higher" if low > 0 else "lower" if high < 0 else "not distinguishable"
    return where | {"rho": rho, "low": low, "high": high, "verdict": word}


def layers(variant: dict[str, Any]) -> Iterable[tuple[int | None, str, float]]:
    names = (*MATRICES, "feed_forward/in", "feed_forward/out")
    for layer in range(12):
        for number, matrix in enumerate(names):
            sparsity = variant["sparsity"]
            if variant["method"] != "magnitude":  # the network as a whole reaches it
                sparsity = min(1.0, sparsity + (1 - sparsity) * 0.08 * (layer - 5.5 + number - 2.5))
            yield layer, matrix, sparsity
    if variant["embeddings"]:
        yield None, "embeddings/word", variant["sparsity"]
