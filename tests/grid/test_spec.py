"""Grids from YAML: what they expand to, against lists written by hand, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparsejax.config import Config
from sparsejax.data.languages import XTREME
from sparsejax.errors import UserError
from sparsejax.grid import spec

ROOT = Path(__file__).parents[2]
SWEEPS = ROOT / "configs" / "sweeps"


def read(tmp_path: Path, given: dict[str, Any] | None = None, **content: Any) -> spec.Grid:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return spec.read(path, given or {})


def test_every_combination_in_order(tmp_path: Path) -> None:
    grid = read(tmp_path, axes={"prune.sparsity": [0.5, 0.9], "seed": [3, 1]})
    assert [run.name for run in grid.runs] == [
        "sparsity=0.5,seed=3",
        "sparsity=0.5,seed=1",
        "sparsity=0.9,seed=3",
        "sparsity=0.9,seed=1",
    ]
    assert [(run.config.prune.sparsity, run.config.seed) for run in grid.runs] == list(
        itertools.product((0.5, 0.9), (3, 1))
    )
    assert grid.name == "grid"


def test_a_conditional_axis_is_only_where_its_condition_holds(tmp_path: Path) -> None:
    when = {"prune.method": ["magnitude", "movement"]}
    grid = read(
        tmp_path,
        axes={
            "prune.method": ["none", "magnitude", "movement"],
            "prune.embeddings": {"values": [False, True], "when": {"prune.method": "magnitude"}},
            "prune.sparsity": {"values": [0.5, 0.9], "when": when},
        },
    )
    assert [run.name for run in grid.runs] == [
        "method=none",
        "method=magnitude,embeddings=false,sparsity=0.5",
        "method=magnitude,embeddings=false,sparsity=0.9",
        "method=magnitude,embeddings=true,sparsity=0.5",
        "method=magnitude,embeddings=true,sparsity=0.9",
        "method=movement,sparsity=0.5",
        "method=movement,sparsity=0.9",
    ]
    assert grid.runs[0].axes == {"prune.method": "none"}
    assert grid.runs[0].config.prune.sparsity == Config().prune.sparsity


def test_a_condition_may_name_a_field_that_is_no_axis(tmp_path: Path) -> None:
    axes = {"prune.sparsity": {"values": [0.5], "when": {"train.epochs": 3}}, "seed": [0]}
    names = [run.name for run in read(tmp_path, set={"train.epochs": 3}, axes=axes).runs]
    assert names == ["sparsity=0.5,seed=0"]
    with pytest.raises(UserError, match="its `when` holds in no run"):
        read(tmp_path, set={"train.epochs": 4}, axes=axes)


def test_what_wins(tmp_path: Path) -> None:
    """Defaults, then the configuration, `set`, flags, axes, and last `where`."""
    (tmp_path / "base.yaml").write_text("train: {epochs: 2, batch_size: 2, log_every: 2}\nseed: 2")
    grid = read(
        tmp_path,
        {"train": {"log_every": 4}},
        config="base.yaml",
        set={"train.batch_size": 3, "train": {"log_every": 3}},
        axes={"seed": [0, 1]},
        where=[
            {"when": {"seed": [0, 1]}, "set": {"train.warmup": 0.5}},
            {"when": {"seed": 1}, "set": {"train.warmup": 0.25}},
        ],
    )
    found = [
        (c.train.epochs, c.train.batch_size, c.train.log_every, c.seed, c.train.warmup)
        for c in (run.config for run in grid.runs)
    ]
    assert found == [(2, 3, 4, 0, 0.5), (2, 3, 4, 1, 0.25)]


def test_names_keep_to_what_a_directory_can_be_called(tmp_path: Path) -> None:
    axes = {
        "data.languages": [["en", "de"], []],
        "model.path": ["/a/b c/../d é", None],
        "train.learning_rate": ["1e-4"],
        "prune.score_learning_rate": [0.01],
        "data.train_sentences": [None],
    }
    names = [run.name for run in read(tmp_path, axes=axes).runs]
    rest = "learning_rate=0.0001,score_learning_rate=0.01,train_sentences=none"
    assert names == [
        f"languages={codes},path={path},{rest}"
        for codes in ("en+de", "all")
        for path in ("d_é", "none")
    ]
    assert spec.read(tmp_path / "grid.yaml", {}).runs[0].config.train.learning_rate == 1e-4


def test_fields_that_end_alike_are_named_in_full(tmp_path: Path) -> None:
    axes = {"model.path": ["m"], "model.hub": ["a"], "data.hub": ["b"]}
    (run,) = read(tmp_path, axes=axes).runs
    assert run.name == "path=m,model.hub=a,data.hub=b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "axes: there is none"),
        ({"axes": {"prune.sparsty": [0.5]}}, "did you mean prune.sparsity"),
        ({"axes": {"sparsity": [0.5]}}, "did you mean prune.sparsity"),
        ({"axes": {"prune": [0.5]}}, "axes: prune is not a field"),
        ({"axes": {"prune.sparsity": ["much"]}}, "prune.sparsity: 'much' is not a finite number"),
        ({"axes": {"seed": [0.5]}}, "seed: 0.5 is not a whole number"),
        ({"axes": {"seed": []}}, "axes: seed: the list of values is empty"),
        ({"axes": {"seed": {"values": []}}}, "axes: seed: the list of values is empty"),
        ({"axes": {"seed": 3}}, "axes: seed: 3 is not a list"),
        ({"axes": {"seed": {"value": [1]}}}, "axes: seed: unknown key 'value'"),
        ({"axes": {"seed": [1, 2, 1]}}, "two runs have the name 'seed=1'"),
        ({"axes": {"prune.sparsity": [0.9, 0.90]}}, "two runs have the name 'sparsity=0.9'"),
        ({"axes": {"prune.sparsity": [1.5]}}, "run sparsity=1.5: prune.sparsity: 1.5 is not in"),
        ({"axes": {"output": ["a"]}}, "output is not for a grid"),
        ({"axes": {"parallel.process": [1]}}, "parallel.process is not for a grid"),
        ({"axes": {"seed": [1]}, "set": {"resume": "auto"}}, "set: resume is not for a grid"),
        ({"axes": {"seed": [1]}, "set": {"trian.epochs": 1}}, "set: trian.epochs is not a field"),
        ({"axes": {"seed": [1]}, "axis": {}}, "unknown key 'axis'"),
        ({"axes": {"seed": [1]}, "where": [{"set": {"seed": 1}}]}, "where, entry 1: needs both"),
        ({"axes": {"seed": [1]}, "evaluate": {"perturb": ["words"]}}, "'words' is not one of"),
        ({"axes": {"seed": [1]}, "config": "missing.yaml"}, "missing.yaml: cannot be read"),
        (
            {"axes": {"seed": {"values": [1], "when": {"train.epochs": [1]}}, "train.epochs": [1]}},
            "seed: when: train.epochs must stand above it",
        ),
        ({"axes": {"data.dir": ["x" * 201]}}, "too long; shorten its values"),
        ({"axes": {"model.path": ["a/x", "b/x"]}}, "give values names that differ"),
        ({"axes": {"seed": [1]}, "where": 5}, "where: 5 is not a list"),
        (
            {"axes": {"seed": [1]}, "where": {"when": {"seed": 1}, "set": {"train.epochs": 1}}},
            "is not a list; put a dash before each `when`",
        ),
        (
            {"axes": {"seed": [1]}, "where": [{"when": {"seed": [1]}, "set": {"seed": 2}}]},
            "where: seed is an axis",
        ),
        (
            {"axes": {"seed": {"values": [1], "when": {"train.epochs": 9}}, "train.warmup": [0.5]}},
            "axes: seed: its `when` holds in no run",
        ),
        (
            {"axes": {"prune.method": ["none", "magnitude"], "prune.sparsity": [0.3, 0.6]}},
            "method=none,sparsity=0.3 and method=none,sparsity=0.6 are the same run",
        ),
        (
            {"axes": {"seed": {"values": [1], "when": {"train.epochs": ["x"]}}}},
            "axes: seed: when: train.epochs: 'x' is not a whole number",
        ),
        ({"axes": {"seed": [1]}, "evaluate": {"perturb": "noise"}}, "evaluate: perturb: 'noise'"),
        ({"axes": {"seed": [1]}, "config": ""}, "config: '' is not the path of a file"),
    ],
)
def test_mistakes(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, **content)
    assert message in str(error.value)
    assert str(tmp_path / "grid.yaml") in str(error.value) and "\n" not in str(error.value)


def test_a_flag_for_what_the_grid_decides_is_refused(tmp_path: Path) -> None:
    where = [{"when": {"seed": 1}, "set": {"train.epochs": 3}}]
    for given in ({"prune": {"sparsity": 0.1}}, {"train": {"epochs": 1}}):
        with pytest.raises(UserError, match="a flag sets it in all runs"):
            read(tmp_path, given, axes={"prune.sparsity": [0.5], "seed": [1]}, where=where)


def test_a_run_without_any_axis_has_no_name(tmp_path: Path) -> None:
    axes = {
        "seed": {"values": [1], "when": {"train.epochs": [8]}},
        "prune.begin": {"values": [0.5], "when": {"seed": [2]}},
    }
    with pytest.raises(UserError, match=r"axes: prune.begin: its `when` holds in no run"):
        read(tmp_path, axes=axes)


def test_long_lists_have_short_names(tmp_path: Path) -> None:
    many = [f"l{number}" for number in range(60)]
    names = [run.name for run in read(tmp_path, axes={"data.languages": [many, many[:59]]}).runs]
    assert len(set(names)) == 2 and all(len(name) < 40 for name in names)
    assert names[0].startswith("languages=60-")


def test_a_value_that_contains_itself(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("set: &a {train: *a}\naxes: {seed: [1]}\n")
    with pytest.raises(UserError, match=r"grid.yaml: a value contains itself"):
        spec.read(tmp_path / "grid.yaml", {})


def test_the_quickstart_is_what_it_says() -> None:
    runs = spec.read(SWEEPS / "quickstart.yaml", {}).runs
    found = [(r.config.prune.method, r.config.prune.sparsity, r.config.seed) for r in runs]
    pruned = itertools.product(("magnitude", "movement"), (0.5, 0.7, 0.9, 0.98), (0, 1))
    assert found == [("none", 0.9, 0), ("none", 0.9, 1), *pruned]


def test_the_grid_of_the_paper() -> None:
    """As far as it is known: 40 languages together and each by itself, 7 sparsities, 3 seeds."""
    grid = spec.read(SWEEPS / "paper.yaml", {})
    assert grid.evaluate.perturb == ("language", "script", "family")
    together = tuple(XTREME)
    wanted = set()
    for codes in (together, *((code,) for code in XTREME)):
        for seed in range(3):
            wanted.add((codes, "none", None, None, seed))
            for embeddings in (False, True):
                for sparsity in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98):
                    wanted.add((codes, "magnitude", sparsity, embeddings, seed))
    found = [
        (
            run.config.data.languages,
            run.config.prune.method,
            run.axes.get("prune.sparsity"),
            run.axes.get("prune.embeddings"),
            run.config.seed,
        )
        for run in grid.runs
    ]
    assert len(found) == 41 * 15 * 3 == 1845
    assert set(found) == wanted
    for run in grid.runs:
        config = run.config
        assert config.model.hub == "google-bert/bert-base-multilingual-cased"
        assert config.data.hub == "unimelb-nlp/wikiann"
        assert config.prune.embeddings == run.axes.get("prune.embeddings", False)
        assert config.data.train_sentences is None and config.data.eval_sentences is None


def test_the_grid_of_movement_pruning_has_dense_runs_of_its_own() -> None:
    runs = spec.read(SWEEPS / "paper_movement.yaml", {}).runs
    assert len(runs) == 41 * 8 * 3
    assert {run.config.train.learning_rate for run in runs} == {3e-5}
    assert sum(run.config.prune.method == "none" for run in runs) == 41 * 3
    assert not any(run.config.prune.embeddings for run in runs)


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_first_comment_says_how_many_runs_there_are(path: Path) -> None:
    grid, text = spec.read(path, {}), path.read_text()
    assert f"python -m sparsejax.sweep configs/sweeps/{path.name}" in text
    assert f"{len(grid.runs):,} runs" in text
