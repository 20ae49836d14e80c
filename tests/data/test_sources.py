"""Where sentences come from: the languages and parts of each source, and a choice of them."""

from __future__ import annotations

import collections
import gzip
import itertools
import json
import os
import pickle
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wikiann import TAGS

from sparsejax.config import DataConfig
from sparsejax.data import embedded, sources
from sparsejax.data.sentences import Sentence
from sparsejax.data.sources import EmbeddedPart, FilePart, HubPart, ListPart, take
from sparsejax.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
TWO = [Sentence(["Ada", "Lovelace"], ["B-PER", "I-PER"]), Sentence(["no", "one"], ["O", "O"])]
TWO_AS_TEXT = "Ada\tB-PER\nLovelace\tI-PER\n\nno\tO\none\tO\n"
TWO_AS_JSON = "".join(json.dumps(sentence._asdict()) + "\n" for sentence in TWO).replace(
    '"words"', '"tokens"'
)


def write(path: Path, content: str | bytes) -> Path:
    """A file of this content, compressed if its name says so."""
    raw = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def user_error(call: Any, *arguments: Any) -> str:
    """The message of the UserError that a call raises: always one line."""
    with pytest.raises(UserError) as raised:
        call(*arguments)
    message = str(raised.value)
    assert message and "\n" not in message
    return message


# ---- some of the sentences


def numbered(number: int) -> list[Sentence]:
    return [Sentence([str(i)], ["O"]) for i in range(number)]


def test_without_a_limit_all_are_taken() -> None:
    for seed in (None, 0):
        assert list(take(numbered(9), None, seed)) == numbered(9)


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_what_follows_the_first_ones_is_not_read(limit: int) -> None:
    def reader() -> Iterator[Sentence]:
        yield from numbered(limit)
        raise AssertionError("read on")

    assert list(take(reader(), limit)) == numbered(limit)


@given(st.integers(1, 40), st.integers(0, 60), st.none() | st.integers(0, 2**32 - 1))
def test_fewer_sentences_than_the_limit(limit: int, number: int, seed: int | None) -> None:
    found = list(take(numbered(number), limit, seed))
    assert len(found) == min(limit, number)
    if number <= limit:
        assert found == numbered(number)


@given(st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_a_choice_keeps_the_order_and_grows_with_the_limit(number: int, seed: int) -> None:
    before: set[int] = set()
    for limit in range(1, number + 2):
        chosen = [int(words[0]) for words, _ in take(numbered(number), limit, seed)]
        assert chosen == sorted(set(chosen))
        assert before <= set(chosen)
        before = set(chosen)


def test_every_sentence_is_chosen_as_often() -> None:
    """3 of 10 by 2,000 seeds: each 600 times, each two neighbours together 133 times."""
    choices = [frozenset(w[0] for w, _ in take(numbered(10), 3, seed)) for seed in range(2000)]
    single = collections.Counter(itertools.chain.from_iterable(choices))
    assert len(single) == 10 and all(abs(count - 600) < 4 * 20.5 for count in single.values())
    for i in range(9):
        together = sum({str(i), str(i + 1)} <= choice for choice in choices)
        assert abs(together - 2000 / 15) < 4 * 11.2


def test_only_what_is_chosen_is_in_memory() -> None:
    sentences = (Sentence([chr(i) * 10_000], ["O"]) for i in range(65, 1065))
    tracemalloc.start()
    try:
        assert len(list(take(sentences, 5, seed=1))) == 5
        assert tracemalloc.get_traced_memory()[1] < 500_000  # of 10 to 20 million
    finally:
        tracemalloc.stop()


SAME = """
from sparsejax.data.sentences import Sentence
from sparsejax.data.sources import EmbeddedPart, ListPart, take
sentences = [Sentence([str(i)], ["O"]) for i in range(1000)]
chosen = [words[0] for words, _ in take(sentences, 5, seed=7)]
print(chosen, EmbeddedPart("sw", "dev").digest(), ListPart("x", sentences).digest())
"""


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_choices_and_digests_are_the_same_in_every_process(hash_seed: str) -> None:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", SAME]
    output = subprocess.check_output(command, cwd=REPOSITORY, env=environment, text=True)
    chosen = [words[0] for words, _ in take(numbered(1000), 5, seed=7)]
    digests = EmbeddedPart("sw", "dev").digest(), ListPart("x", numbered(1000)).digest()
    assert output.strip() == " ".join((str(chosen), *digests))
    # Part of every result obtained with a subsample: change this only with a note to users.
    drawn = random.Random(7)
    numbers = [drawn.random() for _ in range(1000)]
    assert chosen == [str(i) for i in range(1000) if numbers[i] <= sorted(numbers)[4]]


# ---- directories


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two languages with all splits, and one to test on only."""
    for code in ("en", "de", "sw"):
        for split in ("train", "dev", "test") if code != "sw" else ("test",):
            write(tmp_path / code / f"{split}.tsv", f"{code}\tO\n\n{split}\tB-LOC\n")
    write(tmp_path / "README.md", "not a language")
    (tmp_path / "not-a-language").mkdir()
    return tmp_path


def test_directory(directory: Path) -> None:
    config = DataConfig(dir=str(directory))
    assert sources.train_languages(config) == ("de", "en")
    for split in ("train", "dev", "test"):
        found = sources.parts(config, split, ("en", "de"))
        assert list(found) == ["en", "de"]
        for code, part in found.items():
            assert list(part.open()) == [([code], ["O"]), ([split], ["B-LOC"])]
    asked = DataConfig(dir=str(directory), languages=("en", "de"))
    assert sources.train_languages(asked) == ("en", "de")  # in the order asked for
    assert sources.eval_languages(asked, "dev") == ("en", "de")


def test_languages_to_evaluate_on(directory: Path) -> None:
    config = DataConfig(dir=str(directory), languages=("de",), eval_languages=("sw", "en"))
    assert sources.train_languages(config) == ("de",)
    assert sources.eval_languages(config, "test") == ("sw", "en")
    message = user_error(sources.eval_languages, config, "dev")
    assert message == f"data.eval_languages: 'sw' not in {directory} (dev), which has de en"
    config = DataConfig(dir=str(directory), languages=("en", "sw"))
    message = user_error(sources.train_languages, config)
    assert message == f"data.languages: 'sw' not in {directory} (train), which has de en"


def test_directory_errors(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    def message(path: Path, languages: tuple[str, ...] = ()) -> str:
        return user_error(sources.train_languages, DataConfig(dir=str(path), languages=languages))

    assert "data.languages: 'xx', 'yy' not in" in message(directory, ("xx", "en", "yy"))
    empty = tmp_path_factory.mktemp("empty")
    for languages in ((), ("en",)):
        found = message(empty, languages)
        assert found == f"data.dir: {empty} holds no <language>/train.tsv (.conll, .jsonl)"
    file = directory / "README.md"
    assert message(file) == f"data.dir: {file} is not a directory"
    assert message(directory / "no") == f"data.dir: {directory / 'no'} is not a directory"
    assert "File name too long" in message(directory / ("x" * 999))


def test_a_part_that_is_not_there(directory: Path) -> None:
    config = DataConfig(dir=str(directory))
    expected = f"data.dir: {directory} holds no dev split of 'de'"
    (directory / "de" / "dev.tsv").unlink()
    assert user_error(sources.parts, config, "dev", ("en", "de")) == expected
    (directory / "de" / "dev.tsv").mkdir()
    assert user_error(sources.parts, config, "dev", ("de",)) == expected
    assert "No such file" in user_error(sources.parts, config, "dev", ("xx",))
    assert "File name too long" in user_error(sources.parts, config, "dev", ("x" * 999,))


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_a_directory_with_the_name_of_an_average(directory: Path, average: str) -> None:
    write(directory / average / "train.tsv", "a\tO\n")
    message = user_error(sources.train_languages, DataConfig(dir=str(directory)))
    assert message == f"data.dir: {directory}/{average} has the name of an average"
    asked = DataConfig(dir=str(directory), languages=("en",))
    assert sources.train_languages(asked) == ("en",)


def test_two_files_of_one_split(directory: Path) -> None:
    write(directory / "de" / "train.jsonl.gz", TWO_AS_JSON)
    config = DataConfig(dir=str(directory))
    expected = f"{directory / 'de'}: train.jsonl.gz and train.tsv are all of the train split"
    assert user_error(sources.train_languages, config).startswith(expected)
    assert user_error(sources.parts, config, "train", ("de",)).startswith(expected)
    assert list(sources.parts(config, "train", ("en",))) == ["en"]


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("name", ["dev", "dev.tsv", "dev.conll", "dev.txt", "dev.jsonl"])
def test_kinds_of_files(tmp_path: Path, name: str, gz: str) -> None:
    text = TWO_AS_JSON if "json" in name else TWO_AS_TEXT
    path = write(tmp_path / "en" / (name + gz), text.replace("\t", " ") if "o" in name else text)
    config = DataConfig(dir=str(tmp_path))
    assert sources.eval_languages(config, "dev") == ("en",)
    part = sources.parts(config, "dev", ("en",))["en"]
    assert part == FilePart(path, "en")
    assert list(part.open()) == TWO


def test_a_file_may_begin_its_tokens_with_the_language(tmp_path: Path) -> None:
    text = TWO_AS_TEXT.replace("Ada", "en:Ada").replace("Love", "en:Love")
    text = text.replace("no", "en:no", 1).replace("one", "en:one")
    for code in ("en", "de"):
        write(tmp_path / code / "train", text)
    found = sources.parts(DataConfig(dir=str(tmp_path)), "train", ("de", "en"))
    assert list(found["en"].open()) == TWO
    assert next(iter(found["de"].open())).words == ["en:Ada", "en:Lovelace"]


def test_digest_of_a_file(tmp_path: Path) -> None:
    """Another one for another content or another way to read it, wherever it lies."""
    first = FilePart(write(tmp_path / "a" / "dev.tsv", TWO_AS_TEXT), "en")
    again = FilePart(write(tmp_path / "b" / "train.tsv", TWO_AS_TEXT), "en")
    assert first.digest() == again.digest()
    digests = {first.digest(), FilePart(first.path, "de").digest()}
    for name, content in [
        ("a.tsv", TWO_AS_TEXT + "\n"),
        ("b.tsv", TWO_AS_TEXT.replace("I-", "B-")),
        ("c.jsonl", TWO_AS_TEXT),
        ("d.tsv.gz", TWO_AS_TEXT),
        ("e.tsv", ""),
    ]:
        digests.add(FilePart(write(tmp_path / name, content), "en").digest())
    assert len(digests) == 7
    no = tmp_path / "no.tsv"
    assert user_error(FilePart(no, "en").digest) == f"{no}: No such file or directory"


# ---- the embedded corpus


def test_embedded() -> None:
    config = DataConfig(languages=("sw", "en"), eval_languages=("yo",))
    assert sources.train_languages(config) == ("sw", "en")  # in the order asked for
    assert sources.eval_languages(config, "test") == ("yo",)
    everything = tuple(embedded.TRAIN_SENTENCES)
    assert sources.train_languages(DataConfig()) == everything
    assert sources.eval_languages(DataConfig(), "dev") == everything
    found = sources.parts(config, "test", ("sw", "en"))
    assert found == {code: EmbeddedPart(code, "test") for code in ("sw", "en")}
    for code, part in found.items():
        assert list(part.open()) == embedded.generate(code, "test")


def test_embedded_has_not_every_language() -> None:
    message = user_error(sources.train_languages, DataConfig(languages=("en", "xx", "yy")))
    assert message.startswith("data.languages: 'xx', 'yy' not in the embedded corpus, which has ")
    message = user_error(sources.eval_languages, DataConfig(eval_languages=("xx",)), "test")
    assert message.startswith("data.eval_languages: 'xx' not in the embedded corpus, which has ")


def test_digests_of_the_embedded_corpus() -> None:
    parts = [EmbeddedPart(code, split) for code in ("en", "de") for split in ("train", "dev")]
    assert len({part.digest() for part in parts}) == 4


# ---- sentences in memory


def test_sentences_in_memory() -> None:
    rows = [Sentence(["a"], ["O"]), Sentence(["b", "c", "d"], ["I-DATE", "O", "B-PER"])]
    rows.append(Sentence(["e", "f"], ["B-PER", "I-DATE"]))
    reader = ListPart("here", rows).open()
    expected = [["O"], ["B-DATE", "O", "B-PER"], ["B-PER", "B-DATE"]]
    found = list(reader)
    assert [sentence.words for sentence in found] == [sentence.words for sentence in rows]
    assert [sentence.tags for sentence in found] == expected
    assert reader.repaired == 2
    assert reader.first_seen == {"DATE": "here: row 2", "PER": "here: row 2"}
    assert list(ListPart("here", []).open()) == []


def test_another_scheme_in_memory() -> None:
    rows = [Sentence(["a", "b", "c"], ["B-PER", "E-PER", "S-LOC"])]
    assert [s.tags for s in ListPart("here", rows).open()] == [["B-PER", "I-PER", "B-LOC"]]


def test_malformed_sentences_in_memory() -> None:
    rows = [Sentence(["a"], ["O"]), Sentence(["b"], ["MISC"])]
    assert user_error(list, ListPart("here", rows).open()).startswith(
        "here: row 2: 'MISC' is not a tag (O,"
    )
    for words, tags in ([], []), (["a"], []), (["a", ""], ["O", "O"]):
        message = user_error(list, ListPart("here", [Sentence(words, tags)]).open())
        assert message.startswith(f"here: row 1: {len(words)} tokens and {len(tags)} tags")
    nul = ListPart("here", [Sentence(["a\0"], ["O"])])
    assert user_error(list, nul.open()) == ("here: row 1: a token holds a NUL character; remove it")


WORDS = st.lists(st.text(st.characters(codec=None), min_size=1), min_size=1)


@given(st.lists(WORDS), st.lists(WORDS))
def test_digests_of_sentences_in_memory(a: list[list[str]], b: list[list[str]]) -> None:
    first, second = ([Sentence(words, ["O"] * len(words)) for words in part] for part in (a, b))
    assert (ListPart("", first).digest() == ListPart("", second).digest()) == (a == b)


def test_digests_tell_sentences_and_tags_apart() -> None:
    corpora = [
        [Sentence(["a", "b"], ["O", "O"])],
        [Sentence(["a b"], ["O"])],
        [Sentence(["a"], ["O"]), Sentence(["b"], ["O"])],
        [Sentence(["b"], ["O"]), Sentence(["a"], ["O"])],
        [Sentence(["a", "b"], ["O", "B-PER"])],
    ]
    assert len({ListPart("", corpus).digest() for corpus in corpora}) == len(corpora)


@pytest.mark.parametrize(
    "part",
    [
        FilePart(Path("x.tsv"), "en"),
        EmbeddedPart("en", "dev"),
        ListPart("here", TWO),
        HubPart("unimelb-nlp/wikiann", "en", "dev"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_parts_can_be_sent_to_another_process(part: sources.Part) -> None:
    sent = pickle.dumps(part)
    assert pickle.loads(sent) == part
    assert len(sent) < 500


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
        "ner_tags": sequence(tag or datasets.ClassLabel(names=list(TAGS))),
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
    part = sources.parts(DataConfig(hub=name), split, (language,))[language]
    return list(take(part.open(), limit))


def test_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "hub_answers", None)  # a local copy needs no network
    name = write_hub(hub, ROWS)
    for language in ("en", "sw"):
        for split in ("train", "dev", "test"):
            assert read_hub(name, language, split) == SENTENCES
    assert read_hub(name, limit=2) == SENTENCES[:2]
    assert read_hub(name, limit=9) == SENTENCES


def test_hub_has_what_it_is_asked_for() -> None:
    """Which of its languages are there shows when they are loaded."""
    asked = DataConfig(hub="x", languages=("xx", "en"), eval_languages=("yy",))
    assert sources.train_languages(asked) == ("xx", "en")
    assert sources.eval_languages(asked, "test") == ("yy",)
    assert len(sources.train_languages(DataConfig(hub="x"))) == 40


@pytest.mark.parametrize("most_in_memory", [0, 10**9])
def test_digests_of_the_hub(
    hub: Path, monkeypatch: pytest.MonkeyPatch, most_in_memory: int
) -> None:
    """Also for users who have the library read what is small into memory."""
    monkeypatch.setattr(datasets.config, "IN_MEMORY_MAX_SIZE", most_in_memory)
    name = write_hub(hub, ROWS)
    before = HubPart(name, "en", "dev").digest()
    assert HubPart(name, "en", "dev").digest() == before
    changed = ROWS | {"ner_tags": [[1, 2, 0], [3], [0, 0]]}
    write_hub(hub, changed, languages=("sw",))
    assert HubPart(name, "sw", "dev").digest() != before
    assert "could not load" in user_error(HubPart(name, "th", "dev").digest)


def test_hub_with_tags_as_text(hub: Path) -> None:
    tags = [tags for _, tags in SENTENCES]
    name = write_hub(hub, ROWS | {"ner_tags": tags}, tag=datasets.Value("string"))
    assert read_hub(name) == SENTENCES


def test_hub_with_another_order_of_tags(hub: Path) -> None:
    tags = [[OTHER_NAMES.index(tag) for tag in tags] for _, tags in SENTENCES]
    name = write_hub(hub, ROWS | {"ner_tags": tags}, tag=datasets.ClassLabel(names=OTHER_NAMES))
    assert read_hub(name) == SENTENCES


def test_hub_with_other_types(hub: Path) -> None:
    names = ["O", "B-PER", "I-PER", "B-MISC", "I-MISC", "B-LOC"]
    rows = ROWS | {"ner_tags": [[1, 2, 4], [3], [0, 0]]}
    name = write_hub(hub, rows, tag=datasets.ClassLabel(names=names))
    reader = sources.parts(DataConfig(hub=name), "train", ("en",))["en"].open()
    assert [s.tags for s in reader] == [["B-PER", "I-PER", "B-MISC"], ["B-MISC"], ["O", "O"]]
    assert reader.repaired == 1
    assert reader.first_seen == dict.fromkeys(("PER", "MISC"), f"{name}/en/train: row 1")


OTHER = datasets.ClassLabel(names=["O", "B-PER", "I-PER", "PRODUCT", "B-", "B-LOC"])


@pytest.mark.parametrize(
    ("changes", "kinds", "message"),
    [
        (
            {"ner_tags": [[1, 2, 0], [3], [0, 0]]},
            {"tag": OTHER},
            "row 2: 'PRODUCT' is not a tag (O",
        ),
        ({"ner_tags": [[1, 2, 0], [4], [0, 0]]}, {"tag": OTHER}, "row 2: 'B-' is not a tag (O"),
        ({"ner_tags": [[1, 2, 0], [-1], [0, 0]]}, {}, "row 2: '-1' is not a tag with a name"),
        ({"ner_tags": [[1, 2, 0], [None], [0, 0]]}, {}, "row 2: 'None' is not a tag with a name"),
        ({}, {"tag": datasets.Value("int64")}, "row 1: '1' is not a tag with a name"),
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
    config = DataConfig(hub="unimelb-nlp/wikiann")
    parts = sources.parts(config, "train", sources.train_languages(config))
    next(iter(parts.values())).open()
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
