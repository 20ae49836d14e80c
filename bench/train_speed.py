"""Real tokens per second of fine-tuning: sparsejax against Hugging Face in PyTorch, one run.

    python bench/train_speed.py --shared ../shared --out docs/benchmarks/train_speed.json

The work is the same on both sides: WikiAnn's first 400 training sentences each of en de ru ar sw,
the pretrained encoder in shared, 32 sentences a step, float32, dropout as in its config, AdamW,
gradients clipped at 1.0, length at most 128. The PyTorch side is what a user would write from
Hugging Face's public classes: `BertForTokenClassification` and
`DataCollatorForTokenClassification`, which pads each batch to its longest sentence. sparsejax runs
its own training step on packed rows, dense and with magnitude pruning.

Each side runs in a process of its own, the sides in turn, several times; a rate is the median over
the repeats. A real token is a piece that is not padding, special pieces included; compilation and
the first steps are not counted. Needs torch.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

LANGUAGES = ("en", "de", "ru", "ar", "sw")
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
BATCH, LENGTH = 32, 128
WARMUP = 3  # steps before the clock starts


def setup(shared: Path):
    """Sentences, tokenizer and checkpoint, through sparsejax's own readers."""
    from sparsejax.config import DataConfig
    from sparsejax.data import sources, tokenization

    config = DataConfig(dir=str(shared / "data/panx"))
    parts = sources.parts(config, "train", LANGUAGES)
    corpus = {code: list(sources.take(part.open(), 400)) for code, part in parts.items()}
    checkpoint = shared / "models/e5-small-39"
    return corpus, tokenization.load_tokenizer(checkpoint), checkpoint


def sparsejax_side(shared: Path, seconds: float, method: str) -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from sparsejax.config import Config, PruneConfig, TrainConfig
    from sparsejax.data import mixing, packing, tokenization
    from sparsejax.models import bert, huggingface
    from sparsejax.runtime import host_memory, optimization, steps

    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    corpus, tokenizer, checkpoint = setup(shared)
    key = jax.random.key(0)
    config = bert.BertConfig.from_dict(huggingface.read_config(checkpoint), len(TAGS))
    params, _ = huggingface.load(checkpoint, config, TAGS, key)
    encoded = tokenization.concatenate(
        [tokenization.encode(part, tokenizer, LENGTH, TAGS) for part in corpus.values()]
    )
    order = np.random.default_rng(0).permutation(len(encoded.lengths))
    packed = packing.pack(encoded, LENGTH, tokenizer.pad_token_id, order)
    rows = packing.rows_per_step(packed, len(encoded.words), BATCH)
    # The schedule spans 100 steps, so that mask updates are among the steps that are timed.
    pruning = PruneConfig(method=method, sparsity=0.9, begin=0.0, end=1.0, interval=10)
    settings = Config(train=TrainConfig(learning_rate=1e-4), prune=pruning)
    program = optimization.program(settings, config)
    values = jax.tree.map(jnp.asarray, optimization.numbers(settings, 100))
    params = jax.tree.map(jnp.asarray, params)
    state = steps.initial(program, params, values)
    step = steps.make_train_step(program)
    orders = mixing.concatenation(len(packed.tokens), 10**6, 0)
    count = pieces = 0
    for numbers in packing.batches(rows, orders):
        batch = packed.batch(numbers, rows)
        state, metrics = step(state, batch, values)
        count += 1
        if count <= WARMUP:
            jax.block_until_ready(metrics)
            began = time.perf_counter()
            continue
        jax.block_until_ready(metrics)  # the clock decides when to stop
        pieces += int(np.count_nonzero(batch["segments"]))
        if time.perf_counter() - began > seconds:
            break
    elapsed = time.perf_counter() - began
    return {"tokens_per_second": pieces / elapsed, "ms_per_step": 1e3 * elapsed / (count - WARMUP)}


def pytorch_side(shared: Path, seconds: float) -> dict[str, float]:
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    corpus, tokenizer, checkpoint = setup(shared)
    features = []
    for sentence in (s for part in corpus.values() for s in part):
        encoding = tokenizer(
            sentence.words, is_split_into_words=True, truncation=True, max_length=LENGTH
        )
        labels, before = [], None
        for word in encoding.word_ids():
            first = word is not None and word != before
            labels.append(TAGS.index(sentence.tags[word]) if first else -100)
            before = word
        features.append(
            {
                "input_ids": encoding["input_ids"],
                "attention_mask": encoding["attention_mask"],
                "labels": labels,
            }
        )
    collate = transformers.DataCollatorForTokenClassification(tokenizer)
    loader = torch.utils.data.DataLoader(
        features, batch_size=BATCH, shuffle=True, collate_fn=collate
    )
    model = transformers.BertForTokenClassification.from_pretrained(
        checkpoint, num_labels=len(TAGS), dtype=torch.float32
    ).train()
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-4)
    count = pieces = 0
    while True:
        for batch in loader:
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adamw.step()
            adamw.zero_grad()
            count += 1
            if count <= WARMUP:
                began = time.perf_counter()
                continue
            pieces += int(batch["attention_mask"].sum())
            elapsed = time.perf_counter() - began
            if elapsed > seconds:
                return {
                    "tokens_per_second": pieces / elapsed,
                    "ms_per_step": 1e3 * elapsed / (count - WARMUP),
                }


SIDES = {
    "pytorch": pytorch_side,
    "sparsejax dense": lambda shared, seconds: sparsejax_side(shared, seconds, "none"),
    "sparsejax magnitude": lambda shared, seconds: sparsejax_side(shared, seconds, "magnitude"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, help="JSON file to write; default: only print")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="timed, per side and repeat")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.shared / "data/panx").is_dir():
        sys.exit(f"error: --shared: {args.shared}/data/panx is not there")
    if args.side:
        print(json.dumps(SIDES[args.side](args.shared, args.seconds)))
        return
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for repeat in range(args.repeats):
        for name in SIDES:
            command = [sys.executable, __file__, "--side", name, "--shared", str(args.shared)]
            command += ["--seconds", str(args.seconds)]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured[name].append(json.loads(result.stdout.splitlines()[-1]))
            rate = measured[name][-1]["tokens_per_second"]
            print(f"repeat {repeat + 1}: {name}: {rate:,.0f} tokens/s", flush=True)
    rates = {
        name: statistics.median(m["tokens_per_second"] for m in runs)
        for name, runs in measured.items()
    }
    report = {
        "date": datetime.date.today().isoformat(),
        "device": f"{len(os.sched_getaffinity(0))} CPU cores, {platform.machine()}",
        "versions": {
            name: importlib.metadata.version(name) for name in ("jax", "torch", "transformers")
        },
        "tokens_per_second": rates,
        "ratio_to_pytorch": {name: rate / rates["pytorch"] for name, rate in rates.items()},
        "repeats": measured,
    }
    for name, ratio in report["ratio_to_pytorch"].items():
        print(f"{name}: {rates[name]:,.0f} tokens/s, {ratio:.2f} times PyTorch")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
