"""Configurations as files, and two of them compared: what is kept with a run."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import yaml

from sparsejax import config_values
from sparsejax.config import Config, ParallelConfig
from sparsejax.config_checks import validate
from sparsejax.errors import UserError
from sparsejax.files import write_whole


def read(path: str | os.PathLike[str]) -> Config:
    """The defaults overlaid by a YAML file, each field converted but no range checked.

    Raises:
      UserError: the file cannot be read, or a field is unknown or of the wrong type.
    """
    values = config_values.read_yaml(path)
    try:
        # None: an empty file.
        config: Config = config_values.overlay(Config(), {} if values is None else values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config


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
        config_values.leaves(settled(config)), config_values.leaves(settled(other)), strict=True
    ):
        if mine != theirs and name not in _INDIFFERENT:
            return f"{name} {config_values.show(theirs)} and not {config_values.show(mine)}"
    return None


def without_paths(config: Config) -> Config:
    """The config but for where things are, which may differ between machines of one run."""
    data = dataclasses.replace(config.data, dir=None, hub=None, language_table=None, cache=None)
    model = dataclasses.replace(config.model, path=None, hub=None)
    prune = dataclasses.replace(config.prune, masks=None)
    return dataclasses.replace(config, data=data, model=model, prune=prune)


def digest(config: Config) -> str:
    """Of everything that has an influence on what a run computes."""
    text = "".join(
        f"{name} {value!r}\n"
        for name, _, value in config_values.leaves(settled(config))
        if name not in _INDIFFERENT
    )
    return _sha256(text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
