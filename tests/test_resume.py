"""A run that was interrupted, however and whenever, ends as if it had not been."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import preloaded
import pytest
from safetensors.numpy import load_file

from sparsejax import train
from sparsejax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    ModelConfig,
    PruneConfig,
    TrainConfig,
)
from sparsejax.config_files import save
from sparsejax.data import embedded
from sparsejax.errors import STOPPED, UserError

TINY = Config(
    data=DataConfig(languages=("en", "sw"), train_sentences=60, eval_sentences=20, length=64),
    model=ModelConfig(layers=1, width=16, heads=2, intermediate=32, vocabulary=300),
    prune=PruneConfig(method="movement", sparsity=0.9, interval=3, end=0.5),
    train=TrainConfig(epochs=10, batch_size=16, learning_rate=3e-3, log_every=3),
    checkpoint=CheckpointConfig(every=7, best=True),
)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Processes that begin with everything imported and, mostly, compiled."""
    cache = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
        environment.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        environment.setenv("SPARSEJAX_CACHE", str(cache / "data"))
        environment.setenv("PYTHONPATH", str(Path(preloaded.__file__).parent))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["preloaded"])
        yield context


class Run:
    """The command line of one run, to be begun as often as it takes."""

    def __init__(self, processes: Any, directory: Path, config: Config) -> None:
        self.directory, self.processes = directory, processes
        self.log = directory.with_name(f"{directory.name}.out")
        file = directory.with_name(f"{directory.name}.yaml")
        save(config, file)
        self.words = ["--config", str(file), "--output", str(directory), "--resume", "auto"]

    def start(self, *more: str) -> Any:
        words = ([*self.words, *more], str(self.log))
        process = self.processes.Process(target=preloaded.main, args=words)
        process.start()
        return process

    def finish(self, *more: str) -> int:
        process = self.start(*more)
        process.join(300)
        return process.exitcode

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def reaches(self, process: Any, step: int) -> None:
        """Waits until there are metrics of a step."""
        path = self.directory / "metrics.jsonl"
        while not (path.exists() and path.read_text().count("\n") * 3 >= step):
            assert process.is_alive(), self.said()
            time.sleep(0.005)


def evidence(directory: Path) -> dict[str, Any]:
    """Everything that a run computed."""
    names = ["results.jsonl", *(f"model/{path.name}" for path in (directory / "model").iterdir())]
    found: dict[str, Any] = {name: (directory / name).read_bytes() for name in names}
    for name in ("masks.safetensors", "seen.safetensors"):  # whose metadata are in any order
        arrays = load_file(directory / name)
        found[name] = {key: (x.dtype, x.shape, x.tobytes()) for key, x in arrays.items()}
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    found["metrics"] = [{k: v for k, v in r.items() if k != "tokens_per_second"} for r in rows]
    return found


@pytest.fixture(scope="module")
def uninterrupted(processes: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A finished run, and how many seconds one takes when everything is compiled."""
    path = tmp_path_factory.mktemp("runs")
    for name in ("compiles", "run"):
        began = time.monotonic()
        run = Run(processes, path / name, TINY)
        assert run.finish() == 0, run.said()
    seconds = time.monotonic() - began
    assert evidence(path / "compiles") == evidence(path / "run")
    return path / "run", seconds


def test_the_model_is_the_best_checkpoint(uninterrupted: tuple[Path, float]) -> None:
    directory, _ = uninterrupted
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    scores = {row["step"]: row["dev_f1"] for row in rows if "dev_f1" in row}
    assert max(scores.values()) > min(scores.values())
    assert min(scores) >= max(row["step"] for row in rows) / 2  # not before the final sparsity
    best = max(scores, key=lambda step: (scores[step], -step))
    results = [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]
    assert results[-1]["step"] == best
    kept = {int(path.name) for path in (directory / "checkpoints").iterdir()}
    assert best in kept and len(kept) <= 3


@pytest.mark.parametrize(
    "seed",
    [pytest.param(n, marks=pytest.mark.slow) if n not in (0, 10, 18) else n for n in range(20)],
)
def test_killed_at_any_moment(
    processes: Any, uninterrupted: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    reference, seconds = uninterrupted
    moment = (seed + random.Random(seed).random()) / 20 * seconds
    run = Run(processes, tmp_path / "run", TINY)
    process = run.start()
    process.join(moment)
    process.kill()
    process.join()
    assert run.finish() == 0, run.said()
    assert evidence(run.directory) == evidence(reference)
    left = [path.name for path in run.directory.rglob(".*")]
    assert left == []  # nothing half-written


def test_killed_again_and_again(
    processes: Any, uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    reference, seconds = uninterrupted
    run = Run(processes, tmp_path / "run", TINY)
    for _ in range(4):
        process = run.start()
        process.join(seconds * 0.6)
        if process.exitcode == 0:
            break
        process.kill()
        process.join()
    assert run.finish() == 0, run.said()
    assert evidence(run.directory) == evidence(reference)


def test_asked_to_stop(processes: Any, tmp_path: Path) -> None:
    # Longer, so that it is still training when the signal comes.
    config = dataclasses.replace(TINY, train=dataclasses.replace(TINY.train, epochs=2000))
    run = Run(processes, tmp_path / "run", config)
    process = run.start()
    run.reaches(process, 9)
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == STOPPED
    last = run.said().splitlines()[-1]
    assert last.startswith("SIGTERM: stopped after step ")
    assert last.endswith(f"--resume auto goes on with {run.directory}")
    step = int(last.split()[4])
    assert max(int(path.name) for path in (run.directory / "checkpoints").iterdir()) == step
    assert last in (run.directory / "log.txt").read_text()
    # The next process goes on with that very step.
    process = run.start()
    run.reaches(process, step + 9)
    assert f"goes on after step {step} of " in (run.directory / "log.txt").read_text()
    process.kill()
    process.join()


def test_finished_is_finished(uninterrupted: tuple[Path, float], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted[0], run)
    before = evidence(run)
    again = dataclasses.replace(TINY, output=str(run), resume="auto")
    assert train.run(again) == run
    assert evidence(run) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "holds a run with seed 0 and not 1; pass the same"),
        ({"prune": PruneConfig()}, "with prune.method 'movement' and not 'magnitude'"),
    ],
)
def test_another_run_is_not_gone_on_with(
    uninterrupted: tuple[Path, float], change: dict[str, Any], message: str
) -> None:
    config = dataclasses.replace(TINY, output=str(uninterrupted[0]), resume="auto", **change)
    with pytest.raises(UserError, match=message):
        train.run(config)


@pytest.fixture
def halfway(uninterrupted: tuple[Path, float], tmp_path: Path) -> Config:
    """A run that was killed while it evaluated: all checkpoints, no results."""
    shutil.copytree(uninterrupted[0], tmp_path / "run")
    (tmp_path / "run/results.jsonl").unlink()
    return dataclasses.replace(TINY, output=str(tmp_path / "run"), resume="auto")


def damage(path: Path, random_: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if random_.random() < 0.5:
        del content[random_.randrange(len(content)) :]
    else:
        content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
    path.write_bytes(content)


def test_damaged_checkpoints_are_named_and_skipped(
    halfway: Config, uninterrupted: tuple[Path, float], capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(str(halfway.output)) / "checkpoints"
    steps = sorted(int(path.name) for path in root.iterdir())
    for step in steps[1:]:
        files = [path for path in (root / str(step)).rglob("*") if path.is_file()]
        damage(max(files, key=os.path.getsize), random.Random(step))
    train.run(halfway)
    said = capsys.readouterr().out
    for step in steps[1:]:
        assert f"note: checkpoint {step} is skipped: {root / str(step)}" in said
    assert f"goes on after step {steps[0]} of" in said
    assert evidence(Path(str(halfway.output))) == evidence(uninterrupted[0])


@pytest.mark.parametrize("split", ["train", "test", "dev"])
def test_other_data_are_refused(
    halfway: Config, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    generate = embedded.generate

    def other(code: str, asked: str) -> Any:
        return generate(code, asked)[asked == split :]  # without the first sentence

    monkeypatch.setattr(embedded, "generate", other)
    with pytest.raises(UserError, match="of a run with another data; pass another --output"):
        train.run(halfway)


def test_a_configuration_that_is_not_whole_is_not_gone_on_with(halfway: Config) -> None:
    path = Path(str(halfway.output)) / "config.yaml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:20]))
    with pytest.raises(UserError, match=r"config\.yaml: damaged or changed"):
        train.run(halfway)


def test_no_checkpoint_is_left_where_none_is_wanted(tmp_path: Path) -> None:
    checkpoint = CheckpointConfig(keep=0, every=5)
    settings = dataclasses.replace(TINY.train, epochs=2)
    config = dataclasses.replace(
        TINY, output=str(tmp_path / "run"), checkpoint=checkpoint, train=settings
    )
    assert not (train.run(config) / "checkpoints").exists()


# No file can be larger, as on a disk that is full; XLA's cache of compiled programs says so, too.
LIMITED = """
import resource, signal, sys, warnings
from sparsejax import train
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
warnings.simplefilter("ignore")
train.main(sys.argv[1:])
"""


def test_a_disk_that_fails_is_one_line_and_leaves_the_last_checkpoint(
    processes: Any, uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    run = Run(processes, tmp_path / "run", TINY)
    process = run.start()
    while not list(run.directory.glob("checkpoints/[0-9]*")):
        assert process.is_alive(), run.said()
        time.sleep(0.002)
    process.kill()
    process.join()
    words = [sys.executable, "-c", LIMITED, *run.words]
    result = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    # TensorStore's threads may print at the same time, that there is nobody left to tell.
    errors = re.findall(rf"error: {run.directory}.* \(File too large\).*", result.stderr)
    assert len(errors) == 1, result.stderr
    assert run.finish() == 0, run.said()
    assert evidence(run.directory) == evidence(uninterrupted[0])


def test_the_state_of_a_loss_that_is_not_finite_can_be_inspected(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY.train, learning_rate=1e30, warmup=0.0, clip_norm=1e30)
    config = dataclasses.replace(TINY, output=str(tmp_path / "run"), train=settings)
    path = tmp_path / "run/nonfinite.safetensors"
    with pytest.raises(UserError) as caught:
        train.run(config)
    message = str(caught.value)
    assert re.match(
        r"the loss is nan at step 2, at learning rate 9\.\d+e\+29; not finite: ", message
    )
    assert str(path) in message and "or pass --train.nonfinite skip" in message
    arrays = load_file(path)
    bad = message.split("not finite: ")[1].split(" and ")[0]
    assert not np.all(np.isfinite(arrays[bad]))
    assert sorted(arrays)[:3] == ["batch/labels", "batch/positions", "batch/segments"]
    assert arrays["batch/tokens"].shape[1] == 64
    assert not (tmp_path / "run/model").exists()
