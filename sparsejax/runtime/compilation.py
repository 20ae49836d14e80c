"""Compiled programs: kept from one process to the next, and counted."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path

import jax

from sparsejax.data import cache
from sparsejax.errors import UserError

SHORTEST = 0.1  # seconds: what compiles faster is not worth a file


def keep_programs() -> None:
    """Has JAX keep what it compiles in the user's cache directory, and find it there.

    JAX's own settings win: JAX_COMPILATION_CACHE_DIR is another directory, and
    JAX_ENABLE_COMPILATION_CACHE=false none. Where nothing can be written, nothing is kept.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        directory = cache.default_directory() / "programs" / _machine()
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, UserError):
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)


def _machine() -> str:
    """Another name for machines on which programs of this one's CPU could not run.

    JAX tells devices apart by itself, but not the CPUs of a cluster that share a home.
    """
    features = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        kinds = ("model name", "flags", "Features")  # the last one on ARM
        features += " ".join(sorted({line for line in lines if line.startswith(kinds)}))
    return hashlib.sha256(features.encode()).hexdigest()[:16]


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """Meanwhile, the name of each program is added to the list when it is compiled, or found."""
    names: list[str] = []

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(about.get("fun_name")).removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
