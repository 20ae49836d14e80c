"""Fine-tune a multilingual tagger while pruning it, then evaluate it language by language.

Without arguments: a small BERT on the embedded corpus, pruned to 90 %.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsejax import command_line
from sparsejax import config as config_lib
from sparsejax.errors import UserError, one_line

if TYPE_CHECKING:
    import jax
    import numpy as np
    import optax

    from sparsejax import prune
    from sparsejax.data.packing import Packed
    from sparsejax.data.preparation import Prepared
    from sparsejax.data.sources import Part
    from sparsejax.data.tokenization import Encoded
    from sparsejax.models.bert import BertConfig, Params
    from sparsejax.runtime import steps


def run(config: config_lib.Config) -> Path:
    """One run from the data to the saved tagger; returns its directory.

    In this order: what can be refused at once, the data, the model (from a checkpoint, or from
    scratch), training with pruning, the audit of the sparsity, evaluation, saving. The directory is
    created when data and model are known to be good.

    Raises:
      UserError: a mistake in the configuration, the data or the model.
    """
    # Imported here, so that --help and a mistyped flag answer at once.
    import jax
    import numpy as np

    from sparsejax import prune
    from sparsejax.data import languages, packing, preparation, seen, sources
    from sparsejax.models import huggingface
    from sparsejax.ner import evaluation, tagging
    from sparsejax.runtime import (
        host_memory,
        logging,
        parallel,
        pruning,
        run_directory,
        steps,
        tables,
    )

    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    inputs = (config.model.path, config.data.dir, config.prune.masks)
    run_directory.check(config.output, config.overwrite, inputs)
    config = with_languages(config)
    config_lib.validate(config)
    data = config.data
    train_parts = sources.parts(data, "train", data.languages)
    test_parts = sources.parts(data, "test", sources.eval_languages(data, "test"))
    table = languages.table(data.language_table)
    log = logging.Log()
    head_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    masks = pruning.read_masks(config.prune)
    checkpoint = find_model(config)
    earlier = seen.of_checkpoint(checkpoint)

    tokenizer, bert_config = load_tokenizer(config, checkpoint, train_parts)
    train, test = (
        preparation.prepare(parts, tokenizer, data, limit, log.patient("tokenising languages"))
        for parts, limit in (
            (train_parts, data.train_sentences),
            (test_parts, data.eval_sentences),
        )
    )
    labels = choose_labels(checkpoint, preparation.label_set(train))
    train, test = (preparation.relabelled(parts, labels) for parts in (train, test))
    bert_config, params, notes = load_model(checkpoint, bert_config, labels, head_key)

    packed, orders = lay_out(config, train, tokenizer.pad_token_id)
    sentences = sum(len(part.encoded.words) for part in train.values())
    rows = packing.rows_per_step(packed, sentences, config.train.batch_size)
    total = config.train.epochs * -(-len(packed.tokens) // rows)
    tx = steps.optimizer(config.train, config.prune, bert_config, total, masks, config.seed)
    state = start(tx, params, masks)

    directory = run_directory.create(config.output)
    config_lib.save(config_lib.settled(config), directory / "config.yaml")
    log.open(directory / "log.txt")
    log(f"{sentences:,} sentences in {len(train)} languages, {rows} rows a step: "
        f"{packing.describe(packed)}")  # fmt: skip
    repairs = preparation.repair_notes(test)
    notes += [*preparation.repair_notes(train), *(f"in the test split, {n}" for n in repairs)]
    for note in notes:
        log(f"note: {note}")

    train_step = steps.make_train_step(bert_config, tx, config.model.dtype, dropout_key)
    meter = logging.Meter(directory / "metrics.jsonl", total, config.train.log_every)
    with log.progress(total) as show:
        for batch in packing.batches(packed, rows, orders):
            state, step_metrics = train_step(state, batch)
            tokens = int(np.count_nonzero(batch["segments"]))
            meter.step(step_metrics, tokens, show, partial(pruning.sparsity, state.opt_state))
    log(f"{total} steps in {meter.seconds:.0f} s, {meter.tokens_per_second:,.0f} tokens/s; "
        f"compiled in {meter.compilation:.0f} s")  # fmt: skip

    audit = pruning.audit(config.prune, bert_config, state.params, state.opt_state, total)
    params = prune.effective_params(state.params, state.opt_state)
    mesh = parallel.row_mesh()
    predicted = tagging.tag(
        tagging.make_predict(bert_config, config.model.dtype, mesh),
        parallel.replicate(params, mesh),
        {code: part.encoded for code, part in test.items()},
        data.length,
        tokenizer.pad_token_id,
        mesh,
    )
    known = seen.seen(train)
    if earlier is not None:
        known = seen.union(known, earlier)
    clean = evaluation.is_clean(test, known)
    scores = evaluation.evaluate(test, predicted, labels, table, clean)

    run_directory.write_directory(
        directory / "model",
        lambda path: huggingface.save(path, params, bert_config, labels, tokenizer),
    )
    seen.save(known, directory / "seen.safetensors")
    if prune.is_pruning(state.opt_state):
        prune.write_masks(directory / "masks.safetensors", prune.masks_of(state.opt_state))
    setting = run_directory.setting(data, test, "test")
    run_directory.write_rows(
        directory / "results.jsonl",
        [*(setting | row for row in scores), {"kind": "sparsity"} | audit.to_dict()],
    )
    log(tables.scores(scores, table), tables.sparsity(audit))
    log(f"saved in {directory}: the tagger in model/, scores in results.jsonl")
    return directory


def with_languages(config: config_lib.Config) -> config_lib.Config:
    """The same config with the languages to train on by name, so that the run is told in full.

    Raises:
      UserError: the source is not there, or does not have a language that was asked for.
    """
    from sparsejax.data import sources

    codes = sources.train_languages(config.data)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, languages=codes))


def find_model(config: config_lib.Config) -> Path | None:
    """The directory of the checkpoint; an error names everything that the hub was asked for."""
    from sparsejax.data import sources
    from sparsejax.models import huggingface

    try:
        return huggingface.find(config.model)
    except UserError as error:
        if config.data.dir is None and config.data.hub and not sources.hub_answers():
            raise UserError(
                f"{error}, and --data.dir with one of {config.data.hub!r} (data.hub)"
            ) from None
        raise


def load_tokenizer(
    config: config_lib.Config, checkpoint: Path | None, parts: Mapping[str, Part]
) -> tuple[Any, BertConfig]:
    """Tokenizer and shape of the model: those of a checkpoint, else learned and as configured.

    Raises:
      UserError: the checkpoint is damaged or unsupported, or its parts do not fit each other.
    """
    from sparsejax.data import sources, tokenization
    from sparsejax.models import bert, huggingface

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
        return tokenizer, bert.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.model.width,
            num_hidden_layers=config.model.layers,
            num_attention_heads=config.model.heads,
            intermediate_size=config.model.intermediate,
            hidden_dropout_prob=config.model.dropout,
            attention_probs_dropout_prob=config.model.dropout,
            max_position_embeddings=config.data.length,
            pad_token_id=tokenizer.pad_token_id,
        )
    # How many labels there are shows when the data are read.
    tokenizer, shape = huggingface.load_shape(checkpoint, num_labels=1)
    if config.data.length > shape.max_position_embeddings:
        raise UserError(
            f"data.length: {config.data.length} is more than the model's "
            f"{shape.max_position_embeddings} positions"
        )
    return tokenizer, shape


def choose_labels(checkpoint: Path | None, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The tags of the model: those of the data, or a checkpoint's own if they include them."""
    from sparsejax.models import huggingface

    known = () if checkpoint is None else huggingface.read_labels(checkpoint)
    return known if set(labels) <= set(known) else labels


def load_model(
    checkpoint: Path | None, shape: BertConfig, labels: tuple[str, ...], key: jax.Array
) -> tuple[BertConfig, Params, list[str]]:
    """Shape with as many outputs as labels, parameters, notes: from a checkpoint or from scratch.

    Raises:
      UserError: the checkpoint is damaged or does not fit the shape.
    """
    from sparsejax.models import bert, huggingface

    shape = dataclasses.replace(shape, num_labels=len(labels))
    if checkpoint is None:
        return shape, bert.init(shape, key), ["a new model, from random numbers"]
    return shape, *huggingface.load(checkpoint, shape, labels, key)


def lay_out(
    config: config_lib.Config, train: Mapping[str, Prepared], pad: int
) -> tuple[Packed, Iterator[np.ndarray]]:
    """The packed rows of the training sentences, and their order in each epoch."""
    import numpy as np

    from sparsejax.data import mixing, packing, tokenization

    def pack(encoded: Encoded, key: list[int]) -> Packed:
        order = np.random.default_rng(key).permutation(len(encoded.lengths))
        return packing.pack(encoded, config.data.length, pad, order)

    epochs, seed = config.train.epochs, config.seed
    parts = [part.encoded for part in train.values()]
    if config.data.alpha == 1:
        packed = pack(tokenization.concatenate(parts), [seed, 0])
        return packed, mixing.concatenation(len(packed.tokens), epochs, seed)
    # A row is of one language, so that a language can be seen more often than another.
    packs = [pack(part, [seed, 0, i]) for i, part in enumerate(parts)]
    sentences, rows = [len(part.words) for part in parts], [len(p.tokens) for p in packs]
    orders = mixing.sampling(sentences, rows, config.data.alpha, epochs, seed)
    return packing.stack(packs), orders


def start(
    tx: optax.GradientTransformation, params: Params, masks: prune.Masks | None
) -> steps.TrainState:
    """The state before the first step; a model that is pruned already stays so.

    Raises:
      UserError: the rules, the pattern or the masks do not fit the model.
    """
    import jax
    import jax.numpy as jnp

    from sparsejax import prune
    from sparsejax.runtime import steps

    params = jax.tree.map(jnp.asarray, params)
    try:
        if masks is not None:
            params = prune.apply_masks(params, masks)
        return steps.TrainState(params, tx.init(params), jnp.zeros([], jnp.int32))
    except ValueError as error:
        raise UserError(f"prune: {error}") from None


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: a mistake of the user's ends in one line and exit status 1."""
    with one_line("stopped before the end of the run"):
        run(command_line.parse(argv, "python -m sparsejax.train", __doc__ or ""))


if __name__ == "__main__":
    main()
