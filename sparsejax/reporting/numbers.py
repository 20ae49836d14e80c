"""How numbers are written in tables and figures: in percent, or percentage points, one decimal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSING = "–"
_MINUS = "−"


def percent(value: float | None) -> str:
    """0.8134 as 81.3."""
    return MISSING if value is None else f"{100 * value:.1f}".replace("-", _MINUS)


def points(value: float | None) -> str:
    """A difference of shares, with its sign: 0.004 as +0.4."""
    if value is None:
        return MISSING
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", _MINUS)


def plain(value: float | None) -> str:
    """0.456 as 0.46."""
    return MISSING if value is None else f"{value:.2f}".replace("-", _MINUS)


def interval(found: Mapping[str, Any] | None, write: Any = percent) -> str:
    """81.3 [80.2, 82.4], or the mean alone."""
    if found is None:
        return MISSING
    if found["low"] is None:
        return str(write(found["mean"]))
    return f"{write(found['mean'])} [{write(found['low'])}, {write(found['high'])}]"


def distinguishable(verdict: str | None) -> bool:
    return verdict in ("higher", "lower", "below")
