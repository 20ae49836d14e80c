"""Pruning as optax transforms, for any pytree of parameters and any optimizer.

From a schedule to the proof that it was kept::

    schedule = prune.cubic(0.9, begin=100, end=700, interval=10)
    tx = optax.chain(optax.adamw(5e-5), prune.magnitude(schedule, prune.ENCODER_KERNELS))
    ...
    masks = prune.find_state(opt_state, prune.MagnitudeState).masks
    report = prune.audit(params, prune.ENCODER_KERNELS, masks)
    prune.check(report, schedule)
"""

from sparsejax.prune.audit import Audit, Count, audit, check, find_state
from sparsejax.prune.magnitude import MagnitudeState, magnitude
from sparsejax.prune.masks import top_k_mask
from sparsejax.prune.schedules import Schedule, cubic, one_shot
from sparsejax.prune.targets import (
    ENCODER_KERNELS,
    ENCODER_KERNELS_AND_EMBEDDINGS,
    Rules,
    path,
    resolve,
)

__all__ = [
    "ENCODER_KERNELS",
    "ENCODER_KERNELS_AND_EMBEDDINGS",
    "Audit",
    "Count",
    "MagnitudeState",
    "Rules",
    "Schedule",
    "audit",
    "check",
    "cubic",
    "find_state",
    "magnitude",
    "one_shot",
    "path",
    "resolve",
    "top_k_mask",
]
