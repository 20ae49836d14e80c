"""Parts of a corpus, tokenised: in several processes where there is much to do, and remembered."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from sparsejax.config import DataConfig
from sparsejax.data import cache, sentences, sources, tags
from sparsejax.data.tokenization import (
    IGNORE,
    Encoded,
    Pieces,
    concatenate,
    encode,
    pieces_of,
)
from sparsejax.errors import UserError

VERSION = "3"  # of everything between a file and `Prepared`: raised with every change of it

BLOCK = 5_000  # sentences in memory at a time
SERIAL = 3.0  # seconds of work after which processes are started, which takes them a second or two


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The sentences of one part, tokenised, and what is known of them besides."""

    encoded: Encoded
    labels: tuple[str, ...]  # the tags of this part: what the label ids of `encoded` mean
    sentence_keys: np.ndarray  # uint64 [sentences]: `sentences.key` of the words
    entity_keys: np.ndarray  # uint64 [entities], in the order of the text: of an entity's words
    first_seen: dict[str, str]  # type of entity -> where it occurs first


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that decides what is prepared from one part."""

    part: sources.Part
    pieces: Pieces
    length: int
    limit: int | None
    subsample: int | None

    def path(self, directory: Path) -> Path:
        """The file of the cache; another one for whatever gives another result."""
        pieces = self.pieces
        text = f"{VERSION} {self.length} {self.limit} {self.subsample} {pieces[1:]} "
        digest = hashlib.blake2b(text.encode(), digest_size=20)
        digest.update(pieces.backend_tokenizer.to_str().encode())
        digest.update(self.part.digest().encode())
        return directory / f"prepared-{digest.hexdigest()}.safetensors"


def prepare(
    parts: Mapping[str, sources.Part],
    tokenizer: Any,
    config: DataConfig,
    limit: int | None,
    show: Callable[[int, int], None] = lambda done, total: None,
    remember: bool = True,
) -> dict[str, Prepared]:
    """Reads and tokenises parts, or finds them in the cache.

    Args:
      parts: by language.
      tokenizer: a fast Hugging Face tokenizer.
      config: the length of a row, the subsample, the cache and the number of processes.
      limit: sentences of each part at most.
      show: is told how many parts are done, of how many.
      remember: whether there is a cache.

    Raises:
      UserError: malformed data (with file and line), or a part without a sentence.
    """
    directory = None
    if remember:
        directory = cache.default_directory() if config.cache is None else Path(config.cache)
    pieces = pieces_of(tokenizer)
    tasks = {
        code: Task(part, pieces, config.length, limit, config.subsample)
        for code, part in parts.items()
    }
    found: dict[str, Prepared] = {}
    for code, prepared in _run(tasks, directory, config.processes or _processors()):
        found[code] = prepared
        show(len(found), len(parts))
    if empty := [code for code in parts if not len(found[code].encoded.words)]:
        raise UserError(f"data: {parts[empty[0]].name} holds no sentence")
    return {code: found[code] for code in parts}


def _run(
    tasks: Mapping[str, Task], directory: Path | None, processes: int
) -> Iterator[tuple[str, Prepared]]:
    waiting = {}
    for code, task in tasks.items():
        path = None if directory is None else task.path(directory)
        known = None if path is None else _read(path, task.part.name)
        if known is None:
            waiting[code] = (task, path)
        else:
            yield code, known
    began = time.monotonic()
    while waiting and (processes == 1 or len(waiting) == 1 or time.monotonic() - began < SERIAL):
        code = next(iter(waiting))
        yield code, _make(*waiting.pop(code))
    if not waiting:
        return
    # Spawned and not forked: threads of JAX or of the tokenizer may hold locks at this moment.
    others = set(multiprocessing.active_children())
    pool = concurrent.futures.ProcessPoolExecutor(
        min(processes, len(waiting)), multiprocessing.get_context("spawn"), _start_process
    )
    try:
        futures = {pool.submit(_make, *work): code for code, work in waiting.items()}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            "data.processes: a process that tokenises ended: killed for lack of memory, or started "
            "by a script without `if __name__ == '__main__':`; pass --data.processes 1"
        ) from None
    except BaseException:  # a mistake in the data, Ctrl-C: what is under way has no use
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for us,
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which then tells us to tidy up and go
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # every processor has a process already


def _processors() -> int:
    with contextlib.suppress(AttributeError):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _make(task: Task, path: Path | None) -> Prepared:
    reader = task.part.open()
    chosen = iter(sources.take(reader, task.limit, task.subsample))
    tag_names, tag_ids = ["O"], {"O"}
    blocks: list[Encoded] = []
    sentence_keys: list[int] = []
    entity_keys: list[int] = []
    while block := list(itertools.islice(chosen, BLOCK)):
        for words, names in block:
            sentence_keys.append(sentences.key(words))
            for begin, end, kind in sentences.entities(names):
                entity_keys.append(sentences.key(words[begin:end]))
                if f"B-{kind}" not in tag_ids:
                    tag_names += (f"B-{kind}", f"I-{kind}")
                    tag_ids.update(tag_names)
        blocks.append(encode(block, task.pieces, task.length, tag_names))
    encoded = concatenate(blocks or [encode([], task.pieces, task.length, tag_names)])
    encoded.repairs[-1] = reader.repaired
    labels = tags.label_set(tag[2:] for tag in tag_names if tag.startswith("B-"))
    found = Prepared(
        encoded=dataclasses.replace(encoded, labels=_renamed(encoded.labels, tag_names, labels)),
        labels=labels,
        sentence_keys=np.array(sentence_keys, np.uint64),
        entity_keys=np.array(entity_keys, np.uint64),
        first_seen=dict(reader.first_seen),
    )
    if path is None:
        return found
    arrays = {f.name: getattr(found.encoded, f.name) for f in dataclasses.fields(Encoded)}
    arrays |= {"sentence_keys": found.sentence_keys, "entity_keys": found.entity_keys}
    # Without the part's name: the same content may be found under another one.
    name = task.part.name
    places = {kind: place.removeprefix(name) for kind, place in found.first_seen.items()}
    cache.write(path, arrays, json.dumps([found.labels, places]))
    return found


def _read(path: Path, name: str) -> Prepared | None:
    found = cache.read(path)
    if found is None:
        return None
    arrays, note = found
    labels, first_seen = json.loads(note)
    encoded = Encoded(**{f.name: arrays[f.name] for f in dataclasses.fields(Encoded)})
    keys = (arrays["sentence_keys"], arrays["entity_keys"])
    places = {kind: f"{name}{place}" for kind, place in first_seen.items()}
    return Prepared(encoded, tuple(labels), *keys, places)


def label_set(parts: Mapping[str, Prepared]) -> tuple[str, ...]:
    """The tags of a model that is to learn all of these parts."""
    return tags.label_set(tag[2:] for part in parts.values() for tag in part.labels if tag != "O")


def relabelled(parts: Mapping[str, Prepared], labels: Sequence[str]) -> dict[str, Prepared]:
    """The same parts with label ids that are places in `labels`.

    Raises:
      UserError: a part has a type of entity that is not among them; where it occurs first.
    """
    for part in parts.values():
        for tag in part.labels:
            if tag not in labels:
                where = part.first_seen.get(tag[2:], "data")
                raise UserError(
                    f"{where}: entities of type {tag[2:]!r}, which the model does not know; "
                    f"its tags are {' '.join(labels)}"
                )
    return {
        code: dataclasses.replace(
            part,
            labels=tuple(labels),
            encoded=dataclasses.replace(
                part.encoded, labels=_renamed(part.encoded.labels, part.labels, labels)
            ),
        )
        for code, part in parts.items()
    }


def digest(parts: Mapping[str, Prepared]) -> str:
    """Of all pieces and labels, and which sentences and languages they are."""
    found = hashlib.sha256()
    for code, part in parts.items():
        found.update(f"{code} {part.labels} ".encode())
        for field in dataclasses.fields(Encoded):
            found.update(np.ascontiguousarray(getattr(part.encoded, field.name)).data)
    return found.hexdigest()


def _renamed(ids: np.ndarray, old: Sequence[str], new: Sequence[str]) -> np.ndarray:
    if list(old) == list(new):
        return ids
    places = np.array([new.index(tag) for tag in old], np.int32)
    return np.where(ids == IGNORE, IGNORE, places[ids * (ids != IGNORE)]).astype(np.int32)


def repair_notes(parts: Mapping[str, Prepared]) -> list[str]:
    """What was changed to make the sentences fit, one line each; empty if nothing was."""
    notes = []
    for i, what in enumerate(Encoded.REPAIRS):
        counts = {code: int(part.encoded.repairs[i]) for code, part in parts.items()}
        most = sorted((code for code in counts if counts[code]), key=lambda code: -counts[code])
        if most:
            where = ", ".join(f"{code} {counts[code]:,}" for code in most[:5])
            rest = f" and {len(most) - 5} more languages" if len(most) > 5 else ""
            notes.append(f"{sum(counts.values()):,} {what} ({where}{rest})")
    return notes
