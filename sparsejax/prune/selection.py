"""From scores to masks: which targets, how many of their units at which step, ranked among whom."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from sparsejax.prune import masks, patterns
from sparsejax.prune.schedules import Schedule, is_known
from sparsejax.prune.states import Masks, check_masks, is_traced
from sparsejax.prune.targets import Rules, by_path, resolve

Scope = Literal["tensor", "global"]

# Units that are ranked in the same passes, where leaves are alike: an accelerator starts fewer
# kernels. A CPU starts none, and is slower with more than its caches hold.
AT_ONCE = 8 * 2**20


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A target, and how it is pruned."""

    shape: tuple[int, ...]
    schedule: Schedule
    pattern: patterns.Pattern

    @property
    def units(self) -> int:
        """How many things are kept or pruned as a whole."""
        return math.prod(patterns.units_shape(self.pattern, self.shape))

    def kept_finally(self) -> int:
        """How many weights are kept in the end, ranked within this leaf."""
        if isinstance(self.pattern, patterns.NofM):
            return math.prod(self.shape) // self.pattern.m * self.pattern.n
        size = patterns.unit_size(self.pattern, self.shape)
        return self.schedule.kept_finally(self.units) * size


@dataclasses.dataclass(frozen=True)
class Selection:
    """What all methods have in common.

    Attributes:
      schedule: how sparse at which step.
      rules: which leaves are targets.
      scope: "tensor" ranks units within their tensor, each of which reaches the sparsity; "global"
        ranks those of all targets together, which reach it together.
      pattern: the granularity of all targets whose rule does not give one.
    """

    schedule: Schedule
    rules: Rules
    scope: Scope = "tensor"
    pattern: patterns.Pattern = None

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a prune.Schedule, got {self.schedule!r}")
        if not isinstance(self.pattern, patterns.NofM | patterns.Blocks | None):
            raise ValueError(f"pattern must be NofM, Blocks or None, got {self.pattern!r}")
        if not isinstance(self.rules, list | tuple):
            raise ValueError(f"targets must be a list of rules, got {self.rules!r}")
        if self.scope not in ("tensor", "global"):
            raise ValueError(f"scope must be 'tensor' or 'global', got {self.scope!r}")

    def leaves(self, params: Any) -> dict[str, Leaf]:
        """The targets among some parameters (arrays, or anything with a shape), by path.

        Raises:
          ValueError: if the rules, the sparsities or the patterns do not fit the parameters.
        """
        arrays = by_path(params)
        shapes = {name: np.shape(array) for name, array in arrays.items()}
        found = {}
        for name, target in resolve(self.rules, params).items():
            if target is None:
                continue
            if not jnp.issubdtype(jnp.result_type(arrays[name]), jnp.floating):
                dtype = jnp.result_type(arrays[name])
                raise ValueError(f"{name}: only floats can be pruned, got {dtype}")
            pattern = self.pattern if target.pattern is None else target.pattern
            patterns.validate(pattern, name, shapes[name])
            schedule = self.schedule
            if target.sparsity is not None:
                try:
                    schedule = dataclasses.replace(schedule, final=target.sparsity)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
            found[name] = Leaf(shapes[name], schedule, pattern)
        for name, leaf in found.items():
            self._validate(name, leaf, next(iter(found)), found)
        return found

    def _validate(self, name: str, leaf: Leaf, first: str, leaves: Mapping[str, Leaf]) -> None:
        final, pattern = leaf.schedule.final, leaf.pattern
        if isinstance(pattern, patterns.NofM):
            asked = 1 - pattern.n / pattern.m
            if self.scope == "global":
                raise ValueError(
                    f"{name}: {pattern} is kept within a tensor, not by scope='global'"
                )
            if is_known(final) and abs(float(final) - asked) > 1e-6:
                raise ValueError(f"{name}: {pattern} is a sparsity of {asked:.6g}, not {final}")
        if self.scope == "global":
            if leaf.schedule is not self.schedule:
                raise ValueError(f"{name}: a sparsity of its own does not go with scope='global'")
            size, other = (patterns.unit_size(x.pattern, x.shape) for x in (leaf, leaves[first]))
            if size != other:
                raise ValueError(
                    f"scope='global' ranks blocks of one size: those of {first} have {other} "
                    f"weights, those of {name} {size}"
                )

    def start_masks(
        self, leaves: Mapping[str, Leaf], params: Any, given: Masks | None, final: bool = True
    ) -> dict[str, jax.Array]:
        """The masks before the first step: all kept, or what was given.

        Args:
          leaves: of :meth:`leaves`.
          params: the parameters.
          given: the masks of a model that is pruned already.
          final: whether the schedule says how sparse the model will be.

        Raises:
          ValueError: naming a target whose mask is missing, of another shape, not made of whole
            units of the pattern, or sparser than the schedule will be.
        """
        weights = by_path(params)
        kept = {name: jnp.ones_like(weights[name], jnp.bool_) for name in leaves}
        if given is None or not leaves:  # without leaves, optax asks for the state's structure
            return kept
        check_masks(given, kept, complete=True)
        if not is_traced(given):
            known = {name: np.asarray(given[name]) for name in leaves}
            for name, leaf in leaves.items():
                _refuse_partial(name, leaf, known[name])
            if final and all(is_known(leaf.schedule.final) for leaf in leaves.values()):
                self._refuse_sparser(leaves, known)
        # Copies: a step that donates its state must not delete what the caller holds.
        return {name: jnp.array(given[name]) for name in leaves}

    def _refuse_sparser(self, leaves: Mapping[str, Leaf], given: Mapping[str, np.ndarray]) -> None:
        for names, kept, _ in self.asked(leaves):
            if (left := sum(np.count_nonzero(given[name]) for name in names)) < kept:
                where = names[0] if len(names) == 1 else "all targets"
                raise ValueError(
                    f"{where}: the masks keep {left} weights, fewer than the {kept} that the "
                    "schedule ends with"
                )

    def is_dense(self) -> bool:
        """Whether nothing will ever be pruned, as far as can be known before the program runs."""
        own = [what for _, what in self.rules if not isinstance(what, bool)]
        finals = [self.schedule.final, *(getattr(what, "sparsity", what) for what in own)]
        return all(x is None or (is_known(x) and x == 0) for x in finals)

    def select(
        self, leaves: Mapping[str, Leaf], step: jax.Array, scores: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """The masks of a step.

        Args:
          leaves: of :meth:`leaves`.
          step: int32 scalar.
          scores: for each target an array with one float per unit; the highest are kept.

        Returns:
          For each target a boolean array of its own shape.
        """
        if not leaves:
            return {}
        if self.scope == "global":
            kept = self.schedule.kept(step, sum(leaf.units for leaf in leaves.values()))
            chosen = masks.top_k_masks([scores[name] for name in leaves], kept)
            units = dict(zip(leaves, chosen, strict=True))
        else:
            units = _each_within(leaves, step, scores)
        return {
            name: patterns.expand(leaf.pattern, units[name], leaf.shape)
            for name, leaf in leaves.items()
        }

    def asked(self, leaves: Mapping[str, Leaf]) -> Iterator[tuple[list[str], int, int]]:
        """What a finished run is held to: (paths, weights kept in them, weights in a unit)."""
        if self.scope == "tensor":
            for name, leaf in leaves.items():
                yield [name], leaf.kept_finally(), patterns.unit_size(leaf.pattern, leaf.shape)
        elif leaves:
            first = next(iter(leaves.values()))
            size = patterns.unit_size(first.pattern, first.shape)
            units = sum(leaf.units for leaf in leaves.values())
            yield list(leaves), self.schedule.kept_finally(units) * size, size


def _refuse_partial(name: str, leaf: Leaf, mask: np.ndarray) -> None:
    if isinstance(leaf.pattern, patterns.NofM):
        axis, m = leaf.pattern.axis % mask.ndim, leaf.pattern.m
        groups = mask.reshape(*mask.shape[:axis], -1, m, *mask.shape[axis + 1 :])
        if np.any(groups.sum(axis + 1) < leaf.pattern.n):
            raise ValueError(f"the mask of {name} keeps less than {leaf.pattern} in some group")
    elif leaf.pattern is not None and not patterns.is_whole(leaf.pattern, mask):
        raise ValueError(f"the mask of {name} is not made of whole blocks of {leaf.pattern}")


def _each_within(
    leaves: Mapping[str, Leaf], step: jax.Array, scores: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """The chosen units of each leaf, ranked within it; leaves that are alike are ranked at once."""
    units, alike = {}, defaultdict(list)
    for name, leaf in leaves.items():
        score = scores[name]
        if isinstance(leaf.pattern, patterns.NofM):
            n, m = leaf.pattern.n, leaf.pattern.m
            kept = jnp.maximum(leaf.schedule.kept(step, m), n)
            units[name] = masks.n_of_m_mask(score, kept, m, leaf.pattern.axis)
        else:
            # Schedules may hold arrays, which are no keys.
            alike[score.shape, score.dtype, id(leaf.schedule)].append(name)
    for names in alike.values():
        leaf = leaves[names[0]]
        kept, most = leaf.schedule.kept(step, leaf.units), max(1, AT_ONCE // max(1, leaf.units))
        for some in (names[i : i + most] for i in range(0, len(names), most)):
            stacked = jnp.stack([scores[name] for name in some])
            chosen = masks.top_k_of_each(stacked, jnp.full(len(some), kept))
            units |= dict(zip(some, chosen, strict=True))
    return units
