"""Variants beside what they are compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from sparsejax.reporting import scores as scoring
from sparsejax.reporting import statistics
from sparsejax.reporting.runs import PERTURBATIONS, Run
from sparsejax.reporting.scores import Resamples, Scores
from sparsejax.reporting.variants import Variant


@dataclasses.dataclass
class Pair:
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


def pair_up(
    members: Sequence[Variant],
    chosen: scoring.Evaluations,
    codes: Sequence[str],
    resamples: Resamples,
) -> list[Pair]:
    """Every variant under every perturbation for which it has a score."""
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
                pairs.append(Pair(variant, perturbation, own, mine, dense, counted))
    return pairs


def prepare(pairs: Sequence[Pair], codes: Sequence[str], resamples: Resamples) -> None:
    """Resamples the sentences of a language once for all runs that are the only ones of a mean."""
    for column, code in enumerate(codes):
        wanted: dict[str, Run] = {}
        for pair in pairs:
            for scores in (pair.own, pair.mine, pair.dense):
                if scores is None or pair.resamples is None:
                    continue
                rows = rows_of(scores, column)
                if len(rows) == 1:
                    run = scores.runs[rows[0], column]
                    wanted[run.name] = run
        resamples.prepare(code, wanted.values())


def rows_of(scores: Scores, column: int) -> list[int]:
    """The seeds that have a score of a language."""
    found: list[int] = np.flatnonzero(scores.present[:, column]).tolist()
    return found


def block(pair: Pair, columns: Sequence[int]) -> tuple[Scores, list[int], list[int]]:
    """Scores, seeds and languages of an average: those that can be compared, if there are any."""
    for scores in (pair.mine, pair.own):
        if scores is not None:
            rows, places = statistics.complete_block(scores.present[:, list(columns)])
            if rows:
                return scores, rows, [columns[place] for place in places]
    return pair.own, [], []
