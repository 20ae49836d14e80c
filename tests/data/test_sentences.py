"""Entities as seqeval has them, and keys that are equal where words are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from sparsejax.data.sentences import Entity, entities, key

REPOSITORY = Path(__file__).resolve().parents[2]

TYPE = st.sampled_from(["PER", "LOC", "O", "B", "I", "B-PER", "a-b", "-", "\u4eba"])
IOB2_TAG = st.just("O") | st.tuples(st.sampled_from("BI"), TYPE).map("-".join)


@given(st.lists(IOB2_TAG, max_size=12))
@example(["I-PER", "I-PER", "O", "I-PER", "B-PER", "I-LOC", "I-LOC", "B-LOC", "I-LOC"])
def test_entities(tags: list[str]) -> None:
    """I- tags that continue nothing included; seqeval counts to the last word, not beyond."""
    found = [(kind, begin, end - 1) for begin, end, kind in entities(tags)]
    assert found == get_entities(tags)


def test_entities_by_hand() -> None:
    tags = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-LOC"]
    expected = [Entity(0, 2, "PER"), Entity(3, 4, "LOC"), Entity(4, 6, "LOC")]
    assert entities(tags) == expected
    assert entities(["O", "O"]) == entities([]) == []


# ---- keys


WORDS = st.lists(st.text(st.characters(codec=None)), max_size=5)


@given(WORDS, WORDS)
def test_keys_are_equal_where_words_are(a: list[str], b: list[str]) -> None:
    assert (key(a) == key(b)) == (a == b)
    assert key(tuple(a)) == key(a)
    assert 0 <= key(a) < 2**64


@given(WORDS, st.data())
def test_where_a_word_ends_matters(words: list[str], data: st.DataObject) -> None:
    """The same text, cut into words elsewhere."""
    text = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    other = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert (key(other) == key(words)) == (other == words)


def test_words_that_look_alike() -> None:
    lists = [
        [],
        [""],
        ["", ""],
        ["a", "b"],
        ["ab"],
        ["a b"],
        ["a1 b"],  # as the lengths of words might be written
        ["a", "1 b"],
        ["1 a1 b"],
        ["b", "a"],
        ["a", "b", ""],
        ["A", "b"],
        ["e\u0301"],
        ["\u00e9"],
        ["\ud800"],
        ["\udfff"],
        ["\ufffd"],
        ["?"],
        ["a\0"],
        ["\U0001f600"],
        ["\ud83d\ude00"],
        ["a" * 10_000],
        ["a" * 10_001],
        ["a"] * 10_000,
    ]
    assert len({key(words) for words in lists}) == len(lists)


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_keys_are_the_same_in_every_process(hash_seed: str) -> None:
    words = ["Ada", "\u00e9\u4eba\U0001f600", ""]
    script = f"from sparsejax.data.sentences import key; print(key({words!a}))"
    output = subprocess.check_output(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        text=True,
    )
    # Runs keep keys of what they were trained on, so those of earlier ones must stay.
    assert int(output) == key(words) == 16563648222343860715


def test_keys_hardly_ever_collide() -> None:
    keys = {key([str(i)]) for i in range(20_000)}
    assert len(keys) == 20_000
    for bit in range(64):
        assert abs(sum(k >> bit & 1 for k in keys) - 10_000) < 354  # five deviations
