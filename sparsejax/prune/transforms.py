"""The transform that all methods give, whose masks can also be brought up to date by themselves."""

from __future__ import annotations

from typing import Any, Protocol

import optax


class Refresh(Protocol):
    def __call__(self, params: Any, state: Any, allowed: Any = True) -> tuple[Any, Any]: ...


class PruningTransformation(optax.GradientTransformationExtraArgs):  # type: ignore[misc]
    """An optax transform that prunes; `init` and `update` are all that a training needs.

    By itself, ``update`` decides in the compiled program whether masks are due, by a condition
    on every step. An accelerator waits for such a condition, and what is to be ranked is written to
    memory whether or not it will be. A caller who knows the schedule can do without: with
    ``masks_rest=True`` an update only keeps pruned weights pruned, and ``refresh`` after it makes
    of it what it would have been, if masks were due in it. It must follow each update that
    ``schedule.is_due(step)`` names, and may follow others::

      updates, opt_state = tx.update(grads, opt_state, params, masks_rest=True)
      params = optax.apply_updates(params, updates)
      params, opt_state = tx.refresh(params, opt_state)

    Attributes:
      refresh: (params, state, allowed=True) -> (params, state). ``params`` change in hard methods
        only; where ``allowed``, a boolean that may be traced, is false, nothing does.
    """

    refresh: Refresh

    def __new__(
        cls,
        init: optax.TransformInitFn,
        update: optax.TransformUpdateExtraArgsFn,
        refresh: Refresh,
    ) -> PruningTransformation:
        made = super().__new__(cls, init, update)
        made.refresh = refresh
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (*self, self.refresh)  # or it could not be copied


def last_of_chain(
    optimizer: optax.GradientTransformation, pruning: PruningTransformation
) -> PruningTransformation:
    """``optax.chain(optimizer, pruning)``, whose masks can be brought up to date by themselves."""
    chain = optax.chain(optimizer, pruning)

    def refresh(params: Any, state: Any, allowed: Any = True) -> tuple[Any, Any]:
        params, last = pruning.refresh(params, state[-1], allowed)
        return params, (*state[:-1], last)

    return PruningTransformation(chain.init, chain.update, refresh)
