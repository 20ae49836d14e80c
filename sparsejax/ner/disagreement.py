"""Where two taggers differ on the same sentences: the exemplars that compression forgets.

The term is of Hooker et al. 2019, "What Do Compressed Deep Neural Networks Forget?"; here it is a
sentence of which at least one word is tagged differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sparsejax.data.preparation import Prepared
from sparsejax.data.seen import Seen, among
from sparsejax.data.sentences import Corpus, Sentence
from sparsejax.ner.evaluation import gold_ids
from sparsejax.ner.spans import found, spans
from sparsejax.ner.tagging import Tagged

Row = dict[str, Any]


def rates(gold: Prepared, first: Tagged, second: Tagged, labels: Sequence[str], seen: Seen) -> Row:
    """How often two taggers differ in one language.

    Returns:
      sentences; differ, those with a word that the two tag differently; only_first_right and
      only_second_right, those that one tags without a mistake and the other does not; both_wrong,
      those that differ and are wrong in both; entities, and of them lost (found by the first
      alone) and gained (found by the second alone); the same three in `unseen`, for entities that
      training did not hold.
    """
    lengths, ids = gold.encoded.words, gold_ids(gold)
    wrong = [_any(side.ids != ids, lengths) for side in (first, second)]
    differ = _any(first.ids != second.ids, lengths)
    entities = spans(ids, lengths, labels)
    hits = [found(entities, spans(side.ids, lengths, labels)) for side in (first, second)]
    unseen = ~among(gold.entity_keys, seen.entities)

    def entity_counts(where: np.ndarray) -> Row:
        return {
            "entities": int(where.sum()),
            "lost": int((where & hits[0] & ~hits[1]).sum()),
            "gained": int((where & hits[1] & ~hits[0]).sum()),
        }

    return {
        "sentences": len(lengths),
        "differ": int(differ.sum()),
        "only_first_right": int((~wrong[0] & wrong[1]).sum()),
        "only_second_right": int((wrong[0] & ~wrong[1]).sum()),
        "both_wrong": int((differ & wrong[0] & wrong[1]).sum()),
        **entity_counts(np.ones(len(unseen), bool)),
        "unseen": entity_counts(unseen),
    }


def sentences(
    corpus: Sequence[Sentence],
    gold: Prepared,
    first: Tagged,
    second: Tagged,
    labels: Sequence[str],
    seen: Seen,
) -> Iterator[Row]:
    """Every sentence on which the two differ: its number from 0, words, tags, unseen entities."""
    ends = np.cumsum(gold.encoded.words)
    names = np.array(labels)
    entities = spans(gold_ids(gold), gold.encoded.words, labels)
    unseen = ~among(gold.entity_keys, seen.entities)
    new = np.bincount(entities.sentence[unseen], minlength=len(ends))
    for number in np.flatnonzero(_any(first.ids != second.ids, gold.encoded.words)).tolist():
        part = slice(int(ends[number] - gold.encoded.words[number]), int(ends[number]))
        words, tags = corpus[number]
        yield {
            "sentence": number,
            "words": words,
            "gold": tags,
            "first": names[first.ids[part]].tolist(),
            "second": names[second.ids[part]].tolist(),
            "unseen_entities": int(new[number]),
        }


def total(rows: Mapping[str, Row]) -> Row:
    """The counts of all languages, summed."""
    names = [name for name in next(iter(rows.values())) if name != "unseen"]
    both = [(row, row["unseen"]) for row in rows.values()]
    return {name: sum(row[name] for row, _ in both) for name in names} | {
        "unseen": {name: sum(row[name] for _, row in both) for name in both[0][1]}
    }


def compare(
    corpus: Corpus,
    gold: Mapping[str, Prepared],
    first: Mapping[str, Tagged],
    second: Mapping[str, Tagged],
    labels: Sequence[str],
    known: Seen,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The rates of each language, and the rows of disagreement.jsonl: those, then the sentences."""
    found = {
        code: rates(part, first[code], second[code], labels, known) for code, part in gold.items()
    }
    found["all"] = total(found)
    rows = [{"kind": "rates", "language": code} | row for code, row in found.items()]
    for code, part in gold.items():
        differ = sentences(corpus[code], part, first[code], second[code], labels, known)
        rows += ({"kind": "sentence", "language": code} | row for row in differ)
    return found, rows


def _any(words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Whether a word of a sentence has it: bool [words] -> bool [sentences]."""
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    return np.bincount(sentence[words], minlength=len(lengths)) > 0
