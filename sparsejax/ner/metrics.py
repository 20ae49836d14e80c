"""Entity precision, recall and F1 by language, as seqeval counts them (its default mode)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Tags = Sequence[list[str]]  # of each word of each sentence; seqeval wants lists inside


def entity_scores(gold: Tags, predicted: Tags) -> dict[str, Any]:
    """Micro-averaged scores over the entities of some sentences.

    seqeval's default mode is lenient: a span that begins with I- counts as an entity.

    Returns:
      precision, recall, f1 in [0, 1] and support, the number of gold entities. Without any gold
      entity recall and F1 have no meaning and are None; without any predicted one, precision is 0.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(
        gold, predicted, average="micro", zero_division=0
    )
    undefined = support == 0
    return {
        "precision": float(precision),
        "recall": None if undefined else float(recall),
        "f1": None if undefined else float(f1),
        "support": int(support),
    }


def by_language(
    gold: Mapping[str, Tags], predicted: Mapping[str, Tags]
) -> dict[str, dict[str, Any]]:
    """Scores per language, then `macro` (mean of the languages) and `micro` (all entities pooled).

    Languages without gold entities do not enter the macro average.
    """
    rows = {code: entity_scores(gold[code], predicted[code]) for code in gold}
    counted = [row for row in rows.values() if row["support"]]
    rows["macro"] = {
        name: sum(row[name] for row in counted) / len(counted) if counted else None
        for name in ("precision", "recall", "f1")
    } | {"support": sum(row["support"] for row in counted)}
    rows["micro"] = entity_scores(
        [tags for code in gold for tags in gold[code]],
        [tags for code in gold for tags in predicted[code]],
    )
    return rows
