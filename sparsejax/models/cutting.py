"""Whole heads and neurons that pruning left without effect are cut out: a smaller dense model.

After Michel et al. 2019, "Are Sixteen Heads Really Better than One?", whose pruned heads vanish.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from sparsejax.errors import UserError
from sparsejax.models.bert import BertConfig, Params


class Used(NamedTuple):
    """How many heads and neurons have an effect."""

    heads: tuple[int, ...]  # of each layer
    neurons: tuple[int, ...]  # of each layer


def cut(params: Params, config: BertConfig) -> tuple[Params, BertConfig, Used]:
    """The same function of the input with fewer heads and neurons.

    A head or a neuron reaches the rest of the model only through its rows of the kernel that
    follows. With these all zero nothing of it is left, its biases included, whichever method or
    pattern made them so. All layers keep as many as the one that uses most; in the others some
    without effect stay.

    Args:
      params: of the model, all of them finite.
      config: its shape.

    Returns:
      Smaller parameters, their shape, and what each layer uses.

    Raises:
      UserError: there is nothing to cut, because some layer uses all that it has.
    """
    layers = [params["encoder"][f"layer_{i}"] for i in range(config.num_hidden_layers)]
    heads = [_used(layer["attention"]["output"]["kernel"], config.head_width) for layer in layers]
    neurons = [_used(layer["mlp"]["output"]["kernel"], 1) for layer in layers]
    used = Used(*(tuple(int(part.sum()) for part in parts) for parts in (heads, neurons)))
    # One at least: an empty matrix is more than other programs can read.
    most_heads, most_neurons = (max(1, *numbers) for numbers in used)
    if (most_heads, most_neurons) == (config.heads, config.intermediate_size):
        raise UserError(
            f"cut: nothing to remove: in some layer all {most_heads} heads have an effect, and in "
            f"some layer all {most_neurons} neurons (see prune.pattern heads and neurons)"
        )
    smaller = {
        f"layer_{i}": layer
        | {
            "attention": _cut(
                layer["attention"],
                ("query", "key", "value"),
                _columns(heads[i], most_heads, config.head_width),
            ),
            "mlp": _cut(layer["mlp"], ("intermediate",), _columns(neurons[i], most_neurons, 1)),
        }
        for i, layer in enumerate(layers)
    }
    shape = dataclasses.replace(config, intermediate_size=most_neurons)
    if most_heads < config.heads:
        shape = dataclasses.replace(shape, kept_attention_heads=most_heads)
    return params | {"encoder": smaller}, shape, used


def _used(kernel: jax.Array, width: int) -> np.ndarray:
    """bool [blocks]: which blocks of so many rows are not all zero."""
    blocks = np.asarray(kernel).reshape(-1, width * kernel.shape[1])
    return np.count_nonzero(blocks, axis=1) > 0


def _columns(used: np.ndarray, number: int, width: int) -> np.ndarray:
    """The places of `number` blocks, in their order: those used, then the first of the others."""
    blocks = np.sort(np.argsort(~used, stable=True)[:number])
    return (blocks[:, None] * width + np.arange(width)).reshape(-1)


def _cut(part: dict[str, Any], before: tuple[str, ...], columns: np.ndarray) -> dict[str, Any]:
    """An attention or an MLP with these outputs of the layers `before`, inputs of `output`."""
    smaller = {
        name: {key: np.asarray(value)[..., columns] for key, value in part[name].items()}
        for name in before
    }
    output = part["output"] | {"kernel": np.asarray(part["output"]["kernel"])[columns]}
    return part | smaller | {"output": output}
