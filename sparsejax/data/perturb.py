"""Sentences with every entity replaced: what of a tagger's score is memory of names.

The words around the entities stay. An entity is replaced with one of its own type, so that the
right tags are known.
"""

from __future__ import annotations

import functools
import random
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from sparsejax.data import noise
from sparsejax.data.sentences import Corpus, Entity, Sentence, entities

KINDS = ("language", "script", "family", "unseen", "noise")
"""What an entity is replaced with:

- language: another entity of the same language;
- script, family: one of another language of the same script or family;
- unseen: one of the same language that training did not hold;
- noise: itself with one letter swapped, dropped or repeated.
"""

# Values that two languages may have in common without having anything in common.
_SHARED_BY_NONE = ("unknown", "Isolate")

_Replace = Callable[[list[str], str, noise.Draw], Sequence[str] | None]


class Described(Protocol):
    """What has to be known of a language."""

    @property
    def family(self) -> str: ...

    @property
    def script(self) -> str: ...


class Counts(NamedTuple):
    """Sentences of one language; every sentence is one of the first three."""

    changed: int
    without_entity: int
    without_candidate: int  # an entity of theirs could not be replaced, so none was
    replaced: int  # entities, in the changed sentences


class Perturbed(NamedTuple):
    corpus: Corpus  # the languages and sentences that were given, in their order
    changed: dict[str, list[bool]]  # by language, whether each sentence is another one now
    counts: dict[str, Counts]  # by language


def perturb(
    corpus: Corpus,
    kind: str,
    *,
    pools: Corpus,
    describe: Callable[[str], Described],
    seen: Callable[[str, Sequence[str]], bool],
    seed: int,
) -> Perturbed:
    """Replaces every entity of every sentence.

    An entity is drawn from the distinct ones of its type, each as likely as any other however often
    it occurs, and never itself in another case or normalisation. Of several languages one that has
    a candidate is drawn first, each as likely as any other: the union would be mostly the languages
    with the most data. A sentence with an entity that has no candidate stays as it is.

    What becomes of a sentence depends on the seed, the kind, its language, its place in the
    language and the pools; not on which other sentences and languages are there.

    Args:
      corpus: the sentences to change.
      kind: one of KINDS.
      pools: the sentences whose entities are drawn, of every language that they are to come from.
        For noise they tell whether a language is split into characters.
      describe: script and family of a language by its code; "unknown" and "Isolate" are shared by
        no two languages.
      seen: whether the training data of a language hold an entity, given as its words.
      seed: of the draws.

    Raises:
      ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; the kinds are {' '.join(KINDS)}")

    @functools.cache
    def pool(language: str) -> _Pool:
        allowed = (lambda words: not seen(language, words)) if kind == "unseen" else None
        return _Pool(pools.get(language, []), allowed)

    result = Perturbed({}, {}, {})
    for language, sentences in corpus.items():
        if kind == "noise":
            replace = _noise(noise.split_into_characters(pools.get(language, [])))
        elif kind in ("language", "unseen"):
            replace = pool(language).draw
        else:
            others = _sharing(kind, language, pools, describe)
            replace = functools.partial(_draw_of_any, [pool(other) for other in others])
        found = [entities(sentence.tags) for sentence in sentences]
        new = [
            _replaced(sentence, f, replace, _dice(f"{seed}/{kind}/{language}/{index}"))
            for index, (sentence, f) in enumerate(zip(sentences, found, strict=True))
        ]
        result.corpus[language] = [n or s for n, s in zip(new, sentences, strict=True)]
        result.changed[language] = changed = [n is not None for n in new]
        without = sum(not f for f in found)
        result.counts[language] = Counts(
            changed=sum(changed),
            without_entity=without,
            without_candidate=len(sentences) - sum(changed) - without,
            replaced=sum(len(f) for f, c in zip(found, changed, strict=True) if c),
        )
    return result


def _dice(text: str) -> noise.Draw:
    # Of all that Random offers, only random() gives the same numbers in every version of Python;
    # and a text seeds it alike in every process, which hash(text) would not.
    uniform = random.Random(text).random
    return lambda below: int(uniform() * below)


def _replaced(
    sentence: Sentence, found: list[Entity], replace: _Replace, draw: noise.Draw
) -> Sentence | None:
    """The sentence with all of its entities replaced; None where that is not possible."""
    if not found:
        return None
    words: list[str] = []
    tags: list[str] = []
    done = 0
    for begin, end, kind in found:
        new = replace(sentence.words[begin:end], kind, draw)
        if new is None:
            return None
        words += [*sentence.words[done:begin], *new]
        tags += [*sentence.tags[done:begin], f"B-{kind}", *[f"I-{kind}"] * (len(new) - 1)]
        done = end
    return Sentence(words + sentence.words[done:], tags + sentence.tags[done:])


def _noise(by_word: bool) -> _Replace:
    return lambda words, _, draw: noise.edit(words, by_word, draw)


def _sharing(
    what: str, language: str, pools: Corpus, describe: Callable[[str], Described]
) -> list[str]:
    """The other languages of the same script or family, in an order that is always the same."""
    own = getattr(describe(language), what)
    if own in _SHARED_BY_NONE:
        return []
    return [
        other
        for other in sorted(pools)
        if other != language and getattr(describe(other), what) == own
    ]


def _draw_of_any(
    pools: Sequence[_Pool], words: list[str], kind: str, draw: noise.Draw
) -> tuple[str, ...] | None:
    rest = list(pools)
    while rest:
        new = rest.pop(draw(len(rest))).draw(words, kind, draw)
        if new is not None:
            return new
    return None


class _Pool:
    """The distinct entities of a language by type, those spelled alike next to each other."""

    def __init__(
        self, sentences: Sequence[Sentence], allowed: Callable[[Sequence[str]], bool] | None
    ) -> None:
        distinct: dict[str, set[tuple[str, ...]]] = {}
        for words, tags in sentences:
            for begin, end, kind in entities(tags):
                distinct.setdefault(kind, set()).add(tuple(words[begin:end]))
        self._entities: dict[str, list[tuple[str, ...]]] = {}
        self._spellings: dict[str, list[str]] = {}
        for kind, all_words in distinct.items():
            pairs = sorted((_spelling(w), w) for w in all_words if allowed is None or allowed(w))
            self._entities[kind] = [words for _, words in pairs]
            self._spellings[kind] = [spelling for spelling, _ in pairs]

    def draw(self, words: list[str], kind: str, draw: noise.Draw) -> tuple[str, ...] | None:
        """An entity that is not spelled like the one given; None where there is none."""
        spellings = self._spellings.get(kind, [])
        spelling = _spelling(words)
        begin = bisect_left(spellings, spelling)
        alike = bisect_right(spellings, spelling, begin) - begin
        if len(spellings) == alike:
            return None
        chosen = draw(len(spellings) - alike)
        return self._entities[kind][chosen + alike if chosen >= begin else chosen]


def _spelling(words: Sequence[str]) -> str:
    """The same for an entity in any case and normalisation."""
    return unicodedata.normalize("NFC", " ".join(words).casefold())
