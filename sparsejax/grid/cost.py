"""What runs cost before they are made: operations, bytes, and seconds by the speed of a device."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparsejax.config import Config, DataConfig, EvaluateConfig
from sparsejax.data import languages, sources
from sparsejax.errors import UserError
from sparsejax.models import bert
from sparsejax.runtime import ahead, chips
from sparsejax.runtime.ahead import SENTENCES_PER_PIECE

# Rough, and only for estimates: what a step of a small model takes beside arithmetic and memory, in
# seconds; the share of a matrix product's speed that a step reaches (0.5 to 0.6 where it was
# measured, docs/benchmarks.md); what the first step of each program takes.
OVERHEAD = 0.01
EFFICIENCY = 0.5
COMPILATION = 20.0
UNKNOWN = 1_000  # sentences of a split of which nothing is known
BYTES = 28  # a step, for each parameter: gradient, moments and weights are read, three are written


class Cost(NamedTuple):
    """Of a run, evaluation included."""

    steps: float
    flops: float
    bytes: float  # between memory and chip, for the optimizer


def of(config: Config, evaluate: EvaluateConfig) -> Cost:
    """The cost of a run, by the numbers of its sentences and the size of its model."""
    data, train = config.data, config.train
    learned = sentences(data, "train", data.languages, data.train_sentences)
    scored = sentences(data, "test", data.eval_languages or data.languages, data.eval_sentences)
    matrices, parameters = _sizes(_shape(config))
    pieces = train.epochs * learned / SENTENCES_PER_PIECE
    tagged = (1 + len(evaluate.perturb)) * scored / SENTENCES_PER_PIECE
    steps = train.epochs * learned / train.batch_size
    flops = 6 * matrices * pieces + 2 * matrices * tagged
    return Cost(steps, flops, steps * BYTES * parameters)


def seconds(costs: Sequence[Cost], programs: int, speed: tuple[float, float]) -> float:
    """About how long runs take one after another.

    Args:
      costs: of the runs.
      programs: how many of them are compiled.
      speed: of `speed`.
    """
    flops, memory = speed
    steps = sum(cost.steps for cost in costs)
    computing = sum(cost.flops for cost in costs) / (EFFICIENCY * flops)
    moving = sum(cost.bytes for cost in costs) / memory
    return computing + moving + OVERHEAD * steps + COMPILATION * programs


def program(config: Config) -> object:
    """What is the same for runs that share a compiled program, as far as their files can tell."""
    own = config.prune
    return config.model, own.method, own.scope, own.pattern, own.embeddings, config.train.decay


def speed(dtype: str) -> tuple[float, float]:
    """What all devices here do in a second: operations of a matrix product, bytes of a copy."""

    def rate(program: jax.stages.Wrapped, argument: jax.Array, amount: float) -> float:
        jax.block_until_ready(program(argument))
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < 0.5:
            jax.block_until_ready(program(argument))
            count += 1
        return amount * count / (time.perf_counter() - began) * jax.local_device_count()

    size = 1024 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.ones((size, size), jnp.dtype(dtype))
    array = jnp.ones(2**26)
    return (
        rate(jax.jit(lambda x: x @ x), matrix, 2 * size**3),
        rate(jax.jit(lambda x: x + 1), array, 2 * array.nbytes),
    )


def sentences(data: DataConfig, split: str, codes: Sequence[str], limit: int | None) -> int:
    """How many sentences a split has, or about how many where they cannot be read here."""
    return sum(_sentences(data.dir, data.hub, split, code, limit) for code in codes)


@functools.cache
def _sentences(dir: str | None, hub: str | None, split: str, code: str, limit: int | None) -> int:
    if dir is not None or hub is None:
        try:
            part = sources.parts(DataConfig(dir=dir), split, (code,))[code]
            return sum(1 for _ in itertools.islice(part.open(), limit))
        except (UserError, ValueError):  # the latter: no such language in the embedded corpus
            pass  # the run itself will say so
    known = languages.lookup(languages.LANGUAGES, code).wikiann_train or UNKNOWN
    if split != "train":
        known = min(known, 10_000)  # WikiAnn's largest test splits
    return known if limit is None else min(known, limit)


def _shape(config: Config) -> bert.BertConfig:
    try:
        return ahead.shape_of(config)
    except UserError:
        return bert.BertConfig(vocab_size=119_547)  # BERT-base, for want of better


def _sizes(shape: bert.BertConfig) -> tuple[int, int]:
    params = bert.shapes(shape)
    matrices = chips.matrix_flops(params, 1, True) // 6
    return matrices, sum(leaf.size for leaf in jax.tree.leaves(params))
