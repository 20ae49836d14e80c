"""Run directories are found, read as they are, and refused by name where they are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic_runs as synthetic

from sparsejax.errors import UserError
from sparsejax.reporting import runs
from sparsejax.runtime import counts, results

DENSE = synthetic.config(["en", "sw"])


def read(path: Path) -> runs.Run:
    return runs.read(path, path.name)


def test_runs_are_found_down_to_three_levels(tmp_path: Path) -> None:
    for name in ("a", "b/c", "grid/runs/d", "grid/runs/more/e"):
        synthetic.write_run(tmp_path / "x" / name, DENSE, {"en": 0.5, "sw": 0.5})
    (tmp_path / "x/a/model/inner").mkdir(parents=True)
    (tmp_path / "x/a/model/inner/config.yaml").write_text("not a run")
    (tmp_path / "x/.hidden").mkdir()
    (tmp_path / "x/.hidden/config.yaml").write_text("not a run")
    found = runs.find([tmp_path / "x"])
    assert list(found.values()) == ["a", "b/c", "grid/runs/d"]
    found = runs.find([tmp_path / "x/grid/runs/more", tmp_path / "x/a", tmp_path / "x"])
    assert sorted(found.values()) == ["a", "b/c", "e", "grid/runs/d"]


def test_two_runs_are_never_called_the_same(tmp_path: Path) -> None:
    for name in ("one/r", "two/r"):
        synthetic.write_run(tmp_path / name, DENSE)
    found = runs.find([tmp_path / "one", tmp_path / "two"])
    assert list(found.values()) == [str(tmp_path / "one/r"), str(tmp_path / "two/r")]


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: not a directory"):
        runs.find([tmp_path / "nowhere"])


def test_a_run_as_it_is(tmp_path: Path) -> None:
    path = synthetic.write_run(
        tmp_path / "r", DENSE, {"en": 0.5, "sw": None}, {"noise": {"en": 0.25, "sw": None}}
    )
    found = read(path)
    assert found.finished and found.seed == 0 and not found.monolingual
    main = found.main()
    assert main is not None and {code: row["f1"] for code, row in main.rows.items()} == {"en": 0.5}
    noisy = found.evaluation("noise", {})
    assert noisy is not None and noisy.rows["en"]["f1"] == 0.25
    assert found.evaluation("script", {}) is None


def test_an_unfinished_run(tmp_path: Path) -> None:
    assert not read(synthetic.write_run(tmp_path / "r", DENSE)).finished


def test_a_language_in_which_nothing_was_replaced_has_no_score(tmp_path: Path) -> None:
    rows = synthetic.score_rows(DENSE, {"en": 0.3, "sw": 0.9}, "script")
    rows[1]["replacement"]["changed"] = 0
    found = read(synthetic.write_run(tmp_path / "r", DENSE, {"en": 0.5, "sw": 0.9}, more=rows))
    changed = found.evaluation("script", {})
    assert changed is not None and list(changed.rows) == ["en"]


def test_of_several_evaluations_the_trainings_own_counts(tmp_path: Path) -> None:
    others = [
        row
        for number, where in enumerate(
            (
                {"limit": 10},
                {"split": "dev"},
                {"data": "/elsewhere"},
                {"evaluated": ["en"]},
                {"evaluated": ["ar", "en", "sw"]},
            )
        )
        for row in synthetic.score_rows(DENSE, {"en": 0.1 * number, "sw": 0.1}, **where)
    ]
    path = synthetic.write_run(tmp_path / "r", DENSE, {"en": 0.77, "sw": 0.5}, more=others)
    rows = results.read(path / "results.jsonl")
    results.write(path / "results.jsonl", reversed(rows))
    main = read(path).main()
    assert main is not None and main.rows["en"]["f1"] == 0.77


def test_replacements_that_most_runs_have_are_taken(tmp_path: Path) -> None:
    more = [
        row
        for seed in (0, 1)
        for row in synthetic.score_rows(DENSE, {"en": seed / 10}, "noise", seed=seed)
    ]
    found = read(synthetic.write_run(tmp_path / "r", DENSE, {"en": 0.5}, more=more))
    first = found.evaluation("noise", {})
    assert first is not None and first.setting["seed"] == 0
    second = next(e for e in found.evaluations if e.setting["seed"] == 1)
    assert found.evaluation("noise", {runs.key(second.setting): 3}) is second


def test_a_monolingual_run_counts_in_its_language_alone(tmp_path: Path) -> None:
    found = read(
        synthetic.write_run(tmp_path / "r", synthetic.config(["sw"]), {"en": 0.2, "sw": 0.8})
    )
    main = found.main()
    assert main is not None and list(main.rows) == ["sw"]


def damage(path: Path, how: str) -> None:
    rows = results.read(path / "results.jsonl")
    if how == "rows of version 2":
        results.write(path / "results.jsonl", [row | {"schema": 2} for row in rows])
    elif how == "checksum is wrong":
        text = (path / "results.jsonl").read_text().replace("0.5", "0.6")
        (path / "results.jsonl").write_text(text)
    elif how == "not the rows of an evaluation":
        del rows[0]["f1"]
        results.write(path / "results.jsonl", rows)
    elif how == "realised sparsity is missing":
        results.write(path / "results.jsonl", rows[:-1])
    elif how == "config.yaml: damaged":
        with (path / "config.yaml").open("a") as file:
            file.write("\n")
    elif how == "unknown field":
        text = (path / "config.yaml").read_text().replace("seed:", "sed:")
        (path / "config.yaml").write_text(text)
    else:
        (path / "results.jsonl").write_bytes(b"")


@pytest.mark.parametrize(
    "how",
    [
        "rows of version 2",
        "checksum is wrong",
        "not the rows of an evaluation",
        "realised sparsity is missing",
        "config.yaml: damaged",
        "unknown field",
        "empty",
    ],
)
def test_damaged_runs_are_refused_by_name(tmp_path: Path, how: str) -> None:
    pruned = synthetic.config(["en", "sw"], "magnitude")
    path = synthetic.write_run(tmp_path / "r", pruned, {"en": 0.5, "sw": 0.5})
    damage(path, how)
    with pytest.raises(UserError, match=how) as error:
        read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


COUNTS = {"en": synthetic.sentences(0.6, 50, 0), "sw": synthetic.sentences(0.4, 50, 1)}


def test_counts_of_sentences(tmp_path: Path) -> None:
    found = runs.counts(read(synthetic.write_run(tmp_path / "r", DENSE, counts=COUNTS)))
    assert list(found) == ["en", "sw"] and (found["en"] == COUNTS["en"]).all()
    assert runs.counts(read(synthetic.write_run(tmp_path / "s", DENSE, {"en": 0.5}))) == {}


def test_counts_of_another_evaluation_are_not_used(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "r", DENSE, counts=COUNTS)
    setting = results.setting(DENSE.data, COUNTS, "test")
    counts.write(path / "counts.safetensors", COUNTS | {"en": COUNTS["en"][:-1]}, setting)
    assert list(runs.counts(read(path))) == ["sw"]  # the F1 of en is another one
    counts.write(path / "counts.safetensors", COUNTS, setting | {"limit": 3})
    assert runs.counts(read(path)) == {}


def test_damaged_counts(tmp_path: Path) -> None:
    path = synthetic.write_run(tmp_path / "r", DENSE, counts=COUNTS)
    file = path / "counts.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="counts.safetensors"):
        runs.counts(read(path))
