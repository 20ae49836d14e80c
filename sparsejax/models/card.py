"""The model card of an exported tagger: README.md as the Hugging Face hub shows it.

Text from data, configuration or results is escaped wherever it stands.
"""

from __future__ import annotations

import contextlib
import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from sparsejax.config import Config
from sparsejax.data.languages import Language, lookup

Row = Mapping[str, Any]

_HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_MARKUP = set(string.punctuation) - set("-,/") - set(_HTML)
_CHANGED = "\n## What was changed afterwards\n\n"
_USE = "\n## How to use it\n"  # the last section, the only one that depends on the form

UNKNOWN = (
    "A token-classification model. It was exported from a model directory and not from a run, so "
    "nothing is known here of its scores, its sparsity or how it was made.\n"
)


def escape(text: object) -> str:
    """Text on one line, in which neither Markdown (a table's, too) nor HTML sees any markup."""
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else "\ufffd" for c in line)
    return "".join(_HTML.get(c, f"\\{c}" if c in _MARKUP else c) for c in line)


def of_run(
    config: Config, rows: Sequence[Row], labels: Sequence[str], table: Mapping[str, Language]
) -> str:
    """What is known of a run: its scores, its sparsity, how it was made, and what that is not.

    Args:
      config: of the run, as `config.settled` keeps it.
      rows: its own scores on the test split, and its sparsity.
      labels: the tags of the model.
      table: the languages with their names.

    Returns:
      Markdown that names no directory of the machine but the last part of the data's and model's.
    """
    scores = [row for row in rows if row.get("kind") == "scores"]
    sparsity = next((row for row in rows if row.get("kind") == "sparsity"), None)
    types = sorted({label[2:] for label in labels if label != "O"})
    count = f"{len(config.data.languages)} language" + "s" * (len(config.data.languages) != 1)
    return "\n".join(
        [
            f"A tagger of named entities ({', '.join(map(escape, types))}), fine-tuned in {count} "
            "with sparsejax: a BERT, pruned as far as the second table says.",
            "",
            "## Scores",
            "",
            *_scores(config, scores, table),
            "",
            "## Sparsity",
            "",
            *_sparsity(sparsity),
            "",
            "## How it was made",
            "",
            *(f"- {line}" for line in _made(config)),
            "",
            "## What this is no evidence for",
            "",
            *(f"- {line}" for line in _cautions(config)),
            "",
        ]
    )


def whole(
    facts: str, languages: Iterable[str], form: str, changes: Sequence[str], code: bool
) -> str:
    """The card: front matter, facts, what export changed, and how this form is used.

    Args:
      facts: of `of_run`, of `parts` of an earlier card, or `UNKNOWN`.
      languages: codes.
      form: huggingface or compressed.
      changes: what happened to the model since the facts were found, a line each, escaped.
      code: whether transformers must run the code beside the model.
    """
    codes = list(languages)
    front = ({"language": codes} if codes else {}) | {
        "library_name": "transformers" if form == "huggingface" else "sparsejax",
        "pipeline_tag": "token-classification",
        "tags": ["named-entity-recognition", "pruning", "sparsity", "multilingual", "bert"],
    }
    if changes and _CHANGED not in facts:
        facts += _CHANGED
    facts += "".join(f"- {change}\n" for change in changes)
    text = f"# Named-entity tagger\n\n{facts}{_USE}\n{_use(form, code)}"
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n{text}"


def parts(card: str) -> tuple[str, list[str]]:
    """Facts and languages of a card that `whole` wrote; `UNKNOWN` and none of any other."""
    front, _, text = card.removeprefix("---\n").partition("\n---\n\n# Named-entity tagger\n\n")
    facts, found, _ = text.partition(_USE)
    with contextlib.suppress(yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        languages = [str(code) for code in yaml.safe_load(front)["language"]]
        if found:
            return facts, languages
    return UNKNOWN, []


def _scores(config: Config, rows: Sequence[Row], table: Mapping[str, Language]) -> list[str]:
    if not rows:
        return ["The run holds no scores of its own test split."]
    limit = config.data.eval_sentences
    which = "all sentences" if limit is None else f"at most {limit:,} sentences of each language"
    lines = [
        f"F1 of entities in per cent, as seqeval counts by default, on the test split of "
        f"{_data(config)}, {which}. Macro is the mean of the languages, micro pools all entities.",
        "",
        "| language | F1 | entities |",
        "|---|--:|--:|",
    ]
    for row in rows:
        code = row["language"]
        name = code if code in ("macro", "micro") else f"{code} {lookup(table, code).name}"
        lines.append(f"| {escape(name)} | {_percent(row['f1'])} | {row['support']:,} |")
    macro = next((row for row in rows if row["language"] == "macro"), None)
    if macro is not None and "clean_sentences" in macro:
        lines += [
            "",
            f"On the {macro['clean_sentences']:,} of {macro['sentences']:,} sentences whose words "
            f"are no training sentence's, macro F1 is {_percent(macro['clean']['f1'])}.",
        ]
    return lines


def _sparsity(row: Row | None) -> list[str]:
    if row is None:
        return ["The run holds no count of its zeros."]
    lines = ["| weights | exactly zero | of | sparsity, % |", "|---|--:|--:|--:|"]
    names = {"targets": "matrices to prune", "encoder": "whole encoder", "model": "whole model"}
    for key, name in names.items():
        if (count := row.get(key)) is not None:
            lines.append(
                f"| {name} | {count['zeros']:,} | {count['size']:,} | "
                f"{100 * count['sparsity']:.2f} |"
            )
    return lines


def _made(config: Config) -> list[str]:
    data, model, prune, train = config.data, config.model, config.prune, config.train
    codes = ", ".join(map(escape, data.languages))
    limit = data.train_sentences
    which = "all" if limit is None else f"at most {limit:,} of each language"
    start = _name(model.path or model.hub or "")
    if prune.method == "none":
        pruned = "not pruned"
    elif prune.method == "fixed":
        pruned = "pruned before, with the masks kept"
    else:
        end = (
            f"a threshold of {prune.threshold:g}, penalty {prune.penalty:g}"
            if prune.method == "soft_movement"
            else f"a sparsity of {prune.sparsity:g}"
        )
        pruned = (
            f"method {escape(prune.method)}, to {end}, on a cubic schedule from "
            f"{100 * prune.begin:g} % to {100 * prune.end:g} % of the steps, masks renewed every "
            f"{prune.interval} steps; pattern {escape(prune.pattern)}, scope {prune.scope}, word "
            f"embeddings {'pruned too' if prune.embeddings else 'left alone'}"
        )
    return [
        f"data: {_data(config)}, training sentences: {which}",
        f"languages of training: {codes}",
        f"started from: {escape(start) if start else 'random numbers'}",
        f"pruning: {pruned}",
        f"training: {train.epochs} epochs, {train.batch_size} sentences a step, AdamW, peak "
        f"learning rate {train.learning_rate:g} ({train.decay} after {100 * train.warmup:g} % "
        f"warmup), weight decay {train.weight_decay:g}, computed in {model.dtype}",
        f"seed: {config.seed}",
    ]


def _cautions(config: Config) -> list[str]:
    data = config.data
    lines = ["This is one run with one seed, and another seed gives other scores."]
    if data.dir is None and data.hub is None:
        lines.append(
            "The data are synthetic: sentence patterns and lists of names, written for sparsejax. "
            "The scores say nothing about real text in any language."
        )
        return lines
    lines.append(
        f"The scores hold for text like that of {_data(config)}: not for other domains, other "
        "kinds of entity, or languages that are not in the table."
    )
    if re.search("wikiann|pan-?x", _data_name(config).lower()):
        lines.append(
            "If this is WikiAnn (PAN-X), its labels were made from Wikipedia's links by a program "
            "and not by people, and its splits repeat sentences."
        )
    else:
        lines.append("Who labelled these data, and how well, is not known here.")
    return lines


def _use(form: str, code: bool) -> str:
    trust = ", trust_remote_code=True" if code else ""
    with_transformers = (
        "```python\n"
        "from transformers import pipeline\n\n"
        'tagger = pipeline("token-classification", "THIS_DIRECTORY"'
        f'{trust}, aggregation_strategy="simple")\n'
        'tagger("Anna lives in Berlin")\n'
        "```\n"
    )
    if code:
        with_transformers += (
            "\nHeads were cut out, which stock BERT has no setting for: transformers runs the "
            "few lines of `modeling_cut_bert.py`. sparsejax reads the model without them.\n"
        )
    if form == "huggingface":
        return f"{with_transformers}\nor train it further with sparsejax:\n\n{_bash(_TRAIN)}"
    return (
        "The weights are compressed, which transformers does not read. sparsejax reads them as "
        f"they are, for example to train further, and turns them back:\n\n{_bash(_TRAIN, _BACK)}"
    )


_TRAIN = "python -m sparsejax.train --model.path THIS_DIRECTORY --data.dir DATA"
_BACK = "python -m sparsejax.export THIS_DIRECTORY --format huggingface --output OUT"


def _bash(*lines: str) -> str:
    return "\n".join(["```bash", *lines, "```", ""])


def _data(config: Config) -> str:
    if config.data.dir is None and config.data.hub is None:
        return "the corpus that sparsejax embeds"
    return escape(_data_name(config))


def _data_name(config: Config) -> str:
    return _name(config.data.dir or config.data.hub or "embedded")


def _name(source: str) -> str:
    """A name of the hub as it is; of a path, the last part."""
    return PurePath(source).name if os.path.isabs(source) or source.startswith(".") else source


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
