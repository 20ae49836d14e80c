"""A model directory that is no tagger is refused; a tagger tags as Hugging Face's own class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wikiann import TAGS

from sparsejax.config import DataConfig
from sparsejax.data import preparation, sources
from sparsejax.data.sentences import Sentence
from sparsejax.errors import UserError
from sparsejax.models import bert, huggingface
from sparsejax.ner import saved

SENTENCES = [Sentence(["abc", "d", "efg"], ["O"] * 3), Sentence(["hi", "jklm"], ["O"] * 2)]


@pytest.fixture
def model(tmp_path: Path, letters: Any) -> Path:
    import jax

    shape = bert.BertConfig(
        vocab_size=57,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        initializer_range=0.9,
        num_labels=7,
    )
    huggingface.save(tmp_path, bert.init(shape, jax.random.key(0)), shape, TAGS, letters)
    return tmp_path


def test_as_hugging_face(model: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tagger = saved.load(model, "float32")
    assert (tagger.labels, tagger.positions) == (TAGS, 16)
    parts: dict[str, sources.Part] = {"en": sources.ListPart("en", SENTENCES)}
    prepared = preparation.prepare(
        parts, tagger.tokenizer, DataConfig(length=16), None, remember=False
    )
    ids, confidence = tagger.tag(preparation.relabelled(prepared, TAGS), 16)["en"]

    theirs = transformers.AutoModelForTokenClassification.from_pretrained(model).eval()
    expected = []
    for words, _ in SENTENCES:
        encoding = tagger.tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            probabilities = theirs(**encoding).logits[0].softmax(-1)
        word_ids = encoding.word_ids()
        expected += [probabilities[word_ids.index(i)] for i in range(len(words))]
    together = torch.stack(expected).numpy()
    np.testing.assert_array_equal(ids, together.argmax(-1))
    np.testing.assert_allclose(confidence, together.max(-1), rtol=1e-4)


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        {"0": "LABEL_0", "1": "LABEL_1"},
        {"0": "O", "2": "B-PER"},
        ["O", "B-PER"],
        {"0": 1},
    ],
)
def test_a_model_that_is_no_tagger(model: Path, labels: Any) -> None:
    raw = json.loads((model / "config.json").read_text())
    del raw["id2label"]
    (model / "config.json").write_text(
        json.dumps(raw | ({} if labels is None else {"id2label": labels}))
    )
    with pytest.raises(UserError) as caught:
        saved.load(model, "float32")
    assert str(caught.value).startswith(f"{model}: config.json has no IOB2 tags in id2label")
