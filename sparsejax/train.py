"""Fine-tune a multilingual tagger while pruning it, then evaluate it language by language.

Without arguments: a small BERT on the embedded corpus, pruned to 90 %.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from sparsejax import command_line, config_checks, config_files
from sparsejax.config import Config
from sparsejax.errors import Stopped, UserError, one_line
from sparsejax.runtime import stopping

if TYPE_CHECKING:
    import jax

    from sparsejax.runtime.checkpoint import Checkpoints
    from sparsejax.runtime.logging import Log
    from sparsejax.runtime.setup import LastData, Setup
    from sparsejax.runtime.steps import TrainState


def run(
    config: Config,
    stop: stopping.Stop | None = None,
    log: Log | None = None,
    data: LastData | None = None,
) -> Path:
    """One run from the data to the saved tagger; returns its directory.

    In this order: what can be refused at once, the data and the model, the state (of the run that
    goes on, or a new one), training with pruning, the audit of the sparsity, evaluation, saving.
    The directory is created when data and model are known to be good.

    Args:
      config: the run. Other processes are found by `processes.joined`, not here.
      stop: whether the process is asked to stop.
      log: of the run, where it is not to be printed.
      data: of earlier runs of this process.

    Raises:
      UserError: a mistake in the configuration, the data or the model, a disk that is full, a loss
        that is not finite, a sparsity that is not the one asked for.
      Stopped: as asked; the run can go on.
    """
    # Imported here, so that --help and a mistyped flag answer at once.
    import jax

    from sparsejax.data import packing
    from sparsejax.runtime import (
        compilation,
        finishing,
        host_memory,
        logging,
        parallel,
        processes,
        run_directory,
        setup,
    )
    from sparsejax.runtime.checkpoint import Checkpoints

    compilation.keep_programs()
    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    # Of several processes only the first one looks at the output, and writes.
    first = processes.is_first()
    if first:
        run_directory.check(config, (config.model.path, config.data.dir, config.prune.masks))
    config = setup.with_languages(config)
    config_checks.validate(config)
    check_wandb(config)
    log = log or logging.Log(quiet=not first)
    goes_on = config.resume == "auto" and run_directory.holds_run(config.output)
    if parallel.number_of_first(goes_on and is_finished(config) if first else 0):
        log(f"{config.output} is finished already")
        return Path(str(config.output))

    stop = stop or stopping.Stop()
    job = setup.prepare(config, (data or setup.LastData()).read(config, log))
    parallel.check_same(job.alike(config), "data and settings")
    stop.check()
    directory, file = Path(config.output or "runs"), cast(TextIO, io.StringIO())
    if first:
        directory, file = run_directory.claim(config, goes_on)
    if first and not goes_on:
        config_files.save(config_files.settled(config), directory / "config.yaml")
    with log.kept(file):
        log(
            f"{job.data.sentences:,} sentences in {len(job.data.train)} languages, "
            f"{job.rows} rows a step: {packing.describe(job.packed)}"
        )
        if job.vocabulary is not None:
            log(job.vocabulary.describe())
        if job.mesh.size > 1:
            log(f"{parallel.describe(job.mesh)}, {job.padded_rows // job.mesh.size} rows on each")
        for note in job.notes:
            log(f"note: {note}")
        try:
            with Checkpoints(directory / "checkpoints", config.checkpoint.keep) as checkpoints:
                state, step = fit(config, job, directory, checkpoints, log, stop)
                finishing.finish(config, job, directory, checkpoints, log, stop, state, step)
        except Stopped as stopped:
            raise Stopped(f"{stopped}; --resume auto goes on with {directory}") from None
    return directory


def is_finished(config: Config) -> bool:
    """Whether the run that is to go on is finished.

    Raises:
      UserError: the directory holds a run with another configuration.
    """
    from sparsejax.runtime import run_directory

    directory = Path(str(config.output))
    if found := config_files.difference(config, config_files.load(directory / "config.yaml", True)):
        raise UserError(
            f"output: {directory} holds a run with {found}; pass the same, or another --output, or "
            "--overwrite to begin again"
        )
    return run_directory.is_finished(directory)


def check_wandb(config: Config) -> None:
    """Raises a UserError where Weights & Biases was asked for and is not installed."""
    import importlib.util

    if config.train.wandb is None:
        return
    found = importlib.util.find_spec("wandb")
    if found is None or found.origin is None:  # the latter: a directory of that name
        raise UserError("train.wandb: wandb is not installed; pip install wandb, or leave it out")


def fit(
    config: Config,
    job: Setup,
    directory: Path,
    checkpoints: Checkpoints,
    log: Log,
    stop: stopping.Stop,
) -> tuple[TrainState, int]:
    """Trains, from the newest whole checkpoint if there is one.

    The last checkpoint may be still on its way to the disk afterwards.

    Returns:
      The state that becomes the model, and its step: the last one, or the best.

    Raises:
      UserError: the loss or the gradient is not finite, memory or disk are full.
      Stopped: after a checkpoint of the last step that was made.
    """
    import jax
    import numpy as np

    from sparsejax.data import packing
    from sparsejax.runtime import finishing, guards, metrics, parallel, processes, pruning, steps
    from sparsejax.runtime.calls import calls
    from sparsejax.runtime.checkpoint import About

    about = partial(
        About,
        config=config_files.digest(config),
        data=job.data.digest(),
        model=job.untrained,
    )
    state, done = job.state, 0
    if newest := checkpoints.newest(about(0), lambda text: log(f"note: {text}")):
        state, done = checkpoints.replace(state, newest), newest
        log(f"goes on after step {done} of {job.total}")

    shardings = jax.tree.map(lambda leaf: leaf.sharding, state), parallel.whole(job.mesh)
    train_steps = steps.make_train_steps(job.program, shardings, job.masks)
    read = steps.make_read(job.program)
    score = finishing.scorer(config, job)

    def logged(state: TrainState) -> dict[str, jax.Array]:
        asked = parallel.by_device(stop.requested is not None, job.mesh)
        return parallel.in_turn(read(state, asked, job.numbers))

    memory = partial(
        guards.memory,
        f"a step of {job.rows} rows of {config.data.length} pieces",
        "lower --train.batch_size or --data.length, or pass --model.dtype bfloat16",
    )
    pieces = np.count_nonzero(job.packed.segments, axis=1)
    every = config.train.log_every, config.checkpoint.every
    due = pruning.due(config.prune, job.total)
    with ExitStack() as stack, log.progress(job.total, done) as show:
        sinks: list[metrics.Sink] = []
        if processes.is_first():
            sinks = stack.enter_context(metrics.sinks(directory, config, done))
        meter = metrics.Meter(sinks, job.total, config.train, done, show)
        try:
            with stop.after_the_step(), memory():
                numbers, values = packing.batches(job.rows, job.orders(), skip=done), None
                for chosen, count in calls(numbers, job.padded_rows, done, *every, due=due):
                    batches = parallel.batches(job.packed, chosen, job.mesh)
                    times = parallel.place(np.int32(count), parallel.whole(job.mesh))
                    before, found = values, train_steps(state, batches, times, job.numbers)
                    state, values = parallel.in_turn(found)
                    # The devices have the next call; with more, a stop would wait for all of them.
                    jax.block_until_ready(before)
                    tokens = int(pieces[chosen[chosen >= 0]].sum())
                    meter.steps(count, values, tokens, partial(logged, state))
                    # Several processes stop after the same step: one for which all have the news.
                    stops = meter.stop if jax.process_count() > 1 else stop.requested is not None
                    planned = meter.done % config.checkpoint.every == 0 or meter.done == job.total
                    if planned or stops:
                        meter.flush(state)
                        f1 = score(state, meter.done) if planned else None
                        if f1 is not None:
                            meter.score(f1)
                        checkpoints.save(state, about(meter.done, score=f1))
                    if stops:
                        break
        except metrics.NonFinite:
            rows = next(packing.batches(job.rows, job.orders(), skip=int(state.step)))
            path = directory / "nonfinite.safetensors"
            with memory():
                batch = parallel.batch(job.packed, rows, job.padded_rows, job.mesh)
                pieces = None if job.vocabulary is None else job.vocabulary.rows
                error = guards.not_finite(state, batch, job.program, job.numbers, path, pieces)
            raise error from None
    if parallel.anywhere(stop.requested is not None, job.mesh):
        name = stop.requested or "another process was asked to stop"
        raise Stopped(f"{name}: stopped after step {meter.done} of {job.total}")
    speed = f"{meter.tokens_per_second:,.0f} tokens/s; compiled in {meter.compilation:.0f} s"
    log(f"{job.total - done} steps in {meter.seconds:.0f} s, {speed}")
    if skipped := int(state.nonfinite):
        log(f"note: {skipped} steps were skipped: their loss or gradient was not finite")
    if not config.checkpoint.best:
        return state, job.total
    checkpoints.wait()
    best = checkpoints.best()
    if best is None or best == job.total:
        return state, job.total
    log(f"the model is that of step {best}, the best on the dev split")
    return checkpoints.replace(state, best), best


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: a mistake of the user's ends in one line and exit status 1.

    Stopped by a signal, the exit status is that of a run that can go on, `errors.STOPPED`.
    """
    with one_line("stopped before the end of the run"), stopping.listening() as stop:
        config = command_line.parse(argv, "python -m sparsejax.train", __doc__ or "")
        from sparsejax.runtime import processes

        with processes.joined(config.parallel):
            run(config, stop)


if __name__ == "__main__":
    main()
