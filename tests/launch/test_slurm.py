"""launch/slurm.sbatch: its decisions with stand-ins for SLURM, then itself in a whole SLURM.

The latter needs root and Debian's slurm-wlm and munge. What a job that was killed wrote, and its
states, as in docs/slurm_transcript.txt:

    TRANSCRIPT=docs/slurm_transcript.txt pytest --slow -n0 tests/launch/test_slurm.py -k killed
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from sparsejax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    ModelConfig,
    PruneConfig,
    TrainConfig,
)
from sparsejax.config_files import save

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parents[1] / "launch" / "slurm.sbatch"
CLUSTER = HERE / "slurm" / "cluster.py"


def inherited() -> dict[str, str]:
    """The environment, without what a SLURM around these tests has set."""
    own = ("SLURM_", "SBATCH_", "MAX_RESTARTS", "SPARSEJAX_VENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


# What follows is the script alone. Each stand-in appends its arguments to a file of its name.
STAND_IN = """#!{python} -SE
import json, os, sys
name = os.path.basename(sys.argv[0])
with open({path!r} + "/" + name + ".calls", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit(int(os.environ.get(name + "_status", "0")))
"""


class Script:
    """The script in a directory with stand-ins for srun, scontrol and python."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("srun", "scontrol", "python"):
            text = STAND_IN.format(python=sys.executable, path=str(path))
            executable(path / "bin" / name, text)

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Exit status, what it said on standard output and on standard error."""
        path = f"{self.path}/bin:{os.environ['PATH']}"
        result = subprocess.run(
            ["bash", SCRIPT, *words],
            env={**inherited(), "PATH": path, "SLURM_JOB_ID": "7", **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return result.returncode, result.stdout, result.stderr

    def calls(self, name: str) -> list[list[str]]:
        path = self.path / f"{name}.calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_arguments_arrive_as_they_were(script: Script) -> None:
    words = ["--config", "a config.yaml", "--output", "$(touch x); 'y' \"z\" *"]
    assert script.run(*words) == (0, "", "")
    (call,) = script.calls("srun")
    program = ["python", "-m", "sparsejax.train", *words, "--resume", "auto"]
    assert call[-len(program) :] == program
    assert script.calls("scontrol") == []


@pytest.mark.parametrize("given", [["--resume", "auto"], ["--resume=auto"]])
def test_resume_is_not_given_twice(script: Script, given: list[str]) -> None:
    assert script.run(*given, "--output=runs/mine")[0] == 0
    (call,) = script.calls("srun")
    assert call[call.index("sparsejax.train") + 1 :] == [*given, "--output=runs/mine"]


@pytest.mark.parametrize(
    ("status", "goes_on"),
    [
        (0, False),
        (1, False),
        (2, False),
        (75, True),
        (128, False),
        (134, True),
        (137, True),
        (143, True),
        (253, False),
    ],
)
def test_only_a_job_that_was_interrupted_is_requeued(
    script: Script, status: int, goes_on: bool
) -> None:
    assert script.run("--output", "o", srun_status=str(status))[0] == status
    assert script.calls("scontrol") == ([["requeue", "7"]] if goes_on else [])


@pytest.mark.parametrize(
    ("before", "most", "goes_on"),
    [("", "", True), ("19", "", True), ("20", "", False), ("0", "0", False), ("20", "21", True)],
)
@pytest.mark.parametrize("status", ["75", "137"])
def test_restarts_are_bounded(
    script: Script, before: str, most: str, goes_on: bool, status: str
) -> None:
    environment = {"SLURM_RESTART_COUNT": before, "MAX_RESTARTS": most, "srun_status": status}
    result = script.run("--output", "o", **environment)
    why = {"75": "stopped by a signal", "137": "killed (status 137)"}[status]
    number = int(before or 0)
    if goes_on:
        said = f"{why}; restart {number + 1} of at most {most or 20}\n"
        assert result == (int(status), said, "")
        assert script.calls("scontrol") == [["requeue", "7"]]
    else:
        said = f"{why} after {number} restarts, of at most {most or 20} (MAX_RESTARTS); submit the "
        assert result == (int(status), "", f"slurm.sbatch: {said}same command again to go on\n")
        assert script.calls("scontrol") == []


def test_a_job_that_cannot_be_requeued_is_said(script: Script) -> None:
    status, _, error = script.run("--output", "o", srun_status="75", scontrol_status="1")
    said = "slurm.sbatch: job 7 was not requeued; submit the same command again to go on\n"
    assert (status, error) == (75, said)


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        ([], {}, "--output is missing; name the run's directory"),
        (["--output"], {}, "--output is missing"),
        (["--output", "--seed", "1"], {}, "--output is missing"),
        (["--output=none"], {}, "--output is missing"),
        (["--output", "o", "--resume", "never"], {}, "--resume: 'never' would not go on"),
        (["--output", "o", "--resume=never"], {}, "--resume: 'never' would not go on"),
        (["--output", "o"], {"SLURM_JOB_ID": ""}, "not a SLURM job; submit it"),
        (["--output", "o"], {"MAX_RESTARTS": "many"}, "MAX_RESTARTS: 'many' is not a number"),
        (["--output", "o"], {"SPARSEJAX_VENV": "/no"}, "SPARSEJAX_VENV: '/no' is no virtual"),
        (["--output", "o"], {"SLURM_GPUS_PER_TASK": "1"}, "SLURM_GPUS_PER_TASK: '1' hides GPUs"),
        (["--output", "o"], {"SLURM_GPU_BIND": "closest"}, "SLURM_GPU_BIND: 'closest' hides GPUs"),
    ],
)
def test_what_cannot_go_on_is_refused_in_one_line(
    script: Script, words: list[str], environment: dict[str, str], message: str
) -> None:
    status, output, error = script.run(*words, **environment)
    assert (status, output) == (1, "")
    assert error.startswith(f"slurm.sbatch: {message}") and error.count("\n") == 1
    assert script.calls("srun") == []


def test_the_virtual_environment_is_activated(script: Script, tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "activate", 'export srun_status=9 PATH="$PATH"\n')
    assert script.run("--output", "o", SPARSEJAX_VENV=str(tmp_path))[0] == 9


def test_the_cpus_of_a_task_are_passed_on(script: Script) -> None:
    script.run("--output", "o", SLURM_CPUS_PER_TASK="3")
    script.run("--output", "o")
    given, not_given = script.calls("srun")
    assert "--cpus-per-task=3" in given and "--cpus-per-task" not in " ".join(not_given)


HOST = socket.gethostname().split(".")[0]  # the first node's name


# From here on a whole SLURM, with the defaults that suit the script least.
@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands talk to a SLURM of this test's own."""
    programs = (
        "munged",
        "slurmctld",
        "slurmd",
        "sbatch",
        "srun",
        "scontrol",
        "scancel",
        "sinfo",
        "squeue",
    )
    if missing := [name for name in programs if not shutil.which(name)]:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons need root")
    words = [sys.executable, str(CLUSTER)]
    cluster = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=inherited()
    )
    assert cluster.stdin and cluster.stdout
    try:
        configuration = cluster.stdout.readline().strip()
        assert configuration, "SLURM did not start; see above"
        yield {**inherited(), "SLURM_CONF": configuration}
    finally:
        cluster.stdin.close()
        assert cluster.wait(60) == 0
    assert not Path(configuration).parent.exists()
    assert not [
        path for path in Path("/proc").glob("[0-9]*/environ") if mentions(path, configuration)
    ]


def mentions(path: Path, text: str) -> bool:
    try:
        return text.encode() in path.read_bytes()
    except OSError:  # a process that has ended
        return False


@pytest.fixture
def idle(slurm: dict[str, str]) -> Iterator[dict[str, str]]:
    """The same, and no job is left for the next test, however this one ends."""
    yield slurm

    def ask(*words: str) -> str:
        return subprocess.run(words, env=slurm, capture_output=True, text=True).stdout

    ask("scancel", "--user=root")
    wait_until(lambda: not ask("squeue", "--noheader"), 60, lambda: ask("squeue"))
    ask("scontrol", "update", f"nodename={HOST}-b", "state=resume")


def wait_until(true: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


SHOWN = ("JobState", "Reason", "Restarts", "ExitCode")


class Job:
    """A job of the script, submitted as a person would."""

    def __init__(
        self,
        environment: dict[str, str],
        directory: Path,
        options: list[str],
        words: list[str],
        script: list[str] | None = None,
    ) -> None:
        self.environment, self.directory = environment, directory
        self.states: list[str] = []
        # On the command line, which wins over the lines of the script.
        options = ["--parsable", f"--chdir={directory}", "--output=job.out", *options]
        self.number = self.ask("sbatch", *options, *(script or [str(SCRIPT)]), *words)

    def ask(self, *words: str) -> str:
        result = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def fields(self) -> dict[str, str]:
        """What scontrol says of the job; its states are kept."""
        text = self.ask("scontrol", "--oneliner", "show", "job", self.number)
        found = dict(re.findall(r"(\S+?)=(\S*)", text))
        state = " ".join(f"{name}={found[name]}" for name in SHOWN)
        if not self.states or self.states[-1] != state:
            self.states.append(state)
        return found

    def said(self) -> str:
        path = self.directory / "job.out"
        return path.read_text() if path.exists() else ""

    def describe(self) -> str:
        return "\n".join([*self.states, self.said()])

    def says(self, text: str, seconds: float = 60) -> None:
        wait_until(lambda: text in self.said(), seconds, self.describe)

    def becomes(self, state: str, restarts: int, seconds: float = 60) -> None:
        wanted = (state, str(restarts))
        ends = {"COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT"} - {state}

        def true() -> bool:
            found = self.fields()
            assert found["JobState"] not in ends, self.describe()
            return (found["JobState"], found["Restarts"]) == wanted

        wait_until(true, seconds, self.describe)

    def process(self, task: int) -> int:
        """The number of a task's process, which is on this machine's first node."""
        lines = self.ask("scontrol", "listpids", f"{self.number}.0").splitlines()[1:]
        (found,) = [int(pid) for pid, *_, which in map(str.split, lines) if which == str(task)]
        return found


ONE_NODE = ["--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", "--gpus-per-node=2"]
TWO_NODES = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=2"]

# In place of python: it says what it sees, and ends as it is told. Where it is to stop, task 0
# takes longer than the other, like one that writes a checkpoint.
PROGRAM = """#!{python} -SE
import os, signal, sys, time
task, start = os.environ["SLURM_PROCID"], os.environ.get("SLURM_RESTART_COUNT", "0")
def say(text):
    os.write(1, f"task {{task}} of start {{start}} {{text}}\\n".encode())
signals = []
signal.signal(signal.SIGTERM, lambda *_: signals.append(1))
say("sees GPUs " + os.environ.get("CUDA_VISIBLE_DEVICES", "?"))
say("on " + os.environ["SLURM_STEP_NODELIST"])
for _ in range(600):
    time.sleep(0.1)
    if signals:
        if task == "0":
            time.sleep(3)
        say(f"stops after {{len(signals)}} signals")
        sys.exit(75)
    if os.path.exists("lost") and (task, start) == ("0", "0"):
        say("has lost the others")
        sys.exit(1)
    if os.path.exists("fails"):
        if task == "0":
            time.sleep(3)
        say(f"fails after {{len(signals)}} signals")
        sys.exit(1)
"""


@pytest.fixture
def stand_in(idle: dict[str, str], tmp_path: Path) -> dict[str, str]:
    executable(tmp_path / "bin" / "python", PROGRAM.format(python=sys.executable))
    return {**idle, "PATH": f"{tmp_path}/bin:{idle['PATH']}"}


@pytest.mark.slow
def test_before_its_time_is_over_a_job_stops_and_goes_on(
    stand_in: dict[str, str], tmp_path: Path
) -> None:
    # --signal's 120 seconds are all of its time, so the signal comes when slurmctld next looks,
    # which it does every 30 seconds.
    job = Job(stand_in, tmp_path, [*ONE_NODE, "--time=2"], ["--output", "run"])
    for task in (0, 1):
        job.says(f"task {task} of start 0 sees GPUs 0,1")
    job.becomes("RUNNING", restarts=1, seconds=120)
    for task in (0, 1):
        job.says(f"task {task} of start 1 on ")
        assert f"task {task} of start 0 stops after 1 signals" in job.said()
    assert "stopped by a signal; restart 1 of at most 20" in job.said()


@pytest.mark.slow
def test_a_cancelled_job_stops_in_good_order_and_stays_away(
    stand_in: dict[str, str], tmp_path: Path
) -> None:
    job = Job(stand_in, tmp_path, ONE_NODE, ["--output", "run"])
    for task in (0, 1):
        job.says(f"task {task} of start 0 on ")
    job.ask("scancel", job.number)
    job.becomes("CANCELLED", restarts=0)
    for task in (0, 1):
        assert f"task {task} of start 0 stops after 1 signals" in job.said()
    assert "restart 1" not in job.said()


@pytest.mark.slow
def test_a_mistake_ends_the_job(stand_in: dict[str, str], tmp_path: Path) -> None:
    job = Job(stand_in, tmp_path, ONE_NODE, ["--output", "run"])
    job.says("task 0 of start 0 on ")
    (tmp_path / "fails").touch()
    job.becomes("FAILED", restarts=0)
    for task in (0, 1):
        assert f"task {task} of start 0 fails after 0 signals" in job.said()
    assert job.fields()["ExitCode"] == "1:0"


@pytest.mark.slow
def test_after_the_failure_of_a_node_the_job_goes_on_elsewhere(
    stand_in: dict[str, str], tmp_path: Path
) -> None:
    job = Job(stand_in, tmp_path, TWO_NODES, ["--output", "run"])
    first, second, third = HOST, f"{HOST}-b", f"{HOST}-c"
    for task in (0, 1):
        job.says(f"task {task} of start 0 on {first},{second}")
    (tmp_path / "lost").touch()
    job.says("task 0 of start 0 has lost the others")
    # What slurmctld does when a node has not answered for SlurmdTimeout.
    job.ask("scontrol", "update", f"nodename={second}", "state=down", "reason=test")
    job.becomes("RUNNING", restarts=1)
    job.says(f"task 1 of start 1 on {first},{third}")


TINY = Config(
    data=DataConfig(languages=("en", "sw"), train_sentences=60, eval_sentences=20, length=64),
    model=ModelConfig(layers=1, width=16, heads=2, intermediate=32, vocabulary=300),
    prune=PruneConfig(method="movement", sparsity=0.9, interval=3, end=0.5),
    train=TrainConfig(epochs=20, batch_size=16, learning_rate=3e-3, log_every=3),
    checkpoint=CheckpointConfig(every=20),
)
WORDS = ["--config", "tiny.yaml", "--output", "run"]


@pytest.fixture(scope="module")
def training(
    slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path, list[str]], Job]:
    """Submits the training of a tiny model; jobs after the first one find it compiled."""
    cache = tmp_path_factory.mktemp("compiled")
    environment = {
        **slurm,
        "PATH": f"{Path(sys.executable).parent}:{slurm['PATH']}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles in half the time
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "SPARSEJAX_CACHE": str(cache / "data"),
    }

    def submit(directory: Path, options: list[str]) -> Job:
        save(TINY, directory / "tiny.yaml")
        return Job(environment, directory, options, WORDS)

    return submit


@pytest.fixture(scope="module")
def uninterrupted(
    training: Callable[[Path, list[str]], Job], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a job computes that nobody disturbs."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    training(directory, ONE_NODE).becomes("COMPLETED", restarts=0, seconds=600)
    return evidence(directory / "run")


def evidence(run: Path) -> dict[str, Any]:
    """The model, the masks, the results and the metrics of a run."""
    found: dict[str, Any] = {
        name: (run / name).read_bytes() for name in ("model/model.safetensors", "results.jsonl")
    }
    masks = load_file(run / "masks.safetensors")
    found["masks"] = {name: mask.tobytes() for name, mask in masks.items()}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["tokens_per_second"]
    return {**found, "metrics": rows}


def has_a_checkpoint(job: Job) -> None:
    """Waits until there is something to go on with, and the training is well under way."""
    metrics, checkpoint = job.directory / "run/metrics.jsonl", job.directory / "run/checkpoints/20"
    wait_until(lambda: checkpoint.exists() and metrics.exists(), 600, job.describe)


def finishes(job: Job, restarts: int) -> None:
    job.becomes("COMPLETED", restarts, seconds=600)
    assert job.fields()["ExitCode"] == "0:0"
    log = (job.directory / "run/log.txt").read_text()
    assert re.search(r"^goes on after step [1-9]\d* of 160$", log, re.MULTILINE), log


@pytest.mark.slow
@pytest.mark.usefixtures("idle")
def test_a_job_whose_process_is_killed_goes_on(
    training: Callable[[Path, list[str]], Job], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    job = training(tmp_path, ONE_NODE)
    has_a_checkpoint(job)
    os.kill(job.process(1), signal.SIGKILL)
    job.becomes("RUNNING", restarts=1, seconds=300)
    assert "killed (status 137); restart 1 of at most 20" in job.said()
    finishes(job, restarts=1)
    assert evidence(tmp_path / "run") == uninterrupted
    if path := os.environ.get("TRANSCRIPT"):
        Path(path).write_text(transcript(job))


@pytest.mark.slow
@pytest.mark.usefixtures("idle")
def test_a_job_that_is_preempted_goes_on(
    training: Callable[[Path, list[str]], Job], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    job = training(tmp_path, TWO_NODES)
    has_a_checkpoint(job)
    # It waits here for SLURM's SIGCONT, so that it cannot finish before SLURM's SIGTERM.
    os.kill(job.process(0), signal.SIGSTOP)
    urgent = ["--partition=urgent", "--nodes=3", "--output=/dev/null"]
    other = Job(job.environment, tmp_path, urgent, [], script=["--wrap=sleep 1"])
    job.becomes("RUNNING", restarts=1, seconds=300)
    assert "stopped by a signal; restart 1 of at most 20" in job.said()
    assert re.search(r"^SIGTERM: stopped after step \d+ of 160; ", job.said(), re.MULTILINE)
    assert other.fields()["JobState"] == "COMPLETED"
    finishes(job, restarts=1)
    assert evidence(tmp_path / "run") == uninterrupted


def transcript(job: Job) -> str:
    """What a person sees of the job, without the name of the machine."""
    text = [
        f"$ sbatch {' '.join(ONE_NODE)} launch/slurm.sbatch {' '.join(WORDS)}",
        f"Submitted batch job {job.number}",
        "",
        "# The states of the job, one after the other; meanwhile process 1 got a SIGKILL.",
        f"$ scontrol show job {job.number}",
        *job.states,
        "",
        "$ cat sparsejax-1.out".replace("1", job.number),
        *(line for line in job.said().splitlines() if not line.startswith("[Gloo]")),
    ]
    return re.sub(rf"\b{re.escape(HOST)}\b", "node1", "\n".join(text)) + "\n"
