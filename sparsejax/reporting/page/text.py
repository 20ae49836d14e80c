"""Numbers and words as the page shows them, the same in its HTML and in its script."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from typing import Any

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"

TEXTS = {
    "none": "text as it is",
    "language": "entities replaced: same language",
    "script": "entities replaced: other language, same script",
    "family": "entities replaced: other language, same family",
    "unseen": "entities replaced: same language, not in training",
    "noise": "one slip in every entity",
}
"""What was done to the sentences, by the name of the perturbation."""


def text_name(perturbation: str) -> str:
    return TEXTS.get(perturbation, perturbation)


_NOT_TEXT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def clean(text: object) -> str:
    """Without what an HTML file in UTF-8 cannot hold: control characters, halves of pairs."""
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", str(text))


def escape(text: object) -> str:
    """For the content of an element or of a quoted attribute."""
    return html.escape(clean(text))


def name(text: object) -> str:
    """A name from outside as HTML: its direction of writing stays its own."""
    return f"<bdi>{escape(text)}</bdi>"


def label(variant: Mapping[str, Any]) -> str:
    """The label of a variant; its percentage stays on one line."""
    return clean(variant["label"]).replace(" %", f"{SPACE}%")


def micro(value: float | None) -> int | None:
    """A fraction in millionths, which is how the script gets it; None if there is no number."""
    return None if value is None or not math.isfinite(value) else round(value * 1_000_000)


def points(value: float | None, signed: bool = False) -> str:
    """A fraction in hundredths with one decimal; a dash for None.

    It rounds integers, halves away from zero, as the script does: floats are rounded otherwise in
    Python and in JavaScript.
    """
    millionths = micro(value)
    if millionths is None:
        return "–"
    tenths = (abs(millionths) + 500) // 1000
    sign = "" if not tenths else MINUS if millionths < 0 else "+" if signed else ""
    return f"{sign}{tenths // 10}.{tenths % 10}"


def between(interval: Mapping[str, Any] | None, signed: bool = False) -> str:
    """The ends of an interval: "0.9 to 1.7", or a dash."""
    if interval is None or interval["low"] is None or interval["high"] is None:
        return "–"
    return f"{points(interval['low'], signed)} to {points(interval['high'], signed)}"


def percent(sparsity: float) -> str:
    """A sparsity: "90 %"; what is not all is never called 100 %."""
    number = f"{100 * sparsity:.1f}".removesuffix(".0")
    return f"{'>99.9' if number == '100' and sparsity < 1 else number}{SPACE}%"


def counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def listed(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
