"""Whatever scheme tags are written in, they become the entities that seqeval reads in them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import scheme as strict
from seqeval.metrics.sequence_labeling import get_entities

from sparsejax.data.tags import Scheme, label_set
from sparsejax.errors import UserError

Span = tuple[str, int, int]  # type, first word, last word

TYPES = st.sampled_from(["PER", "ORG", "LOC", "event-award", "B"])


def test_label_set() -> None:
    assert label_set([]) == ("O",)
    wikiann = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
    assert label_set({"LOC", "PER", "ORG"}) == wikiann
    assert label_set(["DATE", "LOC", "ART", "LOC", "DATE"]) == (
        *("O", "B-LOC", "I-LOC", "B-ART", "I-ART", "B-DATE", "I-DATE"),
    )


def convert(scheme: Scheme, *sentences: list[str]) -> list[list[str]]:
    """All sentences; the place of a tag is its sentence and its index."""
    return [
        scheme.convert(tags, lambda i, number=number: f"{number}.{i}")
        for number, tags in enumerate(sentences)
    ]


def user_error(*sentences: list[str]) -> str:
    with pytest.raises(UserError) as raised:
        convert(Scheme(), *sentences)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@st.composite
def spans(draw: st.DrawFn) -> tuple[int, list[Span]]:
    """A sentence's length and its entities, many of them neighbours."""
    found, length = [], 0
    for gap, words, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), TYPES), max_size=6)
    ):
        found.append((kind, length + gap, length + gap + words - 1))
        length += gap + words
    return length + draw(st.integers(0, 2)), found


def encode(length: int, entities: list[Span], name: str) -> list[str]:
    """The tags of these entities in a scheme, from the definition of it."""
    tags = ["O"] * length
    for kind, first, last in entities:
        for i in range(first, last + 1):
            tags[i] = f"I-{kind}"
        if name == "BIOES":
            tags[first], tags[last] = f"B-{kind}", f"E-{kind}"
        elif name == "BILOU":
            tags[first], tags[last] = f"B-{kind}", f"L-{kind}"
        elif name == "IOB2" or any(k == kind and end == first - 1 for k, _, end in entities):
            tags[first] = f"B-{kind}"
        if first == last and name in ("BIOES", "BILOU"):
            tags[first] = f"{'S' if name == 'BIOES' else 'U'}-{kind}"
    return tags


STRICT = {
    "IOB1": strict.IOB1,
    "IOB2": strict.IOB2,
    "BIOES": strict.IOBES,
    "BILOU": strict.BILOU,
}


@pytest.mark.parametrize("name", STRICT)
@given(sentences=st.lists(spans(), max_size=4))
def test_valid_tags(name: str, sentences: list[tuple[int, list[Span]]]) -> None:
    tags = [encode(*sentence, name) for sentence in sentences]
    expected = [encode(*sentence, "IOB2") for sentence in sentences]
    scheme = Scheme()
    found = convert(scheme, *tags)
    assert found == expected
    assert scheme.repaired == 0
    assert scheme.scheme == (name if tags != expected else "IOB2")
    read = strict.Entities(tags, STRICT[name]).entities
    assert [[(e.tag, e.start, e.end - 1) for e in sentence] for sentence in read] == [
        get_entities(sentence) for sentence in found
    ]


def tags_of(prefixes: str) -> Any:
    tag = st.builds("{}-{}".format, st.sampled_from(prefixes), st.sampled_from(["PER", "LOC"]))
    return st.lists(st.lists(tag | st.just("O"), max_size=8), max_size=4)


@given(tags_of("BI"))
def test_any_order_of_tags(sentences: list[list[str]]) -> None:
    scheme = Scheme()
    found = convert(scheme, *sentences)
    entities = [get_entities(tags) for tags in sentences]
    again = {
        name: [encode(len(t), e, name) for t, e in zip(sentences, entities, strict=True)]
        for name in ("IOB1", "IOB2")
    }
    assert found == again["IOB2"]
    changed = [
        (old, new)
        for tags in zip(sentences, found, strict=True)
        for old, new in zip(*tags, strict=True)
        if old != new
    ]
    assert all(old.startswith("I-") for old, _ in changed)
    if sentences == again["IOB1"] != again["IOB2"]:
        assert (scheme.scheme, scheme.repaired) == ("IOB1", 0)
    else:
        assert (scheme.scheme, scheme.repaired) == ("IOB2", len(changed))


@given(tags_of("BIES") | tags_of("BILU") | tags_of("BIESLU") | tags_of("ES") | tags_of("LU"))
def test_any_order_of_tags_with_endings(sentences: list[list[str]]) -> None:
    """A mixture is an error in the first sentence that makes it one; else seqeval agrees."""
    scheme = Scheme()
    seen: set[str] = set()
    repaired = 0
    for tags in sentences:
        as_bioes = [tag.translate({ord("L"): "E", ord("U"): "S"})[:2] + tag[2:] for tag in tags]
        entities = get_entities(as_bioes)
        seen |= {"BIOES" for tag in tags if tag[0] in "ES"}
        seen |= {"BILOU" for tag in tags if tag[0] in "LU"}
        seen |= {"IOB2" for _, _, last in entities if tags[last][0] in "BI"}
        if len(seen) > 1:
            with pytest.raises(UserError, match="^here: tag schemes are mixed: "):
                scheme.convert(tags, lambda _: "here")
            return
        found = scheme.convert(tags, lambda _: "here")
        assert found == encode(len(tags), entities, "IOB2")
        repaired += sum(tags[first][0] in "IEL" for _, first, _ in entities)
        if seen & {"BIOES", "BILOU"}:
            assert {scheme.scheme} == seen
            assert scheme.repaired == repaired


def test_the_scheme_may_show_late() -> None:
    scheme = Scheme()
    convert(scheme, ["O"], ["O", "I-PER", "I-PER"], ["I-LOC", "B-LOC"])
    assert (scheme.scheme, scheme.repaired) == ("IOB1", 0)
    convert(scheme, ["O", "B-PER"])
    assert (scheme.scheme, scheme.repaired) == ("IOB2", 2)


END = "; write all in one"


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (
            [["S-LOC", "O"], ["B-PER", "I-PER", "O"]],
            "1.1: tag schemes are mixed: 'I-PER' ends an entity as in IOB2, "
            "but 0.0 has 'S-LOC', which is of BIOES",
        ),
        (
            [["B-PER"], ["O"], ["O", "B-PER", "L-PER"]],
            "2.2: tag schemes are mixed: 'L-PER' is of BILOU, "
            "but 0.0 has 'B-PER', which ends an entity as in IOB2",
        ),
        (
            [["U-PER"], ["O", "S-PER"]],
            "1.1: tag schemes are mixed: 'S-PER' is of BIOES, "
            "but 0.0 has 'U-PER', which is of BILOU",
        ),
        (
            [["B-PER", "E-LOC"]],
            "0.1: tag schemes are mixed: 'E-LOC' is of BIOES, "
            "but 0.0 has 'B-PER', which ends an entity as in IOB2",
        ),
        (
            [["E-PER", "I-PER"]],
            "0.1: tag schemes are mixed: 'I-PER' ends an entity as in IOB2, "
            "but 0.0 has 'E-PER', which is of BIOES",
        ),
        (
            [["U-PER"], ["I-PER", "B-PER", "L-PER"]],
            "1.0: tag schemes are mixed: 'I-PER' ends an entity as in IOB2, "
            "but 0.0 has 'U-PER', which is of BILOU",
        ),
    ],
)
def test_mixtures(sentences: list[list[str]], message: str) -> None:
    assert user_error(*sentences) == message + END


@pytest.mark.parametrize(
    "tag",
    [
        *("", "o", "0", "B", "B-", "-", "-PER", "O-", "O-PER", "b-PER", "M-PER", "BI-PER", "PER"),
        *("PER-B", "B_PER", "B PER", "B-PER ", " B-PER", "B- PER", "B-A B", "B-\xa0", "I-\u2028"),
        "B-\tPER",
    ],
)
def test_malformed_tags(tag: str) -> None:
    expected = f"1.1: {tag!r} is not a tag (O, B-PER, I-PER, ...)"
    assert user_error(["O"], ["B-PER", tag]) == expected


def test_long_values_are_cut() -> None:
    assert len(user_error(["x" * 10_000])) < 120
    assert len(user_error([f"S-{'x' * 10_000}"], [f"B-{'y' * 10_000}"])) < 300


@given(st.text() | st.from_regex(r"[BIESLUOM]-?\w?\s?\w?", fullmatch=True))
def test_any_text_as_a_tag(tag: str) -> None:
    if tag == "O" or re.fullmatch(r"[BIESLU]-\S+", tag):
        (found,) = convert(Scheme(), [tag])
        assert found == ["O" if tag == "O" else "B" + tag[1:]]
    else:
        assert user_error([tag]).startswith("0.0: ")
