"""Sentences as they stand in the files, and one line that says where a file is wrong."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from sparsejax.data.readers import Reader, find
from sparsejax.errors import UserError


@pytest.fixture(scope="module")
def panx(shared: Path) -> Path:
    return shared / "data" / "panx"


def write(path: Path, content: str | bytes) -> Path:
    """A file of this content, compressed if its name says so."""
    raw = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def read(path: Path, language: str = "") -> list[Any]:
    return list(Reader(path, language))


def user_error(call: Any, *arguments: Any) -> str:
    """The message of the UserError that a call raises: always one line."""
    with pytest.raises(UserError) as raised:
        call(*arguments)
    message = str(raised.value)
    assert message and "\n" not in message
    return message


# ---- finding


NAMES = [
    f"dev{extension}{gz}"
    for extension in ("", ".tsv", ".conll", ".txt", ".jsonl")
    for gz in ("", ".gz")
]


@pytest.mark.parametrize("name", NAMES)
def test_find(tmp_path: Path, name: str) -> None:
    for other in ("train.tsv", "dev.csv", "dev.tsv.bak", "my-dev.tsv", "development", "DEV.tsv.xz"):
        write(tmp_path / other, "")
    (tmp_path / "dev.d").mkdir()
    assert find(tmp_path, "dev") is None
    path = write(tmp_path / name, "a\tO\n")
    assert find(tmp_path, "dev") == path
    assert find(tmp_path, "test") is None


def test_find_leaves_out_directories(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    assert find(tmp_path, "dev") is None
    path = write(tmp_path / "dev.tsv", "")
    assert find(tmp_path, "dev") == path


@pytest.mark.parametrize("names", list(itertools.combinations(NAMES, 2)))
def test_find_two(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        write(tmp_path / name, "")
    message = user_error(find, tmp_path, "dev")
    assert message.startswith(f"{tmp_path}: ") and "keep one" in message
    assert set(names) <= set(message.split())


def test_find_without_a_directory(tmp_path: Path) -> None:
    no = tmp_path / "no"
    assert user_error(find, no, "dev") == f"{no}: No such file or directory"
    file = write(tmp_path / "file", "")
    assert user_error(find, file, "dev") == f"{file}: Not a directory"
    assert user_error(find, tmp_path / ("x" * 999), "dev").endswith(": File name too long")


# ---- columns


ALL = [(code, split) for code in ("en", "ja", "yo") for split in ("train", "dev", "test")]


@pytest.mark.parametrize(("code", "split"), [*ALL, *((c, "dev") for c in ("ar", "my", "zh"))])
def test_real_files(panx: Path, code: str, split: str) -> None:
    """Words and entities are those of the file; tags differ where an I- continues nothing."""
    path = panx / code / f"{split}.tsv"
    reader = Reader(path, code)
    found = list(reader)
    text = path.read_bytes().decode().strip("\n")
    raw = [[line.split("\t") for line in block.split("\n")] for block in text.split("\n\n")]
    assert [s.words for s in found] == [[word for word, _ in sentence] for sentence in raw]
    lines = [line.rpartition("\t")[2] for line in text.split("\n")]
    bare = {
        i
        for i, tag in enumerate(lines)
        if tag.startswith("I-") and (i == 0 or lines[i - 1][1:] != tag[1:])
    }
    assert reader.repaired == len(bare)
    assert reader.scheme == "IOB2"
    fixed = ("B" + tag[1:] if i in bare else tag for i, tag in enumerate(lines))
    assert "\n\n".join("\n".join(s.tags) for s in found) == "\n".join(fixed)
    assert reader.first_seen == {
        kind: f"{path}:{next(i for i, tag in enumerate(lines, 1) if tag.endswith(kind))}"
        for kind in ("PER", "ORG", "LOC")
    }
    for sentence, pairs in zip(found[:500], raw, strict=False):
        assert get_entities(sentence.tags) == get_entities([tag for _, tag in pairs])
    if split == "train":
        with open(panx.parent / "languages.csv", encoding="utf-8") as file:
            sizes = {row["code"]: int(row["wikiann_train"]) for row in csv.DictReader(file)}
        assert len(found) == sizes[code]


def test_japanese_entities_are_interrupted(panx: Path) -> None:
    """In ja a "#" stands for a space and is tagged O, in the midst of entities too."""
    path = panx / "ja" / "dev.tsv"
    pairs = list(itertools.pairwise(path.read_bytes().decode().split("\n")))
    after = [line for line, following in pairs if line.endswith("\tO") and "\tI-" in following]
    assert set(after) == {"#\tO"} and len(after) == 239
    reader = Reader(path)
    begun = sum(
        (word, tag, following[0]) == ("#", "O", "B")
        for words, tags in reader
        for word, tag, following in zip(words, tags, tags[1:], strict=False)
    )
    assert begun == 239 + sum(a == "#\tO" and "\tB-" in b for a, b in pairs)
    assert reader.repaired == 239


TWO = [(["Ada", "Lovelace"], ["B-PER", "I-PER"]), (["no", "one"], ["O", "O"])]
TWO_AS_TEXT = "Ada\tB-PER\nLovelace\tI-PER\n\nno\tO\none\tO\n"
TWO_AS_JSON = "".join(json.dumps({"tokens": w, "tags": t}) + "\n" for w, t in TWO)


@pytest.mark.parametrize(
    "content",
    [
        f"{TWO_AS_TEXT}\n",
        TWO_AS_TEXT,
        TWO_AS_TEXT[:-1],
        f"{TWO_AS_TEXT}\n\n\n",
        TWO_AS_TEXT.replace("\n", "\r\n") + "\r\n\r\n",
        "\ufeff" + TWO_AS_TEXT,
    ],
    ids=["usual", "one-newline", "no-newline", "blank-lines", "crlf", "byte-order-mark"],
)
@pytest.mark.parametrize("separator", ["\t", " ", "   ", "\t_\t", " -X- _ ", "\t\t"])
@pytest.mark.parametrize("name", ["a.tsv", "a", "a.conll", "a.txt", "a.tsv.gz", "a.gz"])
def test_ends_of_lines_and_files(tmp_path: Path, content: str, separator: str, name: str) -> None:
    path = write(tmp_path / name, content.replace("\t", separator))
    assert read(path) == TWO


def test_spaces_around_columns(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.txt", " a O\nb   B-PER  \n")) == [(["a", "b"], ["O", "B-PER"])]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
@pytest.mark.parametrize("column", ["\t", " "])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, separator: str, column: str) -> None:
    path = write(tmp_path / "a.tsv", f"a{separator}b{column}O\nc{column}B-LOC\n")
    assert read(path) == [([f"a{separator}b", "c"], ["O", "B-LOC"])]


def test_odd_tokens_are_kept(tmp_path: Path) -> None:
    words = [" ", "\u3000", "\u200b", '"', "#", "\ufeff", "O", "e\u0301", "x" * 10_000]
    path = write(tmp_path / "a.tsv", "".join(f"{word}\tO\n" for word in ["x", *words]))
    assert read(path) == [(["x", *words], ["O"] * 10)]
    words.remove(" ")
    path = write(tmp_path / "b.txt", "".join(f"{word} O\n" for word in ["x", *words]))
    assert read(path) == [(["x", *words], ["O"] * 9)]


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("content", ["", "\n", "\n\n", "\ufeff", "\r\n"])
def test_an_empty_file_has_no_sentence(tmp_path: Path, name: str, content: str) -> None:
    reader = Reader(write(tmp_path / name, content))
    assert list(reader) == []
    assert (reader.repaired, reader.scheme, reader.first_seen) == (0, "IOB2", {})


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("a\tO\nb O\n", 2, "'b O' is not 2 columns separated by tabs, as line 1 is"),
        ("a\tO\n \n", 2, "' ' is not 2 columns separated by tabs, as line 1 is"),
        ("a\tO\nb\n", 2, "'b' is not 2 columns separated by tabs, as line 1 is"),
        ("a\tO\n\nb\tx\tO\n", 3, "'b\\tx\\tO' is not 2 columns separated by tabs, as line 1"),
        (
            "-DOCSTART- O\n\na x O\nb O\n",
            4,
            "'b O' is not 3 columns separated by spaces, as line 3",
        ),
        ("a O\nb\tO\n", 2, "'b\\tO' is not 2 columns separated by spaces, as line 1 is"),
        ("a\nb\n", 1, "no tag in 'a'; a line needs a token and a tag"),
        (" \n", 1, "no tag in ' '"),
        ("a\u3000O\n", 1, "no tag in 'a\\u3000O'"),
        ("a b c d O\n", 1, "5 columns in 'a b c d O'; there can be 2 to 4"),
        ("a\t" * 999 + "O\n", 1, "1000 columns in 'a\\ta"),
        ("a\tO\n\nb\tMISC\n", 3, "'MISC' is not a tag (O, B-PER, I-PER, ...)"),
        ("a\tO\nb\tO\n\nc\tO\nd\tO\ne\tX\n", 6, "'X' is not a tag"),
        ("-DOCSTART- O\n\na O\nb X", 4, "'X' is not a tag"),
        ("a\tO\tx\n", 1, "'x' is not a tag"),
        ("a\tO \n", 1, "'O ' is not a tag"),
        ("a\t" + "x" * 10_000, 1, "'xxx"),
        ("a\t\n", 1, "'' is not a tag"),
        ("\tO\n", 1, "empty token before the tab"),
        ("a\tS-PER\nb\tO\n\nc\tB-LOC\nd\tO", 4, "tag schemes are mixed: 'B-LOC' ends an entity"),
        ("a\tO\n\n\nb\tO\n", 3, "a sentence without a token (two blank lines)"),
        ("a\tO\n\n\n\n\nb\tO\n", 3, "a sentence without a token (two blank lines)"),
        ("\na\tO\n", 1, "a sentence without a token (a blank line at the start)"),
        ("\n\na\tO\n", 1, "a sentence without a token (a blank line at the start)"),
        ("-DOCSTART- O\n\n\na O\n", 3, "a sentence without a token (two blank lines)"),
        ("\n-DOCSTART- O\n\na O\n", 1, "a sentence without a token (a blank line at the start)"),
        (b"a\tO\n\nb\xff\tO\n", 3, "not UTF-8"),
        ("a\tO\n".encode("utf-16"), 1, "not UTF-8"),
        ("a\tO\n".encode("utf-16-le"), 1, "a NUL byte"),
        (b"a\tO\n\xed\xa0\x80\tO\n", 2, "not UTF-8"),  # a surrogate
        ("a\tO\nb\0\tO\n", 2, "a NUL byte"),
        (gzip.compress(b"a\tO\n", mtime=0), 1, "not UTF-8"),
    ],
)
def test_malformed_files(tmp_path: Path, content: str | bytes, line: int, message: str) -> None:
    for name in ("train.tsv", "train.gz"):
        path = write(tmp_path / "en" / name, content)
        found = user_error(read, path)
        assert found.startswith(f"{path}:{line}: {message}")
        assert len(found) < 2 * len(str(path)) + 250


def test_documents_are_skipped(tmp_path: Path) -> None:
    """As CoNLL-2003 has them, and without the blank lines around."""
    usual = "-DOCSTART- -X- -X- O\n\nAda B-PER\nLovelace I-PER\n\n-DOCSTART- -X- -X- O\n\n"
    tokens = ["no O\none O\n", "no O\none O\n\n"]
    for text in (
        *(usual + end for end in tokens),
        "-DOCSTART- O\nAda B-PER\nLovelace I-PER\n-DOCSTART-\nno O\none O\n-DOCSTART- O\n\n",
        "-DOCSTART-\tO\n\n-DOCSTART-\tO\n\n" + TWO_AS_TEXT + "\n-DOCSTART-\n",
    ):
        reader = Reader(write(tmp_path / "a", text))
        assert list(reader) == TWO
        (line,) = (i for i, line in enumerate(text.split("\n"), 1) if line.startswith("Ada"))
        assert reader.first_seen == {"PER": f"{tmp_path / 'a'}:{line}"}
    assert read(write(tmp_path / "b", "-DOCSTART- O\n\n\n\n")) == []
    text = "-DOCSTART-x O\n\n-DOCSTART O\n"
    assert read(write(tmp_path / "c", text)) == [(["-DOCSTART-x"], ["O"]), (["-DOCSTART"], ["O"])]


def test_language_before_tokens(tmp_path: Path) -> None:
    """As the distributed WikiAnn has it; a colon that is part of the text stays."""
    path = write(tmp_path / "a", "-DOCSTART- O\n\nen:Ada\tB-PER\nen::\tO\n\nen:en:x\tO\nen: \tO\n")
    found = [(["Ada", ":"], ["B-PER", "O"]), (["en:x", " "], ["O", "O"])]
    assert read(path, "en") == found
    kept = [([f"en:{word}" for word in words], tags) for words, tags in found]
    assert read(path, "") == kept
    assert read(path, "e") == kept
    assert read(write(tmp_path / "b", ":x\tO\ny\tO\n")) == [([":x", "y"], ["O", "O"])]
    path = write(tmp_path / "b", "en:\tO\nen:x\tO\nde:x\tO\n")
    assert read(path, "en") == [(["en:", "en:x", "de:x"], ["O"] * 3)]
    for token in ("x", "de:x", "en", "en:", "EN:x"):
        path = write(tmp_path / "c", f"en:Ada\tO\nen:x\tO\n\nen:y\tO\n{token}\tO\n")
        expected = f"token {token!r} does not begin with 'en:', as the one on line 1 does"
        if token == "en:":
            expected = "empty token after 'en:'"
        assert user_error(read, path, "en") == f"{path}:5: {expected}"


def test_limit_stops_reading(tmp_path: Path) -> None:
    good = "a\tO\n\nb\tO\nc\tB-ORG\n\n"
    path = write(tmp_path / "a.tsv", good.encode() + b"no tab, and not UTF-8: \xff\n")
    both = [(["a"], ["O"]), (["b", "c"], ["O", "B-ORG"])]
    for limit in (1, 2):
        assert list(itertools.islice(Reader(path), limit)) == both[:limit]
    assert f"{path}:6: " in user_error(lambda: list(itertools.islice(Reader(path), 3)))
    path = write(tmp_path / "a.jsonl", '{"tokens": ["a"], "tags": ["O"]}\nno JSON\n')
    assert list(itertools.islice(Reader(path), 1)) == both[:1]


def test_what_is_known_while_reading(tmp_path: Path) -> None:
    text = "a I-PER\n\nb I-LOC\nc B-LOC\n\nd B-PER\ne I-ORG\n"
    path = write(tmp_path / "a.conll", text)
    reader = Reader(path)
    assert iter(reader) is reader
    assert next(reader) == (["a"], ["B-PER"])
    assert (reader.scheme, reader.repaired) == ("IOB1", 0)
    assert reader.first_seen == {"PER": f"{path}:1"}
    assert [s.tags for s in reader] == [["B-LOC", "B-LOC"], ["B-PER", "B-ORG"]]
    assert (reader.scheme, reader.repaired) == ("IOB2", 3)
    assert reader.first_seen == {"PER": f"{path}:1", "LOC": f"{path}:3", "ORG": f"{path}:7"}
    assert list(reader) == []


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.jsonl"])
def test_the_file_is_never_in_memory(tmp_path: Path, name: str) -> None:
    text = TWO_AS_JSON if "json" in name else TWO_AS_TEXT + "\n"
    path = write(tmp_path / name, text * 4_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in Reader(path)) == 8_000
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl"])
def test_a_long_sentence(tmp_path: Path, name: str) -> None:
    words, tags = [f"w{i}" for i in range(5000)], ["B-PER", *["I-PER"] * 4998, "O"]
    text = "".join(f"{w}\t{t}\n" for w, t in zip(words, tags, strict=True))
    if "json" in name:
        text = json.dumps({"tokens": words, "tags": tags})
    assert read(write(tmp_path / name, text)) == [(words, tags)]


# ---- JSON lines


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "tokens": ["Ada", "Lovelace"], "tags": ["B-PER", "E-PER"], "tokenz": [[1]]},
        {"tags": ["S-LOC", "O"], "tokens": ["\u3000", "a b\t\u2028\n😀"]},
    ]
    lines = [json.dumps(rows[0]), json.dumps(rows[1], ensure_ascii=False)]
    found = [(rows[0]["tokens"], ["B-PER", "I-PER"]), (rows[1]["tokens"], ["B-LOC", "O"])]
    for name in ("a.jsonl", "a.jsonl.gz"):
        for text in (
            "\n".join(lines),
            "\ufeff" + "\r\n".join(lines) + "\r\n",
            "\n \n\t\n" + "\n\n\n".join(lines) + "\n\n",
            "\n".join([lines[0], json.dumps(rows[1])]),
        ):
            path = write(tmp_path / name, text)
            reader = Reader(path, "en")
            assert list(reader) == found
            assert (reader.scheme, reader.repaired) == ("BIOES", 0)
            places = {
                kind: f"{path}:{next(i for i, x in enumerate(text.split(chr(10)), 1) if tag in x)}"
                for kind, tag in (("PER", "B-PER"), ("LOC", "S-LOC"))
            }
            assert reader.first_seen == places


def test_json_of_any_size(tmp_path: Path) -> None:
    row = f'{{"id": {"1" * 9999}, "x": -1e99999, "y": NaN, "tokens": ["a"], "tags": ["O"]}}'
    assert read(write(tmp_path / "a.jsonl", row)) == [(["a"], ["O"])]


def json_row(**row: Any) -> str:
    return json.dumps({"tokens": ["a", "b"], "tags": ["O", "O"]} | row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON (Expecting property name enclosed in double quotes at character 2)"),
        ("a\tO", "not JSON (Expecting value at character 1)"),
        ("\ufeff" + json_row(), "not JSON"),
        (json_row() + json_row(), "not JSON (Extra data"),
        ('{"tokens": ["a\tb"], "tags": ["O"]}', "not JSON (Invalid control character"),
        ("[" * 200_000, "JSON nested too deeply"),
        ('{"tokens":' * 200_000, "JSON nested too deeply"),
        ("1" * 9999, 'no "tokens"; a line needs an object with "tokens" and "tags"'),
        ("null", 'no "tokens"'),
        ("[]", 'no "tokens"'),
        ('"tokens tags"', 'no "tokens"'),
        ("{}", 'no "tokens"'),
        ('{"tokens": ["a"]}', 'no "tags"; a split without labels cannot be used'),
        (json_row(tags=None), 'no "tags"'),
        (json_row(tags="OO"), '"tags" must be a list of strings'),
        (json_row(tags=[0, 0]), '"tags" must be a list of strings'),
        (json_row(tags=["O", None]), '"tags" must be a list of strings'),
        (json_row(tokens={"a": 1, "b": 2}), '"tokens" must be a list of strings'),
        (json_row(tokens=["a", 1]), '"tokens" must be a list of strings'),
        (json_row(tokens=[["a"], "b"]), '"tokens" must be a list of strings'),
        (f'{{"tokens": [{"9" * 9999}], "tags": ["O"]}}', '"tokens" must be a list of strings'),
        (json_row(tags=["O"]), "2 tokens and 1 tags; a sentence needs at least one token"),
        (json_row(tokens=[], tags=[]), "0 tokens and 0 tags"),
        (json_row(tags=[]), "2 tokens and 0 tags"),
        (json_row(tokens=["a", ""]), "2 tokens and 2 tags; a sentence needs at least one token"),
        (json_row(tags=["O", "PER"]), "'PER' is not a tag"),
        (json_row(tags=["O", "x" * 9999]), "'xxx"),
        (json_row(tags=["I-PER", "L-LOC"]), "tag schemes are mixed: 'L-LOC' is of BILOU, but "),
        (json_row(tokens=["a", "b\ud800"]), "'\\ud800' is half of a surrogate pair"),
        (json_row(tokens=["\ud83d", "\ude00"]), "'\\ud83d' is half of a surrogate pair"),
        (json_row(tags=["O", "B-\udfff"]), "'\\udfff' is half of a surrogate pair"),
        (json_row(tokens=["a", "b\0"]), "a NUL byte"),
        ('{"tokens": ["\0"]', "a NUL byte"),
    ],
)
def test_malformed_json_lines(tmp_path: Path, row: str, message: str) -> None:
    for name in ("a.jsonl", "a.jsonl.gz"):
        path = write(tmp_path / name, f'{{"tokens": ["a"], "tags": ["O"]}}\n\n{row}\n')
        found = user_error(read, path)
        assert found.startswith(f"{path}:3: {message}")
        assert len(found) < 2 * len(str(path)) + 250


# ---- files that cannot be read


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.jsonl", "a.jsonl.gz"])
def test_unreadable_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert user_error(read, path) == f"{path}: no such file"
    assert user_error(read, path / "b.tsv") == f"{path / 'b.tsv'}: no such file"
    path.mkdir()
    assert user_error(read, path) == f"{path}: Is a directory"
    under = write(tmp_path / "file", "") / name
    assert user_error(read, under) == f"{under}: Not a directory"
    long = tmp_path / ("x" * 999 + name)
    assert user_error(read, long) == f"{long}: File name too long"
    loop = tmp_path / f"loop-{name}"
    loop.symlink_to(loop)
    assert user_error(read, loop) == f"{loop}: Too many levels of symbolic links"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permissions(tmp_path: Path) -> None:
    path = write(tmp_path / "en" / "dev.tsv", "a\tO\n")
    path.chmod(0)
    assert user_error(read, path) == f"{path}: Permission denied"
    path.parent.chmod(0)
    try:
        assert user_error(find, path.parent, "dev") == f"{path.parent}: Permission denied"
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("name", ["a.gz", "a.tsv.gz", "a.jsonl.gz"])
def test_damaged_gzip(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    row = TWO_AS_JSON if "json" in name else TWO_AS_TEXT + "\n"
    good = gzip.compress(row.encode() * 2_000)
    middle = len(good) // 2
    flipped = bytearray(good)
    flipped[-8] ^= 1  # of the checksum
    for content in (
        row.encode(),
        b"x",
        good[:5],
        good[:middle],
        good[:-1],
        good[:middle] + b"\xff" * 9 + good[middle + 9 :],
        bytes(flipped),
        good + b"garbage",
    ):
        path.write_bytes(content)
        found = user_error(read, path)
        assert re.fullmatch(rf"{re.escape(str(path))}(:\d+: .+|: damaged or not .+)", found)
        if content[:2] != good[:2]:
            assert found.startswith(
                f"{path}: damaged or not compressed by gzip (Not a gzipped file"
            )


# ---- any bytes

FRAGMENTS = [b"a", b"\t", b"\n", b"\r\n", b"a\tO\n", b"b\tI-LOC\n", b"O", b" ", b"\xef\xbb\xbf"]
FRAGMENTS += [b"\xff", b"\x00", b"\xe2\x80\xa8", b"B-PER", b"\xc3", b"-DOCSTART- O\n", b"en:"]
FRAGMENTS += [b"a S-PER\n", b"\n\n", b"\xe3\x80\x80 O\n"]
JSON_FRAGMENTS = [
    json_row().encode(),
    b"{",
    b"}",
    b"\n",
    b'"',
    b'"tokens": ["a"]',
    b'"tags": ["O"]',
]
JSON_FRAGMENTS += [b", ", b"[", b"]", b"\\ud800", b"\xff", b"\x00", b"1", b"\xef\xbb\xbf", b"null"]
JSON_FRAGMENTS += [b'{"tokens": ["a", "', b'"], "tags": ["B-PER", "I-LOC"]}\n', b"\\u", b"\\"]


def any_of(fragments: list[bytes]) -> Any:
    return st.binary() | st.lists(st.sampled_from(fragments)).map(b"".join)


def check(path: Path, words: list[str] | None, language: str = "") -> None:
    """What was read is well-formed and, if these are given, has these words."""
    try:
        found = read(path, language)
    except UserError as error:
        assert re.fullmatch(rf"{re.escape(str(path))}(:\d+)?: .+", str(error))
        return
    if words is not None:
        assert [word for sentence in found for word in sentence.words] == words
    for sentence in found:
        assert sentence.words and all(sentence.words)
        assert len(sentence.words) == len(sentence.tags)
        for before, tag in itertools.pairwise(["O", *sentence.tags]):
            assert tag == "O" or re.fullmatch(r"[BI]-\S+", tag)
            assert tag[0] != "I" or before[1:] == tag[1:]


@pytest.mark.parametrize("name", ["any.tsv", "any.tsv.gz"])
@given(content=any_of(FRAGMENTS))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp() / name, content)
    text = content.removeprefix(b"\xef\xbb\xbf").decode(errors="ignore")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    first = [re.match(r"[^\t]*" if "\t" in line else r" *([^ ]*)", line) for line in lines if line]
    words = [match[match.lastindex or 0] for match in first if match]
    check(path, [word for word in words if word != "-DOCSTART-"])
    check(path, None, "en")


@pytest.mark.parametrize("name", ["any.jsonl", "any.jsonl.gz"])
@given(content=any_of(JSON_FRAGMENTS))
def test_any_bytes_as_json(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp() / name, content)
    words: list[str] | None = []
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        try:
            words += json.loads(line)["tokens"] if line.strip() else []
        except (ValueError, TypeError, KeyError):
            continue
    check(path, words)


@given(st.binary(), st.integers(0, 60), st.binary(max_size=4), st.booleans())
def test_any_bytes_as_gzip(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, at: int, patch: bytes, is_json: bool
) -> None:
    """Bytes that gzip did not write, and some in the midst of those that it wrote."""
    path = tmp_path_factory.getbasetemp() / ("raw.jsonl.gz" if is_json else "raw.gz")
    good = gzip.compress((TWO_AS_JSON if is_json else TWO_AS_TEXT).encode(), mtime=0)
    for content in (raw, good[:at], good[:at] + patch + good[at + len(patch) :], good + raw):
        path.write_bytes(content)
        check(path, None)
