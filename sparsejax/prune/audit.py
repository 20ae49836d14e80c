"""How sparse parameters really are, and whether that is what was asked for."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from sparsejax.prune.masks import ordered_bits
from sparsejax.prune.schedules import Schedule
from sparsejax.prune.targets import Rules, path, resolve

State = TypeVar("State")


class Count(NamedTuple):
    """Weights of a parameter, or of many.

    Attributes:
      zeros: how many are exactly zero.
      pruned: how many a mask forbids; the same as ``zeros`` where no masks were given. It is less
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

    Attributes:
      leaves: path -> count, for every target.
      targets: the count over all targets.
      encoder: over every parameter below ``encoder/``, biases and norms too; None without any.
      model: over every parameter.
    """

    leaves: dict[str, Count]
    targets: Count
    encoder: Count | None
    model: Count

    def to_dict(self) -> dict[str, Any]:
        """The audit for JSON: counts, and sparsities as fractions."""
        groups = {"targets": self.targets, "encoder": self.encoder, "model": self.model}
        return {
            **{name: None if count is None else _to_dict(count) for name, count in groups.items()},
            "leaves": {name: _to_dict(count) for name, count in self.leaves.items()},
        }


def audit(params: Any, rules: Rules, masks: Any = None) -> Audit:
    """Counts zeros, on the device and with one transfer to the host.

    Only exact zeros count, of either sign. A denormal is not one, though arithmetic may flush it.

    Args:
      params: a pytree of parameters, each with fewer than 2**31 entries.
      rules: which of them are targets, as given to :func:`sparsejax.prune.magnitude`.
      masks: the masks of the pruning state, to tell what is pruned from what happens to be zero.

    Returns:
      An :class:`Audit`.

    Raises:
      ValueError: if a parameter holds NaN or infinity; if a weight that a mask forbids is not zero;
        if the rules do not fit the parameters, or the masks the rules.
    """
    targets = jax.tree.leaves(resolve(rules, params))
    leaves = {path(keys): leaf for keys, leaf in jax.tree.leaves_with_path(params)}
    of_targets = [name for name, target in zip(leaves, targets, strict=True) if target]
    forbidden = _masks_by_path(masks)
    if masks is not None and forbidden.keys() != set(of_targets):
        odd = min(forbidden.keys() ^ set(of_targets))
        raise ValueError(f"masks and rules disagree on whether {odd!r} is a target")

    tally = _tally(list(leaves.values()), [forbidden.get(name) for name in leaves])
    zeros, pruned, leaked, bad = np.asarray(tally).T.tolist()
    _raise_for("NaN or infinity in", leaves, bad)
    _raise_for("weights that are masked but not zero in", leaves, leaked)
    sizes = [int(np.prod(np.shape(leaf))) for leaf in leaves.values()]
    counts = dict(zip(leaves, map(Count, zeros, pruned, sizes), strict=True))
    in_encoder = [name for name in counts if name.startswith("encoder/")]
    return Audit(
        leaves={name: counts[name] for name in of_targets},
        targets=_total(counts[name] for name in of_targets),
        encoder=_total(counts[name] for name in in_encoder) if in_encoder else None,
        model=_total(counts.values()),
    )


def check(report: Audit, schedule: Schedule) -> None:
    """Holds a finished run to its schedule, within one weight per target.

    Raises:
      ValueError: naming the targets where another number of weights is pruned than was asked for.
    """
    wrong = []
    for name, count in report.leaves.items():
        asked = count.size - schedule.kept_finally(count.size)
        if abs(count.pruned - asked) > 1:
            wrong.append(f"{name}: {count.pruned} of {count.size} pruned, {asked} asked")
    if wrong:
        raise ValueError("sparsity is not the one asked for: " + "; ".join(wrong))


def find_state(opt_state: Any, kind: type[State]) -> State:
    """The one state of a kind in the state of any optimizer, however it is chained and wrapped.

    Args:
      opt_state: a state of an :class:`optax.GradientTransformation`.
      kind: the class to look for, such as :class:`sparsejax.prune.MagnitudeState`.

    Raises:
      ValueError: if there is none, or more than one.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
    found = [node for node in nodes if isinstance(node, kind)]
    if len(found) != 1:
        raise ValueError(f"expected one {kind.__name__} in the optimizer state, found {len(found)}")
    return found[0]


def _masks_by_path(masks: Any) -> dict[str, jax.Array]:
    # optax.MaskedNode is a node without leaves, so only the masks of targets are listed.
    return {path(keys): mask for keys, mask in jax.tree.leaves_with_path(masks)}


@jax.jit
def _tally(leaves: list[jax.Array], masks: list[jax.Array | None]) -> jax.Array:
    """For each leaf: zeros, pruned, pruned but not zero, not finite."""
    rows = []
    for leaf, mask in zip(leaves, masks, strict=True):
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        zero = (ordered_bits(leaf) if is_float else leaf) == 0
        pruned = zero if mask is None else ~mask
        flags = (zero, pruned, pruned & ~zero, ~jnp.isfinite(leaf))
        rows.append(jnp.stack([jnp.sum(flag, dtype=jnp.int32) for flag in flags]))
    return jnp.stack(rows)


def _raise_for(what: str, leaves: Iterable[str], counts: Iterable[int]) -> None:
    named = [f"{name} ({count})" for name, count in zip(leaves, counts, strict=True) if count]
    if named:
        raise ValueError(f"{what} " + ", ".join(named))


def _total(counts: Iterable[Count]) -> Count:
    return Count(*(sum(column) for column in zip(Count(0, 0, 0), *counts, strict=True)))


def _to_dict(count: Count) -> dict[str, Any]:
    return {**count._asdict(), "sparsity": count.sparsity}
