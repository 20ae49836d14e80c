"""What several figures share: curves, panels and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparsejax.reporting import style
from sparsejax.reporting.lookup import Lookup, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawn = dict[str, "Figure"]


def panels(look: Lookup) -> list[tuple[str, str, str]]:
    """(by, group, title) of the average over all languages and those by resource."""
    first = ("all", "all languages", "all languages")
    return [first] + [("resource", group, f"{group} sentences") for group in look.resources]


def curve(
    axes: Axes,
    points: Sequence[tuple[float, Row | None]],
    number: int,
    label: str,
    most: int | None = None,
) -> None:
    """A line of F1 by sparsity with its band; hollow where it averages over fewer languages.

    Args:
      points: sparsity, and a row of `groups`.
      most: how many languages a full average has.
    """
    found = [(style.place(s), row) for s, row in points if row is not None]
    if not found:
        return
    look = style.line(number)
    x = [at for at, _ in found]
    axes.plot(x, [100 * row["f1"]["mean"] for _, row in found], label=label, **look)
    band = [(at, row["f1"]) for at, row in found if row["f1"]["low"] is not None]
    low, high = ([100 * f1[side] for _, f1 in band] for side in ("low", "high"))
    axes.fill_between([at for at, _ in band], low, high, color=look["color"], alpha=0.18, lw=0)
    fewer = [(at, 100 * r["f1"]["mean"]) for at, r in found if most and len(r["members"]) < most]
    if fewer:
        spots = {"color": look["color"], "marker": look["marker"], "markerfacecolor": "white"}
        axes.plot(*zip(*fewer, strict=True), linestyle="none", **spots)


def series_points(look: Lookup, series: int, key: tuple[str, str, str]) -> list[Any]:
    """(sparsity, row) of a curve, from dense on."""
    dense = look.dense(series)
    before = [] if dense is None else [(0.0, look.groups.get((dense, *key)))]
    return before + [(v["sparsity"], look.groups.get((v["id"], *key))) for v in look.points(series)]


def from_zero(axes_of: Sequence[Axes]) -> None:
    """No F1 below 0, though the interval of a low one may reach there."""
    for axes in axes_of:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -2.0), min(high, 102.0))


def short(series: Row) -> str:
    """A curve's name where its setting is said already."""
    return str(series["label"]).removeprefix(f"{series['setting']}, ")


def count(number: int, noun: str) -> str:
    """In words: 1 language, 2 languages."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def legend(drawn: Figure, axes: Axes) -> None:
    """One below the figure, of the lines of one of its panels."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 3 if max(map(len, labels), default=0) < 38 else 2
    drawn.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def wrapped(text: str, width: int) -> list[str]:
    """Lines of about so many letters, at least one."""
    import textwrap

    return textwrap.wrap(text, max(width, 16)) or [""]


def cells_of(look: Lookup, variant: Row) -> list[Row]:
    """Each language's row of a variant, on the sentences as they are."""
    keys = [(variant["id"], code, "none") for code in look.names]
    return [look.cells[key] for key in keys if key in look.cells]


def has_changes(look: Lookup, series: int) -> bool:
    """Whether a point of a curve can be compared with a dense run."""
    return any(cell["change"] for v in look.points(series) for cell in cells_of(look, v))
