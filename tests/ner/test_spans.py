"""Spans against seqeval's own readers of tags, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Tokens

from sparsejax.data.sentences import entities
from sparsejax.errors import UserError
from sparsejax.ner.spans import Spans, entity_types, spans

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")

Found = list[list[tuple[str, int, int]]]  # per sentence: type, first word, word after the last


@st.composite
def tagged(draw: st.DrawFn) -> tuple[tuple[str, ...], list[list[str]]]:
    """A label set in any order, of any types, and sentences with its labels, some without a word.

    Few types and no preference for O, so that most neighbours say something of each other.
    """
    kinds = draw(st.lists(st.sampled_from(["PER", "LOC", "A-B", "I", "O", "名"]), unique=True))
    tags = [f"{prefix}-{kind}" for kind in kinds for prefix in "BI"]
    chosen = draw(st.sets(st.sampled_from(tags)) | st.just(set(tags))) if tags else set()
    labels = draw(st.permutations(sorted(chosen | draw(st.sampled_from([{"O"}, chosen or {"O"}])))))
    return tuple(labels), draw(st.lists(st.lists(st.sampled_from(labels))))


def flat(labels: tuple[str, ...], sentences: list[list[str]]) -> tuple[Any, Any]:
    ids = [labels.index(tag) for tags in sentences for tag in tags]
    return np.array(ids, np.int32), np.array([len(tags) for tags in sentences], np.int64)


def found(labels: tuple[str, ...], sentences: list[list[str]], strict: bool = False) -> Found:
    """Ours, sentence by sentence, with the positions inside it; in the order they came."""
    ids, lengths = flat(labels, sentences)
    starts = np.cumsum(lengths) - lengths
    out: Found = [[] for _ in sentences]
    types = entity_types(labels)
    for begin, end, kind, sentence in zip(*spans(ids, lengths, labels, strict), strict=True):
        start = starts[sentence]
        out[sentence].append((types[kind], int(begin - start), int(end - start)))
    return out


@settings(max_examples=300)
@given(tagged())
def test_lenient_as_seqeval(case: tuple[tuple[str, ...], list[list[str]]]) -> None:
    labels, sentences = case
    ours = found(labels, sentences)
    assert ours == [[(kind, b, e + 1) for kind, b, e in get_entities(t)] for t in sentences]
    assert ours == [[(kind, b, e) for b, e, kind in entities(tags)] for tags in sentences]


@settings(max_examples=300)
@given(tagged())
def test_strict_as_seqeval(case: tuple[tuple[str, ...], list[list[str]]]) -> None:
    labels, sentences = case
    theirs = [Tokens(tags, IOB2).entities for tags in sentences]
    assert found(labels, sentences, strict=True) == [
        [(entity.tag, entity.start, entity.end) for entity in part] for part in theirs
    ]


@pytest.mark.parametrize(
    ("tags", "lenient", "strict"),
    [
        ("O", "", ""),
        ("B-PER", "PER01", "PER01"),
        ("I-PER", "PER01", ""),
        ("B-PER I-PER", "PER02", "PER02"),
        ("B-PER B-PER", "PER01 PER12", "PER01 PER12"),
        ("O I-PER I-PER B-PER", "PER13 PER34", "PER34"),
        ("B-PER I-LOC", "PER01 LOC12", "PER01"),
        ("B-PER I-LOC I-LOC I-PER", "PER01 LOC13 PER34", "PER01"),
        ("B-PER O I-PER", "PER01 PER23", "PER01"),
        ("B-PER B-LOC I-LOC I-PER", "PER01 LOC13 PER34", "PER01 LOC13"),
    ],
)
def test_by_hand(tags: str, lenient: str, strict: str) -> None:
    for is_strict, expected in ((False, lenient), (True, strict)):
        (ours,) = found(TAGS, [tags.split()], is_strict)
        assert " ".join(f"{kind}{begin}{end}" for kind, begin, end in ours) == expected


@pytest.mark.parametrize("strict", [False, True])
def test_entities_end_with_their_sentence(strict: bool) -> None:
    sentences = [[], ["B-PER"], [], [], ["I-PER", "B-PER"], ["I-PER"], []]
    kinds = [[kind for kind, *_ in part] for part in found(TAGS, sentences, strict)]
    lenient = [[], ["PER"], [], [], ["PER", "PER"], ["PER"], []]
    assert kinds == ([[], ["PER"], [], [], ["PER"], [], []] if strict else lenient)


def test_the_arrays() -> None:
    ids, lengths = flat(TAGS, [["O", "B-LOC"], [], ["I-LOC", "I-LOC", "B-PER"]])
    for strict, begin, end, kind, sentence in (
        (False, [1, 2, 4], [2, 4, 5], [2, 2, 0], [0, 2, 2]),
        (True, [1, 4], [2, 5], [2, 0], [0, 2]),
    ):
        ours = spans(ids, lengths, TAGS, strict)
        assert [list(column) for column in ours] == [begin, end, kind, sentence]
        assert [str(column.dtype) for column in ours] == ["int64", "int64", "int32", "int64"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_whatever_integers(dtype: Any) -> None:
    ids, lengths = flat(TAGS, [["B-PER", "I-PER"], ["O", "I-LOC"]])
    ours = spans(ids.astype(dtype), lengths.astype(dtype), TAGS)
    assert [list(column) for column in ours] == [[0, 3], [2, 4], [0, 2], [0, 1]]


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
@pytest.mark.parametrize("labels", [(), ("O",), TAGS])
def test_no_words(lengths: list[int], labels: tuple[str, ...]) -> None:
    ours = spans(np.zeros(0, np.int32), np.array(lengths, np.int64), labels)
    assert isinstance(ours, Spans) and [len(column) for column in ours] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("labels", "types"),
    [
        (TAGS, ("PER", "ORG", "LOC")),
        (("I-LOC", "B-PER", "O", "B-LOC"), ("LOC", "PER")),
        (("B-A-B", "I-A"), ("A-B", "A")),
        (("O",), ()),
        ((), ()),
    ],
)
def test_entity_types(labels: tuple[str, ...], types: tuple[str, ...]) -> None:
    assert entity_types(labels) == types


@pytest.mark.parametrize("label", ["PER", "S-PER", "B", "I-", "", "o", "-PER", "O-PER", "b-PER"])
def test_a_label_that_is_not_iob2(label: str) -> None:
    for call in (entity_types, lambda labels: spans(np.array([0]), np.array([1]), labels)):
        with pytest.raises(UserError, match=f"label '{label}' is neither O nor"):
            call(["O", label])


def test_wrong_arrays() -> None:
    two = np.array([0, 1])
    for lengths in ([1], [1, 2], []):
        with pytest.raises(ValueError, match="do not sum to the 2 ids"):
            spans(two, np.array(lengths, np.int64), TAGS)
    with pytest.raises(ValueError, match="id -100 is not a label"):
        spans(np.array([0, -100]), np.array([2]), TAGS)
    with pytest.raises(IndexError):
        spans(np.array([0, len(TAGS)]), np.array([2]), TAGS)
