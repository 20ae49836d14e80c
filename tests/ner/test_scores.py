"""Scores against seqeval to the last digit, numbers by hand, calibration by its definition."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqeval.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import sequence_labeling, v1
from seqeval.scheme import IOB2

from sparsejax.ner.scores import (
    Counts,
    by_sentence,
    calibration_error,
    count,
    macro,
    micro,
    scores,
    worst,
)
from sparsejax.ner.spans import entity_types, spans

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")

Tags = list[list[str]]


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[str, ...], Tags, Tags]:
    """Labels, gold tags and predicted ones, which are mostly the gold ones; some have no word."""
    kinds = draw(st.lists(st.sampled_from(["PER", "LOC", "ORG", "A-B"]), unique=True))
    tags = [f"{prefix}-{kind}" for kind in kinds for prefix in "BI"]
    chosen = draw(st.sets(st.sampled_from(tags)) | st.just(set(tags))) if tags else set()
    labels = draw(st.permutations([*sorted(chosen), "O"]))
    tag = st.sampled_from(labels)
    pair = tag.flatmap(lambda t: st.tuples(st.just(t), st.just(t) | tag))
    pairs = draw(st.lists(st.lists(pair), min_size=1))
    gold, predicted = ([[pair[i] for pair in part] for part in pairs] for i in (0, 1))
    return tuple(labels), gold, predicted


def flat(labels: Sequence[str], sentences: Tags) -> tuple[Any, Any]:
    ids = [labels.index(tag) for tags in sentences for tag in tags]
    return np.array(ids, np.int32), np.array([len(tags) for tags in sentences], np.int64)


def counted(
    labels: Sequence[str], gold: Tags, predicted: Tags, strict: bool, where: Any = None
) -> Counts:
    gold_spans, predicted_spans = (
        spans(*flat(labels, tags), labels, strict) for tags in (gold, predicted)
    )
    return count(gold_spans, predicted_spans, len(entity_types(labels)), where)


def theirs(gold: Tags, predicted: Tags, strict: bool, average: str | None) -> Any:
    if strict:
        return v1.precision_recall_fscore_support(
            gold, predicted, average=average, scheme=IOB2, zero_division=0
        )
    return sequence_labeling.precision_recall_fscore_support(
        gold, predicted, average=average, zero_division=0
    )


def assert_as_seqeval(labels: Sequence[str], gold: Tags, predicted: Tags, strict: bool) -> None:
    """Equal floats, of all types together and of each; what is None here is 0 there."""
    counts = counted(labels, gold, predicted, strict)
    assert [column.dtype for column in counts] == [np.int64] * 3
    row = micro(counts)
    assert [value or 0 for value in row.values()] == list(theirs(gold, predicted, strict, "micro"))
    # seqeval has rows for the types that occur, by name.
    types = zip(entity_types(labels), zip(*counts, strict=True), strict=True)
    rows = [scores(*parts) for _, parts in sorted(types) if parts[1] or parts[2]]
    columns = theirs(gold, predicted, strict, None)
    assert [[value or 0 for value in row.values()] for row in rows] == [
        list(row) for row in zip(*columns, strict=True)
    ]


@settings(max_examples=200)
@given(cases(), st.booleans())
def test_as_seqeval(case: tuple[tuple[str, ...], Tags, Tags], strict: bool) -> None:
    assert_as_seqeval(*case, strict)


@settings(max_examples=100)
@given(cases())
def test_counts_by_sentence_are_those_of_each_alone(
    case: tuple[tuple[str, ...], Tags, Tags],
) -> None:
    labels, gold, predicted = case
    both = (spans(*flat(labels, tags), labels) for tags in (gold, predicted))
    found = by_sentence(*both, len(gold))
    assert found.shape == (len(gold), 3)
    for row, *tags in zip(found, gold, predicted, strict=True):
        alone = counted(labels, [tags[0]], [tags[1]], strict=False)
        assert row.tolist() == [column.sum() for column in alone]


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning:numpy")  # its mean of no type at all
@settings(max_examples=100)
@given(cases())
def test_as_seqevals_strict_report(case: tuple[tuple[str, ...], Tags, Tags]) -> None:
    labels, gold, predicted = case
    report = seqeval.metrics.classification_report(
        gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0
    )
    counts = counted(labels, gold, predicted, strict=True)
    for kind, parts in zip(entity_types(labels), zip(*counts, strict=True), strict=True):
        expected = report.get(kind)
        if expected is None:
            assert parts == (0, 0, 0)
            continue
        assert [value or 0 for value in scores(*parts).values()] == list(expected.values())


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("code", ["sw", "ja", "de"])
def test_real_sentences_as_seqeval(shared: Path, code: str, strict: bool) -> None:
    """Real gold tags; as predictions the same, with a seventh of them drawn anew."""
    text = (shared / "data" / "panx" / code / "test.tsv").read_text(encoding="utf-8")
    sentences = text.strip("\n").split("\n\n")[:1000]
    gold = [[line.split("\t")[1] for line in part.split("\n")] for part in sentences]
    random = np.random.default_rng(0)
    predicted = [
        [TAGS[random.integers(len(TAGS))] if random.random() < 1 / 7 else tag for tag in tags]
        for tags in gold
    ]
    assert_as_seqeval(TAGS, gold, predicted, strict)
    row = micro(counted(TAGS, gold, predicted, strict))
    assert row["support"] > 500 and 0.1 < row["f1"] < 0.95


@settings(max_examples=100)
@given(cases(), st.booleans(), st.randoms(use_true_random=False))
def test_some_sentences_are_as_if_alone(
    case: tuple[tuple[str, ...], Tags, Tags], strict: bool, random: Any
) -> None:
    labels, gold, predicted = case
    where = np.array([random.random() < 0.5 for _ in gold], bool)
    total = counted(labels, gold, predicted, strict)
    parts = []
    for part in (where, ~where):
        alone = [
            [tags for tags, chosen in zip(side, part, strict=True) if chosen]
            for side in (gold, predicted)
        ]
        parts.append(counted(labels, gold, predicted, strict, part))
        for ours, expected in zip(parts[-1], counted(labels, *alone, strict), strict=True):
            np.testing.assert_array_equal(ours, expected)
    assert micro(*parts) == micro(total)


def test_counts_by_hand() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC"], ["O", "O"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["B-ORG"], ["O", "B-LOC"]]
    for where, expected in (
        (None, [[0, 0, 1], [1, 1, 2], [1, 0, 2]]),
        ([True, False, False], [[0, 0, 1], [1, 0, 1], [1, 0, 1]]),
        ([False, True, True], [[0, 0, 0], [0, 1, 1], [0, 0, 1]]),
        ([False] * 3, [[0, 0, 0]] * 3),
    ):
        mask = None if where is None else np.array(where)
        assert [list(c) for c in counted(TAGS, gold, predicted, False, mask)] == expected


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "f1", "support"),
    [
        ((2, 2, 2), 1, 1, 1, 2),
        ((1, 2, 2), 1 / 2, 1 / 2, 1 / 2, 2),
        ((1, 1, 2), 1, 1 / 2, 2 / 3, 2),
        ((0, 1, 1), 0, 0, 0, 1),
        ((0, 0, 3), 0, 0, 0, 3),
        ((0, 2, 0), 0, None, None, 0),
        ((0, 0, 0), 0, None, None, 0),
    ],
)
def test_scores_by_hand(
    counts: tuple[int, int, int], precision: Any, recall: Any, f1: Any, support: int
) -> None:
    expected = {"precision": precision, "recall": recall, "f1": f1, "support": support}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in (int, np.int64):
            found = scores(*map(kind, counts))
            assert found == pytest.approx(expected)
            assert {type(value) for value in found.values()} <= {float, int, type(None)}
            json.dumps(found)


def test_micro_pools_types_and_counts() -> None:
    def of(*columns: list[int]) -> Counts:
        return Counts(*(np.array(column, np.int64) for column in columns))

    one, other = of([1, 0], [1, 0], [1, 1]), of([1, 0], [1, 1], [1, 0])
    assert micro(one) == scores(1, 1, 2)
    assert micro(one, other) == scores(2, 3, 3)
    assert micro(of([], [], [])) == scores(0, 0, 0)


ROWS = {
    "en": scores(1, 1, 2),
    "sw": scores(1, 2, 1),
    "yo": scores(0, 1, 0),  # no gold entity
    "my": scores(0, 1, 4),
    "jv": scores(0, 0, 1),
}


def test_macro() -> None:
    assert macro([ROWS["en"], ROWS["sw"], ROWS["yo"]]) == pytest.approx(
        {"precision": 3 / 4, "recall": 3 / 4, "f1": 2 / 3, "support": 3, "languages": 2}
    )
    nothing = {"precision": None, "recall": None, "f1": None, "support": 0, "languages": 0}
    assert macro([ROWS["yo"]]) == macro([]) == nothing


def test_macro_is_rounded_once() -> None:
    """Ten times 0.1 is 1, in any order of the rows; a plain sum is a digit off."""
    rows = [{"precision": 0.1, "recall": 0.1, "f1": 0.1, "support": 1}] * 10
    assert macro(rows)["f1"] == 0.1


def test_worst() -> None:
    assert worst(ROWS) == "my"  # jv is as bad but later; yo has no F1
    assert worst({"en": ROWS["en"], "yo": ROWS["yo"]}) == "en"
    assert worst({"yo": ROWS["yo"]}) is None
    assert worst({}) is None


# ---- calibration


def by_definition(confidence: Sequence[float], correct: Sequence[bool], bins: int) -> float:
    """Bin by bin, (m - 1) / bins < confidence <= m / bins, as in the paper; 0 is in the first."""
    error = 0.0
    for m in range(1, bins + 1):
        inside = [
            i
            for i, value in enumerate(confidence)
            if (m - 1) / bins < value <= m / bins or (m == 1 and value == 0)
        ]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            mean = math.fsum(confidence[i] for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(accuracy - mean)
    return error


@st.composite
def predictions(draw: st.DrawFn) -> tuple[list[float], list[bool], int]:
    """Confidences of which many lie exactly on an edge of the bins."""
    bins = draw(st.sampled_from([1, 2, 3, 7, 10, 15, 49]))
    edge = st.integers(0, bins).map(lambda m: m / bins)
    pairs = draw(st.lists(st.tuples(edge | st.floats(0, 1), st.booleans()), min_size=1))
    return [value for value, _ in pairs], [right for _, right in pairs], bins


@settings(max_examples=300)
@given(predictions())
def test_calibration_as_defined(case: tuple[list[float], list[bool], int]) -> None:
    confidence, correct, bins = case
    found = calibration_error(np.array(confidence), np.array(correct), bins)
    assert type(found) is float
    assert found == pytest.approx(by_definition(confidence, correct, bins), abs=1e-12)


def test_calibration_of_every_edge() -> None:
    """Each edge belongs to the bin below it, and the next float above it to the bin above."""
    for bins in range(1, 100):
        for m in range(1, bins):
            edge = m / bins
            above = float(np.nextafter(edge, 1))
            # Right at the edge, wrong above it: in one bin they would cancel to a half.
            found = calibration_error(np.array([edge, above]), np.array([True, False]), bins)
            assert found == pytest.approx((1 - edge + above) / 2)


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0], [False], 1.0),
        ([0.0], [False], 0.0),
        ([0.0, 0.05], [True, False], 0.475),  # one bin: accuracy 0.5, confidence 0.025
        ([0.95, 0.95, 0.55], [True, False, True], (2 * 0.45 + 0.45) / 3),
    ],
)
def test_calibration_by_hand(confidence: list[float], correct: list[bool], expected: float) -> None:
    assert calibration_error(np.array(confidence), np.array(correct)) == pytest.approx(expected)


def test_calibration_of_nothing() -> None:
    assert calibration_error(np.zeros(0, np.float32), np.zeros(0, bool)) is None


def test_calibration_of_float32() -> None:
    """A softmax in float32 may say a little more than 1; sums are not taken in float32."""
    above = np.nextafter(np.float32(1), np.float32(2))
    # In one bin with 0.98: accuracy 0.5, confidence 0.99.
    found = calibration_error(np.array([0.98, above], np.float32), np.array([True, False]))
    assert found == pytest.approx(0.49, abs=1e-6)
    many = np.full(1_000_000, 0.7, np.float32)
    right = np.arange(1_000_000) % 10 < 7
    assert calibration_error(many, right) == pytest.approx(0, abs=1e-7)
