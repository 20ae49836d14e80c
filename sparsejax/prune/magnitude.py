"""Magnitude pruning: the smallest weights go, for good or for the time being."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsejax.prune import patterns
from sparsejax.prune.hard import hard
from sparsejax.prune.latent import latent
from sparsejax.prune.schedules import Schedule
from sparsejax.prune.selection import Scope, Selection
from sparsejax.prune.states import Masks
from sparsejax.prune.targets import Rules
from sparsejax.prune.transforms import PruningTransformation


def magnitude(
    schedule: Schedule,
    targets: Rules,
    *,
    scope: Scope = "tensor",
    pattern: patterns.Pattern = None,
    masks: Masks | None = None,
) -> PruningTransformation:
    """Sets the smallest weights of each target to zero, more of them as training goes on.

    On each step that is due the weights that the optimizer is about to produce are ranked by
    absolute value, and all but the ``schedule.kept(step, size)`` largest are pruned. Pruning is
    hard: a pruned weight is exactly 0.0 after ``optax.apply_updates`` and never returns, as its
    update is minus its value from then on. Between two updates of the masks this costs one select,
    and with a final sparsity of 0 nothing: the bare optimizer, bit for bit. (A traced sparsity is
    not known to be 0; there, what the compiler fuses may round the last bit otherwise.)

    This must be the last transform of the chain: one after it could move pruned weights away from
    zero, and the ranking would not see what it adds::

      tx = optax.chain(optax.adamw(5e-5), magnitude(cubic(0.9, 100, 700), ENCODER_KERNELS))

    Weights and updates may be float32 or bfloat16; the ranking is in the dtype of the weights.
    Runs under ``jax.jit``, with donated and sharded arguments, and under ``jax.vmap`` (where masks
    are computed on every step if the step is batched, for ``lax.cond`` becomes a select).

    This is the gradual pruning of Zhu and Gupta (sec. 2, eq. 1), with two differences: a pruned
    weight is zero itself, where theirs is hidden behind a mask, and masks are brought up to date on
    the last step as well. Hugging Face's research code for movement pruning ranks anew on every
    forward pass, keeps ``int`` instead of ``round`` of the fraction, and lets weights come back;
    for that see :func:`latent_magnitude`.

    Args:
      schedule: how sparse at which step; the first call of ``update`` is step 0.
      targets: which leaves are pruned, see :func:`sparsejax.prune.resolve`.
      scope: "tensor" ranks within each target, "global" all of them together.
      pattern: the granularity: None for single weights, :class:`sparsejax.prune.NofM`, or
        :class:`sparsejax.prune.Blocks`, which are ranked by the sum of their absolute values.
      masks: of a model that is pruned already, path -> mask: what they forbid stays pruned, and
        the schedule counts it as pruned.

    Returns:
      A :class:`sparsejax.prune.PruningTransformation` with state
      :class:`sparsejax.prune.HardState`.

    Raises:
      ValueError: from ``init`` if rules, pattern or masks do not fit the parameters; from
        ``update`` if ``params`` is None and, outside of ``jax.jit``, if a pruned weight is not
        zero (the transform is not last) or a weight is NaN.

    References:
      Zhu and Gupta, `To prune, or not to prune <https://arxiv.org/abs/1710.01878>`_, 2017, sec. 2

      Li et al., `Pruning Filters for Efficient ConvNets <https://arxiv.org/abs/1608.08710>`_, 2016,
      sec. 3.1: sums of absolute values, to rank filters
    """

    def score(name: str, pattern: patterns.Pattern, weights: jax.Array) -> jax.Array:
        del name
        return _magnitude(pattern, weights)

    return hard("magnitude", Selection(schedule, targets, scope, pattern), score, masks)


def latent_magnitude(
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    targets: Rules,
    *,
    scope: Scope = "tensor",
    pattern: patterns.Pattern = None,
) -> PruningTransformation:
    """Magnitude pruning whose pruned weights keep their values, are trained on, and may come back.

    The forward pass uses ``W * M`` (:func:`sparsejax.prune.effective_params`), and the gradient
    there updates all of ``W``, pruned weights too, as if the mask were not there. When a mask is
    due all weights are ranked by absolute value, and the largest are kept.

    This is the splicing of Guo et al. (sec. 3.2), with a rank by the schedule instead of two
    thresholds per layer. In Hugging Face's research code for movement pruning a pruned weight gets
    no gradient, so that there it comes back only when others shrink.

    Args:
      optimizer: of the weights; it need not be wrapped in anything.
      schedule: how sparse at which step. Masks go on changing after its end, at the final sparsity.
      targets: which leaves are pruned, see :func:`sparsejax.prune.resolve`.
      scope: "tensor" ranks within each target, "global" all of them together.
      pattern: the granularity, as in :func:`magnitude`.

    Returns:
      A complete optimizer with state :class:`sparsejax.prune.LatentState`; the gradients it takes
      are those at ``effective_params``.

    Raises:
      ValueError: as :func:`magnitude`.

    References:
      Guo, Yao and Chen, `Dynamic Network Surgery for Efficient DNNs
      <https://arxiv.org/abs/1608.04493>`_, 2016
    """

    def rank(
        step: jax.Array, scores: dict[str, jax.Array], weights: dict[str, jax.Array], leaves: Any
    ) -> dict[str, jax.Array]:
        del scores
        magnitudes = {
            name: _magnitude(leaf.pattern, weights[name]) for name, leaf in leaves.items()
        }
        return selection.select(leaves, step, magnitudes)

    selection = Selection(schedule, targets, scope, pattern)
    return latent("latent_magnitude", optimizer, None, selection, rank, straight_through=True)


def _magnitude(pattern: patterns.Pattern, weights: jax.Array) -> jax.Array:
    return patterns.unit_sums(pattern, jnp.abs(weights))
