"""A model that answers with the gold labels gives back the gold tags, wherever they were packed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsejax.data import sources, tokenization
from sparsejax.data.sources import TAGS, Sentence
from sparsejax.ner import tagging

PAD = 0


class Oracle:
    """`predict` of a perfect model, which remembers the batches that it saw."""

    def __init__(self) -> None:
        self.batches: list[Mapping[str, np.ndarray]] = []

    def __call__(self, params: Any, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        assert params == "the parameters"
        self.batches.append(batch)
        # Anything but an answer where there is no first piece of a word.
        return np.where(batch["labels"] < 0, 10**6, batch["labels"])


def tag(
    corpus: Mapping[str, list[Sentence]], tokenizer: Any, length: int
) -> tuple[dict[str, list[list[str]]], Oracle]:
    oracle = Oracle()
    parts = {c: tokenization.encode(part, tokenizer, length) for c, part in corpus.items()}
    return tagging.tag(oracle, "the parameters", parts, length, PAD), oracle


def gold(corpus: Mapping[str, list[Sentence]]) -> dict[str, list[list[str]]]:
    return {code: [sentence.tags for sentence in part] for code, part in corpus.items()}


@pytest.mark.parametrize("limit", [3, 150])
def test_real_sentences(shared: Path, limit: int) -> None:
    """Japanese and Chinese ones are longer than a row; then less than one batch, and several."""
    tokenizer = tokenization.load_tokenizer(shared / "models" / "e5-small-39")
    codes = ("ja", "en", "zh", "yo", "ar")
    path = shared / "data" / "panx"
    corpus = {code: sources.read_tsv(path / code / "dev.tsv", limit) for code in codes}
    found, oracle = tag(corpus, tokenizer, 64)
    assert found == gold(corpus)
    assert list(found) == list(codes)
    rows = [int(batch["segments"].any(axis=1).sum()) for batch in oracle.batches]
    assert {batch["tokens"].shape for batch in oracle.batches} == {
        (min(tagging.MAX_ROWS, sum(rows)), 64)
    }
    if limit == 3:
        assert len(rows) == 1
    else:
        assert len(rows) > 2 and 0 < rows[-1] < tagging.MAX_ROWS


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


@pytest.mark.parametrize("rows", [1, tagging.MAX_ROWS, tagging.MAX_ROWS + 1, 3 * tagging.MAX_ROWS])
def test_numbers_of_rows(letters: Any, rows: int) -> None:
    """Every word fills a row."""
    part = [Sentence(["a" * 8], [TAGS[i % 7]]) for i in range(rows)]
    found, oracle = tag({"en": part}, letters, 10)
    assert found == gold({"en": part})
    assert len(oracle.batches) == -(-rows // tagging.MAX_ROWS)


def test_one_wrong_label_changes_one_tag(letters: Any) -> None:
    """The second piece of a word has no say, the first one decides."""
    part = {"en": [Sentence(["ab", "cd"], ["O", "O"]), Sentence(["ef"], ["O"])]}
    parts = {code: tokenization.encode(s, letters, 16) for code, s in part.items()}
    first_piece_of_cd = letters.convert_tokens_to_ids("c")
    second_piece_of_ef = letters.convert_tokens_to_ids("##f")

    def predict(_: Any, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        wrong = np.where(batch["tokens"] == first_piece_of_cd, 3, 0)
        return np.where(batch["tokens"] == second_piece_of_ef, 5, wrong)

    found = tagging.tag(predict, None, parts, 16, PAD)
    assert found == {"en": [["O", "B-ORG"], ["O"]]}
