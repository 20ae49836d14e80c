"""The rates of disagreement against counting by hand and by seqeval's sets of entities."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from wikiann import TAGS

from sparsejax.config import DataConfig
from sparsejax.data import preparation, sources
from sparsejax.data.seen import Seen
from sparsejax.data.sentences import Sentence, entities, key
from sparsejax.ner import disagreement
from sparsejax.ner.tagging import Tagged

WORD = st.tuples(st.sampled_from("abc"), *[st.sampled_from(TAGS)] * 3)
CORPUS = st.lists(st.lists(WORD, min_size=1, max_size=5), min_size=1, max_size=6)


def iob2(tags: list[str]) -> list[str]:
    new = ["O"] * len(tags)
    for begin, end, kind in entities(tags):
        new[begin:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - begin - 1)]
    return new


@settings(max_examples=60)
@given(CORPUS, st.sets(st.sampled_from(["a", "b", "c", "ab"])))
def test_any_two_taggers(letters: Any, corpus: list[Any], names: set[str]) -> None:
    sentences = [Sentence([w for w, *_ in s], iob2([g for _, g, _, _ in s])) for s in corpus]
    parts: dict[str, sources.Part] = {"en": sources.ListPart("en", sentences)}
    prepared = preparation.prepare(parts, letters, DataConfig(length=16), None, remember=False)
    gold = preparation.relabelled(prepared, TAGS)["en"]
    sides = [[[row[i] for row in s] for s in corpus] for i in (2, 3)]
    tagged = [
        Tagged(np.array([TAGS.index(t) for tags in side for t in tags], np.int32), np.ones(1))
        for side in sides
    ]
    seen = Seen(np.empty(0, np.uint64), np.sort(np.array([key([*n]) for n in names], np.uint64)))
    found = disagreement.rates(gold, *tagged, TAGS, seen)

    count = dict.fromkeys(("differ", "only_first_right", "only_second_right", "both_wrong"), 0)
    apart = {new: dict.fromkeys(("entities", "lost", "gained"), 0) for new in (False, True)}
    unseen_in: dict[int, int] = {}
    for number, (sentence, a, b) in enumerate(zip(sentences, *sides, strict=True)):
        right = (a == sentence.tags, b == sentence.tags)
        count["differ"] += a != b
        count["only_first_right"] += right == (True, False)
        count["only_second_right"] += right == (False, True)
        count["both_wrong"] += a != b and right == (False, False)
        hits = [set(get_entities(tags)) for tags in (a, b)]
        for entity in get_entities(sentence.tags):
            new = "".join(sentence.words[entity[1] : entity[2] + 1]) not in names
            in_a, in_b = (entity in hit for hit in hits)
            apart[new]["entities"] += 1
            apart[new]["lost"] += in_a and not in_b
            apart[new]["gained"] += in_b and not in_a
            unseen_in[number] = unseen_in.get(number, 0) + new
    every = {name: apart[False][name] + apart[True][name] for name in apart[True]}
    assert found == {"sentences": len(corpus)} | count | every | {"unseen": apart[True]}
    assert disagreement.total({"a": found, "b": found})["unseen"]["lost"] == 2 * apart[True]["lost"]

    listed = list(disagreement.sentences(sentences, gold, *tagged, TAGS, seen))
    assert listed == [
        {
            "sentence": number,
            "words": sentence.words,
            "gold": sentence.tags,
            "first": a,
            "second": b,
            "unseen_entities": unseen_in.get(number, 0),
        }
        for number, (sentence, a, b) in enumerate(zip(sentences, *sides, strict=True))
        if a != b
    ]
