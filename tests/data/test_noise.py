"""One edit of one letter, in scripts whose characters are several code points."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsejax.data import noise
from sparsejax.data.sentences import Sentence

E = "e\u0323\u0300"
HAN = "\u1112\u1161\u11ab"  # 한 as its three letters


def outcomes(words: list[str], by_word: bool = False) -> set[tuple[str, ...]]:
    """All that the edits lead to: by every sequence of draws, not by chance."""
    found: set[tuple[str, ...] | None] = set()
    todo: list[list[int]] = [[]]
    while todo:
        draws = todo.pop()
        sizes: list[int] = []

        def draw(below: int, draws: list[int] = draws, sizes: list[int] = sizes) -> int:
            sizes.append(below)
            return draws[len(sizes) - 1] if len(sizes) <= len(draws) else 0

        new = noise.edit(words, by_word, draw)
        found.add(None if new is None else tuple(new))
        # Each sequence is met once: by the draws that are given, followed by zeros alone.
        for at in range(len(draws), len(sizes)):
            given = draws + [0] * (at - len(draws))
            todo += [[*given, other] for other in range(1, sizes[at])]
    if None in found:
        assert found == {None}  # where an edit is possible, one is found
    return {new for new in found if new is not None}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("abc", "aabc abbc abcc bc ac ab bac acb"),
        ("aab", "aaab aabb ab aa aba"),
        ("Aa", "AAa Aaa a A aA"),
        ("X", "XX"),
        ("a1b", "aa1b a1bb 1b a1"),  # nothing is swapped across a digit
        ("a-b", "aa-b a-bb -b a-"),
        ("7b", "7bb 7"),
        ("Ìlẹ̀", "ÌÌlẹ̀ Ìllẹ̀ Ìlẹ̀ẹ̀ lẹ̀ Ìẹ̀ Ìl lÌẹ̀ Ìẹ̀l"),
        (f"{E}b", f"{E}{E}b {E}bb b {E} b{E}"),
        ("हिन्दी", "हिहिन्दी हिन्दीन्दी न्दी हि न्दीहि"),  # the conjunct n-d is one
        ("ที่นี่", "ที่ที่นี่ ที่นี่นี่ นี่ ที่ นี่ที่"),
        ("น้ำใจ", "น้ำน้ำใจ น้ำใใจ น้ำใจจ ใจ น้ำจ น้ำใ ใน้ำจ น้ำจใ"),
        ("한국", "한한국 한국국 국 한 국한"),
        (f"{HAN}국", f"{HAN}{HAN}국 {HAN}국국 국 {HAN} 국{HAN}"),
        ("ကာလ", "ကာကာလ ကာလလ လ ကာ လကာ"),  # the vowel stays with its consonant
        ("တော်ကြီး၏", "တော်တော်ကြီး၏ တော်ကြီးကြီး၏ ကြီး၏ တော်၏ ကြီးတော်၏"),
        ("ن\u200cآ", "ن\u200cن\u200cآ ن\u200cآآ آ ن\u200c آن\u200c"),
        ("👩‍👩‍👧a", "👩‍👩‍👧aa 👩‍👩‍👧"),
        ("🇩🇪a🇫🇷", "🇩🇪aa🇫🇷 🇩🇪🇫🇷"),
        ("\u0301a", "\u0301aa \u0301"),
        # A bare consonant would run together with one after it, as would one of Hangul.
        ("दिक्", "दिदिक् क् दि"),
        ("가\u1100", "가가\u1100 \u1100 가"),
    ],
)  # fmt: skip
def test_by_hand(word: str, expected: str) -> None:
    assert outcomes([word]) == {(new,) for new in expected.split()}


def test_words_that_are_not_edited_stay() -> None:
    assert outcomes(["A", "(", "bc"]) == {
        ("AA", "(", "bc"),  # A is not dropped: its word would be empty
        ("A", "(", "bbc"),
        ("A", "(", "bcc"),
        ("A", "(", "b"),
        ("A", "(", "c"),
        ("A", "(", "cb"),
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("英", ["英 英"]),
        ("英 国", ["英 英 国", "英 国 国", "国", "英", "国 英"]),
        ("婷 婷", ["婷 婷 婷", "婷"]),
        ("ブ ・ ン", ["ブ ブ ・ ン", "ブ ・ ン ン", "・ ン", "ブ ・"]),
        (
            "が き\u3099",
            ["が が き\u3099", "が き\u3099 き\u3099", "き\u3099", "が", "き\u3099 が"],
        ),
        ("草 None", ["草 草 None", "草 None None", "None", "草", "None 草"]),
        ("2 年", ["2 年 年", "2"]),
    ],
)
def test_where_words_are_characters(words: str, expected: list[str]) -> None:
    assert outcomes(words.split(), by_word=True) == {tuple(new.split()) for new in expected}


@pytest.mark.parametrize("by_word", [False, True])
@pytest.mark.parametrize(
    "words", [["7"], ["2", "0"], ["-"], ["🇩🇪"], ["!", "👩‍👩‍👧"], ["\u0301"], ["１９"], []]
)
def test_without_a_letter_there_is_no_edit(words: list[str], by_word: bool) -> None:
    assert outcomes(words, by_word) == set()


# Characters that never run together, and whether each is a letter; what they are is given here,
# not computed.
LETTERS = ["a", "B", "ß", "é", "я", "한", "英", "ن\u200c", "ẹ̀", E]
LETTERS += ["न", "न्दी", "क्षि", "ที่", "น้ำ", "ကြီး", "က"]
OTHERS = ["1", "२", "-", "(", "🇩🇪", "👩‍👩‍👧", "'"]


@given(st.lists(st.lists(st.sampled_from(LETTERS + OTHERS), min_size=1, max_size=4), max_size=3))
def test_the_outcomes_are_those_of_one_edit(entity: list[list[str]]) -> None:
    expected = set()
    for row, units in enumerate(entity):
        edited = [[*units[:i], units[i], *units[i:]] for i, u in enumerate(units) if u in LETTERS]
        edited += [[*units[:i], *units[i + 1 :]] for i, u in enumerate(units) if u in LETTERS]
        for i in range(len(units) - 1):
            if units[i] in LETTERS and units[i + 1] in LETTERS:
                edited.append([*units[:i], units[i + 1], units[i], *units[i + 2 :]])
        words = ["".join(u) for u in entity]
        for new in edited:
            if new and new != units:
                expected.add((*words[:row], "".join(new), *words[row + 1 :]))
    assert outcomes(["".join(units) for units in entity]) == expected


@given(
    st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=3), st.booleans(), st.randoms()
)
def test_any_text(words: list[str], by_word: bool, chance: random.Random) -> None:
    """Nothing fails, is left as it was or is left empty; no code point comes from elsewhere."""
    before = list(words)
    new = noise.edit(words, by_word, chance.randrange)
    assert words == before
    if new is None:
        assert not any(word.isascii() and word.isalpha() for word in words)
        return
    assert new != words and new and all(new)
    assert set("".join(new)) <= set("".join(words))
    if not by_word:
        assert len(new) == len(words)
        assert sum(a != b for a, b in zip(new, words, strict=True)) == 1


def test_every_edit_is_as_likely() -> None:
    chance = random.Random(1)
    drawn = Counter(str(noise.edit(["abc"], False, chance.randrange)) for _ in range(8000))
    assert len(drawn) == 8
    assert all(abs(count - 1000) < 5 * (1000 * 7 / 8) ** 0.5 for count in drawn.values())


@pytest.mark.parametrize(
    ("entities", "expected"),
    [
        (["英 格 兰", "高 崚"], True),
        (["草 None 蜢"], True),
        (["ที่ นี่"], True),
        (["Ada Lovelace", "J . Doe", "김"], False),
        (["U S", "New York"], False),  # half of them
        ([], False),
    ],
)
def test_split_into_characters(entities: list[str], expected: bool) -> None:
    sentences = [
        Sentence(["x", *words, "."], ["O", "B-LOC", *["I-LOC"] * (len(words) - 1), "O"])
        for words in map(str.split, entities)
    ]
    assert (
        noise.split_into_characters([Sentence(list("abc"), ["O"] * 3)] * 9 + sentences) is expected
    )
