"""Runs of one process that differ in numbers only share compiled programs, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from sparsejax import config_values, prune, train
from sparsejax.config import Config
from sparsejax.runtime import compilation, logging, setup

METHODS = [
    *("none", "magnitude", "movement"),
    *(
        pytest.param(m, marks=pytest.mark.slow)
        for m in ("latent_magnitude", "soft_movement", "random")
    ),
]
FIRST: dict[str, Any] = {
    "data": {"train_sentences": 30, "eval_sentences": 20, "languages": ["en", "ru"]},
    "model": {"layers": 1, "width": 16, "heads": 2, "intermediate": 32, "vocabulary": 400},
    "train": {"epochs": 1},
    "prune": {"sparsity": 0.5},
}
# Every number that a program is given, each of them another one.
SECOND = FIRST | {
    "train": {
        "epochs": 2,
        "learning_rate": 1e-3,
        "warmup": 0.3,
        "weight_decay": 0.1,
        "clip_norm": 0.5,
        "log_every": 3,
    },
    "prune": {
        "sparsity": 0.9,
        "begin": 0.3,
        "end": 0.8,
        "interval": 2,
        "score_learning_rate": 0.1,
        "threshold": 0.4,
        "penalty": 20.0,
    },
    "seed": 3,
}


def config(values: dict[str, Any], method: str, output: Path) -> Config:
    pruning = values["prune"] | {"method": method}
    return config_values.overlay(
        Config(), values | {"prune": pruning, "output": str(output), "overwrite": True}
    )


@pytest.fixture(scope="module")
def data() -> setup.LastData:
    return setup.LastData()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_with_other_numbers_compiles_nothing(
    method: str, tmp_path: Path, data: setup.LastData
) -> None:
    quiet = logging.Log(quiet=True)
    with compilation.counted() as first:
        train.run(config(FIRST, method, tmp_path / "first"), log=quiet, data=data)
    assert first.count("_steps") <= 1  # none, where another test had the same program
    with compilation.counted() as second:
        train.run(config(SECOND, method, tmp_path / "second"), log=quiet, data=data)
    assert second == []


def test_other_sentences_need_no_other_program(tmp_path: Path) -> None:
    """Neither how many there are nor the seed, by which they are packed, changes the step."""
    quiet, rows = logging.Log(quiet=True), set()
    seeds = [FIRST | {"seed": seed} for seed in (0, 1)]
    fewer = FIRST | {"data": FIRST["data"] | {"train_sentences": 26}}
    with compilation.counted() as compiled:
        for i, values in enumerate([*seeds, fewer]):
            chosen = config(values, "magnitude", tmp_path / str(i))
            found = setup.prepare(chosen, setup.read(chosen, quiet))
            rows.add(len(found.packed.tokens))
            train.run(chosen, log=quiet)
    assert len(rows) > 1
    assert compiled.count("_steps") <= 1


@pytest.mark.parametrize("method", ["magnitude", "soft_movement"])
def test_a_run_after_others_is_the_run_that_is_alone(
    method: str, tmp_path: Path, data: setup.LastData
) -> None:
    quiet = logging.Log(quiet=True)
    for name, values in (("first", FIRST), ("second", SECOND)):
        train.run(config(values, method, tmp_path / name), log=quiet, data=data)
    alone = tmp_path / "alone"
    words = [sys.executable, "-m", "sparsejax.train", "--config", tmp_path / "second/config.yaml"]
    subprocess.run([*words, "--output", alone], check=True, capture_output=True)
    for name in ("model/model.safetensors", "results.jsonl"):
        assert (alone / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
    masks = [prune.read_masks(path / "masks.safetensors") for path in (alone, tmp_path / "second")]
    jax.tree.map(np.testing.assert_array_equal, *masks)
    losses = [
        [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (alone, tmp_path / "second")
    ]
    assert losses[0] == losses[1] and len(losses[0]) >= 2
