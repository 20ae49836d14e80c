"""Which runs are one point of a figure, which points are a curve, and what each is compared with.

A variant is what runs of different seeds share; monolingual runs of different languages share it as
well. Variants that differ in sparsity alone are a series.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparsejax.config import Config
from sparsejax.config_values import leaves
from sparsejax.reporting.runs import Run

SETTINGS = ("multilingual", "monolingual")
METHODS = {
    "none": "dense",
    "magnitude": "magnitude",
    "latent_magnitude": "latent magnitude",
    "movement": "movement",
    "soft_movement": "soft movement",
    "random": "random",
    "fixed": "fixed masks",
}
# Whose sparsity is what came out, and not what was asked for.
FOUND_SPARSITY = ("soft_movement", "fixed")

# Fields by which no two runs are told apart: where things are, how they are watched, the seed.
_INDIFFERENT = (
    "seed",
    "output",
    "overwrite",
    "resume",
    "data.cache",
    "data.processes",
    "data.language_table",
    "data.eval_languages",
    "train.wandb",
    "train.log_every",
    "checkpoint.keep",
    "checkpoint.every",
    "prune.method",
    "prune.sparsity",
    "prune.embeddings",
    "prune.masks",
)
_SCHEDULED = ("begin", "end", "interval", "pattern")
_PRUNING = {
    "none": (),
    "fixed": (),
    "magnitude": (*_SCHEDULED, "scope"),
    "latent_magnitude": (*_SCHEDULED, "scope"),
    "random": (*_SCHEDULED, "scope"),
    "movement": (*_SCHEDULED, "scope", "score_learning_rate"),
    "soft_movement": (*_SCHEDULED, "score_learning_rate", "threshold", "penalty"),
}
# What makes soft movement more or less sparse.
_SETS_SPARSITY = ("prune.threshold", "prune.penalty")
# Runs that differ in one of these are not compared.
_SAME_DATA = (
    "data.dir",
    "data.hub",
    "data.languages",
    "data.train_sentences",
    "data.eval_sentences",
    "data.subsample",
)
# Of no influence where a pretrained model is given.
_FROM_SCRATCH = (
    "model.layers",
    "model.width",
    "model.heads",
    "model.intermediate",
    "model.vocabulary",
    "model.dropout",
)

Fields = Mapping[str, Any]


@dataclasses.dataclass
class Variant:
    """Runs that differ in nothing but seed and, for monolingual ones, language."""

    setting: str
    method: str
    sparsity: float
    embeddings: bool
    fields: Fields  # all others by which runs are told apart
    runs: list[Run] = dataclasses.field(default_factory=list)
    extra: str = ""
    id: int = -1
    series: int | None = None
    dense: Variant | None = None

    @property
    def label(self) -> str:
        label = curve_label(self)
        return label if self.method == "none" else f"{label}, {percent(self.sparsity)} %"

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})


def percent(share: float) -> str:
    """0.955 as 95.5."""
    return f"{round(100 * share, 1):g}"


def curve_label(variant: Variant, extra: str | None = None) -> str:
    """All but the sparsity, in words."""
    extra = variant.extra if extra is None else extra
    embeddings = "embeddings pruned" if variant.embeddings else ""
    return ", ".join(filter(None, (variant.setting, METHODS[variant.method], embeddings, extra)))


def fields(config: Config) -> dict[str, Any]:
    """What tells runs apart besides setting, method, sparsity and whether embeddings are pruned."""
    found = {name: value for name, _, value in leaves(config) if name not in _INDIFFERENT}
    found = {
        name: value
        for name, value in found.items()
        if not name.startswith(("prune.", "parallel."))
        or name.removeprefix("prune.") in _PRUNING[config.prune.method]
    }
    if config.checkpoint.best:
        found["checkpoint.every"] = config.checkpoint.every  # those that compete
    if config.prune.masks is not None:
        found["prune.masks"] = True  # each seed has its own
    if config.model.path or config.model.hub:
        found = {name: v for name, v in found.items() if name not in _FROM_SCRATCH}
    if len(config.data.languages) == 1:  # alpha mixes languages
        del found["data.languages"], found["data.alpha"]
    else:
        found["data.languages"] = tuple(sorted(config.data.languages))
    return found


def group(runs: Iterable[Run]) -> tuple[list[Variant], list[str]]:
    """Variants of finished runs, in a fixed order, with ids, series and what each is compared with.

    Returns:
      Variants, and notes.
    """
    found: dict[tuple[Any, ...], Variant] = {}
    for run in runs:
        prune = run.config.prune
        dense = prune.method == "none"
        variant = Variant(
            setting=SETTINGS[run.monolingual],
            method=prune.method,
            sparsity=_asked(run),
            embeddings=prune.embeddings and not dense,
            fields=fields(run.config),
        )
        key = (*_curve(variant), variant.sparsity, _items(variant.fields))
        found.setdefault(key, variant).runs.append(run)
    notes = []
    for variant in found.values():
        if variant.method in FOUND_SPARSITY:
            realised = [_realised(run) for run in variant.runs]
            variant.sparsity = round(sum(realised) / len(realised), 4)
        notes += _without_repeats(variant)
    for variant in found.values():
        variant.extra = _extra(variant, list(found.values()))
    variants = sorted(found.values(), key=_order)
    labels: dict[str, int] = defaultdict(int)
    for number, variant in enumerate(variants):
        variant.id = number
        labels[variant.label] += 1
        if labels[variant.label] > 1:  # settings whose texts are cut to the same
            variant.extra = f"{variant.extra} ({labels[variant.label]})".strip()
    curves: dict[tuple[Any, ...], int] = {}
    for variant in variants:
        if variant.method != "none":
            key = (*_curve(variant), _items(_without_sparsity(variant.fields)))
            variant.series = curves.setdefault(key, len(curves))
            variant.dense, note = _partner(variant, variants)
            notes += filter(None, [note])
    return variants, list(dict.fromkeys(notes))


def _asked(run: Run) -> float:
    """The sparsity by which runs are put together."""
    prune = run.config.prune
    if prune.method == "fixed":  # its masks are as sparse for each seed
        return round(_realised(run), 3)
    return 0.0 if prune.method in ("none", "soft_movement") else prune.sparsity


def _realised(run: Run) -> float:
    return float(run.audit["targets"]["sparsity"]) if run.audit else 0.0


def extra_of_series(members: Sequence[Variant], variants: Sequence[Variant]) -> str:
    """Of a series, the other fields in words."""
    return _extra(members[0], variants, without=_SETS_SPARSITY) if members else ""


def _curve(variant: Variant) -> tuple[Any, ...]:
    return variant.setting, variant.method, variant.embeddings


def _items(found: Fields) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(found.items()))


def _without_sparsity(found: Fields) -> Fields:
    return {name: value for name, value in found.items() if name not in _SETS_SPARSITY}


def _order(variant: Variant) -> tuple[Any, ...]:
    return (
        SETTINGS.index(variant.setting),
        variant.method != "none",
        list(METHODS).index(variant.method),
        variant.embeddings,
        variant.extra,
        variant.sparsity,
        repr(_items(variant.fields)),
    )


def _without_repeats(variant: Variant) -> list[str]:
    """Leaves one run of each seed and language."""
    kept: dict[tuple[Any, ...], Run] = {}
    notes = []
    for run in variant.runs:
        first = kept.setdefault((run.seed, *_language(run)), run)
        if first is not run:
            notes.append(f"{run.name}: the same settings and seed as {first.name}; not counted")
    variant.runs = list(kept.values())
    return notes


def _language(run: Run) -> Sequence[str]:
    return run.config.data.languages if run.monolingual else ()


def _extra(variant: Variant, variants: Sequence[Variant], without: Sequence[str] = ()) -> str:
    """The fields in which those of all variants that have them differ."""
    parts = []
    for name, value in variant.fields.items():
        others = {repr(v.fields[name]) for v in variants if name in v.fields}
        if name not in without and len(others) > 1:
            parts.append(_in_words(name, value))
    if "prune.masks" in variant.fields and variant.method != "fixed":
        parts.append("from a pruned model")
    return ", ".join(filter(None, parts))


def _in_words(name: str, value: Any) -> str:
    section, _, last = name.partition(".")
    if name == "data.languages":
        more = f" and {len(value) - 4} more" if len(value) > 4 else ""
        shown = " ".join(value[:4]) + more
        return f"trained on {shown}"
    if value is None and last in ("dir", "hub", "path"):
        return ""
    if last in ("dir", "hub", "path"):
        return f"{section} {os.path.basename(value.rstrip('/'))}"
    return f"{last} {'none' if value is None else str(value).lower()}"


def _partner(variant: Variant, variants: Sequence[Variant]) -> tuple[Variant | None, str]:
    """The dense variant to compare with, and a note where it is not quite the same otherwise."""

    candidates = [
        v
        for v in variants
        if v.method == "none"
        and v.setting == variant.setting
        and all(v.fields.get(name) == variant.fields.get(name) for name in _SAME_DATA)
    ]
    if not candidates:
        return None, f"{curve_label(variant)}: no dense run with the same data"

    def differences(other: Variant) -> list[str]:
        names = sorted({*variant.fields, *other.fields})
        return [
            n
            for n in names
            if not n.startswith("prune.") and variant.fields.get(n) != other.fields.get(n)
        ]

    exact = [v for v in candidates if not differences(v)]
    if exact:
        return exact[0], ""
    near = [v for v in candidates if all(n.startswith("checkpoint.") for n in differences(v))]
    near = near or [v for v in candidates if set(v.seeds) & set(variant.seeds)]
    if len(near) != 1:
        what = "several dense runs" if near else "no dense run of the same seed"
        return None, f"{curve_label(variant)}: {what} with other settings, so none is compared with"
    names = ", ".join(differences(near[0]))
    return near[0], f"{curve_label(variant)}: the dense run differs in {names} as well"
