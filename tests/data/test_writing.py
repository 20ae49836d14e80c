"""What is written is read again as it was; what cannot be, is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsejax.data.readers import Reader
from sparsejax.data.sentences import Sentence
from sparsejax.data.writing import side_by_side, write_tsv

SENTENCES = [
    Sentence(["Ada", "Lovelace", "wrote"], ["B-PER", "I-PER", "O"]),
    Sentence(["Ìbílẹ̀"], ["B-LOC"]),
    Sentence(["no", "one"], ["O", "O"]),
]


def test_format(tmp_path: Path) -> None:
    write_tsv(tmp_path / "a.tsv", SENTENCES)
    assert (tmp_path / "a.tsv").read_bytes() == (
        "Ada\tB-PER\nLovelace\tI-PER\nwrote\tO\n\nÌbílẹ̀\tB-LOC\n\nno\tO\none\tO\n"
    ).encode()
    write_tsv(tmp_path / "a.tsv", iter(SENTENCES[1:2]))
    assert (tmp_path / "a.tsv").read_text("utf-8") == "Ìbílẹ̀\tB-LOC\n"
    write_tsv(tmp_path / "a.tsv", [])
    assert (tmp_path / "a.tsv").read_bytes() == b""
    assert os.listdir(tmp_path) == ["a.tsv"]


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n"), min_size=1)
ODD = st.sampled_from(["\ufeff", "\ufeffa", "\r", "a\r", " ", "\u2028", "\x85", "\x0b", "#", "O"])
TAGGED = st.tuples(WORDS | ODD, st.sampled_from(["O", "B-PER", "B-LOC"]))


@given(st.lists(st.lists(TAGGED, min_size=1, max_size=4), max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, pairs: list) -> None:
    sentences = [Sentence([w for w, _ in pair], [t for _, t in pair]) for pair in pairs]
    path = tmp_path_factory.getbasetemp() / "a.tsv"
    write_tsv(path, sentences)
    assert list(Reader(path)) == sentences


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (["a", "b\tc"], ["O", "O"], r"sentence 4: 'b\\tc' cannot"),
        (["a", "b\nc"], ["O", "O"], r"sentence 4: 'b\\nc' cannot"),
        (["a", "\0"], ["O", "O"], r"sentence 4: '\\x00' cannot"),
        (["a", "\udc80"], ["O", "O"], r"sentence 4: '\\udc80' cannot"),
        (["a", ""], ["O", "O"], "sentence 4: '' cannot"),
        (["-DOCSTART-"], ["O"], "sentence 4: '-DOCSTART-' cannot"),
        (["a", "b"], ["O", ""], "sentence 4: '' cannot"),
        (["a", "b"], ["O", "O\n"], r"sentence 4: 'O\\n' cannot"),
        (["a", "b"], ["O"], "sentence 4: 2 words and 1 tags"),
        ([], [], "sentence 4: 0 words and 0 tags"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, words: list[str], tags: list[str], message: str
) -> None:
    """The file that was there stays whole, and nothing else is left behind."""
    path = tmp_path / "a.tsv"
    path.write_text("before")
    with pytest.raises(ValueError, match=message):
        write_tsv(path, [*SENTENCES, Sentence(words, tags)])
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.tsv"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").mkdir()
    with pytest.raises(OSError):
        write_tsv(tmp_path / "a.tsv", SENTENCES)
    assert os.listdir(tmp_path) == ["a.tsv"]
    with pytest.raises(FileNotFoundError):
        write_tsv(tmp_path / "no" / "a.tsv", SENTENCES)


def test_the_file_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays until what is to come lies complete beside it."""
    path = tmp_path / "a.tsv"
    path.write_text("before")

    def fail(source: Path, target: Path) -> None:
        assert (path.read_text(), target) == ("before", path)
        assert list(Reader(source)) == SENTENCES
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tsv(path, SENTENCES)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.tsv"]


def test_side_by_side() -> None:
    after = [
        Sentence(["Grace", "wrote"], ["B-PER", "O"]),
        SENTENCES[1],
        Sentence(["New", "York", "Kano"], ["B-LOC", "I-LOC", "B-PER"]),
    ]
    assert list(side_by_side(SENTENCES, after)) == [
        "     1  [PER Ada Lovelace] wrote",
        "        [PER Grace] wrote",
        "",
        "     3  no one",
        "        [LOC New York] [PER Kano]",
        "",
    ]
    assert list(side_by_side(SENTENCES, SENTENCES)) == []
    with pytest.raises(ValueError):
        list(side_by_side(SENTENCES, after[:2]))
