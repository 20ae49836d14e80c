"""A grid as its file states it, and the runs that follow from it.

    config: ../embedded.yaml          # the configuration that all runs begin with; optional
    set: {train.epochs: 4}            # fields that have another value in all runs
    axes:                             # a run for every combination of their values
      prune.method: [none, magnitude, movement]
      prune.sparsity:
        values: [0.5, 0.9]
        when: {prune.method: [magnitude, movement]}   # in the other runs it stays as it is
      seed: [0, 1]
    where:                            # fields that have another value in some runs
      - when: {prune.method: movement}
        set: {prune.interval: 1}
    evaluate: {perturb: [language, script, family]}   # each run, once it is trained

Fields are those of `config.Config`, with dots. `when` may name fields and axes that stand above it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparsejax import config_checks, config_files, config_values
from sparsejax.config import Config, EvaluateConfig, PruneConfig
from sparsejax.config_values import show
from sparsejax.errors import UserError

# What the grid decides by itself, or each start of a worker.
_NOT_OURS = re.compile(r"output|overwrite|resume|parallel(\.(?!fsdp$).*)?")
_LONGEST_LIST = 130  # characters of the 40 languages and a little more
_LONGEST = 200  # bytes of a name: file systems take 255, and something may be appended


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a grid; `config` has no output."""

    name: str
    config: Config
    axes: Mapping[str, Any]  # its value on each axis that there is for it


@dataclasses.dataclass(frozen=True)
class Grid:
    """The runs of a grid in its order, and what is evaluated of each once it is trained."""

    name: str
    runs: tuple[Run, ...]
    evaluate: EvaluateConfig
    axes: Mapping[str, tuple[Any, ...]]  # the values of each


@dataclasses.dataclass(frozen=True)
class _Axis:
    name: str
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]]


def read(path: str | os.PathLike[str], given: Mapping[str, Any]) -> Grid:
    """The grid of a YAML file.

    Args:
      path: of the file.
      given: fields that have another value in all runs, nested, as flags give them.

    Raises:
      UserError: the file cannot be read, or is not a grid; it names file and field.
    """
    values = config_values.read_yaml(path)
    try:
        return _grid(values, Path(path), given)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except RecursionError:  # a YAML alias within what it stands for
        raise UserError(f"{path}: a value contains itself") from None


def _grid(values: Any, path: Path, given: Mapping[str, Any]) -> Grid:
    keys = ("config", "set", "axes", "where", "evaluate")
    _check_keys(values, keys, "the file")
    base = Config()
    if (own := values.get("config")) is not None:
        if not isinstance(own, str) or not own:
            raise UserError(f"config: {show(own)} is not the path of a file")
        base = config_files.read(path.parent / own)
    base = _changed(base, _fields(values.get("set", {}), "set"), "set")
    base = config_values.overlay(base, given)
    _check_ours(base)
    axes = [_axis(name, value) for name, value in _items(values.get("axes"), "axes")]
    parts = values.get("where") or []
    if not isinstance(parts, list):
        raise UserError(f"where: {show(parts)} is not a list; put a dash before each `when`")
    where = [_part(part, number) for number, part in enumerate(parts, 1)]
    evaluate = _evaluate(values.get("evaluate"))
    if not axes:
        raise UserError("axes: there is none; name a field and its values")
    _check_conditions(axes)
    _check_flags(given, axes, where)
    shorts = _short_names([axis.name for axis in axes])
    runs = []
    for chosen in _combinations(axes, base, {}):
        config = base
        for name, value in chosen.items():
            config = _changed(config, {name: value}, "axes")
        for when, changes in where:
            if all(_value(config, name) in allowed for name, allowed in when.items()):
                if twice := chosen.keys() & changes.keys():
                    raise UserError(f"where: {twice.pop()} is an axis; give its values there")
                config = _changed(config, changes, "where")
        name = ",".join(f"{shorts[axis]}={word(value)}" for axis, value in chosen.items())
        if len(name.encode()) > _LONGEST:
            raise UserError(f"axes: {name!r}, the name of a run, is too long; shorten its values")
        try:
            config_checks.validate(config)
        except UserError as error:
            raise UserError(f"run {name}: {error}") from None
        runs.append(Run(name, config, chosen))
    _check_runs(runs, axes)
    used = {axis.name: axis.values for axis in axes}
    return Grid(path.stem, tuple(runs), evaluate, used)


def _check_keys(values: Any, keys: tuple[str, ...], what: str) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{what}: {show(values)} is not a mapping with {', '.join(keys)}")
    if unknown := [key for key in values if key not in keys]:
        raise UserError(f"{what}: unknown key {show(unknown[0])}; there are {', '.join(keys)}")


def _items(values: Any, what: str) -> list[tuple[str, Any]]:
    if values is None:
        return []
    if not isinstance(values, dict):
        raise UserError(f"{what}: {show(values)} is not a mapping from fields to values")
    return [(str(name), value) for name, value in values.items()]


def _fields(values: Any, what: str, prefix: str = "") -> dict[str, Any]:
    """Fields with dots and their values; sections may be nested as well."""
    found: dict[str, Any] = {}
    for name, value in _items(values, what):
        if isinstance(value, dict):
            found |= _fields(value, what, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _axis(name: str, given: Any) -> _Axis:
    values, when = given, {}
    if isinstance(given, dict):
        _check_keys(given, ("values", "when"), f"axes: {name}")
        values, when = given.get("values"), _condition(given.get("when"), f"axes: {name}: when")
    if not isinstance(values, list):
        raise UserError(f"axes: {name}: {show(values)} is not a list of values")
    if not values:
        raise UserError(f"axes: {name}: the list of values is empty")
    kind = _kind(name, "axes")
    converted = tuple(config_values.convert(name, kind, value) for value in values)
    return _Axis(name, converted, when)


def _condition(given: Any, what: str) -> dict[str, tuple[Any, ...]]:
    found = {}
    for name, value in _fields(given, what).items():
        kind, allowed = _kind(name, what), value if isinstance(value, list) else [value]
        try:
            found[name] = tuple(config_values.convert(name, kind, one) for one in allowed)
        except UserError as error:
            raise UserError(f"{what}: {error}") from None
    return found


def _part(given: Any, number: int) -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:
    what = f"where, entry {number}"
    _check_keys(given, ("when", "set"), what)
    when, changes = _condition(given.get("when"), what), _fields(given.get("set"), what)
    if not when or not changes:
        raise UserError(f"{what}: needs both `when` and `set`")
    return when, changes


def _evaluate(given: Any) -> EvaluateConfig:
    given = {} if given is None else given
    _check_keys(given, ("perturb", "seed"), "evaluate")
    try:
        config: EvaluateConfig = config_values.overlay(EvaluateConfig(), given)
        config_checks.check_ranges(config)
    except UserError as error:
        raise UserError(f"evaluate: {error}") from None
    return config


def _check_conditions(axes: list[_Axis]) -> None:
    names = [axis.name for axis in axes]
    for place, axis in enumerate(axes):
        if later := [name for name in axis.when if name in names[place:]]:
            raise UserError(f"axes: {axis.name}: when: {later[0]} must stand above it")


def _check_flags(
    given: Mapping[str, Any], axes: list[_Axis], where: list[tuple[Any, dict[str, Any]]]
) -> None:
    decided = {axis.name for axis in axes}.union(*(changes for _, changes in where))
    for name in _fields(given, "flags"):
        if name in decided:
            raise UserError(
                f"{name}: a flag sets it in all runs, but the grid has its own values; leave "
                "out the flag, or change the file"
            )


def _check_runs(runs: list[Run], axes: list[_Axis]) -> None:
    names = Counter(run.name for run in runs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UserError(
            f"axes: two runs have the name {twice[0]!r}; leave out the repeated value, or give "
            "values names that differ"
        )
    for axis in axes:
        if not any(axis.name in run.axes for run in runs):
            raise UserError(f"axes: {axis.name}: its `when` holds in no run")
    if "" in names:
        raise UserError("axes: no axis holds in one of the runs, which has no name then")
    same: dict[Config, str] = {}
    for run in runs:
        config = run.config
        if config.prune.method == "none":  # whatever else is said of pruning
            config = dataclasses.replace(config, prune=PruneConfig(method="none"))
        if config in same:
            raise UserError(
                f"axes: {same[config]} and {run.name} are the same run; say with `when` where an "
                "axis holds"
            )
        same[config] = run.name


def _combinations(
    axes: list[_Axis], base: Config, chosen: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    if not axes:
        yield chosen
        return
    axis, rest = axes[0], axes[1:]

    def current(name: str) -> Any:
        return chosen.get(name, _value(base, name))

    if all(current(name) in allowed for name, allowed in axis.when.items()):
        for value in axis.values:
            yield from _combinations(rest, base, chosen | {axis.name: value})
    else:
        yield from _combinations(rest, base, chosen)


def _kind(name: str, what: str) -> Any:
    for dotted, kind, _ in config_values.leaves(Config()):
        if dotted == name and not _NOT_OURS.fullmatch(name):
            return kind
    if _NOT_OURS.fullmatch(name):
        raise UserError(f"{what}: {name} is not for a grid, which decides it by itself")
    raise UserError(f"{what}: {name} is not a field{config_values.did_you_mean(name, Config())}")


def _value(config: Config, name: str) -> Any:
    found: Any = config
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _changed(config: Config, fields: Mapping[str, Any], what: str) -> Config:
    for name, value in fields.items():
        _kind(name, what)
        *sections, last = name.split(".")
        nested: dict[str, Any] = {last: value}
        for section in reversed(sections):
            nested = {section: nested}
        config = config_values.overlay(config, nested)
    return config


def _check_ours(config: Config) -> None:
    """What another file or a flag may have set."""
    for (name, _, value), (_, _, usual) in zip(
        config_values.leaves(config), config_values.leaves(Config()), strict=True
    ):
        if value != usual and _NOT_OURS.fullmatch(name):
            raise UserError(f"{name} is not for a grid, which decides it by itself")


def _short_names(names: list[str]) -> dict[str, str]:
    """The last part of each name, or all of it where others end alike."""
    lasts = [name.rpartition(".")[2] for name in names]
    return {n: last if lasts.count(last) == 1 else n for n, last in zip(names, lasts, strict=True)}


def word(value: Any) -> str:
    """A value as it stands in the name of a run."""
    if isinstance(value, tuple):
        text = "+".join(map(word, value)) or "all"
        if len(text) <= _LONGEST_LIST:
            return text
        return f"{len(value)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    text = os.path.basename(value) if isinstance(value, str) else str(value)
    return re.sub(r"[^\w.:-]", "_", text)
