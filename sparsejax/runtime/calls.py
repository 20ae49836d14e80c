"""The steps of a run in calls of several of them, so that the host has little to do for each.

To start a program the host goes through all arrays of its state, some 600 to 900 for twelve layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

STEPS = 10  # of one call at most


def calls(
    batches: Iterable[np.ndarray], size: int, done: int, *every: int, due: Callable[[int], bool]
) -> Iterator[tuple[np.ndarray, int]]:
    """The rows of several steps at a time.

    The first call is of one step, for it compiles; none goes beyond a step after which the host has
    something to do, or masks are brought up to date, which the end of a call is for.

    Args:
      batches: numbers of rows, for each step that is left.
      size: rows of a batch with the empty ones.
      done: steps made before.
      every: there is something to do after each multiple of any of them.
      due: of `pruning.due`.

    Yields:
      int [STEPS, size] of numbers, -1 where there is none; how many steps.
    """
    chosen, count, step = _empty(size), 0, done
    for numbers in batches:
        chosen[count, : len(numbers)] = numbers
        count, step = count + 1, step + 1
        ends = any(step % one == 0 for one in every) or due(step - 1)
        if count == STEPS or ends or step == done + 1:
            yield chosen, count
            chosen, count = _empty(size), 0
    if count:
        yield chosen, count


def _empty(size: int) -> np.ndarray:
    return np.full((STEPS, size), -1)
