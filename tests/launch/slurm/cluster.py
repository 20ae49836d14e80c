"""A whole SLURM on this machine, for as long as standard input is open.

Needs root and Debian's slurm-wlm and munge. Everything lies in one temporary directory: nothing of
a SLURM that is installed here is read, changed or talked to. By hand, with Ctrl-D to end it:

    python tests/launch/slurm/cluster.py    # prints the slurm.conf to export as SLURM_CONF

Standard input rather than a signal, so that all of it ends with whoever started it, however that
ends. Daemons, job steps and their processes are descendants of this process, and none outlives it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
# Three nodes of one machine. The first has two CPUs, is preferred, and bears the machine's name,
# the only one that other programs can find.
HOST = socket.gethostname().split(".")[0]
NODES = (HOST, f"{HOST}-b", f"{HOST}-c")
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

# cred_expire is how long a requeued job waits before it starts again: two minutes by default, which
# no test has. The GPUs are devices that every machine has. KillOnBadExit, WaitTime, JobRequeue and
# JobFileAppend are what suits a training least, as some sites have them.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1,sched_min_interval=0
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/%n.log
PlugStackConfig={directory}/plugstack.conf
ReturnToService=1
KillWait=10
KillOnBadExit=1
WaitTime=1
JobRequeue=0
JobFileAppend=0
MinJobAge=300
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=DEFAULT CPUs=1 Gres=gpu:2
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 Weight=1
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} Weight=2
NodeName={nodes[2]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} Weight=3
PartitionName=work Nodes=ALL Default=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=2
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def configure(directory: Path) -> None:
    """Writes slurm.conf and what belongs to it."""
    directory.chmod(0o755)  # munged insists that everyone can reach its socket
    for name in ("state", *NODES):
        (directory / name).mkdir()
    (directory / "plugstack.conf").touch()
    (directory / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    text = CONFIGURATION.format(
        directory=directory, host=HOST, nodes=NODES, ports=free_ports(1 + len(NODES))
    )
    (directory / "slurm.conf").write_text(text)
    key = directory / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))


def start(directory: Path) -> None:
    """Starts the daemons in the foreground and returns when the node is idle."""
    munged = [
        *("munged", "--foreground", f"--key-file={directory}/munge.key"),
        *(f"--socket={directory}/munge.socket", f"--pid-file={directory}/munged.pid"),
        f"--seed-file={directory}/munged.seed",
    ]
    until(directory, [munged], (directory / "munge.socket").exists)
    daemons = [["slurmctld", "-D", "-i"], *(["slurmd", "-D", "-N", node] for node in NODES)]
    idle = f"{len(NODES)} idle"
    until(directory, daemons, lambda: answer("sinfo", "-h", "-p", "work", "-o", "%D %T") == idle)


def answer(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def until(directory: Path, commands: list[list[str]], ready: Callable[[], bool]) -> None:
    """Starts daemons and waits; where they are not ready, says what they said."""
    output = directory / "daemons.log"
    with output.open("a") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        daemons = [subprocess.Popen(command, **streams) for command in commands]
    end = time.monotonic() + 60
    while not ready():
        ended = [daemon.args[0] for daemon in daemons if daemon.poll() is not None]
        if ended or time.monotonic() > end:
            sys.exit(f"error: {ended or 'not ready after 60 s'}:\n{output.read_text()[-4000:]}")
        time.sleep(0.1)


def descendants() -> list[int]:
    """The processes below this one that still run."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.parent.name)] = int(parent)
    found, new = [], {os.getpid()}
    while new:
        new = {process for process, parent in parents.items() if parent in new}
        found += new
    return found


def reap() -> None:
    """Forgets the processes that ended; what has no parent any more is a child of this one."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        sys.exit(f"error: needs root and slurm-wlm and munge; missing: {missing or 'root'}")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    directory = Path(tempfile.mkdtemp(prefix="slurm-"))
    os.environ["SLURM_CONF"] = str(directory / "slurm.conf")
    try:
        configure(directory)
        start(directory)
        print(os.environ["SLURM_CONF"], flush=True)
        # Not sys.stdin: what is read with it can stay in its buffer, where select does not look.
        while not (select.select([0], [], [], 0.5)[0] and os.read(0, 1024) == b""):
            reap()
    finally:
        while running := descendants():
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)
            reap()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
