"""A saved tagger: a model directory in Hugging Face's format, on the devices and ready to tag."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from sparsejax import checksums
from sparsejax.data.preparation import Prepared
from sparsejax.errors import UserError
from sparsejax.models import huggingface
from sparsejax.ner import tagging
from sparsejax.runtime import parallel


@dataclass(frozen=True)
class Tagger:
    """What is needed to tag sentences; see `load`."""

    tokenizer: Any
    labels: tuple[str, ...]
    positions: int  # that the model knows: the longest row
    params: Any
    predict: tagging.Predict
    mesh: Mesh

    def tag(
        self,
        parts: Mapping[str, Prepared],
        length: int,
        show: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, tagging.Tagged]:
        """A tag for every word, by language; see `tagging.tag`."""
        encoded = {code: part.encoded for code, part in parts.items()}
        pad = self.tokenizer.pad_token_id
        return tagging.tag(self.predict, self.params, encoded, length, pad, self.mesh, show)


def load(directory: Path, dtype: str, fsdp: int = 1) -> Tagger:
    """The tagger of a model directory, on all devices.

    Args:
      directory: in Hugging Face's format.
      dtype: of the computation.
      fsdp: how many devices share one copy of the parameters.

    Raises:
      UserError: the model is not there, damaged, or tags nothing: its labels are not IOB2; fsdp
        does not divide the devices.
    """
    checksums.check(directory)
    labels = huggingface.read_labels(directory)
    if not labels:
        raise UserError(f"{directory}: config.json has no IOB2 tags in id2label; is it a tagger?")
    tokenizer, shape = huggingface.load_shape(directory, len(labels))
    params, _ = huggingface.load(directory, shape, labels, jax.random.key(0))
    mesh = parallel.make_mesh(fsdp)
    predict = tagging.make_predict(shape, dtype, mesh)
    positions = shape.max_position_embeddings
    params = parallel.place(params, parallel.of_parameters(params, mesh))
    return Tagger(tokenizer, labels, positions, params, predict, mesh)
