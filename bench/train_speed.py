"""Useful tokens per second of fine-tuning: sparsejax against Hugging Face in PyTorch, one run.

    python bench/train_speed.py --out docs/benchmarks/train_speed.json

The work is the same on all sides: WikiAnn's first training sentences of five languages, the model
in shared or one of mBERT's shapes with its own vocabulary and random weights, so many sentences a
step, the same precision, dropout as in its config, AdamW, gradients clipped at 1.0, length at most
128. The sides are

- hugging face: what its `run_ner.py` does. `BertForTokenClassification` with SDPA attention,
  batches drawn at random and padded to their longest sentence, fused AdamW, autocast for bfloat16.
- pytorch, best: sentences of like lengths together, all of them tokenised and on the device before
  the clock starts, the model compiled with dynamic shapes, and the rest as above.
- sparsejax dense, magnitude, movement: the training step of `sparsejax.train` on packed rows,
  several steps a call, with the rows of the word embeddings that these sentences need (see
  `sparsejax/runtime/vocabulary.py`), or with --all-rows all of them, as for many languages. Masks
  change on every tenth step.

Each side has a process of its own for each number of sentences a step. All of them start at once,
compile and make their first steps; then they are timed in turn, several times, while the others
wait. The first turns of a side do not count, until two in a row are alike. A rate is the median
over the repeats. A useful token is a piece that is not padding, special pieces included. On an
accelerator of a known kind the report has MFU: 6 operations for each useful token and weight of a
matrix, over time and over the data sheet's peak. Needs torch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import workload

LANGUAGES = ("en", "de", "ru", "ar", "sw")
LENGTH = 128
TOTAL, INTERVAL = 10_000, 10  # steps of the schedules, and between updates of masks
WARMUP = 11  # steps before the clock starts
ALIKE, MOST = 1.1, 6  # ratio of turns that are alike; turns in which a side has to settle
GROUPS = 50  # batches whose sentences are sorted by length together, as in transformers' Trainer

Found = dict[str, Any]


class Training(NamedTuple):
    """One side, ready to make steps."""

    calls: Iterator[tuple[int, int]]  # makes some steps each time; gives how many, and their tokens
    wait: Callable[[], Any]  # until all of them are made
    about: Found


def sparsejax_side(method: str, args: argparse.Namespace) -> Training:
    import jax
    import numpy as np

    from sparsejax.config import Config, ModelConfig, PruneConfig, TrainConfig
    from sparsejax.data import mixing, packing, tokenization
    from sparsejax.runtime import (
        calls,
        chips,
        host_memory,
        optimization,
        parallel,
        pruning,
        setup,
        steps,
        vocabulary,
    )

    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    tokenizer, shape = workload.tokenizer_and_shape(args.shared, args.model)
    corpus = workload.sentences(args.shared, "train", LANGUAGES, args.sentences)
    encoded = tokenization.concatenate(
        [tokenization.encode(part, tokenizer, LENGTH, workload.TAGS) for part in corpus.values()]
    )
    order = np.random.default_rng(0).permutation(len(encoded.lengths))
    packed = packing.pack(encoded, LENGTH, tokenizer.pad_token_id, order)
    size = packing.rows_per_step(packed, len(encoded.words), args.batch)
    config = Config(
        model=ModelConfig(dtype=args.dtype),
        train=TrainConfig(learning_rate=1e-4),
        prune=PruneConfig(method=method, sparsity=0.9, begin=0.0, end=1.0, interval=INTERVAL),
    )
    mesh = parallel.make_mesh()
    size = parallel.padded(size, mesh)
    params = workload.parameters(args.shared, args.model, shape)
    trained = vocabulary.choose(config, packed.tokens, params, None)
    if trained is not None and not args.all_rows:
        shape, packed, params = trained.part(shape, packed, params)
    program = optimization.program(config, shape, mesh)
    numbers = optimization.numbers(config, TOTAL, mesh)
    state = setup.start(program, numbers, params, None)
    matrices = chips.matrix_flops(state.params, 1, training=True)
    attention = chips.attention_flops(shape, LENGTH, 1, training=True)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state), parallel.whole(mesh)
    step = steps.make_train_steps(program, shardings)
    pieces = np.count_nonzero(packed.segments, axis=1)
    due = pruning.due(config.prune, TOTAL)
    orders = packing.batches(size, mixing.concatenation(len(pieces), 10**6, 0))

    def made() -> Iterator[tuple[int, int]]:
        nonlocal state
        before = None
        for chosen, count in calls.calls(orders, size, 0, due=due):
            # The device has the next call before the last one is waited for.
            batches = parallel.batches(packed, chosen, mesh)
            times = parallel.place(np.int32(count), parallel.whole(mesh))
            state, metrics = parallel.in_turn(step(state, batches, times, numbers))
            jax.block_until_ready(before)
            before = metrics
            yield count, int(pieces[chosen[chosen >= 0]].sum())

    about = {"matrix_flops_per_token": matrices, "peak_flops": workload.peak()}
    about |= {"platform": jax.default_backend(), "rows_trained": shape.vocab_size}
    about |= {"attention_share_of_flops": attention / (attention + matrices)}
    return Training(made(), lambda: jax.block_until_ready(state.step), about)


def timed(side: Training, seconds: float) -> Found:
    """Useful tokens per second, measured for so many seconds at least."""
    began, made, tokens = time.perf_counter(), 0, 0
    while time.perf_counter() - began < seconds:
        count, more = next(side.calls)
        made, tokens = made + count, tokens + more
    side.wait()
    elapsed = time.perf_counter() - began
    return {"tokens_per_second": tokens / elapsed, "ms_per_step": 1e3 * elapsed / made}


def serve(side: Training, seconds: float) -> None:
    """Says when the first steps are made, then measures once for every line that comes in."""
    made = 0
    while made < WARMUP:
        made += next(side.calls)[0]
    side.wait()
    print(json.dumps(side.about), flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(side, seconds)), flush=True)


def pytorch_side(best: bool, args: argparse.Namespace) -> Training:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    tokenizer, shape = workload.tokenizer_and_shape(args.shared, args.model)
    features = tokenised(args, tokenizer)
    make = transformers.BertForTokenClassification
    if args.model == workload.SMALL:
        path = args.shared / "models/e5-small-39"
        model = make.from_pretrained(path, num_labels=len(workload.TAGS), dtype=torch.float32)
    else:
        model = make(
            transformers.BertConfig(vocab_size=shape.vocab_size, num_labels=len(workload.TAGS))
        )
    model = model.to(device).train()
    assert model.config._attn_implementation == "sdpa"
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model, dynamic=True) if best else model
    half = args.dtype == "bfloat16"

    def calls() -> Iterator[tuple[int, int]]:
        batches = grouped if best else drawn
        for batch, tokens in batches(features, tokenizer, args.batch, device):
            with torch.autocast(device, torch.bfloat16, enabled=half):
                loss = forward(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adamw.step()
            adamw.zero_grad()
            yield 1, tokens

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    # PyTorch without CUDA would run on the CPU beside JAX on a GPU, and say nothing.
    return Training(calls(), wait, {"platform": "gpu" if device == "cuda" else "cpu"})


def tokenised(args: argparse.Namespace, tokenizer: Any) -> list[dict[str, list[int]]]:
    """Pieces and labels of every sentence: that of a word is at its first piece."""
    features = []
    corpus = workload.sentences(args.shared, "train", LANGUAGES, args.sentences)
    for sentence in (s for part in corpus.values() for s in part):
        encoding = tokenizer(
            sentence.words, is_split_into_words=True, truncation=True, max_length=LENGTH
        )
        labels, before = [], None
        for word in encoding.word_ids():
            first = word is not None and word != before
            labels.append(workload.TAGS.index(sentence.tags[word]) if first else -100)
            before = word
        pieces = encoding["input_ids"]
        features.append({"input_ids": pieces, "attention_mask": [1] * len(pieces)})
        features[-1]["labels"] = labels
    return features


def drawn(features: Any, tokenizer: Any, size: int, device: str) -> Iterator[tuple[Any, int]]:
    """Batches at random, padded to their longest sentence while the device is at work."""
    import torch
    import transformers

    collate = transformers.DataCollatorForTokenClassification(tokenizer)
    loader = torch.utils.data.DataLoader(
        features, batch_size=size, shuffle=True, collate_fn=collate, pin_memory=device == "cuda"
    )
    while True:
        for batch in loader:
            tokens = int(batch["attention_mask"].sum())
            yield {k: v.to(device, non_blocking=True) for k, v in batch.items()}, tokens


def grouped(features: Any, tokenizer: Any, size: int, device: str) -> Iterator[tuple[Any, int]]:
    """Batches of like lengths in random order, from tensors that are on the device already."""
    import torch

    lengths = torch.tensor([len(f["input_ids"]) for f in features])
    fill = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "labels": -100}
    columns = {}
    for name, value in fill.items():
        column = torch.full((len(features), LENGTH), value)
        for row, feature in zip(column, features, strict=True):
            row[: len(feature[name])] = torch.tensor(feature[name])
        columns[name] = column.to(device)
    generator = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(len(features), generator=generator)
        groups = [group[lengths[group].argsort()] for group in order.split(size * GROUPS)]
        batches = [batch for group in groups for batch in group.split(size)]
        for i in torch.randperm(len(batches), generator=generator).tolist():
            chosen = batches[i]
            # Multiples of 8 suit tensor cores.
            width = min(LENGTH, -(-int(lengths[chosen].max()) // 8) * 8)
            where = chosen.to(device, non_blocking=True)
            batch = {name: column[where, :width] for name, column in columns.items()}
            yield batch, int(lengths[chosen].sum())


SIDES: dict[str, Callable[[argparse.Namespace], Training]] = {
    "hugging face": partial(pytorch_side, False),
    "pytorch, best": partial(pytorch_side, True),
    "sparsejax dense": partial(sparsejax_side, "none"),
    "sparsejax magnitude": partial(sparsejax_side, "magnitude"),
    "sparsejax movement": partial(sparsejax_side, "movement"),
}


class Process:
    """A side at a number of sentences a step; `about` is None until it is ready, or if it fails."""

    def __init__(self, name: str, batch: int, flags: list[str]) -> None:
        self.name, self.batch = name, batch
        self.about: Found | None = None
        self.runs: list[Found] = []
        self.settling: list[float] = []  # tokens a second
        self.settled = False
        line = [sys.executable, __file__, *flags, "--side", name, "--batches", str(batch)]
        # Several processes share an accelerator: none may take all of its memory.
        environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ
        self.process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def read(self) -> Found | None:
        """The next line that it prints; None where it has failed."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found: Found | None = json.loads(line) if line else None
        if found is None:
            print(f"{self.name}, {self.batch} sentences: failed, see above", flush=True)
            self.about = None
        return found

    def measure(self, note: str = "") -> Found | None:
        """One turn, which it shows; None where it failed."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, and there is no line of it to read
        if (found := self.read()) is not None:
            rate = f"{found['tokens_per_second']:,.0f} tokens/s"
            print(f"{self.batch} sentences: {self.name}: {rate}{note}", flush=True)
        return found

    def settle(self) -> None:
        """Turns that do not count, until two in a row are alike.

        PyTorch compiles for shapes as they come.
        """
        for _ in range(MOST):
            found = self.measure(", not counted")
            if found is None:
                return
            self.settling.append(found["tokens_per_second"])
            if len(self.settling) > 1:
                low, high = sorted(self.settling[-2:])
                self.settled = high <= ALIKE * low
            if self.settled:
                return


def summary(processes: list[Process]) -> Found:
    """Medians, ratios to the first side, and MFU where the peak is known."""
    measured = {process.name: process.runs for process in processes if process.runs}
    rates = {
        name: statistics.median(run["tokens_per_second"] for run in runs)
        for name, runs in measured.items()
    }
    first = next(iter(rates))
    found: Found = {"tokens_per_second": rates}
    found[f"ratio_to_{first}"] = {name: rate / rates[first] for name, rate in rates.items()}
    known = [p.about for p in processes if p.about and p.about.get("peak_flops")]
    if known:
        each = known[0]["matrix_flops_per_token"] / known[0]["peak_flops"]
        found["mfu"] = {name: rate * each for name, rate in rates.items()}
    shares = [
        p.about["attention_share_of_flops"]
        for p in processes
        if p.about and "peak_flops" in p.about
    ]
    if shares:
        found["attention_share_of_flops"] = shares[0]
    rows = [p.about["rows_trained"] for p in processes if p.about and "rows_trained" in p.about]
    if rows:
        found["rows_trained"] = rows[0]
    found["settling"] = {p.name: p.settling for p in processes if p.runs}
    found["settled"] = {p.name: p.settled for p in processes if p.runs}
    return found | {"repeats": measured}


def refuse_mixed(processes: list[Process]) -> None:
    """Ends the script where one side runs on a GPU and another one on the CPU."""
    platforms = {p.name: p.about["platform"] for p in processes if p.about}
    if len(set(platforms.values())) > 1:
        where = ", ".join(f"{name} on {platform}" for name, platform in platforms.items())
        sys.exit(f"error: sides run on different devices: {where}")


def described(args: argparse.Namespace, processes: list[Process]) -> Found:
    """The report of what has been measured."""
    settings = {name: getattr(args, name) for name in ("model", "dtype", "sentences")}
    found = {}
    for batch in args.batches:
        own = [process for process in processes if process.batch == batch]
        if any(process.runs for process in own):
            found[str(batch)] = summary(own)
    packages = ("jax", "torch", "transformers")
    return workload.report(packages, **settings, length=LENGTH, batches=found)


def main() -> None:
    parser = workload.parser(__doc__)
    workload.model_flags(parser)
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[32], help="sentences a step, on average"
    )
    parser.add_argument("--sentences", type=int, default=400, help="of each language")
    parser.add_argument(
        "--all-rows", action="store_true", help="sparsejax trains all word embeddings, too"
    )
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="timed, per side and repeat")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(*args.batches, args.repeats) < 1:
        parser.error("--batches and --repeats must be at least 1")
    workload.check(args.shared)
    if args.side:
        (args.batch,) = args.batches
        serve(SIDES[args.side](args), args.seconds)
        return
    processes = [
        Process(name, batch, sys.argv[1:]) for batch in args.batches for name in args.sides
    ]
    try:
        run(args, processes)
    finally:
        for process in processes:
            process.process.kill()


def run(args: argparse.Namespace, processes: list[Process]) -> None:
    began = time.perf_counter()
    for process in processes:
        process.about = process.read()
    refuse_mixed(processes)
    print(f"ready after {time.perf_counter() - began:.0f} s", flush=True)
    report: Found = {}
    for process in processes:
        if process.about is not None:
            process.settle()
    for _ in range(args.repeats):
        for process in processes:
            if process.about is not None and (found := process.measure()):
                process.runs.append(found)
                # What was measured stays, whatever happens to what follows.
                report = described(args, processes)
                workload.write(report, args.out)
    for batch, found in report.get("batches", {}).items():
        rates = found["tokens_per_second"]
        for name, rate in rates.items():
            mfu = f", MFU {100 * found['mfu'][name]:.1f} %" if "mfu" in found else ""
            ratio = rate / next(iter(rates.values()))
            note = "" if found["settled"][name] else ", not settled"
            print(f"{batch} sentences: {name}: {rate:,.0f} tokens/s, {ratio:.2f}{mfu}{note}")
    failed = [f"{p.name} at {p.batch}" for p in processes if p.about is None]
    if failed:
        sys.exit(f"error: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
