"""Gaps and oddities of an analysis in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparsejax.reporting.pairs import Pair
from sparsejax.reporting.runs import PERTURBATIONS, Run
from sparsejax.reporting.variants import Variant, curve_label, percent

_MOST = 12  # of a list before it is cut


def about(
    found: Sequence[Run], members: Sequence[Variant], pairs: Sequence[Pair], analysis: Any
) -> list[str]:
    """All notes, those about missing runs first.

    Args:
      found: the runs that were read.
      members: the variants.
      pairs: the scores of each variant and perturbation.
      analysis: the dictionary so far.
    """
    clean = [pair for pair in pairs if pair.perturbation == "none"]
    return [
        *_uncounted(found, members),
        *_missing(clean),
        *_unperturbed(pairs),
        *_other_languages(clean, analysis),
        *_unpaired(pairs),
        *_single(clean),
        *_foreign(found),
        *_about_data(analysis),
    ]


def cut(names: Sequence[str], separator: str = ", ") -> str:
    """The first ones of many names, and how many more there are."""
    more = len(names) - _MOST
    return separator.join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _uncounted(found: Sequence[Run], members: Sequence[Variant]) -> list[str]:
    used = {run.name for variant in members for run in variant.runs}
    begun = [run.name for run in found if not run.finished]
    unscored = [run.name for run in found if run.finished and run.name not in used]
    notes = []
    if begun:
        notes.append(f"{len(begun)} of {len(found)} runs unfinished, not counted: {cut(begun)}")
    if unscored:
        notes.append(f"finished, but without a score to count, or repeated: {cut(unscored)}")
    return notes


def _missing(clean: Sequence[Pair]) -> list[str]:
    """Seeds and languages that other variants of the same setting have."""
    of_setting: dict[Any, list[Any]] = defaultdict(list)
    for pair in clean:
        variant = pair.variant
        of_setting[variant.setting, variant.fields.get("data.languages")].append(pair)
    lacking: dict[str, list[Variant]] = defaultdict(list)
    for others in of_setting.values():
        seeds = sorted({seed for pair in others for seed in pair.own.seeds})
        wanted = np.any([pair.own.present.any(axis=0) for pair in others], axis=0)
        for pair in others:
            for seed in seeds:
                if seed not in pair.own.seeds:
                    lacking[f"no run of seed {seed}"].append(pair.variant)
                    continue
                gone = wanted & ~pair.own.present[pair.own.seeds.index(seed)]
                if gone.any():
                    codes = [pair.own.codes[column] for column in np.flatnonzero(gone)]
                    lacking[f"no score of seed {seed} for {cut(codes)}"].append(pair.variant)
    return _listed(lacking)


def _unperturbed(pairs: Sequence[Pair]) -> list[str]:
    """Perturbations that some variants were evaluated under and others not."""
    there = {(pair.variant.id, pair.perturbation) for pair in pairs}
    variants = {pair.variant.id: pair.variant for pair in pairs}
    lacking: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for perturbation in PERTURBATIONS:
        missing = tuple(id for id in variants if (id, perturbation) not in there)
        if 0 < len(missing) < len(variants):
            lacking[missing].append(perturbation)
    return _listed(
        {
            f"not evaluated with entities replaced ({', '.join(kinds)})": [
                variants[id] for id in missing
            ]
            for missing, kinds in lacking.items()
        }
    )


def _listed(lacking: Mapping[str, Sequence[Variant]]) -> list[str]:
    """Each text with its variants, those of a curve together."""
    notes = []
    for text, found in lacking.items():
        curves: dict[str, list[str]] = defaultdict(list)
        for variant in found:
            of_curve = curves[curve_label(variant)]
            of_curve += [] if variant.method == "none" else [percent(variant.sparsity)]
        names = [f"{n} ({', '.join(at)} %)" if at else n for n, at in curves.items()]
        notes.append(f"{text}: {cut(names, '; ')}")
    return notes


def _other_languages(clean: Sequence[Pair], analysis: Any) -> list[str]:
    """Averages over fewer languages than others in the same figure have."""
    variants = {pair.variant.id: pair.variant for pair in clean}
    sizes = {
        row["variant"]: len(row["members"])
        for row in analysis["groups"]
        if row["by"] == "all" and row["perturbation"] == "none"
    }
    most = max(sizes.values(), default=0)
    fewer: dict[str, list[Variant]] = defaultdict(list)
    for id, size in sizes.items():
        if size < most:
            text = f"averages are over {size} languages, where others are over {most}"
            fewer[text].append(variants[id])
    return _listed(fewer)


def _unpaired(pairs: Sequence[Pair]) -> list[str]:
    """Scores that cannot be compared with dense ones."""
    lacking: dict[str, list[Variant]] = defaultdict(list)
    for pair in pairs:
        if pair.mine is None or pair.mine.present.any():
            continue
        where = "" if pair.perturbation == "none" else f", entities replaced ({pair.perturbation})"
        text = "no dense run of the same seed that was evaluated alike" + where
        lacking[text].append(pair.variant)
    return _listed(lacking)


def _single(clean: Sequence[Pair]) -> list[str]:
    """Intervals that say nothing about seeds."""
    single = [pair.variant for pair in clean if (pair.own.present.sum(axis=0) <= 1).all()]
    text = (
        "one seed, so intervals are those of the sentences, if they were counted, and correlations "
        "with dense F1 are not to be trusted"
    )
    return _listed({text: single}) if single else []


def _foreign(found: Sequence[Run]) -> list[str]:
    """Languages that monolingual runs were evaluated on and not trained on."""
    names = [
        run.name
        for run in found
        if run.monolingual
        and any(
            set(evaluation.rows) - set(run.config.data.languages)
            for evaluation in run.evaluations
            if evaluation.setting["perturbation"] == "none"
        )
    ]
    if not names:
        return []
    return [f"scores in other languages than the one trained on are left out: {cut(names)}"]


def _about_data(analysis: Any) -> list[str]:
    notes = []
    if any("movement" in variant["method"] for variant in analysis["variants"]):
        notes.append(
            "movement pruning (Sanh et al. 2020) is not in Ogueji et al. 2022, whose grid this "
            "package follows: it is an addition"
        )
    unknown = [row["code"] for row in analysis["languages"] if row["train"] is None]
    if unknown:
        notes.append(f"training size unknown, so in no correlation with it: {cut(unknown)}")
    if "embedded" in analysis["data"]:
        notes.append("the embedded corpus is synthetic: nothing follows for real languages")
        notes.append("groups by resource go by the training sentences of WikiAnn, whatever is used")
    return notes
