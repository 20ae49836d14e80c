"""Texts to tag: one a line, plain or as JSON with other fields, which are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sparsejax.data import words
from sparsejax.errors import UserError, short

MOST_WORDS = 2**18  # of a block


class Text(NamedTuple):
    """A text and its words."""

    row: dict[str, Any]  # the fields of the line: `text`, or `words` if it was given in words
    words: list[str]
    places: list[tuple[int, int]] | None  # of the words in the text; None: given in words


def read(lines: Iterable[tuple[str, str]], as_json: bool) -> Iterator[Text]:
    """The text of every line; an empty line is an empty text.

    Args:
      lines: the place of each, for messages, and the line.
      as_json: a line is an object with `text`, a string, or with `words`, a list of strings.

    Raises:
      UserError: names the place of a malformed line; while iterating.
    """
    for where, line in lines:
        row: dict[str, Any] = {"text": line}
        if as_json and line.strip(" \t"):
            row = _parse(where, line)
        if "words" in row:
            yield Text(row, row["words"], None)
        else:
            found = words.split(row["text"])
            yield Text(row, [word.text for word in found], [word[1:] for word in found])


def blocks(texts: Iterable[Text], first: int, most: int) -> Iterator[tuple[list[Text], bool]]:
    """The texts in lists that are tagged together, each with whether there may be more of them.

    The lists grow, so that the first results are there soon, and little is lost between later ones.

    Args:
      texts: see `read`.
      first: texts of the first list.
      most: texts of the longest; lists are shorter where texts are long, for the memory.

    Raises:
      UserError: that of `texts`, once those before it were handed out.
    """
    block: list[Text] = []
    limit, size = first, 0
    try:
        for text in texts:
            block.append(text)
            size += len(text.words)
            if len(block) == limit or size >= MOST_WORDS:
                yield block, True
                block, size, limit = [], 0, min(2 * limit, most)
    except UserError:
        if block:
            yield block, False
        raise
    if block:
        yield block, False


def _parse(where: str, line: str) -> dict[str, Any]:
    try:
        row: Any = json.loads(line, parse_float=_finite, parse_constant=_finite)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at character {error.colno})") from None
    except RecursionError:
        raise UserError(f"{where}: JSON nested too deeply") from None
    except ValueError as error:  # of a number
        raise UserError(f"{where}: {str(error).split(';')[0]}") from None
    if not isinstance(row, dict) or ("text" in row) == ("words" in row):
        raise UserError(f'{where}: a line needs an object with either "text" or "words"')
    if "text" in row and not isinstance(row["text"], str):
        raise UserError(f'{where}: "text" must be a string')
    given = row["words"] if "words" in row else [row["text"]]
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        raise UserError(f'{where}: "words" must be a list of strings')
    check_letters(where, "".join(given))
    return row


def _finite(text: str) -> float:
    """Raises a ValueError for what could not be written again."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{short(text)} is no number that JSON can hold")
    return value


def check_letters(where: str, text: str) -> None:
    """Raises a UserError for half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = short(text[error.start])
        raise UserError(f"{where}: {half} is half of a surrogate pair, not a letter") from None
