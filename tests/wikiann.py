"""WikiAnn as the tests use it: its tags in its own order, and the sentences of a file."""

from __future__ import annotations

from pathlib import Path

from sparsejax.data.readers import Reader
from sparsejax.data.sentences import Sentence
from sparsejax.data.sources import take

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


def read(path: Path, limit: int | None = None) -> list[Sentence]:
    """The first sentences of a file."""
    return list(take(Reader(path), limit))
