"""The rows of an evaluation against seqeval, run on lists of tags, and against plain means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as lenient
from seqeval.metrics.v1 import precision_recall_fscore_support as strict
from seqeval.scheme import IOB2
from wikiann import TAGS

from sparsejax.config import DataConfig
from sparsejax.data import languages, preparation, sources
from sparsejax.data.seen import Seen
from sparsejax.data.sentences import Sentence, key
from sparsejax.ner import evaluation
from sparsejax.ner.tagging import Tagged

CODES = ("en", "de", "sw", "xx")  # xx is in no table
NAMES = ("precision", "recall", "f1")
TAG = st.sampled_from(TAGS)
SENTENCE = st.lists(st.tuples(TAG, TAG), min_size=1, max_size=8)
CORPUS = st.fixed_dictionaries(
    {code: st.lists(SENTENCE, min_size=1, max_size=5) for code in CODES[:2]},
    optional={code: st.lists(SENTENCE, min_size=1, max_size=5) for code in CODES[2:]},
)


def iob2(tags: list[str]) -> list[str]:
    """What a reader makes of these tags: an I- that continues nothing is a B-."""
    before = ["O", *tags]
    return [
        f"B{tag[1:]}" if tag[0] == "I" and before[i][1:] != tag[1:] else tag
        for i, tag in enumerate(tags)
    ]


def evaluated(
    letters: Any, corpus: dict[str, Any], clean: dict[str, np.ndarray] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Rows, gold tags and predicted tags."""
    gold = {code: [iob2([g for g, _ in s]) for s in part] for code, part in corpus.items()}
    guess = {code: [[p for _, p in s] for s in part] for code, part in corpus.items()}
    parts: dict[str, sources.Part] = {
        code: sources.ListPart(code, [Sentence(["a"] * len(tags), tags) for tags in part])
        for code, part in gold.items()
    }
    data = DataConfig(length=16, processes=1)
    prepared = preparation.prepare(parts, letters, data, None, remember=False)
    prepared = preparation.relabelled(prepared, TAGS)
    tagged = {}
    for code, part in guess.items():
        ids = np.array([TAGS.index(tag) for tags in part for tag in tags], np.int32)
        tagged[code] = Tagged(ids, np.full(len(ids), 0.8, np.float32))
    if clean is None:
        clean = {code: np.ones(len(part), bool) for code, part in gold.items()}
    rows = evaluation.evaluate(prepared, tagged, TAGS, languages.table(None), clean)
    return rows, gold, guess


def expected(gold: Any, guess: Any, of: Any = lenient, **options: Any) -> list[Any]:
    values = of(gold, guess, average="micro", zero_division=0, **options)
    p, r, f, support = (float(value) for value in values)
    return [p, r, f, support] if support else [p, None, None, 0]


def values(row: dict[str, Any]) -> list[Any]:
    return [row[name] for name in (*NAMES, "support")]


@settings(max_examples=60)
@given(CORPUS)
def test_as_seqeval(letters: Any, corpus: dict[str, Any]) -> None:
    rows, gold, guess = evaluated(letters, corpus)
    found = {row["language"]: row for row in rows if row["kind"] == "scores"}
    assert list(found) == [*corpus, "macro", "micro"]
    pooled = [[tags for part in side.values() for tags in part] for side in (gold, guess)]
    sides = {code: (gold[code], guess[code]) for code in corpus}
    for code, (g, p) in [*sides.items(), ("micro", pooled)]:
        row = found[code]
        assert values(row) == values(row["clean"]) == expected(g, p)
        assert values(row["strict"]) == expected(g, p, strict, mode="strict", scheme=IOB2)
        for kind, part in row["types"].items():
            only = [
                [[t if t.endswith(kind) else "O" for t in tags] for tags in side] for side in (g, p)
            ]
            assert values(part) == expected(*only)
        right = [a == b for x, y in zip(g, p, strict=True) for a, b in zip(x, y, strict=True)]
        error = abs(np.float32(0.8) - sum(right) / len(right))
        assert row["calibration_error"] == pytest.approx(error, abs=1e-6)
        assert row["sentences"] == row["clean_sentences"] == len(g)
    scored = [found[code] for code in corpus if found[code]["support"]]
    for name in NAMES:
        for part in (lambda row: row, lambda row: row["strict"], lambda row: row["types"]["LOC"]):
            counted = [part(found[c])[name] for c in corpus if part(found[c])["support"]]
            mean = math.fsum(counted) / len(counted) if counted else None
            assert part(found["macro"])[name] == mean
    if scored:
        assert found["macro"]["worst"] == min(scored, key=lambda row: row["f1"])["language"]
    else:
        assert found["macro"]["worst"] is None


B, O = ("B-PER", "B-PER"), ("O", "O")  # noqa: E741
MISSED = ("B-PER", "O")


def test_groups(letters: Any) -> None:
    corpus = {"en": [[B]], "de": [[MISSED]], "sw": [[B], [MISSED]], "xx": [[B]], "ru": [[O]]}
    rows, _, _ = evaluated(letters, corpus)
    groups = {(row["by"], row["group"]): row for row in rows if row["kind"] == "group"}
    assert {name: (row["members"], row["f1"]) for name, row in groups.items()} == {
        ("resource", "over 15,000"): (["en", "de", "ru"], 0.5),  # ru has no entity to find
        ("resource", "101 to 5,000"): (["sw"], 2 / 3),
        ("resource", "unknown"): (["xx"], 1.0),
        ("script", "Latn"): (["en", "de", "sw"], (1 + 0 + 2 / 3) / 3),
        ("script", "Cyrl"): (["ru"], None),
        ("script", "unknown"): (["xx"], 1.0),
        ("family", "Indo-European"): (["en", "de", "ru"], 0.5),
        ("family", "Niger-Congo"): (["sw"], 2 / 3),
        ("family", "unknown"): (["xx"], 1.0),
    }
    assert groups["family", "Indo-European"]["languages"] == 2


def test_clean_sentences_only(letters: Any) -> None:
    clean = {"en": np.array([True, False]), "de": np.array([False])}
    rows, _, _ = evaluated(letters, {"en": [[B], [MISSED]], "de": [[B]]}, clean)
    found = {row["language"]: row for row in rows if row["kind"] == "scores"}
    assert values(found["en"]["clean"]) == [1.0, 1.0, 1.0, 1]
    assert found["en"]["clean_sentences"] == 1 and found["en"]["sentences"] == 2
    assert values(found["de"]["clean"]) == [0.0, None, None, 0]
    assert found["macro"]["clean"]["f1"] == 1.0 and found["macro"]["clean"]["languages"] == 1


def test_what_is_clean(letters: Any) -> None:
    part = [Sentence(["a", "b"], ["O", "O"]), Sentence(["ab"], ["O"]), Sentence(["a"], ["B-PER"])]
    parts: dict[str, sources.Part] = {"en": sources.ListPart("en", part)}
    data = DataConfig(length=16)
    prepared = preparation.prepare(parts, letters, data, None, remember=False)
    keys = np.unique(np.array([key(["a", "b"]), key(["c"])], np.uint64))
    known = Seen(keys, np.array([key(["a"])], np.uint64))  # an entity is no sentence
    assert evaluation.is_clean(prepared, known)["en"].tolist() == [False, True, True]


def test_on_some_sentences(letters: Any) -> None:
    parts: dict[str, sources.Part] = {
        code: sources.ListPart(code, [Sentence(["a"], ["B-PER"]), Sentence(["b"], ["B-PER"])])
        for code in ("en", "de")
    }
    prepared = preparation.prepare(parts, letters, DataConfig(length=16), None, remember=False)
    labels = prepared["en"].labels
    confidence = np.ones(2, np.float32)
    tagged = {
        "en": Tagged(np.array([1, 0], np.int32), confidence),
        "de": Tagged(np.array([0, 0], np.int32), confidence),
    }
    where = {"en": np.array([True, False]), "de": np.array([True, True])}
    rows = evaluation.on(prepared, tagged, labels, where)
    assert {code: (row["f1"], row["support"]) for code, row in rows.items()} == {
        "en": (1.0, 1), "de": (0.0, 2), "macro": (0.5, 3), "micro": (0.5, 3),
    }  # fmt: skip
