"""Sentences written down: for `readers.Reader`, and for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sparsejax.data.readers import DOCUMENT
from sparsejax.data.sentences import Sentence, entities
from sparsejax.files import write_whole

_FOREIGN = re.compile("[\0\t\n\ud800-\udfff]")


def write_tsv(path: Path, sentences: Iterable[Sentence]) -> None:
    """Writes `token<TAB>tag` lines, a blank line between sentences; the file appears whole.

    Raises:
      ValueError: names the sentence and what it holds that the format cannot: no word at all, an
        empty word or tag, -DOCSTART-, one with NUL, a tab, a line feed or half a surrogate pair,
        words and tags of different number.
      OSError: the file cannot be written.
    """
    text = "\n".join(_lines(number, *sentence) for number, sentence in enumerate(sentences, 1))
    if text.startswith("\ufeff"):
        text = "\ufeff" + text  # readers take the first for a byte order mark
    write_whole(path, text.encode())


def _lines(number: int, words: list[str], tags: list[str]) -> str:
    if not words or len(words) != len(tags):
        raise ValueError(f"sentence {number}: {len(words)} words and {len(tags)} tags")
    for text in (*words, *tags):
        if not text or _FOREIGN.search(text) or text == DOCUMENT:
            raise ValueError(f"sentence {number}: {text!r} cannot stand in a line of the format")
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))


def side_by_side(original: Sequence[Sentence], perturbed: Sequence[Sentence]) -> Iterator[str]:
    """Lines that show each changed sentence as it was and as it is, entities in brackets.

    The number before a sentence is its place among all of them, from 1.
    """
    for number, (before, after) in enumerate(zip(original, perturbed, strict=True), 1):
        if before != after:
            yield f"{number:>6}  {_marked(before)}"
            yield f"{'':>6}  {_marked(after)}"
            yield ""


def _marked(sentence: Sentence) -> str:
    words = list(sentence.words)
    for entity in entities(sentence.tags):
        words[entity.begin] = f"[{entity.type} {words[entity.begin]}"
        words[entity.end - 1] += "]"
    return " ".join(words)
