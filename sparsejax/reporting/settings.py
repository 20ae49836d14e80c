"""Monolingual against multilingual fine-tuning: the same method, seeds and languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparsejax.reporting import scores as scoring
from sparsejax.reporting import statistics
from sparsejax.reporting.scores import Resamples, Scores, linear
from sparsejax.reporting.variants import SETTINGS, Variant


def compare(
    clean: Mapping[int, Scores],
    variants: Sequence[Variant],
    groupings: Sequence[tuple[str, str, list[int]]],
    resamples: Resamples,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Macro F1 of both settings over the languages that both have, and the difference.

    Args:
      clean: by variant, its scores on the sentences as they are.
      variants: all of them.
      groupings: (by, group, columns) of the averages.
      resamples: for one seed.

    Returns:
      A row for each pair of variants and average: ids, members, `f1` of both, `change` from
      monolingual to multilingual, paired by seed, and its verdict; and notes.
    """
    rows, notes = [], []
    for mono, multi in _counterparts(variants):
        if mono.extra != multi.extra:
            notes.append(f"compared though other settings differ: {mono.label}; {multi.label}")
        low, high = scoring.paired(clean[mono.id], clean[multi.id])
        for by, group, columns in groupings:
            seeds, places = statistics.complete_block(low.present[:, columns])
            if not seeds:
                continue
            kept = [columns[place] for place in places]
            weights = dict.fromkeys(kept, 1 / len(kept))

            def interval(
                *terms: tuple[float, Scores],
                seeds: Sequence[int] = seeds,
                weights: dict[int, float] = weights,
            ) -> statistics.Interval:
                return linear(terms, seeds, weights, resamples).interval

            change = interval((1.0, high), (-1.0, low))
            row = {"monolingual": mono.id, "multilingual": multi.id, "by": by, "group": group}
            row |= {"members": [low.codes[column] for column in kept]}
            row |= {
                "f1": {"monolingual": interval((1.0, low)), "multilingual": interval((1.0, high))}
            }
            rows.append(row | {"change": change, "verdict": statistics.verdict(change)})
    return rows, notes


def _counterparts(variants: Sequence[Variant]) -> list[tuple[Variant, Variant]]:
    """(monolingual, multilingual) variants that differ in nothing else, or the only ones alike."""
    found = []
    for multi in variants:
        alike = [v for v in variants if _key(v) == _key(multi)]
        of = {setting: [v for v in alike if v.setting == setting] for setting in SETTINGS}
        if multi.setting != "multilingual" or not of["monolingual"]:
            continue
        same = [v for v in of["monolingual"] if v.extra == multi.extra]
        only = of["monolingual"] if len(of["monolingual"]) == len(of["multilingual"]) == 1 else []
        found += [(mono, multi) for mono in (same or only)[:1]]
    return found


def _key(variant: Variant) -> tuple[Any, ...]:
    return variant.method, variant.sparsity, variant.embeddings
