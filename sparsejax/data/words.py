"""Text to words, as WikiAnn's sentences are split: one rule for all scripts, and no dictionary.

1. White space separates words, and so does a zero width space.
2. A character of a script that is written without spaces (Chinese and Japanese ones, Thai, Lao,
   Khmer) is a word, with the marks on it; so is every letter and digit that touches one.
3. Other letters, digits and marks in a row are one word. A hyphen, an apostrophe, a full stop, a
   colon or a middle dot between two of them is part of it, and so is a comma between two digits.
4. 's at the end is a word of its own.
5. A full stop belongs to what is usually shortened or counted by it, if letters or digits follow
   somewhere in the text: a single letter (two, in scripts without capitals but Hangul), a word with
   another full stop, a number of one or two digits, a Roman numeral.
6. Full stops, hyphens, apostrophes, asterisks or equals signs in a row are one word, and every
   other sign is one.

docs/predict.md says how much of WikiAnn's own splitting this gives back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import regex

# Controls that Python counts as white space, Unicode does not; and the zero width space, with
# which Thai and Khmer are split.
_BETWEEN_SPACES = regex.compile(r"[^\s\x1c-\x1f\u200b]+")
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}]")
_CHARACTER = regex.compile(r"\X\p{M}*")  # as in `noise`

_LETTER = r"[\p{L}\p{M}\p{N}\p{Cf}_]"
_GENITIVE = rf"['’][sS](?!{_LETTER})"
_INSIDE = rf"(?!{_GENITIVE})(?:['’.:·‐‑–-]|(?<=\p{{N}}),(?=\p{{N}}))"
_WORD = regex.compile(
    rf"(?P<letters>{_LETTER}+(?:{_INSIDE}{_LETTER}+)*)"
    rf"|{_GENITIVE}|(?P<sign>[-.'`*=])(?P=sign)+|\X\p{{M}}*"
)
_TAKES_STOP = regex.compile(
    r"\p{L}[\p{M}\p{Cf}]*|(?:(?!\p{Hangul})\p{Lo}\p{M}*){2}|\p{N}{1,2}|[IVX]+|.+\..+"
)
_LETTERS_FOLLOW = regex.compile(r"[\p{L}\p{N}]")


class Word(NamedTuple):
    text: str
    start: int  # of its first character in the text
    end: int  # after its last


def split(text: str) -> list[Word]:
    """The words of a text in order; every character but white space is in exactly one."""
    return [
        Word(text[start:end], start, end)
        for chunk in _BETWEEN_SPACES.finditer(text)
        for start, end in _split(chunk[0], chunk.start(), text)
    ]


def _split(chunk: str, begin: int, text: str) -> Iterator[tuple[int, int]]:
    """The words of `chunk`, which begins at `begin` in `text`, as places in the text."""
    place = 0
    while found := _WORD.match(chunk, place):
        start, end = found.span()
        place = end
        letters = found["letters"]
        if letters is None:
            yield begin + start, begin + end
        elif _UNSPACED.search(letters):
            for character in _CHARACTER.finditer(letters):
                yield begin + start + character.start(), begin + start + character.end()
        else:
            stop = chunk[end : end + 1] == "." and chunk[end : end + 2] != ".."
            if (
                stop
                and _TAKES_STOP.fullmatch(letters)
                and _LETTERS_FOLLOW.search(text, begin + end)
            ):
                place += 1
            yield begin + start, begin + place
