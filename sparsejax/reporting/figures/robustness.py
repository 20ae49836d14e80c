"""F1 with entities as they are and replaced, against sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsejax.reporting import style
from sparsejax.reporting.figures import common
from sparsejax.reporting.figures.common import Drawn
from sparsejax.reporting.lookup import Lookup
from sparsejax.reporting.runs import PERTURBATIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(look: Lookup) -> Drawn:
    """F1 with entities as they are and replaced, against sparsity."""
    replaced = {p: any(look.all(v, p) for v in look.variants) for p in PERTURBATIONS[1:]}
    kinds = ["none", *(kind for kind, there in replaced.items() if there)]
    found = [
        n
        for n in look.series
        if any(look.all(v["id"], kind) for v in look.points(n) for kind in kinds[1:])
    ]
    parts = style.chunks(found, 6)
    names = style.numbered("robustness", len(parts))
    return {name: _part(look, part, kinds) for name, part in zip(names, parts, strict=True)}


def _part(look: Lookup, part: Sequence[int], kinds: Sequence[str]) -> Figure:
    columns = min(3 if len(part) != 4 else 2, len(part))
    names = {kind: "as they are" if kind == "none" else f"replaced: {kind}" for kind in kinds}
    for kind in kinds:
        rows = [look.all(v["id"], kind) for number in part for v in look.points(number)]
        sizes = [len(row["members"]) for row in rows if row]
        names[kind] += f" ({common.count(max(sizes), 'language')})" if sizes else ""
    drawn = style.figure(0.6 + 2.0 * -(-len(part) // columns))
    axes_of = style.grid(drawn, len(part), columns)
    for number, (axes, series) in enumerate(zip(axes_of, part, strict=True)):
        for at, kind in enumerate(kinds):
            curve = common.series_points(look, series, ("all", "all languages", kind))
            common.curve(axes, curve, at, names[kind])
        axes.set_title("\n".join(common.wrapped(look.series[series]["label"], 120 // columns)))
        style.sparsity_axis(axes, {0.0} | {v["sparsity"] for v in look.points(series)}, columns)
        if number % columns == 0:
            axes.set_ylabel("macro F1, %")
    common.from_zero(axes_of)
    common.legend(drawn, axes_of[0])
    drawn.suptitle("F1 with the entities of the test split as they are, and replaced", fontsize=8)
    return drawn
