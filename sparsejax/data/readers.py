"""Files of labelled sentences: columns of text or JSON lines, plain or compressed by gzip."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sparsejax.data.sentences import Sentence
from sparsejax.data.tags import Scheme
from sparsejax.errors import UserError, short

EXTENSIONS = ("", ".tsv", ".conll", ".txt", ".jsonl")
DOCUMENT = "-DOCSTART-"
"""What stands for a token on the line that begins a document of CoNLL-2003."""


def find(directory: Path, split: str) -> Path | None:
    """The file of a split: of its name and one of `EXTENSIONS`, with or without .gz.

    Raises:
      UserError: several such files, or the directory cannot be read.
    """
    names = {f"{split}{extension}{gz}" for extension in EXTENSIONS for gz in ("", ".gz")}
    try:
        found = sorted(p for p in directory.iterdir() if p.name in names and not p.is_dir())
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}") from None
    if len(found) > 1:
        listed = " and ".join(path.name for path in found)
        raise UserError(f"{directory}: {listed} are all of the {split} split; keep one of them")
    return found[0] if found else None


class Reader(Iterator[Sentence]):
    """The sentences of one file with tags in IOB2, once, while the file is read.

    A file whose name ends with .jsonl or .jsonl.gz holds one JSON object a line, with `tokens` and
    `tags`. Any other holds a word a line and a blank line between sentences: 2 to 4 columns, token
    first, tag last, separated by a tab or by spaces. There, lines of CoNLL-2003 that begin a
    document are skipped, and `language:` before the tokens, as in the distributed WikiAnn, is
    taken off.

    Attributes:
      first_seen: for each type of entity so far the place, path and line, of its first one.

    Raises:
      UserError: names the file and, where one is at fault, the line; while iterating.
    """

    def __init__(self, path: Path, language: str = "") -> None:
        self.first_seen: dict[str, str] = {}
        self._path = path
        self._scheme = Scheme()
        is_json = path.name.removesuffix(".gz").endswith(".jsonl")
        self._found = _json_lines(path) if is_json else _columns(path, language)

    @property
    def scheme(self) -> str:
        """The scheme of the file's own tags, as far as it was read."""
        return self._scheme.scheme

    @property
    def repaired(self) -> int:
        """The tags so far that continue nothing and became B-."""
        return self._scheme.repaired

    def __next__(self) -> Sentence:
        words, tags, lines = next(self._found)
        converted = self._scheme.convert(tags, lambda i: f"{self._path}:{lines[i]}")
        for i, tag in enumerate(converted):
            if tag[0] == "B" and tag[2:] not in self.first_seen:
                self.first_seen[tag[2:]] = f"{self._path}:{lines[i]}"
        return Sentence(words, converted)


class _Tagged(NamedTuple):
    words: list[str]
    tags: list[str]  # as the file has them
    lines: Sequence[int]  # where each word stands


def _columns(path: Path, language: str) -> Iterator[_Tagged]:
    shape, shape_line, prefix = (0, ""), 0, ""
    for first, lines in _blocks(path):
        words, tags = [], []
        for number, line in enumerate(lines, first):
            columns, separator = _split(line)
            if not shape_line:
                _check_first(f"{path}:{number}", line, columns)
                shape, shape_line = (len(columns), separator), number
                prefix = _prefix(lines, language)
            elif (len(columns), separator) != shape:
                raise UserError(
                    f"{path}:{number}: {short(line)} is not {shape[0]} columns separated by "
                    f"{shape[1]}, as line {shape_line} is"
                )
            token = columns[0]
            if not token:
                raise UserError(f"{path}:{number}: empty token before the tab")
            if prefix:
                if not token.startswith(prefix):
                    raise UserError(
                        f"{path}:{number}: token {short(token)} does not begin with "
                        f"{short(prefix)}, as the one on line {shape_line} does"
                    )
                if token == prefix:
                    raise UserError(f"{path}:{number}: empty token after {short(prefix)}")
                token = token[len(prefix) :]
            words.append(token)
            tags.append(columns[-1])
        yield _Tagged(words, tags, range(first, first + len(lines)))


def _prefix(lines: Sequence[str], language: str) -> str:
    """`language:` if every token of the first sentence begins with it: then they all must."""
    prefix = f"{language}:"
    tokens = ["".join(_split(line)[0][:1]) for line in lines]
    return prefix if language and all(t.startswith(prefix) and t != prefix for t in tokens) else ""


def _check_first(where: str, line: str, columns: list[str]) -> None:
    if len(columns) < 2:
        raise UserError(
            f"{where}: no tag in {short(line)}; "
            "a line needs a token and a tag, a tab or spaces between them"
        )
    if len(columns) > 4:
        raise UserError(
            f"{where}: {len(columns)} columns in {short(line)}; "
            "there can be 2 to 4, the token first and the tag last"
        )


def _split(line: str) -> tuple[list[str], str]:
    """The columns, and what separates them; where those are tabs, tokens may hold spaces."""
    if "\t" in line:
        return line.split("\t"), "tabs"
    # Not at other whitespace, which occurs as a token.
    return [column for column in line.split(" ") if column], "spaces"


def _blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of each sentence, and the number of the first; those of documents are left out."""
    block: list[str] = []
    number, blank = 0, 0
    after_document = False
    for number, line in _lines(path):
        is_document = DOCUMENT in line and _split(line)[0][0] == DOCUMENT
        if line and blank:
            what = "two blank lines" if blank > 1 else "a blank line at the start"
            raise UserError(f"{path}:{blank}: a sentence without a token ({what})")
        if line and not is_document:
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
        elif not line and not after_document:
            # Blank lines at the end of a file are an editor's habit; between sentences two of
            # them are a sentence that lost its tokens.
            blank = blank or number
        after_document = is_document
    if block:
        yield number + 1 - len(block), block


def _json_lines(path: Path) -> Iterator[_Tagged]:
    for number, line in _lines(path):
        if line.strip(" \t\r"):
            words, tags = _json_sentence(f"{path}:{number}", line)
            yield _Tagged(words, tags, [number] * len(words))


def _json_sentence(where: str, line: str) -> tuple[list[str], list[str]]:
    try:
        # float() reads numbers of any length, int() refuses those of thousands of digits.
        row: Any = json.loads(line, parse_int=float)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at character {error.colno})") from None
    except RecursionError:
        raise UserError(f"{where}: JSON nested too deeply") from None
    if not isinstance(row, dict) or row.get("tokens") is None:
        raise UserError(f'{where}: no "tokens"; a line needs an object with "tokens" and "tags"')
    if row.get("tags") is None:
        raise UserError(f'{where}: no "tags"; a split without labels cannot be used')
    for name in ("tokens", "tags"):
        if not isinstance(row[name], list) or not all(isinstance(v, str) for v in row[name]):
            raise UserError(f'{where}: "{name}" must be a list of strings')
    words, tags = row["tokens"], row["tags"]
    if not words or len(words) != len(tags) or not all(words):
        raise UserError(
            f"{where}: {len(words)} tokens and {len(tags)} tags; a sentence needs at least one "
            "token, none of them empty, and a tag for each"
        )
    text = "".join((*words, *tags))
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can write it as an escape, and NUL
        half = short(text[error.start])
        raise UserError(f"{where}: {half} is half of a surrogate pair, not a letter") from None
    if "\0" in text:
        raise UserError(f"{where}: a NUL byte, which no text has")
    return words, tags


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            yield from decoded(file, str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or not compressed by gzip ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def decoded(file: Iterable[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Numbered lines. Only a line feed ends a line: tokens hold other Unicode line separators.

    Args:
      file: open for bytes, at its beginning.
      name: of the file, for messages.

    Raises:
      UserError: names the line that is not UTF-8 or has a NUL byte; while iterating.
    """
    for number, raw in enumerate(file, 1):
        if number == 1:  # editors on Windows begin a file with it
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            line = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{name}:{number}: not UTF-8 ({error.reason})") from None
        if "\0" in line:
            raise UserError(f"{name}:{number}: a NUL byte, which no text has")
        yield number, line
