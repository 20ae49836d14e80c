"""The figures of a report, each by a function of the analysis; one without data is not drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sparsejax.reporting import style
from sparsejax.reporting.figures import change, change_by_size, f1, layers, robustness, settings
from sparsejax.reporting.figures.common import Drawn
from sparsejax.reporting.lookup import Lookup

_FIGURES: dict[str, tuple[Callable[[Lookup], Drawn], str]] = {
    "f1": (f1.draw, "no pruned runs"),
    "change": (change.draw, "no pruned runs that can be compared with a dense one"),
    "change-by-size": (
        change_by_size.draw,
        "no pruned runs to compare with a dense one, or no known sizes",
    ),
    "robustness": (robustness.draw, "no pruned run was evaluated with entities replaced"),
    "monolingual-multilingual": (
        settings.draw,
        "no pruned runs of the same method and sparsity in both settings",
    ),
    "layers": (layers.draw, "in every run all pruned matrices are equally sparse"),
}


def figures(analysis: Mapping[str, Any]) -> tuple[Drawn, dict[str, str]]:
    """All figures by name, and for those without data the reason."""
    look = Lookup(analysis)
    drawn: Drawn = {}
    absent: dict[str, str] = {}
    with style.styled():
        for name, (draw, why) in _FIGURES.items():
            found = draw(look)
            drawn |= found
            if not found:
                absent[name] = why
    return drawn, absent
