"""Entity scores against seqeval's own functions, a count of spans, and numbers by hand."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import seqeval.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsejax.data.sources import TAGS
from sparsejax.ner import metrics

Tags = list[list[str]]

TAG = st.sampled_from(TAGS)
# Mostly the gold tag, so that predictions are right now and then.
PAIRS = st.lists(
    st.lists(TAG.flatmap(lambda t: st.tuples(st.just(t), st.just(t) | TAG)), min_size=1),
    min_size=1,
)


def split(pairs: list[list[tuple[str, str]]]) -> tuple[Tags, Tags]:
    return [[g for g, _ in part] for part in pairs], [[p for _, p in part] for part in pairs]


def spans(sentences: Tags) -> set[tuple[int, int, int, str]]:
    """Entities as the lenient reading has them: I- begins one where it continues none."""
    found = []
    for number, tags in enumerate(sentences):
        kind, begin = "O", 0
        for i, tag in enumerate([*tags, "O"]):
            goes_on = tag == f"I-{kind}"
            if kind != "O" and not goes_on:
                found.append((number, begin, i, kind))
            if tag != "O" and not goes_on:
                begin = i
            kind = tag[2:] or "O"
    return set(found)


@given(PAIRS)
def test_as_seqeval_and_as_counted(pairs: list[list[tuple[str, str]]]) -> None:
    gold, predicted = split(pairs)
    found = metrics.entity_scores(gold, predicted)

    true, guessed = spans(gold), spans(predicted)
    right = len(true & guessed)
    assert found["support"] == len(true)
    assert found["precision"] == pytest.approx(right / len(guessed) if guessed else 0)
    if not true:
        assert found["recall"] is None and found["f1"] is None
        return
    assert found["recall"] == pytest.approx(right / len(true))
    assert found["f1"] == pytest.approx(2 * right / (len(true) + len(guessed)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found["precision"] == seqeval.metrics.precision_score(gold, predicted)
        assert found["recall"] == seqeval.metrics.recall_score(gold, predicted)
        assert found["f1"] == seqeval.metrics.f1_score(gold, predicted)


@pytest.mark.parametrize(
    ("gold", "predicted", "precision", "recall", "f1", "support"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC", 1, 1, 1, 2),
        ("B-PER I-PER O B-LOC", "B-PER O O B-LOC", 1 / 2, 1 / 2, 1 / 2, 2),
        ("B-PER I-PER O B-LOC", "O O O B-LOC", 1, 1 / 2, 2 / 3, 2),
        ("B-PER I-PER O O", "B-PER I-PER O B-LOC", 1 / 2, 1, 2 / 3, 1),
        ("B-PER I-PER O O", "B-ORG I-ORG O O", 0, 0, 0, 1),
        ("B-PER I-PER", "B-PER B-PER", 0, 0, 0, 1),
        ("B-PER I-PER", "I-PER I-PER", 1, 1, 1, 1),  # lenient
        ("B-PER I-LOC", "B-PER B-LOC", 1, 1, 1, 2),  # lenient
        ("B-LOC O", "O O", 0, 0, 0, 1),
        ("O O", "O B-PER", 0, None, None, 0),
        ("O O", "O O", 0, None, None, 0),
    ],
)
def test_by_hand(
    gold: str, predicted: str, precision: Any, recall: Any, f1: Any, support: int
) -> None:
    found = metrics.entity_scores([gold.split()], [predicted.split()])
    assert found == pytest.approx(
        {"precision": precision, "recall": recall, "f1": f1, "support": support}
    )


def test_entities_end_with_their_sentence() -> None:
    assert metrics.entity_scores([["B-PER"], ["I-PER"]], [["B-PER"], ["I-PER"]])["support"] == 2


def test_no_warning_and_plain_numbers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for gold in ("O", "B-PER"):
            for predicted in ("O", "B-PER"):
                found = metrics.entity_scores([[gold]], [[predicted]])
                assert {type(value) for value in found.values()} <= {float, int, type(None)}


# Right, guessed, true: en 1, 1, 2; sw 1, 2, 1; yo 0, 1, 0 (no gold entity); together 2, 4, 3.
GOLD = {"en": [["B-PER", "O", "B-LOC"]], "sw": [["B-ORG", "I-ORG", "O"]], "yo": [["O"], ["O"]]}
GUESS = {
    "en": [["B-PER", "O", "O"]],
    "sw": [["B-ORG", "I-ORG", "B-PER"]],
    "yo": [["O"], ["B-LOC"]],
}


def test_by_language() -> None:
    rows = metrics.by_language(GOLD, GUESS)
    assert list(rows) == ["en", "sw", "yo", "macro", "micro"]
    expected = {
        "en": (1, 1 / 2, 2 / 3, 2),
        "sw": (1 / 2, 1, 2 / 3, 1),
        "yo": (0, None, None, 0),
        "macro": (3 / 4, 3 / 4, 2 / 3, 3),  # of en and sw
        "micro": (2 / 4, 2 / 3, 4 / 7, 3),  # the false alarm of yo counts
    }
    for code, numbers in expected.items():
        names = ("precision", "recall", "f1", "support")
        assert rows[code] == pytest.approx(dict(zip(names, numbers, strict=True)))


def test_by_language_without_any_entity() -> None:
    rows = metrics.by_language({"yo": [["O"]]}, {"yo": [["B-LOC"]]})
    assert rows["macro"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert rows["micro"] == {"precision": 0.0, "recall": None, "f1": None, "support": 0}


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["ab", "cd", "ef", "gh"]), PAIRS, min_size=1))
def test_the_averages_of_any_languages(corpora: dict[str, Any]) -> None:
    gold = {code: split(pairs)[0] for code, pairs in corpora.items()}
    predicted = {code: split(pairs)[1] for code, pairs in reversed(corpora.items())}
    rows = metrics.by_language(gold, predicted)
    each = [metrics.entity_scores(gold[code], predicted[code]) for code in gold]
    defined = [row for row in each if row["support"]]
    for name in ("precision", "recall", "f1"):
        mean = math.fsum(row[name] for row in defined) / len(defined) if defined else None
        assert rows["macro"][name] == pytest.approx(mean)
    assert (
        rows["micro"]["support"] == rows["macro"]["support"] == len(spans(sum(gold.values(), [])))
    )
