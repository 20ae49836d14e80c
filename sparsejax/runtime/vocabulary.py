"""The rows of the word embeddings that are trained: those that the training sentences look up.

A vocabulary of many languages has many others. They have no gradient: their moments stay zero, and
all that AdamW does is to let them decay. A step need not read and write them, which is a large part
of the memory that it moves; the decay of all steps is one factor.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import NamedSharding

from sparsejax.config import Config
from sparsejax.data.packing import Packed
from sparsejax.models.bert import BertConfig, Params
from sparsejax.prune import Masks
from sparsejax.runtime import optimization, parallel
from sparsejax.runtime.steps import TrainState

PATH = "embeddings/word/embedding"
FEWEST = 4096  # rows, of which there are a power of two
WORTH = 0.75  # of the whole vocabulary: above that, little is saved


@dataclass(frozen=True)
class Vocabulary:
    """Which rows are trained, and all rows as they were before; see `choose`."""

    rows: np.ndarray  # int64 [trained], ascending: the pieces that are rows 0, 1, ... of a step
    before: np.ndarray  # float32 [pieces, hidden_size]

    def describe(self) -> str:
        """How many are trained, in words."""
        return (
            f"{len(self.rows):,} of {len(self.before):,} word embeddings are trained; "
            "the others are in no training sentence, and only decay"
        )

    @functools.cached_property
    def digest(self) -> str:
        """Of what the state of the training does not hold, and the model will."""
        found = hashlib.sha256(np.ascontiguousarray(self.before).data)
        found.update(self.rows.tobytes())
        return found.hexdigest()

    def part(
        self, model: BertConfig, packed: Packed, params: Params
    ) -> tuple[BertConfig, Packed, Params]:
        """What a step sees of the three: tokens are numbers of rows then."""
        tokens = np.searchsorted(self.rows, packed.tokens).astype(packed.tokens.dtype)
        return (
            dataclasses.replace(model, vocab_size=len(self.rows)),
            dataclasses.replace(packed, tokens=tokens),
            _with_words(params, self.before[self.rows]),
        )

    def whole(
        self,
        state: TrainState,
        program: optimization.Program,
        numbers: optimization.Numbers,
    ) -> TrainState:
        """The state with all rows in its parameters.

        Args:
          state: after any number of steps.
          program, numbers: of the run.
        """
        assert program.mesh is not None
        sharding = parallel.of_parameters(self.before, program.mesh)
        before = parallel.place(self.before, sharding)
        rows = parallel.place(self.rows, parallel.whole(program.mesh))
        left = np.float32(optimization.left_by_decay(program, numbers, int(state.step)))
        trained = state.params["embeddings"]["word"]["embedding"]
        words = parallel.in_turn(_make_put(sharding)(before, rows, trained, left))
        return state._replace(params=_with_words(state.params, words))


def choose(
    config: Config, tokens: np.ndarray, params: Params, masks: Masks | None
) -> Vocabulary | None:
    """The rows of pieces that occur, and others up to a power of two, so that runs share programs.

    The choice must not depend on the devices: a run may go on with others.

    Args:
      config: of the run.
      tokens: int [...], all that will be looked up.
      params: before the first step.
      masks: of a model that is pruned already.

    Returns:
      None where all rows are trained: nearly all of them occur, or word embeddings are pruned.
    """
    words = params["embeddings"]["word"]["embedding"]
    if config.prune.embeddings or PATH in (masks or {}):
        return None
    occurs = np.zeros(len(words), bool)
    occurs[tokens] = True
    count, size = np.count_nonzero(occurs), FEWEST
    while size < count:
        size *= 2
    if size > WORTH * len(words):
        return None
    occurs[np.flatnonzero(~occurs)[: size - count]] = True
    return Vocabulary(np.flatnonzero(occurs), np.asarray(words))


def _with_words(params: Params, words: np.ndarray | jax.Array) -> Params:
    embeddings = params["embeddings"] | {"word": {"embedding": words}}
    return params | {"embeddings": embeddings}


@functools.cache
def _make_put(sharding: NamedSharding) -> jax.stages.Wrapped:
    def put(before: jax.Array, rows: jax.Array, trained: jax.Array, left: jax.Array) -> jax.Array:
        kept = before * left
        return kept.at[rows].set(trained, unique_indices=True, indices_are_sorted=True)

    return jax.jit(put, out_shardings=sharding)
