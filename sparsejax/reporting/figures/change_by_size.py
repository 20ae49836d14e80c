"""The change of each language against how much text there was of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsejax.reporting import style
from sparsejax.reporting.figures import common
from sparsejax.reporting.figures.common import Drawn
from sparsejax.reporting.lookup import Lookup, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FACTS = {
    "train": "training sentences",
    "wikipedia_bytes": "Wikipedia text, bytes",
}


def _chosen(points: Sequence[Row]) -> list[Row]:
    """The least, the middle and the most sparse of a curve."""
    places = sorted({0, len(points) // 2, len(points) - 1})
    return [points[place] for place in places] if points else []


def draw(look: Lookup) -> Drawn:
    """The change of each language against how much there was of it."""
    facts = [name for name in _FACTS if any(row[name] for row in look.analysis["languages"])]
    with_change = [n for n in look.series if common.has_changes(look, n)]
    parts = style.chunks(with_change, 3) if facts else []
    names = style.numbered("change-by-size", len(parts))
    return {name: _part(look, part, facts) for name, part in zip(names, parts, strict=True)}


def _part(look: Lookup, part: Sequence[int], facts: Sequence[str]) -> Figure:
    drawn = style.figure(0.5 + 1.9 * len(part))
    axes_of = drawn.subplots(len(part), len(facts), squeeze=False, sharey="row", sharex="col")
    for y, number in enumerate(part):
        for x, fact in enumerate(facts):
            axes = axes_of[y][x]
            axes.axhline(0, color=style.DENSE, linewidth=0.8)
            axes.set_xscale("log")
            for at, variant in enumerate(_chosen(look.points(number))):
                _dots(axes, look, variant, fact, at)
            if x == 0:
                axes.set_title(look.series[number]["label"], loc="left")
            if y == len(part) - 1:
                axes.set_xlabel(_FACTS[fact])
            if x == 0:
                axes.set_ylabel("change of F1, points")
        _around(axes_of[y][0], look.points(number), look)
        axes_of[y][-1].legend(
            title="sparsity", title_fontsize=6.5, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
    drawn.suptitle("Change of F1 to dense against how much text a language has", fontsize=8)
    return drawn


def _around(axes: Axes, variants: Sequence[Row], look: Lookup) -> None:
    """All means are in sight; an interval of few seeds may be far wider, and leaves the panel."""
    changes = [c["change"] for v in _chosen(variants) for c in common.cells_of(look, v)]
    means = [100 * change["mean"] for change in changes if change is not None]
    low, high = min(0.0, *means), max(0.0, *means)
    axes.set_ylim(low - 0.3 * (high - low) - 1, high + 0.3 * (high - low) + 1)


def _dots(axes: Axes, look: Lookup, variant: Row, fact: str, number: int) -> None:
    """A dot for each language, with its interval; equal sizes are drawn side by side."""
    style_of = style.line((0, 3, 5)[number])
    found = []
    for place, row in enumerate(look.analysis["languages"]):
        cell = look.cells.get((variant["id"], row["code"], "none"))
        if cell is not None and cell["change"] is not None and row[fact]:
            aside = 1.0 + 0.02 * (place % 9 - 4) if fact == "train" else 1.0
            found.append((row[fact] * aside, cell["change"]))
    sure = [(x, change) for x, change in found if change["low"] is not None]
    for x, change in sure:
        span = [100 * change["low"], 100 * change["high"]]
        axes.plot([x, x], span, color=style_of["color"], linewidth=0.4, alpha=0.5)
    axes.plot(
        [x for x, _ in found],
        [100 * change["mean"] for _, change in found],
        linestyle="none",
        marker=style_of["marker"],
        color=style_of["color"],
        markersize=2.8,
        markeredgewidth=0.3,
        markeredgecolor="white",
        label=f"{round(100 * variant['sparsity'], 1):g} %",
    )
