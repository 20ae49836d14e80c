"""Workers as jobs of SLURM: with a stand-in for sbatch, then in a whole SLURM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparsejax import sweep
from sparsejax.config import SlurmConfig
from sparsejax.errors import UserError
from sparsejax.grid import slurm
from sparsejax.runtime import results

submitit = pytest.importorskip("submitit")

CLUSTER = Path(__file__).resolve().parents[1] / "launch" / "slurm" / "cluster.py"
GRID: dict[str, Any] = {
    "set": {
        "data": {"train_sentences": 20, "eval_sentences": 10, "languages": ["en"]},
        "model": {"layers": 1, "width": 16, "heads": 2, "intermediate": 32, "vocabulary": 300},
        "train": {"epochs": 1},
    },
    "axes": {"prune.sparsity": [0.2, 0.4, 0.6, 0.8]},
}


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(GRID))
    return path


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose sbatch keeps the script that it was given."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, text in (
        ("sbatch", f'cp "${{@: -1}}" {directory}/script\necho Submitted batch job 4321'),
        ("srun", "exit 1"),
    ):
        (directory / name).write_text(f"#!/bin/bash\n{text}\n")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def test_what_is_submitted(
    grid: Path, sbatch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "out"
    flags = "--executor slurm --slurm.workers 3 --slurm.partition gpu --slurm.account lab"
    more = ["--slurm.minutes", "90", "--slurm.memory", "32", "--slurm.setup", "module load cuda"]
    sweep.main([str(grid), "--output", str(where), *flags.split(), *more])
    said = capsys.readouterr().out
    assert "submitted 3 workers: 4321_0, 4321_1, 4321_2" in said
    script = (sbatch / "script").read_text()
    for line in (
        "--array=0-2%3",
        "--partition=gpu",
        "--account=lab",
        "--time=90",
        "--mem=32GB",
        "--gpus-per-node=1",
        "--cpus-per-task=8",
        "--job-name=sparsejax-out",
    ):
        assert f"#SBATCH {line}\n" in script
    assert script.index("module load cuda") < script.index("srun")
    assert (where / "grid.json").exists() and not (where / "runs").exists()

    # What each of two jobs would do, one after the other.
    task = script.split("srun ")[1]
    words = task[task.index(sys.executable) :].split()
    for number in range(2):
        environment = {
            "SLURM_JOB_ID": f"{4321 + number}",
            "SLURM_ARRAY_JOB_ID": "4321",
            "SLURM_ARRAY_TASK_ID": str(number),
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_JOB_NODELIST": "here",
            "SLURM_NTASKS": "1",
            "SLURM_NODEID": "0",
            "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
            "SUBMITIT_EXECUTOR": "slurm",
        }
        done = subprocess.run(
            words, env=os.environ | environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    assert len({row["run"] for row in results.read(where / "results.jsonl")}) == 4
    for path in (where / "claims").iterdir():
        assert path.read_text().splitlines() == ['{"step": 0}', '{"done": true}']


def test_no_gpus(grid: Path, sbatch: Path, tmp_path: Path) -> None:
    flags = ["--executor", "slurm", "--slurm.gpus", "0"]
    sweep.main([str(grid), "--output", str(tmp_path / "out"), *flags])
    assert "gpus-per-node" not in (sbatch / "script").read_text()


def test_a_job_that_is_requeued_does_the_same_again() -> None:
    again = slurm.Worker().checkpoint("somewhere")
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert isinstance(again.function, slurm.Worker) and again.args == ("somewhere",)


def test_jobs_that_cannot_be_submitted(sbatch: Path, tmp_path: Path) -> None:
    (sbatch / "sbatch").write_text("#!/bin/bash\necho 'invalid partition' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"executor: the jobs cannot be submitted \(.*partition"):
        slurm.submit(tmp_path, SlurmConfig())


def test_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="executor: the jobs cannot be submitted"):
        slurm.submit(tmp_path, SlurmConfig())


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands talk to a SLURM of this test's own."""
    import shutil

    missing = [name for name in ("munged", "slurmctld", "slurmd") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        pytest.skip("needs root, slurm-wlm and munge")
    process = subprocess.Popen(
        [sys.executable, str(CLUSTER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout
    try:
        yield os.environ | {"SLURM_CONF": process.stdout.readline().strip()}
    finally:
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.mark.slow
def test_in_a_whole_slurm(grid: Path, cluster: dict[str, str], tmp_path: Path) -> None:
    where = tmp_path / "out"
    words = [sys.executable, "-m", "sparsejax.sweep", str(grid), "--output", str(where)]
    jobs = ["--executor", "slurm", "--slurm.workers", "2", "--slurm.gpus", "0", "--slurm.cpus", "1"]
    done = subprocess.run([*words, *jobs], env=cluster, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    end = time.monotonic() + 300
    finished: list[Path] = []
    while len(finished) < 4:
        assert time.monotonic() < end, subprocess.run(
            ["squeue"], env=cluster, capture_output=True, text=True
        ).stdout
        finished = list((where / "runs").glob("*/results.jsonl"))
        time.sleep(0.5)
    while subprocess.run(
        ["squeue", "--noheader"], env=cluster, capture_output=True, text=True
    ).stdout.strip():
        assert time.monotonic() < end
        time.sleep(0.5)
    assert len({row["run"] for row in results.read(where / "results.jsonl")}) == 4
    begun = [path.read_text().splitlines()[0] for path in (where / "claims").iterdir()]
    assert [json.loads(line) for line in begun] == [{"step": 0}] * 4
