"""How sparse parameters really are, and whether that is what was asked for."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparsejax.prune import patterns
from sparsejax.prune.masks import ordered_bits
from sparsejax.prune.schedules import Schedule
from sparsejax.prune.selection import Scope, Selection
from sparsejax.prune.states import Masks, check_masks, effective_params, masks_of, scores_of
from sparsejax.prune.targets import Rules, Target, by_path, resolve


class Count(NamedTuple):
    """Weights of a parameter, or of many.

    Attributes:
      zeros: how many are exactly zero.
      pruned: how many a mask forbids; the same as ``zeros`` where there are no masks. It is less
        where a weight that nobody pruned happens to be zero.
      size: how many there are.
    """

    zeros: int
    pruned: int
    size: int

    @property
    def sparsity(self) -> float:
        """The fraction that is exactly zero; of no weights at all, 0."""
        return self.zeros / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True)
class Audit:
    """Realised sparsity. The same zeros make three numbers, and papers seldom say which is theirs.

    ``print(audit)`` shows it as a table.

    Attributes:
      leaves: path -> count, for every target.
      targets: the count over all targets.
      encoder: over every parameter below ``encoder/``, biases and norms too; None without any.
      model: over every parameter.
      shapes: path -> shape, for every target.
    """

    leaves: dict[str, Count]
    targets: Count
    encoder: Count | None
    model: Count
    shapes: dict[str, tuple[int, ...]]

    def groups(self) -> dict[str, Count]:
        """The three denominators, or two where there is no encoder."""
        groups = {"targets": self.targets, "encoder": self.encoder, "model": self.model}
        return {name: count for name, count in groups.items() if count is not None}

    def to_dict(self) -> dict[str, Any]:
        """The audit for JSON: counts, and sparsities as fractions."""
        groups = {"encoder": None} | self.groups()
        return {
            **{name: None if count is None else _to_dict(count) for name, count in groups.items()},
            "leaves": {name: _to_dict(count) for name, count in self.leaves.items()},
        }

    def __str__(self) -> str:
        rows = {**self.leaves, **{f"all {name}": c for name, c in self.groups().items()}}
        width = max(map(len, rows))
        head = f"{'weights':<{width}}  {'zero':>13}  {'of':>13}  {'sparsity':>9}"
        return "\n".join(
            [head]
            + [f"{n:<{width}}  {c.zeros:>13,}  {c.size:>13,}  {c.sparsity:>9.4%}"
               for n, c in rows.items()]
        )  # fmt: skip


def audit(params: Any, opt_state: Any = None, *, targets: Rules | None = None) -> Audit:
    """Counts zeros, on the device and with one transfer to the host.

    Only exact zeros count, of either sign. A denormal is not one, though arithmetic may flush it.

    Args:
      params: a pytree of parameters, each with fewer than 2**31 entries.
      opt_state: the state of the optimizer, with a pruning transform in it. What is counted are
        the parameters that the forward pass uses.
      targets: instead of a state, which parameters to list and to sum up as targets: for a model
        that is dense, or whose state is gone.

    Returns:
      An :class:`Audit`.

    Raises:
      ValueError: if a parameter holds NaN or infinity, or a learned score NaN or
        plus infinity; if a weight that a
        mask forbids is not zero, so that the transform was not the last of its chain; if the state
        has no masks or the rules do not fit the parameters.
    """
    if (opt_state is None) == (targets is None):
        raise ValueError("audit wants the state of an optimizer or targets, one of the two")
    leaves = by_path(params)
    if targets is None:
        masks = masks_of(opt_state)
        check_masks(masks, leaves)
        names = [name for name in leaves if name in masks]
    else:
        masks = {}
        names = [name for name, target in resolve(targets, params).items() if target]

    # The stored weights must be finite, where a mask hides them too.
    used = by_path(effective_params(params, opt_state))
    tally = _tally(list(leaves.values()), list(used.values()), [masks.get(name) for name in leaves])
    zeros, pruned, leaked, bad = np.asarray(tally).T.tolist()
    _raise_for("NaN or infinity in", leaves, bad)
    scores = scores_of(opt_state)
    _raise_for("NaN or infinity in the scores of", scores, map(_count_bad, scores.values()))
    _raise_for("not last in the chain? Weights are masked but not zero in", leaves, leaked)
    sizes = [int(np.prod(np.shape(leaf))) for leaf in leaves.values()]
    counts = dict(zip(leaves, map(Count, zeros, pruned, sizes), strict=True))
    in_encoder = [name for name in counts if name.startswith("encoder/")]
    return Audit(
        leaves={name: counts[name] for name in names},
        targets=_total(counts[name] for name in names),
        encoder=_total(counts[name] for name in in_encoder) if in_encoder else None,
        model=_total(counts.values()),
        shapes={name: np.shape(leaves[name]) for name in names},
    )


def check(
    report: Audit,
    schedule: Schedule,
    targets: Rules = ((".*", True),),
    *,
    scope: Scope = "tensor",
    pattern: patterns.Pattern = None,
) -> None:
    """Holds a finished run to what was asked for, within one weight (or block).

    Not for soft movement, whose schedule is that of a threshold.

    Args:
      report: of the finished run.
      schedule: as given to the pruning transform, as is all that follows.
      targets: needed where rules have sparsities or patterns of their own.
      scope: "tensor" checks each target, "global" all of them together.
      pattern: the granularity.

    Raises:
      ValueError: naming the targets where another number of weights is pruned than was asked for.
    """
    shapes = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in report.shapes.items()
    }
    rules = [(re.escape(name), _first_match(targets, name)) for name in shapes]
    selection = Selection(schedule, rules, scope, pattern)
    wrong = []
    for names, kept, unit in selection.asked(selection.leaves(shapes)):
        count = _total(report.leaves[name] for name in names)
        asked = count.size - kept
        if abs(count.pruned - asked) > unit:
            where = names[0] if len(names) == 1 else "all targets"
            wrong.append(f"{where}: {count.pruned} of {count.size} pruned, {asked} asked")
    if wrong:
        raise ValueError("sparsity is not the one asked for: " + "; ".join(wrong))


class Overlap(NamedTuple):
    """How far two masks of one parameter keep the same weights.

    Attributes:
      both: how many weights both keep.
      either: how many at least one keeps.
    """

    both: int
    either: int

    @property
    def jaccard(self) -> float:
        """``both / either``: 1 for the same mask, and where neither keeps anything.

        Two masks drawn at random, each keeping a share d, have d / (2 - d) on average.
        """
        return self.both / self.either if self.either else 1.0


def mask_overlap(a: Masks, b: Masks) -> dict[str, Overlap]:
    """Compares the masks of two runs, leaf by leaf.

    Args:
      a: path -> mask, of :func:`sparsejax.prune.masks_of` or :func:`sparsejax.prune.read_masks`.
      b: the same of the other run.

    Returns:
      path -> :class:`Overlap`, whose ``jaccard`` is the similarity and 1 minus it the difference.

    Raises:
      ValueError: if the paths or the shapes are not the same.
    """
    check_masks(a, b, complete=True)
    return {
        name: Overlap(*(int(jnp.sum(x)) for x in (a[name] & b[name], a[name] | b[name])))
        for name in a
    }


@jax.jit
def _tally(
    stored: list[jax.Array], used: list[jax.Array], masks: list[jax.Array | None]
) -> jax.Array:
    """For each leaf: zeros, pruned, pruned but not zero, not finite."""
    rows = []
    for raw, leaf, mask in zip(stored, used, masks, strict=True):
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        zero = (ordered_bits(leaf) if is_float else leaf) == 0
        pruned = zero if mask is None else ~mask
        flags = (zero, pruned, pruned & ~zero, ~jnp.isfinite(raw))
        rows.append(jnp.stack([jnp.sum(flag, dtype=jnp.int32) for flag in flags]))
    return jnp.stack(rows)


def _count_bad(scores: jax.Array) -> int:
    # Minus infinity is the score of what was pruned before the start.
    return int(jnp.sum(~(scores < jnp.inf)))


def _first_match(rules: Rules, name: str) -> bool | float | Target:
    for pattern, what in rules:
        if re.fullmatch(pattern, name):
            if what is False:
                raise ValueError(f"{name} is pruned, but the rule {pattern!r} leaves it alone")
            return what
    raise ValueError(f"no rule matches the parameter {name!r}")


def _raise_for(what: str, leaves: Iterable[str], counts: Iterable[int]) -> None:
    named = [f"{name} ({count})" for name, count in zip(leaves, counts, strict=True) if count]
    if named:
        raise ValueError(f"{what} " + ", ".join(named))


def _total(counts: Iterable[Count]) -> Count:
    return Count(*(sum(column) for column in zip(Count(0, 0, 0), *counts, strict=True)))


def _to_dict(count: Count) -> dict[str, Any]:
    return {**count._asdict(), "sparsity": count.sparsity}
