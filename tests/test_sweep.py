"""Grids of runs from end to end: killed, shared between workers, changed, failing, counted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparsejax import evaluate, sweep, train
from sparsejax.config import Config
from sparsejax.errors import Stopped, UserError
from sparsejax.grid import directory, spec, worker
from sparsejax.runtime import logging, results, setup, stopping

# Small, and quick to compile.
SMALL: dict[str, Any] = {
    "data": {"train_sentences": 30, "eval_sentences": 20, "languages": ["en", "ru"]},
    "model": {"layers": 1, "width": 16, "heads": 2, "intermediate": 32, "vocabulary": 400},
    "train": {"epochs": 1, "log_every": 1},
    "checkpoint": {"every": 1},
}


def written(tmp_path: Path, **content: Any) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({"set": SMALL} | content, sort_keys=False))
    return path


def sparsities(*values: float) -> dict[str, Any]:
    return {"axes": {"prune.sparsity": list(values)}}


def begun(tmp_path: Path, **content: Any) -> Path:
    """The directory of a grid."""
    where = tmp_path / "grid"
    grid = sweep.complete(spec.read(written(tmp_path, **content), {}))
    directory.begin(where, grid, accept=False)
    return where


def work(where: Path, stop: stopping.Stop | None = None) -> worker.Outcome:
    return worker.work(where, logging.Log(quiet=True), stop or stopping.Stop())


def entries(where: Path, name: str) -> list[dict[str, Any]]:
    """What was noted of a run."""
    with directory.claim(where, name) as mine:
        assert mine is not None
        return mine.entries()


def starts(where: Path) -> dict[str, int]:
    """How often each run was begun."""
    return {
        path.name: sum("step" in json.loads(line) for line in path.read_text().splitlines())
        for path in (where / "claims").iterdir()
    }


def command(grid: Path, where: Path, *flags: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "sparsejax.sweep", str(grid), "--output", str(where), *flags]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def refused(grid: Path, *flags: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as stop:
        sweep.main([str(grid), *flags])
    text = str(stop.value.code)
    assert text.startswith("error: ") and "\n" not in text
    return text


def test_killed_twice_the_results_are_those_of_an_uninterrupted_grid(tmp_path: Path) -> None:
    grid = written(tmp_path, **sparsities(0.3, 0.6, 0.9), evaluate={"perturb": ["language"]})
    whole = command(grid, tmp_path / "whole")
    where, killed = tmp_path / "killed", 0
    # In the first run once it has a checkpoint, and where the second one is evaluated.
    for sign in ("runs/sparsity=0.3/checkpoints/1", "runs/sparsity=0.6/results.jsonl"):
        process = command(grid, where)
        while not (where / sign).exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed == 2
    last = command(grid, where)
    said = last.communicate()[0]
    assert last.returncode == 0, said
    assert "finished: 3 of 3 runs" in said
    assert whole.communicate()[0] and whole.returncode == 0
    assert (where / "results.jsonl").read_bytes() == (
        tmp_path / "whole" / "results.jsonl"
    ).read_bytes()
    rows = results.read(where / "results.jsonl")
    assert {(row["run"], row.get("perturbation")) for row in rows if row["kind"] == "scores"} == {
        (f"sparsity={s}", kind) for s in (0.3, 0.6, 0.9) for kind in ("none", "language")
    }


def test_two_workers_do_every_run_exactly_once(tmp_path: Path) -> None:
    grid = written(tmp_path, **sparsities(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    where = tmp_path / "grid"
    workers = [command(grid, where) for _ in range(2)]
    said = [process.communicate()[0] for process in workers]
    assert [process.returncode for process in workers] == [0, 0], said
    assert starts(where) == {f"sparsity={s}": 1 for s in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)}
    mine = [int(text.split(" in this process")[0].split()[-1]) for text in said]
    assert sum(mine) == 6
    rows = results.read(where / "results.jsonl")
    assert {row["run"] for row in rows} == set(starts(where))


def test_a_run_that_another_worker_is_at_is_left_to_it(tmp_path: Path) -> None:
    where = begun(tmp_path, **sparsities(0.5, 0.9))
    with directory.claim(where, "sparsity=0.5") as mine:
        assert mine is not None
        outcome = work(where)
    assert (outcome.finished, outcome.mine, outcome.elsewhere) == (1, 1, 1)
    said = sweep.summary(outcome)
    assert "finished: 1 of 2 runs, 1 in this process; with other workers: 1" in said
    outcome = work(where)
    assert (outcome.finished, outcome.mine, outcome.elsewhere) == (2, 1, 0)
    assert work(where).mine == 0


def test_a_run_that_fails_is_told_and_not_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"axes": {"train.learning_rate": [1e30, 1e-3]}}
    where = begun(tmp_path, **content)
    outcome = work(where)
    assert outcome.finished == 1
    assert list(outcome.failed) == ["learning_rate=1e_30"]
    assert "the loss is nan" in outcome.failed["learning_rate=1e_30"]
    again = work(where)
    assert again.failed == outcome.failed and again.mine == 0
    assert starts(where) == {"learning_rate=1e_30": 1, "learning_rate=0.001": 1}
    text = refused(written(tmp_path, **content), "--output", str(where), capsys=capsys)
    assert "failed runs: 1, learning_rate=1e_30 for one: the loss is nan" in text
    assert "--retry tries them again" in text
    refused(written(tmp_path, **content), "--output", str(where), "--retry", capsys=capsys)
    assert "1 runs that failed are begun again" in capsys.readouterr().out
    assert [list(entry) for entry in entries(where, "learning_rate=1e_30")] == [["step"], ["error"]]
    assert entries(where, "learning_rate=0.001") == [{"step": 0}, {"done": True}]


def test_a_run_that_kills_its_process_is_given_up(tmp_path: Path) -> None:
    where = begun(tmp_path, **sparsities(0.5))
    for number in range(directory.STARTS):
        with directory.claim(where, "sparsity=0.5") as mine:
            assert mine is not None and mine.failure() is None, number
            mine.note({"step": 7})
    outcome = work(where)
    assert "begun 5 times" in outcome.failed["sparsity=0.5"]
    # One that ended in good order meanwhile is no such run.
    with directory.claim(where, "sparsity=0.5") as mine:
        assert mine is not None
        mine.note({"stopped": True})
        assert mine.failure() is None
        mine.note({"step": 7})
        assert mine.failure() is None
    # One that gets further each time is no such run.
    with directory.claim(where, "sparsity=0.5") as mine:
        assert mine is not None
        mine.note({"step": 8})
        assert mine.failure() is None


def test_a_line_that_a_kill_cut_off_is_no_start(tmp_path: Path) -> None:
    where = begun(tmp_path, **sparsities(0.5))
    with directory.claim(where, "sparsity=0.5") as mine:
        assert mine is not None
        mine.note({"step": 0})
    path = where / "claims" / "sparsity=0.5"
    path.write_text(path.read_text() + '\n{"st')
    with directory.claim(where, "sparsity=0.5") as mine:
        assert mine is not None
        mine.note({"step": 3})
        assert mine.entries() == [{"step": 0}, {"step": 3}]


def test_a_grid_that_has_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = begun(tmp_path, **sparsities(0.5, 0.7))
    work(where)
    stamp = (where / "runs/sparsity=0.5/results.jsonl").stat().st_mtime_ns
    more = written(tmp_path, **sparsities(0.5, 0.9))
    text = refused(more, "--output", str(where), capsys=capsys)
    assert "1 runs are new (sparsity=0.9); 1 runs are gone (sparsity=0.7)" in text
    assert "--accept-changes" in text
    sweep.main([str(more), "--output", str(where), "--accept-changes"])
    assert "finished: 2 of 2 runs, 1 in this process" in capsys.readouterr().out
    assert (where / "runs/sparsity=0.5/results.jsonl").stat().st_mtime_ns == stamp
    assert {row["run"] for row in results.read(where / "results.jsonl")} == {
        "sparsity=0.5",
        "sparsity=0.9",
    }
    text = refused(more, "--output", str(where), "--train.epochs", "2", capsys=capsys)
    assert "in 2 runs it has train.epochs 1 and not 2" in text
    flags = ["--train.epochs", "2", "--accept-changes"]
    sweep.main([str(more), "--output", str(where), *flags])
    assert "finished: 2 of 2 runs, 2 in this process" in capsys.readouterr().out
    other = written(tmp_path, **sparsities(0.5, 0.9), evaluate={"perturb": ["script"]})
    text = refused(other, "--output", str(where), "--train.epochs", "2", capsys=capsys)
    assert "evaluate: perturb was () and is ('script',)" in text


def test_an_evaluation_that_is_asked_for_later_is_made_later(tmp_path: Path) -> None:
    where = begun(tmp_path, **sparsities(0.5))
    work(where)
    model = where / "runs/sparsity=0.5/model/model.safetensors"
    stamp = model.stat().st_mtime_ns
    grid = written(tmp_path, **sparsities(0.5), evaluate={"perturb": ["noise"]})
    directory.begin(where, sweep.complete(spec.read(grid, {})), accept=True)
    assert work(where).mine == 1
    assert model.stat().st_mtime_ns == stamp
    kinds = {row.get("perturbation") for row in results.read(where / "results.jsonl")}
    assert kinds >= {"none", "noise"}


def test_replaced_sentences_are_kept_only_for_runs_with_the_same_pieces(tmp_path: Path) -> None:
    axes = {"model.vocabulary": [200, 400]}
    where = begun(tmp_path, axes=axes, evaluate={"perturb": ["language"]})
    work(where)
    path = where / "runs/vocabulary=400"
    shared = (path / "results.jsonl").read_bytes()
    trained, asked = evaluate.load_run(path), directory.load(where).evaluate
    evaluate.run(path, trained, trained.data, asked, logging.Log(quiet=True))
    assert (path / "results.jsonl").read_bytes() == shared


def test_what_is_no_grid_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = written(tmp_path, **sparsities(0.5))
    where = tmp_path / "there"
    where.mkdir()
    (where / "thesis.tex").write_text("")
    assert "holds other things than a grid" in refused(grid, "--output", str(where), capsys=capsys)
    (where / "thesis.tex").unlink()
    (where / ".grid.json.77").write_text("")  # what a kill may leave
    directory.begin(where, sweep.complete(spec.read(grid, {})), accept=False)
    path = where / "grid.json"
    for content, message in (
        ("{", "grid.json: damaged"),
        ('{"schema": 0}', "a grid of another version of sparsejax (schema 0, not 1)"),
    ):
        path.write_text(content)
        assert message in refused(grid, "--output", str(where), capsys=capsys)


def test_directories_that_are_damaged_or_of_another_run_cost_no_other_run(tmp_path: Path) -> None:
    where = begun(tmp_path, **sparsities(0.5, 0.7, 0.9))
    work(where)
    (where / "runs/sparsity=0.7/config.yaml").write_text("seed: 1\n")
    os.rename(where / "runs/sparsity=0.5", where / "runs/moved")
    os.rename(where / "runs/sparsity=0.9", where / "runs/sparsity=0.5")
    outcome = work(where)
    assert (outcome.finished, outcome.mine) == (1, 1)
    assert "holds a run with prune.sparsity 0.9 and not 0.5" in outcome.failed["sparsity=0.5"]
    assert "config.yaml: damaged or changed" in outcome.failed["sparsity=0.7"]
    assert {row["run"] for row in results.read(where / "results.jsonl")} == {"sparsity=0.9"}


def test_a_worker_does_not_go_on_with_a_grid_that_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = begun(tmp_path, **sparsities(0.3, 0.6))
    train_one = train.run

    def change(config: Config, *rest: Any) -> Path:
        grid = written(tmp_path, **sparsities(0.3, 0.6, 0.9))
        more = sweep.complete(spec.read(grid, {"train": {"clip_norm": 2.0}}))
        with pytest.raises(UserError, match=r"a worker is at sparsity=0.3, which has changed"):
            directory.begin(where, more, accept=True)
        directory.begin(where, sweep.complete(spec.read(grid, {})), accept=True)
        return train_one(config, *rest)

    monkeypatch.setattr(train, "run", change)
    with pytest.raises(UserError, match="the grid was changed; start this worker again"):
        work(where)
    monkeypatch.undo()
    assert not (where / "runs/sparsity=0.6").exists()
    assert work(where).finished == 3


def test_changes_that_are_refused_remove_nothing(tmp_path: Path) -> None:
    where = begun(tmp_path, **sparsities(0.3, 0.6))
    work(where)
    other = sweep.complete(
        spec.read(written(tmp_path, **sparsities(0.3, 0.6)), {"train": {"clip_norm": 2.0}})
    )
    with directory.claim(where, "sparsity=0.6"), pytest.raises(UserError, match="stop it first"):
        directory.begin(where, other, accept=True)
    assert work(where).mine == 0


def test_what_the_program_itself_fails_at_costs_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before there is a directory for the run."""
    where = begun(tmp_path, **sparsities(0.3, 0.6))
    prepare = setup.prepare

    def fails(config: Config, data: setup.Data) -> setup.Setup:
        if config.prune.sparsity == 0.3:
            raise RuntimeError("out of\nmemory")
        return prepare(config, data)

    monkeypatch.setattr(setup, "prepare", fails)
    outcome = work(where)
    assert outcome.failed == {"sparsity=0.3": "RuntimeError: out of memory"}
    assert outcome.finished == 1
    assert entries(where, "sparsity=0.3")[-1] == {"error": "RuntimeError: out of memory"}
    assert "in fails" in (where / "runs/sparsity=0.3/log.txt").read_text()


def test_a_full_disk_is_no_fault_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = begun(tmp_path, **sparsities(0.3))
    full = shutil.disk_usage(where)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    monkeypatch.setattr(train, "run", raising(UserError("cannot be written")))
    with pytest.raises(UserError, match=r"the disk is full \(cannot be written\)"):
        work(where)
    monkeypatch.setattr(train, "run", raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        work(where)
    monkeypatch.undo()
    assert work(where).finished == 1


def raising(error: Exception) -> Any:
    def fails(*_: Any) -> None:
        raise error

    return fails


def test_a_signal_is_heeded_while_a_run_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = begun(tmp_path, **sparsities(0.3), evaluate={"perturb": ["language"]})
    with stopping.listening() as stop:

        def signalled(*_: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            raise AssertionError("the signal was not heeded")

        monkeypatch.setattr(evaluate, "run", signalled)
        with pytest.raises(Stopped, match="stopped by SIGTERM; the same command goes on with"):
            work(where, stop)
    monkeypatch.undo()
    assert entries(where, "sparsity=0.3") == [{"step": 0}, {"stopped": True}]
    assert results.read(where / "results.jsonl") == []
    assert work(where).finished == 1


def test_dry_run_lists_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = written(tmp_path, axes={"prune.method": ["none", "magnitude"], "seed": [0, 1, 2]})
    sweep.main([str(grid), "--dry-run", "--output", str(tmp_path / "nothing")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["method=none,seed=0", "method=none,seed=1"]
    assert lines[6:9] == [
        "6 runs",
        "  prune.method: 3 with none, 3 with magnitude",
        "  seed: 2 with 0, 2 with 1, 2 with 2",
    ]
    assert lines[9].startswith("about ") and "rough estimate" in lines[9]
    assert not (tmp_path / "nothing").exists()


def test_mistakes_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        sweep.main([])
    assert str(stop.value.code).startswith("error: the first argument is the YAML file of a grid")
    assert "missing.yaml: cannot be read" in refused(tmp_path / "missing.yaml", capsys=capsys)
    grid = written(tmp_path, **sparsities(0.5))
    assert "slurm.workers: 0 is not at least 1" in refused(
        grid, "--slurm.workers", "0", capsys=capsys
    )
    text = refused(grid, "--data.dir", str(tmp_path / "no"), capsys=capsys)
    assert "data.dir" in text and "is not a directory" in text
