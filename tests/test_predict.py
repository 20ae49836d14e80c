"""`python -m sparsejax.predict`: what goes in line by line, and what comes out."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wikiann
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from wikiann import TAGS

from sparsejax import config_files, predict
from sparsejax.config import Config, DataConfig
from sparsejax.data import readers, texts, words
from sparsejax.errors import UserError
from sparsejax.models import bert, huggingface
from sparsejax.ner import mentions, saved, tagging
from sparsejax.runtime import results

REPOSITORY = Path(__file__).resolve().parents[1]
GUIDE = (REPOSITORY / "docs/predict.md").read_text("utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, letters: Any) -> Path:
    """A run whose tagger was drawn at random: it finds entities almost everywhere."""
    import jax

    path = tmp_path_factory.mktemp("run")
    shape = bert.BertConfig(
        vocab_size=57,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.9,
        num_labels=7,
    )
    (path / "model").mkdir()
    huggingface.save(path / "model", bert.init(shape, jax.random.key(0)), shape, TAGS, letters)
    config = dataclasses.replace(Config(), data=DataConfig(length=32))
    config_files.save(config, path / "config.yaml")
    results.write(path / "results.jsonl", [])
    return path


Tag = Callable[..., tuple[list[dict[str, Any]], str]]


@pytest.fixture
def tag(run: Path, capfdbinary: Any, monkeypatch: pytest.MonkeyPatch) -> Tag:
    """Calls the program with arguments and standard input; gives its rows and its errors."""

    def call(*arguments: str, stdin: bytes = b"") -> tuple[list[dict[str, Any]], str]:
        capfdbinary.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        predict.main([str(run), *arguments])
        out, errors = capfdbinary.readouterr()
        assert out.endswith(b"\n") or not out
        return [json.loads(line) for line in out.split(b"\n")[:-1]], errors.decode()

    return call


def test_as_the_pipeline_in_pytorch(shared: Path, tmp_path: Path, capfdbinary: Any) -> None:
    """Real sentences in ten languages, a pretrained encoder, a classifier drawn at random."""
    pytest.importorskip("torch")
    import jax
    from seqeval.metrics.sequence_labeling import get_entities
    from transformers import pipeline

    checkpoint = shared / "models/e5-small-39"
    tokenizer, shape = huggingface.load_shape(checkpoint, len(TAGS))
    params, _ = huggingface.load(checkpoint, shape, TAGS, jax.random.key(0))
    params["classifier"]["kernel"] = np.random.default_rng(0).normal(size=(384, 7)).astype("f")
    huggingface.save(tmp_path, params, shape, TAGS, tokenizer)

    given = []
    for code in ("en", "de", "ru", "ar", "hi", "zh", "ta", "ko", "he", "yo"):
        part = wikiann.read(shared / "data/panx" / code / "test.tsv", 40)
        sentences = [" ".join(s.words).replace(" ", "" if code == "zh" else " ") for s in part]
        given += [s for s in sentences if len(tokenizer(s)["input_ids"]) < 60][:5]
    assert len(given) == 50
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in given), "utf-8")
    predict.main([str(tmp_path), "--file", str(tmp_path / "texts.txt")])
    rows = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == given

    theirs = pipeline("token-classification", str(tmp_path), ignore_labels=[], device="cpu")
    splits = [words.split(text) for text in given]
    plains = [[word.text for word in split] for split in splits]
    tagged = theirs(plains, is_split_into_words=True, batch_size=10)
    types = set()
    for row, split, plain, found in zip(rows, splits, plains, tagged, strict=True):
        pieces = {piece["index"]: piece for piece in found}
        places = tokenizer(plain, is_split_into_words=True).word_ids()
        first = [pieces[places.index(i)] for i in range(len(plain))]
        entities = get_entities([piece["entity"] for piece in first])
        assert [(e["type"], e["start"], e["end"], e["text"]) for e in row["entities"]] == [
            (kind, *(span := (split[begin].start, split[last].end)), row["text"][slice(*span)])
            for kind, begin, last in entities
        ]
        scores = [np.mean([p["score"] for p in first[b : e + 1]]) for _, b, e in entities]
        np.testing.assert_allclose([e["score"] for e in row["entities"]], scores, atol=1e-4)
        types.update(e["type"] for e in row["entities"])
    assert types == {"PER", "ORG", "LOC"}


def test_text_and_words(tag: Tag) -> None:
    """The same words, as a text and split: the same entities, at characters and at words."""
    text = "abc, de (fgh)  ijk lm nop."
    split = words.split(text)
    lines = [{"text": text}, {"words": [word.text for word in split], "id": 7}]
    rows, _ = tag("--input", "json", stdin="\n".join(map(json.dumps, lines)).encode())
    assert [{k: v for k, v in row.items() if k != "entities"} for row in rows] == lines
    at_characters, at_words = (row["entities"] for row in rows)
    assert len(at_characters) == len(at_words) > 1
    for one, other in zip(at_characters, at_words, strict=True):
        begin, end = other["start"], other["end"]
        assert (one["start"], one["end"]) == (split[begin].start, split[end - 1].end)
        assert one["text"] == text[one["start"] : one["end"]]
        assert other["text"] == " ".join(word.text for word in split[begin:end])
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_score_is_the_mean() -> None:
    text = next(texts.read([("", "Ada Lovelace, London")], as_json=False))
    found = mentions.mentions(text, ["B-PER", "I-PER", "O", "I-LOC"], [0.9, 0.6, 0.5, 0.7])
    assert found == [("PER", "Ada Lovelace", 0, 12, 0.75), ("LOC", "London", 14, 20, 0.7)]


def test_where_texts_come_from(tag: Tag, tmp_path: Path) -> None:
    given = ["abc de", "fg"]
    (tmp_path / "a.txt").write_text("abc de\nfg\n")
    (tmp_path / "a.jsonl").write_text('{"text": "abc de"}\n{"text": "fg"}')
    expected, _ = tag(*given)
    assert [row["text"] for row in expected] == given
    assert tag("--file", str(tmp_path / "a.txt"))[0] == expected
    assert tag("--file", str(tmp_path / "a.jsonl"))[0] == expected
    assert tag(stdin=b"abc de\nfg")[0] == expected
    assert tag("--json", "--", *given)[0] == expected
    assert tag("--", "-5 km")[0][0]["text"] == "-5 km"
    assert tag("a\nb")[0][0]["text"] == "a\nb"
    assert tag(stdin=b"")[0] == []


def test_a_model_directory(run: Path, tag: Tag, capfdbinary: Any) -> None:
    (expected,), _ = tag("abc de")
    predict.main([str(run / "model"), "abc de"])
    found = json.loads(capfdbinary.readouterr().out)
    # Its rows are longer than those of the run, so that sums are rounded elsewhere.
    for one, other in zip(found["entities"], expected["entities"], strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-5)
    assert found == expected


LINES = st.lists(st.text(st.sampled_from("ab .\r\t\u2028\u0085\x0b\x1b字é")), max_size=30)


@given(LINES)
def test_a_row_for_every_line(lines: list[str]) -> None:
    """Also for empty ones; only a line feed ends a line."""
    content = "".join(f"{line}\n" for line in lines).encode()
    decoded = readers.decoded(io.BytesIO(content), "F")
    found = list(texts.read(((str(n), line) for n, line in decoded), as_json=False))
    assert [text.row["text"] for text in found] == [line.rstrip("\r") for line in lines]
    encoded = [mentions.to_json(text, []) for text in found]
    assert not any(line.splitlines()[1:] for line in encoded)


def test_empty_lines(tag: Tag) -> None:
    empty = {"text": "", "entities": []}
    for kind in ("plain", "json"):
        assert tag("--input", kind, stdin=b"\n\r\n\n")[0] == [empty] * 3
    rows, _ = tag(stdin=b"\xef\xbb\xbf\nabc de\r\n\n \n\xe2\x80\x8b")
    assert [row["text"] for row in rows] == ["", "abc de", "", " ", "\u200b"]
    assert [bool(row["entities"]) for row in rows] == [False, True, False, False, False]
    assert tag("--input", "json", stdin=b'{"words": []}')[0] == [{"words": [], "entities": []}]


def test_blocks_change_nothing(tag: Tag, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Several blocks, texts longer than a row, and one compiled program for all of them."""
    draw = np.random.default_rng(0)
    given = [" ".join("abcdefghij"[: n % 7 + 1] for n in range(draw.integers(0, 50)))
             for _ in range(100)]  # fmt: skip
    stdin = "\n".join(given).encode() + b"\n"
    whole, _ = tag(stdin=stdin)
    loaded: list[saved.Tagger] = []
    load = saved.load
    tagging.make_predict.cache_clear()  # not the one of other tests, which had other rows
    monkeypatch.setattr(saved, "load", lambda *a: loaded.append(load(*a)) or loaded[-1])
    monkeypatch.setattr(predict, "FIRST", 3)
    monkeypatch.setattr(predict, "MOST", 40)
    parts, errors = tag(stdin=stdin)
    assert [row["text"] for row in parts] == [row["text"] for row in whole] == given
    for one, other in zip(whole, parts, strict=True):
        scores = [[e.pop("score") for e in row["entities"]] for row in (one, other)]
        assert one == other
        np.testing.assert_allclose(*scores, atol=1e-4)
    assert loaded[0].predict._cache_size() == 1  # type: ignore[attr-defined]
    assert "sentences longer than a row were split between words" in errors
    # A word far behind the end of the first row has a tag, too.
    assert any(entity["start"] > 150 for row in whole for entity in row["entities"])


def test_blocks_grow_and_are_read_one_by_one() -> None:
    read: list[int] = []
    found = texts.blocks(some(itertools.count(), read), 3, 10)
    for size in (3, 6, 10, 10):
        already = len(read)
        block, more = next(found)
        assert more and len(block) == size == len(read) - already


def some(numbers: Iterable[int], read: list[int]) -> Iterator[texts.Text]:
    """Texts that are numbers; `read` gets those that were taken."""
    for number in numbers:
        read.append(number)
        yield texts.Text({"text": str(number)}, [str(number)], [(0, 1)])


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9, 10])
def test_the_last_block(count: int) -> None:
    found = list(texts.blocks(some(range(count), []), 3, 6))
    assert [int(t.row["text"]) for block, _ in found for t in block] == list(range(count))
    if count in (1, 4):
        assert not found[-1][1]


def test_long_texts_make_short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST_WORDS", 5)
    found = texts.blocks((texts.Text({}, ["a"] * n, None) for n in (2, 2, 9, 1)), 3, 6)
    assert [[len(t.words) for t in block] for block, _ in found] == [[2, 2, 9], [1]]


def test_other_fields_and_strange_letters(tag: Tag) -> None:
    line = r'{"id": 123456789012345678901234567890, "a": {"b": [null, true, 1.5, "\ud83d"]},'
    line += r' "text": "ab \"cd\" \u2028 \ud83d\ude00 \u009b\u007f\u0000\u001b[1m efg",'
    line += r' "entities": "old", "\ud83d": "\udc00"}'
    (row,), errors = tag("--input", "json", stdin=line.encode())
    expected = json.loads(line)
    assert row.pop("entities") and row == {k: v for k, v in expected.items() if k != "entities"}
    assert "words without a piece became the unknown piece" in errors


def test_rows_hold_no_control_character(tag: Tag, run: Path, capfdbinary: Any) -> None:
    strange = "".join(map(chr, [*range(1, 0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]))
    predict.main([str(run), f"ab {strange} cd"])
    out = capfdbinary.readouterr().out.decode()
    assert json.loads(out)["text"] == f"ab {strange} cd"
    assert len(out.splitlines()) == 1 and not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f]", out)


def test_repairs_are_counted(tag: Tag) -> None:
    _, errors = tag("\u200d ab \u200d", "a" * 50)
    assert errors.splitlines() == [
        "note: 2 words without a piece became the unknown piece",
        "note: 1 words with more pieces than a row were shortened",
    ]
    assert tag("ab cd")[1] == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON (Expecting property name enclosed in double quotes at character 2)"),
        (b'"abc"', 'a line needs an object with either "text" or "words"'),
        (b"{}", 'a line needs an object with either "text" or "words"'),
        (b'{"text": "a", "words": ["a"]}', 'an object with either "text" or "words"'),
        (b'{"text": null}', '"text" must be a string'),
        (b'{"words": "abc"}', '"words" must be a list of strings'),
        (b'{"words": ["a", 1]}', '"words" must be a list of strings'),
        (rb'{"text": "\ud83d"}', "'\\ud83d' is half of a surrogate pair, not a letter"),
        (b'{"text": "a", "x": NaN}', "'NaN' is no number that JSON can hold"),
        (b'{"text": "a", "x": 1e999}', "'1e999' is no number that JSON can hold"),
        (b'{"text": "a", "x": ' + b"9" * 5000 + b"}", "integer string conversion"),
        (b"[" * 100_000, "JSON nested too deeply"),
        (b'{"text": "\xff"}', "not UTF-8 (invalid start byte)"),
        (b'{"text": "\0"}', "a NUL byte, which no text has"),
    ],
)
def test_malformed_lines(
    content: bytes, message: str, run: Path, tmp_path: Path, capfdbinary: Any
) -> None:
    """One line that names file and line; what is before it is tagged."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "abc"}\n\n' + content + b'\n{"text": "de"}\n')
    with pytest.raises(SystemExit) as caught:
        predict.main([str(run), "--file", str(path)])
    told = str(caught.value)
    assert told.startswith(f"error: {path}:3: ") and message in told and "\n" not in told
    assert [json.loads(line)["text"] for line in capfdbinary.readouterr().out.splitlines()] == [
        "abc",
        "",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the first argument is the directory of a run or of a model"),
        (["--json"], "the first argument is the directory of a run or of a model"),
        (["/no/such"], "/no/such: no run (no config.yaml) and no model (no config.json)"),
        (["RUN", "abc", "--file", "x"], "pass texts as arguments or as a file, not both"),
        (["RUN", "--file", "/no/such"], "file: /no/such: No such file or directory"),
        (["RUN", "--file", "/"], "file: /: Is a directory"),
        (["RUN", "--input", "csv"], "input: 'csv' is not one of auto, plain, json"),
        (["RUN", "--jsn"], "unknown flag --jsn (did you mean --json?)"),
        (["RUN", "a", "\udcff"], "argument 2: '\\udcff' is half of a surrogate pair"),
    ],
)
def test_mistakes_are_one_line(run: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        predict.main([re.sub("^RUN", str(run), word) for word in arguments])
    told = str(caught.value)
    assert told.startswith("error: ") and message in told and "\n" not in told


def test_no_standard_input(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit, match="error: no text: pass it as an argument"):
        predict.main([str(run)])


def test_a_run_that_was_not_finished(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "config.yaml", tmp_path)
    with pytest.raises(UserError, match="no model, so this run was not finished"):
        predict.load(tmp_path)


def styled(line: str, tags: list[str], as_json: bool = False, **how: Any) -> str:
    """What a terminal is sent."""
    text = next(texts.read([("", line)], as_json))
    console = Console(force_terminal=True, file=io.StringIO(), width=20, **how)
    found = mentions.mentions(text, tags, [0.5] * len(tags))
    console.print(mentions.to_styled(text, found, mentions.styles(["PER", "LOC"])), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_on_a_terminal() -> None:
    tags = ["B-PER", "I-PER", "O", "B-LOC"]
    cyan, yellow, end = "\x1b[1;4;36m", "\x1b[1;4;33m", "\x1b[0m"
    expected = (
        f"{cyan}Ada Lovelace{end}, {yellow}London{end}\n"
        f"  PER 0.50 {cyan}Ada Lovelace{end}\n  LOC 0.50 {yellow}London{end}\n"
    )
    given = {"color_system": "standard"}
    assert styled("Ada Lovelace, London", tags, **given) == expected
    split = '{"words": ["Ada", "Lovelace", ",", "London"]}'
    shown = styled(split, tags, as_json=True, **given)
    assert shown == expected.replace(f"{end}, ", f"{end} , ")
    plain = styled("Ada Lovelace, London", tags, no_color=True, **given)
    assert plain == expected.replace(";36m", "m").replace(";33m", "m")


@given(st.text())
def test_no_escape_reaches_the_terminal(line: str) -> None:
    line = line.replace("\n", "\x1b]0;title\x07\x9b31m[red]:smile:")
    count = len(words.split(line))
    shown = styled(line, ["B-PER"] * count, color_system="standard")
    own = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f]", own)
    # Nothing is put into the text or taken from it, so its direction stays; a tab becomes spaces.
    first = own.split("\n")[0]
    if "\t" not in line:
        assert len(first) == len(line)
        assert all(a == b for a, b in zip(first, line, strict=True) if b.isprintable())


def test_what_a_terminal_gets(run: Path) -> None:
    """Texts are typed, each is answered at once, and an escape in one does nothing."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sparsejax.predict", str(run)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""

    def until(end: bytes) -> bytes:
        nonlocal seen
        while end not in seen:
            seen += os.read(ours, 4096)
        before, _, seen = seen.partition(end)
        return before

    until(b"waiting for text, a line each; Ctrl-D ends it\r\n")
    os.write(ours, b"xabc \x16\x1b[7mdef\n")  # Ctrl-V: the next character is text
    until(b"\r\n")  # the echo
    shown = until(b"\n  ")
    assert "␛".encode() in shown and b"\x1b[1;4;" in shown and b"\x1b[7m" not in shown
    os.write(ours, b"\x04")
    assert process.wait(60) == 0
    os.close(ours)


def test_progress(run: Path, tmp_path: Path) -> None:
    """A bar where only standard error is a terminal, and rows where standard output is none."""
    (tmp_path / "a.txt").write_text("abc de\n" * 700)
    ours, theirs = pty.openpty()
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "sparsejax.predict", str(run)],
            stdin=(tmp_path / "a.txt").open("rb"), stdout=out, stderr=theirs,
            env=os.environ | {"TERM": "xterm", "FORCE_COLOR": "1"},
        )  # fmt: skip
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # what the end of a terminal looks like
            pass
        assert process.wait(60) == 0
    assert b"tagged 700 texts" in seen
    lines = (tmp_path / "out").read_bytes().splitlines()
    assert len(lines) == 700 and json.loads(lines[-1])["text"] == "abc de"


def test_head_has_seen_enough(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc de\n" * 20_000)
    line = f'"{sys.executable}" -m sparsejax.predict "{run}" --file "{tmp_path}/a.txt" | head -n 1'
    result = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert json.loads(result.stdout)["text"] == "abc de" and result.stderr == ""


def test_help_loads_nothing_heavy() -> None:
    line = [sys.executable, "-X", "importtime", "-m", "sparsejax.predict", "--help"]
    result = subprocess.run(line, capture_output=True, text=True)
    loaded = {row.split("|")[-1].strip() for row in result.stderr.splitlines()}
    assert "tyro" in loaded
    assert not {"jax", "numpy", "flax", "transformers", "datasets", "regex"} & loaded
    assert result.returncode == 0, result.stderr
    assert "sparsejax.predict RUN_OR_MODEL [TEXT ...]" in result.stdout


SNIPPETS = re.findall(r"```bash\n(.*?)```", GUIDE, flags=re.DOTALL)


def test_guide(tag: Tag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first commands print rows of the fields that it names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("abc de\n")
    rows = []
    for line in SNIPPETS[0].splitlines():
        before, _, line = line.rpartition(" | ")
        command, _, _ = line.partition(" > ")
        assert command.startswith("python -m sparsejax.predict RUN ")
        stdin = subprocess.run(before, shell=True, capture_output=True).stdout
        rows += tag(*shlex.split(command)[4:], stdin=stdin)[0]
    (shown,) = map(json.loads, re.findall(r"```json\n(.*?)```", GUIDE, flags=re.DOTALL))
    assert [row["text"] for row in rows[:2]] == [shown["text"], "abc de"]
    assert rows[0].keys() == rows[1].keys() == shown.keys()
    assert {*shown["entities"][0]} == {*mentions.Mention._fields}
    assert rows[2].keys() == {"id", "words", "entities"}


def test_flags_of_the_guide(tag: Tag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = re.findall(r"^\| `(--.*?)` \|", GUIDE, flags=re.MULTILINE)
    assert {flag.split()[0][2:] for flag in flags} == {
        field.name for field in dataclasses.fields(predict.PredictConfig)
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text('{"text": "abc de"}\n')
    assert tag(*" ".join(flags).split())[0][0]["text"] == "abc de"


def test_measure_of_the_guide(run: Path, shared: Path, tmp_path: Path) -> None:
    python, *line = SNIPPETS[1].replace("RUN", str(run)).split()
    assert python == "python" and line[-2] == "--out"
    line[-1] = str(tmp_path / "out.json")
    limits = ["--shared", str(shared), "--languages", "jv", "--sentences", "5"]
    subprocess.run([sys.executable, *line, *limits], cwd=REPOSITORY, check=True)
    row = json.loads((tmp_path / "out.json").read_text())["languages"]["jv"]
    assert row["words"] > 90 and row.keys() >= {"f1_gold", "f1_split_bare"}
