"""Evaluate a saved run language by language, on clean text and with its entities replaced.

RUN, the first argument, is the directory that a training left. Scores go to RUN/results.jsonl, in
the place of those of the same evaluation; a comparison (--against) to RUN/disagreement.jsonl.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsejax import checksums, command_line, config_checks, config_files, config_values
from sparsejax.config import Config, DataConfig, EvaluateConfig
from sparsejax.errors import UserError, one_line

if TYPE_CHECKING:
    from sparsejax.data.preparation import Prepared
    from sparsejax.data.sentences import Corpus
    from sparsejax.data.sources import Part
    from sparsejax.ner.replaced import LastReplaced
    from sparsejax.ner.saved import Tagger
    from sparsejax.ner.tagging import Tagged
    from sparsejax.runtime.logging import Log


def run(
    directory: Path,
    trained: Config,
    data: DataConfig,
    config: EvaluateConfig,
    log: Log | None = None,
    last: LastReplaced | None = None,
) -> None:
    """Scores on the sentences as they are, then with entities replaced, then the comparison.

    Args:
      directory: of the run.
      trained: its configuration.
      data: the sentences to evaluate on, see `data_of`.
      config: what is asked for.
      log: where it is not to be printed.
      last: of earlier evaluations of this process.

    Raises:
      UserError: a mistake in the configuration, the run or the data.
    """
    import jax
    import numpy as np

    from sparsejax.data import languages, perturb, preparation, seen, sentences, sources
    from sparsejax.ner import disagreement, evaluation, replaced, saved
    from sparsejax.runtime import (
        compilation,
        host_memory,
        logging,
        parallel,
        processes,
        results,
        tables,
    )

    compilation.keep_programs()
    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    # Of several processes only the first one writes.
    first = processes.is_first()
    log = log or logging.Log(quiet=not first)
    table = languages.table(data.language_table)
    parts = sources.parts(data, config.split, sources.eval_languages(data, config.split))
    known = seen.load(directory / "seen.safetensors")
    for name in ("results.jsonl", "disagreement.jsonl"):
        if (directory / name).exists():
            results.read(directory / name)  # what is wrong with it is told before work
    parallel.check_same(asked(directory, trained, config), "settings or runs")
    width = config.parallel.fsdp
    tagger = saved.load(directory / "model", trained.model.dtype, width)
    other = None if config.against is None else load_other(Path(config.against), tagger, width)

    gold = prepare(tagger, parts, data, log)
    predicted = tag(tagger, gold, data, log)
    for note in preparation.repair_notes(gold):
        log(f"note: {note}")
    clean = evaluation.is_clean(gold, known)
    rows = {"none": evaluation.evaluate(gold, predicted, tagger.labels, table, clean)}
    save(directory / "results.jsonl", data, config, gold, "none", rows["none"])
    log(*tables.evaluation(rows["none"], table))

    @functools.cache
    def corpus() -> Corpus:
        return {
            code: list(sources.take(part.open(), data.eval_sentences, data.subsample))
            for code, part in parts.items()
        }

    @functools.cache
    def pools() -> Corpus:
        # What an entity is replaced with does not depend on how many sentences are evaluated.
        return {code: list(part.open()) for code, part in parts.items()}

    def replace(kind: str) -> replaced.Replaced:
        entities = set(known.entities.tolist())
        changed = perturb.perturb(
            corpus(),
            kind,
            pools=pools(),
            describe=lambda code: languages.lookup(table, code),
            seen=lambda _, words: sentences.key(words) in entities,
            seed=config.seed,
        )
        return replaced.Replaced(changed, prepare(tagger, in_memory(changed.corpus), data, log))

    last, of = last or replaced.LastReplaced(), None
    if config.perturb:
        of = replaced.depends_on(data, config.split, config.seed, known, tagger)
    for kind in config.perturb:
        both = last.get(of, kind, functools.partial(replace, kind))
        changed, pieces = both.changed, both.prepared
        if config.write is not None and first:
            replaced.write(Path(config.write), kind, config.split, corpus(), changed)
        predicted_replaced = tag(tagger, pieces, data, log, kind)
        rows[kind] = evaluation.evaluate(pieces, predicted_replaced, tagger.labels, table, clean)
        where = {code: np.array(part) for code, part in changed.changed.items()}
        before = evaluation.on(gold, predicted, tagger.labels, where)
        after = evaluation.on(pieces, predicted_replaced, tagger.labels, where)
        for row in rows[kind]:
            if row["kind"] == "scores":
                code = row["language"]
                row["changed"] = {"before": before[code], "after": after[code]}
                if code in changed.counts:
                    row["replacement"] = changed.counts[code]._asdict()
        save(directory / "results.jsonl", data, config, gold, kind, rows[kind])
    if config.perturb:
        log(tables.perturbations(rows, table), tables.replacements(rows))
    if other is not None:
        second = tag(other, prepare(other, parts, data, log), data, log, config.against or "")
        rates, found = disagreement.compare(corpus(), gold, predicted, second, tagger.labels, known)
        runs = {"against": str(Path(config.against or "").resolve())}
        save(directory / "disagreement.jsonl", data, config, gold, "none", found, runs)
        log(tables.disagreement(rates, table))
    log(f"saved in {directory}: results.jsonl" + (", disagreement.jsonl" if other else ""))


def asked(directory: Path, trained: Config, config: EvaluateConfig) -> str:
    """What all processes must have alike besides the sentences; paths may differ."""
    runs = [directory, *([] if config.against is None else [Path(config.against)])]
    sums = [path / "model" / checksums.NAME for path in runs]
    models = [path.read_text("utf-8") if path.exists() else "" for path in sums]
    fields = (config.split, config.perturb, config.seed, config.parallel.fsdp, trained.model.dtype)
    return f"{fields} {models}"


def load_other(directory: Path, tagger: Tagger, fsdp: int) -> Tagger:
    """The tagger of the run to compare with.

    Raises:
      UserError: it is not there, or has other tags.
    """
    from sparsejax.ner import saved

    other = saved.load(directory / "model", load_run(directory).model.dtype, fsdp)
    if other.labels != tagger.labels:
        raise UserError(f"against: {directory} has other tags: {' '.join(other.labels)}")
    return other


def _rows(data: DataConfig, tagger: Tagger) -> DataConfig:
    """With rows that the model has positions for; each run may have another length."""
    return dataclasses.replace(data, length=min(data.length, tagger.positions))


def prepare(
    tagger: Tagger, parts: Mapping[str, Part], data: DataConfig, log: Log
) -> dict[str, Prepared]:
    """The sentences as the tagger's pieces and labels."""
    from sparsejax.data import preparation, sources
    from sparsejax.runtime import parallel

    data = _rows(data, tagger)
    in_cache = not any(isinstance(part, sources.ListPart) for part in parts.values())
    prepared = preparation.prepare(
        parts,
        tagger.tokenizer,
        data,
        data.eval_sentences,
        log.patient("tokenising languages"),
        remember=in_cache,
    )
    prepared = preparation.relabelled(prepared, tagger.labels)
    parallel.check_same(f"{preparation.digest(prepared)} {data.length}", "sentences")
    return prepared


def tag(
    tagger: Tagger,
    prepared: Mapping[str, Prepared],
    data: DataConfig,
    log: Log,
    what: str = "as they are",
) -> dict[str, Tagged]:
    """The tagger's own labels for every word."""
    progress = log.patient("tagging rows")
    times = [(0, time.monotonic())]

    def show(done: int, total: int) -> None:
        times.append((done, time.monotonic()))
        progress(done, total)

    tagged = tagger.tag(prepared, _rows(data, tagger).length, show)
    number = sum(len(part.encoded.words) for part in prepared.values())
    speed = ""
    if len(times) > 2:  # without the first batch, for which the program is compiled
        (first, began), (last, ended) = times[1], times[-1]
        speed = f", {number / last * (last - first) / (ended - began):,.0f} a second"
    log(f"{what}: {number:,} sentences in {times[-1][1] - times[0][1]:.1f} s{speed}")
    return tagged


def in_memory(corpus: Corpus) -> dict[str, Part]:
    """The sentences of each language as a part."""
    from sparsejax.data import sources

    return {code: sources.ListPart(code, part) for code, part in corpus.items()}


def save(
    path: Path,
    data: DataConfig,
    config: EvaluateConfig,
    codes: Iterable[str],
    kind: str,
    rows: Sequence[Any],
    more: dict[str, Any] | None = None,
) -> None:
    """Puts rows into a file of the run, in the place of those of the same setting."""
    from sparsejax.runtime import processes, results

    if not processes.is_first():
        return
    where = results.setting(data, codes, config.split, kind, config.seed) | (more or {})
    results.replace(path, where, [where | row for row in rows])


def load_run(directory: Path) -> Config:
    """The configuration of a run.

    Raises:
      UserError: the directory holds none, or one that was not finished.
    """
    if not (directory / "config.yaml").is_file():
        raise UserError(f"{directory}: no run (no config.yaml)")
    for name in ("model", "results.jsonl"):
        if not (directory / name).exists():
            raise UserError(
                f"{directory}: no {name}, so this run was not finished; train it to its end with "
                "--resume auto"
            )
    return config_files.load(directory / "config.yaml", of_run=True)


def check(directory: Path, config: EvaluateConfig) -> None:
    """Raises a UserError for what can be seen of a command line alone."""
    config_checks.check_ranges(config)
    config_checks.validate_parallel(config.parallel)
    if config.write is None:
        return
    if not config.perturb:
        raise UserError("write: there is nothing to write without --perturb")
    target = Path(config.write)
    if directory.resolve() in (target.resolve(), *target.resolve().parents):
        raise UserError(f"write: {target} is inside the run; pass a directory elsewhere")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"write: {target}: {error.strerror}") from None


def data_of(trained: Config, given: Mapping[str, Any]) -> DataConfig:
    """The data of the run with what the flags say of them.

    Args:
      given: fields of the flags, as YAML would have them.
    """
    asked = config_values.overlay(EvaluateConfig(), {"data": given}).data
    changes = {name: getattr(asked, name) for name in given}
    if "hub" in changes and "dir" not in changes:
        changes["dir"] = None  # which would win over it
    data: DataConfig = dataclasses.replace(trained.data, **changes)
    config_checks.validate(dataclasses.replace(trained, data=data))
    return data


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: a mistake of the user's ends in one line and exit status 1."""
    words = sys.argv[1:] if argv is None else list(argv)
    with one_line("stopped before the end of the evaluation"):
        first = words[0] if words else ""
        directory = None if first.startswith("-") or not first else Path(words.pop(0))
        given = command_line.flags(
            EvaluateConfig, words, "python -m sparsejax.evaluate RUN", __doc__ or ""
        )
        if directory is None:
            raise UserError("the first argument is the directory of a run")
        config = config_values.overlay(EvaluateConfig(), given)
        check(directory, config)
        trained = load_run(directory)
        data = data_of(trained, given.get("data", {}))
        from sparsejax.runtime import processes

        with processes.joined(config.parallel):
            run(directory, trained, data, config)
            processes.wait_for_all("finished")


if __name__ == "__main__":
    main()
