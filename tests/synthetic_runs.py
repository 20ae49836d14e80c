"""Run directories with known numbers, written without training: for the tests of reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsejax import config_files
from sparsejax.config import Config
from sparsejax.runtime import counts as counting
from sparsejax.runtime import results

Counts = npt.NDArray[np.integer[Any]]

MATRICES = (
    "attention/query", "attention/key", "attention/value", "attention/output",
    "mlp/intermediate", "mlp/output",
)  # fmt: skip


def config(
    languages: Sequence[str],
    method: str = "none",
    sparsity: float = 0.9,
    seed: int = 0,
    embeddings: bool = False,
    **sections: Mapping[str, Any],
) -> Config:
    """A configuration as a run keeps it; sections: data={"length": 32}, ..."""
    made = Config(seed=seed)
    prune = {"method": method, "sparsity": sparsity, "embeddings": embeddings}
    given = {
        **sections,
        "data": {"languages": tuple(languages)} | dict(sections.get("data", {})),
        "prune": prune | dict(sections.get("prune", {})),
    }
    return dataclasses.replace(
        made,
        **{name: dataclasses.replace(getattr(made, name), **given[name]) for name in given},
    )


def score(f1: float | None, support: int = 200) -> dict[str, Any]:
    if f1 is None:
        return {"precision": 0.0, "recall": None, "f1": None, "support": 0}
    return {"precision": f1, "recall": f1, "f1": f1, "support": support}


def score_rows(
    config: Config, f1: Mapping[str, float | None], perturbation: str = "none", **setting: Any
) -> list[dict[str, Any]]:
    """Rows as an evaluation writes them; setting: fields that are to be other than the run's."""
    where = results.setting(config.data, f1, "test", perturbation) | setting
    defined = [value for value in f1.values() if value is not None]
    mean = sum(defined) / len(defined) if defined else None
    rows = []
    for code, value in [*f1.items(), ("macro", mean), ("micro", mean)]:
        row = {"kind": "scores", "language": code} | score(value)
        row |= {"strict": score(value), "clean": score(value)}
        row |= {"types": {kind: score(value) for kind in ("PER", "ORG", "LOC")}}
        row |= {"calibration_error": 0.05, "sentences": 1000, "clean_sentences": 900}
        if perturbation != "none" and code in f1:
            row["replacement"] = {"changed": 900, "without_candidate": 0, "without_entity": 100}
        rows.append(where | row)
    group = {"kind": "group", "by": "script", "group": "Latn", "members": list(f1)}
    return [*rows, where | group | score(mean)]


def audit(config: Config, layers: int = 2, sparsity: float | None = None) -> dict[str, Any]:
    """The row of the realised sparsity; deeper layers are sparser by up to 4 points."""
    prune = config.prune
    final = prune.sparsity if sparsity is None else sparsity
    if prune.method == "none":
        final = 0.0
    leaves = {}
    for layer in range(layers):
        for matrix in MATRICES:
            lean = 0.02 * (2 * layer / max(layers - 1, 1) - 1) if prune.scope == "global" else 0.0
            share = min(max(final + lean, 0.0), 1.0)
            leaves[f"encoder/layer_{layer}/{matrix}/kernel"] = count(share)
    if prune.embeddings and prune.method != "none":
        leaves["embeddings/word/embedding"] = count(final)
    total = {name: count(final) for name in ("encoder", "targets", "model")}
    return {"schema": results.SCHEMA, "kind": "sparsity", "step": 10} | total | {"leaves": leaves}


def count(share: float, size: int = 10_000) -> dict[str, Any]:
    zeros = round(share * size)
    return {"zeros": zeros, "pruned": zeros, "size": size, "sparsity": zeros / size}


def f1_of(counts: Counts) -> float:
    correct, predicted, gold = (int(n) for n in counts.sum(axis=0))
    return 2 * correct / (predicted + gold)


def sentences(f1: float, number: int, seed: int) -> Counts:
    """Counts [number, 3] of sentences with one entity each, of which a share of f1 is found."""
    right = np.zeros(number, np.uint16)
    right[: round(f1 * number)] = 1
    np.random.default_rng(seed).shuffle(right)
    ones = np.ones(number, np.uint16)
    return np.stack([right, ones, ones], axis=1)


def write_run(
    path: Path,
    config: Config,
    f1: Mapping[str, float | None] | None = None,
    perturbed: Mapping[str, Mapping[str, float | None]] | None = None,
    counts: Mapping[str, Counts] | None = None,
    layers: int = 2,
    sparsity: float | None = None,
    more: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """A run directory.

    Args:
      f1: by language, clean; None with `counts`, from which it then follows. With neither, the run
        is unfinished.
      perturbed: the same by perturbation.
      counts: of each sentence, by language.
      layers: of the encoder, whose matrices are listed.
      sparsity: the realised one, where it is not what was asked for.
      more: other rows of results.jsonl.
    """
    path.mkdir(parents=True)
    config_files.save(config, path / "config.yaml")
    if counts is not None and f1 is None:
        f1 = {code: f1_of(part) for code, part in counts.items()}
    if f1 is None:
        return path
    rows = score_rows(config, f1)
    for perturbation, values in (perturbed or {}).items():
        rows += score_rows(config, values, perturbation)
    results.write(path / "results.jsonl", [*rows, audit(config, layers, sparsity), *more])
    if counts is not None:
        setting = results.setting(config.data, f1, "test")
        counting.write(path / "counts.safetensors", counts, setting)
    return path
