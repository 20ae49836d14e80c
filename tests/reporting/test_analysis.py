"""An analysis of runs with known numbers says what follows from them, and no more."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_runs as synthetic
from scipy import stats

from sparsejax.errors import UserError
from sparsejax.reporting import analysis, runs
from sparsejax.reporting.statistics import UNDECIDED

DATA = {"dir": "/data/panx"}
MODEL = {"path": "/models/mbert"}
CODES = ("en", "ar", "sw", "te", "yo")  # 20,000, 20,000, 1,000, 1,000 and 100 sentences
BASE = {"en": 0.9, "ar": 0.8, "sw": 0.7, "te": 0.6, "yo": 0.5}
DROP = {"en": -0.01, "ar": -0.02, "sw": -0.05, "te": -0.06, "yo": -0.2}
OF_SEED = (0.0, 0.02, -0.02)  # shared by dense and pruned, so no part of a change
NOISE = (-0.01, 0.0, 0.01)  # of the change: s = 0.01
HALF = 4.302653 * 0.01 / math.sqrt(3)


def config(codes: Any = CODES, *args: Any, **sections: Any) -> Any:
    sections = {"data": DATA, "model": MODEL} | sections
    return synthetic.config(codes, *args, **sections)


class Grid:
    """Run directories that are written as they are named."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0

    def add(self, config: Any, f1: Mapping[str, float | None] | None = None, **more: Any) -> None:
        self.number += 1
        synthetic.write_run(self.path / f"{self.number:03}", config, f1, **more)

    def add_curve(self, sparsities: tuple[float, ...] = (0.5, 0.9), factor: Any = None) -> None:
        """Dense and magnitude runs; at a sparsity the change is factor(sparsity) x DROP."""
        factor = factor or {0.5: -0.1, 0.9: 1.0}
        for seed in range(3):
            dense = {code: f1 + OF_SEED[seed] for code, f1 in BASE.items()}
            self.add(config(seed=seed), dense)
            for sparsity in sparsities:
                pruned = {
                    c: f1 + factor[sparsity] * DROP[c] + NOISE[seed] for c, f1 in dense.items()
                }
                self.add(config(CODES, "magnitude", sparsity, seed), pruned)

    def analysis(self) -> dict[str, Any]:
        found = [runs.read(p, n) for p, n in runs.find([self.path]).items()]
        result = analysis.analyse(found, "Title", ["said before"])
        json.dumps(result, allow_nan=False)
        return result


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


def one(rows: list[dict[str, Any]], **where: Any) -> dict[str, Any]:
    (found,) = [row for row in rows if all(row[k] == v for k, v in where.items())]
    return found


def ids(result: Mapping[str, Any]) -> dict[str, int]:
    return {variant["label"]: variant["id"] for variant in result["variants"]}


DENSE, HALVED, SPARSE = (
    f"multilingual, {n}" for n in ("dense", "magnitude, 50 %", "magnitude, 90 %")
)


def test_what_there_is(grid: Grid) -> None:
    grid.add_curve()
    found = grid.analysis()
    assert found["title"] == "Title" and found["notes"] == ["said before"]
    assert found["data"] == ["/data/panx"]
    assert list(ids(found)) == [DENSE, HALVED, SPARSE]
    sparse = found["variants"][2]
    assert sparse == {
        "id": 2, "label": SPARSE, "setting": "multilingual", "method": "magnitude",
        "sparsity": 0.9, "embeddings": False, "extra": "", "series": 0, "dense": 0,
        "seeds": [0, 1, 2], "languages": ["ar", "en", "sw", "te", "yo"],
    }  # fmt: skip
    assert found["variants"][0]["series"] is None and found["variants"][0]["dense"] is None
    (series,) = found["series"]
    assert series["label"] == "multilingual, magnitude"
    assert len(found["runs"]) == 9 and {run["status"] for run in found["runs"]} == {"finished"}
    yo = one(found["languages"], code="yo")
    assert (yo["name"], yo["script"], yo["resource"]) == ("Yoruba", "Latn", "100 or fewer")
    assert (yo["train"], yo["wikipedia_bytes"]) == (100, 6_426_868)


def test_cells(grid: Grid) -> None:
    grid.add_curve()
    found = grid.analysis()
    cell = one(found["cells"], variant=2, language="yo", perturbation="none")
    f1 = cell["f1"]
    seeds = [0.3 + a + b for a, b in zip(OF_SEED, NOISE, strict=True)]
    expected = stats.t.interval(0.95, 2, np.mean(seeds), stats.sem(seeds))
    assert f1["mean"] == pytest.approx(0.3, abs=1e-6)
    assert (f1["low"], f1["high"]) == pytest.approx(expected, abs=1e-6)
    assert (f1["n"], f1["of"]) == (3, "seeds")
    change = cell["change"]
    assert change["mean"] == pytest.approx(-0.2, abs=1e-6)
    assert change["high"] - change["low"] == pytest.approx(2 * HALF, abs=1e-5)
    assert cell["verdict"] == "lower"
    assert one(found["cells"], variant=2, language="en")["verdict"] == UNDECIDED
    dense = one(found["cells"], variant=0, language="yo")
    assert dense["change"] is None and dense["verdict"] is None


def test_averages_are_over_languages_first(grid: Grid) -> None:
    grid.add_curve()
    found = grid.analysis()
    row = one(found["groups"], variant=2, by="all")
    assert row["members"] == ["ar", "en", "sw", "te", "yo"]
    assert row["change"]["mean"] == pytest.approx(np.mean(list(DROP.values())), abs=1e-6)
    assert row["change"]["high"] - row["change"]["low"] == pytest.approx(2 * HALF, abs=1e-5)
    small = one(found["groups"], variant=2, by="resource", group="101 to 5,000")
    assert small["members"] == ["sw", "te"]
    assert small["f1"]["mean"] == pytest.approx(0.65 - 0.055, abs=1e-6)
    names = [row["group"] for row in found["groups"] if row["variant"] == 2]
    assert names[:4] == ["all languages", "100 or fewer", "101 to 5,000", "over 15,000"]
    assert one(found["groups"], variant=2, by="script", group="Telu")["members"] == ["te"]


def test_summary(grid: Grid) -> None:
    grid.add_curve()
    row = grid.analysis()["summary"][2]
    # Half an interval is 0.0248, so en and ar are undecided.
    assert (row["languages"], row["improved"], row["worse"], row["undecided"]) == (5, 0, 3, 2)
    assert (row["mean_up"], row["mean_down"]) == (0, 5)
    p = [2 * stats.t.sf(abs(drop) / (0.01 / math.sqrt(3)), 2) for drop in DROP.values()]
    kept = stats.false_discovery_control(p) <= 0.05
    assert (row["improved_fdr"], row["worse_fdr"]) == (0, kept.sum())
    assert row["worst"] == {"language": "yo", "f1": pytest.approx(0.3)}
    after = [BASE[code] + DROP[code] for code in CODES]
    assert row["sd"]["mean"] == pytest.approx(np.std(after, ddof=1), abs=1e-6)
    # From yo to the mean of en and ar: 0.35 apart, and 0.185 further after pruning.
    assert row["gap"]["mean"] == pytest.approx(0.535, abs=1e-6)
    assert row["gap_change"]["mean"] == pytest.approx(0.185, abs=1e-6)
    assert row["gap_verdict"] is None  # equal in all seeds, so there is no interval


def test_gap_between_averages(grid: Grid) -> None:
    f1 = {"en": 0.9, "ar": 0.8, "sw": 0.7, "te": 0.6}
    for seed in range(2):
        grid.add(config(tuple(f1), seed=seed), f1)
        after = f1 | {"en": 0.7, "te": 0.5 - 0.001 * seed}
        grid.add(config(tuple(f1), "magnitude", 0.9, seed), after)
    dense, pruned = grid.analysis()["summary"]
    assert dense["gap"]["mean"] == pytest.approx(0.2) and dense["gap_change"] is None
    assert pruned["gap_change"]["mean"] == pytest.approx(-0.1 + 0.05 + 0.00025)
    assert pruned["gap_verdict"] == "lower"


def test_where_a_language_falls_below(grid: Grid) -> None:
    grid.add_curve((0.5, 0.7, 0.9), {0.5: 0.2, 0.7: 0.55, 0.9: 1.0})
    rows = grid.analysis()["thresholds"]
    # yo: 5 % of 0.5 is 0.025; it loses 0.04 at 50 %, half an interval is about 0.025.
    assert one(rows, language="yo") == {
        "series": 0, "language": "yo", "sparsity": 0.5, "verdict": UNDECIDED
    }  # fmt: skip
    # te: 0.03 allowed, 0.012, 0.033 and 0.06 lost.
    assert one(rows, language="te")["sparsity"] == 0.7
    assert one(rows, language="en") == {
        "series": 0, "language": "en", "sparsity": None, "verdict": None
    }  # fmt: skip


def test_below_is_said_where_it_is_sure(grid: Grid) -> None:
    grid.add_curve((0.9,), {0.9: 1.0})
    rows = grid.analysis()["thresholds"]
    assert one(rows, language="yo")["verdict"] == "below"
    assert one(rows, language="sw")["verdict"] == UNDECIDED  # 0.015 beyond


def test_correlations(grid: Grid) -> None:
    grid.add_curve()
    rows = grid.analysis()["correlations"]
    sizes = [20_000, 20_000, 1_000, 1_000, 100]
    row = one(rows, variant=2, **{"with": "train"})
    assert row["rho"] == pytest.approx(stats.spearmanr(sizes, list(DROP.values())).statistic)
    assert row["n"] == 5
    assert {row["with"] for row in rows} == {"train", "wikipedia_bytes", "dense_f1"}


def test_dense_f1_of_other_seeds_than_the_change(grid: Grid) -> None:
    """Were it the same seed, the noise of dense F1 alone would give a correlation of -0.7."""
    codes = analysis.languages.XTREME
    rng = np.random.default_rng(0)
    for seed in range(2):
        for method in ("none", "magnitude"):
            f1 = {code: 0.5 + rng.normal(0, 0.05) for code in codes}
            grid.add(config(codes, method, 0.9, seed), f1)
    row = one(grid.analysis()["correlations"], variant=1, **{"with": "dense_f1"})
    assert abs(row["rho"]) < 0.35 and row["verdict"] == UNDECIDED


def test_layers(grid: Grid) -> None:
    for seed in range(2):
        pruned = config(CODES, "magnitude", 0.9, seed, True, prune={"scope": "global"})
        grid.add(pruned, BASE, layers=3)
    rows = grid.analysis()["layers"]
    assert rows[0] == {"variant": 0, "layer": None, "matrix": "embeddings/word", "sparsity": 0.9}
    assert len(rows) == 1 + 3 * 6
    assert one(rows, layer=2, matrix="mlp/output")["sparsity"] == 0.92


def test_what_is_missing_is_absent_and_said(grid: Grid) -> None:
    grid.add_curve()
    (grid.path / "006/results.jsonl").unlink()  # magnitude, 90 %, seed 1
    rows = synthetic.results.read(grid.path / "009/results.jsonl")  # seed 2
    less = [row for row in rows if row.get("language") != "yo"]
    synthetic.results.write(grid.path / "009/results.jsonl", less)
    found = grid.analysis()
    assert found["variants"][2]["seeds"] == [0, 2]
    assert one(found["cells"], variant=2, language="yo")["f1"]["n"] == 1
    assert one(found["cells"], variant=2, language="en")["f1"]["n"] == 2
    average = one(found["groups"], variant=2, by="all")
    assert average["members"] == ["ar", "en", "sw", "te"]  # both seeds have them
    assert average["f1"]["mean"] == pytest.approx(0.75 - 0.035 - 0.01, abs=1e-6)
    notes = "\n".join(found["notes"])
    assert "1 of 9 runs unfinished, not counted: 006" in notes
    assert "no run of seed 1: multilingual, magnitude (90 %)" in notes
    assert "no score of seed 2 for yo: multilingual, magnitude (90 %)" in notes
    assert "averages are over 4 languages, where others are over 5" in notes
    status = {run["name"]: (run["status"], run["variant"]) for run in found["runs"]}
    assert status["006"] == ("unfinished", None)


def test_averages_are_over_the_languages_of_both(grid: Grid) -> None:
    for seed in range(2):
        grid.add(config(seed=seed), {c: v for c, v in BASE.items() if c != "en"} | {"en": None})
        grid.add(config(CODES, "magnitude", 0.9, seed), {c: BASE[c] - 0.1 for c in CODES})
    found = grid.analysis()
    average = one(found["groups"], variant=1, by="all")
    assert average["members"] == ["ar", "sw", "te", "yo"]
    assert average["f1"]["mean"] == pytest.approx(0.55, abs=1e-6)
    assert one(found["cells"], variant=1, language="en")["change"] is None


def add_counted(grid: Grid, seed: int = 0, sentences: int = 400) -> None:
    """A dense run that finds 80 %, and a pruned one that misses every fourth of those."""
    for method in ("none", "magnitude"):
        counts = {}
        for at, code in enumerate(CODES):
            part = synthetic.sentences(0.8, sentences, at)
            if method != "none":
                hits = np.flatnonzero(part[:, 0])
                part[hits[::4], 0] = 0
            counts[code] = part
        grid.add(config(CODES, method, 0.9, seed), counts=counts)


def test_one_seed_has_the_interval_of_its_sentences(grid: Grid) -> None:
    add_counted(grid)
    found = grid.analysis()
    cell = one(found["cells"], variant=1, language="sw")
    assert (cell["f1"]["of"], cell["f1"]["n"]) == ("sentences", 400)
    # Differences are -1 in one of five sentences and else 0: s = 0.4.
    change = cell["change"]
    assert change["mean"] == pytest.approx(-0.2)
    assert change["high"] - change["low"] == pytest.approx(2 * 1.96 * 0.4 / 20, rel=0.1)
    assert cell["verdict"] == "lower"
    average = one(found["groups"], variant=1, by="all")["change"]
    width = 2 * 1.96 * 0.4 / 20 / math.sqrt(5)
    assert average["high"] - average["low"] == pytest.approx(width, rel=0.1)
    assert (average["n"], average["of"]) == (2000, "sentences")
    row = found["summary"][1]
    assert (row["worse"], row["worse_fdr"]) == (5, 5)
    assert row["sd"]["low"] is None and row["gap"]["of"] == "sentences"
    assert one(found["thresholds"], language="sw")["verdict"] == "below"
    assert any(note.startswith("one seed") for note in found["notes"])


def test_without_counts_one_seed_has_no_interval(grid: Grid) -> None:
    grid.add(config(), BASE)
    grid.add(config(CODES, "magnitude"), {code: f1 - 0.3 for code, f1 in BASE.items()})
    found = grid.analysis()
    cell = one(found["cells"], variant=1, language="sw")
    assert cell["change"] == {"mean": -0.3, "low": None, "high": None, "n": 1, "of": None}
    assert cell["verdict"] is None
    row = found["summary"][1]
    assert (row["worse"], row["undecided"], row["mean_down"]) == (0, 5, 5)
    assert row["worse_fdr"] == 0 and row["gap_verdict"] is None


def test_damaged_counts_are_said(grid: Grid) -> None:
    add_counted(grid)
    (grid.path / "001/counts.safetensors").write_bytes(b"cut")
    found = grid.analysis()
    cell = one(found["cells"], variant=1, language="sw")
    assert cell["f1"]["of"] == "sentences" and cell["change"]["of"] is None
    assert any("001/counts.safetensors" in note for note in found["notes"])


def test_counts_of_other_sentences_are_not_paired(grid: Grid) -> None:
    grid.add(config(), counts={c: synthetic.sentences(0.8, 100, 0) for c in CODES})
    part = synthetic.sentences(0.5, 100, 0)
    part[0, 1:] = 2  # another gold
    grid.add(config(CODES, "magnitude"), counts=dict.fromkeys(CODES, part))
    cell = one(grid.analysis()["cells"], variant=1, language="en")
    assert cell["f1"]["low"] is not None and cell["change"]["low"] is None


def test_seeds_are_paired(grid: Grid) -> None:
    """A dense seed that the pruned variant lacks has no part in the change."""
    for seed, value in enumerate((0.5, 0.6, 0.9)):
        grid.add(config(seed=seed), dict.fromkeys(CODES, value))
        if seed < 2:
            grid.add(config(CODES, "magnitude", 0.9, seed), dict.fromkeys(CODES, value + 0.05))
    cell = one(grid.analysis()["cells"], variant=1, language="en")
    assert cell["change"]["mean"] == pytest.approx(0.05) and cell["change"]["n"] == 2


def test_no_seed_in_common(grid: Grid) -> None:
    grid.add(config(seed=0), BASE)
    grid.add(config(CODES, "magnitude", 0.9, seed=1), BASE)
    found = grid.analysis()
    assert one(found["cells"], variant=1, language="en")["change"] is None
    assert any("no dense run of the same seed" in note for note in found["notes"])


def test_no_dense_run(grid: Grid) -> None:
    grid.add(config(CODES, "magnitude"), BASE)
    found = grid.analysis()
    assert found["variants"][0]["dense"] is None
    assert any("no dense run with the same data" in note for note in found["notes"])
    assert found["thresholds"] == [] and found["correlations"] == []


def test_monolingual_runs_are_one_variant(grid: Grid) -> None:
    for seed in range(2):
        for at, code in enumerate(CODES):
            if (code, seed) == ("yo", 1):
                continue
            grid.add(config([code], seed=seed), {code: BASE[code]})
            pruned = config([code], "movement", 0.9, seed)
            grid.add(pruned, {code: BASE[code] - 0.01 * at, "de": 0.0})
    found = grid.analysis()
    assert [v["label"] for v in found["variants"]] == [
        "monolingual, dense", "monolingual, movement, 90 %"
    ]  # fmt: skip
    average = one(found["groups"], variant=1, by="all")
    assert average["members"] == ["ar", "en", "sw", "te"]  # 2 seeds x 4 > 1 seed x 5
    assert average["change"]["mean"] == pytest.approx(-0.015)
    assert [language["code"] for language in found["languages"]] == ["ar", "en", "sw", "te", "yo"]
    notes = "\n".join(found["notes"])
    assert "no score of seed 1 for yo: monolingual, dense; monolingual, movement (90 %)" in notes
    assert "other languages than the one trained on" in notes


def test_settings_are_compared_over_the_same_languages(grid: Grid) -> None:
    for seed in range(3):
        grid.add(config(seed=seed), {c: f1 + OF_SEED[seed] for c, f1 in BASE.items()})
        for code in ("sw", "yo"):
            alone = BASE[code] + OF_SEED[seed] - 0.1 - NOISE[seed]
            grid.add(config([code], seed=seed), {code: alone})
    row = one(grid.analysis()["settings"], by="all")
    assert row["members"] == ["sw", "yo"]
    assert row["f1"]["multilingual"]["mean"] == pytest.approx(0.6, abs=1e-6)
    assert row["f1"]["monolingual"]["mean"] == pytest.approx(0.5, abs=1e-6)
    assert row["change"]["mean"] == pytest.approx(0.1, abs=1e-6)
    assert row["change"]["low"] == pytest.approx(0.1 - HALF, abs=1e-5)
    assert row["verdict"] == "higher"


def test_settings_that_differ_in_more_are_compared_with_a_note(grid: Grid) -> None:
    grid.add(config(), BASE)
    grid.add(config(["sw"], train={"epochs": 9}), {"sw": 0.5})
    found = grid.analysis()
    assert one(found["settings"], by="all")["members"] == ["sw"]
    assert any("compared though other settings differ" in note for note in found["notes"])
    grid.add(config(["sw"], train={"epochs": 5}), {"sw": 0.5})
    assert grid.analysis()["settings"] == []


def test_replaced_entities_are_compared_with_replaced_entities(grid: Grid) -> None:
    for seed in range(2):
        for method, f1, replaced in (("none", 0.9, 0.2), ("magnitude", 0.8, 0.5)):
            grid.add(
                config(CODES, method, 0.9, seed),
                dict.fromkeys(CODES, f1),
                perturbed={"language": dict.fromkeys(CODES, replaced)},
            )
    found = grid.analysis()
    row = one(found["groups"], variant=1, by="all", perturbation="language")
    assert (row["f1"]["mean"], row["change"]["mean"]) == pytest.approx((0.5, 0.3))
    assert one(found["groups"], variant=1, by="all", perturbation="none")["change"]["mean"] < 0


def test_other_replacements_are_not_compared(grid: Grid) -> None:
    for seed in range(2):
        for method, of in (("none", 0), ("magnitude", 1)):
            run = config(CODES, method, 0.9, seed)
            rows = synthetic.score_rows(run, dict.fromkeys(CODES, 0.4), "noise", seed=of)
            grid.add(run, dict.fromkeys(CODES, 0.9), more=rows)
    found = grid.analysis()
    cell = one(found["cells"], variant=1, language="en", perturbation="noise")
    assert cell["f1"]["mean"] == 0.4 and cell["change"] is None


def test_soft_movement_is_as_sparse_as_it_came_out(grid: Grid) -> None:
    grid.add(config(), BASE)
    for penalty, realised in ((100.0, 0.62), (400.0, 0.87)):
        soft = config(CODES, "soft_movement", 0.5, prune={"penalty": penalty})
        grid.add(soft, BASE, sparsity=realised)
    found = grid.analysis()
    assert [v["sparsity"] for v in found["variants"]] == [0, 0.62, 0.87]
    assert [v["extra"] for v in found["variants"]] == ["", "penalty 100.0", "penalty 400.0"]
    (series,) = found["series"]
    assert series["label"] == "multilingual, soft movement"


def test_fields_that_tell_runs_apart(grid: Grid) -> None:
    for scope in ("tensor", "global"):
        for embeddings in (False, True):
            pruned = config(CODES, "magnitude", 0.9, 0, embeddings, prune={"scope": scope})
            grid.add(pruned, BASE)
    grid.add(config(), BASE)
    # What is indifferent makes no new variant, so this run repeats one.
    moved = config(CODES, "none", 0.3, train={"log_every": 7}, prune={"scope": "global"})
    grid.add(dataclasses.replace(moved), BASE)
    found = grid.analysis()
    assert sorted(s["label"] for s in found["series"]) == [
        "multilingual, magnitude, embeddings pruned, scope global",
        "multilingual, magnitude, embeddings pruned, scope tensor",
        "multilingual, magnitude, scope global",
        "multilingual, magnitude, scope tensor",
    ]
    assert len(found["variants"]) == 5
    assert "006: the same settings and seed as 005; not counted" in found["notes"]


def test_a_dense_run_with_other_settings_is_said(grid: Grid) -> None:
    grid.add(config(), BASE)
    grid.add(config(CODES, "movement", train={"learning_rate": 3e-5, "epochs": 9}), BASE)
    found = grid.analysis()
    assert found["variants"][1]["dense"] == 0
    note = "the dense run differs in train.epochs, train.learning_rate as well"
    assert any(note in text for text in found["notes"])
    grid.add(config(train={"learning_rate": 1e-4}), BASE)  # now there are two that are not quite it
    found = grid.analysis()
    assert one(found["variants"], method="movement")["dense"] is None
    grid.add(config(train={"learning_rate": 3e-5, "epochs": 9}), BASE)  # and now the very one
    found = grid.analysis()
    pruned = one(found["variants"], method="movement")
    assert "epochs 9" in found["variants"][pruned["dense"]]["label"]


@pytest.mark.parametrize(
    "other", [{"train_sentences": 100}, {"dir": "/other"}, {"eval_sentences": 9}]
)
def test_other_data_is_never_compared(grid: Grid, other: dict[str, Any]) -> None:
    grid.add(config(data=DATA | other), BASE)
    grid.add(config(CODES, "magnitude"), BASE)
    assert one(grid.analysis()["variants"], method="magnitude")["dense"] is None


def test_training_sizes(grid: Grid) -> None:
    grid.add(config(("en", "sw"), data={"train_sentences": 150}), {"en": 0.5, "sw": 0.5})
    found = grid.analysis()
    assert [language["train"] for language in found["languages"]] == [150, 100]  # embedded: 2,000
    assert any("synthetic" in note for note in found["notes"])


def test_languages_that_nobody_knows(grid: Grid) -> None:
    grid.add(config(("en", "qqq"), data=DATA), {"en": 0.5, "qqq": 0.5})
    found = grid.analysis()
    unknown = one(found["languages"], code="qqq")
    assert (unknown["train"], unknown["resource"]) == (None, "unknown")
    assert any("training size unknown" in note and "qqq" in note for note in found["notes"])


def test_a_table_of_languages_of_ones_own(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("qqq: {name: Own, script: Latn, wikiann_train: 50}\n")
    for number, table in enumerate((str(tmp_path / "own.yaml"), str(tmp_path / "gone.yaml"))):
        grid.add(
            config(("en", "qqq"), seed=number, data=DATA | {"language_table": table}),
            {"en": 0.5, "qqq": 0.5},
        )
    found = grid.analysis()
    own = one(found["languages"], code="qqq")
    assert (own["name"], own["resource"]) == ("Own", "100 or fewer")
    assert any("gone.yaml" in note for note in found["notes"])


def test_nothing_finished(grid: Grid) -> None:
    grid.add(config())
    with pytest.raises(UserError, match="no run has scores"):
        grid.analysis()
