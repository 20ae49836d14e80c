"""Where labelled sentences come from: a local directory, the Hugging Face hub, the embedded corpus.

Whatever the source, it consists of parts: one split of one language each. A part is small, can be
sent to another process, and reads its sentences when it is asked to.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sparsejax.config import DataConfig
from sparsejax.data import embedded, readers, tags
from sparsejax.data.languages import XTREME
from sparsejax.data.sentences import Sentence
from sparsejax.errors import UserError, short

HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


class Reader(Protocol):
    """Sentences in IOB2, one after another, and what reading them found."""

    @property
    def repaired(self) -> int:
        """I- tags so far that continued nothing and became B-."""

    @property
    def first_seen(self) -> dict[str, str]:
        """Where each type of entity occurs first."""

    def __iter__(self) -> Iterator[Sentence]: ...


class Part(Protocol):
    """One split of one language."""

    @property
    def name(self) -> str:
        """What messages call it; places in it begin with it."""

    def digest(self) -> str:
        """Of the content: another content, another digest."""

    def open(self) -> Reader:
        """The sentences, from the first to the last."""


@dataclass(frozen=True)
class FilePart:
    path: Path
    language: str

    @property
    def name(self) -> str:
        return str(self.path)

    def digest(self) -> str:
        # The language decides what a prefix of the original distribution looks like.
        return f"{self.language} {self.path.suffixes} {_file_digest(self.path)}"

    def open(self) -> Reader:
        return readers.Reader(self.path, self.language)


@dataclass(frozen=True)
class EmbeddedPart:
    language: str
    split: str

    def digest(self) -> str:
        return _json_digest(embedded.generate(self.language, self.split))

    @property
    def name(self) -> str:
        return f"the embedded corpus, {self.language}/{self.split}"

    def open(self) -> Reader:
        return _Rows(self.name, embedded.generate(self.language, self.split))


@dataclass(frozen=True)
class ListPart:
    """Sentences that are in memory."""

    name: str
    sentences: Sequence[Sentence]

    def digest(self) -> str:
        return _json_digest(self.sentences)

    def open(self) -> Reader:
        return _Rows(self.name, self.sentences)


@dataclass(frozen=True)
class HubPart:
    hub: str
    language: str
    split: str

    def digest(self) -> str:
        return " ".join(_file_digest(Path(f["filename"])) for f in self._rows().cache_files)

    def open(self) -> Reader:
        rows = self._rows()
        missing = {"tokens", "ner_tags"} - set(rows.column_names)
        if missing:
            raise UserError(f"data.hub: {self.hub!r} has no column {' or '.join(sorted(missing))}")
        names = getattr(getattr(rows.features["ner_tags"], "feature", None), "names", None)
        return _Rows(self.name, ((row["tokens"], row["ner_tags"]) for row in rows), names)

    @property
    def name(self) -> str:
        return f"{self.hub}/{self.language}/{HUB_SPLITS[self.split]}"

    def _rows(self) -> Any:
        return _load_hub(self.hub, self.language, HUB_SPLITS[self.split])


def parts(config: DataConfig, split: str, codes: Iterable[str]) -> dict[str, Part]:
    """A split (train, dev, test) of each of these languages; files are found but not read.

    Raises:
      UserError: a language or one of its splits is not there.
    """
    found: dict[str, Part] = {}
    for code in codes:
        if config.dir is not None:
            path = _find(Path(config.dir) / code, split)
            if path is None:
                raise UserError(f"data.dir: {config.dir} holds no {split} split of {code!r}")
            found[code] = FilePart(path, code)
        elif config.hub is not None:
            found[code] = HubPart(config.hub, code, split)
        else:
            found[code] = EmbeddedPart(code, split)
    return found


def train_languages(config: DataConfig) -> tuple[str, ...]:
    """The languages that a run learns: those asked for, or every one that the source has.

    Raises:
      UserError: the source is not there, or does not have a language that was asked for.
    """
    return _languages(config, config.languages, "data.languages", "train")


def eval_languages(config: DataConfig, split: str) -> tuple[str, ...]:
    """The languages that a run is evaluated on: those asked for, else `languages` by name.

    Where the config names none at all, every one that the source has; a run names those it learned.

    Raises:
      UserError: as `train_languages`.
    """
    if config.eval_languages:
        return _languages(config, config.eval_languages, "data.eval_languages", split)
    field = "data.eval_languages (unset: those trained on)"
    return _languages(config, config.languages, field, split)


def _languages(
    config: DataConfig, asked: tuple[str, ...], field: str, split: str
) -> tuple[str, ...]:
    if config.dir is not None:
        root = Path(config.dir)
        try:
            if not root.is_dir():
                raise UserError(f"data.dir: {root} is not a directory")
            directories = sorted(entry for entry in root.iterdir() if entry.is_dir())
            known = [entry.name for entry in directories if _find(entry, split)]
        except OSError as error:  # not readable, a name that is too long
            raise UserError(f"data.dir: {short(str(root))}: {error.strerror}") from None
        if not known:
            raise UserError(f"data.dir: {root} holds no <language>/{split}.tsv (.conll, .jsonl)")
        if not asked and (averages := {"macro", "micro"} & set(known)):
            raise UserError(f"data.dir: {root}/{averages.pop()} has the name of an average")
        where = f"{root} ({split})"
    elif config.hub is not None:
        # The hub's WikiAnn has 176 languages; which ones are there shows when they are loaded.
        return asked or XTREME
    else:
        known, where = list(embedded.TRAIN_SENTENCES), "the embedded corpus"
    if unknown := [code for code in asked if code not in known]:
        names = ", ".join(map(repr, unknown))
        raise UserError(f"{field}: {names} not in {where}, which has {' '.join(known)}")
    return asked or tuple(known)


def _find(directory: Path, split: str) -> Path | None:
    try:
        return readers.find(directory, split)
    except OSError as error:
        raise UserError(f"{short(str(directory))}: {error.strerror}") from None


def take(
    reader: Iterable[Sentence], limit: int | None, seed: int | None = None
) -> Iterator[Sentence]:
    """At most `limit` of the sentences, in their order.

    Without a seed the first ones, and what follows is neither read nor checked. With a seed a
    random choice: the same one always, and a smaller limit chooses among those of a larger one.
    """
    if limit is None:
        yield from reader
    elif seed is None:
        for number, sentence in enumerate(reader, 1):
            yield sentence
            if number == limit:
                return
    else:
        # Every sentence draws a number; those with the smallest stay. Only they are in memory.
        rng = random.Random(seed)
        drawn = ((rng.random(), number, sentence) for number, sentence in enumerate(reader))
        kept = heapq.nsmallest(limit, drawn)
        for _, _, sentence in sorted(kept, key=lambda entry: entry[1]):
            yield sentence


@functools.cache
def hub_answers() -> bool:
    """Whether the hub can be reached: one request, where the library would try for minutes."""
    import huggingface_hub

    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
    except Exception:  # of whatever network library the hub's client uses
        return False
    return True


def _load_hub(name: str, code: str, hub_split: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    if not Path(name).exists() and not hub_answers():
        datasets.config.HF_HUB_OFFLINE = True  # what an earlier run downloaded, or an error at once
    try:
        # Never in memory: the digest is that of the files.
        return datasets.load_dataset(name, code, split=hub_split, keep_in_memory=False)
    except Exception as error:  # its own, of its network library, RuntimeError, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"data.hub: could not load {name!r}, language {code!r}, split {hub_split!r} "
            f"({reason}); pass --data.dir with a local copy"
        ) from error


class _Rows:
    """Sentences from pairs of words and tags, checked as those of a file are."""

    def __init__(
        self, where: str, rows: Iterable[tuple[Any, Any]], names: list[str] | None = None
    ) -> None:
        self._where, self._rows, self._names = where, rows, names
        self._scheme = tags.Scheme()
        self.first_seen: dict[str, str] = {}

    @property
    def repaired(self) -> int:
        return self._scheme.repaired

    def __iter__(self) -> Iterator[Sentence]:
        for number, (words, labels) in enumerate(self._rows, 1):
            where = f"{self._where}: row {number}"
            if not (isinstance(words, list) and isinstance(labels, list)):
                raise UserError(f"{where}: tokens and ner_tags must be lists")
            if not words or len(words) != len(labels) or not all(words):
                raise UserError(
                    f"{where}: {len(words)} tokens and {len(labels)} tags; "
                    "a sentence needs at least one token, none of them empty, and a tag for each"
                )
            if not all(isinstance(word, str) for word in words):
                raise UserError(f"{where}: tokens must be text")
            if any("\0" in word for word in words):
                raise UserError(f"{where}: a token holds a NUL character; remove it")
            if self._names is not None:
                # A label that the data set does not know is None or -1 there.
                labels = [
                    self._names[tag] if tag is not None and 0 <= tag < len(self._names) else tag
                    for tag in labels
                ]
            if unknown := [tag for tag in labels if not isinstance(tag, str)]:
                raise UserError(f"{where}: {short(str(unknown[0]))} is not a tag with a name")
            converted = self._scheme.convert(labels, functools.partial(_same, where))
            for tag in converted:
                if tag != "O":
                    self.first_seen.setdefault(tag[2:], where)
            yield Sentence(words, converted)


def _same(where: str, _: int) -> str:
    return where


def _json_digest(sentences: Sequence[tuple[list[str], list[str]]]) -> str:
    return hashlib.blake2b(json.dumps(sentences).encode(), digest_size=20).hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
