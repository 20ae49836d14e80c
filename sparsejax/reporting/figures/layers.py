"""The realised sparsity of each matrix, where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsejax.reporting import style
from sparsejax.reporting.figures import common
from sparsejax.reporting.figures.common import Drawn
from sparsejax.reporting.lookup import Lookup, Row, layer_rows, uneven

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(look: Lookup) -> Drawn:
    """The realised sparsity of each matrix, where they differ."""
    parts = style.chunks(uneven(look), 6)
    names = style.numbered("layers", len(parts))
    return {name: _part(look, part) for name, part in zip(names, parts, strict=True)}


def _part(look: Lookup, part: Sequence[Row]) -> Figure:
    import numpy as np

    rows_of = {v["id"]: layer_rows(look, v["id"]) for v in part}
    every = [row for rows in rows_of.values() for row in rows]
    inner = [row for row in every if row["layer"] is not None] or every
    matrices = list(dict.fromkeys(row["matrix"] for row in inner))
    layers = sorted({row["layer"] for row in inner if row["layer"] is not None})
    shares = [100 * row["sparsity"] for row in every]
    columns = min(3, len(part))
    drawn = style.figure(1.0 + (0.9 + 0.16 * len(layers)) * -(-len(part) // columns))
    axes_of = style.grid(drawn, len(part), columns)
    image = None
    for number, (axes, variant) in enumerate(zip(axes_of, part, strict=True)):
        values = np.full((len(layers), len(matrices)), np.nan)
        for row in rows_of[variant["id"]]:
            if row["layer"] is not None and row["matrix"] in matrices:
                values[layers.index(row["layer"]), matrices.index(row["matrix"])] = row["sparsity"]
        axes.grid(False)
        image = axes.imshow(
            100 * values, cmap="viridis", vmin=min(shares), vmax=max(shares), aspect="auto"
        )
        middle = (min(shares) + max(shares)) / 2
        for (y, x), value in np.ndenumerate(100 * values):
            if not np.isnan(value):
                color = "white" if value < middle else "black"
                axes.text(x, y, f"{value:.1f}", ha="center", va="center", size=5, color=color)
        axes.set_xticks(range(len(matrices)), matrices, rotation=40, ha="right")
        axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
        axes.tick_params(length=0)
        if number % columns == 0:
            axes.set_ylabel("layer")
        outside = [row for row in rows_of[variant["id"]] if row["layer"] is None]
        title = [*common.wrapped(variant["label"], 34)]
        title += [f"{row['matrix']}: {100 * row['sparsity']:.1f} %" for row in outside]
        axes.set_title("\n".join(title))
    assert image is not None
    bar = drawn.colorbar(image, ax=axes_of, fraction=0.03, pad=0.01)
    bar.set_label("sparsity, %")
    drawn.suptitle("Realised sparsity of each matrix", fontsize=8)
    return drawn
