"""Pruning as optax transforms, for any pytree of parameters and any optimizer.

From a schedule to the proof that it was kept::

    schedule = prune.cubic(0.9, begin=100, end=700, interval=10)
    tx = optax.chain(optax.adamw(5e-5), prune.magnitude(schedule, prune.ENCODER_KERNELS))
    ...
    weights = prune.effective_params(params, opt_state)  # what the forward pass uses
    print(prune.audit(params, opt_state))
    prune.check(prune.audit(params, opt_state), schedule)

Hard methods (magnitude, random, fixed_masks) are the last transform of a chain. Latent ones
(movement, soft_movement, latent_magnitude) are complete optimizers, and gradients are taken at
``effective_params``.
"""

from sparsejax.prune.audit import Audit, Count, Overlap, audit, check, mask_overlap
from sparsejax.prune.hard import fixed_masks
from sparsejax.prune.magnitude import latent_magnitude, magnitude
from sparsejax.prune.masks import top_k_mask, top_k_masks
from sparsejax.prune.movement import movement, soft_movement
from sparsejax.prune.patterns import Blocks, NofM
from sparsejax.prune.random import random
from sparsejax.prune.schedules import Schedule, constant, cubic, one_shot
from sparsejax.prune.states import (
    HardState,
    LatentState,
    Masks,
    apply_masks,
    effective_params,
    is_pruning,
    masks_of,
    scores_of,
)
from sparsejax.prune.storage import read_masks, write_masks
from sparsejax.prune.targets import (
    ALL_KERNELS,
    ENCODER_KERNELS,
    ENCODER_KERNELS_AND_EMBEDDINGS,
    Rules,
    Target,
    path,
    resolve,
)
from sparsejax.prune.transforms import PruningTransformation, last_of_chain

__all__ = [
    "ALL_KERNELS",
    "ENCODER_KERNELS",
    "ENCODER_KERNELS_AND_EMBEDDINGS",
    "Audit",
    "Blocks",
    "Count",
    "HardState",
    "LatentState",
    "Masks",
    "NofM",
    "Overlap",
    "PruningTransformation",
    "Rules",
    "Schedule",
    "Target",
    "apply_masks",
    "audit",
    "check",
    "constant",
    "cubic",
    "effective_params",
    "fixed_masks",
    "is_pruning",
    "last_of_chain",
    "latent_magnitude",
    "magnitude",
    "mask_overlap",
    "masks_of",
    "movement",
    "one_shot",
    "path",
    "random",
    "read_masks",
    "resolve",
    "scores_of",
    "soft_movement",
    "top_k_mask",
    "top_k_masks",
    "write_masks",
]
