"""What is wrong with a configuration that can be seen in it alone: a one-line `UserError`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sparsejax.config import Config, ParallelConfig, PruneConfig
from sparsejax.config_values import convert, leaves, show
from sparsejax.errors import UserError


def validate(config: Config) -> None:
    """Raises a UserError for the first field that is of the wrong type or out of range."""
    check_ranges(config)
    for name in ("languages", "eval_languages"):
        check_codes(f"data.{name}", getattr(config.data, name))
    if config.model.width % config.model.heads:
        raise UserError(
            f"model.width: {config.model.width} is not divisible by"
            f" model.heads {config.model.heads}"
        )
    _validate_pruning(config.prune)
    validate_parallel(config.parallel)
    if config.resume == "auto" and config.output is None:
        raise UserError("resume: auto goes on with the run in --output; name its directory")
    if config.resume == "auto" and config.overwrite:
        raise UserError("resume: auto goes on with a run that overwrite removes; choose one")


def check_ranges(config: Any) -> None:
    """Raises a UserError for the first field whose value alone is wrong; of any such dataclass."""
    for name, kind, value in leaves(config):
        converted = convert(name, kind, value)
        if converted != value:
            raise UserError(f"{name}: {show(value)} would be read back as {show(converted)}")
        for within, allowed, names in _RANGES:
            if name in names.split() and value is not None and not within(value):
                raise UserError(f"{name}: {show(value)} is not {allowed}")


def check_codes(name: str, codes: tuple[str, ...]) -> None:
    """Raises a UserError for the first of these that is no language code, or is there twice."""
    for code in codes:
        # A code becomes a directory's name, so it must not be able to leave the directory.
        if not re.fullmatch(r"[A-Za-z0-9_-]+", code):
            raise UserError(
                f"{name}: {show(code)} is not a language code"
                " (letters, digits, - and _; one code per entry)"
            )
        if code in ("macro", "micro"):
            raise UserError(f"{name}: {code!r} is the name of an average")
        if codes.count(code) > 1:
            raise UserError(f"{name}: {show(code)} is listed twice; list it once")


def _validate_pruning(prune: PruneConfig) -> None:
    if prune.begin > prune.end:
        raise UserError(f"prune.begin: {prune.begin} is after prune.end {prune.end}")
    if n_of_m := re.fullmatch(r"([1-9]\d*):([1-9]\d*)", prune.pattern):
        n, m = map(int, n_of_m.groups())
        if n >= m:
            raise UserError(f"prune.pattern: {prune.pattern}: N of N:M must be less than M")
        if prune.method == "soft_movement":
            raise UserError(f"prune.pattern: {prune.pattern} does not go with soft_movement")
        if prune.scope == "global":
            raise UserError(f"prune.scope: global does not go with prune.pattern {prune.pattern}")
        if abs(prune.sparsity - (1 - n / m)) > 1e-6:
            raise UserError(
                f"prune.sparsity: {prune.sparsity} is not the {1 - n / m:.6g} of prune.pattern "
                f"{prune.pattern}"
            )
    elif not re.fullmatch(r"weights|heads|neurons|[1-9]\d*x[1-9]\d*", prune.pattern):
        raise UserError(
            f"prune.pattern: {show(prune.pattern)} is not weights, N:M, RxC, heads or neurons"
        )
    if prune.method == "fixed" and (
        prune.pattern != "weights" or prune.embeddings or prune.scope == "global"
    ):
        raise UserError("prune.method: fixed keeps masks: pattern, scope and embeddings are theirs")
    if prune.embeddings and prune.pattern in ("heads", "neurons"):
        raise UserError(f"prune.embeddings: they have no {prune.pattern} (prune.pattern)")
    if prune.method == "soft_movement" and prune.scope == "global":
        raise UserError("prune.scope: soft_movement has one threshold for all; leave it at tensor")
    if (prune.method == "fixed") > (prune.masks is not None):
        raise UserError("prune.masks: prune.method fixed needs the masks of a pruned model")
    if prune.masks is not None and prune.method in ("none", "latent_magnitude"):
        raise UserError(f"prune.masks: prune.method {prune.method} would not keep them")


def validate_parallel(parallel: ParallelConfig) -> None:
    """Raises a UserError where coordinator, processes and process do not go together."""
    where, given = parallel.coordinator, (parallel.processes, parallel.process)
    if where in (None, "auto", "cluster"):
        if given != (None, None):
            raise UserError(
                f"parallel.coordinator: {where or 'none'} needs no parallel.processes nor "
                "parallel.process; leave them out, or pass HOST:PORT of process 0"
            )
        return
    port = re.fullmatch(r"\S+:([1-9]\d{0,4})", str(where))
    if port is None or int(port[1]) > 65535:
        raise UserError(
            f"parallel.coordinator: {show(where)} is not HOST:PORT, auto, cluster or none"
        )
    if None in given:
        raise UserError(
            f"parallel.coordinator: {show(where)} needs --parallel.processes and --parallel.process"
        )
    if given[1] >= given[0]:  # type: ignore[operator]
        raise UserError(
            f"parallel.process: {given[1]} is not below parallel.processes {given[0]}; count from 0"
        )


# The values a field may have, the same in words, and the fields.
_RANGES: tuple[tuple[Callable[[Any], object], str, str], ...] = (
    (
        lambda value: value >= 0,
        "at least 0",
        "train.weight_decay prune.penalty checkpoint.keep parallel.process slurm.gpus",
    ),
    (
        lambda value: value >= 1,
        "at least 1",
        "parallel.processes parallel.fsdp parallel.cpu_devices slurm.workers slurm.minutes",
    ),
    (
        lambda value: value > 0,
        "above 0",
        "train.learning_rate train.clip_norm prune.score_learning_rate",
    ),
    (lambda value: 0 <= value <= 1, "in [0, 1]", "prune.begin prune.end train.warmup data.alpha"),
    (lambda value: 0 <= value < 1, "in [0, 1)", "prune.sparsity model.dropout"),
    (lambda value: 0 < value < 1, "in (0, 1)", "prune.threshold"),
    (lambda value: 0 <= value < 2**32, "in [0, 2**32)", "seed data.subsample"),
    (
        lambda value: value >= 1,
        "at least 1",
        "data.train_sentences data.eval_sentences data.processes",
    ),
    (lambda value: value >= 1, "at least 1", "slurm.cpus slurm.memory"),
    (lambda value: value >= 1, "at least 1", "model.layers model.width model.heads"),
    (lambda value: value >= 1, "at least 1", "model.intermediate prune.interval checkpoint.every"),
    (lambda value: value >= 1, "at least 1", "train.epochs train.batch_size train.log_every"),
    # BERT's five special tokens and one piece.
    (lambda value: value >= 6, "at least 6", "model.vocabulary"),
    # Two special tokens, and room for a word cut into pieces.
    (lambda value: value >= 8, "at least 8", "data.length"),
    (lambda value: value.strip(), "a name", "data.dir data.hub data.cache data.language_table"),
    (
        lambda value: value.strip(),
        "a name",
        "model.path model.hub output prune.masks train.wandb parallel.coordinator write against "
        "slurm.partition slurm.account",
    ),
)
