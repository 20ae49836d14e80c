"""On one device arrays come through as they were; more of them are in ner/test_sharded_tagging."""

from __future__ import annotations

import numpy as np

from sparsejax.runtime import parallel


def test_values_stay() -> None:
    mesh = parallel.row_mesh()
    batch = {"tokens": np.arange(12, dtype=np.int32).reshape(4, 3), "labels": np.zeros((4, 3))}
    divided = parallel.divide_rows(batch, mesh)
    assert set(divided) == set(batch)
    np.testing.assert_array_equal(divided["tokens"], batch["tokens"])
    tree = {"a": {"kernel": np.ones((2, 3), np.float32)}}
    np.testing.assert_array_equal(parallel.replicate(tree, mesh)["a"]["kernel"], 1)
