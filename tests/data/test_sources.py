"""Sentences as they stand in the files, and one line that says where a file is wrong."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsejax.config import DataConfig
from sparsejax.data import sources
from sparsejax.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def panx(shared: Path) -> Path:
    return shared / "data" / "panx"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def user_error(call: Any, *arguments: Any) -> str:
    """The message of the UserError that a call raises: always one line."""
    with pytest.raises(UserError) as raised:
        call(*arguments)
    message = str(raised.value)
    assert message and "\n" not in message
    return message


# ---- files


@pytest.mark.parametrize("code", ["en", "ja", "zh", "ar", "yo", "my"])
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_real_files(panx: Path, code: str, split: str) -> None:
    """What was read, written down again, is the file."""
    path = panx / code / f"{split}.tsv"
    found = sources.read_tsv(path)
    written = ("\n".join(f"{w}\t{t}" for w, t in zip(*s, strict=True)) for s in found)
    assert "\n\n".join(written).strip("\n") == path.read_bytes().decode().strip("\n")
    if split == "train":
        with open(panx.parent / "languages.csv", encoding="utf-8") as file:
            sizes = {row["code"]: int(row["wikiann_train"]) for row in csv.DictReader(file)}
        assert len(found) == sizes[code]


def test_japanese_entities_are_interrupted(panx: Path) -> None:
    """In ja a "#" stands for a space and is tagged O, in the midst of entities too."""
    found = sources.read_tsv(panx / "ja" / "dev.tsv")
    after = {
        sentence.words[i - 1]
        for sentence in found
        for i in range(1, len(sentence.words))
        if sentence.tags[i].startswith("I-") and sentence.tags[i - 1] == "O"
    }
    assert after == {"#"}


TWO = [(["Ada", "Lovelace"], ["B-PER", "I-PER"]), (["no", "one"], ["O", "O"])]


@pytest.mark.parametrize(
    "content",
    [
        "Ada\tB-PER\nLovelace\tI-PER\n\nno\tO\none\tO\n\n",
        "Ada\tB-PER\nLovelace\tI-PER\n\nno\tO\none\tO\n",
        "Ada\tB-PER\nLovelace\tI-PER\n\nno\tO\none\tO",
        "Ada\tB-PER\nLovelace\tI-PER\n\nno\tO\none\tO\n\n\n\n",
        "Ada\tB-PER\r\nLovelace\tI-PER\r\n\r\nno\tO\r\none\tO\r\n\r\n\r\n",
        "\ufeffAda\tB-PER\nLovelace\tI-PER\n\nno\tO\none\tO\n",
    ],
    ids=["usual", "one-newline", "no-newline", "blank-lines", "crlf", "byte-order-mark"],
)
def test_ends_of_lines_and_files(tmp_path: Path, content: str) -> None:
    assert sources.read_tsv(write(tmp_path / "a.tsv", content)) == TWO


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, separator: str) -> None:
    path = write(tmp_path / "a.tsv", f"a{separator}b\tO\nc\tB-LOC\n")
    assert sources.read_tsv(path) == [([f"a{separator}b", "c"], ["O", "B-LOC"])]


def test_odd_tokens_are_kept(tmp_path: Path) -> None:
    words = [" ", "\u3000", "\u200b", '"', "#", "\ufeff", "O", "e\u0301"]
    path = write(tmp_path / "a.tsv", "".join(f"{word}\tO\n" for word in ["x", *words]))
    assert sources.read_tsv(path) == [(["x", *words], ["O"] * 9)]


def test_an_empty_file_has_no_sentence(tmp_path: Path) -> None:
    assert sources.read_tsv(write(tmp_path / "a.tsv", "")) == []


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("a\tO\nb O\n", 2, "no tab between token and tag in 'b O'"),
        ("a\tO\n \n", 2, "no tab"),
        ("a\tO\n\nb\tB-MISC\n", 3, "unknown tag 'B-MISC'; the tags are O B-PER"),
        ("a\tO\tx\n", 1, "unknown tag"),
        ("a\tO \n", 1, "unknown tag 'O '"),
        ("a\t" + "x" * 10_000, 1, "unknown tag"),
        ("a\t\n", 1, "unknown tag ''"),
        ("\tO\n", 1, "empty token before the tab"),
        ("a\tO\n\n\nb\tO\n", 3, "a sentence without a token (two blank lines)"),
        ("a\tO\n\n\n\n\nb\tO\n", 3, "a sentence without a token (two blank lines)"),
        ("\na\tO\n", 1, "a sentence without a token (a blank line at the start)"),
        (b"a\tO\n\nb\xff\tO\n", 3, "not UTF-8"),
        ("a\tO\n".encode("utf-16"), 1, "not UTF-8"),
        (b"a\tO\n\xed\xa0\x80\tO\n", 2, "not UTF-8"),  # a surrogate
    ],
)
def test_malformed_files(tmp_path: Path, content: str | bytes, line: int, message: str) -> None:
    path = write(tmp_path / "en" / "train.tsv", content)
    found = user_error(sources.read_tsv, path)
    assert found.startswith(f"{path}:{line}: {message}")
    assert len(found) < len(str(path)) + 200


def test_limit_stops_reading(tmp_path: Path) -> None:
    good = "a\tO\n\nb\tO\nc\tB-ORG\n\n"
    path = write(tmp_path / "a.tsv", good.encode() + b"no tab, and not UTF-8: \xff\n")
    both = [(["a"], ["O"]), (["b", "c"], ["O", "B-ORG"])]
    assert sources.read_tsv(path, 1) == both[:1]
    assert sources.read_tsv(path, 2) == both
    assert f"{path}:6: " in user_error(sources.read_tsv, path, 3)
    assert sources.read_tsv(write(tmp_path / "b.tsv", good), 9) == both


FRAGMENTS = [b"a", b"\t", b"\n", b"\r\n", b"a\tO\n", b"b\tI-LOC\n", b"O", b" ", b"\xef\xbb\xbf"]
FRAGMENTS += [b"\xff", b"\x00", b"\xe2\x80\xa8", b"B-PER", b"\xc3"]


@given(st.binary() | st.lists(st.sampled_from(FRAGMENTS)).map(b"".join))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.tsv", content)
    try:
        found = sources.read_tsv(path)
    except UserError as error:
        assert re.fullmatch(rf"{re.escape(str(path))}:\d+: .+", str(error))
        return
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert sum(len(s.words) for s in found) == sum(bool(line.strip(b"\r")) for line in lines)
    for words, tags in found:
        assert words and all(words) and len(words) == len(tags)
        assert set(tags) <= set(sources.TAGS)


# ---- directories


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for code in ("en", "de"):
        for split in ("train", "dev", "test"):
            write(tmp_path / code / f"{split}.tsv", f"{code}\tO\n\n{split}\tB-LOC\n")
    write(tmp_path / "README.md", "not a language")
    (tmp_path / "not-a-language").mkdir()
    return tmp_path


def test_directory(directory: Path) -> None:
    config = DataConfig(dir=str(directory))
    assert sources.languages(config) == ("de", "en")
    assert sources.load(config, "dev", None) == {
        code: [([code], ["O"]), (["dev"], ["B-LOC"])] for code in ("de", "en")
    }
    assert sources.load(config, "test", 1) == {code: [([code], ["O"])] for code in ("de", "en")}
    one = DataConfig(dir=str(directory), languages=("en",))
    assert list(sources.load(one, "train", None)) == ["en"]


def test_directory_errors(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    def message(path: Path, split: str = "train", languages: tuple[str, ...] = ()) -> str:
        return user_error(sources.load, DataConfig(dir=str(path), languages=languages), split, None)

    assert "data.languages: 'xx' not in" in message(directory, languages=("en", "xx"))
    assert "which has de en" in message(directory, languages=("en", "xx"))
    (directory / "de" / "dev.tsv").unlink()
    assert message(directory, "dev") == f"{directory / 'de' / 'dev.tsv'}: no such file"
    (directory / "de" / "dev.tsv").mkdir()
    assert message(directory, "dev") == f"{directory / 'de' / 'dev.tsv'}: Is a directory"
    write(directory / "de" / "test.tsv", "\n\n")
    assert message(directory, "test") == "data: the test split of 'de' holds no sentence"
    empty = tmp_path_factory.mktemp("empty")
    assert message(empty) == f"data.dir: {empty} holds no <language>/train.tsv"
    file = directory / "README.md"
    assert message(file) == f"data.dir: {file} is not a directory"
    assert message(directory / "no") == f"data.dir: {directory / 'no'} is not a directory"
    assert "File name too long" in message(directory / ("x" * 999))


# ---- the embedded corpus


def test_embedded() -> None:
    config = DataConfig(languages=("sw", "en"))
    corpus = sources.load(config, "test", 3)
    assert list(corpus) == ["sw", "en"]  # in the order asked for
    assert [len(part) for part in corpus.values()] == [3, 3]
    everything = sources.load(config, "test", None)["sw"]
    assert everything[:3] == corpus["sw"] and len(everything) > 3
    assert "en" in sources.languages(DataConfig())


def test_embedded_has_not_every_language() -> None:
    message = user_error(sources.languages, DataConfig(languages=("en", "xx", "yy")))
    assert message.startswith("data.languages: 'xx', 'yy' not in the embedded corpus, which has ")


# ---- the hub

ROWS = {
    "tokens": [["Ada", "Lovelace", "wrote"], ["Nairobi"], ["no", "one"]],
    "ner_tags": [[1, 2, 0], [5], [0, 0]],
    "langs": [["en", "en", "en"], ["en"], ["en", "en"]],
}
SENTENCES = [
    (["Ada", "Lovelace", "wrote"], ["B-PER", "I-PER", "O"]),
    (["Nairobi"], ["B-LOC"]),
    (["no", "one"], ["O", "O"]),
]
# Of another order than ours, as a data set may have it.
OTHER_NAMES = ["B-LOC", "B-PER", "I-PER", "O", "I-LOC"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "wikiann"


def write_hub(
    path: Path,
    rows: dict[str, list[Any]],
    tag: Any = None,
    token: Any = None,
    languages: tuple[str, ...] = ("en", "sw"),
) -> str:
    """A data set as unimelb-nlp/wikiann lies on the hub: Parquet files, and configs in the card."""
    sequence = datasets.Sequence
    features = {
        "tokens": sequence(token or datasets.Value("string")),
        "ner_tags": sequence(tag or datasets.ClassLabel(names=list(sources.TAGS))),
        "langs": sequence(datasets.Value("string")),
    }
    features = {name: features[name] for name in rows}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    card = ["---", "configs:"]
    for code in languages:
        card += [f"- config_name: {code}", "  data_files:"]
        for split in ("train", "validation", "test"):
            card += [f"  - split: {split}", f"    path: {code}/{split}-*"]
            (path / code).mkdir(parents=True, exist_ok=True)
            table.to_parquet(path / code / f"{split}-00000-of-00001.parquet")
    write(path / "README.md", "\n".join([*card, "---", "# WikiAnn", ""]))
    return str(path)


def read_hub(name: str, language: str = "en", split: str = "dev", limit: int | None = None) -> Any:
    config = DataConfig(hub=name, languages=(language,))
    return sources.load(config, split, limit)[language]


def test_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "hub_answers", None)  # a local copy needs no network
    name = write_hub(hub, ROWS)
    for language in ("en", "sw"):
        for split in ("train", "dev", "test"):
            assert read_hub(name, language, split) == SENTENCES
    assert read_hub(name, limit=2) == SENTENCES[:2]
    assert read_hub(name, limit=9) == SENTENCES


def test_hub_with_tags_as_text(hub: Path) -> None:
    tags = [tags for _, tags in SENTENCES]
    name = write_hub(hub, ROWS | {"ner_tags": tags}, tag=datasets.Value("string"))
    assert read_hub(name) == SENTENCES


def test_hub_with_another_order_of_tags(hub: Path) -> None:
    tags = [[OTHER_NAMES.index(tag) for tag in tags] for _, tags in SENTENCES]
    name = write_hub(hub, ROWS | {"ner_tags": tags}, tag=datasets.ClassLabel(names=OTHER_NAMES))
    assert read_hub(name) == SENTENCES


MISC = datasets.ClassLabel(names=["O", "B-PER", "I-PER", "B-MISC", "I-MISC", "B-LOC"])


@pytest.mark.parametrize(
    ("changes", "kinds", "message"),
    [
        ({"ner_tags": [[1, 2, 0], [3], [0, 0]]}, {"tag": MISC}, "row 2: unknown tag 'B-MISC'"),
        ({"ner_tags": [[1, 2, 0], [-1], [0, 0]]}, {}, "row 2: unknown tag '-1'"),
        ({"ner_tags": [[1, 2, 0], [None], [0, 0]]}, {}, "row 2: unknown tag 'None'"),
        ({}, {"tag": datasets.Value("int64")}, "row 1: unknown tag '1'"),
        ({"ner_tags": [[1, 2, 0], None, [0, 0]]}, {}, "row 2: tokens and ner_tags must be lists"),
        ({"tokens": [["a", "b", "c"], None, ["d", "e"]]}, {}, "row 2: tokens and ner_tags must"),
        ({"tokens": [[1, 2, 3], [4], [5, 6]]}, {"token": datasets.Value("int64")}, "must be text"),
        ({"ner_tags": [[1, 2, 0], [5], [0]]}, {}, "row 3: 2 tokens and 1 tags"),
        ({"tokens": [["a", "", "c"], ["b"], ["d", "e"]]}, {}, "row 1: 3 tokens and 3 tags"),
        ({"tokens": [["a", None, "c"], ["b"], ["d", "e"]]}, {}, "row 1: 3 tokens and 3 tags"),
        ({"tokens": [[], ["b"], ["d"]], "ner_tags": [[], [0], [0]]}, {}, "row 1: 0 tokens"),
    ],
)
def test_hub_rows(hub: Path, changes: Any, kinds: Any, message: str) -> None:
    name = write_hub(hub, {k: v for k, v in (ROWS | changes).items() if k != "langs"}, **kinds)
    found = user_error(read_hub, name)
    assert found.startswith(f"{name}/en/validation: row ")
    assert message in found


@pytest.mark.parametrize("column", ["tokens", "ner_tags"])
def test_hub_without_a_column(hub: Path, column: str) -> None:
    name = write_hub(hub, {k: v for k, v in ROWS.items() if k != column})
    assert user_error(read_hub, name) == f"data.hub: {name!r} has no column {column}"


def test_hub_without_the_language_or_the_data(hub: Path) -> None:
    name = write_hub(hub, ROWS)
    message = user_error(read_hub, name, "th")
    assert f"could not load {name!r}, language 'th'" in message
    assert "'en', 'sw'" in message and message.endswith("pass --data.dir with a local copy")
    (hub / "en" / "test-00000-of-00001.parquet").unlink()
    assert "language 'en', split 'test'" in user_error(read_hub, name, "en", "test")
    write(hub / "en" / "train-00000-of-00001.parquet", b"PAR1 no more")
    assert "language 'en', split 'train'" in user_error(read_hub, name, "en", "train")


def test_hub_with_a_loading_script(hub: Path) -> None:
    """Older data sets are programs, which the library refuses with a RuntimeError."""
    name = str(write(hub / "wikiann.py", "").parent)
    assert "scripts are no longer supported" in user_error(read_hub, name)


LOAD = """
from sparsejax.config import DataConfig
from sparsejax.data import sources
from sparsejax.errors import UserError
try:
    sources.load(DataConfig(hub="unimelb-nlp/wikiann"), "train", None)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "change",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "*"}],
    ids=["offline", "unreachable"],
)
def test_hub_without_network(tmp_path: Path, change: dict[str, str]) -> None:
    """Offline by declaration, or found to be: it fails at once, without the library's retries."""
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=REPOSITORY,
        env=os.environ | {"HF_HOME": str(tmp_path)} | change,
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.monotonic() - began < 15
    assert process.stderr == ""
    (line,) = process.stdout.splitlines()
    assert line.startswith("data.hub: could not load 'unimelb-nlp/wikiann', language 'af'")
    assert line.endswith("pass --data.dir with a local copy")


def test_hub_without_network_but_downloaded(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run left in the library's cache is used."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # and back, after the test
    monkeypatch.setattr(sources, "hub_answers", lambda: False)
    read_hub(write_hub(hub, ROWS))
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    (cache / "wikiann").rename(cache / "unimelb-nlp___wikiann")
    assert read_hub("unimelb-nlp/wikiann") == SENTENCES
    assert "language 'sw'" in user_error(read_hub, "unimelb-nlp/wikiann", "sw")
