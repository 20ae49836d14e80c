"""Values of the fields of a configuration, from YAML and from flags: of any such dataclass."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from sparsejax.errors import UserError

_KINDS: dict[type[Any], dict[str, Any]] = {}


def _kinds(of: type[Any]) -> dict[str, Any]:
    """The types of a dataclass's fields; worked out once, for grids of thousands of runs."""
    if of not in _KINDS:
        _KINDS[of] = get_type_hints(of)
    return _KINDS[of]


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, type, value) of every field that is not a section."""
    for name, kind in _kinds(type(config)).items():
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
    kinds = _kinds(type(base))
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


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """What a YAML file holds; of an empty one, None.

    Raises:
      UserError: it cannot be read, is not YAML, or says something twice.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{path}{line}: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # not UTF-8, no such date, ...
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
