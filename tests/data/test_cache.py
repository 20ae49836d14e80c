"""The cache gives what tokenising would give, whatever happened to its files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import save_file

from sparsejax.data import cache, tokenization
from sparsejax.data.sources import TAGS, Sentence
from sparsejax.data.tokenization import Encoded

REPOSITORY = Path(__file__).resolve().parents[2]
SENTENCES = [
    Sentence(["ada", "b", "\u200d"], ["B-PER", "I-PER", "O"]),
    Sentence(["c" * 20, "d"], ["O", "B-LOC"]),
]
CORPUS = st.lists(
    st.lists(st.tuples(st.text(min_size=1), st.sampled_from(TAGS)), min_size=1).map(
        lambda pairs: Sentence([word for word, _ in pairs], [tag for _, tag in pairs])
    ),
    min_size=1,
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of sentences that were tokenised."""
    numbers: list[int] = []

    def counting(sentences: Sequence[Sentence], *rest: Any) -> Encoded:
        numbers.append(len(sentences))
        return tokenization.encode(sentences, *rest)

    monkeypatch.setattr(cache, "encode", counting)
    return numbers


def assert_equal(found: Encoded, expected: Encoded) -> None:
    for name, value in vars(expected).items():
        array = getattr(found, name)
        assert (array.dtype, array.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(array, value)


@pytest.fixture
def cached(letters: Any, tmp_path: Path) -> tuple[Callable[..., Encoded], Path, Encoded]:
    """An encoder, the one file of its cache, and what it gives."""
    encode = cache.encoder(letters, 8, str(tmp_path))
    first = encode(SENTENCES)
    (file,) = tmp_path.iterdir()
    return encode, file, first


def test_the_second_time_is_read(letters: Any, tmp_path: Path, calls: list[int]) -> None:
    expected = tokenization.encode(SENTENCES, letters, 8)
    assert expected.repairs.tolist() == [1, 1, 1]
    for _ in range(2):  # a new encoder, as in a new run
        encode = cache.encoder(letters, 8, str(tmp_path))
        for _ in range(2):
            assert_equal(encode(SENTENCES), expected)
    assert calls == [2]
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".safetensors"  # and no temporary file


def test_whatever_decides_the_result_changes_the_key(
    letters: Any, tmp_path: Path, calls: list[int]
) -> None:
    def clone(**changes: str) -> Any:
        names = ("pad", "unk", "cls", "sep", "mask")
        special = {f"{name}_token": f"[{name.upper()}]" for name in names} | changes
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=letters.backend_tokenizer, **special
        )

    (words, tags), second = SENTENCES
    cases: list[tuple[Any, int, list[Sentence]]] = [
        (letters, 8, SENTENCES),
        (letters, 9, SENTENCES),
        (clone(sep_token="[MASK]"), 8, SENTENCES),
        (clone(cls_token="[MASK]"), 8, SENTENCES),
        (clone(unk_token="[MASK]"), 8, SENTENCES),
        (tokenization.train_tokenizer(["ada", "b"], 20), 8, SENTENCES),
        (tokenization.train_tokenizer(["b", "d"], 20), 8, SENTENCES),
        (letters, 8, [second, SENTENCES[0]]),
        (letters, 8, [second]),
        (letters, 8, [*SENTENCES, second]),
        (letters, 8, [Sentence(words, [*tags[:-1], "I-PER"]), second]),
        (letters, 8, [Sentence(["adb", *words[1:]], tags), second]),
        (letters, 8, [Sentence([*words, *second.words], [*tags, *second.tags])]),
        # Characters that could be taken for the end of a word.
        (letters, 8, [Sentence(["a\tb", "c"], ["O", "O"])]),
        (letters, 8, [Sentence(["a", "b\tc"], ["O", "O"])]),
        (letters, 8, [Sentence(['a", "b', "c"], ["O", "O"])]),
        (letters, 8, [Sentence(["a", 'b", "c'], ["O", "O"])]),
    ]
    for _ in range(2):
        for tokenizer, length, sentences in cases:
            found = cache.encoder(tokenizer, length, str(tmp_path))(sentences)
            assert_equal(found, tokenization.encode(sentences, tokenizer, length))
    assert calls == [len(sentences) for _, _, sentences in cases]
    assert len(list(tmp_path.iterdir())) == len(cases)


@given(CORPUS, CORPUS)
def test_any_text(
    letters: Any, tmp_path_factory: Any, a: list[Sentence], b: list[Sentence]
) -> None:
    directory = str(tmp_path_factory.getbasetemp() / "any")
    encode = cache.encoder(letters, 8, directory)
    for corpus in (a, b, a):
        assert_equal(encode(corpus), tokenization.encode(corpus, letters, 8))


# ---- damage


def test_truncated_files(cached: Any, calls: list[int]) -> None:
    encode, file, first = cached
    whole = file.read_bytes()
    sizes = [0, 1, 7, 8, 9, len(whole) - 1]
    sizes += np.random.default_rng(0).integers(len(whole), size=50).tolist()
    for size in sizes:
        file.write_bytes(whole[:size])
        assert_equal(encode(SENTENCES), first)
        assert file.read_bytes() == whole  # rebuilt
    assert len(calls) == len(sizes)


def test_flipped_bits(cached: Any, calls: list[int]) -> None:
    """In each byte of the header, which is the more delicate part, and at 50 random places."""
    encode, file, first = cached
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [
        *(8 * i + i % 8 for i in range(header)),
        *np.random.default_rng(0).integers(8 * len(whole), size=50),
    ]
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        assert_equal(encode(SENTENCES), first)
    # Nearly all: the name of a field that nobody reads, or white space, may change.
    assert len(calls) > 0.95 * len(places)


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b'{"not": "safetensors"}' * 50])
def test_another_file(cached: Any, content: bytes) -> None:
    encode, file, first = cached
    file.write_bytes(content)
    assert_equal(encode(SENTENCES), first)


def test_a_file_with_other_fields(cached: Any, calls: list[int]) -> None:
    encode, file, first = cached
    save_file({"tokens": np.arange(3)}, file, metadata={"checksum": "?"})
    assert_equal(encode(SENTENCES), first)
    save_file({name: value + 1 for name, value in vars(first).items()}, file)
    assert_equal(encode(SENTENCES), first)
    assert calls == [2, 2]


# ---- where it is


def test_a_directory_that_cannot_be_written(letters: Any, tmp_path: Path, calls: list[int]) -> None:
    """Not by permissions, which do not bind root: a directory below a regular file."""
    (tmp_path / "file").write_text("in the way")
    for directory in ("file", "file/below", "file/below/that"):
        encode = cache.encoder(letters, 8, str(tmp_path / directory))
        for _ in range(2):
            assert_equal(encode(SENTENCES), tokenization.encode(SENTENCES, letters, 8))
    assert calls == [2] * 6
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_directory_in_the_place_of_the_file(cached: Any, calls: list[int]) -> None:
    encode, file, first = cached
    file.unlink()
    file.mkdir()
    assert_equal(encode(SENTENCES), first)
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # no temporary file


@pytest.mark.parametrize("problem", [SafetensorError("no space"), OSError(), KeyboardInterrupt()])
def test_writing_that_fails(
    letters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException
) -> None:
    """A full disk is no reason to stop; and a run stopped in the midst leaves no half of a file."""

    def half(_: Any, path: Path, **rest: Any) -> None:
        path.write_bytes(b"half")
        raise problem

    monkeypatch.setattr(cache, "save_file", half)
    encode = cache.encoder(letters, 8, str(tmp_path))
    if isinstance(problem, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            encode(SENTENCES)
    else:
        assert_equal(encode(SENTENCES), tokenization.encode(SENTENCES, letters, 8))
    assert not list(tmp_path.iterdir())


def test_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, letters: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("SPARSEJAX_CACHE", str(tmp_path / "own"))
    assert cache.default_directory() == tmp_path / "own"
    cache.encoder(letters, 8, None)(SENTENCES)
    assert len(list((tmp_path / "own").iterdir())) == 1
    cache.encoder(letters, 8, str(tmp_path / "given" / "one"))(SENTENCES)
    assert len(list((tmp_path / "given" / "one").iterdir())) == 1
    for unset in (lambda n: monkeypatch.setenv(n, ""), lambda n: monkeypatch.delenv(n)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        unset("SPARSEJAX_CACHE")
        assert cache.default_directory() == tmp_path / "xdg" / "sparsejax"
        unset("XDG_CACHE_HOME")
        assert cache.default_directory() == tmp_path / "home" / ".cache" / "sparsejax"
        monkeypatch.setenv("SPARSEJAX_CACHE", "x")


# Waits for a word on its input, so that both processes are at it together.
ENCODE = """
import hashlib, sys
from pathlib import Path
from sparsejax.data import cache, tokenization
from sparsejax.data.sources import Sentence
encode = cache.encoder(tokenization.load_tokenizer(Path(sys.argv[1])), 8, sys.argv[2])
print("ready", flush=True)
input()
digest = hashlib.sha256()
for i in range(1, 101):
    encoded = encode([Sentence(["a" * (i % 5 + 1), "b"] * i, ["O", "B-PER"] * i)] * 3)
    for array in vars(encoded).values():
        digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_two_processes_at_once(letters: Any, tmp_path: Path) -> None:
    letters.save_pretrained(tmp_path / "tokenizer")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ENCODE, str(tmp_path / "tokenizer"), str(tmp_path / "cache")],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(set(outputs)) == 1
    files = list((tmp_path / "cache").iterdir())
    assert len(files) == 100
    assert all(cache._read(path) is not None for path in files)
