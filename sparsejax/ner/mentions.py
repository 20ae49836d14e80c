"""The entities of a tagged text: as a JSON object, and coloured on a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.text import Text as Styled

from sparsejax.data.sentences import entities
from sparsejax.data.texts import Text


class Mention(NamedTuple):
    """An entity in a text; its fields are those of the JSON object."""

    type: str
    text: str
    start: int  # of its first character in the text; of a text given in words: its first word
    end: int  # after its last
    score: float  # mean probability of its words' tags


def mentions(text: Text, tags: Sequence[str], confidence: Sequence[float]) -> list[Mention]:
    """The entities of a text, in order, as seqeval's default mode finds them.

    Args:
      text: with n words.
      tags: [n], IOB2.
      confidence: [n], probability of each tag.
    """
    found = []
    for begin, end, kind in entities(tags):
        score = round(sum(confidence[begin:end]) / (end - begin), 6)
        if text.places is None:
            found.append(Mention(kind, " ".join(text.words[begin:end]), begin, end, score))
        else:
            start, stop = text.places[begin][0], text.places[end - 1][1]
            found.append(Mention(kind, text.row["text"][start:stop], start, stop, score))
    return found


# What JSON may hold as it is, but ends a line for some readers, steers a terminal or is no UTF-8.
_ESCAPED = {
    code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000))
}


def to_json(text: Text, found: Sequence[Mention]) -> str:
    """One line: the fields that the text came with, and `entities`."""
    row = text.row | {"entities": [mention._asdict() for mention in found]}
    return json.dumps(row, ensure_ascii=False).translate(_ESCAPED)


# A picture of each control character but the tab; those without a picture are replaced.
_VISIBLE = (
    {code: 0x2400 + code for code in range(0x20) if code != 0x09}
    | {0x7F: 0x2421}
    | dict.fromkeys((*range(0x80, 0xA0), 0x2028, 0x2029), 0xFFFD)
)
_COLORS = ("cyan", "yellow", "magenta", "green", "blue", "red")


def styles(types: Sequence[str]) -> dict[str, str]:
    """How entities of each type look; underlined too, so that it can be seen without colours."""
    return {kind: f"bold underline {_COLORS[i % 6]}" for i, kind in enumerate(types)}


def to_styled(text: Text, found: Sequence[Mention], style: Mapping[str, str]) -> Styled:
    """The text with its entities coloured, then a line for each: type, score, entity.

    Nothing is put into the text, which may run from right to left. A control character is shown as
    a picture and does nothing.
    """
    if text.places is None:
        whole, places, size = " ".join(text.words), [], 0
        for word in text.words:
            places.append((size, size + len(word)))
            size += len(word) + 1
        spans = [(places[m.start][0], places[m.end - 1][1]) for m in found]
    else:
        whole, spans = text.row["text"], [(mention.start, mention.end) for mention in found]
    shown: Any = Styled(whole.translate(_VISIBLE))
    for mention, (start, end) in zip(found, spans, strict=True):
        shown.stylize(style[mention.type], start, end)
    for mention, (start, end) in zip(found, spans, strict=True):
        shown.append(f"\n  {mention.type.translate(_VISIBLE)} {mention.score:.2f} ")
        shown.append(whole[start:end].translate(_VISIBLE), style[mention.type])
    return shown
