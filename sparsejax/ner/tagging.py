"""From a model and tokenised sentences to one tag per word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sparsejax.data.packing import pack, unpack
from sparsejax.data.sources import TAGS
from sparsejax.data.tokenization import Encoded, concatenate

MAX_ROWS = 32  # a batch: large enough to keep a device busy, small enough for any of them


def tag(
    predict: Callable[[Any, Mapping[str, Any]], Any],
    params: Any,
    parts: Mapping[str, Encoded],
    length: int,
    pad: int,
) -> dict[str, list[list[str]]]:
    """Tags every word of every sentence once; all languages share their packed rows.

    Args:
      predict: (params, batch) -> label ids int32 [rows, length].
      params: of the model.
      parts: tokenised sentences by language.
      length: of a row.
      pad: id of the padding piece.

    Returns:
      By language, in the sentences' order, a tag per word.
    """
    together = concatenate(list(parts.values()))
    packed = pack(together, length, pad)
    size = min(MAX_ROWS, len(packed.tokens))
    numbers = np.arange(len(packed.tokens))
    # All are dispatched before one is fetched: the device computes while the host lays out rows.
    batches = [
        predict(params, packed.batch(numbers[begin : begin + size], size))
        for begin in range(0, len(numbers), size)
    ]
    ids = np.concatenate([np.asarray(batch) for batch in batches])[: len(numbers)]
    names = np.array(TAGS)
    sentences = iter([names[words].tolist() for words in unpack(ids, packed, together)])
    return {code: [next(sentences) for _ in part.words] for code, part in parts.items()}
