"""The splitter loses nothing, breaks no character, and splits real sentences as WikiAnn does."""

from __future__ import annotations

from pathlib import Path

import pytest
import regex
import wikiann
from hypothesis import example, given
from hypothesis import strategies as st

from sparsejax.data import words
from sparsejax.data.noise import characters

ALPHABET = "aB1é.,'’:-–_&(«।،၊·・#° \t\n\u00a0\u2028\u3000\u0301\u200b\u200c\u200d\x1b\x1c\x00"
ALPHABET += "字かカーไม้ກខ្មែรबि한עא့ပ👩🏽\ufe0f\u20e3sS0IV"
TEXT = st.text(st.sampled_from(ALPHABET)) | st.text()


@given(TEXT)
@example("\u0600 1 \u0301'")
def test_every_character_is_in_one_word(text: str) -> None:
    found = words.split(text)
    assert all(text[start:end] == word != "" for word, start, end in found)
    ends = [0, *(end for _, _, end in found)]
    begins = [*(start for _, start, _ in found), len(text)]
    assert all(end <= begin for end, begin in zip(ends, begins, strict=True))
    between = "".join(text[end:begin] for end, begin in zip(ends, begins, strict=True))
    assert between == "".join(c for c in text if c.isspace() or c == "\u200b")
    assert not any(c.isspace() for word in found for c in word.text)


@given(TEXT)
def test_marks_stay_with_their_base(text: str) -> None:
    """But not with white space, which is in no word."""
    for _, start, _ in words.split(text):
        before = text[start - 1 : start]
        alone = not before or before.isspace() or before == "\u200b"
        assert alone or not regex.match(r"\p{M}", text[start])


@given(st.text(st.sampled_from("北京アーไม้ก็မြန်မာखिक्षa1"), min_size=1))
def test_characters_are_those_of_noise(text: str) -> None:
    """Where every letter is a word, words are the characters that no edit takes apart."""
    found = [word.text for word in words.split(f"{text}字")]
    assert found == characters(f"{text}字")


@pytest.mark.parametrize(
    "expected",
    [
        "Haute-Saône| |d'Italie| |P.E.K.K.A| |1564–1642| |טוצ'יגי| |EU:n| |snake_case| |l·l",
        "J.| |R.| |Smith|'s| |U.S.| |home|,| |1,000| |km|.",
        "(|NATO|)|,| |10|%| |of| |AT|&|T|!|?",
        "King|’s| |O'Brien| |'s",
        "1.| |FC| |Köln| |III.| |Ahmed| |in| |1884|.| |He| |was| |15|.",
        "He| |left| |the| |U.S|.|)",
        "...| |''|Upton| |Park|''| |--| |**|!|!|)|)",
        "北|京|市|，|i|O|S|在|2|0|1|6|年|（|NATO|）",
        "パ|イ|パ|ー|・|ｶﾞ|々",
        "ที่|นี่|\u200b|N|A|T|O|ก",
        "ខ្មែ|រ",
        "हिन्दी| |में|।| |क्‍ष",
        "می‌خواهم|،| |ဖြစ်သည်|။",
        "나는| |서울에|.",
        "👩🏽‍🚀|❤️|🇩🇪| |e\u0301te\u0301",
    ],
)
def test_rule(expected: str) -> None:
    found = [word.text for word in words.split(expected.replace("|", ""))]
    assert found == [part for part in expected.split("|") if part.strip(" \u200b")]


def joined(code: str, sentence: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """As people write it: with spaces, but none before the signs that end a part of a sentence.

    In Chinese and Japanese without spaces, which WikiAnn writes as #.
    """
    text, places = "", list[tuple[int, int]]()
    unspaced = code in ("ja", "zh")
    for word in sentence:
        if unspaced and word == "#":
            text += " "
            continue
        attached = unspaced or word in (*",.;:!?)", "'s") or text.endswith("(")
        text += "" if attached or not text else " "
        places.append((len(text), len(text) + len(word)))
        text += word
    return text, places


# The share of WikiAnn's words that come back; what does not is mostly the mark-up of wikis, Latin
# words spelled out in Chinese, and signs that WikiAnn leaves on words (fa, my).
LEAST = {"en": 0.98, "ar": 0.98, "de": 0.98, "fa": 0.93, "he": 0.98, "hi": 0.95, "ja": 0.88}
LEAST |= {"ka": 0.98, "ko": 0.95, "ru": 0.97, "sw": 0.98, "ta": 0.97, "yo": 0.97, "zh": 0.82}


@pytest.mark.parametrize("code", LEAST)
def test_real_sentences(shared: Path, code: str) -> None:
    right = total = 0
    for sentence in wikiann.read(shared / "data/panx" / code / "test.tsv", 500):
        text, places = joined(code, sentence.words)
        right += len(set(places) & {word[1:] for word in words.split(text)})
        total += len(places)
    assert right / total > LEAST[code]
