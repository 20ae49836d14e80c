"""Labelled sentences, their entities, and keys that tell whether two of them are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple


class Sentence(NamedTuple):
    words: list[str]
    tags: list[str]  # IOB2: O, or B- or I- and a type, one per word


Corpus = dict[str, list[Sentence]]
"""The sentences of each language, by its code."""


class Entity(NamedTuple):
    begin: int  # its first word
    end: int  # the word after its last
    type: str


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sentence, in order; IOB2, an I- that continues nothing begins one."""
    found: list[Entity] = []
    for i, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if prefix == "O":
            continue
        if prefix == "I" and found and found[-1].end == i and found[-1].type == kind:
            found[-1] = found[-1]._replace(end=i + 1)
        else:
            found.append(Entity(i, i + 1, kind))
    return found


def key(words: Sequence[str]) -> int:
    """64 bits of a sequence of words, the same in every process; equal words, equal keys."""
    # The length of each word is part of it, so that no two sequences run together into one text.
    text = "".join(f"{len(word)} {word}" for word in words)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
