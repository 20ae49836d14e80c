"""Evaluated sentences per second: sparsejax against Hugging Face's pipeline in PyTorch.

    python bench/evaluate_speed.py --out docs/benchmarks/evaluate_speed.json

The same encoder (12 layers, 384 wide, a random classifier), the first test sentences of eight
languages of WikiAnn, float32, the CPU cores of this process. The pipeline gets each sentence as
text, in batches (the fastest of three sizes counts), and returns the tag of every piece. sparsejax
tokenises, packs, tags every word and scores. Compilation and the pipeline's first batch are not
timed; loading is not either. Sides take turns, each in a process of its own, and medians count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import workload

LANGUAGES = ("en", "de", "ru", "ar", "hi", "zh", "sw", "fi")
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
LENGTH = 128


def make_model(shared: Path, path: Path) -> None:
    """The encoder with a classifier, as both sides load it."""
    import jax

    from sparsejax.models import huggingface

    checkpoint = shared / "models/e5-small-39"
    tokenizer, shape = huggingface.load_shape(checkpoint, len(TAGS))
    params, _ = huggingface.load(checkpoint, shape, TAGS, jax.random.key(0))
    path.mkdir()
    huggingface.save(path, params, shape, TAGS, tokenizer)


def parts(shared: Path, number: int):
    """The sentences in memory: neither side is timed reading files."""
    from sparsejax.config import DataConfig
    from sparsejax.data import sources

    data = DataConfig(dir=str(shared / "data/panx"), length=LENGTH, processes=1)
    files = sources.parts(data, "test", LANGUAGES)
    return data, {
        code: sources.ListPart(code, list(sources.take(part.open(), number)))
        for code, part in files.items()
    }


def sparsejax_side(shared: Path, model: Path, number: int) -> float:
    import numpy as np

    from sparsejax.data import languages, preparation
    from sparsejax.ner import evaluation, saved
    from sparsejax.runtime import host_memory

    host_memory.keep_freed_memory()
    tagger = saved.load(model, "float32")
    data, sentences = parts(shared, number)

    def run() -> None:
        gold = preparation.prepare(sentences, tagger.tokenizer, data, None, remember=False)
        gold = preparation.relabelled(gold, tagger.labels)
        clean = {code: np.ones(len(part.encoded.words), bool) for code, part in gold.items()}
        tagged = tagger.tag(gold, LENGTH)
        evaluation.evaluate(gold, tagged, tagger.labels, languages.table(None), clean)

    return timed(run, number)


def pytorch_side(shared: Path, model: Path, number: int, batch: int) -> float:
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tagger = transformers.pipeline("token-classification", str(model), device="cpu")
    texts = [" ".join(s.words) for part in parts(shared, number)[1].values() for s in part.open()]
    return timed(lambda: list(tagger(texts, batch_size=batch)), number)


def timed(run, number: int) -> float:
    """Sentences per second of the second of two runs."""
    run()
    began = time.perf_counter()
    run()
    return number * len(LANGUAGES) / (time.perf_counter() - began)


SIDES = {
    "pipeline, batches of 1": lambda *where: pytorch_side(*where, 1),
    "pipeline, batches of 8": lambda *where: pytorch_side(*where, 8),
    "pipeline, batches of 32": lambda *where: pytorch_side(*where, 32),
    "sparsejax": sparsejax_side,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, help="JSON file to write; default: only print")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=100, help="of each language")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.shared / "data/panx").is_dir():
        sys.exit(f"error: --shared: {args.shared}/data/panx is not there")
    if args.side:
        print(json.dumps(SIDES[args.side](args.shared, args.model, args.sentences)))
        return
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory, "model")
        make_model(args.shared, model)
        for repeat in range(args.repeats):
            for name, found in rates.items():
                command = [sys.executable, __file__, "--side", name, "--model", str(model)]
                command += ["--shared", str(args.shared), "--sentences", str(args.sentences)]
                result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found.append(json.loads(result.stdout.splitlines()[-1]))
                print(f"repeat {repeat + 1}: {name}: {found[-1]:,.1f} sentences/s", flush=True)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    pipeline = max(rate for name, rate in medians.items() if name != "sparsejax")
    report = workload.report(
        ("jax", "torch", "transformers"),
        workload.host(),
        sentences=args.sentences * len(LANGUAGES),
        sentences_per_second=medians,
        ratio=medians["sparsejax"] / pipeline,
        repeats=rates,
    )
    print(f"sparsejax: {report['ratio']:.2f} times the fastest pipeline")
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
