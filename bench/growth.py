"""How time and memory grow with sentences, with the length of rows and with languages.

    python bench/growth.py --out docs/benchmarks/growth.json

Every point is measured in a process of its own, whose peak memory is thus that of the point alone.

- sentences: so many of WikiAnn's training sentences, in 39 languages, each of which gives as many
  as it has up to one number. They are read, tokenised and packed into rows of 128, in one process
  and with no cache. Memory is the peak of resident pages, and the peak before: of the modules and
  the tokenizer.
- lengths: a run of `sparsejax.train` with rows of this length and about --tokens useful tokens a
  step at every length, pruned to 50 %. Its time per useful token is that of all steps but the
  first. The memory of a training step is what the compiler says of one with --tokens places, some
  of them padding: arguments and temporaries, as `sparsejax.aot` has them. The share of attention is
  that of the operations that grow with the length.
- languages: --evaluated sentences, of so many languages in equal parts, tagged by a small random
  model and scored: the seconds of both and of the table that is printed, and the rows of results.
  They are training sentences, of which every language has 100.

How runs differ between numbers of devices is measured by `bench/device_counts.py`.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import workload

QUICK = "quick"  # the small model of the quickstart
LENGTH = 128  # of rows, where the length is not the axis
LEARNED = ("en", "de", "ru", "ar", "sw")  # languages, where they are not the axis
STEPS = 10  # of a timed run, or so, beside the first
PIECES = 20  # of a sentence, or so
Point = dict[str, Any]


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    # The process that started this one is small: at first its pages count as this one's.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def sizes(shared: Path) -> dict[str, int]:
    """Training sentences of each language that is there, the largest first."""
    with (shared / "data/languages.csv").open(encoding="utf-8") as file:
        found = {row["code"]: int(row["wikiann_train"]) for row in csv.DictReader(file)}
    there = {code: size for code, size in found.items() if (shared / "data/panx" / code).is_dir()}
    return dict(sorted(there.items(), key=lambda item: -item[1]))


def share(counts: list[int], total: int) -> int:
    """The least number of each language with which there are `total` of all, if there are."""
    low, high = 1, max(counts)
    while low < high:
        middle = (low + high) // 2
        if sum(min(count, middle) for count in counts) < total:
            low = middle + 1
        else:
            high = middle
    return low


def of_sentences(number: int, args: argparse.Namespace) -> Point:
    import numpy as np

    from sparsejax.config import DataConfig
    from sparsejax.data import packing, preparation, sources, tokenization

    tokenizer = tokenization.load_tokenizer(args.shared / "models/e5-small-39")
    there = sizes(args.shared)
    data = DataConfig(dir=str(args.shared / "data/panx"), length=LENGTH, processes=1)
    before, began = peak(), time.perf_counter()
    parts = sources.parts(data, "train", there)
    limit = share(list(there.values()), number)
    found = preparation.prepare(parts, tokenizer, data, limit, remember=False)
    prepared = time.perf_counter()
    together = tokenization.concatenate([part.encoded for part in found.values()])
    order = np.random.default_rng(0).permutation(len(together.lengths))
    packed = packing.pack(together, LENGTH, tokenizer.pad_token_id, order)
    return {
        "sentences": len(together.words),
        "of_each_language_at_most": limit,
        "pieces": len(together.tokens),
        "rows": len(packed.tokens),
        "seconds": {
            "reading and tokenising": prepared - began,
            "packing": time.perf_counter() - prepared,
        },
        "bytes_before": before,
        "peak_bytes": peak(),
    }


def of_length(length: int, args: argparse.Namespace) -> Point:
    from sparsejax import train
    from sparsejax.config import (
        CheckpointConfig,
        Config,
        DataConfig,
        ModelConfig,
        PruneConfig,
        TrainConfig,
    )
    from sparsejax.runtime import ahead, logging, setup

    small = args.model == workload.SMALL
    per_language = -(-(STEPS + 1) * args.tokens // (PIECES * len(LEARNED)))
    quiet = logging.Log(quiet=True)
    with tempfile.TemporaryDirectory() as directory:
        config = Config(
            data=DataConfig(
                dir=str(args.shared / "data/panx"),
                languages=LEARNED,
                train_sentences=per_language,
                eval_sentences=1,
                length=length,
            ),
            model=ModelConfig(path=str(args.shared / "models/e5-small-39") if small else None),
            prune=PruneConfig(sparsity=0.5),
            checkpoint=CheckpointConfig(keep=0),
            output=directory,
        )
        data = setup.LastData()
        read = data.read(config, quiet)
        pieces = sum(len(part.encoded.tokens) for part in read.train.values())
        batch = max(1, round(args.tokens * read.sentences / pieces))
        optimisation = TrainConfig(epochs=1, batch_size=batch, learning_rate=1e-4)
        config = dataclasses.replace(config, train=optimisation)
        train.run(config, log=quiet, data=data)
        last = json.loads(Path(directory, "metrics.jsonl").read_text().splitlines()[-1])
    resident = peak()
    rows = max(1, args.tokens // length)
    step = ahead.report(config, "local", rows).training
    flops = step.matrix_flops + step.attention_flops
    return {
        "length": length,
        "steps": last["step"],
        "useful_tokens_per_step": pieces / last["step"],
        "tokens_per_second": last["tokens_per_second"],
        "microseconds_per_token": 1e6 / last["tokens_per_second"],
        "rows": rows,
        "bytes_of_arguments": step.memory["arguments"],
        "bytes_of_temporaries": step.memory["temporaries"],
        "attention_share_of_flops": step.attention_flops / flops,
        "peak_bytes": resident,
    }


def of_languages(number: int, args: argparse.Namespace) -> Point:
    import io

    import jax
    import numpy as np
    from rich.console import Console

    from sparsejax.config import DataConfig
    from sparsejax.data import languages, preparation, seen, sources, tokenization
    from sparsejax.models import bert
    from sparsejax.ner import evaluation, tagging
    from sparsejax.runtime import parallel, tables

    tokenizer = tokenization.load_tokenizer(args.shared / "models/e5-small-39")
    codes = list(sizes(args.shared))[:number]
    data = DataConfig(dir=str(args.shared / "data/panx"), length=LENGTH, processes=1)
    parts = sources.parts(data, "train", codes)
    limit = -(-args.evaluated // number)
    gold = preparation.prepare(parts, tokenizer, data, limit, remember=False)
    gold = preparation.relabelled(gold, workload.TAGS)
    shape = bert.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=len(workload.TAGS),
    )
    mesh, table = parallel.make_mesh(), languages.table()
    predict = tagging.make_predict(shape, "float32", mesh)
    params = parallel.place(bert.init(shape, jax.random.key(0)), parallel.whole(mesh))
    encoded = {code: part.encoded for code, part in gold.items()}
    known = seen.seen(gold)

    def evaluate() -> tuple[dict[str, float], int]:
        times = [time.perf_counter()]
        predicted = tagging.tag(predict, params, encoded, LENGTH, tokenizer.pad_token_id, mesh)
        times.append(time.perf_counter())
        clean = evaluation.is_clean(gold, known)
        rows = evaluation.evaluate(gold, predicted, workload.TAGS, table, clean)
        evaluation.by_sentence(gold, predicted, workload.TAGS)
        times.append(time.perf_counter())
        Console(file=io.StringIO(), width=100).print(tables.scores(rows, table))
        times.append(time.perf_counter())
        parts = ("tagging", "scoring", "table")
        return dict(zip(parts, np.diff(times).tolist(), strict=True)), len(rows)

    evaluate()  # compiles
    seconds, rows = evaluate()
    return {
        "languages": len(gold),
        "sentences": sum(len(part.words) for part in encoded.values()),
        "pieces": sum(len(part.tokens) for part in encoded.values()),
        "rows_of_results": rows,
        "seconds": seconds,
        "peak_bytes": peak(),
    }


AXES: dict[str, Callable[[int, argparse.Namespace], Point]] = {
    "sentences": of_sentences,
    "lengths": of_length,
    "languages": of_languages,
}


def check(args: argparse.Namespace) -> None:
    """Ends the script where the numbers fit neither the data nor the model."""
    workload.check(args.shared)
    there = sizes(args.shared)
    every = 100 * len(there)  # that many sentences every language has
    for axis, least, most in (
        ("sentences", 1, sum(there.values())),
        ("lengths", 8, 512),
        ("languages", 1, len(there)),
        ("tokens", max(args.lengths), 10**6),
        ("evaluated", 1, every),
    ):
        given = getattr(args, axis)
        for number in given if isinstance(given, list) else [given]:
            if not least <= number <= most:
                sys.exit(f"error: --{axis}: {number} is not between {least} and {most}")


def main() -> None:
    parser = workload.parser(__doc__)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument(
        "--sentences", nargs="+", type=int, default=[1_000, 10_000, 100_000, 558_300]
    )
    parser.add_argument("--lengths", nargs="+", type=int, default=[32, 64, 128, 256])
    parser.add_argument("--languages", nargs="+", type=int, default=[1, 2, 5, 10, 20, 39])
    parser.add_argument("--tokens", type=int, default=1024, help="of a training step")
    parser.add_argument("--evaluated", type=int, default=3_900, help="sentences, of all languages")
    parser.add_argument("--model", choices=[QUICK, workload.SMALL], default=workload.SMALL)
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)  # axis and number
    args = parser.parse_args()
    check(args)
    if args.point:
        axis, number = args.point
        print(json.dumps(AXES[axis](int(number), args)))
        return
    found: dict[str, list[Point]] = {axis: [] for axis in args.axes}
    for axis in args.axes:
        for number in getattr(args, axis):
            words = [*sys.argv[1:], "--point", axis, str(number)]
            command = [sys.executable, __file__, *words]
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if result.returncode:
                sys.exit(f"error: {axis} {number}: exit status {result.returncode}; see above")
            found[axis].append(json.loads(result.stdout.splitlines()[-1]))
            print(f"{axis}: {json.dumps(found[axis][-1])}", flush=True)
    settings = {name: getattr(args, name) for name in ("model", "tokens", "evaluated")}
    report = workload.report(("jax", "tokenizers", "numpy"), **settings, **found)
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
