"""Monolingual and multilingual fine-tuning of the same method."""

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


def draw(look: Lookup) -> Drawn:
    """Monolingual and multilingual fine-tuning of the same method, over the same languages."""
    pairs: dict[tuple[int, int], None] = {}
    for row in look.analysis["settings"]:
        mono, multi = (look.variants[row[setting]]["series"] for setting in reversed(SETTINGS))
        if mono is not None and multi is not None:
            pairs[mono, multi] = None
    parts = style.chunks(list(pairs), 4)
    names = style.numbered("monolingual-multilingual", len(parts))
    return {name: _part(look, part) for name, part in zip(names, parts, strict=True)}


def _part(look: Lookup, part: Sequence[tuple[int, int]]) -> Figure:
    panels = common.panels(look)
    rows = {
        (row["monolingual"], row["multilingual"], row["by"], row["group"]): row
        for row in look.analysis["settings"]
    }
    drawn = style.figure(0.6 + 1.6 * len(part))
    axes_of = style.grid(drawn, len(part) * len(panels), len(panels))
    for y, (mono, multi) in enumerate(part):
        ends = [(v["sparsity"], v["id"]) for v in look.points(multi)]
        dense = look.dense(multi)
        ends = ends if dense is None else [(0.0, dense), *ends]
        for x, (by, group, title) in enumerate(panels):
            axes = axes_of[y * len(panels) + x]
            found = [
                (sparsity, row)
                for sparsity, id in ends
                for key, row in rows.items()
                if key[1:] == (id, by, group) and _belongs(look, key[0], mono)
            ]
            most = max((len(row["members"]) for _, row in found), default=0)
            for at, setting in ((3, "monolingual"), (0, "multilingual")):
                points = [(sparsity, row | {"f1": row["f1"][setting]}) for sparsity, row in found]
                common.curve(axes, points, at, setting, most)
            style.sparsity_axis(axes, {sparsity for sparsity, _ in ends}, len(panels))
            over = f"{title} ({most})" if y == 0 else f"({most})"
            axes.set_title("\n".join(common.wrapped(over, 18)))
            if y < len(part) - 1:
                axes.set_xlabel("")
            if x == 0:
                name = "\n".join(common.wrapped(common.short(look.series[multi]), 24))
                axes.set_ylabel(f"{name}\nmacro F1, %")
    common.from_zero(axes_of)
    common.legend(drawn, axes_of[0])
    drawn.suptitle(
        "Monolingual and multilingual fine-tuning; in parentheses: languages that both have",
        fontsize=8,
    )
    return drawn


def _belongs(look: Lookup, variant: int, series: int) -> bool:
    """Whether a variant is a point of a curve, or the dense one that it begins with."""
    return look.variants[variant]["series"] == series or look.dense(series) == variant
