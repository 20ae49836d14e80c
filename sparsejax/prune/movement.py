"""Movement pruning: what to keep is learned along with the weights."""

import jax
import jax.numpy as jnp
import optax

from sparsejax.prune import patterns
from sparsejax.prune.latent import Arrays, latent
from sparsejax.prune.schedules import Number, Schedule, is_known
from sparsejax.prune.selection import Leaf, Scope, Selection
from sparsejax.prune.states import Masks
from sparsejax.prune.targets import Rules, Target
from sparsejax.prune.transforms import PruningTransformation


def movement(
    optimizer: optax.GradientTransformation,
    score_optimizer: optax.GradientTransformation,
    schedule: Schedule,
    targets: Rules,
    *,
    scope: Scope = "tensor",
    pattern: patterns.Pattern = None,
    masks: Masks | None = None,
) -> PruningTransformation:
    """Keeps the weights that training moves away from zero: the top of learned scores.

    Every weight has a score, which starts at 0. The forward pass uses ``W * M``
    (:func:`sparsejax.prune.effective_params`), M the highest scores. With g the gradient there,
    weights learn from ``g * M`` and scores from ``g * W``, each by its own optimizer; a score rises
    while its weight grows in size. Pruned weights keep their value, their scores go on learning,
    and they may come back::

      tx = movement(optax.adamw(3e-5), optax.adam(1e-2), cubic(0.9, 500, 9000), ENCODER_KERNELS)
      state = tx.init(params)
      grads = jax.grad(loss)(effective_params(params, state))
      updates, state = tx.update(grads, state, params)
      params = optax.apply_updates(params, updates)

    This is the hard movement pruning of Sanh et al.: the mask of sec. 3, eq. 1, the gradient of the
    scores of sec. 4, eq. 2. Hugging Face's research code differs in that it ranks on every forward
    pass (here: when the schedule is due, which an interval of 1 makes every step), keeps ``int``
    instead of ``round`` of the fraction, counts the schedule from 1 and not from 0, and clips the
    gradients of weights and scores by their common norm (here each optimizer has its own).

    Args:
      optimizer: of the weights, complete: what would train the dense model.
      score_optimizer: of the scores, without weight decay; published: Adam at 1e-2.
      schedule: how sparse at which step. Masks go on changing after its end, at the final sparsity.
        Scores are learned before its begin already, so give them some steps: at first they are all
        but tied. An interval of 1 is as published.
      targets: which leaves are pruned, see :func:`sparsejax.prune.resolve`.
      scope: "tensor" ranks within each target, "global" the scores of all of them together.
      pattern: the granularity: None for single weights, :class:`sparsejax.prune.NofM`, or
        :class:`sparsejax.prune.Blocks`, which have one score each (Lagunas et al., sec. 3).
      masks: of a model that is pruned already, path -> mask: what they forbid stays pruned.

    Returns:
      A complete optimizer with state :class:`sparsejax.prune.LatentState`; the gradients it takes
      are those at ``effective_params``.

    Raises:
      ValueError: from ``init`` if rules, pattern or masks do not fit the parameters; from
        ``update`` if ``params`` is None and, outside of ``jax.jit``, if a weight or a score is NaN.

    References:
      Sanh, Wolf and Rush, `Movement Pruning: Adaptive Sparsity by Fine-Tuning
      <https://arxiv.org/abs/2005.07683>`_, 2020

      Lagunas et al., `Block Pruning For Faster Transformers <https://arxiv.org/abs/2109.04838>`_,
      2021
    """

    def rank(step: jax.Array, scores: Arrays, weights: Arrays, leaves: dict[str, Leaf]) -> Arrays:
        del weights
        selected = selection.select(leaves, step, scores)
        if masks is None:
            return selected
        # A schedule that asks for less than the given masks must not bring weights back.
        return {
            name: selected[name]
            & patterns.expand(leaf.pattern, scores[name] > -jnp.inf, leaf.shape)
            for name, leaf in leaves.items()
        }

    selection = Selection(schedule, targets, scope, pattern)
    return latent("movement", optimizer, score_optimizer, selection, rank, masks=masks)


def soft_movement(
    optimizer: optax.GradientTransformation,
    score_optimizer: optax.GradientTransformation,
    schedule: Schedule,
    targets: Rules,
    *,
    penalty: Number,
    pattern: patterns.Pattern = None,
    masks: Masks | None = None,
) -> PruningTransformation:
    """Keeps the weights whose learned score is above a threshold, and presses scores down.

    As :func:`movement`, but ``M = sigmoid(S) > tau``, and the loss has the further term
    ``lambda * mean(sigmoid(S))``, the mean over the targets of the mean within each. The threshold
    tau follows the schedule, and lambda follows tau: ``lambda = penalty * tau / final``. How sparse
    the model becomes is not asked for but found: ``sparsejax.prune.audit`` tells.

    This is the soft movement pruning of Sanh et al. (sec. 4). Its gradient of the mask is the
    identity, as in Hugging Face's research code, from which the mean over means and the schedule
    of lambda are taken. That code never prunes more than 99.5 % of a tensor; here there is no such
    limit.

    Args:
      optimizer: of the weights, complete: what would train the dense model.
      score_optimizer: of the scores, without weight decay; published: Adam at 1e-2.
      schedule: the threshold at each step, its ``final`` in (0, 1); published: 0.1.
      targets: which leaves are pruned, see :func:`sparsejax.prune.resolve`. A rule cannot have a
        sparsity of its own.
      penalty: the final lambda; published: up to 400. The higher, the sparser.
      pattern: None for single weights, or :class:`sparsejax.prune.Blocks`, with one score each.
      masks: of a model that is pruned already, path -> mask: what they forbid stays pruned.

    Returns:
      A complete optimizer with state :class:`sparsejax.prune.LatentState`; the gradients it takes
      are those at ``effective_params``.

    Raises:
      ValueError: as :func:`movement`; and if the final threshold is 0, the penalty negative, the
        pattern N:M, which a threshold cannot hold, or a rule has a sparsity of its own.

    References:
      Sanh, Wolf and Rush, `Movement Pruning: Adaptive Sparsity by Fine-Tuning
      <https://arxiv.org/abs/2005.07683>`_, 2020
    """
    if is_known(penalty) and not penalty >= 0:
        raise ValueError(f"penalty must be at least 0, got {penalty}")
    if is_known(schedule.final) and schedule.final == 0:
        raise ValueError("the final threshold must be above 0, got 0: nothing would be pruned")
    if isinstance(pattern, patterns.NofM):
        raise ValueError(f"a threshold cannot hold {pattern}: use movement")
    for rule, what in targets:
        own = what if isinstance(what, Target) else Target()
        if isinstance(own.pattern, patterns.NofM):
            raise ValueError(f"rule {rule!r}: a threshold cannot hold {own.pattern}: use movement")
        if own.sparsity is not None or not isinstance(what, bool | Target):
            raise ValueError(f"rule {rule!r}: soft movement finds its sparsity, it cannot be given")

    def rank(step: jax.Array, scores: Arrays, weights: Arrays, leaves: dict[str, Leaf]) -> Arrays:
        del weights
        tau = schedule.sparsity(step)
        return {
            name: patterns.expand(leaf.pattern, jax.nn.sigmoid(scores[name]) > tau, leaf.shape)
            for name, leaf in leaves.items()
        }

    def penalty_gradient(step: jax.Array, scores: Arrays) -> Arrays:
        strength = penalty * schedule.sparsity(step) / schedule.final
        slopes = {name: jax.nn.sigmoid(s) * jax.nn.sigmoid(-s) for name, s in scores.items()}
        return {n: strength * slope / (len(slopes) * slope.size) for n, slope in slopes.items()}

    selection = Selection(schedule, targets, pattern=pattern)
    return latent(
        "soft_movement",
        optimizer,
        score_optimizer,
        selection,
        rank,
        penalty=penalty_gradient,
        masks=masks,
    )
