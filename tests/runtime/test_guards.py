"""What a user is told when the device has not enough memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from sparsejax.errors import UserError
from sparsejax.runtime import guards


def test_out_of_memory_says_what_and_what_to_do() -> None:
    with (
        pytest.raises(UserError, match=r"^out of memory in a step of 9 rows; lower it \(.*\)$"),
        guards.memory("a step of 9 rows", "lower it"),
    ):
        jnp.zeros(2**46).block_until_ready()  # 256 TB


def test_other_errors_of_the_device_are_not_hidden() -> None:
    error = jax.errors.JaxRuntimeError("INTERNAL: a bug")
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"), guards.memory("a", "b"):
        raise error
