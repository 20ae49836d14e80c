"""Tables, figures and one HTML page of many runs: which languages paid, and how sure that is.

RUNS, the first arguments, are run directories, or directories that hold some, up to three levels
below, as a grid does. Runs that are missing, unfinished or damaged are named and left out.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from sparsejax import command_line, config_values, files
from sparsejax.errors import UserError, one_line

_FIGURES = re.compile(
    r"(f1|change|robustness|monolingual-multilingual|layers)(-[\w-]+)?\.(svg|pdf)"
)

TITLE = "Which languages pay for pruning"


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """One report."""

    output: str = "report"  # Directory to write to; an older report there is replaced
    title: str | None = None  # Of the page and the tables


def run(roots: Sequence[Path], config: ReportConfig) -> None:
    """Reads runs, analyses them, and writes the report.

    Raises:
      UserError: there is no run that can be read, or none has scores; the output is no place for a
        report.
    """
    from sparsejax.reporting import analysis, figures, markup, scores, sheets, style, tables
    from sparsejax.reporting import runs as reading
    from sparsejax.reporting.page import page

    paths = reading.find(roots)
    if not paths:
        raise UserError(
            f"{' '.join(map(str, roots))}: no runs; a run is a directory with a config.yaml, at "
            f"most {reading.DEPTH} levels below"
        )
    found, notes = [], []
    for path, name in paths.items():
        try:
            found.append(reading.read(path, name))
        except UserError as error:
            notes.append(f"left out: {error}")
            print(notes[-1], file=sys.stderr)
    if not found:
        raise UserError("no run that can be read")
    result = analysis.analyse(found, config.title or TITLE, notes)
    drawn, absent = figures.figures(result)
    made = tables.tables(result)
    texts = {
        "analysis.json": json.dumps(result, ensure_ascii=False, allow_nan=False, indent=1) + "\n",
        "scores.csv": sheets.scores(result, found, scores.choose(found)),
        "means.csv": sheets.means(result),
        "summary.csv": sheets.summary(result),
        "tables.md": markup.markdown(result, made, absent),
        "tables.tex": markup.latex(made),
        "index.html": page(result),
    }
    output = Path(config.output)
    (output / "figures").mkdir(parents=True, exist_ok=True)
    for old in (output / "figures").iterdir():
        if _FIGURES.fullmatch(old.name) and old.stem not in drawn:
            old.unlink()
    for name, figure in drawn.items():
        files.write_whole(output / "figures" / f"{name}.svg", style.content(figure, "svg"))
        files.write_whole(output / "figures" / f"{name}.pdf", style.content(figure, "pdf"))
    for name, text in texts.items():
        files.write_whole(output / name, text.encode("utf-8", "replace"))
    for note in result["notes"][len(notes) :]:
        print(f"note: {note}")
    finished = sum(one.finished for one in found)
    print(f"{finished:,} runs, {len(made)} tables, {len(drawn)} figures; see {output}/index.html")


def check(roots: Sequence[Path], config: ReportConfig) -> None:
    """Raises a UserError for what can be seen before anything is read."""
    missing = [name for name in ("matplotlib", "scipy") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"a report needs {' and '.join(missing)}: pip install 'sparsejax[report]', or "
            f"{' '.join(missing)}"
        )
    if not roots:
        raise UserError("the first arguments are directories of runs")
    output = Path(config.output)
    if output.exists() and not output.is_dir():
        raise UserError(f"output: {output} is a file, not a directory")
    for path in (output, *output.resolve().parents):
        if (path / "config.yaml").is_file():
            raise UserError(f"output: {output} is inside the run {path}; choose another directory")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: a mistake of the user's ends in one line and exit status 1."""
    words = sys.argv[1:] if argv is None else list(argv)
    with one_line("stopped before the end of the report"):
        first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        roots = [Path(word) for word in words[:first]]
        given = command_line.flags(
            ReportConfig, words[first:], "python -m sparsejax.report RUNS...", __doc__ or ""
        )
        config: ReportConfig = config_values.overlay(ReportConfig(), given)
        check(roots, config)
        run(roots, config)


if __name__ == "__main__":
    main()
