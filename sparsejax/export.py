"""Export a tagger: for transformers, compressed, and without the heads and neurons pruned away.

RUN, the first argument, is the directory that a training left, or a model directory in either
format. The export goes to RUN/export/, with a model card that says what is known of the model.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sparsejax import command_line, config_checks, config_values
from sparsejax.config import Config
from sparsejax.errors import UserError, one_line
from sparsejax.evaluate import load_run

if TYPE_CHECKING:
    from sparsejax.models.bert import BertConfig
    from sparsejax.models.cutting import Used

# What an export consists of: only a directory of nothing else is ever replaced.
_OURS = re.compile(
    r"README\.md|config\.json|model(\.compressed)?\.safetensors|modeling_cut_bert\.py|"
    r"tokenizer(_config)?\.json|special_tokens_map\.json|vocab\.txt|SHA256SUMS"
)


@dataclass(frozen=True)
class ExportConfig:
    """One export."""

    format: Literal["huggingface", "compressed"] = "huggingface"  # compressed: docs/export.md
    values: Literal["float32", "float16", "int8"] = "float32"  # Type of compressed weights
    cut: bool = False  # Remove the heads and neurons that have no effect
    output: str | None = None  # Directory; none: RUN/export/<format>[-<values>][-cut]
    overwrite: bool = False  # Replace the export that is already in output


def run(directory: Path, config: ExportConfig) -> Path:
    """One export; returns its directory.

    Raises:
      UserError: a mistake in the configuration, the run or the model.
    """
    trained = find(directory)
    model = directory if trained is None else directory / "model"
    target = find_target(directory, model, trained is not None, config)

    import jax

    from sparsejax import checksums
    from sparsejax.models import card, compressed, cutting, huggingface
    from sparsejax.runtime import logging, run_directory

    log = logging.Log()
    checksums.check(model)
    labels = huggingface.read_labels(model)
    if not labels:
        raise UserError(f"{model}: config.json has no IOB2 tags in id2label; is it a tagger?")
    tokenizer, shape = huggingface.load_shape(model, len(labels))
    params, _ = huggingface.load(model, shape, labels, jax.random.key(0))
    facts, languages = facts_of(directory, trained, labels)
    changes = []
    if config.cut:
        params, smaller, used = cutting.cut(params, shape)
        changes += cut_changes(shape, smaller, used)
        shape = smaller
    content = b""
    if config.format == "compressed":
        tensors = huggingface.tensors(params)
        content, lost = compressed.encode(tensors, config.values)
        dense = sum(value.nbytes for value in tensors.values())
        log(f"{len(content):,} bytes, {len(content) / dense:.3f} of the dense float32 weights")
        if config.values != "float32":
            changes.append(
                f"weights were rounded to {config.values}: {lost.zero:,} of the {lost.kept:,} that "
                "are not zero became zero. The scores are from before"
            )
    for change in changes:
        log(f"note: {change}")

    def fill(path: Path) -> None:
        if config.format == "compressed":
            (path / compressed.FILE).write_bytes(content)
            huggingface.save_shape(path, shape, labels, tokenizer)
        else:
            huggingface.save(path, params, shape, labels, tokenizer)
        code = config.format == "huggingface" and shape.kept_attention_heads is not None
        text = card.whole(facts, languages, config.format, changes, code)
        (path / "README.md").write_text(text, "utf-8")

    target.parent.mkdir(parents=True, exist_ok=True)
    run_directory.write_directory(target, fill)
    log(f"saved in {target}")
    return target


def cut_changes(before: BertConfig, after: BertConfig, used: Used) -> list[str]:
    """What cutting took away, in words."""
    numbers = {
        "heads": (before.heads, after.heads, used.heads),
        "neurons": (before.intermediate_size, after.intermediate_size, used.neurons),
    }
    return [
        f"{what} without effect were cut out: {left:,} of {had:,} are left in every layer (layers "
        f"use {min(found):,} to {max(found):,})"
        for what, (had, left, found) in numbers.items()
        if left < had
    ]


def find(directory: Path) -> Config | None:
    """The configuration of a run; None for a model directory.

    Raises:
      UserError: the directory is neither, or the run was not finished.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory")
    if (directory / "config.yaml").is_file():
        return load_run(directory)
    if not (directory / "config.json").is_file():
        raise UserError(f"{directory}: neither a run (config.yaml) nor a model (config.json)")
    return None


def find_target(directory: Path, model: Path, is_run: bool, config: ExportConfig) -> Path:
    """Where the export goes.

    Raises:
      UserError: it is not said, taken, or in the way of what is read.
    """
    exports = directory / "export"
    if config.output is None:
        if not is_run:
            raise UserError(f"output: {directory} is a model and no run; pass --output DIR")
        values = f"-{config.values}" * (config.format == "compressed")
        target = exports / f"{config.format}{values}{'-cut' * config.cut}"
    else:
        target = Path(config.output)
    resolved = target.resolve()
    inside = directory.resolve() in (resolved, *resolved.parents)
    if inside and not (is_run and exports.resolve() in resolved.parents):
        raise UserError(f"output: {target} is inside {directory}; pass a directory elsewhere")
    if resolved in model.resolve().parents:
        raise UserError(f"output: {target} holds {directory}, which is read")
    if not os.path.lexists(target):
        return target
    if target.is_symlink() or not target.is_dir():
        raise UserError(f"output: {target} is not a directory; choose another")
    foreign = sorted(p.name for p in target.iterdir() if not _OURS.fullmatch(p.name))
    if foreign:
        raise UserError(
            f"output: {target} holds {foreign[0]!r} and is not just an export; choose another"
        )
    if not config.overwrite:
        raise UserError(f"output: {target} is already there; pass --overwrite to replace it")
    return target


def facts_of(
    directory: Path, trained: Config | None, labels: Sequence[str]
) -> tuple[str, Sequence[str]]:
    """What the card says of the model, and its languages: from the run, or an earlier card."""
    from sparsejax.data import languages
    from sparsejax.models import card
    from sparsejax.runtime import results

    if trained is None:
        earlier = directory / "README.md"
        return card.parts(earlier.read_text("utf-8", "replace") if earlier.is_file() else "")
    tested = trained.data.eval_languages or trained.data.languages
    own = results.setting(trained.data, tested, "test").items()
    rows = results.read(directory / "results.jsonl")
    # Other evaluations of the run are not its own scores.
    rows = [row for row in rows if row.get("kind") == "sparsity" or own <= row.items()]
    table = languages.table(trained.data.language_table)
    return card.of_run(trained, rows, labels, table), trained.data.languages


def check(config: ExportConfig) -> None:
    """Raises a UserError for what can be seen of a command line alone."""
    config_checks.check_ranges(config)
    if config.format == "huggingface" and config.values != "float32":
        raise UserError(f"values: {config.values} goes with --format compressed alone")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: a mistake of the user's ends in one line and exit status 1."""
    words = sys.argv[1:] if argv is None else list(argv)
    with one_line("stopped before the end of the export"):
        first = words[0] if words else ""
        directory = None if first.startswith("-") or not first else Path(words.pop(0))
        given = command_line.flags(
            ExportConfig, words, "python -m sparsejax.export RUN", __doc__ or ""
        )
        if directory is None:
            raise UserError("the first argument is the directory of a run or a model")
        config = config_values.overlay(ExportConfig(), given)
        check(config)
        run(directory, config)


if __name__ == "__main__":
    main()
