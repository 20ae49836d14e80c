"""The configuration of a run: dataclasses, validation, YAML in and out, the command line.

A value comes from the defaults below, then from the file of `--config`, then from flags; the later
wins. YAML and flags go through the same conversion, and every mistake is a one-line `UserError`.
Nothing here imports an array library, so `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import re
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from sparsejax.errors import UserError

# The comments on the fields are the text of --help.


@dataclass(frozen=True)
class DataConfig:
    """Sentences to train and evaluate on. With neither dir nor hub: the embedded corpus."""

    dir: str | None = None  # Local directory with <lang>/{train,dev,test}.tsv; wins over hub
    hub: str | None = None  # Hugging Face dataset (or a local copy): one config per language
    languages: tuple[str, ...] = ()  # Codes with spaces between; unset: all that the source has
    train_sentences: int | None = None  # Per language at most, the first ones; none: all
    eval_sentences: int | None = None  # Per language and split at most; none: all
    length: int = 64  # Pieces per packed row, special tokens included
    cache: str | None = None  # Tokenised data; none: $SPARSEJAX_CACHE or ~/.cache/sparsejax


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


@dataclass(frozen=True)
class Config:
    """One run; the defaults are the embedded quickstart."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0  # Seed of initialisation, data order and dropout
    output: str | None = None  # Run directory; none: runs/<date>-<time>
    overwrite: bool = False  # Replace the run that is already in output


@dataclass(frozen=True)
class _CommandLine(Config):
    config: str | None = None  # YAML file with values for any of the fields; flags win over it


def load(path: str | os.PathLike[str]) -> Config:
    """The defaults overlaid by a YAML file, which may be partial or empty; validated.

    Raises:
      UserError: the file cannot be read, or a field is unknown, of the wrong type or out of range.
    """
    config = _read(path)
    try:
        validate(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config


def save(config: Config, path: str | os.PathLike[str]) -> None:
    """Writes every field as YAML that `load` reads back as an equal config.

    The file is either the old one or the new one, never a half: a temporary file beside it is moved
    into place.
    """
    # Non-ASCII text is escaped: unescaped, PyYAML reads some of it, such as U+0085, back wrong.
    text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def settled(config: Config) -> Config:
    """The config to keep with a run, so that it can be run again, from any directory.

    Local paths become absolute; where the run went, and that it replaced another, is left out.
    """

    def absolute(path: str | None) -> str | None:
        return None if path is None else os.path.abspath(path)

    data = dataclasses.replace(config.data, dir=absolute(config.data.dir))
    model = dataclasses.replace(config.model, path=absolute(config.model.path))
    prune = dataclasses.replace(config.prune, masks=absolute(config.prune.masks))
    return dataclasses.replace(
        config, data=data, model=model, prune=prune, output=None, overwrite=False
    )


def parse(argv: Sequence[str] | None, prog: str, description: str) -> Config:
    """The config of a command line: defaults, then `--config FILE`, then flags; validated.

    Args:
      argv: the arguments without the program's name; None: those of this process.
      prog: the program's name, for `--help`.
      description: what the program does, for `--help`.

    Raises:
      UserError: for the first mistake in the flags or the file.
      SystemExit: with status 0, after `--help`.
    """
    flags = _flags(argv, prog, description)
    path = flags.pop("config", None)
    config: Config = _overlay(Config() if path is None else _read(path), flags)
    validate(config)
    return config


def validate(config: Config) -> None:
    """Raises a UserError for the first field that is of the wrong type or out of range."""
    for name, kind, value in _leaves(config):
        converted = _convert(name, kind, value)
        if converted != value:
            raise UserError(f"{name}: {_show(value)} would be read back as {_show(converted)}")
        for within, allowed, names in _RANGES:
            if name in names.split() and value is not None and not within(value):
                raise UserError(f"{name}: {_show(value)} is not {allowed}")
    for language in config.data.languages:
        # A code becomes a directory's name, so it must not be able to leave the directory.
        if not re.fullmatch(r"[A-Za-z0-9_-]+", language):
            raise UserError(
                f"data.languages: {_show(language)} is not a language code"
                " (letters, digits, - and _; one code per entry)"
            )
        if config.data.languages.count(language) > 1:
            raise UserError(f"data.languages: {_show(language)} is listed twice; list it once")
    if config.model.width % config.model.heads:
        raise UserError(
            f"model.width: {config.model.width} is not divisible by"
            f" model.heads {config.model.heads}"
        )
    _validate_pruning(config.prune)


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
            f"prune.pattern: {_show(prune.pattern)} is not weights, N:M, RxC, heads or neurons"
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


# The values a field may have, the same in words, and the fields.
_RANGES: tuple[tuple[Callable[[Any], object], str, str], ...] = (
    (lambda value: value >= 0, "at least 0", "train.weight_decay prune.penalty"),
    (
        lambda value: value > 0,
        "above 0",
        "train.learning_rate train.clip_norm prune.score_learning_rate",
    ),
    (lambda value: 0 <= value <= 1, "in [0, 1]", "prune.begin prune.end train.warmup"),
    (lambda value: 0 <= value < 1, "in [0, 1)", "prune.sparsity model.dropout"),
    (lambda value: 0 < value < 1, "in (0, 1)", "prune.threshold"),
    (lambda value: 0 <= value < 2**32, "in [0, 2**32)", "seed"),
    (lambda value: value >= 1, "at least 1", "data.train_sentences data.eval_sentences"),
    (lambda value: value >= 1, "at least 1", "model.layers model.width model.heads"),
    (lambda value: value >= 1, "at least 1", "model.intermediate prune.interval"),
    (lambda value: value >= 1, "at least 1", "train.epochs train.batch_size train.log_every"),
    # BERT's five special tokens and one piece.
    (lambda value: value >= 6, "at least 6", "model.vocabulary"),
    # Two special tokens, and room for a word cut into pieces.
    (lambda value: value >= 8, "at least 8", "data.length"),
    (lambda value: value.strip(), "a name", "data.dir data.hub data.cache"),
    (lambda value: value.strip(), "a name", "model.path model.hub output prune.masks"),
)


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, type, value) of every field that is not a section."""
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(kind):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, kind, value


def _overlay(base: Any, values: Any, prefix: str = "") -> Any:
    """`base` with the fields of a nested mapping replaced."""
    if not isinstance(values, dict):
        section = f"{prefix[:-1]}: " if prefix else ""
        raise UserError(f"{section}{_show(values)} is not a mapping of fields to values")
    kinds = get_type_hints(type(base))
    changes = {}
    for name, value in values.items():
        dotted = f"{prefix}{name}"
        if name not in kinds:
            raise UserError(f"unknown field {dotted}{_did_you_mean(dotted, Config())}")
        if dataclasses.is_dataclass(kinds[name]):
            changes[name] = _overlay(getattr(base, name), value, f"{dotted}.")
        else:
            changes[name] = _convert(dotted, kinds[name], value)
    return dataclasses.replace(base, **changes)


_NOUNS = {int: "a whole number", bool: "true or false", str: "text (quote it in YAML)"}


def _convert(name: str, kind: Any, value: Any) -> Any:
    """`value`, as YAML gives it, as the type of the field `name`; or a UserError."""
    if isinstance(kind, types.UnionType):  # X | None, the only union here
        if value is None or value in ("none", "None"):  # what flags and Python's users write
            return None
        return _convert(name, get_args(kind)[0], value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UserError(f"{name}: {_show(value)} is not one of {', '.join(get_args(kind))}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{name}: {_show(value)} is not a list, such as [en, de]")
        return tuple(_convert(name, get_args(kind)[0], item) for item in value)
    if kind is float:
        try:
            # PyYAML reads 1e-4 (no dot) as text, so text that spells a number is one.
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{name}: {_show(value)} is not a finite number")
        return number
    if type(value) is not kind:  # not isinstance: True is an int
        raise UserError(f"{name}: {_show(value)} is not {_NOUNS[kind]}")
    return value


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _did_you_mean(name: str, config: Config, dashes: str = "") -> str:
    """' (did you mean prune.sparsity?)': the name in another section, else the nearest; or ''."""
    known = [dotted for dotted, _, _ in _leaves(config)]
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


def _read(path: str | os.PathLike[str]) -> Config:
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
        config: Config = _overlay(Config(), {} if values is None else values)  # None: empty file
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config


class _Words(tuple[str, ...]):
    """What followed a flag, not yet converted."""


def _flags(argv: Sequence[str] | None, prog: str, description: str) -> dict[str, Any]:
    """The flags that were given, as the nested mapping that a YAML file would hold.

    tyro splits the arguments and writes `--help`. It leaves the words of every flag unconverted
    (any number of them, so it has nothing to complain about): the conversion and the errors are
    those of YAML, and one line each, where tyro would print a box.
    """
    import tyro  # here: only the command line needs it

    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def keep_words(
        info: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        if dataclasses.is_dataclass(info.type):
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar=_metavar(info.type),
            instance_from_str=_Words,
            is_instance=lambda value: True,
            str_from_instance=lambda value: [str(value).lower()] if value != () else [],
        )

    parsed, unknown = tyro.cli(
        _CommandLine,
        prog=prog,
        description=description,
        args=argv,
        return_unknown_args=True,
        use_underscores=True,  # in --help, so that flags look like the fields of the YAML
        registry=registry,
        config=(tyro.conf.FlagConversionOff,),  # else bool flags would not reach the rule
    )
    for argument in unknown:
        if not argument.startswith("-"):
            raise UserError(f"unexpected argument {_show(argument)}; a flag starts with --")
        flag = argument.split("=")[0]
        name = flag.lstrip("-").replace("-", "_")
        raise UserError(f"unknown flag {flag}{_did_you_mean(name, parsed, '--')}")
    flags: dict[str, Any] = {}
    for name, kind, words in _leaves(parsed):
        if isinstance(words, _Words):
            *sections, last = name.split(".")
            section = flags
            for part in sections:
                section = section.setdefault(part, {})
            section[last] = _from_words(name, kind, words)
    return flags


def _metavar(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return f"{_metavar(get_args(kind)[0])}|none"
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    if get_origin(kind) is tuple:
        return f"{_metavar(get_args(kind)[0])} ..."
    if kind is bool:
        return "[{true,false}]"
    return getattr(kind, "__name__", str(kind)).upper()


def _from_words(name: str, kind: Any, words: _Words) -> Any:
    """The words of a flag as YAML would have read them."""
    if kind is bool and not words:
        return True
    if not words:
        raise UserError(f"{name}: --{name} needs a value")
    if get_origin(kind) is tuple:
        return list(words)
    if len(words) > 1:
        raise UserError(f"{name}: --{name} takes one value, not {_show(' '.join(words))}")
    (word,) = words
    if kind is bool:
        return {"true": True, "false": False}.get(word.lower(), word)
    if kind is int or int in get_args(kind):
        try:
            return int(word)
        except ValueError:
            return word  # _convert complains
    return word
