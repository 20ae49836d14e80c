"""Everything that is reported of one tagging of some languages, as rows of results.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sparsejax.data import languages
from sparsejax.data.preparation import Prepared
from sparsejax.data.seen import Seen, among
from sparsejax.data.tokenization import IGNORE
from sparsejax.ner import scores as scoring
from sparsejax.ner.scores import Counts, Row
from sparsejax.ner.spans import entity_types, spans
from sparsejax.ner.tagging import Tagged


def gold_ids(part: Prepared) -> np.ndarray:
    """The label id of every word, int32 [words]."""
    labels = part.encoded.labels
    return labels[labels != IGNORE]


def evaluate(
    gold: Mapping[str, Prepared],
    predicted: Mapping[str, Tagged],
    labels: Sequence[str],
    table: Mapping[str, languages.Language],
    clean: Mapping[str, np.ndarray],
) -> list[Row]:
    """Scores by language, their averages, and the averages of each group of languages.

    Args:
      gold: by language; the label ids are places in `labels`.
      predicted: of the same words.
      labels: the tags of the model.
      table: what is known of the languages.
      clean: by language, bool [sentences]: which of them training did not hold.

    Returns:
      One row per language, then the rows `macro` (mean of the languages that have an entity) and
      `micro` (all entities pooled), then one row per group by resource, script and family. Each has
      precision, recall, f1 and support as seqeval counts them by default; `strict`, the same in its
      mode strict for IOB2; `types`, f1 and the rest by type; `clean`, on the sentences that
      training did not hold; and the calibration error of the tags' probabilities.
    """
    types = entity_types(labels)
    found: dict[str, dict[str, Counts]] = {}
    rows: list[Row] = []
    calibration: dict[str, float | None] = {}
    for code, part in gold.items():
        ids, lengths = gold_ids(part), part.encoded.words
        lenient = (spans(ids, lengths, labels), spans(predicted[code].ids, lengths, labels))
        strict = (
            spans(ids, lengths, labels, strict=True),
            spans(predicted[code].ids, lengths, labels, strict=True),
        )
        found[code] = {
            "": scoring.count(lenient[0], lenient[1], len(types)),
            "strict": scoring.count(strict[0], strict[1], len(types)),
            "clean": scoring.count(lenient[0], lenient[1], len(types), clean[code]),
        }
        calibration[code] = scoring.calibration_error(
            predicted[code].confidence, ids == predicted[code].ids
        )
        sizes = {"sentences": len(lengths), "clean_sentences": int(clean[code].sum())}
        rows.append(_row(code, [found[code]], types) | _calibration(calibration[code]) | sizes)

    by_language = {row["language"]: row for row in rows}
    everything = list(found.values())
    sizes = {
        name: sum(row[name] for row in by_language.values())
        for name in ("sentences", "clean_sentences")
    }
    macro = _macro(list(by_language.values()), types) | sizes
    worst = scoring.worst(by_language)
    rows.append({"kind": "scores", "language": "macro"} | macro | {"worst": worst})
    confidence = np.concatenate([predicted[code].confidence for code in gold])
    right = np.concatenate([gold_ids(gold[code]) == predicted[code].ids for code in gold])
    pooled = scoring.calibration_error(confidence, right)
    rows.append(_row("micro", everything, types) | _calibration(pooled) | sizes)
    for by, group_of in languages.GROUPINGS.items():
        groups: dict[str, list[str]] = {}
        for code in gold:
            groups.setdefault(group_of(languages.lookup(table, code)), []).append(code)
        for group, codes in sorted(groups.items()):
            average = _macro([by_language[code] for code in codes], types)
            rows.append({"kind": "group", "by": by, "group": group, "members": codes} | average)
    return rows


def _calibration(error: float | None) -> Row:
    return {"calibration_error": error}


def _row(language: str, counts: Sequence[dict[str, Counts]], types: Sequence[str]) -> Row:
    """The scores of some counts, pooled."""
    pooled = {name: [c[name] for c in counts] for name in counts[0]}
    by_type = [sum(column) for column in zip(*pooled[""], strict=True)]
    return (
        {"kind": "scores", "language": language}
        | scoring.micro(*pooled[""])
        | {name: scoring.micro(*pooled[name]) for name in ("strict", "clean")}
        | {
            "types": {
                kind: scoring.scores(*column) for kind, *column in zip(types, *by_type, strict=True)
            }
        }
    )


def _macro(rows: Sequence[Row], types: Sequence[str]) -> Row:
    """The means of some languages' rows, field by field."""
    errors = [row["calibration_error"] for row in rows if row["calibration_error"] is not None]
    return (
        scoring.macro(rows)
        | {name: scoring.macro([row[name] for row in rows]) for name in ("strict", "clean")}
        | {"types": {kind: scoring.macro([row["types"][kind] for row in rows]) for kind in types}}
        | _calibration(sum(errors) / len(errors) if errors else None)
    )


def on(
    gold: Mapping[str, Prepared],
    predicted: Mapping[str, Tagged],
    labels: Sequence[str],
    where: Mapping[str, np.ndarray],
) -> dict[str, Row]:
    """Scores by language, macro and micro, over some sentences only.

    Args:
      where: by language, bool [sentences].
    """
    types = len(entity_types(labels))
    counts = {}
    for code, part in gold.items():
        lengths = part.encoded.words
        sides = (gold_ids(part), predicted[code].ids)
        first, second = (spans(side, lengths, labels) for side in sides)
        counts[code] = scoring.count(first, second, types, where[code])
    rows = {code: scoring.micro(found) for code, found in counts.items()}
    averages = {
        "macro": scoring.macro(list(rows.values())),
        "micro": scoring.micro(*counts.values()),
    }
    return rows | averages


def by_sentence(
    gold: Mapping[str, Prepared], predicted: Mapping[str, Tagged], labels: Sequence[str]
) -> dict[str, np.ndarray]:
    """By language, uint16 [sentences, 3]: correct, predicted and gold entities of each sentence."""
    counts = {}
    for code, part in gold.items():
        lengths = part.encoded.words
        first, second = (
            spans(ids, lengths, labels) for ids in (gold_ids(part), predicted[code].ids)
        )
        counts[code] = scoring.by_sentence(first, second, len(lengths))
    return counts


def is_clean(gold: Mapping[str, Prepared], seen: Seen) -> dict[str, np.ndarray]:
    """By language, bool [sentences]: the words of this sentence are no training sentence's."""
    return {code: ~among(part.sentence_keys, seen.sentences) for code, part in gold.items()}
