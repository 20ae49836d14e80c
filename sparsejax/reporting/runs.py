"""Run directories, found and read: as many as there are, whatever state they are in."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsejax import config_files
from sparsejax.config import Config
from sparsejax.errors import UserError
from sparsejax.runtime import counts as counting
from sparsejax.runtime import results, run_directory

Row = Mapping[str, Any]
Counts = npt.NDArray[np.integer[Any]]
DEPTH = 3  # of run directories below the directories given
PERTURBATIONS = ("none", "language", "script", "family", "unseen", "noise")
AVERAGES = ("macro", "micro")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run."""

    setting: Row  # the fields of `results.setting`
    rows: Mapping[str, Row]  # by language: its row of results.jsonl; only those with an F1


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run directory holds for a report."""

    name: str
    path: Path
    config: Config
    finished: bool
    evaluations: Sequence[Evaluation] = ()
    audit: Row | None = None  # the row of kind "sparsity"

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def monolingual(self) -> bool:
        return len(self.config.data.languages) == 1

    def main(self) -> Evaluation | None:
        """The one on the test split as its training wrote it."""
        return self.evaluation("none", {})

    def evaluation(self, perturbation: str, popular: Mapping[str, int]) -> Evaluation | None:
        """The one on the test split, of the run's own data, that is best to compare.

        Of several, those on as many sentences as the training's own come first; then those of the
        languages that the training evaluated; then the one that most runs have; then the one of the
        lower seed, of more languages.

        Args:
          perturbation: how its entities were replaced.
          popular: by `key(setting)`, the number of runs that have it.
        """
        wanted = results.setting(self.config.data, self._languages(), "test")
        found = [
            e
            for e in self.evaluations
            if (e.setting["perturbation"], e.setting["split"]) == (perturbation, "test")
            and e.setting["data"] == wanted["data"]
        ]

        def rank(e: Evaluation) -> tuple[Any, ...]:
            setting = e.setting
            return (
                any(setting[name] != wanted[name] for name in ("limit", "subsample")),
                perturbation == "none" and setting["evaluated"] != wanted["evaluated"],
                -popular.get(key(setting), 0),
                setting["seed"] or 0,
                -len(setting["evaluated"]),
                setting["evaluated"],
            )

        best = min(found, key=rank, default=None)
        if best is None or not self.monolingual:
            return best
        # What it makes of languages that it never saw is another question.
        own = {code: best.rows[code] for code in self.config.data.languages if code in best.rows}
        return Evaluation(best.setting, own) if own else None

    def _languages(self) -> Sequence[str]:
        return self.config.data.eval_languages or self.config.data.languages


def key(setting: Row) -> str:
    """A setting as text, equal for equal ones."""
    return repr(sorted(setting.items()))


def find(roots: Iterable[Path]) -> dict[Path, str]:
    """Run directories at or below some directories, and what to call each.

    Returns:
      In the order of their paths. The name is the path below the directory given; with that
      directory's own path where two would be called the same.

    Raises:
      UserError: a path is not a directory.
    """
    found: dict[Path, str] = {}
    seen: set[Path] = set()
    for root in roots:
        if not root.is_dir():
            raise UserError(f"{root}: not a directory; pass run directories or what holds them")
        for path in _below(root, DEPTH):
            resolved = path.resolve()
            if resolved not in seen:
                seen.add(resolved)
                found[path] = path.name or str(resolved) if path == root else _under(path, root)
    often = Counter(found.values())
    return {path: name if often[name] == 1 else str(path) for path, name in sorted(found.items())}


def _under(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _below(directory: Path, depth: int) -> list[Path]:
    if (directory / "config.yaml").is_file():
        return [directory]
    if not depth:
        return []
    try:
        with os.scandir(directory) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:  # that may not be read
        return []
    return [path for name in names for path in _below(directory / name, depth - 1)]


def read(path: Path, name: str) -> Run:
    """A run directory; what is missing, a killed run's results above all, may be missing.

    Raises:
      UserError: a file is damaged or of another version.
    """
    config = config_files.load(path / "config.yaml", of_run=True)
    if not run_directory.is_finished(path):
        return Run(name, path, config, finished=False)
    rows = results.read(path / "results.jsonl")
    evaluations: dict[str, tuple[Row, dict[str, Row]]] = {}
    audit = None
    fields = tuple(results.setting(config.data, (), "test"))
    try:
        for row in rows:
            if row["schema"] != results.SCHEMA:
                raise UserError(
                    f"{path}/results.jsonl: rows of version {row['schema']}, and this program "
                    f"reads version {results.SCHEMA}"
                )
            if row["kind"] == "sparsity":
                audit = row
                _check_audit(row)
            elif row["kind"] == "scores" and row["language"] not in AVERAGES:
                setting = {field: row[field] for field in fields}
                _, by_language = evaluations.setdefault(key(setting), (setting, {}))
                if row["f1"] is not None and not _unchanged(row):
                    by_language[row["language"]] = row | {"f1": float(row["f1"])}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}/results.jsonl: not the rows of an evaluation ({type(error).__name__}: {error})"
        ) from None
    if audit is None and config.prune.method != "none":
        raise UserError(f"{path}/results.jsonl: the row of the realised sparsity is missing")
    found = [Evaluation(setting, by_language) for setting, by_language in evaluations.values()]
    return Run(name, path, config, True, found, audit)


def _check_audit(row: Row) -> None:
    for count in (row["targets"], *row["leaves"].values()):
        float(count["sparsity"])


def _unchanged(row: Row) -> bool:
    """Whether this is a perturbed evaluation in which nothing could be replaced."""
    return row["perturbation"] != "none" and row.get("replacement", {}).get("changed") == 0


def counts(run: Run) -> dict[str, Counts]:
    """Entities of each sentence of the training's own evaluation.

    Returns:
      By language [sentences, 3]: correct, predicted, gold. Only languages whose F1 follows from
      them; none at all if the run has no counts, or they are of another evaluation than `main`.

    Raises:
      UserError: the file is damaged or of another version.
    """
    path, main = run.path / "counts.safetensors", run.main()
    if main is None or not path.exists():
        return {}
    found, setting = counting.read(path)
    if setting != main.setting:
        return {}
    return {code: part for code, part in found.items() if _fits(part, main.rows.get(code))}


def _fits(counts: Counts, row: Row | None) -> bool:
    if row is None or counts.ndim != 2 or counts.shape[1] != 3:
        return False
    correct, predicted, gold = (int(n) for n in counts.sum(axis=0, dtype=np.int64))
    return abs(2 * correct / max(predicted + gold, 1) - row["f1"]) < 1e-6
