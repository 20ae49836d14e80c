"""Pieces and labels as Hugging Face aligns them, and no word lost where a sentence does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
import wikiann
from hypothesis import given, settings
from hypothesis import strategies as st
from wikiann import TAGS

from sparsejax.data import tokenization
from sparsejax.data.sentences import Sentence
from sparsejax.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
UNK, CLS, SEP = 1, 2, 3  # of the fixture `letters`
IGNORE = -100


def untagged(*words: str) -> Sentence:
    return Sentence(list(words), ["O"] * len(words))


def ids(text: str) -> list[int]:
    """The pieces of a word in the fixture `letters`: 26 first letters, then 26 others."""
    return [ord(c) - ord("a") + 5 + (26 if i else 0) for i, c in enumerate(text)]


# ---- against Hugging Face


@pytest.fixture(scope="module", params=["e5", "mbert"])
def pretrained(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A Unigram tokenizer from a tokenizer.json and a WordPiece one from a vocab.txt."""
    if request.param == "e5":
        return tokenization.load_tokenizer(shared / "models" / "e5-small-39")
    directory = tmp_path_factory.mktemp("mbert")
    (directory / "vocab.txt").symlink_to(shared / "data" / "mbert-vocab.txt")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenization.load_tokenizer(directory)


def assert_as_hugging_face(sentences: list[Sentence], tokenizer: Any) -> tokenization.Encoded:
    """Compares with `tokenizer(words, is_split_into_words=True)`; words without pieces aside."""
    found = tokenization.encode(sentences, tokenizer, 9999, TAGS)
    assert len(found.lengths) == len(sentences)
    ends = np.cumsum(found.lengths)
    for sentence, end, length in zip(sentences, ends, found.lengths, strict=True):
        theirs = tokenizer(sentence.words, is_split_into_words=True)
        pieces = [[] for _ in sentence.words]
        for piece, word in zip(theirs["input_ids"], theirs.word_ids(), strict=True):
            if word is not None:
                pieces[word].append(piece)
        tokens, labels = [tokenizer.cls_token_id], [IGNORE]
        for word, tag in zip(pieces, sentence.tags, strict=True):
            tokens += word or [tokenizer.unk_token_id]
            labels += [TAGS.index(tag)] + [IGNORE] * (len(word) - 1)
        tokens.append(tokenizer.sep_token_id)
        labels.append(IGNORE)
        if all(pieces):
            assert tokens == theirs["input_ids"]
        np.testing.assert_array_equal(found.tokens[end - length : end], tokens)
        np.testing.assert_array_equal(found.labels[end - length : end], labels)
    assert found.words.tolist() == [len(s.words) for s in sentences]
    return found


LANGUAGES = ["en", "de", "ru", "ar", "he", "hi", "my", "ta", "ko", "yo", "ja", "zh"]


@pytest.mark.parametrize("code", LANGUAGES)
def test_pieces_and_labels(shared: Path, pretrained: Any, code: str) -> None:
    sentences = wikiann.read(shared / "data" / "panx" / code / "dev.tsv", 100)
    assert_as_hugging_face(sentences, pretrained)


def test_words_that_lose_all_pieces(shared: Path, pretrained: Any) -> None:
    """BERT removes format characters, such as the zero-width spaces among the tokens of zh."""
    sentences = wikiann.read(shared / "data" / "panx" / "zh" / "train.tsv")
    sentences = [s for s in sentences if "\u200b" in s.words]
    lost = sum(s.words.count("\u200b") for s in sentences)
    assert lost >= 5
    found = assert_as_hugging_face(sentences, pretrained)
    is_bert = pretrained.unk_token == "[UNK]"
    assert found.repairs.tolist() == [lost if is_bert else 0, 0, 0, 0]


# ---- by hand


def test_by_hand(letters: Any) -> None:
    sentences = [
        Sentence(["ab", "x", "cde"], ["B-PER", "O", "B-LOC"]),
        Sentence(["\u200d", "Q"], ["I-ORG", "O"]),
    ]
    found = tokenization.encode(sentences, letters, 16, TAGS)
    first = [CLS, *ids("ab"), *ids("x"), *ids("cde"), SEP]
    assert found.tokens.tolist() == [*first, CLS, UNK, UNK, SEP]
    labels = [IGNORE, 1, IGNORE, 0, 5, IGNORE, IGNORE, IGNORE]
    assert found.labels.tolist() == [*labels, IGNORE, 4, 0, IGNORE]
    assert found.lengths.tolist() == [8, 4]
    assert found.words.tolist() == [3, 2]
    assert found.repairs.tolist() == [1, 0, 0, 0]
    kinds = [getattr(found, name).dtype for name in ("tokens", "labels", "lengths", "words")]
    assert kinds == [np.int32] * 4


def test_special_pieces_are_not_words(letters: Any) -> None:
    """The text "[SEP]" is not the separator of the row that it stands in."""
    found = tokenization.encode([untagged("a", "[SEP]", "b")], letters, 16, TAGS)
    theirs = letters(["a", "[SEP]", "b"], is_split_into_words=True)
    assert found.tokens.tolist() == theirs["input_ids"]
    assert np.count_nonzero(found.labels != IGNORE) == 3


def test_a_word_longer_than_a_row(letters: Any) -> None:
    found = tokenization.encode([untagged("a", "b" * 50, "c")], letters, 8, TAGS)
    assert found.lengths.tolist() == [3, 8, 3]
    long = [CLS, *ids("b" * 6), SEP]
    assert found.tokens.tolist() == [CLS, *ids("a"), SEP, *long, CLS, *ids("c"), SEP]
    assert found.repairs.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("sizes", "chunks"),
    [([6], [8]), ([3, 3], [8]), ([3, 3, 1], [8, 3]), ([5, 2, 4], [7, 8]), ([1] * 13, [8, 8, 3])],
)
def test_where_a_sentence_is_split(letters: Any, sizes: list[int], chunks: list[int]) -> None:
    found = tokenization.encode([untagged(*("a" * size for size in sizes))], letters, 8, TAGS)
    assert found.lengths.tolist() == chunks
    assert found.repairs.tolist() == [0, 0, int(len(chunks) > 1), 0]


TAGGED_WORDS = st.tuples(st.integers(0, 20), st.sampled_from(TAGS))


@settings(max_examples=200)
@given(st.lists(st.lists(TAGGED_WORDS, min_size=1), min_size=1, max_size=5), st.integers(8, 16))
def test_every_word_once_and_in_order(
    letters: Any, corpus: list[list[tuple[int, str]]], length: int
) -> None:
    """Words of any number of pieces; none (a format character) becomes the unknown piece."""
    room = length - 2
    sentences = []
    for part in corpus:
        words = [chr(ord("a") + i % 26) * n or "\u200d" for i, (n, _) in enumerate(part)]
        sentences.append(Sentence(words, [tag for _, tag in part]))
    found = tokenization.encode(sentences, letters, length, TAGS)

    chunks = np.split(found.tokens, np.cumsum(found.lengths)[:-1])
    chunk_labels = np.split(found.labels, np.cumsum(found.lengths)[:-1])
    for chunk, labels in zip(chunks, chunk_labels, strict=True):
        assert 3 <= len(chunk) <= length
        assert (chunk[0], chunk[-1]) == (CLS, SEP)
        assert (labels[0], labels[-1]) == (IGNORE, IGNORE)
        assert labels[1] != IGNORE  # a word begins

    expected = [
        [(ids(word)[:room] if word.isalpha() else [UNK]) for word in sentence.words]
        for sentence in sentences
    ]
    body = [piece for chunk in chunks for piece in chunk[1:-1].tolist()]
    assert body == [piece for words in expected for word in words for piece in word]
    tags = [TAGS[label] for label in found.labels if label != IGNORE]
    assert tags == [tag for sentence in sentences for tag in sentence.tags]
    assert found.words.tolist() == [len(part) for part in corpus]

    # As few chunks as there can be: a word moves to the next one only where it does not fit.
    split = 0
    sizes = []
    for words in expected:
        begin = len(sizes)
        sizes.append(2)
        for word in words:
            if sizes[-1] + len(word) > length:
                sizes.append(2)
            sizes[-1] += len(word)
        split += len(sizes) - begin > 1
    assert found.lengths.tolist() == sizes
    numbers = [n for part in corpus for n, _ in part]
    lost, long = sum(n == 0 for n in numbers), sum(n > room for n in numbers)
    assert found.repairs.tolist() == [lost, long, split, 0]


def test_concatenate(letters: Any) -> None:
    parts = [
        [untagged("ab", "c")],
        [untagged("a" * 9, "b"), untagged("\u200d")],
        [Sentence(["z"], ["I-LOC"])],
    ]
    joined = tokenization.concatenate([tokenization.encode(p, letters, 8, TAGS) for p in parts])
    at_once = tokenization.encode([s for part in parts for s in part], letters, 8, TAGS)
    for name, value in vars(at_once).items():
        np.testing.assert_array_equal(getattr(joined, name), value)
    assert joined.repairs.tolist() == [1, 1, 1, 0]


# ---- loading


def test_load_errors(tmp_path: Path, shared: Path, letters: Any) -> None:
    def message(**files: str | bytes) -> str:
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        for name, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            (directory / name.replace("__", ".")).write_bytes(raw)
        with pytest.raises(UserError) as raised:
            tokenization.load_tokenizer(directory)
        text = str(raised.value)
        assert text.startswith(f"{directory}: ") and "\n" not in text
        return text.removeprefix(f"{directory}: ")

    nothing = "no tokenizer (neither tokenizer.json nor vocab.txt)"
    assert message() == nothing
    assert message(config__json='{"model_type": "bert"}') == nothing

    whole = (shared / "models" / "e5-small-39" / "tokenizer.json").read_bytes()
    bert = '{"tokenizer_class": "BertTokenizer"}'
    for damaged in (b"", b"{", b"[]", b"{}", b"\xff", whole[:-1000], whole[: len(whole) // 2]):
        assert message(tokenizer__json=damaged).startswith("the tokenizer cannot be read (")
        damage = message(tokenizer__json=damaged, tokenizer_config__json=bert)
        assert damage.startswith("the tokenizer cannot be read (")
    damage = message(vocab__txt=b"[UNK]\n\xff\n", tokenizer_config__json=bert)
    assert damage.startswith("the tokenizer cannot be read (")

    raw = letters.backend_tokenizer.to_str()
    some = json.dumps({"cls_token": "[CLS]", "unk_token": "[UNK]", "mask_token": "[MASK]"})
    assert message(tokenizer__json=raw, tokenizer_config__json=some) == (
        "the tokenizer has no pad_token, sep_token"
    )


def test_a_mask_token_is_not_needed(tmp_path: Path, letters: Any) -> None:
    letters.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mask_token": None}))
    assert tokenization.load_tokenizer(tmp_path).mask_token is None


# ---- training

# Letters and pairs of letters whose counts tie, and more letters than a small vocabulary takes.
TIES = [chr(a) + chr(b) + "e" for a in range(0x430, 0x440) for b in range(0x3B1, 0x3C1)]
PRINT_VOCABULARY = f"""
from sparsejax.data.tokenization import train_tokenizer
print(train_tokenizer({TIES!r}, 60).backend_tokenizer.to_str())
"""


def test_training_is_deterministic() -> None:
    """In this process, where hash tables are seeded anew each time, and in others."""
    expected = tokenization.train_tokenizer(TIES, 60).backend_tokenizer.to_str()
    for _ in range(5):
        again = tokenization.train_tokenizer(reversed(TIES), 60)
        assert again.backend_tokenizer.to_str() == expected
    for seed in ("0", "1"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}
        process = subprocess.run(
            [sys.executable, "-c", PRINT_VOCABULARY],
            cwd=REPOSITORY, env=environment, capture_output=True, encoding="utf-8", check=True,
        )  # fmt: skip
        assert process.stdout.strip() == expected


def test_training_merges_what_is_frequent() -> None:
    words = ["hello"] * 50 + ["help"] * 40 + ["Hello"] * 3 + ["shell", "é"]
    tokenizer = tokenization.train_tokenizer(words, 40)
    assert tokenizer.tokenize("hello help") == ["hello", "help"]
    assert tokenizer.tokenize("hell") != ["[UNK]"]
    assert tokenizer.tokenize("Hello")[0].startswith("H")  # cased
    assert tokenizer.tokenize("hello,help") == ["hello", "[UNK]", "help"]  # no comma was there
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.convert_ids_to_tokens(range(5)) == special
    ids = tokenizer("hello")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "hello", "[SEP]"]
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert set(tokenizer.all_special_tokens) == set(special)


def test_training_counts_repetitions() -> None:
    once = tokenization.train_tokenizer(["ab", "cd"] + ["ab"] * 9, 12).get_vocab()
    assert "ab" in once and "cd" not in once
    once = tokenization.train_tokenizer(["ab", "cd"] + ["cd"] * 9, 12).get_vocab()
    assert "cd" in once and "ab" not in once


@pytest.mark.parametrize("size", [6, 7, 8, 20, 61, 200, 4000])
def test_training_keeps_to_the_size(size: int) -> None:
    tokenizer = tokenization.train_tokenizer(TIES, size)
    assert 5 <= len(tokenizer) <= size
    if size >= 200:  # room for all the letters
        assert "[UNK]" not in tokenizer.tokenize(" ".join(TIES))


@pytest.mark.parametrize("words", [[], ["\u200d"], ["", " "]])
def test_training_on_nothing(words: list[str]) -> None:
    tokenizer = tokenization.train_tokenizer(words, 100)
    assert len(tokenizer) == 5
    assert tokenization.encode([untagged("a")], tokenizer, 8, TAGS).tokens.tolist() == [2, 0, 3]


@pytest.fixture(scope="module")
def corpus(shared: Path) -> list[Sentence]:
    path = shared / "data" / "panx"
    return [s for c in ("en", "ru", "zh", "yo") for s in wikiann.read(path / c / "dev.tsv", 99)]


def test_a_trained_tokenizer_is_bert_s(corpus: list[Sentence], tmp_path: Path) -> None:
    """Given only the vocabulary, BERT's own tokenizer does the same, on text and on words."""
    tokenizer = tokenization.train_tokenizer((w for s in corpus for w in s.words), 1000)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    bert = transformers.BertTokenizer.from_pretrained(tmp_path, do_lower_case=False)
    for text in ("Ẹ̀kọ́ naïve\u200d 中国 isn't", *(" ".join(s.words) for s in corpus)):
        assert tokenizer(text)["input_ids"] == bert(text)["input_ids"]
    np.testing.assert_array_equal(
        tokenization.encode(corpus, tokenizer, 64, TAGS).tokens,
        tokenization.encode(corpus, bert, 64, TAGS).tokens,
    )


def test_a_trained_tokenizer_saved_and_loaded(corpus: list[Sentence], tmp_path: Path) -> None:
    tokenizer = tokenization.train_tokenizer((w for s in corpus for w in s.words), 1000)
    tokenizer.save_pretrained(tmp_path)
    expected = tokenization.encode(corpus, tokenizer, 9999, TAGS)
    by_auto = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for loaded in (tokenization.load_tokenizer(tmp_path), by_auto):
        assert loaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
        found = assert_as_hugging_face(corpus, loaded)
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_array_equal(found.labels, expected.labels)
    assert np.mean(expected.tokens == tokenizer.unk_token_id) < 0.05
