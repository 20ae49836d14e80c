"""Tests of the embedded corpus: fixed, well-formed, and more than a lookup."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
import unicodedata
from importlib import resources

import pytest

from sparsejax.data import embedded

TAGS = {"O"} | {f"{prefix}-{kind}" for prefix in "BI" for kind in ("PER", "ORG", "LOC")}
SPLITS = ("train", "dev", "test")

# The corpus is part of every result obtained with it: change this only with a note to users.
DIGEST = "c472b0e00e2b07cf86fc56bd3551389f4e56ee6471a7367b9ed4e668cbbd90d0"
PRINT_DIGEST = """
import hashlib, json
from sparsejax.data.embedded import TRAIN_SENTENCES, generate
corpus = [generate(c, s) for c in TRAIN_SENTENCES for s in ("train", "dev", "test")]
print(hashlib.sha256(json.dumps(corpus).encode()).hexdigest())
"""


def entities(sentences: list[embedded.Sentence]) -> list[tuple[str, str]]:
    """The (type, surface form) of every entity."""
    found: list[tuple[str, str]] = []
    for tokens, tags in sentences:
        for token, tag in zip(tokens, tags, strict=True):
            if tag.startswith("B-"):
                found.append((tag[2:], token))
            elif tag.startswith("I-"):
                found[-1] = (tag[2:], f"{found[-1][1]} {token}")
    return found


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_is_the_same_in_every_process(hash_seed: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PRINT_DIGEST],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == DIGEST


def test_result_belongs_to_the_caller() -> None:
    embedded.generate("yo", "dev")[0][0].append("changed")
    assert embedded.generate("yo", "dev")[0][0][-1] != "changed"


def test_one_file_per_language() -> None:
    files = {file.name for file in resources.files(embedded).iterdir()}
    assert {name for name in files if name.endswith(".txt")} == {
        f"{language}.txt" for language in embedded.TRAIN_SENTENCES
    }


@pytest.mark.parametrize("language", embedded.TRAIN_SENTENCES)
def test_sizes_and_tags(language: str) -> None:
    splits = {split: embedded.generate(language, split) for split in SPLITS}
    assert {split: len(sentences) for split, sentences in splits.items()} == {
        "train": embedded.TRAIN_SENTENCES[language],
        "dev": embedded.DEV_SENTENCES,
        "test": embedded.TEST_SENTENCES,
    }
    for tokens, tags in (sentence for split in splits.values() for sentence in split):
        assert len(tokens) == len(tags) >= 1
        assert set(tags) <= TAGS
        # An empty token, or one with whitespace inside, would not survive this.
        assert " ".join(tokens).split() == tokens
        assert not any("{" in token or "}" in token for token in tokens)
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before in (f"B-{tag[2:]}", tag)


@pytest.mark.parametrize("language", embedded.TRAIN_SENTENCES)
def test_no_sentence_is_repeated(language: str) -> None:
    drawn = [tuple(tokens) for split in SPLITS for tokens, _ in embedded.generate(language, split)]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("language", embedded.TRAIN_SENTENCES)
def test_is_no_lookup(language: str) -> None:
    train = entities(embedded.generate(language, "train"))
    test = entities(embedded.generate(language, "test"))
    seen_names = {name for _, name in train}
    assert sum(name not in seen_names for _, name in test) >= 0.4 * len(test)
    types = collections.defaultdict(set)
    for kind, name in train:
        types[name].add(kind)
    assert sum(len(kinds) > 1 for kinds in types.values()) >= 5


@pytest.mark.parametrize("language", embedded.TRAIN_SENTENCES)
def test_held_out_names_stay_out_of_training(language: str) -> None:
    sections = embedded._read(language)
    visible = embedded._without_held_out(language, sections)
    for name in ("given", "family", "place"):
        kept_out = set(sections[name]) - set(visible[name])
        assert 0.2 <= len(kept_out) / len(sections[name]) <= 0.5
        if language == "zh":  # names are no tokens there
            continue
        for split, expected in (("train", False), ("dev", True), ("test", True)):
            tokens = {token for words, _ in embedded.generate(language, split) for token in words}
            assert bool(kept_out & tokens) == expected


def test_covers_six_scripts() -> None:
    scripts = {
        unicodedata.name(token[0]).split()[0]
        for language in embedded.TRAIN_SENTENCES
        for tokens, _ in embedded.generate(language, "dev")
        for token in tokens
        if token[0].isalpha()
    }
    assert scripts >= {"LATIN", "CYRILLIC", "ARABIC", "DEVANAGARI", "CJK", "GREEK"}


@pytest.mark.parametrize(
    ("language", "split", "message"),
    [("fr", "train", "'fr', only en, de"), ("en", "validation", "'validation', only train, dev")],
)
def test_unknown_language_or_split(language: str, split: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        embedded.generate(language, split)
    assert "\n" not in str(error.value)
