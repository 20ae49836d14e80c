"""Results as tables for a person; numbers are the ones of results.jsonl, in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from sparsejax.data.languages import Language, lookup
from sparsejax.prune import Audit

Row = Mapping[str, Any]


def scores(rows: Sequence[Row], table: Mapping[str, Language]) -> Table:
    """Scores per language in percent, the averages below a line."""
    out = Table(title="Entity scores on the test split, %")
    out.add_column("language", no_wrap=True)
    for name in ("precision", "recall", "F1", "support"):
        out.add_column(name, justify="right")
    languages = [row for row in rows if row["kind"] == "scores"]
    for i, row in enumerate(languages):
        out.add_row(
            _named(row["language"], table),
            *(_percent(row[name]) for name in ("precision", "recall", "f1")),
            f"{row['support']:,}",
            end_section=i == len(languages) - 3,  # macro and micro follow
        )
    return out


def _named(code: str, table: Mapping[str, Language]) -> Text:
    return Text(f"{code} {lookup(table, code).name}".strip())


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def sparsity(audit: Audit) -> Table:
    """Realised sparsity in the three denominators."""
    table = Table(title="Weights that are exactly zero")
    for name in ("of", "zero", "weights", "sparsity, %"):
        table.add_column(name, justify="left" if name == "of" else "right")
    counts = {"target matrices": audit.targets, "encoder": audit.encoder, "model": audit.model}
    for name, count in counts.items():
        if count is not None:
            table.add_row(
                name, f"{count.zeros:,}", f"{count.size:,}", f"{100 * count.sparsity:.2f}"
            )
    return table


def evaluation(rows: Sequence[Row], table: Mapping[str, Language]) -> list[Table]:
    """Two tables: of the languages with their averages, and of the groups of languages."""
    of_languages = Table(title="Entity scores, %")
    of_languages.add_column("language", no_wrap=True)
    columns = ("precision", "recall", "F1", "strict", "clean", "ECE", "entities")
    for name in columns:
        of_languages.add_column(name, justify="right")
    found = [row for row in rows if row["kind"] == "scores"]
    for i, row in enumerate(found):
        of_languages.add_row(
            _named(row["language"], table),
            *(_percent(row[name]) for name in ("precision", "recall", "f1")),
            *(_percent(row[name]["f1"]) for name in ("strict", "clean")),
            _percent(row["calibration_error"]),
            f"{row['support']:,}",
            end_section=i == len(found) - 3,  # macro and micro follow
        )
    macro = found[-2]
    of_languages.caption = (
        f"strict: F1 of strict IOB2; clean: F1 on the {macro['clean_sentences']:,} of "
        f"{macro['sentences']:,} sentences that training did not hold; "
        f"lowest F1: {macro['worst'] or '-'}"
    )
    of_groups = Table(title="Macro F1 of groups of languages, %")
    for name in ("by", "group", "F1", "strict", "clean", "languages"):
        of_groups.add_column(name, justify="left" if name in ("by", "group") else "right")
    groups = [row for row in rows if row["kind"] == "group"]
    for i, row in enumerate(groups):
        of_groups.add_row(
            row["by"],
            Text(row["group"]),
            _percent(row["f1"]),
            *(_percent(row[name]["f1"]) for name in ("strict", "clean")),
            str(row["languages"]),
            end_section=i + 1 < len(groups) and groups[i + 1]["by"] != row["by"],
        )
    return [of_languages, of_groups]


def perturbations(rows: Mapping[str, Sequence[Row]], table: Mapping[str, Language]) -> Table:
    """F1 on the sentences whose entities were replaced: as they were, and as they are now."""
    kinds = {kind: part for kind, part in rows.items() if kind != "none"}
    out = Table(title="F1 before and after replacing every entity, %, on the changed sentences")
    out.add_column("language", no_wrap=True)
    for kind in kinds:
        out.add_column(kind, justify="right")
    by_kind = [[row for row in part if row["kind"] == "scores"] for part in kinds.values()]
    for i, cells in enumerate(zip(*by_kind, strict=True)):
        changed = [row["changed"] for row in cells]
        out.add_row(
            _named(cells[0]["language"], table),
            *(_change(row["before"]["f1"], row["after"]["f1"]) for row in changed),
            end_section=i == len(by_kind[0]) - 3,
        )
    return out


def _change(before: float | None, after: float | None) -> str:
    return "-" if before is None and after is None else f"{_percent(before)}→{_percent(after)}"


def replacements(rows: Mapping[str, Sequence[Row]]) -> Table:
    """How many sentences were changed, over all languages, and why the others were not."""
    out = Table(title="Sentences whose entities were replaced")
    out.add_column("by")
    for name in ("changed", "no candidate", "no entity", "entities replaced"):
        out.add_column(name, justify="right")
    fields = ("changed", "without_candidate", "without_entity", "replaced")
    for kind, part in rows.items():
        counts = [row["replacement"] for row in part if "replacement" in row]
        if counts:
            out.add_row(kind, *(f"{sum(count[name] for count in counts):,}" for name in fields))
    return out


def disagreement(rates: Mapping[str, Row], table: Mapping[str, Language]) -> Table:
    """How often two taggers differ, by language."""
    out = Table(title="Sentences that two runs tag differently, and entities that one finds, %")
    out.add_column("language", no_wrap=True)
    for name in ("differ", "1st right", "2nd right"):
        out.add_column(name, justify="right")
    for name in ("lost", "gained", "unseen lost", "unseen gained"):
        out.add_column(name, justify="right")
    for code, row in rates.items():
        sentences = ("differ", "only_first_right", "only_second_right")
        out.add_row(
            _named(code, table),
            *(_percent(_share(row[name], row["sentences"])) for name in sentences),
            *(
                _percent(_share(part[name], part["entities"]))
                for part in (row, row["unseen"])
                for name in ("lost", "gained")
            ),
            end_section=code == list(rates)[-2],
        )
    out.caption = (
        "of the sentences: those that differ, and those that one run alone gets right; "
        "of the entities: lost, found by the first alone, gained, by the second alone; "
        "unseen: of those that training did not hold"
    )
    return out


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
