"""A grid of small monolingual runs in one process: what does a run cost after the first?

    python bench/small_runs.py --out docs/benchmarks/small_runs.json

Languages of WikiAnn with 100 to 5,000 training sentences, each of them with every sparsity (0 is
dense) and every seed. The runs go through `sparsejax.train.run` one after another with their data
in common, as a grid does them (`python -m sparsejax.sweep`), and nothing is compiled or tokenised
before the first. Each is evaluated on the test split and saved.

Of every run: its wall time, where it went, and the programs that were compiled. The parts are timed
around the functions of sparsejax that do them; the first step is what the run itself counts as
compilation, with the way of the rows to the device; "rest" is what no part has. A program that is
compiled in another part counts there. With `quick`, the small model of the quickstart, every
language has a vocabulary of its own, and with it programs of its own; with `e5-small` they have one
vocabulary, and with `mbert`, of random weights in mBERT's shapes, too.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import workload

if TYPE_CHECKING:
    from sparsejax.config import Config

QUICK = "quick"
LENGTH = 128
# part of a run -> the functions that do it
PARTS = {
    "reading": ("setup.read",),
    "preparing": ("setup.prepare",),
    "checkpoints": ("checkpoint.Checkpoints.save", "checkpoint.Checkpoints.wait"),
    "audit": ("pruning.audit",),
    "tagging": ("tagging.tag",),
    "scoring": ("evaluation.is_clean", "evaluation.evaluate", "evaluation.by_sentence"),
    "saving": ("run_directory.write_directory", "seen.save", "prune.write_masks", "counts.write"),
}
STEPS = ("first step", "training")  # as the run itself counts them
Row = dict[str, Any]


def checkpoint(args: argparse.Namespace, directory: Path) -> Path | None:
    """The directory of the model that runs start from."""
    from sparsejax.models import huggingface

    if args.model == workload.SMALL:
        return args.shared / "models/e5-small-39"
    if args.model == QUICK:
        return None
    tokenizer, shape = workload.tokenizer_and_shape(args.shared, args.model)
    params, path = workload.parameters(args.shared, args.model, shape), directory / "checkpoint"
    path.mkdir()
    huggingface.save(path, params, shape, workload.TAGS, tokenizer)
    return path


def configs(args: argparse.Namespace, directory: Path) -> Iterator[Config]:
    """The runs, those of a language together, as a grid orders them."""
    from sparsejax.config import (
        CheckpointConfig,
        Config,
        DataConfig,
        ModelConfig,
        PruneConfig,
        TrainConfig,
    )

    path = checkpoint(args, directory)
    model = ModelConfig(path=None if path is None else str(path))
    train = TrainConfig(epochs=args.epochs, learning_rate=2e-3 if path is None else 1e-4)
    for code in args.languages:
        data = DataConfig(
            dir=str(args.shared / "data/panx"),
            languages=(code,),
            eval_sentences=args.eval_sentences,
            length=LENGTH,
        )
        for sparsity in args.sparsities:
            pruned = PruneConfig(method="magnitude", sparsity=sparsity)
            for seed in range(args.seeds):
                yield Config(
                    data=data,
                    model=model,
                    prune=pruned if sparsity else PruneConfig(method="none"),
                    train=train,
                    checkpoint=CheckpointConfig(keep=0),  # as in a grid that need not keep them
                    seed=seed,
                    output=str(directory / f"{code}-{sparsity:g}-{seed}"),
                )


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Within, a run is made; afterwards there are the seconds of its parts."""
    from sparsejax import prune
    from sparsejax.data import seen
    from sparsejax.ner import evaluation, tagging
    from sparsejax.runtime import checkpoint, counts, metrics, pruning, run_directory, setup

    there = (checkpoint, counts, evaluation, prune, pruning, run_directory, seen, setup, tagging)
    modules = {module.__name__.rpartition(".")[2]: module for module in there}
    seconds = dict.fromkeys((*PARTS, *STEPS), 0.0)
    meters: list[Any] = []
    within: list[str] = []

    class Meter(metrics.Meter):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            meters.append(self)

    def watched(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if within:  # of another one, which has the time
                return function(*args, **kwargs)
            within.append(part)
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += time.perf_counter() - began
                within.pop()

        return call

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(metrics, "Meter", Meter))
        for part, names in PARTS.items():
            for name in names:
                *path, last = name.split(".")
                owner: Any = functools.reduce(getattr, path[1:], modules[path[0]])
                patch = mock.patch.object(owner, last, watched(part, getattr(owner, last)))
                stack.enter_context(patch)
        yield seconds
    for meter in meters:
        seconds |= dict(zip(STEPS, (meter.compilation, meter.seconds), strict=True))


@contextmanager
def compiled() -> Iterator[list[tuple[str, float]]]:
    """Within, the name of each program that is compiled is noted, and the seconds of XLA."""
    import jax

    found: list[tuple[str, float]] = []

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            name = str(about.get("fun_name")).removeprefix("jit(").removesuffix(")")
            found.append((name, duration_secs))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def measure(config: Config, data: Any) -> Row:
    """Makes a run.

    Args:
      config: of the run.
      data: of the runs before it, `sparsejax.runtime.setup.LastData`.
    """
    from sparsejax import train
    from sparsejax.runtime import logging

    quiet = logging.Log(quiet=True)
    began = time.perf_counter()
    with timed() as seconds, compiled() as programs:
        directory = train.run(config, log=quiet, data=data)
    wall = time.perf_counter() - began
    sentences = sum(len(part.encoded.words) for part in data.read(config, quiet).train.values())
    steps = json.loads((directory / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    return {
        "run": directory.name,
        "language": config.data.languages[0],
        "sentences": sentences,
        "steps": steps,
        "wall": wall,
        "seconds": seconds | {"rest": wall - sum(seconds.values())},
        "programs": len(programs),
        "compile_seconds": sum(one for _, one in programs),
        "compiled": Counter(name for name, _ in programs),
    }


def wall(row: Row) -> float:
    return float(row["wall"])


def summary(rows: list[Row]) -> Row:
    """Of the runs with the same number of sentences: the first one, and those after it."""
    first, *later = rows
    found: Row = {"runs": len(rows), "first": first["wall"], "programs_first": first["programs"]}
    if not later:
        return found
    again = [row for row in later if not row["programs"]]
    return found | {
        "later": statistics.median(map(wall, later)),
        "shares": shares(later),
        "later_that_compile": len(later) - len(again),
        "programs_per_later_run": statistics.mean(row["programs"] for row in later),
        # Of those after the first for which every program is there.
        "later_without_compiling": statistics.median(map(wall, again)) if again else None,
        "shares_without_compiling": shares(again),
    }


def shares(rows: list[Row]) -> dict[str, float]:
    """What part of the time of some runs goes where; of the sums, for medians do not add up."""
    total = sum(map(wall, rows))
    parts = rows[0]["seconds"] if rows else ()
    found = {part: sum(row["seconds"][part] for row in rows) / total for part in parts}
    return found | ({"not training": 1 - found["training"]} if found else {})


def beside_steps(rows: list[Row]) -> float | None:
    """Seconds that a run takes beside its steps and its evaluation, where nothing is compiled."""
    counted = (*STEPS, "tagging", "scoring")
    again = [row for row in rows[1:] if not row["programs"]]
    beside = [row["wall"] - sum(row["seconds"][part] for part in counted) for row in again]
    return statistics.median(beside) if beside else None


def line(found: Row) -> str:
    """A summary in words."""
    text = f"{found['runs']} runs, the first {found['first']:.1f} s"
    if "later" not in found:
        return text
    compiled = f"{found['later_that_compile']} of them compile something"
    share = f"{100 * found['shares']['not training']:.0f} % of their time is not training"
    text = f"{text}, those after it {found['later']:.1f} s (median), {share}; {compiled}"
    if again := found["shares_without_compiling"]:
        median = f"{found['later_without_compiling']:.1f} s"
        text = f"{text}, the others {median}, {100 * again['not training']:.0f} % not training"
    return text


def measure_all(args: argparse.Namespace, directory: Path) -> list[Row]:
    """Makes all runs, with neither data nor programs of an earlier process."""
    os.environ["SPARSEJAX_CACHE"] = str(directory / "cache")
    for name in [name for name in os.environ if name.startswith("JAX_COMPILATION_CACHE")]:
        del os.environ[name]
    from sparsejax.runtime import setup

    data, rows = setup.LastData(), []
    for config in configs(args, directory):
        row = measure(config, data)
        parts = ", ".join(f"{k} {v:.1f}" for k, v in row["seconds"].items() if v >= 0.05)
        about = f"{row['sentences']:,} sentences, {row['programs']} programs"
        print(f"{row['run']}: {row['wall']:.1f} s ({about}): {parts}", flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = workload.parser(__doc__)
    parser.add_argument("--model", choices=[QUICK, workload.SMALL, workload.MBERT], default=QUICK)
    parser.add_argument("--languages", nargs="+", default=["yo", "jv", "sw", "te", "mr", "af"])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0, 0.5, 0.9])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--eval-sentences", type=int, help="of each language; default: all")
    args = parser.parse_args()
    workload.check(args.shared)
    for code in args.languages:
        if not (args.shared / "data/panx" / code).is_dir():
            sys.exit(f"error: --languages: {args.shared}/data/panx/{code} is not there")
    if args.seeds < 1:
        sys.exit(f"error: --seeds: {args.seeds} is less than 1")
    with tempfile.TemporaryDirectory() as directory:
        rows = measure_all(args, Path(directory))
    groups = defaultdict(list)
    for row in rows:
        groups[row["sentences"]].append(row)
    found = {str(sentences): summary(group) for sentences, group in groups.items()}
    for sentences, group in found.items():
        print(f"{int(sentences):,} sentences: {line(group)}")
    settings = {name: getattr(args, name) for name in ("model", "sparsities", "seeds", "epochs")}
    names = ("programs", "compile_seconds", "wall")
    totals = {name: sum(row[name] for row in rows) for name in names}
    packages = ("jax", "flax", "orbax-checkpoint")
    report = workload.report(
        packages,
        **settings,
        by_sentences=found,
        seconds_beside_steps=beside_steps(rows),
        **totals,
        runs=rows,
    )
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
