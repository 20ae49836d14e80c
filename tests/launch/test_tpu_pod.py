"""launch/tpu_pod.sh with a stand-in for gcloud, which records what it is asked and has two workers.

A worker is a directory: ssh runs its command there with bash, scp copies. Nothing is installed: the
worker's python3 makes a stand-in of uv, uv one of venv/bin/python, and that one of a training.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "launch" / "tpu_pod.sh"

# The flags that the script may use, by command; a command or flag not here fails the stand-in.
FLAGS = {
    "queued-resources create": [
        *("--node-id", "--accelerator-type", "--runtime-version", "--spot"),
        *("--valid-until-duration", "--zone", "--project"),
    ],
    "queued-resources describe": ["--format", "--zone", "--project"],
    "queued-resources delete": ["--force", "--quiet", "--zone", "--project"],
    "tpu-vm ssh": ["--worker", "--command", "--zone", "--project"],
    "tpu-vm scp": ["--worker", "--zone", "--project"],
    "tpu-vm delete": ["--quiet", "--zone", "--project"],
}
SWITCHES = {"--spot", "--force", "--quiet"}

GCLOUD = """#!{python}
import json, os, pathlib, shutil, subprocess, sys
here = pathlib.Path({here!r})
flags, switches = {flags!r}, {switches!r}
with open(here / "calls", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
assert sys.argv[1:3] == ["compute", "tpus"], sys.argv
verb, words, given = " ".join(sys.argv[3:5]), [], {{}}
for word in sys.argv[5:]:
    if not word.startswith("-"):
        words.append(word)
        continue
    name, equals, value = word.partition("=")
    if name not in flags[verb] or (name in switches) == bool(equals) or name in given:
        sys.exit(f"ERROR: (gcloud.compute.tpus) unrecognized arguments: {{word}}")
    given[name] = value
if (here / "fail").exists() and (here / "fail").read_text() in " ".join(sys.argv):
    sys.exit("ERROR: (gcloud.compute.tpus) quota exceeded")
if verb == "queued-resources describe":
    states = json.loads((here / "states").read_text())
    (here / "states").write_text(json.dumps(states[1:] or states))
    print(states[0])
if not verb.startswith("tpu-vm s"):
    sys.exit()
wanted = ["0", "1"] if given["--worker"] == "all" else [given["--worker"]]
workers = [here / "worker" / index for index in wanted]
if verb == "tpu-vm scp":
    *sources, target = words
    for worker in workers:
        if target.startswith("pod-1:"):
            for source in sources:
                shutil.copy(source, worker / target.removeprefix("pod-1:"))
        else:
            shutil.copy(worker / sources[0].removeprefix("pod-1:"), target)
    sys.exit()
status = 0
for worker in workers:
    env = {{"HOME": str(worker), "PATH": f"{{here}}/bin:/usr/bin:/bin", "INDEX": worker.name}}
    ran = subprocess.run(["bash", "-c", given["--command"]], cwd=worker, env=env)
    status = status or ran.returncode
sys.exit(status)
"""

PYTHON3 = """#!/bin/sh
[ "$*" = "-m pip install --quiet --target uv uv" ] || exit 9
mkdir -p uv/bin && cp {here}/uv uv/bin/uv
"""
UV = """#!/bin/sh
case "$*" in
  "venv --quiet --python 3.12 venv") mkdir -p venv/bin && cp {here}/training venv/bin/python ;;
  "pip install --quiet --python venv/bin/python --reinstall-package sparsejax ./source[tpu]")
    [ -f source/pyproject.toml ] && [ -f source/sparsejax/train.py ] && [ -f source/LICENSE ] ;;
  *) exit 9 ;;
esac
"""
TRAINING = """#!{python}
import json, os, pathlib, signal, sys, time
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
with open("argv", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if os.environ["INDEX"] == "0":
    os.makedirs("run/checkpoints/1", exist_ok=True)
    for name in ("config.yaml", "log.txt", "checkpoints/1/state"):
        pathlib.Path("run", name).write_text("new")
print("step 1", flush=True)
plan = json.loads(pathlib.Path({here!r}, "plan").read_text())
until = time.monotonic() + 20
while plan == "wait" and not stopped and time.monotonic() < until:
    time.sleep(0.02)
sys.exit(75 if stopped else plan)
"""


class Cloud:
    """The stand-ins' directory."""

    def __init__(self, path: Path) -> None:
        self.path = path / "cloud"
        self.work = path / "a work'ing $(touch executed) dir"
        self.work.mkdir()
        for name in ("bin", "worker/0", "worker/1"):
            (self.path / name).mkdir(parents=True)
        values = {
            "python": sys.executable,
            "here": str(self.path),
            "flags": FLAGS,
            "switches": SWITCHES,
        }
        for name, text in [
            ("gcloud", GCLOUD), ("bin/python3", PYTHON3), ("uv", UV), ("training", TRAINING)
        ]:  # fmt: skip
            (self.path / name).write_text(text.format(**values))
            (self.path / name).chmod(0o755)
        self.plan(0)
        self.states("ACTIVE")

    def plan(self, plan: int | str) -> None:
        (self.path / "plan").write_text(json.dumps(plan))

    def states(self, *states: str) -> None:
        (self.path / "states").write_text(json.dumps(states))

    def fail(self, words: str) -> None:
        (self.path / "fail").write_text(words)

    def run(
        self, command: str, *words: str, answer: str = "", name: str = "pod-1"
    ) -> subprocess.CompletedProcess[str]:
        place = ["--name", name, "--project", "my-project", "--zone", "us-west4-a"]
        return subprocess.run(
            ["bash", str(SCRIPT), command, *place, "--poll", "0", *words],
            env={**os.environ, "PATH": f"{self.path}:{os.environ['PATH']}"},
            cwd=self.work,
            input=answer,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[list[str]]:
        """What gcloud was asked since the last time."""
        path = self.path / "calls"
        calls = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )
        path.unlink(missing_ok=True)
        return calls

    def states_of_workers(self) -> list[str]:
        return [line.split()[2] for line in self.run("status").stdout.splitlines()]

    def argv(self, worker: int) -> list[list[str]]:
        path = self.path / "worker" / str(worker) / "sparsejax" / "argv"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def ended(self) -> None:
        """Waits until the training of every worker has."""
        until = time.monotonic() + 20
        paths = [self.path / "worker" / i / "sparsejax" / "status" for i in ("0", "1")]
        while not all(path.exists() for path in paths) and time.monotonic() < until:
            time.sleep(0.02)


@pytest.fixture
def cloud(tmp_path: Path) -> Any:
    cloud = Cloud(tmp_path)
    yield cloud
    (cloud.path / "fail").unlink(missing_ok=True)
    if (cloud.path / "worker/0/sparsejax/pid").exists():
        cloud.run("stop")
    assert not list(tmp_path.rglob("executed")), "a part of a name was executed"


PLACE = ["--zone=us-west4-a", "--project=my-project"]
MONEY = (
    "tpu_pod.sh: pod-1 may be there and cost money until: launch/tpu_pod.sh delete "
    "--name pod-1 --project my-project --zone us-west4-a\n"
)
TYPE = ("--type", "v5litepod-16", "--runtime", "v2-alpha-tpuv5-lite")


def queued(verb: str, *words: str) -> list[str]:
    return ["compute", "tpus", "queued-resources", verb, "pod-1", *words, *PLACE]


def ssh(worker: str, command: str) -> list[str]:
    words = ["pod-1", f"--worker={worker}", f"--command={command}"]
    return ["compute", "tpus", "tpu-vm", "ssh", *words, *PLACE]


def scp(*paths: str, worker: str) -> list[str]:
    return ["compute", "tpus", "tpu-vm", "scp", *paths, f"--worker={worker}", *PLACE]


CREATE = queued(
    *("create", "--node-id=pod-1", "--accelerator-type=v5litepod-16"),
    "--runtime-version=v2-alpha-tpuv5-lite",
)
DESCRIBE = queued("describe", "--format=value(state.state)")
DELETE = queued("delete", "--force", "--quiet")
UNPACK = (
    "cd sparsejax || exit; for part in source data model; do if [ -e $part.tar ]; then "
    "rm -rf $part && mkdir $part && tar -xf $part.tar -C $part && rm $part.tar || exit; fi; done; "
    "[ -x uv/bin/uv ] || python3 -m pip install --quiet --target uv uv || exit; "
    "[ -x venv/bin/python ] || uv/bin/uv venv --quiet --python 3.12 venv || exit; "
    "uv/bin/uv pip install --quiet --python venv/bin/python --reinstall-package sparsejax "
    '"./source[tpu]"'
)
RECEIVE = (
    'cd sparsejax || exit; if [ -e run ]; then echo "there is a run on the worker already" >&2; '
    "exit 1; fi; rm -rf run.new && mkdir run.new && tar -xf run.tar -C run.new && "
    "mv run.new run && rm run.tar"
)
LOOK = (
    "cd sparsejax || exit; if [ -e status ]; then s=$(cat status); "
    'elif kill -0 "$(cat pid)" 2>/dev/null; then s=running; else s=gone; fi; '
    'echo "worker $(hostname) $s"'
)
PACK = (
    'cd sparsejax || exit; [ -d run ] || { echo "there is no run yet" >&2; exit 1; }; '
    "tar -cf run.tar -C run . || [ $? -eq 1 ]"
)


def test_create_waits_until_the_slice_is_there(cloud: Cloud) -> None:
    cloud.states("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    result = cloud.run("create", *TYPE)
    assert (result.returncode, result.stdout) == (0, "")
    assert cloud.calls() == [CREATE, *[DESCRIBE] * 5]
    waiting = "; Ctrl-C ends the waiting, not the request\n"
    assert result.stderr.count(waiting) == 4
    assert result.stderr.endswith(MONEY)


def test_create_passes_on_spot_and_the_time_limit(cloud: Cloud) -> None:
    assert cloud.run("create", *TYPE, "--spot", "--valid-until", "6h").returncode == 0
    more = ["--spot", "--valid-until-duration=6h"]
    assert cloud.calls()[0] == [*CREATE[: -len(PLACE)], *more, *PLACE]


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDING", "SUSPENDED", "DELETING"])
def test_create_gives_up_when_the_slice_will_not_come(cloud: Cloud, state: str) -> None:
    cloud.states("PROVISIONING", state)
    result = cloud.run("create", *TYPE)
    assert result.returncode == 1
    assert f"tpu_pod.sh: pod-1 is {state} and will not come; delete it\n" in result.stderr
    assert result.stderr.endswith(MONEY)


@pytest.mark.parametrize(
    ("command", "words", "fails", "line"),
    [
        ("create", TYPE, "create", "pod-1 could not be requested, see above"),
        ("create", TYPE, "describe", "the state of pod-1 is not known; look with gcloud"),
        ("install", (), "ssh", "a worker of pod-1 does not answer"),
        ("install", (), "scp", "not all was sent to pod-1"),
        ("install", (), "uv/bin/uv", "the installation on pod-1 failed"),
        ("start", (), "scp", "not all was sent to pod-1"),
        ("start", (), "bash ", "the training did not start on every worker"),
        ("logs", (), "ssh", "there is no log on pod-1"),
        ("status", (), "ssh", "a worker of pod-1 does not answer"),
        ("stop", (), "ssh", "not on every worker was a training to stop"),
        ("fetch", (), "ssh", "nothing was fetched from pod-1"),
        ("delete", ("--yes",), "delete", "pod-1 is not deleted, see above"),
    ],
)
def test_a_failure_is_one_line_and_says_what_costs_money(
    cloud: Cloud, command: str, words: tuple[str, ...], fails: str, line: str
) -> None:
    cloud.fail(fails)
    result = cloud.run(command, *words)
    assert result.returncode == 1
    own = [row for row in result.stderr.splitlines() if row.startswith("tpu_pod.sh: ")]
    assert len(own) == 2
    assert own[0].startswith(f"tpu_pod.sh: {line}")
    assert own[1] + "\n" == MONEY
    assert not list(cloud.work.rglob("*.tpu"))


def test_install_sends_checkout_data_and_model_to_every_worker(cloud: Cloud) -> None:
    for name in ("my data", "model;touch executed"):
        (cloud.work / name).mkdir()
        (cloud.work / name / "a file").write_text(name)
    result = cloud.run("install", "--data", "my data", "--model", "model;touch executed")
    assert (result.returncode, result.stderr) == (0, MONEY)
    stage = f"{cloud.work}/runs/pod-1.tpu"
    tars = [f"{stage}/{part}.tar" for part in ("source", "data", "model")]
    assert cloud.calls() == [
        ssh("all", "mkdir -p sparsejax"),
        scp(*tars, "pod-1:sparsejax/", worker="all"),
        ssh("all", UNPACK),
    ]
    for worker in ("0", "1"):
        home = cloud.path / "worker" / worker / "sparsejax"
        assert (home / "data" / "a file").read_text() == "my data"
        assert (home / "model" / "a file").read_text() == "model;touch executed"
        assert not list(home.rglob("__pycache__"))
        assert not list(home.glob("*.tar"))
    assert not Path(stage).exists()


HOSTILE = [
    "--prune.sparsity",
    "0.9",
    "--x",
    "a b",
    "it's",
    '"$(touch executed)"',
    "`x`;",
    "é\n*",
    "",
]


def test_start_gives_every_worker_the_same_arguments(cloud: Cloud) -> None:
    (cloud.work / "data").mkdir()
    (cloud.work / "a config.yaml").write_text("seed: 1\n")
    assert cloud.run("install", "--data", "data").returncode == 0
    cloud.calls()
    result = cloud.run("start", "--config", "a config.yaml", "--", *HOSTILE)
    assert (result.returncode, result.stderr) == (0, MONEY)
    stage = f"{cloud.work}/runs/pod-1.tpu"
    assert cloud.calls() == [
        scp(f"{stage}/start.sh", f"{stage}/config.yaml", "pod-1:sparsejax/", worker="all"),
        ssh("all", "bash sparsejax/start.sh"),
    ]
    cloud.ended()
    fixed = "-m sparsejax.train --resume auto --parallel.coordinator cluster --output run"
    more = ["--config", "config.yaml", "--data.dir", "data"]
    for worker in (0, 1):
        assert cloud.argv(worker) == [[*fixed.split(), *more, *HOSTILE]]


def test_a_second_start_does_nothing_while_the_first_one_runs(cloud: Cloud) -> None:
    """gcloud repeats an ssh whose connection broke."""
    cloud.plan("wait")
    assert cloud.run("install").returncode == 0
    for _ in range(2):
        assert cloud.run("start").returncode == 0
    assert cloud.states_of_workers() == ["running", "running"]
    pid = int((cloud.path / "worker/0/sparsejax/pid").read_text())
    assert os.getsid(pid) != os.getsid(0)  # the end of the connection does not end it
    assert cloud.run("stop").returncode == 0
    cloud.ended()
    assert cloud.states_of_workers() == ["75", "75"]
    assert len(cloud.argv(0)) == 1
    cloud.plan(0)
    assert cloud.run("start").returncode == 0  # and goes on after it was stopped
    cloud.ended()
    assert len(cloud.argv(0)) == 2


def test_status_logs_and_stop_ask_exactly_this(cloud: Cloud) -> None:
    cloud.run("install")
    cloud.run("start")
    cloud.ended()
    cloud.calls()
    assert cloud.run("logs").stdout == "step 1\n"
    assert cloud.run("status").returncode == 0
    assert cloud.run("stop").returncode == 1
    follow = 'cd sparsejax && tail -n 100 -F --pid="$(cat pid)" log.txt'
    kill = 'kill -TERM "$(cat sparsejax/pid)"'
    assert cloud.calls() == [ssh("0", follow), ssh("all", LOOK), ssh("all", kill)]


def test_fetch_replaces_an_older_run_and_nothing_else(cloud: Cloud) -> None:
    cloud.run("install")
    cloud.run("start")
    cloud.ended()
    cloud.calls()
    output = cloud.work / "runs" / "it's mine"
    for _ in range(2):
        result = cloud.run("fetch", "--output", "runs/it's mine")
        assert (result.returncode, result.stderr) == (0, MONEY)
        copy = scp("pod-1:sparsejax/run.tar", f"{output}.tpu/run.tar", worker="0")
        assert cloud.calls() == [ssh("0", PACK), copy]
        assert (output / "checkpoints/1/state").read_text() == "new"
        (output / "checkpoints/1/state").write_text("old")
        assert sorted(path.name for path in output.parent.iterdir()) == ["it's mine"]
    (output / "config.yaml").unlink()
    result = cloud.run("fetch", "--output", "runs/it's mine")
    assert (result.returncode, cloud.calls()) == (1, [])
    assert "is no run; name another" in result.stderr
    assert (output / "checkpoints/1/state").read_text() == "old"


def test_a_fetch_that_cannot_be_finished_leaves_the_older_run(cloud: Cloud) -> None:
    cloud.run("install")
    cloud.run("start")
    cloud.ended()
    assert cloud.run("fetch").returncode == 0
    (cloud.path / "mv").write_text('#!/bin/sh\ncase "$1" in */run) exit 1 ;; esac\n/bin/mv "$@"\n')
    (cloud.path / "mv").chmod(0o755)
    result = cloud.run("fetch")
    assert result.returncode == 1
    assert "runs/pod-1' cannot be written\n" in result.stderr
    assert [path.name for path in (cloud.work / "runs").iterdir()] == ["pod-1"]
    assert (cloud.work / "runs/pod-1/checkpoints/1/state").exists()


def test_two_calls_do_not_disturb_each_other(cloud: Cloud) -> None:
    (cloud.work / "runs" / "pod-1.tpu").mkdir(parents=True)
    (cloud.work / "runs" / "pod-1.tpu" / "other").write_text("")
    result = cloud.run("install")
    assert result.returncode == 1
    assert "pod-1.tpu' is in use by another call, or was left by one: remove it\n" in result.stderr
    assert (cloud.work / "runs" / "pod-1.tpu" / "other").exists()


def test_push_sends_a_run_where_there_is_none(cloud: Cloud) -> None:
    cloud.run("install")
    cloud.calls()
    run = cloud.work / "runs" / "pod-1"
    assert "is no run: it has no config.yaml" in cloud.run("push").stderr
    (run / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "log.txt", "checkpoints/a b"):
        (run / name).write_text(name)
    result = cloud.run("push")
    assert (result.returncode, result.stderr) == (0, MONEY)
    send = scp(f"{run}.tpu/run.tar", "pod-1:sparsejax/", worker="0")
    assert cloud.calls() == [send, ssh("0", RECEIVE)]
    sent = cloud.path / "worker/0/sparsejax/run"
    assert (sent / "checkpoints/a b").read_text() == "checkpoints/a b"
    assert not (cloud.path / "worker/1/sparsejax/run").exists()
    result = cloud.run("push")
    assert result.returncode == 1
    assert "there is a run on the worker already" in result.stderr


def test_watch_fetches_and_ends_as_the_training_ends(cloud: Cloud) -> None:
    cloud.plan(1)
    cloud.run("install")
    cloud.run("start")
    result = cloud.run("watch", "--every", "0")
    run = cloud.work / "runs" / "pod-1"
    assert result.returncode == 1
    line = f"tpu_pod.sh: the training ended with exit status 1; the run is in {run}\n"
    assert result.stderr.endswith(line + MONEY)
    assert (run / "checkpoints/1/state").read_text() == "new"


def test_watch_fetches_while_it_runs(cloud: Cloud) -> None:
    cloud.plan("wait")
    cloud.run("install")
    cloud.run("start")
    cloud.calls()
    place = ["--name", "pod-1", "--project", "my-project", "--zone", "us-west4-a"]
    process = subprocess.Popen(
        ["bash", str(SCRIPT), "watch", *place, "--poll", "0", "--every", "0"],
        env={**os.environ, "PATH": f"{cloud.path}:{os.environ['PATH']}"},
        cwd=cloud.work,
        stderr=subprocess.PIPE,
        text=True,
    )
    state = cloud.work / "runs" / "pod-1" / "checkpoints/1/state"
    until = time.monotonic() + 20
    while not state.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert process.poll() is None
    # A worker that was started anew has neither status nor process; the others end.
    worker = cloud.path / "worker/1/sparsejax"
    cloud.run("stop")
    cloud.ended()
    (worker / "status").unlink()
    process.communicate(timeout=30)
    assert process.returncode in (75, 137)  # 75 if it looked between the two lines above


def test_watch_says_that_a_slice_was_taken_away(cloud: Cloud) -> None:
    cloud.run("install")
    cloud.fail(" ssh ")
    cloud.states("ACTIVE", "SUSPENDED")
    result = cloud.run("watch")
    assert result.returncode == 1
    assert "tpu_pod.sh: a worker of pod-1 does not answer; trying again\n" in result.stderr
    assert "tpu_pod.sh: pod-1 is SUSPENDED; delete it, and the same run command" in result.stderr


def test_run_does_all_and_deletes_when_told(cloud: Cloud) -> None:
    result = cloud.run("run", *TYPE, "--yes", "--", *HOSTILE)
    assert (result.returncode, result.stdout) == (0, "")
    assert MONEY not in result.stderr
    calls = cloud.calls()
    assert calls[:2] == [CREATE, DESCRIBE]
    assert calls[-1] == DELETE
    assert ssh("0", RECEIVE) not in calls
    assert (cloud.work / "runs/pod-1/checkpoints/1/state").exists()


def test_run_goes_on_from_what_was_fetched_and_keeps_what_was_not(cloud: Cloud) -> None:
    run = cloud.work / "runs" / "pod-1"
    run.mkdir(parents=True)
    for name in ("config.yaml", "log.txt", "old"):
        (run / name).write_text(name)
    cloud.fail("run.tar -C run .")  # fetching fails
    result = cloud.run("run", *TYPE, "--yes")
    calls = cloud.calls()
    assert ssh("0", RECEIVE) in calls
    assert (cloud.path / "worker/0/sparsejax/run/old").exists()
    assert (result.returncode, DELETE in calls) == (1, False)
    assert result.stderr.endswith(MONEY)


@pytest.mark.parametrize(
    ("words", "answer", "deleted"),
    [(("--yes",), "", True), ((), "pod-1\n", True), ((), "y\n", False), ((), "", False)],
)
def test_delete_asks(cloud: Cloud, words: tuple[str, ...], answer: str, deleted: bool) -> None:
    result = cloud.run("delete", *words, answer=answer)
    assert result.returncode == (0 if deleted else 1)
    assert cloud.calls() == ([DELETE] if deleted else [])
    assert (MONEY in result.stderr) is not deleted


def test_delete_of_a_tpu_vm(cloud: Cloud) -> None:
    assert cloud.run("delete", "--vm", "--yes").returncode == 0
    assert cloud.calls() == [["compute", "tpus", "tpu-vm", "delete", "pod-1", "--quiet", *PLACE]]


ALL = ["create", "install", "push", "start", "logs", "status", "stop", "fetch", "watch", "delete"]


@pytest.mark.parametrize("command", [*ALL, "run"])
def test_dry_run_prints_what_is_run_and_runs_nothing(cloud: Cloud, command: str) -> None:
    (cloud.work / "da$ta").mkdir()
    (cloud.work / "c;.yaml").write_text("")
    words = [*TYPE, "--yes", "--data", "da$ta", "--config", "c;.yaml", "--", *HOSTILE]
    if command in ("push", "watch", "run"):
        run = cloud.work / "runs" / "pod-1"
        run.mkdir(parents=True)
        for name in ("config.yaml", "log.txt"):
            (run / name).write_text("")
    before = sorted(cloud.work.rglob("*"))
    dry = cloud.run(command, "--dry-run", *words)
    assert (dry.returncode, cloud.calls()) == (0, [])
    assert sorted(cloud.work.rglob("*")) == before
    assert "cost money" not in dry.stderr
    printed = [shlex.split(line) for line in dry.stdout.splitlines()]
    if command not in ("create", "install", "run"):
        cloud.run("install")
    if command in ("logs", "status", "stop", "fetch", "watch"):
        if command == "stop":
            cloud.plan("wait")
        cloud.run("start")
        if command != "stop":
            cloud.ended()
    cloud.calls()
    real = cloud.run(command, *words)
    assert real.returncode == 0, real.stderr
    asked = [["gcloud", *call] for call in cloud.calls()]
    if command == "run":  # it looks until the training has ended
        look = ["gcloud", *ssh("all", LOOK)]
        asked = [call for i, call in enumerate(asked) if call != look or asked[i - 1] != look]
    assert [words for words in printed if words[0] == "gcloud"] == asked


def test_dry_run_needs_no_gcloud(cloud: Cloud) -> None:
    (cloud.path / "gcloud").unlink()
    if shutil.which("gcloud") is None:
        assert "gcloud is not installed" in cloud.run("status").stderr
    assert cloud.run("status", "--dry-run").returncode == 0


@pytest.mark.parametrize(
    ("command", "words", "line"),
    [
        ("creat", (), "no such command: 'creat'; launch/tpu_pod.sh --help lists them"),
        ("create", ("--tpye", "v4-8"), "no such option: '--tpye'; flags of sparsejax.train come"),
        ("create", ("--type",), "--type needs a value"),
        ("create", ("--runtime", "v"), "--type is missing"),
        ("create", ("--type", "v4-8"), "--runtime is missing"),
        ("create", ("--zone", ""), "--zone is missing"),
        ("create", ("--project", ""), "--project is missing"),
        ("watch", ("--every", "10m"), "--every '10m' is not a number of seconds"),
        ("install", ("--data", "nowhere"), "--data '"),
        ("install", ("--model", "nowhere"), "--model '"),
        ("start", ("--config", "nowhere"), "--config '"),
        ("fetch", ("--output", "a:b"), "--output '"),
        ("fetch", ("--output", "a\nb"), "--output '"),
        *[
            ("status", ("--name", name), f"--name '{name}' is not a name of a TPU")
            for name in ("", "-x", "Pod", "a;b", "a b", "a:b", "$(touch executed)", "a" * 63)
        ],
    ],
)
def test_a_mistake_is_one_line_before_gcloud_is_asked(
    cloud: Cloud, command: str, words: tuple[str, ...], line: str
) -> None:
    result = cloud.run(command, *words)
    assert (result.returncode, cloud.calls()) == (1, [])
    assert result.stderr.startswith(f"tpu_pod.sh: {line}")


def documented() -> list[str]:
    """The commands of docs/launch.md that begin with this script."""
    text = (REPOSITORY / "docs" / "launch.md").read_text("utf-8")
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("launch/tpu_pod.sh ")]


@pytest.mark.parametrize("line", documented())
def test_documented_commands_are_accepted(cloud: Cloud, line: str) -> None:
    for name in ("DATA", "MODEL", "runs/mine"):
        (cloud.work / name).mkdir(parents=True)
    shutil.copytree(REPOSITORY / "configs", cloud.work / "configs")
    result = subprocess.run(
        ["bash", str(SCRIPT), *shlex.split(line)[1:], "--dry-run"]
        if " -- " not in line
        else ["bash", str(SCRIPT), *shlex.split(line.replace(" -- ", " --dry-run -- "))[1:]],
        cwd=cloud.work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "gcloud compute tpus" in result.stdout
    assert "us-west4-a" in result.stdout


def test_every_command_is_documented() -> None:
    assert {line.split()[1] for line in documented()} == {*ALL, "run"} - {"push"}


def test_help_names_every_command_and_option(cloud: Cloud) -> None:
    text = subprocess.run(
        ["bash", str(SCRIPT), "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in [*ALL, "run"]:
        assert re.search(rf"^  {command} ", text, re.MULTILINE)
    script = SCRIPT.read_text()
    accepted = script[script.index("while [[ $# -gt 0 ]]") : script.index("no such option")]
    for option in set(re.findall(r"--[a-z][a-z-]*", accepted)):
        assert option in text


def test_the_installed_gcloud_has_every_command_and_flag() -> None:
    gcloud = shutil.which("gcloud")
    tree = Path(gcloud).resolve().parents[1] / "data/cli/gcloud_completions.py" if gcloud else None
    if tree is None or not tree.exists():
        pytest.skip("the Google Cloud SDK is not installed here")
    spec = importlib.util.spec_from_file_location("gcloud_completions", tree)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = module.STATIC_COMPLETION_CLI_TREE
    tpus = root["commands"]["compute"]["commands"]["tpus"]["commands"]
    for command, flags in FLAGS.items():
        group, verb = command.split()
        known = {**root["flags"], **tpus[group]["commands"][verb]["flags"]}
        assert set(flags) <= known.keys()
        for flag in flags:
            assert (known[flag] == "bool") == (flag in SWITCHES)
