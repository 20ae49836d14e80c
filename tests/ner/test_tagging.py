"""A model that answers with the gold labels gives back the gold tags, wherever they were packed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wikiann
from hypothesis import given
from hypothesis import strategies as st
from wikiann import TAGS

from sparsejax.data import tokenization
from sparsejax.data.sentences import Sentence
from sparsejax.ner import tagging
from sparsejax.runtime import parallel

PAD = 0
LENGTH = 10  # of most rows here
MAX_ROWS = tagging.max_rows(parallel.make_mesh(), LENGTH)


class Oracle:
    """`predict` of a perfect model, which remembers the batches that it saw."""

    def __init__(self) -> None:
        self.batches: list[Mapping[str, np.ndarray]] = []

    def __call__(self, params: Any, batch: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        assert params == "the parameters"
        self.batches.append(batch)
        # Anything but an answer where there is no first piece of a word.
        labels = np.asarray(batch["labels"])
        confidence = np.where(labels < 0, np.nan, np.asarray(batch["tokens"]))
        return np.where(labels < 0, 10**6, labels), confidence


def tag(
    corpus: Mapping[str, list[Sentence]], tokenizer: Any, length: int
) -> tuple[dict[str, list[list[str]]], Oracle]:
    oracle = Oracle()
    parts = {c: tokenization.encode(part, tokenizer, length, TAGS) for c, part in corpus.items()}
    found = tagging.tag(oracle, "the parameters", parts, length, PAD, parallel.make_mesh())
    for code, part in parts.items():
        # The oracle is as confident as the number of the piece, so this tells which piece it saw.
        first = part.tokens[part.labels != tokenization.IGNORE]
        np.testing.assert_array_equal(found[code].confidence, first)
    return {code: names(tagged, corpus[code]) for code, tagged in found.items()}, oracle


def names(tagged: tagging.Tagged, sentences: list[Sentence]) -> list[list[str]]:
    ids = iter(tagged.ids.tolist())
    found = [[TAGS[next(ids)] for _ in sentence.words] for sentence in sentences]
    assert not list(ids)
    return found


def gold(corpus: Mapping[str, list[Sentence]]) -> dict[str, list[list[str]]]:
    return {code: [sentence.tags for sentence in part] for code, part in corpus.items()}


@pytest.mark.parametrize("limit", [3, 150])
def test_real_sentences(shared: Path, limit: int) -> None:
    """Japanese and Chinese ones are longer than a row; then less than one batch, and several."""
    tokenizer = tokenization.load_tokenizer(shared / "models" / "e5-small-39")
    codes = ("ja", "en", "zh", "yo", "ar")
    path = shared / "data" / "panx"
    corpus = {code: wikiann.read(path / code / "dev.tsv", limit) for code in codes}
    found, oracle = tag(corpus, tokenizer, 64)
    assert found == gold(corpus)
    assert list(found) == list(codes)
    rows = [int(batch["segments"].any(axis=1).sum()) for batch in oracle.batches]
    (shape,) = {batch["tokens"].shape for batch in oracle.batches}
    most = tagging.max_rows(parallel.make_mesh(), 64)
    assert shape[1] == 64 and shape[0] <= most
    assert len(rows) * shape[0] - sum(rows) < len(rows)  # hardly any of them is padding
    assert len(rows) == -(-sum(rows) // most) == (1 if limit == 3 else len(rows))


SENTENCE = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(TAGS)), min_size=1, max_size=20
).map(lambda pairs: Sentence(["a" * n or "\u200d" for n, _ in pairs], [t for _, t in pairs]))
CORPUS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.lists(SENTENCE, min_size=1), min_size=1
)


@given(CORPUS)
def test_any_sentences(letters: Any, corpus: dict[str, list[Sentence]]) -> None:
    found, _ = tag(corpus, letters, 10)
    assert found == gold(corpus)


@pytest.mark.parametrize("rows", [1, MAX_ROWS, MAX_ROWS + 1, 3 * MAX_ROWS])
def test_numbers_of_rows(letters: Any, rows: int) -> None:
    """Every word fills a row."""
    part = [Sentence(["a" * 8], [TAGS[i % 7]]) for i in range(rows)]
    found, oracle = tag({"en": part}, letters, LENGTH)
    assert found == gold({"en": part})
    assert len(oracle.batches) == -(-rows // MAX_ROWS)


def test_one_wrong_label_changes_one_tag(letters: Any) -> None:
    """The second piece of a word has no say, the first one decides."""
    part = {"en": [Sentence(["ab", "cd"], ["O", "O"]), Sentence(["ef"], ["O"])]}
    parts = {code: tokenization.encode(s, letters, 16, TAGS) for code, s in part.items()}
    first_piece_of_cd = letters.convert_tokens_to_ids("c")
    second_piece_of_ef = letters.convert_tokens_to_ids("##f")

    def predict(_: Any, batch: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        tokens = np.asarray(batch["tokens"])
        wrong = np.where(tokens == first_piece_of_cd, 3, 0)
        return np.where(tokens == second_piece_of_ef, 5, wrong), np.zeros(tokens.shape)

    found = tagging.tag(predict, None, parts, 16, PAD, parallel.make_mesh())
    assert names(found["en"], part["en"]) == [["O", "B-ORG"], ["O"]]


def test_most_rows_of_a_batch() -> None:
    accelerator = SimpleNamespace(devices=np.array([SimpleNamespace(platform="tpu")]))
    assert [tagging.max_rows(accelerator, length) for length in (16, 128, 512)] == [32] * 3
    here = parallel.make_mesh()
    if here.devices.flat[0].platform == "cpu":
        assert [tagging.max_rows(here, length) for length in (16, 128, 4096)] == [128, 16, 1]


@given(st.integers(1, 5000), st.integers(1, 9), st.sampled_from([2, 16, 32]))
def test_rows_of_a_batch(rows: int, devices: int, most: int) -> None:
    size = tagging.batch_rows(rows, devices, most)
    assert 0 < size <= most * devices and size % devices == 0
    batches = -(-rows // size)
    assert batches == -(-rows // (most * devices))
    if batches > 16:
        assert size == most * devices
    else:
        assert batches * size - rows < batches * devices
