"""F1 against sparsity, by resource group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsejax.reporting import style
from sparsejax.reporting.figures import common
from sparsejax.reporting.figures.common import Drawn
from sparsejax.reporting.lookup import Lookup
from sparsejax.reporting.variants import SETTINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_LINES = len(style.LINES)


def draw(look: Lookup) -> Drawn:
    """F1 against sparsity by resource group, for each setting."""
    drawn: Drawn = {}
    for setting in SETTINGS:
        of_setting = [n for n, s in look.series.items() if s["setting"] == setting]
        parts = style.chunks(of_setting, _MOST_LINES)
        for name, part in zip(style.numbered(f"f1-{setting}", len(parts)), parts, strict=True):
            drawn[name] = _part(look, part, f"F1 against sparsity, {setting} fine-tuning")
    return drawn


def _part(look: Lookup, part: Sequence[int], title: str) -> Figure:
    sparsities = {0.0} | {v["sparsity"] for number in part for v in look.points(number)}
    panels = [
        panel
        for panel in common.panels(look)
        if any(row for n in part for _, row in common.series_points(look, n, (*panel[:2], "none")))
    ]
    columns = min(3, len(panels))
    drawn = style.figure(0.6 + 1.75 * -(-len(panels) // columns))
    axes_of = style.grid(drawn, len(panels), columns)
    for number, (axes, (by, group, title_of)) in enumerate(zip(axes_of, panels, strict=True)):
        curves = [common.series_points(look, n, (by, group, "none")) for n in part]
        sizes = [len(row["members"]) for curve in curves for _, row in curve if row]
        for at, (series, curve) in enumerate(zip(part, curves, strict=True)):
            common.curve(axes, curve, at, common.short(look.series[series]), max(sizes))
        many = common.count(max(sizes), "language")
        axes.set_title(f"all {many}" if by == "all" else f"{title_of} ({many})")
        style.sparsity_axis(axes, sparsities, columns)
        if number % columns == 0:
            axes.set_ylabel("macro F1, %")
    common.from_zero(axes_of)
    common.legend(drawn, axes_of[0])
    drawn.suptitle(title, fontsize=8)
    return drawn
