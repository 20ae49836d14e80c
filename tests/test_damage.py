"""Files of a run cut off or with a flipped bit: found, or without effect; never another result."""

from __future__ import annotations

import dataclasses
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsejax import prune, train
from sparsejax.config import CheckpointConfig, Config, DataConfig, ModelConfig, TrainConfig
from sparsejax.config_files import load
from sparsejax.data import cache, seen
from sparsejax.errors import UserError
from sparsejax.ner import saved
from sparsejax.runtime import results
from sparsejax.runtime.checkpoint import About, Checkpoints

PLACES = 50

TINY = Config(
    data=DataConfig(languages=("en",), train_sentences=20, eval_sentences=5),
    model=ModelConfig(layers=1, width=16, heads=2, intermediate=32, vocabulary=200),
    train=TrainConfig(epochs=1, batch_size=8, log_every=1),
    checkpoint=CheckpointConfig(every=1),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    data = dataclasses.replace(TINY.data, cache=str(path / "cache"))
    return train.run(dataclasses.replace(TINY, data=data, output=str(path / "run")))


def read_model(path: Path) -> Any:
    tagger = saved.load(path.parent, "float32")
    leaves = [(keys, x.tobytes()) for keys, x in _leaves(tagger.params)]
    return tagger.labels, tagger.tokenizer.backend_tokenizer.to_str(), leaves


def _leaves(tree: Any) -> list[tuple[str, np.ndarray]]:
    return [(name, np.asarray(x)) for name, x in prune.targets.by_path(tree).items()]


def read_masks(path: Path) -> Any:
    return {name: mask.tobytes() for name, mask in prune.read_masks(path).items()}


def read_seen(path: Path) -> Any:
    return [keys.tobytes() for keys in seen.load(path)]


def read_cache(path: Path) -> Any:
    found = cache.read(path)
    if found is None:  # which has it made again
        raise UserError("made again")
    return {name: array.tobytes() for name, array in found[0].items()}, found[1]


def read_results(path: Path) -> Any:
    return [row for row in results.read(path) if "crc32" not in row]  # a damaged first line is none


FILES: list[tuple[str, Callable[[Path], Any]]] = [
    ("run/model/model.safetensors", read_model),
    ("run/model/config.json", read_model),
    ("run/model/tokenizer.json", read_model),
    ("run/masks.safetensors", read_masks),
    ("run/seen.safetensors", read_seen),
    ("run/results.jsonl", read_results),
    ("run/config.yaml", lambda path: load(path, of_run=True)),
    ("cache/*.safetensors", read_cache),
]


@pytest.mark.parametrize(("pattern", "read"), FILES, ids=[name for name, _ in FILES])
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_damage_is_found_or_has_no_effect(
    run: Path, pattern: str, read: Callable[[Path], Any], how: str
) -> None:
    path = sorted(run.parent.glob(pattern))[0]
    whole = path.read_bytes()
    wanted = read(path)
    chosen = random.Random(0)
    found = 0
    try:
        for _ in range(PLACES):
            path.write_bytes(damaged(whole, how, chosen))
            try:
                assert read(path) == wanted
            except (UserError, ValueError) as error:  # ValueError: of `sparsejax.prune`
                assert str(error) and "\n" not in str(error)
                found += 1
    finally:
        path.write_bytes(whole)
    assert found >= PLACES * 0.8


def damaged(whole: bytes, how: str, chosen: random.Random) -> bytes:
    if how == "cut":
        return whole[: chosen.randrange(len(whole))]
    content = bytearray(whole)
    content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    return bytes(content)


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_damaged_checkpoints_are_skipped(run: Path, how: str) -> None:
    checkpoints = Checkpoints(run / "checkpoints", 2)
    older, newest = checkpoints.steps()
    files = [path for path in (run / f"checkpoints/{newest}").rglob("*") if path.is_file()]
    files = [path for path in files if path.stat().st_size]
    about = About(0, *configuration(run, newest))
    said: list[str] = []
    assert checkpoints.newest(about, said.append) == newest and said == []
    chosen = random.Random(1)
    for _ in range(PLACES):
        path = chosen.choice(files)
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, how, chosen))
        try:
            found = checkpoints.newest(about, said.append)
        finally:
            path.write_bytes(whole)
        assert found == older
        assert f"checkpoint {newest} is skipped: {run}" in said.pop()
    assert checkpoints.newest(about, said.append) == newest and said == []


def configuration(run: Path, step: int) -> tuple[str, str]:
    import json

    about = json.loads((run / f"checkpoints/{step}/about.json").read_text())
    return about["config"], about["data"]


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize(("pattern", "read"), FILES, ids=[name for name, _ in FILES])
def test_no_pickle_is_ever_read(
    run: Path, tmp_path: Path, pattern: str, read: Callable[[Path], Any]
) -> None:
    path = sorted(run.parent.glob(pattern))[0]
    whole = path.read_bytes()
    content = pickle.dumps(Malicious(tmp_path / "executed"))
    try:
        path.write_bytes(content)
        with pytest.raises((UserError, ValueError)):
            read(path)
    finally:
        path.write_bytes(whole)
    assert not (tmp_path / "executed").exists()
    pickle.loads(content)  # it would have worked
    assert (tmp_path / "executed").exists()
