"""What accelerators can do by their data sheets, and what a training step cannot do without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sparsejax.models.bert import BertConfig
from sparsejax.prune.targets import by_path
from sparsejax.runtime.collectives import Collective


@dataclass(frozen=True)
class Chip:
    """One chip, by its data sheet."""

    flops: float  # bfloat16, a second
    memory: float  # bytes of HBM
    memory_rate: float  # bytes a second between it and the chip
    link_rate: float  # bytes a second that the chip sends to others, over all of its links


# By the `device_kind` that JAX gives. The TPUs are as on https://cloud.google.com/tpu/docs/v4, v5e,
# v5p and v6e, where two versions of a page differ, the larger number, so that bounds stay bounds.
# Links are given there for both directions together, or for one of them in Gbit/s: 400 GB/s or
# 1600 Gbit/s are 200 GB/s to send with. That of v4 is from Jouppi et al. 2023 (arXiv 2304.01433),
# table 4: 6 links of 50 GB/s. The GPUs are the SXM ones of NVIDIA's data sheets, without sparsity;
# NVLink is 900 GB/s for both directions.
CHIPS = {
    "TPU v4": Chip(275e12, 32 * 2**30, 1200e9, 300e9),
    "TPU v5 lite": Chip(197e12, 16 * 2**30, 859e9, 200e9),  # v5e: 819 GB/s or 800 GiB/s
    "TPU v5": Chip(459e12, 95 * 2**30, 2765e9, 600e9),  # v5p
    "TPU v6 lite": Chip(918e12, 32 * 2**30, 1640e9, 448e9),  # v6e: 3200 or 3584 Gbit/s
    "NVIDIA H100 80GB HBM3": Chip(989.4e12, 80e9, 3350e9, 450e9),
    "NVIDIA H200": Chip(989.4e12, 141e9, 4800e9, 450e9),
}


def matrix_flops(params: Any, tokens: int, training: bool) -> int:
    """The floating-point operations of the products with the model's matrices: 6 or 2 N a token.

    A multiply-add is two. A matrix takes part in one product for each token in the forward pass,
    and in two in the backward pass. Embeddings are looked up and cost nothing. Kaplan et al. 2020
    (arXiv 2001.08361), section 2.1.

    Args:
      params: the parameters, or their shapes.
      tokens: of the step, those of the padding as well.
      training: whether there is a backward pass.
    """
    matrices = sum(x.size for name, x in by_path(params).items() if name.endswith("/kernel"))
    return (6 if training else 2) * matrices * tokens


def attention_flops(model: BertConfig, length: int, tokens: int, training: bool) -> int:
    """Those of each token's query with all keys of its row, and of the weights with the values.

    Args:
      model: its shape.
      length: of a row; attention is computed for all of it, whatever it is masked with.
      tokens: of the step, those of the padding as well.
      training: whether there is a backward pass.
    """
    width = model.heads * model.head_width
    return (3 if training else 1) * 4 * model.num_hidden_layers * width * length * tokens


def lower_bound(
    chip: Chip, flops: float, moved: float, exchanged: Iterable[Collective], devices: int
) -> dict[str, float]:
    """The seconds that a step cannot do without, if it did nothing else, by what takes them.

    Args:
      chip: of every device.
      flops: of a device.
      moved: bytes that a device must read from its memory or write to it.
      exchanged: the collectives of every step.
      devices: how many there are.
    """
    sent = sum(one.sent(devices) for one in exchanged if one.always)
    return {
        "compute": flops / chip.flops,
        "memory": moved / chip.memory_rate,
        "network": sent / chip.link_rate,
    }
