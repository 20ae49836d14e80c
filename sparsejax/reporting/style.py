"""How figures look: sizes of a two-column paper, lines that differ in grey as well, fixed bytes."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.9  # inches, over both columns
# Okabe & Ito's colours, in an order in which neighbours differ in lightness; then dashes, markers.
LINES: tuple[tuple[str, Any, str], ...] = (
    ("#0072B2", "-", "o"),
    ("#E69F00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#D55E00", ":", "D"),
    ("#CC79A7", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#000000", (0, (1, 1)), "P"),
)
DENSE = "#555555"

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "svg.hashsalt": "sparsejax",
    "pdf.fonttype": 42,
    "figure.dpi": 150,
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Settings for drawing and for saving; a user's own matplotlibrc has no influence."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def figure(height: float) -> Figure:
    """An empty one over both columns, that is of no window."""
    from matplotlib.figure import Figure

    return Figure((WIDTH, height), layout="constrained")


def content(drawn: Figure, kind: Literal["svg", "pdf", "png"]) -> bytes:
    """The file of a figure: the same bytes for the same figure."""
    file = io.BytesIO()
    about: dict[str, Any] = {
        "svg": {"Date": None, "Creator": "sparsejax"},
        "pdf": {"CreationDate": None, "ModDate": None, "Creator": "sparsejax"},
    }.get(kind, {})
    with styled():
        drawn.savefig(file, format=kind, metadata=about)
    return file.getvalue()


def line(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of one of several lines."""
    color, dashes, marker = LINES[number % len(LINES)]
    return {"color": color, "linestyle": dashes, "marker": marker}


def place(sparsity: float) -> float:
    """Where a sparsity goes on the axis: by the logarithm of the share of weights that is left.

    90, 95 and 98 % are far apart there, as they are for the model.
    """
    return -math.log10(max(1 - sparsity, 1e-4))


def sparsity_axis(axes: Axes, sparsities: Iterable[float], columns: int) -> None:
    """Ticks at these sparsities, as far as they do not touch.

    Args:
      columns: of panels, beside each other in the figure.
    """
    ticks: list[float] = []
    found = sorted(set(sparsities))
    least = 0.028 * columns * place(found[-1]) if found else 0
    for sparsity in [*found[:1], *reversed(found[1:])]:  # the first; of two that touch, the sparser
        if all(abs(place(tick) - place(sparsity)) > least for tick in ticks):
            ticks.append(sparsity)
    axes.set_xticks([place(s) for s in ticks], [f"{round(100 * s, 1):g}" for s in ticks])
    axes.set_xlabel("sparsity, %")


def grid(drawn: Figure, panels: int, columns: int, share: bool = True) -> list[Axes]:
    """Panels row by row; the rest of the last row stays empty."""
    rows = -(-panels // columns)
    found: list[Axes] = []
    for number in range(panels):
        first = found[0] if found and share else None
        found.append(drawn.add_subplot(rows, columns, number + 1, sharey=first))
        if share and number % columns:
            found[-1].tick_params(labelleft=False)
    return found


def chunks(items: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """Consecutive parts of nearly the same size, none larger than `most`."""
    if not items:
        return []
    number = -(-len(items) // most)
    size = -(-len(items) // number)
    return [items[start : start + size] for start in range(0, len(items), size)]


def numbered(name: str, count: int) -> list[str]:
    """Names for parts of a figure: `name`, `name-2`, ..."""
    return [name if number == 0 else f"{name}-{number + 1}" for number in range(count)]
