"""The work of a step, against counts made by hand."""

from __future__ import annotations

import jax
import pytest

from sparsejax.models import bert
from sparsejax.runtime import chips
from sparsejax.runtime.collectives import Collective

# Width 6 with 3 heads of 2, intermediate width 10, 2 layers, 7 labels.
MODEL = bert.BertConfig(50, 6, 2, 3, 10, num_labels=7)
# In each layer four square matrices and two of the feed-forward network; then the classifier.
WEIGHTS = 2 * (4 * 6 * 6 + 2 * 6 * 10) + 6 * 7


def test_products_with_matrices() -> None:
    params = jax.eval_shape(lambda: bert.init(MODEL, jax.random.key(0)))
    assert chips.matrix_flops(params, 11, training=False) == 2 * WEIGHTS * 11
    assert chips.matrix_flops(params, 11, training=True) == 6 * WEIGHTS * 11


def test_products_of_attention() -> None:
    # Two rows of 5: in each layer and head 5 x 2 by 2 x 5, then 5 x 5 by 5 x 2.
    forward = 2 * 2 * 3 * 2 * (2 * 5 * 2 * 5)
    assert chips.attention_flops(MODEL, 5, 10, training=False) == forward
    assert chips.attention_flops(MODEL, 5, 10, training=True) == 3 * forward


@pytest.mark.parametrize("cut", [None, 2])
def test_xla_counts_no_fewer(cut: int | None) -> None:
    """Its count of the forward pass has the same products, and everything else."""
    model = bert.BertConfig(50, 60, 2, 3, 100, num_labels=7, kept_attention_heads=cut)
    params = jax.eval_shape(lambda: bert.init(model, jax.random.key(0)))
    row = jax.ShapeDtypeStruct((2, 32), "int32")
    forward = jax.jit(lambda p, *columns: bert.apply(model, p, *columns))
    cost = forward.lower(params, row, row, row).compile().cost_analysis()
    assert cost is not None
    counted = chips.matrix_flops(params, 64, False) + chips.attention_flops(model, 32, 64, False)
    assert counted < cost["flops"] < 1.25 * counted


def test_the_bound_is_of_what_every_step_does() -> None:
    chip = chips.Chip(flops=100.0, memory=1.0, memory_rate=10.0, link_rate=5.0)
    exchanged = [Collective("all-reduce", 40, 4, True), Collective("all-reduce", 999, 4, False)]
    bound = chips.lower_bound(chip, 300, 50, exchanged, 4)
    assert bound == {"compute": 3.0, "memory": 5.0, "network": 12.0}
