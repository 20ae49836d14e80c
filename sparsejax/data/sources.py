"""Labelled sentences from a local directory, the Hugging Face hub or the embedded corpus.

Whatever the source, a corpus is a dict from language code to a list of `Sentence`.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sparsejax.config import DataConfig
from sparsejax.data import embedded
from sparsejax.data.languages import XTREME
from sparsejax.errors import UserError

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
"""WikiAnn's tag set in its own order; a label id is an index into it."""

HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


class Sentence(NamedTuple):
    words: list[str]
    tags: list[str]  # one of TAGS per word


Corpus = dict[str, list[Sentence]]


def languages(config: DataConfig) -> tuple[str, ...]:
    """The languages a run covers: those asked for, or every one that the source has.

    Raises:
      UserError: the source is not there, or does not have a language that was asked for.
    """
    if config.dir is not None:
        root = Path(config.dir)
        try:
            if not root.is_dir():
                raise UserError(f"data.dir: {root} is not a directory")
            known = sorted(p.name for p in root.iterdir() if (p / "train.tsv").is_file())
        except OSError as error:  # not readable, a name that is too long
            raise UserError(f"data.dir: {_short(str(root))}: {error.strerror}") from None
        if not known:
            raise UserError(f"data.dir: {root} holds no <language>/train.tsv")
        averages = {"macro", "micro"} & set(config.languages or known)
        if averages:
            raise UserError(f"data.languages: {averages.pop()!r} is the name of an average")
        where = str(root)
    elif config.hub is not None:
        # The hub's WikiAnn has 176 languages; which ones are there shows when they are loaded.
        return config.languages or XTREME
    else:
        known, where = list(embedded.TRAIN_SENTENCES), "the embedded corpus"
    unknown = [code for code in config.languages if code not in known]
    if unknown:
        raise UserError(
            f"data.languages: {', '.join(map(repr, unknown))} not in {where}, "
            f"which has {' '.join(known)}"
        )
    return config.languages or tuple(known)


def load(config: DataConfig, split: str, limit: int | None) -> Corpus:
    """One split (train, dev, test) of every language, the first `limit` sentences of each.

    Raises:
      UserError: a missing split, an unreachable hub or malformed data (with file and line).
    """
    corpus = {}
    for code in languages(config):
        if config.dir is not None:
            sentences = read_tsv(Path(config.dir) / code / f"{split}.tsv", limit)
        elif config.hub is not None:
            sentences = _read_hub(config.hub, code, split, limit)
        else:
            sentences = [Sentence(*pair) for pair in embedded.generate(code, split)[:limit]]
        if not sentences:
            raise UserError(f"data: the {split} split of {code!r} holds no sentence")
        corpus[code] = sentences
    return corpus


def read_tsv(path: Path, limit: int | None = None) -> list[Sentence]:
    """Sentences of a `token<TAB>tag` file with a blank line between sentences.

    Args:
      path: the file, UTF-8, with or without a byte order mark.
      limit: stop after so many sentences; what follows is neither read nor checked.

    Raises:
      UserError: names file and line; missing file, bytes that are not UTF-8, a line without a
        tab, an empty token, a tag outside TAGS, a sentence without a token.
    """
    sentences: list[Sentence] = []
    sentence = Sentence([], [])
    number, blank = 0, 0
    for number, line in _lines(path):
        if not line:
            # Blank lines at the end of a file are an editor's habit; between sentences two of
            # them are a sentence that lost its tokens.
            if not sentence.words:
                blank = blank or number
                continue
            sentences.append(sentence)
            if len(sentences) == limit:
                return sentences
            sentence = Sentence([], [])
            continue
        if blank:
            what = "two blank lines" if sentences else "a blank line at the start"
            raise UserError(f"{path}:{blank}: a sentence without a token ({what})")
        token, tab, tag = line.partition("\t")
        if not tab:
            raise UserError(f"{path}:{number}: no tab between token and tag in {_short(line)}")
        if not token:
            raise UserError(f"{path}:{number}: empty token before the tab")
        if tag not in TAGS:
            raise UserError(
                f"{path}:{number}: unknown tag {_short(tag)}; the tags are {' '.join(TAGS)}"
            )
        sentence.words.append(token)
        sentence.tags.append(tag)
    if sentence.words:
        sentences.append(sentence)
    return sentences


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines. Only a line feed ends a line: tokens hold other Unicode line separators."""
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if number == 1:  # editors on Windows begin a file with it
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                try:
                    yield number, raw.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise UserError(f"{path}:{number}: not UTF-8 ({error.reason})") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _read_hub(name: str, code: str, split: str, limit: int | None) -> list[Sentence]:
    """One language of a hub data set with columns `tokens` and `ner_tags`, as WikiAnn has them."""
    import datasets

    datasets.disable_progress_bars()
    hub_split = HUB_SPLITS[split]
    if not Path(name).exists() and not hub_answers():
        datasets.config.HF_HUB_OFFLINE = True  # what an earlier run downloaded, or an error at once
    try:
        rows = datasets.load_dataset(name, code, split=hub_split)
    except Exception as error:  # its own, of its network library, RuntimeError, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"data.hub: could not load {name!r}, language {code!r}, split {hub_split!r} "
            f"({reason}); pass --data.dir with a local copy"
        ) from error
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    missing = {"tokens", "ner_tags"} - set(rows.column_names)
    if missing:
        raise UserError(f"data.hub: {name!r} has no column {' or '.join(sorted(missing))}")
    names = getattr(getattr(rows.features["ner_tags"], "feature", None), "names", None)
    return list(_checked(f"{name}/{code}/{hub_split}", rows, names))


@functools.cache
def hub_answers() -> bool:
    """Whether the hub can be reached: one request, where the library would try for minutes."""
    import huggingface_hub

    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
    except Exception:  # of whatever network library the hub's client uses
        return False
    return True


def _checked(
    where: str, rows: Iterable[dict[str, Any]], names: list[str] | None
) -> Iterator[Sentence]:
    for number, row in enumerate(rows, 1):
        words, tags = row["tokens"], row["ner_tags"]
        if not (isinstance(words, list) and isinstance(tags, list)):
            raise UserError(f"{where}: row {number}: tokens and ner_tags must be lists")
        if not words or len(words) != len(tags) or not all(words):
            raise UserError(
                f"{where}: row {number}: {len(words)} tokens and {len(tags)} tags; "
                "a sentence needs at least one token, none of them empty, and a tag for each"
            )
        if not all(isinstance(word, str) for word in words):
            raise UserError(f"{where}: row {number}: tokens must be text")
        if names is not None:
            # A label that the data set does not know is None or -1 there.
            tags = [
                names[tag] if tag is not None and 0 <= tag < len(names) else tag for tag in tags
            ]
        unknown = [tag for tag in tags if tag not in TAGS]
        if unknown:
            raise UserError(
                f"{where}: row {number}: unknown tag {_short(str(unknown[0]))}; "
                f"the tags are {' '.join(TAGS)}"
            )
        yield Sentence(words, tags)
