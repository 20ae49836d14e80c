"""Random pruning: the control that every study of pruning needs."""

import zlib

import jax

from sparsejax.prune import patterns
from sparsejax.prune.hard import hard
from sparsejax.prune.schedules import Schedule
from sparsejax.prune.selection import Scope, Selection
from sparsejax.prune.states import Masks
from sparsejax.prune.targets import Rules
from sparsejax.prune.transforms import PruningTransformation


def random(
    schedule: Schedule,
    targets: Rules,
    *,
    key: jax.Array,
    scope: Scope = "tensor",
    pattern: patterns.Pattern = None,
    masks: Masks | None = None,
) -> PruningTransformation:
    """Sets random weights to zero, more of them as training goes on; else as ``magnitude``.

    Each weight (or block) has one random number for the whole run, so that each mask is part of
    the one before it. The numbers depend on the key and the path only.

    Args:
      schedule: how sparse at which step.
      targets: which leaves are pruned, see :func:`sparsejax.prune.resolve`.
      key: a key of ``jax.random``.
      scope: "tensor" prunes each target alike, "global" all of them together.
      pattern: the granularity, as in :func:`sparsejax.prune.magnitude`.
      masks: of a model that is pruned already, as in :func:`sparsejax.prune.magnitude`.

    Returns:
      A :class:`sparsejax.prune.PruningTransformation` with state
      :class:`sparsejax.prune.HardState`; it must be the last of the chain.

    Raises:
      ValueError: as :func:`sparsejax.prune.magnitude`.

    References:
      Gale, Elsen and Hooker, `The State of Sparsity in Deep Neural Networks
      <https://arxiv.org/abs/1902.09574>`_, 2019, sec. 3: random pruning as the baseline
    """

    def score(name: str, pattern: patterns.Pattern, weights: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        return jax.random.uniform(own, patterns.units_shape(pattern, weights.shape))

    return hard("random", Selection(schedule, targets, scope, pattern), score, masks)
