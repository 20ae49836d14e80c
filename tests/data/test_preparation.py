"""Prepared parts are what tokenising gives, from the cache or not, by however many processes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import pickle
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from wikiann import TAGS

from sparsejax.config import DataConfig
from sparsejax.data import preparation, readers, sentences, sources, tokenization
from sparsejax.data.preparation import Prepared
from sparsejax.data.sentences import Sentence
from sparsejax.data.sources import FilePart, ListPart, take
from sparsejax.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
IGNORE = -100
CONFIG = DataConfig(length=8, processes=1)
TEXT = "ada\tB-PER\nb\tI-PER\n\u200d\tO\n\ncccccccccccccccc\tO\nd\tB-LOC\n\ne\tB-PER\n"
CORPUS = [
    Sentence(["ada", "b", "\u200d"], ["B-PER", "I-PER", "O"]),
    Sentence(["c" * 16, "d"], ["O", "B-LOC"]),
    Sentence(["e"], ["B-PER"]),
]


@pytest.fixture
def cache_directory() -> Path:
    return Path(os.environ["SPARSEJAX_CACHE"])


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done: "read" for each file opened, "encode" for each call of the tokenizer."""
    done: list[str] = []

    def encode(*arguments: Any) -> tokenization.Encoded:
        done.append("encode")
        return tokenization.encode(*arguments)

    class Reader(readers.Reader):
        def __init__(self, *arguments: Any) -> None:
            done.append("read")
            super().__init__(*arguments)

    monkeypatch.setattr(preparation, "encode", encode)
    monkeypatch.setattr(readers, "Reader", Reader)
    return done


def file(path: Path, text: str = TEXT, language: str = "en") -> FilePart:
    path.write_text(text, encoding="utf-8")
    return FilePart(path, language)


def prepare(
    part: sources.Part,
    tokenizer: Any,
    config: DataConfig = CONFIG,
    limit: int | None = None,
    remember: bool = True,
) -> Prepared:
    return preparation.prepare({"en": part}, tokenizer, config, limit, remember=remember)["en"]


def of(corpus: Sequence[tuple[list[str], list[str]]], tokenizer: Any) -> Prepared:
    part = ListPart("here", [Sentence(*sentence) for sentence in corpus])
    return prepare(part, tokenizer, remember=False)


def assert_equal(found: Prepared, expected: Prepared) -> None:
    assert (found.labels, found.first_seen) == (expected.labels, expected.first_seen)
    fields = [(found.encoded, expected.encoded, f.name) for f in dataclasses.fields(found.encoded)]
    keys = [(found, expected, name) for name in ("sentence_keys", "entity_keys")]
    for a, b, name in (*fields, *keys):
        left, right = getattr(a, name), getattr(b, name)
        assert (left.dtype, left.shape) == (right.dtype, right.shape), name
        np.testing.assert_array_equal(left, right)


def assert_is(found: Prepared, corpus: Sequence[Sentence], tokenizer: Any, length: int) -> None:
    """Prepared sentences against what each step gives, done here on its own."""
    expected = tokenization.encode(corpus, tokenizer, length, found.labels)
    for name in ("tokens", "labels", "lengths", "words"):
        left, right = getattr(found.encoded, name), getattr(expected, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    assert found.encoded.repairs[:3].tolist() == expected.repairs[:3].tolist()
    assert found.sentence_keys.dtype == found.entity_keys.dtype == np.uint64
    assert found.sentence_keys.tolist() == [sentences.key(words) for words, _ in corpus]
    assert found.entity_keys.tolist() == [
        sentences.key(words[begin : end + 1])
        for words, tags in corpus
        for _, begin, end in get_entities(tags)
    ]
    types = {tag[2:] for _, tags in corpus for tag in tags if tag != "O"}
    assert set(found.labels) == {"O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in types)}


# ---- what is prepared


def test_a_file(letters: Any, tmp_path: Path, work: list[str]) -> None:
    """Made, and the second time neither read nor tokenised."""
    part = file(tmp_path / "a.tsv")
    found = prepare(part, letters)
    assert work == ["read", "encode"]
    assert_is(found, CORPUS, letters, 8)
    assert found.labels == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    assert found.encoded.repairs.tolist() == [1, 1, 1, 0]
    assert found.first_seen == {"PER": f"{part.path}:1", "LOC": f"{part.path}:6"}
    assert_equal(prepare(part, letters), found)
    assert work == ["read", "encode"]


def test_real_japanese(shared: Path, work: list[str]) -> None:
    """Its file, counted without a reader: I- tags follow O in the midst of entities."""
    path = shared / "data" / "panx" / "ja" / "dev.tsv"
    tokenizer = tokenization.load_tokenizer(shared / "models" / "e5-small-39")
    config = dataclasses.replace(CONFIG, length=64)
    blocks = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
    pairs = [[line.split("\t") for line in block.split("\n")] for block in blocks]
    repaired = [
        sum(b[1][0] == "I" and a[1][1:] != b[1][1:] for a, b in itertools.pairwise(sentence))
        + (sentence[0][1][0] == "I")
        for sentence in pairs
    ]
    for limit in (None, 500):
        found = prepare(FilePart(path, "ja"), tokenizer, config, limit)
        assert found.labels == TAGS
        assert found.encoded.words.tolist() == [len(sentence) for sentence in pairs[:limit]]
        assert found.encoded.repairs[3] == sum(repaired[:limit]) > 0
        tags = np.array(TAGS)[found.encoded.labels[found.encoded.labels != IGNORE]]
        begun = sum(tag[0] == "B" for sentence in pairs[:limit] for _, tag in sentence)
        assert np.char.startswith(tags, "B-").sum() == begun + sum(repaired[:limit])
        assert_equal(prepare(FilePart(path, "ja"), tokenizer, config, limit), found)
    assert work == ["read", "encode"] * 2


TAGGED = st.lists(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
            st.sampled_from(["O", "B-PER", "B-ZEBRA", "B-LOC", "B-DATE"]),
        ),
        min_size=1,
    ).map(lambda pairs: Sentence([word for word, _ in pairs], [tag for _, tag in pairs])),
    min_size=1,
    max_size=6,
)


@given(TAGGED, TAGGED)
def test_any_text(letters: Any, a: list[Sentence], b: list[Sentence]) -> None:
    """One cache for all of it."""
    for corpus in (a, b, a):
        assert_is(prepare(ListPart("here", corpus), letters), corpus, letters, 8)


@pytest.mark.parametrize("subsample", [None, 0, 1])
@pytest.mark.parametrize("limit", [None, 1, 2, 9])
def test_limit_and_subsample(letters: Any, limit: int | None, subsample: int | None) -> None:
    config = dataclasses.replace(CONFIG, subsample=subsample)
    expected = list(take(CORPUS, limit, subsample))
    for _ in range(2):
        assert_is(prepare(ListPart("x", CORPUS), letters, config, limit), expected, letters, 8)


@pytest.mark.parametrize("remember", [True, False])
def test_long_words_and_sentences(letters: Any, remember: bool) -> None:
    corpus = [
        Sentence(["a" * 10_000, "b"], ["B-PER", "O"]),
        Sentence([*"ab" * 2500], [*(["B-LOC"] + ["I-LOC"] * 4999)]),
    ]
    for _ in range(2):
        found = prepare(ListPart("x", corpus), letters, remember=remember)
        assert_is(found, corpus, letters, 8)
        assert found.encoded.words.tolist() == [2, 5000]
        # A word of more than 100 letters is the unknown piece to a WordPiece tokenizer.
        assert found.encoded.lengths.tolist() == [4, *[8] * 833, 4]
        assert found.encoded.repairs.tolist() == [0, 0, 1, 0]


def test_a_long_word_of_a_real_tokenizer(shared: Path) -> None:
    tokenizer = tokenization.load_tokenizer(shared / "models" / "e5-small-39")
    words = ["".join(chr(97 + i * i % 26) for i in range(10_000)), "b"]
    found = of([(words, ["B-PER", "O"])], tokenizer)
    assert found.encoded.repairs.tolist() == [0, 1, 1, 0]
    assert found.encoded.lengths.tolist() == [8, 3]
    assert (found.encoded.labels != IGNORE).sum() == 2


@pytest.mark.parametrize("part", [FilePart(Path("a.tsv"), "xx"), ListPart("the list", [])])
def test_a_part_without_a_sentence(
    letters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    file(tmp_path / "a.tsv", "\n\n")
    full = ListPart("full", CORPUS)
    for remember in (True, True, False):
        with pytest.raises(UserError, match="^data: .*(a.tsv|the list).* holds no sentence$"):
            preparation.prepare({"en": full, "xx": part}, letters, CONFIG, None, remember=remember)


def test_progress(letters: Any) -> None:
    parts = {code: ListPart(code, CORPUS[:i]) for i, code in enumerate(("en", "de", "sw"), 1)}
    prepare(parts["sw"], letters)  # is found in the cache, and first
    seen: list[tuple[int, int]] = []
    found = preparation.prepare(parts, letters, CONFIG, None, lambda *done: seen.append(done))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert list(found) == ["en", "de", "sw"]
    assert [len(part.encoded.words) for part in found.values()] == [1, 2, 3]


# ---- blocks


LATE = [*CORPUS, Sentence(["f", "g"], ["B-ART", "I-ART"]), Sentence(["h"], ["B-ZOO"]), *CORPUS]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 8, 9])
def test_blocks(letters: Any, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Also where a type first occurs in a later one, and comes first in the order of labels."""
    expected = prepare(ListPart("x", LATE), letters, remember=False)
    monkeypatch.setattr(preparation, "BLOCK", block)
    found = prepare(ListPart("x", LATE), letters, remember=False)
    assert_is(found, LATE, letters, 8)
    assert_equal(found, expected)
    assert found.encoded.repairs[:3].tolist() == [2, 2, 2]
    types = ("PER", "LOC", "ART", "ZOO")
    assert found.labels == ("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))


# ---- the cache


def test_whatever_decides_the_result_changes_the_key(
    letters: Any, tmp_path: Path, work: list[str], cache_directory: Path
) -> None:
    def clone(**changes: str) -> Any:
        names = ("pad", "unk", "cls", "sep", "mask")
        special = {f"{name}_token": f"[{name.upper()}]" for name in names} | changes
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=letters.backend_tokenizer, **special
        )

    first = file(tmp_path / "a.tsv")
    moved = TEXT.replace("I-PER\n\u200d\tO\n\n", "I-PER\n\n\u200d\tO\n")
    prefixed = file(tmp_path / "p.tsv", "en:a\tO\nen:b\tB-PER\n")
    train = tokenization.train_tokenizer
    seeds = [dataclasses.replace(CONFIG, subsample=seed) for seed in (0, 1)]
    cases: list[tuple[FilePart, Any, DataConfig, int | None]] = [
        (first, letters, CONFIG, None),
        (file(tmp_path / "b.tsv", TEXT.replace("e\t", "f\t")), letters, CONFIG, None),
        (file(tmp_path / "c.tsv", TEXT.replace("LOC", "DATE")), letters, CONFIG, None),
        (file(tmp_path / "d.tsv", moved), letters, CONFIG, None),
        (first, letters, dataclasses.replace(CONFIG, length=9), None),
        (first, letters, CONFIG, 1),
        (first, letters, CONFIG, 2),
        (first, letters, seeds[0], 1),
        (first, letters, seeds[1], 1),
        (first, clone(sep_token="[MASK]"), CONFIG, None),
        (first, clone(cls_token="[MASK]"), CONFIG, None),
        (first, clone(unk_token="[MASK]"), CONFIG, None),
        (first, train(["ada", "b"], 20), CONFIG, None),
        (first, train(["b", "d"], 20), CONFIG, None),
        (prefixed, letters, CONFIG, None),
        (dataclasses.replace(prefixed, language="de"), letters, CONFIG, None),
    ]
    for _ in range(2):
        for part, tokenizer, config, limit in cases:
            corpus = list(take(part.open(), limit, config.subsample))
            work.clear()
            assert_is(prepare(part, tokenizer, config, limit), corpus, tokenizer, config.length)
        assert len(list(cache_directory.iterdir())) == len(cases)
    assert not work


def test_the_version_changes_the_key(
    letters: Any, monkeypatch: pytest.MonkeyPatch, work: list[str]
) -> None:
    prepare(ListPart("x", CORPUS), letters)
    monkeypatch.setattr(preparation, "VERSION", "next")
    prepare(ListPart("x", CORPUS), letters)
    assert work == ["encode"] * 2


def test_what_does_not_decide_the_result(letters: Any, tmp_path: Path, work: list[str]) -> None:
    prepare(file(tmp_path / "a.tsv"), letters)
    prepare(file(tmp_path / "copy.tsv"), letters, dataclasses.replace(CONFIG, processes=None))
    assert work == ["read", "encode"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone", "another"])
def test_a_damaged_file_is_made_anew(
    letters: Any, work: list[str], cache_directory: Path, damage: str
) -> None:
    part = ListPart("x", CORPUS)
    expected = prepare(part, letters)
    (path,) = cache_directory.iterdir()
    whole = path.read_bytes()
    changed = {
        "cut": whole[:-1],
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "empty": b"",
        "another": b"?" * 999,
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    assert_equal(prepare(part, letters), expected)
    assert_equal(prepare(part, letters), expected)
    assert work == ["encode"] * 2


def test_where_the_cache_is(letters: Any, tmp_path: Path, cache_directory: Path) -> None:
    part = ListPart("x", CORPUS)
    prepare(part, letters, remember=False)
    assert not list(cache_directory.iterdir())
    config = dataclasses.replace(CONFIG, cache=str(tmp_path / "given" / "one"))
    prepare(part, letters, config, remember=False)
    assert not (tmp_path / "given").exists()
    prepare(part, letters, config)
    (path,) = (tmp_path / "given" / "one").iterdir()
    assert path.suffix == ".safetensors"
    assert not list(cache_directory.iterdir())


def test_a_cache_that_cannot_be_written(letters: Any, tmp_path: Path, work: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    config = dataclasses.replace(CONFIG, cache=str(tmp_path / "file" / "below"))
    for _ in range(2):
        assert_is(prepare(ListPart("x", CORPUS), letters, config), CORPUS, letters, 8)
    assert work == ["encode"] * 2


# ---- processes


# Waits for a word on its input, so that both processes are at it together.
PREPARE = """
import pickle, sys
from sparsejax.data import preparation
with open(sys.argv[1], "rb") as file:
    arguments = pickle.load(file)
print("ready", flush=True)
input()
found = preparation.prepare(*arguments)
with open(sys.argv[2], "wb") as file:
    pickle.dump(found, file)
"""


def test_two_processes_at_once(letters: Any, tmp_path: Path, cache_directory: Path) -> None:
    corpora = [[Sentence(["a" * (i % 5 + 1), "b"] * i, ["O", "B-PER"] * i)] * 3 for i in range(101)]
    parts = {str(i): ListPart("", corpora[i]) for i in range(1, 101)}
    arguments = (parts, tokenization.pieces_of(letters), CONFIG, None)
    (tmp_path / "arguments").write_bytes(pickle.dumps(arguments))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE, str(tmp_path / "arguments"), str(tmp_path / name)],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    files = list(cache_directory.iterdir())
    assert len(files) == 100 and all(
        preparation._read(path, str(path)) is not None for path in files
    )
    expected = preparation.prepare(*arguments, remember=False)
    found = [pickle.loads((tmp_path / name).read_bytes()) for name in "ab"]
    for prepared in (*found, preparation.prepare(*arguments)):
        for code, part in expected.items():
            assert_equal(prepared[code], part)
    assert len(list(cache_directory.iterdir())) == 100  # the keys are the same in every process


def test_several_processes(
    letters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: list[str]
) -> None:
    parts: dict[str, sources.Part] = {
        "en": file(tmp_path / "en.tsv"),
        "de": file(tmp_path / "de.tsv", TEXT + "\nf\tB-DATE\ng\tI-PER\n"),
        "x": ListPart("x", LATE),
    }
    expected = preparation.prepare(parts, letters, CONFIG, None, remember=False)
    monkeypatch.setattr(preparation, "SERIAL", 0)
    config = dataclasses.replace(CONFIG, processes=2)
    work.clear()
    seen: list[tuple[int, int]] = []
    for _ in range(2):  # made by others, and found
        found = preparation.prepare(parts, letters, config, None, lambda *done: seen.append(done))
        assert list(found) == list(parts)
        for code, part in found.items():
            assert_equal(part, expected[code])
    assert not work
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2
    parts["bad"] = file(tmp_path / "bad.tsv", "a\tO\n\nb O\n")
    parts["more"] = ListPart("x", LATE[:2])
    with pytest.raises(UserError, match=f"^{tmp_path / 'bad.tsv'}:3: 'b O' is not 2 columns"):
        preparation.prepare(parts, letters, config, None)


def test_a_process_that_is_killed(letters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel does where memory is short."""
    monkeypatch.setattr(preparation, "SERIAL", 0)
    deadly: Any = types.SimpleNamespace(open=functools.partial(os._exit, 9))
    parts = {"en": deadly, "de": ListPart("x", CORPUS)}
    config = dataclasses.replace(CONFIG, processes=2)
    with pytest.raises(UserError, match=r"^data\.processes: .*pass --data\.processes 1$"):
        preparation.prepare(parts, letters, config, None, remember=False)


# ---- labels


def test_labels_are_in_one_order_whatever_that_of_the_data(letters: Any) -> None:
    kinds = ["MISC", "LOC", "DATE", "PER", "ORG"]
    expected = [f"{p}-{kind}" for kind in ("PER", "ORG", "LOC", "DATE", "MISC") for p in "BI"]
    for order in itertools.permutations(kinds):
        tags = [f"B-{kind}" for kind in order]
        found = of([(["a"] * 5, tags), (["b"] * 2, [tags[0], f"I-{order[0]}"])], letters)
        assert found.labels == ("O", *expected)
        ids = found.encoded.labels[found.encoded.labels != IGNORE]
        assert [found.labels[i] for i in ids] == [*tags, tags[0], f"I-{order[0]}"]
    assert of([(["a"], ["O"])], letters).labels == ("O",)


def names(part: Prepared) -> list[str]:
    return [part.labels[i] for i in part.encoded.labels if i != IGNORE]


def test_label_set(letters: Any) -> None:
    parts = {
        "en": of([(["a", "b"], ["B-DATE", "B-LOC"])], letters),
        "de": of([(["a"], ["O"])], letters),
        "sw": of([(["a", "b"], ["B-PER", "B-ART"])], letters),
    }
    expected = ("PER", "LOC", "ART", "DATE")
    for order in itertools.permutations(parts):
        found = preparation.label_set({code: parts[code] for code in order})
        assert found == ("O", *(f"{p}-{kind}" for kind in expected for p in "BI"))
    assert preparation.label_set({"de": parts["de"]}) == ("O",)


def test_relabelled(letters: Any) -> None:
    parts = {"en": of(CORPUS, letters), "x": of(LATE, letters), "o": of([(["a"], ["O"])], letters)}
    shuffled = ("I-ZOO", "I-LOC", "B-ART", "O", "B-X", "B-PER", "B-LOC", "I-PER", "I-ART", "B-ZOO")
    for labels in (preparation.label_set(parts), [*shuffled, "I-X"], shuffled):
        found = preparation.relabelled(parts, labels)
        assert list(found) == list(parts)
        for code, part in parts.items():
            assert found[code].labels == tuple(labels)
            assert names(found[code]) == names(part)
            encoded = found[code].encoded
            assert encoded.labels.dtype == np.int32
            np.testing.assert_array_equal(encoded.labels == IGNORE, part.encoded.labels == IGNORE)
            same = dataclasses.replace(found[code], labels=part.labels, encoded=part.encoded)
            assert_equal(same, part)
            assert encoded.tokens is part.encoded.tokens
    assert parts["en"].labels == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")  # as it was


def test_relabelled_without_a_type(letters: Any, tmp_path: Path) -> None:
    parts = {
        "en": prepare(file(tmp_path / "en.tsv"), letters),
        "de": prepare(file(tmp_path / "de.tsv", "a\tO\nb\tB-MISC\n"), letters),
    }
    for _ in range(2):
        with pytest.raises(UserError) as error:
            preparation.relabelled(parts, TAGS)
        assert str(error.value) == (
            f"{tmp_path / 'de.tsv'}:2: entities of type 'MISC', which the model does not know; "
            f"its tags are {' '.join(TAGS)}"
        )
        parts["de"] = prepare(FilePart(tmp_path / "de.tsv", "en"), letters)  # from the cache
    with pytest.raises(UserError, match="'PER'"):
        preparation.relabelled({"en": parts["en"]}, ("O", "B-LOC", "I-LOC"))


# ---- notes


def test_repair_notes(letters: Any) -> None:
    def counted(*repairs: int) -> Prepared:
        part = of(CORPUS, letters)
        encoded = dataclasses.replace(part.encoded, repairs=np.array(repairs))
        return dataclasses.replace(part, encoded=encoded)

    assert preparation.repair_notes({"en": counted(0, 0, 0, 0)}) == []
    parts = {code: counted(0, 0, i, 1000 * (i == 3)) for i, code in enumerate("abcdefg")}
    assert preparation.repair_notes(parts) == [
        "21 sentences longer than a row were split between words "
        "(g 6, f 5, e 4, d 3, c 2 and 1 more languages)",
        "1,000 I- tags that continued no entity became B- (d 1,000)",
    ]
    assert preparation.repair_notes({"en": of(CORPUS, letters)}) == [
        "1 words without a piece became the unknown piece (en 1)",
        "1 words with more pieces than a row were shortened (en 1)",
        "1 sentences longer than a row were split between words (en 1)",
    ]


def test_repaired_tags_are_counted(letters: Any) -> None:
    corpus = [(["a", "b", "c"], ["I-PER", "O", "I-LOC"]), (["d", "e"], ["B-PER", "I-LOC"])]
    corpus += [(["f", "g"], ["B-PER", "I-PER"])]
    found = of(corpus, letters)
    assert found.encoded.repairs.tolist() == [0, 0, 0, 3]
    assert names(found) == ["B-PER", "O", "B-LOC", "B-PER", "B-LOC", "B-PER", "I-PER"]
    assert len(found.entity_keys) == 5
