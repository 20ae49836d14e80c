"""Sentences with their entities replaced: as a tagger's pieces, kept for others, and as files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from sparsejax import files
from sparsejax.config import DataConfig
from sparsejax.data import writing
from sparsejax.data.perturb import Perturbed
from sparsejax.data.preparation import Prepared
from sparsejax.data.seen import Seen
from sparsejax.data.sentences import Corpus
from sparsejax.errors import UserError
from sparsejax.ner.saved import Tagger


@dataclasses.dataclass(frozen=True)
class Replaced:
    """Sentences with their entities replaced, and the same tokenised."""

    changed: Perturbed
    prepared: Mapping[str, Prepared]


class LastReplaced:
    """The replaced sentences of the last evaluation, for others that have the same."""

    def __init__(self) -> None:
        self._of: object = None
        self._kept: dict[str, Replaced] = {}

    def get(self, of: object, kind: str, make: Callable[[], Replaced]) -> Replaced:
        """What was kept, or what `make` makes.

        Args:
          of: all that the sentences depend on besides how they are replaced.
          kind: how they are replaced.
          make: makes them.
        """
        if of != self._of:
            self._of, self._kept = of, {}
        if kind not in self._kept:
            self._kept[kind] = make()
        return self._kept[kind]


def depends_on(
    data: DataConfig, split: str, seed: int, known: Seen, tagger: Tagger
) -> tuple[object, ...]:
    """What replaced sentences, as pieces of a tagger, depend on, but for how they are replaced."""
    text = tagger.tokenizer.backend_tokenizer.to_str()
    digests = (hashlib.sha256(x).digest() for x in (known.entities.tobytes(), text.encode()))
    return (data, split, seed, tagger.labels, tagger.positions, *digests)


def write(path: Path, kind: str, split: str, corpus: Corpus, changed: Perturbed) -> None:
    """The replaced sentences as files that --data.dir takes, and beside the original ones."""
    for code, part in changed.corpus.items():
        directory = path / kind / code
        directory.mkdir(parents=True, exist_ok=True)
        try:
            writing.write_tsv(directory / f"{split}.tsv", part)
        except ValueError as error:
            raise UserError(f"write: {code}: {error}") from None
        lines = (f"{line}\n" for line in writing.side_by_side(corpus[code], part))
        text = "".join(lines).encode()
        files.write_whole(directory / f"{split}-side-by-side.txt", text)
