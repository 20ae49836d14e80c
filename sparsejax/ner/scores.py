"""Entity precision, recall and F1 from counts, their averages, and the calibration error.

Find the spans once (`spans.spans`), count them over any subset of the sentences (`count`), and turn
the counts into scores:

    types = entity_types(labels)
    gold = spans(gold_ids, lengths, labels)
    predicted = spans(predicted_ids, lengths, labels)
    counts = {code: count(gold, predicted, len(types), language == code) for code in codes}
    rows = {code: micro(counts[code]) for code in codes}
    averages = {"macro": macro(list(rows.values())), "micro": micro(*counts.values())}
    by_type = {type: scores(*column) for type, column in zip(types, zip(*counts["en"]))}

The numbers are seqeval's to the last digit, but for what has no meaning: without any gold entity
recall and F1 are None here and 0 there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsejax.ner.spans import Spans, found

Row = dict[str, Any]
"""precision, recall, f1 in [0, 1] or None, support: the number of gold entities."""


class Counts(NamedTuple):
    """Entities by type."""

    correct: npt.NDArray[np.int64]  # [types]: predicted with the words and the type of a gold one
    predicted: npt.NDArray[np.int64]  # [types]
    gold: npt.NDArray[np.int64]  # [types]


def count(
    gold: Spans, predicted: Spans, types: int, where: npt.NDArray[np.bool_] | None = None
) -> Counts:
    """Counts entities over all sentences or some of them.

    Args:
      gold, predicted: spans of the same sentences under the same labels.
      types: how many types the labels have.
      where: bool [sentences]; only those that are True count. None: all.
    """
    if where is not None:
        gold, predicted = _only(gold, where), _only(predicted, where)
    kinds = (gold.type[found(gold, predicted)], predicted.type, gold.type)
    return Counts(*(np.bincount(kind, minlength=types) for kind in kinds))


def by_sentence(gold: Spans, predicted: Spans, sentences: int) -> npt.NDArray[np.uint16]:
    """Entities of all types by sentence: correct, predicted and gold ones, [sentences, 3].

    Args:
      gold, predicted: spans of the same sentences under the same labels.
      sentences: how many there are.
    """
    where = (gold.sentence[found(gold, predicted)], predicted.sentence, gold.sentence)
    columns = [np.bincount(numbers, minlength=sentences) for numbers in where]
    return np.stack(columns, axis=1).astype(np.uint16)


def _only(spans: Spans, where: npt.NDArray[np.bool_]) -> Spans:
    keep = where[spans.sentence]
    return Spans._make(column[keep] for column in spans)


def scores(correct: int, predicted: int, gold: int) -> Row:
    """Precision, recall and F1 of so many entities.

    Returns:
      precision (0 if nothing is predicted), recall and f1 (None, undefined, if nothing is gold),
      support (gold).
    """
    correct, predicted, gold = int(correct), int(predicted), int(gold)  # plain numbers for JSON
    precision = correct / predicted if predicted else 0.0
    if not gold:
        return {"precision": precision, "recall": None, "f1": None, "support": 0}
    recall = correct / gold
    # Not 2 correct / (predicted + gold): seqeval's operations in its order, for its last digit.
    f1 = 2.0 * precision * recall / (precision + recall) if correct else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "support": gold}


def micro(*counts: Counts) -> Row:
    """Scores over the entities of all types, of one or several counts, pooled."""
    return scores(*(sum(int(part.sum()) for part in parts) for parts in zip(*counts, strict=True)))


def macro(rows: Sequence[Row]) -> Row:
    """The mean of some rows of scores, usually one per language.

    Returns:
      precision, recall, f1: means over the rows with a gold entity; None if there is no such row.
      support: summed. languages: the number of rows that entered the means.
    """
    counted = [row for row in rows if row["support"]]
    # Python 3.12 changed the rounding of sum; fsum gives the same digits everywhere.
    mean: Row = {
        name: math.fsum(row[name] for row in counted) / len(counted) if counted else None
        for name in ("precision", "recall", "f1")
    }
    return mean | {"support": sum(row["support"] for row in counted), "languages": len(counted)}


def worst(rows: Mapping[str, Row]) -> str | None:
    """The language with the lowest F1 that is defined, the first of equals; None without any."""
    defined = [code for code, row in rows.items() if row["f1"] is not None]
    return min(defined, key=lambda code: rows[code]["f1"], default=None)


def calibration_error(
    confidence: npt.NDArray[np.floating[Any]], correct: npt.NDArray[np.bool_], bins: int = 15
) -> float | None:
    """Expected calibration error (Guo et al. 2017, section 2, equation 3), in [0, 1].

    The mean over predictions of |accuracy - mean confidence| of the bin that each falls into. Bins
    are ((m - 1) / bins, m / bins] for m = 1 to bins; the first holds confidence 0 too.

    Args:
      confidence: float [n], in [0, 1]; the probability of what was predicted.
      correct: bool [n]; whether it was right.

    Returns:
      None for n = 0.
    """
    if not len(confidence):
        return None
    upper = np.arange(1, bins + 1) / bins
    # A softmax may sum to a little more than 1, so what is above the last edge goes below it.
    at = np.minimum(np.searchsorted(upper, confidence, side="left"), bins - 1)
    # With n_m predictions in bin m, n_m / n |accuracy - confidence| is |difference of sums| / n.
    gap = np.bincount(at, correct, bins) - np.bincount(at, confidence, bins)
    return float(np.abs(gap).sum() / len(confidence))
