"""The change of each language at each sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsejax.reporting import style
from sparsejax.reporting.figures import common
from sparsejax.reporting.figures.common import Drawn
from sparsejax.reporting.lookup import Lookup, Row
from sparsejax.reporting.numbers import distinguishable
from sparsejax.reporting.variants import SETTINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(look: Lookup) -> Drawn:
    """The change of each language at each sparsity."""
    drawn: Drawn = {}
    for setting in SETTINGS:
        of_setting = [
            n
            for n, s in look.series.items()
            if s["setting"] == setting and common.has_changes(look, n)
        ]
        parts = style.chunks(of_setting, 4)
        for name, part in zip(style.numbered(f"change-{setting}", len(parts)), parts, strict=True):
            drawn[name] = _part(look, part, setting)
    return drawn


def _by_size(look: Lookup) -> list[Row]:
    """Languages from the fewest training sentences to the most."""
    order = {group: at for at, group in enumerate(look.resources)}
    return sorted(
        look.analysis["languages"],
        key=lambda row: (order.get(row["resource"], 9), row["train"] or 0, row["code"]),
    )


def _part(look: Lookup, part: Sequence[int], setting: str) -> Figure:
    import numpy as np
    from matplotlib.colors import TwoSlopeNorm

    curves = {number: look.points(number) for number in part}
    there = {
        c["language"]
        for points in curves.values()
        for v in points
        for c in common.cells_of(look, v)
    }
    rows = [row for row in _by_size(look) if row["code"] in there]
    values = {}
    for number, points in curves.items():
        values[number] = np.full((len(rows), len(points)), np.nan)
        for y, row in enumerate(rows):
            for x, variant in enumerate(points):
                cell = look.cells.get((variant["id"], row["code"], "none"))
                if cell is not None and cell["change"] is not None:
                    values[number][y, x] = 100 * cell["change"]["mean"]
    most = max(float(np.nanmax(np.abs(found), initial=1.0)) for found in values.values())
    norm = TwoSlopeNorm(0, -most, most)
    drawn = style.figure(1.1 + 0.155 * len(rows))
    widths = [max(len(points), 3) for points in curves.values()]
    axes_of = drawn.subplots(1, len(part), width_ratios=widths, squeeze=False)[0]
    image = None
    for place, (axes, (number, points)) in enumerate(zip(axes_of, curves.items(), strict=True)):
        axes.grid(False)
        image = axes.imshow(values[number], cmap="RdBu", norm=norm, aspect="auto")
        for (y, x), value in np.ndenumerate(values[number]):
            if not np.isnan(value):
                cell = look.cells[points[x]["id"], rows[y]["code"], "none"]
                sure = distinguishable(cell["verdict"])
                color = "white" if abs(value) > 0.62 * most else "black"
                text = f"{value:+.0f}".replace("-", "−") if abs(value) >= 0.5 else "0"
                weight = "bold" if sure else "normal"
                axes.text(x, y, text, ha="center", va="center", size=5, color=color, weight=weight)
        labels = [f"{round(100 * v['sparsity'], 1):g}" for v in points]
        axes.set_xticks(range(len(points)), labels)
        axes.set_xlabel("sparsity, %")
        names = [f"{row['code']}  {_size(row['train'])}" for row in rows] if place == 0 else []
        axes.set_yticks(range(len(rows)) if place == 0 else [], names)
        for y in range(1, len(rows)):
            if rows[y]["resource"] != rows[y - 1]["resource"]:
                axes.axhline(y - 0.5, color="black", linewidth=0.8)
        inches = (style.WIDTH - 1.6) * widths[place] / sum(widths)
        axes.set_title(
            "\n".join(common.wrapped(common.short(look.series[number]), int(15 * inches)))
        )
        axes.tick_params(length=0)
    axes_of[0].set_ylabel("language and its training sentences")
    assert image is not None
    bar = drawn.colorbar(image, ax=list(axes_of), fraction=0.03, pad=0.01)
    bar.set_label("change of F1 to dense, percentage points")
    drawn.suptitle(
        f"Change of F1 by language, {setting} fine-tuning; bold: distinguishable from 0", fontsize=8
    )
    return drawn


def _size(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
