"""A run's directory: refused when it is taken, and written so that no file is ever half there.

- config.yaml: the complete configuration
- metrics.jsonl: one row per logged step
- tensorboard/: the same as events; wandb/, where Weights & Biases was asked for
- checkpoints/: the last states of the training
- nonfinite.safetensors: the state in which a training stopped that diverged
- results.jsonl: one row per language and average, one for the realised sparsity; it is written last
- counts.safetensors: the entities of each sentence that are right, predicted and gold
- disagreement.jsonl: where another run differs, once it was compared
- seen.safetensors: which sentences and entities it was trained on, as keys
- masks.safetensors: which weights are kept, of a run that pruned
- model/: the tagger in Hugging Face's format
- export/: the same in other forms, once it was exported
- log.txt: what was printed
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from sparsejax import checksums
from sparsejax.config import Config
from sparsejax.errors import UserError

_CONTENTS = (
    r"(config\.yaml|metrics\.jsonl|results\.jsonl|disagreement\.jsonl|masks\.safetensors|"
    r"seen\.safetensors|counts\.safetensors|nonfinite\.safetensors|model|export|checkpoints|"
    r"tensorboard|wandb|log\.txt)"
)
# Of a run, or a temporary file that a killed one left.
_TEMPORARY = re.compile(rf"\.{_CONTENTS}\.\d+")
_OURS = re.compile(rf"{_CONTENTS}|{_TEMPORARY.pattern}")


def check(config: Config, inputs: Iterable[str | None]) -> None:
    """Refuses a directory that a run must not use; nothing is created or removed.

    Args:
      config: of the run; `output` is the directory asked for, and None is never refused.
      inputs: paths that the run reads.

    Raises:
      UserError: it holds a run that is neither to be replaced nor to go on, or that another process
        is writing; it holds other things; or replacing the run would remove what is to be read.
    """
    if config.output is None or not Path(config.output).exists():
        return
    path = Path(config.output)
    if not path.is_dir():
        raise UserError(f"output: {path} is a file, not a directory")
    held = sorted(p.name for p in path.iterdir())
    foreign = [name for name in held if not _OURS.fullmatch(name)]
    held = [name for name in held if not _TEMPORARY.fullmatch(name)]
    if held == ["log.txt"] and not (path / "log.txt").stat().st_size:
        held = []  # of a process that was killed before there was anything else
    if foreign or (held and "config.yaml" not in held):
        raise UserError(
            f"output: {path} holds {(foreign or held)[0]!r} and is not just a run; "
            "choose another directory"
        )
    if held and (path / "log.txt").exists():
        lock(path / "log.txt").close()
    if config.resume == "auto":
        return
    if held and not config.overwrite:
        raise UserError(
            f"output: {path} already holds a run; pass --overwrite to replace it, or --resume auto "
            "to go on with it"
        )
    for name in filter(None, inputs):
        if path.resolve() in (Path(name).resolve(), *Path(name).resolve().parents):
            raise UserError(f"output: replacing {path} would remove {name}, which this run reads")


def claim(config: Config, goes_on: bool) -> tuple[Path, TextIO]:
    """Makes the directory that `check` passed a run of this process alone.

    What an earlier run left in it is removed, unless that run goes on.

    Args:
      config: `output` is None for a new directory, runs/<date>-<time>.
      goes_on: whether the run that is there is to go on.

    Returns:
      The directory, and its log file, which is the lock: nobody else can claim it meanwhile.

    Raises:
      UserError: it cannot be made or written to, or meanwhile another process began a run there.
    """
    try:
        if config.output is None:
            path = _create_new(Path("runs", datetime.datetime.now().strftime("%Y%m%d-%H%M%S")))
            return path, lock(path / "log.txt")
        path = Path(config.output)
        path.mkdir(parents=True, exist_ok=True)
        log = lock(path / "log.txt")
        if not goes_on:
            if holds_run(config.output) and not config.overwrite:
                raise UserError(f"output: {path}: another process has begun a run there")
            # The configuration last: until it is gone this is a run, which can be replaced again.
            for entry in sorted(path.iterdir(), key=lambda entry: entry.name == "config.yaml"):
                if entry.name != "log.txt":
                    _remove(entry)
            log.truncate(0)
        else:
            for entry in path.iterdir():  # what killed processes left half-written
                if _TEMPORARY.fullmatch(entry.name):
                    _remove(entry)
        return path, log
    except OSError as error:
        raise UserError(
            f"output: {config.output or 'runs'}: cannot be written: {error.strerror}"
        ) from None


def holds_run(output: str | None) -> bool:
    """Whether a run was begun there."""
    return output is not None and (Path(output) / "config.yaml").is_file()


def is_finished(directory: Path) -> bool:
    """Whether a run got to its end: its results are the last thing that it writes."""
    return (directory / "results.jsonl").exists()


def lock(path: Path) -> TextIO:
    """Opens a file to append lines, for this process alone; closing it lets go.

    Raises:
      UserError: another process has it.
    """
    file = path.open("a", encoding="utf-8", buffering=1)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"{path.parent}: another process is training this run") from None
    except OSError:  # a file system without locks
        pass
    return file


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _create_new(base: Path) -> Path:
    base.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("unreachable")


def write_directory(path: Path, fill: Callable[[Path], None]) -> None:
    """Makes a directory appear whole, with its SHA256SUMS, in the place of an older one.

    `fill` writes a temporary one, which is then renamed; so is the older one, which is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        fill(temporary)
        checksums.write(temporary)
        if path.exists():
            older = path.with_name(f".{path.name}.0{os.getpid()}")
            shutil.rmtree(older, ignore_errors=True)
            os.replace(path, older)
            os.replace(temporary, path)
            shutil.rmtree(older)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
