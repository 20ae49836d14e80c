"""Every entity becomes another one of the right type and pool, and nothing else changes."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsejax.data.perturb import KINDS, Perturbed, perturb
from sparsejax.data.sentences import Corpus, Sentence

REPOSITORY = Path(__file__).resolve().parents[2]


class Facts(NamedTuple):
    family: str
    script: str


FACTS = {
    "en": Facts("Indo-European", "Latn"),
    "de": Facts("Indo-European", "Latn"),
    "hi": Facts("Indo-European", "Deva"),
    "sw": Facts("Niger-Congo", "Latn"),
    "zh": Facts("Sino-Tibetan", "Hans"),
    "my": Facts("Sino-Tibetan", "Mymr"),
    "yo": Facts("Niger-Congo", "Latn"),
    "mr": Facts("Indo-European", "Deva"),
    "eu": Facts("Isolate", "Latn"),
    "xa": Facts("Isolate", "Xaaa"),
    "xx": Facts("unknown", "unknown"),
    "yy": Facts("unknown", "unknown"),
}


def never(language: str, words: Sequence[str]) -> bool:
    return False


def run(
    corpus: Corpus,
    kind: str,
    pools: Corpus | None = None,
    seen: Callable[[str, Sequence[str]], bool] = never,
    seed: int = 0,
) -> Perturbed:
    pools = corpus if pools is None else pools
    return perturb(corpus, kind, pools=pools, describe=FACTS.__getitem__, seen=seen, seed=seed)


def sentence(text: str) -> Sentence:
    """`[PER Ada Lovelace] wrote`, as words and tags."""
    words: list[str] = []
    tags: list[str] = []
    for kind, inside, outside in re.findall(r"\[(\w+) ([^]]*)\]|(\S+)", text):
        new = inside.split() or [outside]
        words += new
        tags += ["O"] if outside else [f"B-{kind}", *[f"I-{kind}"] * (len(new) - 1)]
    return Sentence(words, tags)


def corpus_of(**texts: list[str]) -> Corpus:
    return {code: [sentence(text) for text in lines] for code, lines in texts.items()}


def spans(tags: list[str]) -> list[tuple[str, int, int]]:
    """Type, begin and end of each entity, by a pattern over the tags."""
    text = "".join(f"<{tag}>" for tag in tags)
    found = []
    for match in re.finditer(r"<[BI]-(\w+)>(<I-\1>)*", text):
        begin = text[: match.start()].count("<")
        found.append((match[1], begin, begin + match[0].count("<")))
    return found


def held(sentences: list[Sentence]) -> list[tuple[str, tuple[str, ...]]]:
    """The entities: their type and words."""
    return [
        (kind, tuple(words[begin:end]))
        for words, tags in sentences
        for kind, begin, end in spans(tags)
    ]


def around(words: list[str], tags: list[str]) -> list[Any]:
    """The words outside of entities, and the type of each entity where it stands."""
    result: list[Any] = list(words)
    for kind, begin, end in reversed(spans(tags)):
        result[begin:end] = [(kind,)]
    return result


def sources(kind: str, language: str, pools: Corpus) -> list[str]:
    """The languages that entities may come from."""
    if kind in ("language", "unseen"):
        return [language]
    own = getattr(FACTS[language], kind)
    return [
        other
        for other in pools
        if other != language
        and getattr(FACTS[other], kind) == own
        and own not in ("unknown", "Isolate")
    ]


def check(corpus: Corpus, kind: str, pools: Corpus, seen: Any, result: Perturbed) -> None:
    """All that a result has to fulfil, whatever was drawn."""
    assert list(result.corpus) == list(result.changed) == list(result.counts) == list(corpus)
    for language, sentences in corpus.items():
        new = result.corpus[language]
        allowed = {
            (kind_, words)
            for other in sources(kind, language, pools)
            for kind_, words in held(pools.get(other, []))
            if kind != "unseen" or not seen(language, words)
        }

        def has_candidate(entity: tuple[str, tuple[str, ...]], allowed: Any = allowed) -> bool:
            alike = " ".join(entity[1]).casefold()
            return any(t == entity[0] and " ".join(w).casefold() != alike for t, w in allowed)

        assert len(new) == len(sentences) == len(result.changed[language])
        seen_counts = Counter[str]()
        for before, after, changed in zip(sentences, new, result.changed[language], strict=True):
            old_entities, new_entities = held([before]), held([after])
            if not old_entities:
                seen_counts["without_entity"] += 1
            elif not all(map(has_candidate, old_entities)):
                seen_counts["without_candidate"] += 1
            else:
                assert changed
                seen_counts["changed"] += 1
                seen_counts["replaced"] += len(old_entities)
            if not changed:
                assert after == before
                continue
            assert around(*after) == around(*before)
            assert len(after.words) == len(after.tags)
            for _, begin, _ in spans(after.tags):
                assert after.tags[begin][0] == "B"
            for (_, was), (type_, is_) in zip(old_entities, new_entities, strict=True):
                assert (type_, is_) in allowed
                assert " ".join(is_).casefold() != " ".join(was).casefold()
        assert result.counts[language]._asdict() == {
            name: seen_counts[name] for name in result.counts[language]._fields
        }
        assert sum(result.changed[language]) == result.counts[language].changed


def unlucky(language: str, words: Sequence[str]) -> bool:
    return len("".join(words)) % 2 == 0


# Few words, so that entities meet themselves, others of another case, and pools of one.
TAGS = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SENTENCES = st.lists(
    st.tuples(st.sampled_from(["a", "A", "b", "cc", "ß", "SS"]), st.sampled_from(TAGS)),
    min_size=1,
    max_size=6,
).map(lambda pairs: Sentence([word for word, _ in pairs], [tag for _, tag in pairs]))
CORPORA = st.dictionaries(st.sampled_from(sorted(FACTS)), st.lists(SENTENCES, max_size=4))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "noise"])
@settings(max_examples=60)
@given(corpus=CORPORA, pools=CORPORA, seed=st.integers(0, 3))
def test_properties(kind: str, corpus: Corpus, pools: Corpus, seed: int) -> None:
    pools = {code: pools.get(code, []) + corpus.get(code, []) for code in {**pools, **corpus}}
    before = json.dumps([corpus, pools])
    check(corpus, kind, pools, unlucky, run(corpus, kind, pools, unlucky, seed))
    assert json.dumps([corpus, pools]) == before  # what is given is not written to


@settings(max_examples=60)
@given(corpus=CORPORA, seed=st.integers(0, 3))
def test_noise_properties(corpus: Corpus, seed: int) -> None:
    """What an edit can be is tested of `noise`; here every word has a letter."""
    result = run(corpus, "noise", seed=seed)
    for language, sentences in corpus.items():
        pairs = list(zip(sentences, result.corpus[language], strict=True))
        for before, after in pairs:
            assert around(*after) == around(*before)
            was_is = list(zip(held([before]), held([after]), strict=True))
            assert all(was != is_ for was, is_ in was_is)
            assert all(after.tags[begin][0] == "B" for _, begin, _ in spans(after.tags) if was_is)
        changed = [bool(held([before])) for before in sentences]
        assert result.changed[language] == changed
        replaced = len(held(sentences))
        assert result.counts[language] == (sum(changed), changed.count(False), 0, replaced)


def test_by_hand() -> None:
    corpus = corpus_of(
        en=["[PER Ada Lovelace] met [PER ADA LOVELACE] in [LOC London] .", "no one", "[ORG UN]"],
        de=["[PER Max Frisch]", "[LOC Ulm]", "[LOC LONDON]"],
        hi=["[PER राज]", "[LOC दिल्ली]"],
    )
    result = run(corpus, "script")
    (words, tags), *rest = result.corpus["en"]
    assert words[:6] == ["Max", "Frisch", "met", "Max", "Frisch", "in"]
    assert words[6:] == ["Ulm", "."]  # not LONDON, which is the same
    assert tags == ["B-PER", "I-PER", "O", "B-PER", "I-PER", "O", "B-LOC", "O"]
    assert rest == corpus["en"][1:]
    assert result.changed["en"] == [True, False, False]
    assert result.counts["en"] == (1, 1, 1, 3)
    assert result.counts["hi"] == (0, 0, 2, 0)
    # Of the other two languages of the family only one has a place that is not London.
    assert result.corpus["hi"] == corpus["hi"]
    places = {run(corpus, "family", seed=seed).corpus["hi"][1].words[0] for seed in range(50)}
    assert places == {"London", "Ulm", "LONDON"}
    # In the language itself there is no other place than London, so the whole sentence stays.
    assert run(corpus, "language").counts["en"] == (0, 1, 2, 0)


def test_normalisation_makes_no_other_entity() -> None:
    corpus = corpus_of(vi=["[LOC Hu\u1ebf]", "[LOC hue\u0302\u0301]"])
    assert run(corpus, "language").counts["vi"].without_candidate == 2


def test_stray_continuations() -> None:
    """An I- that continues nothing is an entity; it gets a B- where something changes."""
    words = ["Ada", "#", "Lovelace", "Paris"]
    stray = Sentence(words, ["I-PER", "O", "I-PER", "I-LOC"])
    pools = corpus_of(en=["[PER New One] [LOC Old Place]"])
    (new,) = run({"en": [stray]}, "language", pools).corpus["en"]
    assert new == sentence("[PER New One] # [PER New One] [LOC Old Place]")
    assert run({"en": [stray]}, "language", {}).corpus["en"] == [stray]


@pytest.mark.parametrize("kind", ["script", "family"])
@pytest.mark.parametrize("languages", [("xx", "yy"), ("eu", "xa")])
def test_unknown_is_shared_by_none(kind: str, languages: tuple[str, str]) -> None:
    corpus = {code: [sentence(f"[PER {code}]")] for code in languages}
    result = run(corpus, kind)
    assert result.corpus == corpus
    assert all(count == (0, 0, 1, 0) for count in result.counts.values())


def test_unseen() -> None:
    corpus = corpus_of(en=["[PER a]", "[PER b]", "[PER c]", "[LOC a]"], de=["[PER b]", "[PER d]"])
    training = {("en", ("a",)), ("en", ("b",)), ("de", ("d",))}
    result = run(corpus, "unseen", seen=lambda code, words: (code, tuple(words)) in training)
    assert [s.words for s in result.corpus["en"]] == [["c"], ["c"], ["c"], ["a"]]
    assert result.counts["en"] == (2, 0, 2, 2)
    assert [s.words for s in result.corpus["de"]] == [["b"], ["b"]]
    assert result.changed["de"] == [False, True]


def test_noise_by_hand() -> None:
    corpus = corpus_of(
        en=["[PER X] 7", "[LOC 7] [PER X]", "no"],
        zh=["# [PER 英] .", "[LOC 英 国]", "[LOC 2 0] [PER 英 国]"],
    )
    pools = {**corpus, **corpus_of(en=["[LOC New York City Hall]"])}
    result = run(corpus, "noise", pools)
    assert result.corpus["en"] == [sentence("[PER XX] 7"), *corpus["en"][1:]]
    assert result.counts["en"] == (1, 1, 1, 1)
    assert result.corpus["zh"][0] == sentence("# [PER 英 英] .")
    assert result.corpus["zh"][2] == corpus["zh"][2]
    assert result.counts["zh"] == (2, 0, 1, 2)
    alone = {"zh": corpus["zh"][:1]}
    assert run(alone, "noise", corpus).corpus["zh"] == result.corpus["zh"][:1]


def test_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="unknown kind 'typo'; the kinds are language script"):
        run({}, "typo")
    assert all(run({}, kind) == ({}, {}, {}) for kind in KINDS)


# ---- the same everywhere


def some_corpus() -> Corpus:
    """Entities of all languages, many of which differ from another in case alone."""
    chance = random.Random(1)
    word = lambda: "".join(chance.choices("aAbBéÉИन", k=chance.randint(1, 3)))  # noqa: E731
    text = lambda: f"{word()} [PER {word()}] [LOC {word()} {word()}] [ORG {word()}]"  # noqa: E731
    return {code: [sentence(text()) for _ in range(40)] for code in FACTS}


@pytest.mark.parametrize("kind", KINDS)
def test_neither_limit_nor_order_matters(kind: str) -> None:
    corpus = some_corpus()
    whole = run(corpus, kind, seen=unlucky)
    assert whole == run(corpus, kind, seen=unlucky)
    backwards = dict(reversed(corpus.items()))
    part = {code: backwards[code][:7] for code in backwards if code != "de"}
    found = run(part, kind, backwards, unlucky)
    assert list(found.corpus) == list(part)
    for code in part:
        assert found.corpus[code] == whole.corpus[code][:7]
        assert found.changed[code] == whole.changed[code][:7]
    # The order and number of a pool's sentences do not matter either, only its entities.
    shuffled = {code: (sentences * 2)[::-1] for code, sentences in corpus.items()}
    assert run(corpus, kind, shuffled, unlucky) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_languages_and_places_differ(kind: str) -> None:
    corpus = some_corpus()
    one, other = run(corpus, kind, seed=1), run(corpus, kind, seed=2)
    for code in ("en", "hi"):
        pairs = list(zip(one.corpus[code], other.corpus[code], strict=True))
        assert sum(a != b for a, b in pairs) > 30
    same = {code: [corpus["en"][0]] * 30 for code in ("en", "de", "sw", "yo")}
    if kind != "noise":
        same = {code: same[code] + corpus["en"] for code in same}  # equal pools
    result = run(same, kind).corpus
    assert len({tuple(s.words) for s in result["en"][:30]}) > 5
    assert result["en"][:30] != result["de"][:30]


def test_the_kind_is_part_of_the_seed() -> None:
    corpus = some_corpus()
    assert run(corpus, "language").corpus["en"] != run(corpus, "unseen").corpus["en"]


PROGRAM = """
import json, sys
sys.path.insert(0, "tests/data")
import test_perturb as t
found = [t.run(t.some_corpus(), kind, seen=t.unlucky) for kind in t.KINDS]
print(json.dumps(found))
"""


def test_the_same_in_every_process() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    here = json.dumps([run(some_corpus(), kind, seen=unlucky) for kind in KINDS])
    for process in processes:
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 0
        assert json.loads(output) == json.loads(here)


def test_the_draws_stay_what_they_are() -> None:
    """Published results name a seed: with it come the same sentences, of any later version."""
    corpus = corpus_of(
        en=["[PER Ada Lovelace] met [PER Alan Turing]", "[LOC London] [LOC Accra]"],
        sw=["[PER Wangari Maathai]", "[LOC Nairobi] [LOC Kisumu]", "[PER Ali]", "[LOC Moshi]"],
        de=["[PER Max Frisch]", "[LOC Ulm]", "[LOC Bonn]"],
    )
    found = {
        kind: [" ".join(s.words) for s in run(corpus, kind, seed=3).corpus["en"]]
        for kind in ("script", "noise")
    }
    assert found == {
        "script": ["Ali met Max Frisch", "Ulm Nairobi"],
        "noise": ["Ada Lovelacee met Alann Turing", "Loondon ccra"],
    }


# ---- chance


def even(counts: Counter[Any], outcomes: int) -> bool:
    """Whether all outcomes occur, within 5 standard deviations of as often as each other."""
    total = counts.total()
    mean = total / outcomes
    bound = 5 * (mean * (1 - 1 / outcomes)) ** 0.5
    return len(counts) == outcomes and all(abs(n - mean) < bound for n in counts.values())


def test_every_entity_is_as_likely() -> None:
    """However often it occurs, wherever it stands next to the one that is replaced."""
    names = [f"n{i:02}" for i in range(20)]
    pools = corpus_of(en=[f"[PER {name}]" for i, name in enumerate(names) for _ in range(i + 1)])
    for replaced in ("n00", "n07", "N19", "other"):
        corpus = corpus_of(en=[f"[PER {replaced}]"] * 3000)
        drawn = Counter(s.words[0] for s in run(corpus, "language", pools).corpus["en"])
        assert even(drawn, 20 if replaced == "other" else 19)
        assert replaced.lower() not in drawn


def test_every_language_is_as_likely_and_then_every_entity() -> None:
    pools = corpus_of(
        en=["[PER a]"],
        de=["[PER d1] [PER d2] [LOC d3]"],
        hi=[f"[PER h{i}]" for i in range(10)],
        mr=["[LOC m]"],
        sw=["[PER s]"],
    )
    corpus = corpus_of(en=["[PER a]"] * 3000)
    drawn = Counter(s.words[0] for s in run(corpus, "family", pools).corpus["en"])
    # mr has no person; its turn goes to the others.
    assert even(Counter(word[0] for word in drawn.elements()), 2)
    assert even(Counter(word for word in drawn.elements() if word[0] == "d"), 2)
    assert even(Counter(word for word in drawn.elements() if word[0] == "h"), 10)


def test_draws_in_a_sentence_and_between_sentences_are_independent() -> None:
    pools = corpus_of(en=["[PER a] [PER b] [PER c]"])
    corpus = corpus_of(en=["[PER x] [PER y]"] * 4001)
    drawn = [tuple(s.words) for s in run(corpus, "language", pools).corpus["en"]]
    assert even(Counter(drawn), 9)
    following = zip(drawn[:-1:2], drawn[1::2], strict=True)
    assert even(Counter((one[0], other[0]) for one, other in following), 9)


# ---- real data


def read(path: Path) -> list[Sentence]:
    blocks = path.read_bytes().decode().strip("\n").split("\n\n")
    rows = [[line.split("\t") for line in block.split("\n")] for block in blocks]
    return [Sentence([w for w, _ in block], [t for _, t in block]) for block in rows]


@pytest.fixture(scope="module")
def panx(shared: Path) -> Corpus:
    codes = ["en", "zh", "my", "yo", "hi", "mr", "sw"]
    return {code: read(shared / "data" / "panx" / code / "test.tsv")[:2000] for code in codes}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "noise"])
def test_real_sentences(panx: Corpus, kind: str) -> None:
    corpus = {code: sentences[:100] for code, sentences in panx.items()}
    result = run(corpus, kind, panx, unlucky)
    check(corpus, kind, panx, unlucky, result)
    expected = {"script": {"zh", "my"}}.get(kind, set())
    for code, counts in result.counts.items():
        assert (counts.changed == 0) == (code in expected)
        assert (counts.without_candidate == 0) == (code not in expected)


def test_real_sentences_with_noise(panx: Corpus) -> None:
    result = run(panx, "noise")
    for code, sentences in panx.items():
        counts = result.counts[code]
        assert counts.changed > 0.98 * len(sentences)
        assert counts.changed + counts.without_entity + counts.without_candidate == len(sentences)
        lengths = Counter[int]()
        for before, after in zip(sentences, result.corpus[code], strict=True):
            assert around(*after) == around(*before)
            if before == after:
                assert any(not re.search(r"[^\W\d_]", "".join(w)) for _, w in held([before]))
                continue
            for (_, was), (_, is_) in zip(held([before]), held([after]), strict=True):
                assert was != is_
                assert set("".join(was)) >= set("".join(is_))
                lengths[len(is_) - len(was)] += 1
        # Only where words are characters does an edit change their number.
        assert set(lengths) == ({-1, 0, 1} if code == "zh" else {0})
