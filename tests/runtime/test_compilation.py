"""Compiled programs are kept for the next process, where the user and the disk let them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import jax, jax.numpy as jnp
from sparsejax.runtime import compilation
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.split("/")[-1]))
compilation.keep_programs()
def product(x):
    for _ in range(60):
        x = jnp.tanh(x @ x.T + jnp.sort(x, axis=1))
    return x
with compilation.counted() as names:
    jax.jit(product)(jnp.ones((8, 8)))
print(names.count("product"), events.count("cache_hits"))
"""


def run(**environment: str) -> str:
    ours = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, env=inherited | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_second_process_finds_what_the_first_one_compiled(tmp_path: Path) -> None:
    where = {"SPARSEJAX_CACHE": str(tmp_path)}
    assert run(**where) == "1 0"
    assert len(list(tmp_path.glob("programs/*/jit_product*"))) == 1
    assert run(**where) == "1 1"


def test_jaxs_own_settings_win(tmp_path: Path) -> None:
    other = {
        "SPARSEJAX_CACHE": str(tmp_path / "a"),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "b"),
    }
    run(**other)
    assert not (tmp_path / "a").exists()
    run(SPARSEJAX_CACHE=str(tmp_path / "c"), JAX_ENABLE_COMPILATION_CACHE="false")
    assert not list(tmp_path.glob("c/programs/*/*"))


@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path, kind: str) -> None:
    (tmp_path / "cache").write_text("") if kind == "file" else (tmp_path / "cache").mkdir(0o500)
    assert run(SPARSEJAX_CACHE=str(tmp_path / "cache")) == "1 0"
