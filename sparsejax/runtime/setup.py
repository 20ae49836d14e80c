"""From a configuration to everything that a training begins with: data, model, optimizer, state."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sparsejax import config_files, prune
from sparsejax.config import Config
from sparsejax.data import languages, mixing, packing, preparation, seen, sources, tokenization
from sparsejax.data.packing import Packed
from sparsejax.data.preparation import Prepared
from sparsejax.data.sources import Part
from sparsejax.data.tokenization import Encoded
from sparsejax.errors import UserError
from sparsejax.models import bert, huggingface
from sparsejax.models.bert import BertConfig, Params
from sparsejax.runtime import optimization, parallel, pruning, steps
from sparsejax.runtime.logging import Log
from sparsejax.runtime.vocabulary import Vocabulary
from sparsejax.runtime.vocabulary import choose as choose_vocabulary

Orders = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Data:
    """Sentences, and what of a model is chosen by them or for them; see `read`."""

    train: Mapping[str, Prepared]  # by language, as are the other two
    test: Mapping[str, Prepared]
    dev: Mapping[str, Prepared]  # empty, where no checkpoint is scored
    table: Mapping[str, languages.Language]
    known: seen.Seen  # what the model will have seen after the training
    checkpoint: Path | None  # that the training starts from
    tokenizer: Any
    labels: tuple[str, ...]
    shape: BertConfig  # of the model, but for the number of labels
    notes: list[str]  # what the user should know of them

    def digest(self) -> str:
        """Of everything that is learned and everything that is scored."""
        digests = [preparation.digest(parts) for parts in (self.train, self.test, self.dev)]
        return hashlib.sha256(f"{digests} {self.labels}".encode()).hexdigest()

    @property
    def sentences(self) -> int:
        """To train on."""
        return sum(len(part.encoded.words) for part in self.train.values())


class LastData:
    """The data of the last run, for further runs of this process that have the same."""

    def __init__(self) -> None:
        self._last: tuple[object, Data] | None = None

    def read(self, config: Config, log: Log) -> Data:
        """As `read`, which it calls where something differs."""
        key = (config.data, config.model, config.checkpoint.best)
        if self._last is None or self._last[0] != key:
            self._last = None  # let go of it before there is more
            self._last = (key, read(config, log))
        return self._last[1]


@dataclass(frozen=True)
class Setup:
    """What a training begins with; see `prepare`."""

    data: Data
    model: BertConfig  # the whole one; that of the program has the word embeddings that are trained
    notes: list[str]  # what the user should know of the data and the model
    packed: Packed  # the training sentences; tokens are rows of the embeddings that are trained
    orders: Orders  # of the rows, an array for each epoch
    rows: int  # in a batch
    mesh: Mesh  # the devices, which divide those rows
    total: int  # steps
    program: optimization.Program
    numbers: optimization.Numbers  # on the devices
    masks: prune.Masks | None  # of a model that is pruned already
    vocabulary: Vocabulary | None  # the part of it that is trained; None: all
    state: steps.TrainState  # before the first step

    def alike(self, config: Config) -> str:
        """What all processes of a run must have alike; paths may differ."""
        settings = config_files.digest(config_files.without_paths(config))
        text = f"{settings} {self.model} {self.rows} {self.total} {self.mesh.shape}"
        return f"{self.data.digest()} {self.untrained} {text}"

    @property
    def untrained(self) -> str:
        """Digest of what the model will have from the one it starts from; empty: nothing."""
        return "" if self.vocabulary is None else self.vocabulary.digest

    def whole(self, state: steps.TrainState) -> steps.TrainState:
        """With the parameters of the model, where the state has those that are trained."""
        if self.vocabulary is None:
            return state
        return self.vocabulary.whole(state, self.program, self.numbers)

    @property
    def padded_rows(self) -> int:
        """In a batch, with the empty ones that make its rows a multiple of the devices."""
        return parallel.padded(self.rows, self.mesh)


def read(config: Config, log: Log) -> Data:
    """Reads the data; whatever is wrong with them is found here.

    Raises:
      UserError: a mistake in the configuration, the data, or the tokenizer of the model.
    """
    data = config.data
    train_parts = sources.parts(data, "train", data.languages)
    test_parts = sources.parts(data, "test", sources.eval_languages(data, "test"))
    dev_parts = {}
    if config.checkpoint.best:
        dev_parts = sources.parts(data, "dev", sources.eval_languages(data, "dev"))
    table = languages.table(data.language_table)
    checkpoint = find_model(config)
    earlier = seen.of_checkpoint(checkpoint)
    tokenizer, shape = load_tokenizer(config, checkpoint, train_parts)
    train, test, dev = (
        preparation.prepare(parts, tokenizer, data, limit, log.patient("tokenising languages"))
        for parts, limit in (
            (train_parts, data.train_sentences),
            (test_parts, data.eval_sentences),
            (dev_parts, data.eval_sentences),
        )
    )
    labels = choose_labels(checkpoint, preparation.label_set(train))
    train, test, dev = (preparation.relabelled(parts, labels) for parts in (train, test, dev))
    notes = preparation.repair_notes(train)
    for split, parts in (("test", test), ("dev", dev)):
        notes += [f"in the {split} split, {note}" for note in preparation.repair_notes(parts)]
    known = seen.seen(train)
    return Data(
        train=train,
        test=test,
        dev=dev,
        table=table,
        known=known if earlier is None else seen.union(known, earlier),
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        labels=labels,
        shape=shape,
        notes=notes,
    )


def prepare(config: Config, data: Data) -> Setup:
    """Loads the model and lays out the data; whatever is wrong with the model is found here.

    Raises:
      UserError: a mistake in the configuration or the model.
    """
    mesh = parallel.make_mesh(config.parallel.fsdp)
    head_key = jax.random.split(jax.random.key(config.seed))[0]
    masks = pruning.read_masks(config.prune)
    model, params, notes = load_model(data.checkpoint, data.shape, data.labels, head_key)
    packed, orders = lay_out(config, data.train, data.tokenizer.pad_token_id)
    rows = packing.rows_per_step(packed, data.sentences, config.train.batch_size)
    total = config.train.epochs * -(-len(packed.tokens) // rows)
    notes = [*notes, *data.notes]
    if rows < mesh.size:
        notes.append(
            f"{rows} rows a step leave {mesh.size - rows} of {mesh.size} devices without any; "
            "raise train.batch_size"
        )
    vocabulary, stepped = None, model
    if data.checkpoint is not None:  # else the vocabulary is one of these very sentences
        vocabulary = choose_vocabulary(config, packed.tokens, params, masks)
    if vocabulary is not None:
        stepped, packed, params = vocabulary.part(model, packed, params)
    program = optimization.program(config, stepped, mesh)
    numbers = optimization.numbers(config, total, mesh)
    return Setup(
        data=data,
        model=model,
        notes=notes,
        packed=packed,
        orders=orders,
        rows=rows,
        mesh=mesh,
        total=total,
        program=program,
        numbers=numbers,
        masks=masks,
        vocabulary=vocabulary,
        state=start(program, numbers, params, masks),
    )


def with_languages(config: Config) -> Config:
    """The same config with the languages to train on by name, so that the run is told in full.

    Raises:
      UserError: the source is not there, or does not have a language that was asked for.
    """
    codes = sources.train_languages(config.data)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, languages=codes))


def find_model(config: Config) -> Path | None:
    """The directory of the checkpoint; an error names everything that the hub was asked for."""
    try:
        return huggingface.find(config.model)
    except UserError as error:
        if config.data.dir is None and config.data.hub and not sources.hub_answers():
            raise UserError(
                f"{error}, and --data.dir with one of {config.data.hub!r} (data.hub)"
            ) from None
        raise


def load_tokenizer(
    config: Config, checkpoint: Path | None, parts: Mapping[str, Part]
) -> tuple[Any, BertConfig]:
    """Tokenizer and shape of the model: those of a checkpoint, else learned and as configured.

    Raises:
      UserError: the checkpoint is damaged or unsupported, or its parts do not fit each other.
    """
    if checkpoint is None:
        limit, seed = config.data.train_sentences, config.data.subsample
        words = (
            word
            for part in parts.values()
            for sentence in sources.take(part.open(), limit, seed)
            for word in sentence.words
        )
        tokenizer = tokenization.train_tokenizer(words, config.model.vocabulary)
        tokenizer.model_max_length = config.data.length  # so that a pipeline truncates
        return tokenizer, new_shape(config, len(tokenizer), tokenizer.pad_token_id)
    # How many labels there are shows when the data are read.
    tokenizer, shape = huggingface.load_shape(checkpoint, num_labels=1)
    refuse_long_rows(config, shape)
    return tokenizer, shape


def refuse_long_rows(config: Config, shape: BertConfig) -> None:
    """Raises a UserError if rows have more pieces than the model has positions."""
    if config.data.length > shape.max_position_embeddings:
        raise UserError(
            f"data.length: {config.data.length} is more than the model's "
            f"{shape.max_position_embeddings} positions"
        )


def new_shape(config: Config, vocabulary: int, pad: int | None) -> BertConfig:
    """The shape of a model from scratch, with so many pieces and this one as the padding."""
    return bert.BertConfig(
        vocab_size=vocabulary,
        hidden_size=config.model.width,
        num_hidden_layers=config.model.layers,
        num_attention_heads=config.model.heads,
        intermediate_size=config.model.intermediate,
        hidden_dropout_prob=config.model.dropout,
        attention_probs_dropout_prob=config.model.dropout,
        max_position_embeddings=config.data.length,
        pad_token_id=pad,
    )


def choose_labels(checkpoint: Path | None, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The tags of the model: those of the data, or a checkpoint's own if they include them."""
    known = () if checkpoint is None else huggingface.read_labels(checkpoint)
    return known if set(labels) <= set(known) else labels


def load_model(
    checkpoint: Path | None, shape: BertConfig, labels: tuple[str, ...], key: jax.Array
) -> tuple[BertConfig, Params, list[str]]:
    """Shape with as many outputs as labels, parameters, notes: from a checkpoint or from scratch.

    Raises:
      UserError: the checkpoint is damaged or does not fit the shape.
    """
    shape = dataclasses.replace(shape, num_labels=len(labels))
    if checkpoint is None:
        return shape, bert.init(shape, key), ["a new model, from random numbers"]
    return shape, *huggingface.load(checkpoint, shape, labels, key)


def lay_out(config: Config, train: Mapping[str, Prepared], pad: int) -> tuple[Packed, Orders]:
    """The packed rows of the training sentences, and their order in each epoch."""

    def pack(encoded: Encoded, key: list[int]) -> Packed:
        order = np.random.default_rng(key).permutation(len(encoded.lengths))
        return packing.pack(encoded, config.data.length, pad, order)

    epochs, seed = config.train.epochs, config.seed
    parts = [part.encoded for part in train.values()]
    if config.data.alpha == 1:
        packed = pack(tokenization.concatenate(parts), [seed, 0])
        return packed, lambda: mixing.concatenation(len(packed.tokens), epochs, seed)
    # A row is of one language, so that a language can be seen more often than another.
    packs = [pack(part, [seed, 0, i]) for i, part in enumerate(parts)]
    sentences, rows = [len(part.words) for part in parts], [len(p.tokens) for p in packs]
    alpha = config.data.alpha
    return packing.stack(packs), lambda: mixing.sampling(sentences, rows, alpha, epochs, seed)


def start(
    program: optimization.Program,
    numbers: optimization.Numbers,
    params: Params,
    masks: prune.Masks | None,
) -> steps.TrainState:
    """The state before the first step, on the devices; a model that is pruned already stays so.

    Raises:
      UserError: the rules, the pattern or the masks do not fit the model.
    """
    assert program.mesh is not None
    try:
        if masks is not None:
            params = prune.apply_masks(params, masks)
        shapes = jax.eval_shape(partial(steps.initial, program, masks=masks), params, numbers)
    except ValueError as error:
        raise UserError(f"prune: {error}") from None
    # No device ever has all of what `fsdp` divides.
    shardings = parallel.of_parameters(shapes, program.mesh)
    params = parallel.place(params, shardings.params)
    return steps.make_initial(program, shardings, masks)(params, numbers)
