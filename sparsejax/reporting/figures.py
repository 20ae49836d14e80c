"""The figures of a report, each by a function of the analysis; one without data is not drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparsejax.reporting import style
from sparsejax.reporting.numbers import distinguishable
from sparsejax.reporting.runs import PERTURBATIONS
from sparsejax.reporting.tables import Lookup, layer_rows, uneven
from sparsejax.reporting.variants import SETTINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
Drawn = dict[str, "Figure"]
_MOST_LINES = len(style.LINES)


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


def _panels(look: Lookup) -> list[tuple[str, str, str]]:
    """(by, group, title) of the average over all languages and those by resource."""
    panels = [("all", "all languages", "all languages")]
    return panels + [("resource", group, f"{group} sentences") for group in look.resources]


def _curve(
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


def _series_points(look: Lookup, series: int, key: tuple[str, str, str]) -> list[Any]:
    """(sparsity, row) of a curve, from dense on."""
    dense = look.dense(series)
    before = [] if dense is None else [(0.0, look.groups.get((dense, *key)))]
    return before + [(v["sparsity"], look.groups.get((v["id"], *key))) for v in look.points(series)]


def _f1(look: Lookup) -> Drawn:
    """F1 against sparsity by resource group, for each setting."""
    drawn: Drawn = {}
    for setting in SETTINGS:
        of_setting = [n for n, s in look.series.items() if s["setting"] == setting]
        parts = style.chunks(of_setting, _MOST_LINES)
        for name, part in zip(style.numbered(f"f1-{setting}", len(parts)), parts, strict=True):
            drawn[name] = _f1_part(look, part, f"F1 against sparsity, {setting} fine-tuning")
    return drawn


def _f1_part(look: Lookup, part: Sequence[int], title: str) -> Figure:
    sparsities = {0.0} | {v["sparsity"] for number in part for v in look.points(number)}
    panels = [
        panel
        for panel in _panels(look)
        if any(row for n in part for _, row in _series_points(look, n, (*panel[:2], "none")))
    ]
    columns = min(3, len(panels))
    drawn = style.figure(0.6 + 1.75 * -(-len(panels) // columns))
    axes_of = style.grid(drawn, len(panels), columns)
    for number, (axes, (by, group, title_of)) in enumerate(zip(axes_of, panels, strict=True)):
        curves = [_series_points(look, n, (by, group, "none")) for n in part]
        sizes = [len(row["members"]) for curve in curves for _, row in curve if row]
        for at, (series, curve) in enumerate(zip(part, curves, strict=True)):
            _curve(axes, curve, at, _short(look.series[series]), max(sizes))
        many = _count(max(sizes), "language")
        axes.set_title(f"all {many}" if by == "all" else f"{title_of} ({many})")
        style.sparsity_axis(axes, sparsities, columns)
        if number % columns == 0:
            axes.set_ylabel("macro F1, %")
    _from_zero(axes_of)
    _legend(drawn, axes_of[0])
    drawn.suptitle(title, fontsize=8)
    return drawn


def _from_zero(axes_of: Sequence[Axes]) -> None:
    """No F1 below 0, though the interval of a low one may reach there."""
    for axes in axes_of:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -2.0), min(high, 102.0))


def _short(series: Row) -> str:
    """A curve's name where its setting is said already."""
    return str(series["label"]).removeprefix(f"{series['setting']}, ")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _legend(drawn: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = 3 if max(map(len, labels), default=0) < 38 else 2
    drawn.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def _heat(look: Lookup) -> Drawn:
    """The change of each language at each sparsity."""
    drawn: Drawn = {}
    for setting in SETTINGS:
        of_setting = [
            n
            for n, s in look.series.items()
            if s["setting"] == setting
            and any(cell["change"] for v in look.points(n) for cell in _of_variant(look, v))
        ]
        parts = style.chunks(of_setting, 4)
        for name, part in zip(style.numbered(f"change-{setting}", len(parts)), parts, strict=True):
            drawn[name] = _heat_part(look, part, setting)
    return drawn


def _of_variant(look: Lookup, variant: Row) -> list[Row]:
    keys = [(variant["id"], code, "none") for code in look.names]
    return [look.cells[key] for key in keys if key in look.cells]


def _by_size(look: Lookup) -> list[Row]:
    """Languages from the fewest training sentences to the most."""
    order = {group: at for at, group in enumerate(look.resources)}
    return sorted(
        look.analysis["languages"],
        key=lambda row: (order.get(row["resource"], 9), row["train"] or 0, row["code"]),
    )


def _heat_part(look: Lookup, part: Sequence[int], setting: str) -> Figure:
    import numpy as np
    from matplotlib.colors import TwoSlopeNorm

    curves = {number: look.points(number) for number in part}
    there = {
        c["language"] for points in curves.values() for v in points for c in _of_variant(look, v)
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
        axes.set_title("\n".join(_wrapped(_short(look.series[number]), int(15 * inches))))
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


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(width, 16)) or [""]


_FACTS = {
    "train": "training sentences",
    "wikipedia_bytes": "Wikipedia text, bytes",
}


def _chosen(points: Sequence[Row]) -> list[Row]:
    """The least, the middle and the most sparse of a curve."""
    places = sorted({0, len(points) // 2, len(points) - 1})
    return [points[place] for place in places] if points else []


def _scatter(look: Lookup) -> Drawn:
    """The change of each language against how much there was of it."""
    facts = [name for name in _FACTS if any(row[name] for row in look.analysis["languages"])]
    with_change = [
        n
        for n in look.series
        if any(cell["change"] for v in look.points(n) for cell in _of_variant(look, v))
    ]
    parts = style.chunks(with_change, 3) if facts else []
    names = style.numbered("change-by-size", len(parts))
    return {name: _scatter_part(look, part, facts) for name, part in zip(names, parts, strict=True)}


def _scatter_part(look: Lookup, part: Sequence[int], facts: Sequence[str]) -> Figure:
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
    changes = [c["change"] for v in _chosen(variants) for c in _of_variant(look, v)]
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


def _robust(look: Lookup) -> Drawn:
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
    return {name: _robust_part(look, part, kinds) for name, part in zip(names, parts, strict=True)}


def _robust_part(look: Lookup, part: Sequence[int], kinds: Sequence[str]) -> Figure:
    columns = min(3 if len(part) != 4 else 2, len(part))
    names = {kind: "as they are" if kind == "none" else f"replaced: {kind}" for kind in kinds}
    for kind in kinds:
        rows = [look.all(v["id"], kind) for number in part for v in look.points(number)]
        sizes = [len(row["members"]) for row in rows if row]
        names[kind] += f" ({_count(max(sizes), 'language')})" if sizes else ""
    drawn = style.figure(0.6 + 2.0 * -(-len(part) // columns))
    axes_of = style.grid(drawn, len(part), columns)
    for number, (axes, series) in enumerate(zip(axes_of, part, strict=True)):
        for at, kind in enumerate(kinds):
            curve = _series_points(look, series, ("all", "all languages", kind))
            _curve(axes, curve, at, names[kind])
        axes.set_title("\n".join(_wrapped(look.series[series]["label"], 120 // columns)))
        style.sparsity_axis(axes, {0.0} | {v["sparsity"] for v in look.points(series)}, columns)
        if number % columns == 0:
            axes.set_ylabel("macro F1, %")
    _from_zero(axes_of)
    _legend(drawn, axes_of[0])
    drawn.suptitle("F1 with the entities of the test split as they are, and replaced", fontsize=8)
    return drawn


def _settings(look: Lookup) -> Drawn:
    """Monolingual and multilingual fine-tuning of the same method, over the same languages."""
    pairs: dict[tuple[int, int], None] = {}
    for row in look.analysis["settings"]:
        mono, multi = (look.variants[row[setting]]["series"] for setting in reversed(SETTINGS))
        if mono is not None and multi is not None:
            pairs[mono, multi] = None
    parts = style.chunks(list(pairs), 4)
    names = style.numbered("monolingual-multilingual", len(parts))
    return {name: _settings_part(look, part) for name, part in zip(names, parts, strict=True)}


def _settings_part(look: Lookup, part: Sequence[tuple[int, int]]) -> Figure:
    panels = _panels(look)
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
                _curve(axes, points, at, setting, most)
            style.sparsity_axis(axes, {sparsity for sparsity, _ in ends}, len(panels))
            over = f"{title} ({most})" if y == 0 else f"({most})"
            axes.set_title("\n".join(_wrapped(over, 18)))
            if y < len(part) - 1:
                axes.set_xlabel("")
            if x == 0:
                name = "\n".join(_wrapped(_short(look.series[multi]), 24))
                axes.set_ylabel(f"{name}\nmacro F1, %")
    _from_zero(axes_of)
    _legend(drawn, axes_of[0])
    drawn.suptitle(
        "Monolingual and multilingual fine-tuning; in parentheses: languages that both have",
        fontsize=8,
    )
    return drawn


def _belongs(look: Lookup, variant: int, series: int) -> bool:
    """Whether a variant is a point of a curve, or the dense one that it begins with."""
    return look.variants[variant]["series"] == series or look.dense(series) == variant


def _layers(look: Lookup) -> Drawn:
    """The realised sparsity of each matrix, where they differ."""
    parts = style.chunks(uneven(look), 6)
    names = style.numbered("layers", len(parts))
    return {name: _layers_part(look, part) for name, part in zip(names, parts, strict=True)}


def _layers_part(look: Lookup, part: Sequence[Row]) -> Figure:
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
        title = [*_wrapped(variant["label"], 34)]
        title += [f"{row['matrix']}: {100 * row['sparsity']:.1f} %" for row in outside]
        axes.set_title("\n".join(title))
    assert image is not None
    bar = drawn.colorbar(image, ax=axes_of, fraction=0.03, pad=0.01)
    bar.set_label("sparsity, %")
    drawn.suptitle("Realised sparsity of each matrix", fontsize=8)
    return drawn


_FIGURES: dict[str, tuple[Callable[[Lookup], Drawn], str]] = {
    "f1": (_f1, "no pruned runs"),
    "change": (_heat, "no pruned runs that can be compared with a dense one"),
    "change-by-size": (_scatter, "no pruned runs to compare with a dense one, or no known sizes"),
    "robustness": (_robust, "no pruned run was evaluated with entities replaced"),
    "monolingual-multilingual": (
        _settings,
        "no pruned runs of the same method and sparsity in both settings",
    ),
    "layers": (_layers, "in every run all pruned matrices are equally sparse"),
}
