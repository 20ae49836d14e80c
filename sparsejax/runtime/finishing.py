"""What a trained state is worth, and what is left of it: tags, scores, the audit, the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sparsejax import config_files, prune
from sparsejax.config import Config
from sparsejax.data import seen
from sparsejax.data.preparation import Prepared
from sparsejax.models import huggingface
from sparsejax.ner import evaluation, tagging
from sparsejax.ner.tagging import Tagged
from sparsejax.runtime import (
    counts,
    parallel,
    processes,
    pruning,
    results,
    run_directory,
    stopping,
    tables,
)
from sparsejax.runtime.checkpoint import Checkpoints
from sparsejax.runtime.logging import Log
from sparsejax.runtime.setup import Setup
from sparsejax.runtime.steps import TrainState


def scorer(config: Config, job: Setup) -> Callable[[TrainState, int], float | None]:
    """(state, step) -> macro F1 on the dev split, or None: not asked for, or not yet pruned."""
    begin = pruning.final_step(config.prune, job.total)
    tag = tagger(config, job)
    everything = {code: np.ones(len(p.encoded.words), bool) for code, p in job.data.dev.items()}

    def score(state: TrainState, step: int) -> float | None:
        if not job.data.dev or step < begin:
            return None
        predicted = tag(job.whole(state), job.data.dev)
        found = evaluation.on(job.data.dev, predicted, job.data.labels, everything)["macro"]["f1"]
        return None if found is None else float(found)

    return score


def tagger(
    config: Config, job: Setup
) -> Callable[[TrainState, Mapping[str, Prepared]], dict[str, Tagged]]:
    """(state, parts) -> a tag for every word, by language."""
    predict = tagging.make_predict(job.model, config.model.dtype, job.mesh)

    def tag(state: TrainState, parts: Mapping[str, Prepared]) -> dict[str, Tagged]:
        params = prune.effective_params(state.params, state.opt_state)
        encoded = {code: part.encoded for code, part in parts.items()}
        pad = job.data.tokenizer.pad_token_id
        return tagging.tag(predict, params, encoded, config.data.length, pad, job.mesh)

    return tag


def finish(
    config: Config,
    job: Setup,
    directory: Path,
    checkpoints: Checkpoints,
    log: Log,
    stop: stopping.Stop,
    state: TrainState,
    step: int,
) -> None:
    """Audits the sparsity, evaluates and saves; the results are what is written last.

    Raises:
      UserError: the sparsity is not the one that was asked for.
      Stopped: as asked; the run can go on.
    """
    state = job.whole(state)
    first, kept = processes.is_first(), state
    if job.mesh.size > 1:
        kept = parallel.to_host(state)
    if first:
        with parallel.on_host():  # no one device need have room for all
            audit = pruning.audit(config.prune, job.model, kept.params, kept.opt_state, job.total)
            params = prune.effective_params(kept.params, kept.opt_state)
    predicted = tagger(config, job)(state, job.data.test)
    if not first:
        stop.finished()
        processes.wait_for_all("finished")
        return
    stop.check()
    clean = evaluation.is_clean(job.data.test, job.data.known)
    scores = evaluation.evaluate(job.data.test, predicted, job.data.labels, job.data.table, clean)

    run_directory.write_directory(
        directory / "model",
        lambda path: huggingface.save(path, params, job.model, job.data.labels, job.data.tokenizer),
    )
    stop.check()
    seen.save(job.data.known, directory / "seen.safetensors")
    if prune.is_pruning(kept.opt_state):
        prune.write_masks(directory / "masks.safetensors", prune.masks_of(kept.opt_state))
    setting = results.setting(config_files.settled(config).data, job.data.test, "test")
    by_sentence = evaluation.by_sentence(job.data.test, predicted, job.data.labels)
    counts.write(directory / "counts.safetensors", by_sentence, setting)
    checkpoints.wait()
    about = {"schema": results.SCHEMA, "kind": "sparsity", "step": step}
    results.write(
        directory / "results.jsonl", [*(setting | row for row in scores), about | audit.to_dict()]
    )
    if not config.checkpoint.keep:
        checkpoints.clear()
    log(tables.scores(scores, job.data.table), tables.sparsity(audit))
    log(f"saved in {directory}: the tagger in model/, scores in results.jsonl")
    stop.finished()
    processes.wait_for_all("finished")
