"""Every shell script of launch/ is free of what shellcheck finds, and says first what it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


def is_shell(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith((b"#!/usr/bin/env bash", b"#!/bin/"))


SCRIPTS = sorted(path for path in LAUNCH.iterdir() if is_shell(path))


def test_the_scripts_are_found() -> None:
    names = {path.name for path in LAUNCH.iterdir()} - {path.name for path in SCRIPTS}
    assert names <= {"kubernetes.yaml"}, "a file of launch/ is no shell script and not known here"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    command = ["shellcheck", "--norc", "--shell=bash", str(script)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_strict_and_says_what_it_needs(script: Path) -> None:
    text = script.read_text()
    head = text[: text.index("\nset -euo pipefail\n")]
    assert "Needs" in head or "needs" in head
    assert "cost" in head
    assert script.suffix != ".sh" or os.access(script, os.X_OK)
