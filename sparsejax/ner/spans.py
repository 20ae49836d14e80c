"""Where the entities of many sentences lie, found at once from flat arrays of label ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparsejax.errors import UserError

Ints = npt.NDArray[np.integer[Any]]


class Spans(NamedTuple):
    """Entities in order; no two of them begin at the same word."""

    begin: npt.NDArray[np.int64]  # [n]: the first word, a position in the flat array of words
    end: npt.NDArray[np.int64]  # [n]: the word after the last
    type: npt.NDArray[np.int32]  # [n]: an index into entity_types(labels)
    sentence: npt.NDArray[np.int64]  # [n]: an index into lengths


def entity_types(labels: Sequence[str]) -> tuple[str, ...]:
    """The types of a label set such as (O, B-PER, I-PER), in the order of their first label.

    Raises:
      UserError: a label that is neither O nor B- or I- and a type.
    """
    return tuple(dict.fromkeys(name for _, name in map(_parts, labels) if name))


def spans(ids: Ints, lengths: Ints, labels: Sequence[str], strict: bool = False) -> Spans:
    """The entities of labelled sentences as seqeval reads IOB2.

    A B- begins an entity, and the I- of its type that follow without a gap continue it. An I- that
    continues nothing begins an entity too (seqeval's default, what `get_entities` gives), unless
    `strict`: then it belongs to none, nor do the I- after it (mode "strict", scheme IOB2). So an
    I- of another type right after a B- ends that entity, and only the lenient reading begins one.

    Args:
      ids: int [words]; the label of each word of all sentences, one sentence after the other.
      lengths: int [sentences]; words of each, 0 is allowed; they sum to the number of ids.
      labels: what an id stands for; in any order, with or without O.

    Raises:
      UserError: as `entity_types`.
      ValueError: lengths that do not sum to the number of ids, an id below 0.
      IndexError: an id that no label has.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    if (ends[-1] if len(ends) else 0) != len(ids):
        raise ValueError(f"the lengths do not sum to the {len(ids)} ids")
    if (ids < 0).any():  # indexing would take it from the end of the labels
        raise ValueError(f"id {ids.min()} is not a label")
    types = entity_types(labels)
    prefixes, names = zip(*map(_parts, labels), strict=True) if labels else ((), ())
    type_of = np.array([types.index(name) if name else -1 for name in names], np.int32)[ids]
    is_b = np.array([prefix == "B" for prefix in prefixes], bool)[ids]

    before = np.empty_like(type_of)  # the type of the previous word of the same sentence
    before[1:] = type_of[:-1]
    before[(ends - lengths)[np.asarray(lengths) > 0]] = -1
    continues = (type_of >= 0) & (type_of == before) & ~is_b
    # Whatever does not continue an entity, a word outside too, ends the one before it.
    pieces = np.flatnonzero(~continues)
    keep = is_b[pieces] if strict else type_of[pieces] >= 0
    begin = pieces[keep]
    return Spans(
        begin=begin,
        end=np.append(pieces[1:], len(ids))[keep],
        type=type_of[begin],
        sentence=np.searchsorted(ends, begin, side="right"),
    )


def found(gold: Spans, predicted: Spans) -> npt.NDArray[np.bool_]:
    """bool [gold spans]: whether one is predicted with the same words and type.

    Args:
      gold, predicted: spans of the same sentences under the same labels.
    """
    # A word begins at most one entity of each side, so the first word finds the counterpart.
    _, i, j = np.intersect1d(gold.begin, predicted.begin, assume_unique=True, return_indices=True)
    hit = np.zeros(len(gold.begin), bool)
    hit[i] = (gold.end[i] == predicted.end[j]) & (gold.type[i] == predicted.type[j])
    return hit


def _parts(label: str) -> tuple[str, str]:
    """(B, PER) of B-PER; (O, nothing) of O."""
    prefix, _, name = label.partition("-")
    if label != "O" and not (prefix in ("B", "I") and name):
        raise UserError(f"label {label!r} is neither O nor B- or I- and a type; use IOB2 labels")
    return prefix, name
