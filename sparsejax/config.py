"""The configuration of a run: dataclasses, validation, YAML in and out.

A value comes from the defaults below, then from the file of `--config`, then from flags
(`command_line`); the later wins. YAML and flags go through the same conversion, and every mistake
is a one-line `UserError`. Nothing here imports an array library, so `--help` answers at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import os
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from sparsejax.errors import UserError
from sparsejax.files import write_whole

# The comments on the fields are the text of --help.


@dataclass(frozen=True)
class DataConfig:
    """Sentences to train and evaluate on. With neither dir nor hub: the embedded corpus."""

    dir: str | None = None  # Local directory with <lang>/{train,dev,test}; wins over hub
    hub: str | None = None  # Hugging Face dataset (or a local copy): one config per language
    languages: tuple[str, ...] = ()  # Codes to train on; unset: all that the source has
    eval_languages: tuple[str, ...] = ()  # Codes to evaluate on; unset: those trained on
    train_sentences: int | None = None  # Per language at most; none: all
    eval_sentences: int | None = None  # Per language and split at most; none: all
    subsample: int | None = None  # Seed of a random choice of those sentences; none: the first ones
    alpha: float = 1.0  # Languages are seen as their size ** alpha; 1: every sentence once
    language_table: str | None = None  # YAML file with family, script, ... of your own languages
    length: int = 64  # Pieces per packed row, special tokens included
    cache: str | None = None  # Tokenised data; none: $SPARSEJAX_CACHE or ~/.cache/sparsejax
    processes: int | None = None  # That tokenise; none: one per processor


@dataclass(frozen=True)
class ModelConfig:
    """The encoder. With neither path nor hub: a small BERT from random initialisation."""

    path: str | None = None  # Local Hugging Face model directory; wins over hub
    hub: str | None = None  # Hugging Face model id
    layers: int = 2  # From scratch: layers
    width: int = 64  # From scratch: hidden width, a multiple of heads
    heads: int = 4  # From scratch: attention heads
    intermediate: int = 128  # From scratch: feed-forward width
    vocabulary: int = 8000  # From scratch: pieces learned from the training sentences
    dropout: float = 0.1  # From scratch: dropout rate
    dtype: Literal["float32", "bfloat16"] = "float32"  # Of the computation; parameters are float32


Method = Literal[
    "none", "magnitude", "latent_magnitude", "movement", "soft_movement", "random", "fixed"
]


@dataclass(frozen=True)
class PruneConfig:
    """Pruning during fine-tuning, on a cubic schedule."""

    method: Method = "magnitude"  # none: a dense model; fixed: the masks of a pruned one are kept
    sparsity: float = 0.9  # Final fraction of zeros in the targets; soft_movement finds its own
    begin: float = 0.1  # Fraction of the training steps at which the schedule starts
    end: float = 0.9  # Fraction of the training steps at which the final sparsity is reached
    interval: int = 10  # Steps between mask updates; the last scheduled step always updates
    embeddings: bool = False  # Also prune the word embedding matrix
    scope: Literal["tensor", "global"] = "tensor"  # Rank within each target or among all of them
    pattern: str = "weights"  # What goes as one: weights, N:M as 2:4, RxC as 32x32, heads, neurons
    score_learning_rate: float = 1e-2  # Movement: peak learning rate of the scores
    threshold: float = 0.1  # Soft movement: final threshold on the sigmoid of the scores
    penalty: float = 400.0  # Soft movement: final weight of the mean sigmoid in the loss
    masks: str | None = None  # masks.safetensors of the pruned model that training starts from


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

    epochs: int = 8  # Passes over the training sentences
    batch_size: int = 32  # Sentences per step, on average: packed rows are batched
    learning_rate: float = 2e-3  # Peak learning rate of AdamW; about 5e-5 suits pretrained models
    warmup: float = 0.1  # Fraction of the steps over which the learning rate rises from 0
    decay: Literal["linear", "constant"] = "linear"  # Learning rate after the warmup
    weight_decay: float = 0.01  # Weight decay of AdamW
    clip_norm: float = 1.0  # Global norm at which gradients are clipped
    log_every: int = 10  # Steps between rows of metrics.jsonl
    nonfinite: Literal["stop", "skip"] = "stop"  # A step whose loss or gradient is not finite
    wandb: str | None = None  # Project on Weights & Biases that the metrics go to as well


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept of a run while it trains, so that it can go on after anything."""

    every: int = 1000  # Steps between checkpoints; there is always one at the end
    keep: int = 2  # The newest ones that are kept; 0: one, and none when the run is finished
    best: bool = False  # Score each on the dev split; the best at full sparsity is the model


@dataclass(frozen=True)
class ParallelConfig:
    """Devices and processes. One process uses all devices that it sees."""

    # HOST:PORT of process 0; auto: what SLURM, MPI or GKE say; cluster: what JAX finds; none: alone
    coordinator: str | None = "auto"
    processes: int | None = None  # With HOST:PORT: how many there are
    process: int | None = None  # With HOST:PORT: which one this is, from 0
    fsdp: int = 1  # Devices that share one copy of parameters and optimizer state
    cpu_devices: int | None = None  # Emulated ones of the CPU, to try a run out


@dataclass(frozen=True)
class Config:
    """One run; the defaults are the embedded quickstart."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    seed: int = 0  # Seed of initialisation, data order and dropout
    output: str | None = None  # Run directory; none: runs/<date>-<time>
    overwrite: bool = False  # Replace the run that is already in output
    resume: Literal["never", "auto"] = "never"  # Auto: go on with the run that is in output


Kind = Literal["language", "script", "family", "unseen", "noise"]


@dataclass(frozen=True)
class EvaluateDataConfig:
    """Sentences to evaluate on. What is not set is as it was in the run, whatever its default."""

    dir: str | None = None  # Local directory with <lang>/{train,dev,test}; wins over hub
    hub: str | None = None  # Hugging Face dataset (or a local copy): one config per language
    eval_languages: tuple[str, ...] = ()  # Codes of the languages
    eval_sentences: int | None = None  # Per language at most; unset: as in the run, none: all
    subsample: int | None = None  # Seed of a random choice of those sentences; none: the first ones
    language_table: str | None = None  # YAML file with family, script, ... of your own languages
    cache: str | None = None  # Directory of the tokenised data
    processes: int | None = None  # That tokenise


@dataclass(frozen=True)
class EvaluateConfig:
    """One evaluation of a saved run."""

    data: EvaluateDataConfig = field(default_factory=EvaluateDataConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    split: Literal["train", "dev", "test"] = "test"  # Which sentences
    perturb: tuple[Kind, ...] = ()  # Also with every entity replaced, in each of these ways
    seed: int = 0  # Seed of the replacements
    write: str | None = None  # Directory for the replaced sentences, as TSV and side by side
    against: str | None = None  # Another run: the sentences on which the two differ


def load(path: str | os.PathLike[str], of_run: bool = False) -> Config:
    """The defaults overlaid by a YAML file, which may be partial or empty; validated.

    Args:
      path: of the file.
      of_run: whether it must be as `save` wrote it.

    Raises:
      UserError: the file cannot be read, or a field is unknown, of the wrong type or out of range;
        of a run, it was cut off, damaged or changed.
    """
    config = read(path)
    if of_run:
        text, _, last = Path(path).read_text("utf-8").rpartition("# ")
        if last != f"sha256 {_sha256(text)}\n":
            raise UserError(
                f"{path}: damaged or changed: its last line is not the checksum of the rest"
            )
    try:
        validate(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config


def save(config: Config, path: str | os.PathLike[str]) -> None:
    """Writes every field as YAML that `load` reads back as an equal config.

    The file is either the old one or the new one, never a half.
    """
    # Non-ASCII text is escaped: unescaped, PyYAML reads some of it, such as U+0085, back wrong.
    text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    text += f"# sha256 {_sha256(text)}\n"
    try:
        write_whole(Path(path), text.encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def settled(config: Config) -> Config:
    """The config to keep with a run, so that it can be run again, from any directory.

    Local paths become absolute; where the run went and what was there before is left out.
    """

    def absolute(path: str | None) -> str | None:
        return None if path is None else os.path.abspath(path)

    hub = config.data.hub
    data = dataclasses.replace(
        config.data,
        dir=absolute(config.data.dir),
        language_table=absolute(config.data.language_table),
        cache=absolute(config.data.cache),
        hub=absolute(hub) if hub is not None and os.path.isdir(hub) else hub,
    )
    model = dataclasses.replace(config.model, path=absolute(config.model.path))
    prune = dataclasses.replace(config.prune, masks=absolute(config.prune.masks))
    # How many processes and devices there are, and where, is a matter of each start.
    return dataclasses.replace(
        config,
        data=data,
        model=model,
        prune=prune,
        parallel=ParallelConfig(),
        output=None,
        overwrite=False,
        resume="never",
    )


# What has no influence on what a run computes.
_INDIFFERENT = ("data.cache", "data.processes", "train.wandb", "checkpoint.keep")


def difference(config: Config, other: Config) -> str | None:
    """The first field in which two configurations ask for different runs, in words; or None."""
    for (name, _, mine), (_, _, theirs) in zip(
        leaves(settled(config)), leaves(settled(other)), strict=True
    ):
        if mine != theirs and name not in _INDIFFERENT:
            return f"{name} {show(theirs)} and not {show(mine)}"
    return None


def digest(config: Config) -> str:
    """Of everything that has an influence on what a run computes."""
    text = "".join(
        f"{name} {value!r}\n"
        for name, _, value in leaves(settled(config))
        if name not in _INDIFFERENT
    )
    return _sha256(text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
                f"parallel.coordinator: {show(where)} needs no parallel.processes nor "
                "parallel.process; leave them out, or pass HOST:PORT of process 0"
            )
        return
    if not re.fullmatch(r"\S+:\d{1,5}", str(where)):
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
        "train.weight_decay prune.penalty checkpoint.keep parallel.process",
    ),
    (
        lambda value: value >= 1,
        "at least 1",
        "parallel.processes parallel.fsdp parallel.cpu_devices",
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
        "model.path model.hub output prune.masks train.wandb parallel.coordinator write against",
    ),
)


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, type, value) of every field that is not a section."""
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(kind):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, kind, value


def overlay(base: Any, values: Any, prefix: str = "", root: Any = None) -> Any:
    """`base`, a dataclass, with the fields of a nested mapping replaced.

    Raises:
      UserError: a field that is unknown or of the wrong type; ranges are for `validate`.
    """
    root = base if root is None else root
    if not isinstance(values, dict):
        section = f"{prefix[:-1]}: " if prefix else ""
        raise UserError(f"{section}{show(values)} is not a mapping of fields to values")
    kinds = get_type_hints(type(base))
    changes = {}
    for name, value in values.items():
        dotted = f"{prefix}{name}"
        if name not in kinds:
            raise UserError(f"unknown field {dotted}{did_you_mean(dotted, root)}")
        if dataclasses.is_dataclass(kinds[name]):
            changes[name] = overlay(getattr(base, name), value, f"{dotted}.", root)
        else:
            changes[name] = convert(dotted, kinds[name], value)
    return dataclasses.replace(base, **changes)


_NOUNS = {int: "a whole number", bool: "true or false", str: "text (quote it in YAML)"}


def convert(name: str, kind: Any, value: Any) -> Any:
    """`value`, as YAML gives it, as the type of the field `name`; or a UserError."""
    if isinstance(kind, types.UnionType):  # X | None, the only union here
        if value is None or value in ("none", "None"):  # what flags and Python's users write
            return None
        return convert(name, get_args(kind)[0], value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UserError(f"{name}: {show(value)} is not one of {', '.join(get_args(kind))}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{name}: {show(value)} is not a list, such as [en, de]")
        return tuple(convert(name, get_args(kind)[0], item) for item in value)
    if kind is float:
        try:
            # PyYAML reads 1e-4 (no dot) as text, so text that spells a number is one.
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{name}: {show(value)} is not a finite number")
        return number
    if type(value) is not kind:  # not isinstance: True is an int
        raise UserError(f"{name}: {show(value)} is not {_NOUNS[kind]}")
    return value


def show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def did_you_mean(name: str, config: Any, dashes: str = "") -> str:
    """' (did you mean prune.sparsity?)': the name in another section, else the nearest; or ''."""
    known = [dotted for dotted, _, _ in leaves(config)]
    near = [dotted for dotted in known if dotted.split(".")[-1] == name.split(".")[-1]]
    near += difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {dashes}{near[0]}?)" if near else ""


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses a repeated key, where PyYAML keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                problem = f"{name} is there twice; keep one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read(path: str | os.PathLike[str]) -> Config:
    """The defaults overlaid by a YAML file, each field converted but no range checked."""
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{path}{line}: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # not UTF-8, no such date, ...
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    try:
        config: Config = overlay(Config(), {} if values is None else values)  # None: empty file
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config
