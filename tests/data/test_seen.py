"""What a run was trained on, saved and read again."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sparsejax.data import cache, seen
from sparsejax.data.preparation import Prepared
from sparsejax.data.sentences import key
from sparsejax.data.tokenization import Encoded
from sparsejax.errors import UserError

KEYS = st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1), max_size=8)


def part(sentences: list[int], entities: list[int]) -> Prepared:
    """Keys, and nothing of what else there is."""
    nothing = np.zeros(0, np.int32)
    return Prepared(
        encoded=Encoded(nothing, nothing, nothing, nothing, np.zeros(4, np.int64)),
        labels=("O",),
        sentence_keys=np.array(sentences, np.uint64),
        entity_keys=np.array(entities, np.uint64),
        first_seen={},
    )


@given(st.lists(st.tuples(KEYS, KEYS), min_size=1, max_size=4))
def test_seen(tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[list[int], ...]]) -> None:
    known = seen.seen({str(i): part(*both) for i, both in enumerate(keys)})
    path = tmp_path_factory.getbasetemp() / "seen.safetensors"
    seen.save(known, path)
    for found in (known, seen.load(path)):
        for name, lists in zip(found._fields, zip(*keys, strict=True), strict=True):
            array = getattr(found, name)
            assert array.dtype == np.uint64
            assert array.tolist() == sorted(set(itertools.chain.from_iterable(lists)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "seen.safetensors"
    sentences, entities = [["Ada", "wrote"], ["no", "one"]], [["Ada"]]
    keys = ([key(words) for words in lists] for lists in (sentences, entities))
    seen.save(seen.seen({"en": part(*keys)}), path)
    return path


def test_the_file(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]  # no temporary file
    found = seen.load(path)
    assert set(found.sentences.tolist()) == {key(["Ada", "wrote"]), key(["no", "one"])}
    assert found.entities.tolist() == [key(["Ada"])]


def assert_damaged(path: Path) -> None:
    with pytest.raises(UserError) as raised:
        seen.load(path)
    expected = f"{path}: missing or damaged; it says what the run was trained on"
    assert str(raised.value) == expected


def test_damaged_files(path: Path) -> None:
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 4
    for content in (b"", whole[:-1], bytes(flipped), b"?" * 99):
        path.write_bytes(content)
        assert_damaged(path)
    path.unlink()
    assert_damaged(path)
    path.mkdir()
    assert_damaged(path)
    assert_damaged(path.parent / "no" / "seen.safetensors")


def test_another_file(path: Path) -> None:
    keys = np.arange(3, dtype=np.uint64)
    save_file({"sentences": keys, "entities": keys}, path)
    assert_damaged(path)
    for arrays in ({}, {"sentences": keys}, {"sentences": keys, "entities": keys, "more": keys}):
        cache.write_whole(path, arrays, "")
        assert_damaged(path)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """Unlike the cache, this is missed: it is an error."""
    known = seen.seen({"en": part([1], [])})
    with pytest.raises(Exception, match="(?i)no such file"):
        seen.save(known, tmp_path / "no" / "seen.safetensors")


@given(KEYS, KEYS)
def test_among(keys: list[int], known: list[int]) -> None:
    found = seen.among(np.array(keys, np.uint64), np.unique(np.array(known, np.uint64)))
    assert found.tolist() == [one in known for one in keys]
