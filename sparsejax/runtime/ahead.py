"""The training and the evaluation step, compiled for devices that need not be there."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sparsejax import prune
from sparsejax.config import Config
from sparsejax.data.packing import Packed
from sparsejax.errors import UserError
from sparsejax.models import bert, huggingface
from sparsejax.models.bert import BertConfig
from sparsejax.ner import tagging
from sparsejax.runtime import (
    calls,
    chips,
    collectives,
    libtpu,
    optimization,
    parallel,
    pruning,
    setup,
    steps,
)
from sparsejax.runtime.libtpu import HERE

LABELS = 7  # of WikiAnn: O, and B and I of three types
# The shapes of models on the hub, for which no network is needed.
HUB = {"google-bert/bert-base-multilingual-cased": BertConfig(vocab_size=119547)}
# 558,300 sentences of WikiAnn filled 84,325 rows of 128 pieces.
SENTENCES_PER_PIECE = 558_300 / 84_325 / 128
REMEDY = (
    "lower --rows (train.batch_size) or --data.length, pass --model.dtype bfloat16, or raise "
    "--parallel.fsdp"
)
# How the TPU's compiler says that a program is too large.
_USED = re.compile(r"Used (\S+) of (\S+) hbm")
_EXCEEDED = re.compile(r"\((\S+)\) exceeds available HBM \((\S+)\)")
STEPS = 1000  # of the schedules: numbers in the program, which do not change what it needs


@dataclass(frozen=True)
class Step:
    """A compiled step, as each device has it; sizes in bytes."""

    rows: int
    compile_seconds: float
    memory: dict[str, int]  # arguments, outputs, temporaries, code
    xla_flops: float  # as XLA counts them: of a condition the longest branch, loops once
    xla_bytes_accessed: float  # likewise; much of it stays within the chip
    matrix_flops: int  # by `chips.matrix_flops`
    attention_flops: int  # by `chips.attention_flops`
    collectives: list[collectives.Collective]

    @property
    def total(self) -> int:
        """The memory that it needs."""
        return sum(self.memory.values())


@dataclass(frozen=True)
class Report:
    """What a training will need; sizes in bytes."""

    topology: str
    device: str
    devices: int
    hosts: int
    fsdp: int
    method: str
    dtype: str
    parameters: int
    rows: int  # of a training step over all devices, without the padding
    length: int
    memory: int | None  # of each device, where that is known
    training: Step
    evaluation: Step
    beside: int  # on each device during the evaluation: the state of the training
    lower_bound: dict[str, float] | None  # seconds of a training step, see `chips.lower_bound`


def devices_of(topology: str) -> Sequence[Any]:
    """The devices of a topology, or those at hand.

    Raises:
      UserError: see `libtpu.devices`; or there is no GPU.
    """
    if topology not in HERE:
        return libtpu.devices(topology)
    if topology == "gpu" and jax.default_backend() != "gpu":
        raise UserError(f"topology: there is no GPU here, only {jax.default_backend()}")
    return jax.devices()


def shape_of(config: Config) -> BertConfig:
    """The shape of the model, from its `config.json` or from what is known of it.

    Raises:
      UserError: neither is there, or it has fewer positions than a row.
    """
    name = config.model.hub
    if config.model.path is not None:
        directory = Path(config.model.path)
        shape = BertConfig.from_dict(huggingface.read_config(directory), LABELS)
    elif name is None:
        return dataclasses.replace(
            setup.new_shape(config, config.model.vocabulary, 0), num_labels=LABELS
        )
    elif name in HUB:
        shape = dataclasses.replace(HUB[name], num_labels=LABELS)
    else:
        raise UserError(
            f"model.hub: the shape of {name!r} is not known here; pass --model.path with a "
            "directory that has its config.json"
        )
    setup.refuse_long_rows(config, shape)
    return shape


def report(config: Config, topology: str, rows: int | None) -> Report:
    """Compiles both steps.

    Args:
      config: of the training.
      topology: of a TPU, or "local" or "gpu".
      rows: of a training step, over all devices; None: about as many as hold a batch.

    Raises:
      UserError: flags that do not fit each other, or steps that do not fit into a device.
    """
    mesh = parallel.make_mesh(config.parallel.fsdp, devices_of(topology))
    model, length = shape_of(config), config.data.length
    if rows is None:
        rows = max(1, round(config.train.batch_size / (SENTENCES_PER_PIECE * length)))
    device = mesh.devices.flat[0]
    chip = chips.CHIPS.get(device.device_kind)
    memory = int(chip.memory) if chip else None
    if topology in HERE:
        memory = (device.memory_stats() or {}).get("bytes_limit", memory)
    program, numbers, masks, state = start(config, model, mesh)

    def compiled(step: Any, first: Any, rows: int, training: bool) -> Step:
        """A step of so many rows on each device; `first` is what it takes before the batch.

        A training step is within the loop over those of a call.
        """
        what = f"{'a training' if training else 'an evaluation'} step of {rows} rows on each device"
        several = (calls.STEPS,) if training else ()
        sharding = parallel.rows(mesh, len(several))
        shape = (*several, rows * mesh.size, length)
        batch = dict.fromkeys(
            Packed.COLUMNS, jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding)
        )
        count = jax.ShapeDtypeStruct((), jnp.int32, sharding=parallel.whole(mesh))
        tokens = rows * length
        found = compile_step(
            step.lower(first, batch, *([count, numbers] if training else [])),
            what,
            rows=rows,
            matrix_flops=chips.matrix_flops(state.params, tokens, training),
            attention_flops=chips.attention_flops(model, length, tokens, training),
        )
        refuse_more(what, found.total, memory)
        return found

    # As `train.fit` and `finishing.tagger` make them.
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state), parallel.whole(mesh)
    train_steps = steps.make_train_steps(program, shardings, masks)
    predict = tagging.make_predict(model, config.model.dtype, mesh)

    own = parallel.padded(rows, mesh) // mesh.size
    training = compiled(train_steps, state, own, True)
    evaluation = compiled(predict, state.params, tagging.max_rows(mesh, length), False)
    beside = on_each(state)
    refuse_more(
        "an evaluation step beside the state of the training", evaluation.total + beside, memory
    )
    bound = None
    if chip is not None:
        flops = training.matrix_flops + training.attention_flops
        # The whole state is read; masks and counters need not be written.
        floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
        moved = on_each(state) + on_each(floats)
        bound = chips.lower_bound(chip, flops, moved, training.collectives, mesh.size)
    return Report(
        topology=topology,
        device=device.device_kind,
        devices=mesh.size,
        hosts=len({one.process_index for one in mesh.devices.flat}),
        fsdp=mesh.shape["fsdp"],
        method=config.prune.method,
        dtype=config.model.dtype,
        parameters=sum(x.size for x in jax.tree.leaves(state.params)),
        rows=rows,
        length=length,
        memory=memory,
        training=training,
        evaluation=evaluation,
        beside=beside,
        lower_bound=bound,
    )


def start(
    config: Config, model: BertConfig, mesh: Mesh
) -> tuple[optimization.Program, Any, prune.Masks | None, steps.TrainState]:
    """Program, numbers, masks and state as `setup` would make them: shapes with their shardings.

    Raises:
      UserError: the rules, the pattern or the masks do not fit the model.
    """
    masks = pruning.read_masks(config.prune)
    program = optimization.program(config, model, mesh)
    numbers = optimization.numbers(config, STEPS)

    def made(numbers: optimization.Numbers) -> steps.TrainState:
        return steps.initial(program, bert.init(model, jax.random.key(0)), numbers, masks)

    try:
        state = jax.eval_shape(made, numbers)
    except ValueError as error:
        raise UserError(f"prune: {error}") from None

    def placed(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    scalars = jax.tree.map(lambda leaf: placed(leaf, parallel.whole(mesh)), numbers)
    return (
        program,
        scalars,
        masks,
        jax.tree.map(placed, state, parallel.of_parameters(state, mesh)),
    )


def on_each(tree: Any) -> int:
    """The bytes that each device has of arrays, from their shapes and shardings."""
    return sum(
        leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))
        for leaf in jax.tree.leaves(tree)
    )


def compile_step(lowered: Any, what: str, **known: int) -> Step:
    """Compiles a program, and asks the compiler and its text what it needs.

    Args:
      lowered: the program.
      what: it is, for errors.
      known: the other fields of the step.

    Raises:
      UserError: the compiler finds that it does not fit into the memory of a device.
    """
    began = time.monotonic()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        text = str(error)
        if "RESOURCE_EXHAUSTED" not in text:
            raise
        sizes = _USED.search(text) or _EXCEEDED.search(text)
        needs = f"{sizes[1]} of {sizes[2]} of memory" if sizes else text.splitlines()[0]
        raise UserError(f"{what} needs {needs}; {REMEDY}") from None
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    return Step(
        compile_seconds=round(time.monotonic() - began, 1),
        memory={
            "arguments": memory.argument_size_in_bytes,
            # Those that take the place of arguments (donation) are not counted twice.
            "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "code": memory.generated_code_size_in_bytes,
        },
        xla_flops=cost.get("flops", 0.0),
        xla_bytes_accessed=cost.get("bytes accessed", 0.0),
        collectives=collectives.parse(program.as_text()),
        **known,
    )


def refuse_more(what: str, needed: int, memory: int | None) -> None:
    """Raises a UserError if this is more than the memory of a device, where that is known."""
    if memory is not None and needed > memory:
        sizes = f"{needed / 2**30:.2f}G of {memory / 2**30:.2f}G of memory"
        raise UserError(f"{what} needs {sizes}; {REMEDY}")
