"""Fine-tune a multilingual tagger while pruning it, then evaluate it language by language.

Without arguments: a small BERT on the embedded corpus, pruned to 90 %.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsejax import config as config_lib
from sparsejax.errors import UserError

if TYPE_CHECKING:
    import jax
    import optax

    from sparsejax import prune
    from sparsejax.data.sources import Corpus
    from sparsejax.models.bert import BertConfig, Params
    from sparsejax.runtime import steps


# A full disk, a directory that became read-only, a mount that vanished.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE)


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
    from sparsejax.data import cache, packing, sources, tokenization
    from sparsejax.models import huggingface
    from sparsejax.ner import metrics, tagging
    from sparsejax.runtime import host_memory, logging, pruning, run_directory, steps

    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    inputs = (config.model.path, config.data.dir, config.prune.masks)
    run_directory.check(config.output, config.overwrite, inputs)
    sources.languages(config.data)
    log = logging.Log()
    head_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    masks = pruning.read_masks(config.prune)
    checkpoint = find_model(config)

    train_corpus = sources.load(config.data, "train", config.data.train_sentences)
    test_corpus = sources.load(config.data, "test", config.data.eval_sentences)
    tokenizer, bert_config, params, notes = load_model(config, checkpoint, train_corpus, head_key)

    encode = cache.encoder(tokenizer, config.data.length, config.data.cache)
    train = tokenization.concatenate([encode(part) for part in train_corpus.values()])
    test = {code: encode(part) for code, part in test_corpus.items()}
    order = np.random.default_rng([config.seed, 0]).permutation(len(train.lengths))
    packed = packing.pack(train, config.data.length, tokenizer.pad_token_id, order)
    rows = packing.rows_per_step(packed, len(train.words), config.train.batch_size)
    total = config.train.epochs * -(-len(packed.tokens) // rows)
    tx = steps.optimizer(config.train, config.prune, bert_config, total, masks, config.seed)
    state = start(tx, params, masks)

    directory = run_directory.create(config.output)
    config_lib.save(config_lib.settled(config), directory / "config.yaml")
    log.open(directory / "log.txt")
    log(f"{len(train.words):,} sentences in {len(train_corpus)} languages, {rows} rows a step: "
        f"{packing.describe(packed)}")  # fmt: skip
    repairs = tokenization.concatenate(list(test.values())).repair_notes()
    for note in (*notes, *train.repair_notes(), *(f"in the test split, {n}" for n in repairs)):
        log(f"note: {note}")

    train_step = steps.make_train_step(bert_config, tx, config.model.dtype, dropout_key)
    meter = logging.Meter(directory / "metrics.jsonl", total, config.train.log_every)
    with log.progress(total) as show:
        for batch in packing.epochs(packed, rows, config.train.epochs, config.seed):
            state, step_metrics = train_step(state, batch)
            tokens = int(np.count_nonzero(batch["segments"]))
            meter.step(step_metrics, tokens, show, partial(pruning.sparsity, state.opt_state))
    log(f"{total} steps in {meter.seconds:.0f} s, {meter.tokens_per_second:,.0f} tokens/s; "
        f"compiled in {meter.compilation:.0f} s")  # fmt: skip

    audit = pruning.audit(config.prune, bert_config, state.params, state.opt_state, total)
    params = prune.effective_params(state.params, state.opt_state)
    predict = steps.make_predict(bert_config, config.model.dtype)
    predicted = tagging.tag(predict, params, test, config.data.length, tokenizer.pad_token_id)
    gold = {code: [s.tags for s in part] for code, part in test_corpus.items()}
    scores = metrics.by_language(gold, predicted)

    run_directory.write_directory(
        directory / "model",
        lambda path: huggingface.save(path, params, bert_config, sources.TAGS, tokenizer),
    )
    if prune.is_pruning(state.opt_state):
        prune.write_masks(directory / "masks.safetensors", prune.masks_of(state.opt_state))
    results = [{"kind": "scores", "language": c, "split": "test"} | r for c, r in scores.items()]
    run_directory.write_rows(
        directory / "results.jsonl", [*results, {"kind": "sparsity"} | audit.to_dict()]
    )
    log(logging.score_table(scores), logging.sparsity_table(audit))
    log(f"saved in {directory}: the tagger in model/, scores in results.jsonl")
    return directory


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


def load_model(
    config: config_lib.Config, checkpoint: Path | None, corpus: Corpus, key: jax.Array
) -> tuple[Any, BertConfig, Params, list[str]]:
    """Tokenizer, shape, parameters and notes: from a checkpoint if there is one, else from scratch.

    Raises:
      UserError: the checkpoint is damaged or unsupported, or its parts do not fit each other.
    """
    from sparsejax.data import sources, tokenization
    from sparsejax.models import bert, huggingface

    if checkpoint is None:
        words = (word for part in corpus.values() for sentence in part for word in sentence.words)
        tokenizer = tokenization.train_tokenizer(words, config.model.vocabulary)
        tokenizer.model_max_length = config.data.length  # so that a pipeline truncates
        shape = bert.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.model.width,
            num_hidden_layers=config.model.layers,
            num_attention_heads=config.model.heads,
            intermediate_size=config.model.intermediate,
            hidden_dropout_prob=config.model.dropout,
            attention_probs_dropout_prob=config.model.dropout,
            max_position_embeddings=config.data.length,
            pad_token_id=tokenizer.pad_token_id,
            num_labels=len(sources.TAGS),
        )
        return tokenizer, shape, bert.init(shape, key), ["a new model, from random numbers"]
    raw = huggingface.read_config(checkpoint)
    try:
        shape = bert.BertConfig.from_dict(raw, len(sources.TAGS))
    except UserError as error:
        raise UserError(f"{checkpoint}/{error}") from None
    tokenizer = tokenization.load_tokenizer(checkpoint)
    if len(tokenizer) > shape.vocab_size:
        raise UserError(
            f"{checkpoint}: the tokenizer has {len(tokenizer)} pieces, more than the "
            f"{shape.vocab_size} word embeddings (vocab_size)"
        )
    if config.data.length > shape.max_position_embeddings:
        raise UserError(
            f"data.length: {config.data.length} is more than the model's "
            f"{shape.max_position_embeddings} positions"
        )
    params, notes = huggingface.load(checkpoint, shape, sources.TAGS, key)
    return tokenizer, shape, params, notes


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
    try:
        run(config_lib.parse(argv, "python -m sparsejax.train", __doc__ or ""))
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        sys.exit(f"error: {error.filename or 'output'}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit("stopped before the end of the run")


if __name__ == "__main__":
    main()
