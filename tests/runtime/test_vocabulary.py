"""Training on the rows of the word embeddings that occur: the same model, but for rounding."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sparsejax import config_files, train
from sparsejax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    ModelConfig,
    PruneConfig,
    TrainConfig,
)
from sparsejax.data.packing import Packed
from sparsejax.data.tokenization import IGNORE
from sparsejax.errors import Stopped, UserError
from sparsejax.models import bert, huggingface
from sparsejax.runtime import logging, optimization, parallel, setup, steps, stopping, vocabulary

PIECES = 40
SMALL = bert.BertConfig(
    vocab_size=PIECES,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=8,
    num_labels=7,
)
OCCUR = np.array([2, 3, 5, 11, 12, 30, 39])
STEPS = 6
TINY = ModelConfig(layers=1, width=16, heads=2, intermediate=32, vocabulary=400)
CPU = {"JAX_PLATFORMS": "cpu"}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "FEWEST", 8)


def words(params: bert.Params) -> np.ndarray:
    return np.asarray(params["embeddings"]["word"]["embedding"])


def packed(rng: np.random.Generator) -> Packed:
    tokens = rng.choice(OCCUR, size=(4, 8)).astype(np.int32)
    tokens[0, : len(OCCUR)] = OCCUR
    positions = np.tile(np.arange(8, dtype=np.int32), (4, 1))
    labels = tokens % 7
    labels[2, 0] = IGNORE
    return Packed(tokens, positions, np.ones_like(tokens), labels, np.arange(tokens.size))


def trained(config: Config, params: bert.Params, rows: Any, chosen: Any) -> steps.TrainState:
    """The state after all steps, with the whole model in it."""
    mesh = parallel.make_mesh()
    shape = SMALL
    if chosen is not None:
        shape, rows, params = chosen.part(SMALL, rows, params)
    program = optimization.program(config, shape, mesh)
    numbers = optimization.numbers(config, 10, mesh)
    state = setup.start(program, numbers, params, None)
    step = steps.make_train_step(program)
    for i in range(STEPS):
        state, _ = step(state, parallel.batch(rows, np.array([i % 4]), 1, mesh), numbers)
    return state if chosen is None else chosen.whole(state, program, numbers)


@pytest.mark.parametrize(
    ("method", "nonfinite"),
    [
        pytest.param("none", "stop", marks=pytest.mark.slow),
        ("magnitude", "stop"),
        pytest.param("magnitude", "skip", marks=pytest.mark.slow),
        pytest.param("latent_magnitude", "stop", marks=pytest.mark.slow),
        ("movement", "skip"),
        pytest.param("soft_movement", "stop", marks=pytest.mark.slow),
    ],
)
def test_the_model_is_the_one_that_training_all_rows_gives(
    method: Any, nonfinite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where steps are skipped, that of the third row is: it is the one whose loss is not finite."""
    loss = steps.masked_loss

    def not_always_finite(logits: jax.Array, labels: jax.Array) -> jax.Array:
        broken = (labels[0, 0] == IGNORE) & (nonfinite == "skip")
        return loss(logits, labels) + jnp.where(broken, jnp.nan, 0)

    monkeypatch.setattr(steps, "masked_loss", not_always_finite)
    settings = TrainConfig(
        learning_rate=1e-2, weight_decay=0.3, warmup=0.4, clip_norm=0.5, nonfinite=nonfinite
    )
    pruning = PruneConfig(method, sparsity=0.5, begin=0.0, end=0.3, interval=1)
    config = Config(train=settings, prune=pruning)
    params = jax.tree.map(np.asarray, bert.init(SMALL, jax.random.key(0)))
    rows = packed(np.random.default_rng(0))
    chosen = vocabulary.choose(config, rows.tokens, params, None)
    assert chosen is not None and len(chosen.rows) == 8
    found = trained(config, params, rows, chosen)
    wanted = trained(config, params, rows, None)

    assert found.nonfinite == wanted.nonfinite == (nonfinite == "skip")

    # The keys' biases have no gradient but what rounding makes of it, and Adam forgets its size.
    def compare(keys: Any, a: jax.Array, b: jax.Array) -> None:
        if "key/bias" not in jax.tree_util.keystr(keys, simple=True, separator="/"):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)

    jax.tree.map_with_path(compare, found.params, wanted.params)
    changed = np.abs(words(found.params) - words(params)).max(axis=1)
    assert np.all(changed[OCCUR] > 1e-3)
    # A closed form: 1 - rate * decay in each step.
    rates = [1e-2 * (t / 4 if t < 4 else (10 - t) / 6) for t in range(STEPS)]
    left = np.prod([1 - 0.3 * rate for rate in rates])
    others = np.setdiff1d(np.arange(PIECES), chosen.rows)
    np.testing.assert_allclose(words(found.params)[others], words(params)[others] * left, rtol=3e-7)


def test_rows_are_all_that_occur_and_others_up_to_a_power_of_two() -> None:
    params = bert.init(SMALL, jax.random.key(0))
    for occurring, size in ((OCCUR, 8), (np.arange(8), 8), (np.arange(9) * 4, 16), ([39], 8)):
        chosen = vocabulary.choose(Config(), np.array([occurring]), params, None)
        assert chosen is not None and len(chosen.rows) == size
        assert np.all(np.diff(chosen.rows) > 0) and set(occurring) <= set(chosen.rows.tolist())


def test_numbered_tokens_look_up_what_pieces_looked_up() -> None:
    params = bert.init(SMALL, jax.random.key(0))
    rows = packed(np.random.default_rng(1))
    chosen = vocabulary.choose(Config(), rows.tokens, params, None)
    assert chosen is not None
    shape, numbered, part = chosen.part(SMALL, rows, params)
    assert shape.vocab_size == len(words(part)) == 8
    np.testing.assert_array_equal(words(part)[numbered.tokens], words(params)[rows.tokens])


@pytest.mark.parametrize("case", ["nearly all", "pruned", "masks", "small"])
def test_all_rows_are_trained(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, tokens, masks = Config(), OCCUR, None
    if case == "nearly all":
        tokens = np.arange(17)  # which would be 32 of 40
    if case == "pruned":
        config = Config(prune=PruneConfig(embeddings=True))
    if case == "masks":
        masks = {"embeddings/word/embedding": np.ones((PIECES, 8), bool)}
    if case == "small":
        monkeypatch.setattr(vocabulary, "FEWEST", 32)
    params = bert.init(SMALL, jax.random.key(0))
    assert vocabulary.choose(config, tokens, params, masks) is None


# Whole runs: on one of the two languages whose pieces are the vocabulary.


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = Config(
        data=DataConfig(languages=("en", "ru"), train_sentences=60, eval_sentences=20, length=64),
        model=TINY,
        train=TrainConfig(epochs=1),
        prune=PruneConfig(method="none"),
        output=str(tmp_path_factory.mktemp("start") / "run"),
    )
    return train.run(config) / "model"


def second(start: Path, output: Path, **settings: Any) -> Config:
    return Config(
        data=DataConfig(
            languages=("ru",),
            eval_languages=("en", "ru"),
            train_sentences=40,
            eval_sentences=20,
            length=64,
        ),
        model=ModelConfig(path=str(start)),
        train=TrainConfig(**{"epochs": 15, "batch_size": 8, "learning_rate": 1e-2} | settings),
        prune=PruneConfig("movement", sparsity=0.5, interval=3, end=0.3),
        checkpoint=CheckpointConfig(every=4, keep=100, best=True),
        output=str(output),
    )


def shapes_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills up with how many rows each run trains."""
    found, prepare = [], setup.prepare

    def noted(*given: Any) -> setup.Setup:
        job = prepare(*given)
        found.append(job.program.model.vocab_size)
        return job

    monkeypatch.setattr(setup, "prepare", noted)
    return found


def test_a_run_on_a_part_is_the_run_on_all(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = shapes_of(monkeypatch)
    part = train.run(second(start, tmp_path / "part"))
    with monkeypatch.context() as patch:
        patch.setattr(vocabulary, "FEWEST", 10**6)
        whole = train.run(second(start, tmp_path / "whole"))
    size = huggingface.load_shape(start, 1)[1].vocab_size
    assert trained[0] < size == trained[1]
    said = [(path / "log.txt").read_text("utf-8") for path in (part, whole)]
    assert f"{trained[0]:,} of {size:,} word embeddings are trained" in said[0]
    assert "are trained" not in said[1]
    models = [load_file(path / "model/model.safetensors") for path in (part, whole)]
    for name, tensor in models[0].items():
        if not name.endswith("key.bias"):
            np.testing.assert_allclose(tensor, models[1][name], atol=1e-5, err_msg=name)
    logs = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text("utf-8").splitlines()]
        for path in (part, whole)
    ]
    for name in ("loss", "grad_norm", "sparsity", "dev_f1"):
        values = [[row[name] for row in rows if name in row] for rows in logs]
        np.testing.assert_allclose(*values, rtol=1e-4)
    results = [(path / "results.jsonl").read_text("utf-8").splitlines() for path in (part, whole)]
    sizes = [json.loads(rows[-1])["model"]["size"] for rows in results]
    assert sizes[0] == sizes[1]
    chosen = [json.loads(rows[-1])["step"] for rows in results]
    assert chosen[0] == chosen[1]


COMMAND = """
import sys
from sparsejax.runtime import vocabulary
vocabulary.FEWEST = 8
from sparsejax import train
train.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def alone(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "FEWEST", 8)
        return train.run(second(start, tmp_path_factory.mktemp("alone") / "run"))


def alike(found: Path, wanted: Path) -> None:
    """But for what is rounded in another order."""
    for name, mask in load_file(found / "masks.safetensors").items():
        np.testing.assert_array_equal(mask, load_file(wanted / "masks.safetensors")[name])
    others = load_file(wanted / "model/model.safetensors")
    for name, tensor in load_file(found / "model/model.safetensors").items():
        if not name.endswith("key.bias"):
            np.testing.assert_allclose(tensor, others[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_devices_divide_the_rows_and_one_goes_on_alone(
    start: Path, alone: Path, tmp_path: Path, processes: int
) -> None:
    path = tmp_path / "run"
    config_files.save(config_files.settled(second(start, path)), tmp_path / "config.yaml")
    line = [sys.executable, "-c", COMMAND, "--config", str(tmp_path / "config.yaml")]
    line += ["--output", str(path), "--parallel.fsdp", "2"]
    if processes == 1:
        line += ["--parallel.cpu_devices", "2"]
        subprocess.run(line, check=True, capture_output=True, timeout=300)
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        line += ["--parallel.coordinator", f"127.0.0.1:{port}", "--parallel.processes", "2"]
        both = [
            subprocess.Popen([*line, "--parallel.process", str(i)], env=os.environ | CPU)
            for i in range(2)
        ]
        assert [process.wait(timeout=300) for process in both] == [0, 0]
    assert "parameters divided over 2" in (path / "log.txt").read_text("utf-8")
    assert "word embeddings are trained" in (path / "log.txt").read_text("utf-8")
    alike(path, alone)
    # As if it had been killed after its first checkpoint.
    steps_made = sorted(int(one.name) for one in (path / "checkpoints").iterdir())
    for step in steps_made[1:]:
        shutil.rmtree(path / "checkpoints" / str(step))
    shutil.rmtree(path / "model")
    (path / "results.jsonl").unlink()
    train.run(dataclasses.replace(second(start, path), resume="auto"))
    assert f"goes on after step {steps_made[0]}" in (path / "log.txt").read_text("utf-8")
    alike(path, alone)


def test_a_run_does_not_go_on_with_another_model(start: Path, tmp_path: Path) -> None:
    path, changed = tmp_path / "run", tmp_path / "model"
    shutil.copytree(start, changed)
    config = dataclasses.replace(second(changed, path), resume="auto")
    train.run(config)
    (path / "results.jsonl").unlink()
    double(changed)
    with pytest.raises(UserError, match="of a run with another model"):
        train.run(config)


def double(model: Path) -> None:
    """Its word embeddings."""
    tensors = load_file(model / "model.safetensors")
    tensors["bert.embeddings.word_embeddings.weight"] *= 2
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    (model / "SHA256SUMS").unlink()


def test_processes_must_begin_with_the_same_word_embeddings(start: Path, tmp_path: Path) -> None:
    said = []
    for name in ("first", "copy", "changed"):
        shutil.copytree(start, tmp_path / name)
        if name == "changed":
            double(tmp_path / name)
        config = second(tmp_path / name, tmp_path / "run")
        job = setup.prepare(config, setup.read(config, logging.Log(quiet=True)))
        assert job.vocabulary is not None
        said.append(job.alike(config))
    assert said[0] == said[1] != said[2]


def test_a_new_model_is_trained_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its vocabulary is one of the sentences; and its numbers may differ on another device."""
    part = vocabulary.Vocabulary(np.arange(8), np.zeros((400, 16), np.float32))
    monkeypatch.setattr(setup, "choose_vocabulary", lambda *given: part)
    config = Config(model=TINY, data=DataConfig(languages=("ru",), train_sentences=60))
    job = setup.prepare(config, setup.read(config, logging.Log(quiet=True)))
    assert job.vocabulary is None and job.program.model.vocab_size == job.model.vocab_size


def test_a_run_that_was_stopped_goes_on_to_the_same_model(
    start: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, make = stopping.Stop(), steps.make_train_steps

    def make_train_steps(*given: Any) -> Any:
        made, calls = make(*given), []

        def step(*batch: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                stop.requested = "SIGTERM"
            return made(*batch)

        return step

    config = dataclasses.replace(second(start, tmp_path / "run"), resume="auto")
    with monkeypatch.context() as patch:
        patch.setattr(steps, "make_train_steps", make_train_steps)
        with pytest.raises(Stopped):
            train.run(config, stop)
    path = train.run(config)
    assert "goes on after step" in (path / "log.txt").read_text("utf-8")
    for name in ("model/model.safetensors", "results.jsonl"):
        assert (path / name).read_bytes() == (alone / name).read_bytes(), name


def test_a_state_that_is_not_finite_says_which_pieces_its_rows_are(
    start: Path, tmp_path: Path
) -> None:
    broken = {"learning_rate": 1e30, "warmup": 0.0, "clip_norm": 1e30}
    with pytest.raises(UserError, match="the loss is nan"):
        train.run(second(start, tmp_path / "run", **broken))
    arrays = load_file(tmp_path / "run/nonfinite.safetensors")
    table = arrays["parameters/embeddings/word/embedding"]
    assert len(arrays["pieces"]) == len(table) > arrays["batch/tokens"].max()
    tokenizer, _ = huggingface.load_shape(start, 1)
    pieces = arrays["pieces"][arrays["batch/tokens"]][arrays["batch/positions"] == 0]
    assert tokenizer.cls_token_id in pieces


@pytest.mark.parametrize(("decay", "mean"), [("linear", 0.5), ("constant", 1.0)])
def test_the_factor_of_many_steps(decay: Any, mean: float) -> None:
    settings = TrainConfig(learning_rate=2e-5, weight_decay=0.01, warmup=0.0, decay=decay)
    config = Config(train=settings)
    program = optimization.program(config, SMALL)
    numbers = jax.tree.map(jnp.asarray, optimization.numbers(config, 100_000))
    left = optimization.left_by_decay(program, numbers, 100_000)
    np.testing.assert_allclose(left, np.exp(-0.01 * 2e-5 * mean * 100_000), rtol=1e-5)
    assert optimization.left_by_decay(program, numbers, 0) == 1
