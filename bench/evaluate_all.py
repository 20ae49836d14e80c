"""Evaluation of all test sets: sentences per second, from packed data to F1.

    python bench/evaluate_all.py --out docs/benchmarks/evaluate_all.json

The test sentences of all languages of WikiAnn, read and tokenised before the clock starts, are
packed into rows of 128, tagged and scored, as `sparsejax.train` does it after training. The model
is the one in shared with a random classifier, or one of mBERT's shapes with its own vocabulary and
random weights. The first evaluation compiles and is reported apart; of the others, the one whose
time is the median is reported. Its parts follow each other without a gap:

- packing: rows are laid out, on the host.
- prediction: from the first batch sent to the devices to the last one fetched from them.
- unpacking: from rows back to words.
- clean: which sentences training held. The keys to compare with are random; as many as WikiAnn has
  different training sentences, or as many in proportion where only some test sentences are taken.
- scoring: all scores of all languages, and their averages.

"host_only", alone with --host-only, is the same with a model that answers at once, with random
tags: what remains when the devices take no time. Its "batches" is the prediction without the model:
laying out each batch and sending it.

A useful token is a piece that is not padding, special pieces included. On an accelerator of a known
kind the report has MFU: 2 operations for each useful token and weight of a matrix, over the time of
the prediction and over the data sheet's peak, which is that of bfloat16. Those of the attention are
not in it; what share of the operations they are is reported apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import workload

from sparsejax import errors

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from sparsejax.data.languages import Language
    from sparsejax.data.preparation import Prepared
    from sparsejax.data.seen import Seen
    from sparsejax.models.bert import BertConfig, Params
    from sparsejax.ner.tagging import Predict

LENGTH = 128
TEST, SEEN = 162_750, 465_550  # WikiAnn's test sentences and different training sentences
PARTS = ("packing", "prediction", "unpacking", "clean", "scoring")

Seconds = dict[str, float]


@dataclass(frozen=True)
class Work:
    """Everything that is there when the clock starts."""

    gold: dict[str, Prepared]
    table: dict[str, Language]
    seen: Seen
    pad: int
    shape: BertConfig
    params: Params
    mesh: Mesh


def prepare(args: argparse.Namespace) -> Work:
    """Reads and tokenises the sentences, and puts the model on the devices."""
    import numpy as np

    from sparsejax.config import DataConfig
    from sparsejax.data import languages, preparation, sources
    from sparsejax.data.seen import Seen

    tokenizer, shape = workload.tokenizer_and_shape(args.shared, args.model)
    corpus = workload.sentences(args.shared, "test", None, args.sentences)
    parts = {code: sources.ListPart(code, part) for code, part in corpus.items()}
    data = DataConfig(length=LENGTH)
    gold = preparation.prepare(parts, tokenizer, data, None, remember=False)
    gold = preparation.relabelled(gold, workload.TAGS)
    number = sum(len(part.encoded.words) for part in gold.values()) * SEEN // TEST
    keys = np.random.default_rng(0).integers(0, 2**64, number, dtype=np.uint64)

    import jax

    from sparsejax.runtime import host_memory, parallel

    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    mesh = parallel.make_mesh()
    params = workload.parameters(args.shared, args.model, shape)
    params = parallel.place(params, parallel.of_parameters(params, mesh))
    seen = Seen(sentences=np.unique(keys), entities=np.empty(0, np.uint64))
    table, pad = languages.table(None), tokenizer.pad_token_id
    return Work(gold, table, seen, pad, shape, params, mesh)


def evaluate(work: Work, predict: Predict) -> tuple[Seconds, list[dict[str, Any]]]:
    """One whole evaluation: the seconds of its parts, and the rows of scores."""
    from sparsejax.ner import evaluation, tagging

    sent: list[float] = []
    fetched: list[float] = []

    def watched(params: Any, batch: tagging.Batch) -> Any:
        sent.append(time.perf_counter())
        return predict(params, batch)

    def show(done: int, total: int) -> None:
        fetched.append(time.perf_counter())

    encoded = {code: part.encoded for code, part in work.gold.items()}
    began = time.perf_counter()
    tagged = tagging.tag(watched, work.params, encoded, LENGTH, work.pad, work.mesh, show)
    after_tagging = time.perf_counter()
    clean = evaluation.is_clean(work.gold, work.seen)
    after_clean = time.perf_counter()
    rows = evaluation.evaluate(work.gold, tagged, workload.TAGS, work.table, clean)
    ended = time.perf_counter()
    marks = (began, sent[0], fetched[-1], after_tagging, after_clean, ended)
    seconds = {name: marks[i + 1] - marks[i] for i, name in enumerate(PARTS)}
    return seconds | {"total": ended - began}, rows


def at_once(work: Work, size: int) -> Predict:
    """A prediction that takes no time: the same random tags for every batch."""
    import numpy as np

    random = np.random.default_rng(0)
    ids = random.integers(0, len(workload.TAGS), (size, LENGTH), dtype=np.int32)
    confidence = random.random((size, LENGTH), dtype=np.float32)
    answer: Any = (ids, confidence)  # of the host, where `tag` would fetch them to
    return lambda params, batch: answer


def middle(runs: list[Seconds]) -> Seconds:
    """The run whose time is the median: its parts sum to it, as medians of parts would not."""
    median = statistics.median_low(run["total"] for run in runs)
    return next(run for run in runs if run["total"] == median)


def amounts(work: Work) -> dict[str, Any]:
    """How much there is to evaluate, and what it costs on the devices."""
    from sparsejax.data import packing, tokenization
    from sparsejax.ner import tagging
    from sparsejax.runtime import chips

    together = tokenization.concatenate([part.encoded for part in work.gold.values()])
    rows = len(packing.pack(together, LENGTH, work.pad).tokens)
    size = tagging.batch_rows(rows, work.mesh.size, tagging.max_rows(work.mesh, LENGTH))
    batches, tokens = -(-rows // size), len(together.tokens)
    matrices = chips.matrix_flops(work.params, 1, training=False)
    attention = chips.attention_flops(work.shape, LENGTH, 1, training=False)
    return {
        "languages": len(work.gold),
        "sentences": len(together.words),
        "words": int(together.words.sum()),
        "tokens": tokens,
        "rows": rows,
        "rows_per_batch": size,
        "batches": batches,
        "padding": 1 - tokens / (batches * size * LENGTH),
        "matrix_flops_per_token": matrices,
        "attention_share_of_flops": attention / (attention + matrices),
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The report."""
    work = prepare(args)

    from sparsejax.ner import tagging

    found = amounts(work)
    stub = at_once(work, found["rows_per_batch"])
    host = [
        {"batches" if name == "prediction" else name: value for name, value in run.items()}
        for run, _ in (evaluate(work, stub) for _ in range(args.repeats))
    ]
    found |= {"host_only": middle(host), "host_only_repeats": host}
    settings = {"model": args.model, "dtype": args.dtype, "length": LENGTH}
    if args.host_only:
        return workload.report(("jax", "numpy"), **settings, **found)
    predict = tagging.make_predict(work.shape, args.dtype, work.mesh)
    first, _ = evaluate(work, predict)
    print(f"first evaluation, compilation included: {first['total']:.1f} s", flush=True)
    runs = []
    for repeat in range(args.repeats):
        seconds, rows = evaluate(work, predict)
        runs.append(seconds)
        print(f"repeat {repeat + 1} of {args.repeats}: {seconds['total']:.2f} s", flush=True)
    seconds, peak = middle(runs), workload.peak()
    rate = found["tokens"] / seconds["prediction"]
    found |= {
        "first_seconds": first,
        "seconds": seconds,
        "sentences_per_second": found["sentences"] / seconds["total"],
        "tokens_per_second": found["tokens"] / seconds["total"],
        "prediction_tokens_per_second": rate,
        "peak_flops": peak,
        "mfu": None if peak is None else rate * found["matrix_flops_per_token"] / peak,
        "macro_f1": next(row["f1"] for row in rows if row.get("language") == "macro"),
        "repeats": runs,
    }
    return workload.report(("jax", "numpy"), **settings, **found)


def summary(report: dict[str, Any]) -> str:
    """The report in a few lines."""

    def parts(seconds: Seconds) -> str:
        return ", ".join(f"{name} {value:.3f}" for name, value in seconds.items())

    text = (
        f"{report['sentences']:,} sentences of {report['languages']} languages, "
        f"{report['rows']:,} rows, padding {100 * report['padding']:.1f} %\n"
        f"host only: {parts(report['host_only'])}"
    )
    if "seconds" not in report:
        return text
    mfu = "" if report["mfu"] is None else f", MFU {100 * report['mfu']:.1f} %"
    return (
        f"{text}\n"
        f"{report['sentences_per_second']:,.0f} sentences/s, "
        f"{report['tokens_per_second']:,.0f} tokens/s; "
        f"prediction alone {report['prediction_tokens_per_second']:,.0f} tokens/s{mfu}\n"
        f"attention: {100 * report['attention_share_of_flops']:.1f} % of all operations\n"
        f"seconds: {parts(report['seconds'])}"
    )


def main() -> None:
    parser = workload.parser(__doc__)
    workload.model_flags(parser)
    parser.add_argument("--sentences", type=int, help="of each language; default: all of them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--host-only", action="store_true", help="without a model")
    args = parser.parse_args()
    workload.check(args.shared)
    for name in ("sentences", "repeats"):
        value = getattr(args, name)
        if value is not None and value < 1:
            sys.exit(f"error: --{name}: {value} is less than 1")
    with errors.one_line("stopped"):
        report = measure(args)
        print(summary(report))
        workload.write(report, args.out)


if __name__ == "__main__":
    main()
