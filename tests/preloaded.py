"""What the processes of `test_resume` run, imported once for all of them; nothing is computed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import datasets  # noqa: F401
import tensorboardX  # noqa: F401
import transformers  # noqa: F401

import sparsejax.runtime.checkpoint
import sparsejax.runtime.setup  # noqa: F401
from sparsejax import train


def main(arguments: Sequence[str], output: str) -> None:
    """The command line of a training, in a process of its own."""
    sys.stdout = sys.stderr = open(output, "w", buffering=1)  # noqa: SIM115
    train.main(arguments)
