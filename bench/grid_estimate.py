"""How long the paper's whole grid would take on this device, from rates that were measured on it.

    python bench/grid_estimate.py --training train.json --evaluation evaluate.json \\
      --small-runs small_runs.json --out grid.json

The files are those of train_speed.py (sides "sparsejax dense" and "sparsejax magnitude"; those with
BATCH sentences a step are taken), evaluate_all.py and small_runs.py. The grid: dense, and seven
sparsities with and without the word embeddings, in three seeds; multilingual, and monolingual in
each language. Of each the paper's epochs are not known here: EPOCHS of ours. A monolingual model is
evaluated in its own language, a multilingual one in all of them. What a run takes beside its steps
and its evaluation (reading, the model, checkpoints, saving) is that of a small run after the first.
Monolingual runs that do not prune word embeddings train a part of them, which is faster than the
rates of `train_speed.py --all-rows`. Compilation is left out: a program for every number of rows
per step, which languages differ in, for every number of word embeddings, and for dense and pruned
runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import workload

SPARSITIES, EMBEDDINGS, SEEDS = 7, 2, 3
EPOCHS = 3
BATCH = 32
LENGTH = 128


def load(path: Path) -> dict[str, Any]:
    """The report of a benchmark."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"error: {path} cannot be read ({error})")
    return found


def pieces(args: argparse.Namespace, model: str) -> tuple[int, int, int]:
    """Languages, sentences and pieces of the training data under the vocabulary of the model."""
    from sparsejax.config import DataConfig
    from sparsejax.data import preparation, sources

    tokenizer, _ = workload.tokenizer_and_shape(args.shared, model)
    data = DataConfig(dir=str(args.shared / "data/panx"), length=LENGTH)
    parts = sources.parts(data, "train", sources.train_languages(data))
    encoded = [
        part.encoded
        for part in preparation.prepare(parts, tokenizer, data, args.sentences).values()
    ]
    return len(parts), sum(len(e.words) for e in encoded), sum(len(e.tokens) for e in encoded)


def estimate(
    languages: int, tokens: int, rates: dict[str, float], evaluation: dict[str, Any], beside: float
) -> dict[str, Any]:
    """Runs and hours of the grid, by what takes them."""
    for side in ("sparsejax dense", "sparsejax magnitude"):
        if side not in rates:
            sys.exit(f"error: --training: {side!r} was not measured")
    pruned, dense = SPARSITIES * EMBEDDINGS * SEEDS, SEEDS
    # All languages together, and each alone, see the same sentences.
    epochs = EPOCHS * tokens * 2
    steps = epochs * (pruned / rates["sparsejax magnitude"] + dense / rates["sparsejax dense"])
    scoring = (pruned + dense) * 2 * evaluation["seconds"]["total"]
    runs = (pruned + dense) * (1 + languages)
    hours = {"steps": steps, "evaluation": scoring, "beside": runs * beside}
    hours = {name: value / 3600 for name, value in hours.items()}
    return {"runs": runs, "hours": hours | {"all": sum(hours.values())}}


def main() -> None:
    parser = workload.parser(__doc__)
    parser.add_argument("--training", type=Path, required=True, help="JSON of train_speed.py")
    parser.add_argument("--evaluation", type=Path, required=True, help="JSON of evaluate_all.py")
    parser.add_argument("--small-runs", type=Path, required=True, help="JSON of small_runs.py")
    parser.add_argument("--sentences", type=int, help="of each language; default: all of them")
    args = parser.parse_args()
    workload.check(args.shared)
    training, evaluation, small = map(load, (args.training, args.evaluation, args.small_runs))
    if small["model"] != training["model"]:
        sys.exit(f"error: small runs of {small['model']}, but training of {training['model']}")
    for name in ("model", "dtype"):
        if training[name] != evaluation[name]:
            sys.exit(
                f"error: {name} is {training[name]} in one file, {evaluation[name]} in another"
            )
    devices = {training["device"], evaluation["device"], small["device"]}
    if len(devices) > 1:
        sys.exit(f"error: the files are of several devices: {', '.join(sorted(devices))}")
    languages, sentences, tokens = pieces(args, training["model"])
    beside = small["seconds_beside_steps"]
    if beside is None:
        sys.exit(f"error: {args.small_runs}: every run compiled something; pass more --seeds")
    if str(BATCH) not in training["batches"]:
        sys.exit(f"error: --training: {BATCH} sentences a step were not measured")
    rates = training["batches"][str(BATCH)]["tokens_per_second"]
    found = estimate(languages, tokens, rates, evaluation, beside)
    settings = {name: training[name] for name in ("model", "dtype")} | {"batch": BATCH}
    epoch = tokens / rates["sparsejax magnitude"]
    report = workload.report(
        ("jax",),
        **settings,
        epochs=EPOCHS,
        languages=languages,
        sentences=sentences,
        tokens=tokens,
        seconds_of_an_epoch=epoch,
        seconds_beside=beside,
        **found,
    )
    print(f"one epoch of {sentences:,} sentences, {tokens:,} pieces: {epoch:,.0f} s")
    parts = ", ".join(f"{name} {value:,.2f}" for name, value in found["hours"].items())
    print(f"{found['runs']:,} runs, hours: {parts}")
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
