"""The command line: every field of a configuration is a flag, and a flag is what YAML would say."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from sparsejax import config_checks, config_files, config_values
from sparsejax.config import Config
from sparsejax.errors import UserError


@dataclass(frozen=True)
class _Train(Config):
    config: str | None = None  # YAML file with values for any of the fields; flags win over it


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
    given = flags(_Train, argv, prog, description)
    path = given.pop("config", None)
    base = Config() if path is None else config_files.read(path)
    config: Config = config_values.overlay(base, given)
    config_checks.validate(config)
    return config


class _Words(tuple[str, ...]):
    """What followed a flag, not yet converted."""


def flags(
    kind: type[Any], argv: Sequence[str] | None, prog: str, description: str
) -> dict[str, Any]:
    """The flags that were given, as the nested mapping that a YAML file would hold.

    `kind` is the dataclass whose fields are the flags; the comments on its fields are their help.

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
        kind,
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
            raise UserError(
                f"unexpected argument {config_values.show(argument)}; a flag starts with --"
            )
        flag = argument.split("=")[0]
        name = flag.lstrip("-").replace("-", "_")
        raise UserError(f"unknown flag {flag}{config_values.did_you_mean(name, parsed, '--')}")
    given: dict[str, Any] = {}
    for name, kind, words in config_values.leaves(parsed):
        if isinstance(words, _Words):
            *sections, last = name.split(".")
            section = given
            for part in sections:
                section = section.setdefault(part, {})
            section[last] = _from_words(name, kind, words)
    return given


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
        shown = config_values.show(" ".join(words))
        raise UserError(f"{name}: --{name} takes one value, not {shown}")
    (word,) = words
    if kind is bool:
        return {"true": True, "false": False}.get(word.lower(), word)
    if kind is int or int in get_args(kind):
        try:
            return int(word)
        except ValueError:
            return word  # _convert complains
    return word
