"""The rows of the word embeddings that are trained: those of pieces that are in the sentences.

A vocabulary of many languages has many rows that the training sentences never look up. Such a row
has no gradient: its moments stay zero, and all that AdamW does is to let it decay. A step need not
read and write it, which is most of the memory that a step moves; the decay of all steps is one
factor.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from sparsejax.config import Config
from sparsejax.data.packing import Packed
from sparsejax.models.bert import Params
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
            f"{len(self.rows):,} of {len(self.before):,} word embeddings are trained: "
            "the others are in no sentence, and only decay"
        )

    def numbered(self, packed: Packed) -> Packed:
        """The same with the numbers of rows instead of pieces."""
        tokens = np.searchsorted(self.rows, packed.tokens).astype(packed.tokens.dtype)
        return dataclasses.replace(packed, tokens=tokens)

    def part(self, params: Params) -> Params:
        """The parameters that are trained."""
        return _with_words(params, self.before[self.rows])

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
        left = optimization.left_by_decay(program, numbers, int(state.step))
        everything = parallel.whole(program.mesh)
        before = parallel.place(self.before, everything)
        rows = parallel.place(self.rows, everything)
        trained = state.params["embeddings"]["word"]["embedding"]
        words = _put(before, rows, trained, jnp.float32(left))
        return state._replace(params=_with_words(state.params, words))


def choose(
    config: Config, tokens: np.ndarray, params: Params, masks: Masks | None
) -> Vocabulary | None:
    """The pieces that occur, and others up to a power of two, so that runs share programs.

    Args:
      config: of the run.
      tokens: int [...], all that will be looked up.
      params: before the first step.
      masks: of a model that is pruned already.

    Returns:
      None where all rows are trained: nearly all of them occur, or word embeddings are pruned,
      or devices divide the parameters among themselves already.
    """
    words = params["embeddings"]["word"]["embedding"]
    pruned = config.prune.embeddings or PATH in (masks or {})
    if pruned or config.parallel.fsdp > 1 or WORTH * len(words) < FEWEST:
        return None
    occurs = np.zeros(len(words), bool)
    occurs[tokens] = True
    size = FEWEST
    while size < np.count_nonzero(occurs):
        size *= 2
    if size > WORTH * len(words):
        return None
    others = np.flatnonzero(~occurs)[: size - np.count_nonzero(occurs)]
    occurs[others] = True
    return Vocabulary(np.flatnonzero(occurs), np.asarray(words))


def _with_words(params: Params, words: np.ndarray | jax.Array) -> Params:
    embeddings = params["embeddings"] | {"word": {"embedding": words}}
    return params | {"embeddings": embeddings}


@jax.jit
def _put(before: jax.Array, rows: jax.Array, trained: jax.Array, left: jax.Array) -> jax.Array:
    return (before * left).at[rows].set(trained, unique_indices=True, indices_are_sorted=True)
