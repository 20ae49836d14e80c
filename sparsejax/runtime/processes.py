"""Being one of several processes: finding the others, and ending when one of them has ended.

JAX finds the processes and gives them one store of keys. Besides, each of them says there every few
seconds that it lives, and in the end why it ended, so that no one waits for a process that is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax._src import distributed  # as Orbax does: JAX has no public way to its store

from sparsejax.config import ParallelConfig
from sparsejax.errors import STOPPED, Stopped, UserError

BEAT = 2.0  # seconds between signs of life
SILENCE = 30.0  # seconds without one, after which a process is taken for dead
GRACE = 5.0  # seconds in which a process can end by itself what another one has ended
PATIENCE = 300.0  # seconds for the first process to answer; as long as JAX waits for the others
HEARTBEAT = 60  # seconds after which JAX itself ends the processes, with a longer text

_AGAIN = "start all processes again with --resume auto"
# Of what JAX raises where processes cannot communicate, as when one of them is gone.
_SIGNS = ("Gloo", "NCCL", "onnection closed", "onnection reset", "UNAVAILABLE", "Socket closed",
         "oordination service", "DEADLINE_EXCEEDED")  # fmt: skip


def is_first() -> bool:
    """Whether this is the process that writes."""
    # By the number that JAX was started with: that of a TPU's own could be another one.
    return bool(distributed.global_state.process_id == 0)


def wait_for_all(what: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def joined(config: ParallelConfig) -> Iterator[None]:
    """Within, this process is one of those that the configuration and the environment tell of.

    It must be the first use of JAX's devices. Where another process ends with an error, or is gone,
    this one ends with one line that says so.

    Raises:
      UserError: the others cannot be found.
      Stopped: the first one does not answer.
    """
    _prepare_cpu(config)
    if not _initialize(config):
        yield
        return
    watch = _Watch()
    watch.start()
    try:
        yield
        watch.stop()
    except BaseException as error:
        if _may_come_from_others(error):
            # If one of them has ended or is gone, the watch ends this process meanwhile.
            time.sleep(SILENCE + 2 * GRACE)
        watch.announce(error)
        raise
    jax.distributed.shutdown()


def several(config: ParallelConfig, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether there is more than this process."""
    if config.coordinator != "auto":
        return config.coordinator is not None
    # Within `srun`, and not in a batch script around it, whose SLURM_NTASKS says nothing of it.
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if environment.get(name, "1") != "1":
            return True
    return "," in environment.get("TPU_WORKER_HOSTNAMES", "")  # of GKE


def _prepare_cpu(config: ParallelConfig) -> None:
    if config.cpu_devices is not None:
        try:
            jax.config.update("jax_num_cpu_devices", config.cpu_devices)
        except RuntimeError:
            raise UserError(
                f"parallel.cpu_devices: {config.cpu_devices}: JAX has its devices in this process "
                "already; ask for them in a new one"
            ) from None
        jax.config.update("jax_platforms", "cpu")
    if config.cpu_devices is not None or several(config):
        # Devices of a CPU that wait for each other can hold all of its threads.
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def _initialize(config: ParallelConfig) -> bool:
    if not several(config):
        return False
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM from `stopping`.
    jax.config.update("jax_enable_preemption_service", False)
    words: dict[str, Any] = {"heartbeat_timeout_seconds": HEARTBEAT}
    if config.processes is not None:  # config.validate: then the other two are given as well
        words |= {
            "coordinator_address": config.coordinator,
            "num_processes": config.processes,
            "process_id": config.process,
            "local_device_ids": [],  # all that it sees
        }
    elif _one_on_each_node(os.environ):
        words["local_device_ids"] = []  # and not the one of its number on the node
    if config.processes is not None:
        _find_first(str(config.coordinator), config)
    try:
        jax.distributed.initialize(**words)
    except (ValueError, RuntimeError) as error:
        where = config.coordinator or ""
        raise UserError(
            f"parallel.coordinator: {where}: the other processes cannot be found "
            f"({_first_line(error)})"
        ) from None
    return jax.process_count() > 1


def _find_first(address: str, config: ParallelConfig) -> None:
    """Waits for the first process: JAX would do so without a word, and abort this one in the end.

    Raises:
      Stopped: it does not answer.
    """
    sys.stderr.write(f"process {config.process} of {config.processes}, the first at {address}\n")
    host, _, port = address.rpartition(":")
    until = time.monotonic() + PATIENCE
    while config.process != 0:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5):
            return
        if time.monotonic() > until:
            raise Stopped(
                f"parallel.coordinator: nobody has answered at {address} for {PATIENCE:.0f} s; "
                f"look whether process 0 runs there, then {_AGAIN}"
            )
        time.sleep(0.5)


def _one_on_each_node(environment: Mapping[str, str]) -> bool:
    tasks = environment.get("SLURM_STEP_NUM_TASKS")
    return tasks is not None and tasks == environment.get("SLURM_STEP_NUM_NODES")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _may_come_from_others(error: BaseException) -> bool:
    of_jax = isinstance(error, (ValueError, RuntimeError))
    return of_jax and any(sign in str(error) for sign in _SIGNS)


class _Watch(threading.Thread):
    """Says that this process lives, and looks whether the others do."""

    def __init__(self) -> None:
        super().__init__(name="processes", daemon=True)
        self.client: Any = distributed.global_state.client
        self.me, self.all = distributed.global_state.process_id, range(jax.process_count())
        self.stopped = threading.Event()
        self.seen: dict[str, tuple[str, float]] = {}

    def run(self) -> None:
        count = 0
        while not self.stopped.wait(BEAT):
            count += 1
            try:
                self._set(f"lives/{self.me}", str(count))
                lives, ends = self._all("lives"), self._all("ended")
            except (RuntimeError, ValueError):  # of JAX
                if not self.stopped.is_set():
                    self._leave(f"process 0 is gone; {_AGAIN}", STOPPED)
                return
            for name, text in ends.items():
                self._follow(name, json.loads(text))
            for number in self.all:
                if (silent := self._silent(str(number), lives)) > SILENCE:
                    said = f"process {number} has said nothing for {silent:.0f} s"
                    self._leave(f"{said}: it has died or hangs; {_AGAIN}", STOPPED)

    def stop(self) -> None:
        self.stopped.set()
        self.join()

    def announce(self, error: BaseException) -> None:
        """Tells the others that this process ends; it will not wait for them at its exit."""
        self.stop()
        known = isinstance(error, (UserError, Stopped))
        status = STOPPED if isinstance(error, Stopped) else 1
        text = _first_line(error) if known else f"{type(error).__name__}: {_first_line(error)}"
        with contextlib.suppress(Exception):  # the store may be gone
            self._set(f"ended/{self.me}", json.dumps({"text": text, "status": status}))
            # With the first process the store goes, and JAX ends all that still use it.
            until = time.monotonic() + 3 * GRACE
            while self.me == 0 and time.monotonic() < until:
                if len(self._all("ended")) == len(self.all):
                    break
                time.sleep(BEAT / 4)
        # The first of what is done at the exit: JAX would wait for all processes.
        atexit.register(_exit, status)

    def _follow(self, name: str, end: dict[str, Any]) -> None:
        if self.stopped.wait(GRACE):  # this process is ending by itself
            return
        self._leave(f"process {name} has ended: {end['text']}", end["status"])

    def _leave(self, text: str, status: int) -> None:
        """Ends this process, whatever its main thread is waiting for."""
        with contextlib.suppress(Exception):
            self._set(f"ended/{self.me}", json.dumps({"text": text, "status": status}))
            time.sleep(BEAT if self.me == 0 else 0)
        sys.stderr.write(f"{text}\n" if status == STOPPED else f"error: {text}\n")
        _exit(status)

    def _silent(self, name: str, lives: Mapping[str, str]) -> float:
        """For how many seconds a process has not been heard of."""
        now, count = time.monotonic(), lives.get(name, "")
        if self.seen.get(name, (None, 0.0))[0] != count:
            self.seen[name] = (count, now)
        return now - self.seen[name][1]

    def _set(self, key: str, value: str) -> None:
        self.client.key_value_set(f"sparsejax/{key}", value, allow_overwrite=True)

    def _all(self, directory: str) -> dict[str, str]:
        found = self.client.key_value_dir_get(f"sparsejax/{directory}/")
        return {key.rsplit("/", 1)[1]: value for key, value in found}


def _exit(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)
