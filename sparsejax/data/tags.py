"""Tags of named entities: the set that some types need, and any usual scheme turned into IOB2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sparsejax.errors import UserError, short

WIKIANN_TYPES = ("PER", "ORG", "LOC")
"""In WikiAnn's own order: its label ids are the indices into `label_set` of them."""

ENDINGS = {"E": "BIOES", "S": "BIOES", "L": "BILOU", "U": "BILOU"}
"""The prefixes at which an entity ends, and the scheme that has them."""


def label_set(types: Iterable[str]) -> tuple[str, ...]:
    """O, then B- and I- of each type: PER, ORG, LOC in that order, the others sorted after them."""
    known = set(types)
    ordered = [kind for kind in WIKIANN_TYPES if kind in known]
    ordered += sorted(known.difference(WIKIANN_TYPES))
    return ("O", *(f"{prefix}-{kind}" for kind in ordered for prefix in "BI"))


class Scheme:
    """Turns the tags of one file into IOB2, sentence by sentence.

    They may be IOB1, IOB2, BIOES or BILOU; which of them it is shows in the tags. As seqeval reads
    them, a tag that should continue an entity but follows none of its type begins one.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Tag] = {}
        self._evidence: dict[str, tuple[str, str]] = {}  # scheme: the place it shows first, the tag
        self._bare = 0  # entities that do not begin with B-, S- or U-
        self._not_iob1 = False  # a B- where IOB1 has I-

    @property
    def scheme(self) -> str:
        """That of the tags so far: IOB1, IOB2 (also where it makes no difference), BIOES, BILOU."""
        for name in ("BIOES", "BILOU"):
            if name in self._evidence:
                return name
        return "IOB1" if self._bare and not self._not_iob1 else "IOB2"

    @property
    def repaired(self) -> int:
        """The tags so far that continue nothing and became B-; in IOB1 they are as they should."""
        return 0 if self.scheme == "IOB1" else self._bare

    def convert(self, tags: Sequence[str], line_of: Callable[[int], str]) -> list[str]:
        """The tags of the next sentence in IOB2.

        Args:
          tags: one per word.
          line_of: the place of the i-th word, which begins the message of an error.

        Raises:
          UserError: a tag that is none, or tags of two schemes in the sentences so far.
        """
        converted = []
        before, kind_before = "O", ""
        for i, text in enumerate(tags):
            tag = self._known.get(text)
            if tag is None:
                tag = self._known[text] = _parse(text, line_of(i))
            prefix, kind, begin, inside = tag
            unfinished = before in ("B", "I")
            if prefix in ("O", "B", "S", "U"):
                continues = False
                if prefix == "B" and kind != kind_before:
                    self._not_iob1 = True
            else:
                continues = unfinished and kind == kind_before
                if not continues:
                    self._bare += 1
            if unfinished and not continues:
                self._note("IOB2", tags[i - 1], line_of(i - 1))
            if prefix in ENDINGS:
                self._note(ENDINGS[prefix], text, line_of(i))
            converted.append(inside if continues else begin)
            before, kind_before = prefix, kind
        if before in ("B", "I"):
            self._note("IOB2", tags[-1], line_of(len(tags) - 1))
        return converted

    def _note(self, scheme: str, tag: str, place: str) -> None:
        """Keeps the first tag that shows each scheme; IOB2 stands for IOB1 too."""
        if scheme in self._evidence:
            return
        for other, (where, known) in self._evidence.items():
            shown = f"{short(tag)} {_meaning(scheme)}, but {where} has {short(known)}, which"
            raise UserError(
                f"{place}: tag schemes are mixed: {shown} {_meaning(other)}; write all in one"
            )
        self._evidence[scheme] = place, tag


class _Tag(NamedTuple):
    prefix: str
    kind: str  # empty for O
    begin: str  # in IOB2, where it begins an entity
    inside: str  # in IOB2, where it continues one


def _parse(tag: str, place: str) -> _Tag:
    if tag == "O":
        return _Tag("O", "", "O", "O")
    prefix, _, kind = tag.partition("-")
    # Whitespace splits a type into several, and the empty one into none.
    if prefix not in {"B", "I", *ENDINGS} or kind.split() != [kind]:
        raise UserError(f"{place}: {short(tag)} is not a tag (O, B-PER, I-PER, ...)")
    return _Tag(prefix, kind, f"B-{kind}", f"I-{kind}")


def _meaning(scheme: str) -> str:
    return "ends an entity as in IOB2" if scheme == "IOB2" else f"is of {scheme}"
