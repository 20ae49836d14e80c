"""The numbers of a report as CSV: of every run, and of every mean."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparsejax.reporting.runs import PERTURBATIONS, Run
from sparsejax.reporting.scores import Evaluations

Analysis = Mapping[str, Any]
_VARIANT = ("label", "setting", "method", "sparsity", "embeddings", "extra")
_LANGUAGE = ("name", "family", "branch", "script", "resource", "train", "wikipedia_bytes")
_MEASURED = ("f1", "precision", "recall", "support")
_INTERVAL = ("mean", "low", "high", "n", "of")


def scores(analysis: Analysis, found: Sequence[Run], chosen: Evaluations) -> str:
    """One row for each run, language and perturbation that the analysis is made from."""
    variants = {variant["id"]: variant for variant in analysis["variants"]}
    languages = {language["code"]: language for language in analysis["languages"]}
    place = {code: at for at, code in enumerate(languages)}
    variant_of = {run["name"]: run["variant"] for run in analysis["runs"]}
    rows = []
    for run in found:
        if not run.finished or variant_of[run.name] is None:
            continue
        variant = variants[variant_of[run.name]]
        realised = run.audit["targets"]["sparsity"] if run.audit else None
        about = {"run": run.name, "variant": variant["id"]}
        about |= {name: variant[name] for name in _VARIANT}
        about |= {"realised_sparsity": realised, "seed": run.seed}
        for perturbation in PERTURBATIONS:
            evaluation = chosen.get((run.name, perturbation))
            if evaluation is None:
                continue
            setting = evaluation.setting
            where = {name: setting[name] for name in ("data", "split", "limit", "perturbation")}
            where["perturbation_seed"] = setting["seed"]
            for code, row in sorted(evaluation.rows.items(), key=lambda item: place[item[0]]):
                known = {name: languages[code][name] for name in _LANGUAGE}
                measured = {name: row.get(name) for name in _MEASURED}
                measured["strict_f1"] = (row.get("strict") or {}).get("f1")
                measured["clean_f1"] = (row.get("clean") or {}).get("f1")
                rows.append(about | {"language": code} | known | where | measured)
    return _csv(rows)


def means(analysis: Analysis) -> str:
    """One row for each variant, perturbation and language or group, with intervals."""
    variants = {variant["id"]: variant for variant in analysis["variants"]}
    rows = []
    for row in (*analysis["cells"], *analysis["groups"]):
        variant = variants[row["variant"]]
        name = row.get("language") or row["group"]
        rows.append(
            {"variant": variant["id"]}
            | {field: variant[field] for field in _VARIANT}
            | {"by": row.get("by", "language"), "group": name}
            | {"languages": len(row.get("members", [name])), "perturbation": row["perturbation"]}
            | _flat("f1", row["f1"])
            | _flat("change", row["change"])
            | {"verdict": row["verdict"]}
        )
    return _csv(rows)


def summary(analysis: Analysis) -> str:
    """One row for each variant."""
    variants = {variant["id"]: variant for variant in analysis["variants"]}
    rows = []
    for row in analysis["summary"]:
        variant = variants[row["variant"]]
        flat = {"variant": variant["id"]} | {name: variant[name] for name in _VARIANT}
        flat |= {"seeds": len(variant["seeds"])}
        for name, value in row.items():
            if name in ("sd", "gap", "gap_change"):
                flat |= _flat(name, value)
            elif name == "worst":
                flat |= {"worst_language": value["language"], "worst_f1": value["f1"]}
            elif name != "variant":
                flat[name] = value
        rows.append(flat)
    return _csv(rows)


def _flat(name: str, interval: Mapping[str, Any] | None) -> dict[str, Any]:
    return {f"{name}_{part}": interval[part] if interval else None for part in _INTERVAL}


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Missing values are empty; the header is that of the first row."""
    rows = list(rows)
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()
