"""One slip of the pen in an entity: two neighbouring characters swapped, one dropped, one repeated.

A character is a unit that readers see as one: an extended grapheme cluster (Unicode Standard
Annex 29) and the marks after it. The annex sets some vowel signs apart (Burmese aa, for one), which
nobody writes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import regex

from sparsejax.data.sentences import Sentence, entities

Draw = Callable[[int], int]
"""A random integer from 0 to below its argument."""

_CHARACTER = regex.compile(r"\X\p{M}*")


def characters(word: str) -> list[str]:
    """The parts of a word that no edit takes apart."""
    return _CHARACTER.findall(word)


def split_into_characters(sentences: Iterable[Sentence]) -> bool:
    """Whether a word of an entity is mostly one character, as in WikiAnn's Chinese and Japanese."""
    words = single = 0
    for sentence in sentences:
        for entity in entities(sentence.tags):
            for word in sentence.words[entity.begin : entity.end]:
                words += 1
                single += _CHARACTER.fullmatch(word) is not None
    return 2 * single > words


def edit(words: Sequence[str], by_word: bool, draw: Draw) -> list[str] | None:
    """Edits one letter of an entity.

    Every possible edit is as likely as any other. Only letters are edited (characters that begin
    with one), so digits and punctuation stay. No edit changes nothing, leaves a word without a
    character, or lets characters run together into one, as a consonant and the bare one before it.

    Args:
      words: of the entity.
      by_word: its words are characters, and edited as such; one of several may be dropped.
      draw: chooses.

    Returns:
      The new words; None where no edit is possible.
    """
    rows = [list(words)] if by_word else [characters(word) for word in words]
    edits = [(row, *change) for row, units in enumerate(rows) for change in _changes(units)]
    while edits:
        row, begin, end, new = edits.pop(draw(len(edits)))
        units = [*rows[row][:begin], *new, *rows[row][end:]]
        if by_word:
            return units
        word = "".join(units)
        if characters(word) == units:
            return [*words[:row], word, *words[row + 1 :]]
    return None


def _changes(units: list[str]) -> Iterator[tuple[int, int, list[str]]]:
    """What the units from a place to before another may be replaced with."""
    for i, unit in enumerate(units):
        if not unit[:1].isalpha():
            continue
        yield i, i + 1, [unit, unit]
        if len(units) > 1:
            yield i, i + 1, []
        after = units[i + 1 : i + 2]
        if after and after[0][:1].isalpha() and after[0] != unit:
            yield i, i + 2, [after[0], unit]
