"""The embedded corpus: named entities in twelve languages, made here, no download needed.

Every sentence is expanded from the text file of its language, ``<code>.txt``, by a generator with a
fixed seed, so the corpus is the same in every process and on every machine. Train sizes copy the
imbalance of WikiAnn (Pan et al. 2017); the text and the names were written for this project.

The files consist of sections, ``[name]`` on a line of its own; ``#`` starts a comment line.

* ``[PER]``, ``[ORG]``, ``[LOC]``: one pattern of such an entity per line, e.g. ``{family} & Sons``.
* ``[sentences]``: one template per line. ``{PER}`` is a person made from any pattern,
  ``{PER=family}`` one made of the family name alone, ``{ANY}`` an entity of a random type; ``ORG``
  and ``LOC`` likewise. A line that occurs twice is drawn twice as often.
* every other section is a list of entries separated by commas, used as ``{name}`` in patterns and
  templates. ``{birth}``, ``{year}``, ``{day}`` and ``{number}`` need no list.

Of the lists of names (those called given..., family..., place...) a third is kept out of the
training split: a model has to recognise names that it never saw from their context.

Text is written tokenized, with spaces between tokens. Chinese is split into characters instead,
as in WikiAnn; Latin words and numbers stay whole.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from importlib import resources

TRAIN_SENTENCES: dict[str, int] = {
    "en": 2000, "de": 2000, "es": 2000, "ru": 2000,
    "ar": 500, "hi": 500, "zh": 500, "el": 500,
    "sw": 100, "yo": 100, "jv": 100, "mr": 100,
}  # fmt: skip
DEV_SENTENCES = 100
TEST_SENTENCES = 200

Sentence = tuple[list[str], list[str]]

_SPLITS = ("train", "dev", "test")
_TYPES = ("PER", "ORG", "LOC")
_LINE_SECTIONS = (*_TYPES, "sentences")
_NAME_SECTIONS = ("given", "family", "place")
_HELD_OUT = 0.35

_ENTITY = re.compile(r"(\{(?:PER|ORG|LOC|ANY)(?:=\w+)?\})")
_SLOT = re.compile(r"\{(\w+)\}")
_CHINESE_TOKEN = re.compile(r"[A-Za-z0-9]+|\S")


def generate(language: str, split: str) -> list[Sentence]:
    """One split of the embedded corpus.

    Args:
      language: a key of ``TRAIN_SENTENCES``.
      split: ``train``, ``dev`` or ``test``; they share no sentence.

    Returns:
      ``(tokens, tags)`` per sentence, two lists of equal length >= 1. Tags are IOB2: ``O``, or
      ``B-``/``I-`` and ``PER``, ``ORG`` or ``LOC``.

    Raises:
      ValueError: unknown language or split.
    """
    if language not in TRAIN_SENTENCES:
        raise ValueError(
            f"the embedded corpus has no language {language!r}, only {', '.join(TRAIN_SENTENCES)}"
        )
    if split not in _SPLITS:
        raise ValueError(f"no split {split!r}, only {', '.join(_SPLITS)}")
    # Copied, because the lists are the caller's to change and the cached ones are not.
    return [(list(tokens), list(tags)) for tokens, tags in _expand(language)[split]]


@functools.cache
def _expand(language: str) -> dict[str, list[Sentence]]:
    """All splits of a language; each needs the earlier ones to avoid their sentences."""
    sections = _read(language)
    sizes = (TRAIN_SENTENCES[language], DEV_SENTENCES, TEST_SENTENCES)
    seen: set[tuple[str, ...]] = set()
    corpus: dict[str, list[Sentence]] = {}
    for split, size in zip(_SPLITS, sizes, strict=True):
        rng = random.Random(f"{language}/{split}")
        usable = _without_held_out(language, sections) if split == "train" else sections
        corpus[split] = []
        while len(corpus[split]) < size:
            tokens, tags = _draw(language, usable, rng)
            if tuple(tokens) not in seen:
                seen.add(tuple(tokens))
                corpus[split].append((tokens, tags))
    return corpus


def _read(language: str) -> dict[str, list[str]]:
    """The sections of a language's file, each a list of lines or of comma-separated entries."""
    sections = {
        "birth": [str(year) for year in range(1850, 1940)],
        "year": [str(year) for year in range(1940, 2025)],
        "day": [str(day) for day in range(1, 32)],
        "number": [str(number) for number in range(2, 100)],
    }
    text = resources.files(__name__).joinpath(f"{language}.txt").read_text(encoding="utf-8")
    name = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        if line.startswith("["):
            name = line.strip("[]")
            sections[name] = []
        elif name in _LINE_SECTIONS:
            sections[name].append(line)
        else:
            sections[name] += [entry.strip() for entry in line.split(",") if entry.strip()]
    return sections


def _without_held_out(language: str, sections: dict[str, list[str]]) -> dict[str, list[str]]:
    """The sections with only the names that training may see.

    A name decides by itself, so it is held out of all lists that contain it (Lincoln the town and
    Lincoln the person), and adding one to a list moves no other.
    """
    return {
        section: [
            entry
            for entry in entries
            if not section.startswith(_NAME_SECTIONS)
            or random.Random(f"{language}/{entry}").random() >= _HELD_OUT
        ]
        for section, entries in sections.items()
    }


def _draw(language: str, sections: dict[str, list[str]], rng: random.Random) -> Sentence:
    """One random sentence and its tags."""
    tokens: list[str] = []
    tags: list[str] = []
    for part in _ENTITY.split(_pick(sections["sentences"], rng)):
        if _ENTITY.fullmatch(part):
            kind, _, name = part.strip("{}").partition("=")
            kind = _pick(_TYPES, rng) if kind == "ANY" else kind
            pattern = f"{{{name}}}" if name else _pick(sections[kind], rng)
            words = _words(language, pattern, sections, rng)
            tags += [f"{'I' if index else 'B'}-{kind}" for index in range(len(words))]
        else:
            words = _words(language, part, sections, rng)
            tags += ["O"] * len(words)
        tokens += words
    return tokens, tags


def _words(
    language: str, text: str, sections: dict[str, list[str]], rng: random.Random
) -> list[str]:
    """The tokens of a pattern or a piece of a template, its slots filled."""
    filled = _SLOT.sub(lambda slot: _pick(sections[slot[1]], rng), text)
    return _CHINESE_TOKEN.findall(filled) if language == "zh" else filled.split()


def _pick(options: Sequence[str], rng: random.Random) -> str:
    """A random option; only ``Random.random`` is promised to be stable across Python versions."""
    return options[int(rng.random() * len(options))]
