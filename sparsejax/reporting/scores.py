"""The F1 of a variant as arrays, and linear functions of it with their intervals."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsejax.errors import UserError
from sparsejax.reporting import runs as reading
from sparsejax.reporting import statistics
from sparsejax.reporting.runs import Evaluation, Run
from sparsejax.reporting.statistics import Array, Interval
from sparsejax.reporting.variants import Variant


@dataclasses.dataclass(frozen=True)
class Scores:
    """F1 of a variant under one perturbation; NaN where there is none."""

    seeds: Sequence[int]
    codes: Sequence[str]  # languages
    f1: Array  # [seeds, languages]
    runs: npt.NDArray[np.object_]  # [seeds, languages], None where there is none
    settings: npt.NDArray[np.object_]  # [seeds, languages]: what must be equal to compare

    def of(self, rows: Sequence[int]) -> Scores:
        """Those of some seeds."""
        seeds, at = [self.seeds[row] for row in rows], list(rows)
        return Scores(seeds, self.codes, self.f1[at], self.runs[at], self.settings[at])

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.f1)


Evaluations = dict[tuple[str, str], Evaluation]
"""By name of the run and perturbation."""


def choose(found: Sequence[Run]) -> Evaluations:
    """The evaluations that are compared: of each run and perturbation at most one."""
    popular: Counter[str] = Counter()
    for run in found:
        popular.update({reading.key(evaluation.setting) for evaluation in run.evaluations})
    chosen = {}
    for run in found:
        for perturbation in {e.setting["perturbation"] for e in run.evaluations}:
            best = run.evaluation(perturbation, popular)
            if best is not None and best.rows:
                chosen[run.name, perturbation] = best
    return chosen


def scores(
    variant: Variant, chosen: Evaluations, codes: Sequence[str], perturbation: str
) -> Scores:
    """Arrays of a variant's F1, in the order of its seeds and of `codes`."""
    seeds = variant.seeds
    place = {code: i for i, code in enumerate(codes)}
    f1 = np.full((len(seeds), len(codes)), np.nan)
    who, settings = (np.full(f1.shape, None, object) for _ in range(2))
    for run in variant.runs:
        evaluation = chosen.get((run.name, perturbation))
        if evaluation is None:
            continue
        setting = dict(evaluation.setting)
        if perturbation == "none":
            del setting["evaluated"]  # what a language scores as it is has nothing to do with it
        key, row = reading.key(setting), seeds.index(run.seed)
        for code, found in evaluation.rows.items():
            f1[row, place[code]] = found["f1"]
            who[row, place[code]] = run
            settings[row, place[code]] = key
    return Scores(seeds, codes, f1, who, settings)


def paired(one: Scores, other: Scores) -> tuple[Scores, Scores]:
    """Both at the seeds that they share, NaN in both where either is missing or not comparable."""
    seeds = [seed for seed in one.seeds if seed in other.seeds]
    one, other = (s.of([s.seeds.index(seed) for seed in seeds]) for s in (one, other))
    fit = one.present & other.present & (one.settings == other.settings)
    return tuple(  # type: ignore[return-value]
        dataclasses.replace(s, f1=np.where(fit, s.f1, np.nan)) for s in (one, other)
    )


class Resamples:
    """The bootstrap over sentences of each run and language: made once, and only if asked for."""

    def __init__(self) -> None:
        self.problems: list[str] = []  # of files that cannot be read
        self._counts: dict[str, dict[str, reading.Counts]] = {}
        self._found: dict[tuple[str, str], tuple[Array, int, bytes] | None] = {}

    def prepare(self, language: str, wanted: Iterable[Run]) -> None:
        """Makes those of several runs, which is faster than one by one."""
        missing = {run.name: run for run in wanted if (run.name, language) not in self._found}
        together: dict[int, list[tuple[str, reading.Counts]]] = defaultdict(list)
        for name, run in missing.items():
            self._found[name, language] = None
            counts = self._of(run).get(language)
            if counts is not None:
                together[len(counts)].append((name, counts))
        for sentences, members in together.items():
            values = statistics.resampled_f1(np.stack([c for _, c in members], axis=1), language)
            for i, (name, counts) in enumerate(members):
                gold = counts[:, 2].tobytes()
                self._found[name, language] = (values[:, i], sentences, gold)

    def _of(self, run: Run) -> dict[str, reading.Counts]:
        if run.name not in self._counts:
            try:
                self._counts[run.name] = reading.counts(run)
            except UserError as error:
                self._counts[run.name] = {}
                self.problems.append(f"no intervals from its sentences: {error}")
        return self._counts[run.name]

    def combined(
        self, language: str, wanted: Sequence[tuple[float, Run]]
    ) -> tuple[Array, int] | None:
        """Multiples of runs' F1, summed, and the number of sentences.

        Returns:
          None where a run has no counts, or they are of other sentences.
        """
        self.prepare(language, [run for _, run in wanted])
        found = [self._found[run.name, language] for _, run in wanted]
        there = [one for one in found if one is not None]
        if len(there) < len(found) or len({(number, gold) for _, number, gold in there}) != 1:
            return None
        total = np.zeros(statistics.RESAMPLES)
        for (factor, _), (values, _, _) in zip(wanted, there, strict=True):
            total += factor * values
        return total, there[0][1]


Terms = Sequence[tuple[float, Scores]]


@dataclasses.dataclass(frozen=True)
class Estimate:
    interval: Interval
    p: float | None


def linear(
    terms: Terms, rows: Sequence[int], weights: dict[int, float], resamples: Resamples | None
) -> Estimate:
    """The sum over languages and terms of weight x factor x F1, over seeds, with its interval.

    Args:
      terms: factors, and scores of the same seeds; those at `rows` and of `weights` have no gap.
      rows: seeds; of one, the interval is of the sentences.
      weights: by column, a language.
      resamples: None where there are no counts of sentences, as of replaced entities.
    """
    columns, factors = list(weights), np.array(list(weights.values()))
    combined: Any = sum(factor * part.f1[np.ix_(rows, columns)] for factor, part in terms)
    by_seed = combined @ factors
    if len(rows) > 1:
        return Estimate(statistics.of_seeds(by_seed), statistics.p_of_seeds(by_seed))
    value, total, sentences = float(by_seed[0]), np.zeros(statistics.RESAMPLES), 0
    for column, weight in weights.items():
        code = terms[0][1].codes[column]
        runs = [(factor, part.runs[rows[0], column]) for factor, part in terms]
        found = None if resamples is None else resamples.combined(code, runs)
        if found is None:
            return Estimate(statistics.of_resamples(value, None, 0), None)
        total += weight * found[0]
        sentences += found[1]
    interval = statistics.of_resamples(value, total, sentences)
    return Estimate(interval, statistics.p_of_resamples(total))
