"""What the first weights to go cost, by the order in which a method would remove them.

    python bench/one_shot_damage.py --shared ../shared --out docs/benchmarks/one_shot_damage.json

Fine-tunes the encoder in shared densely on WikiAnn's first 400 training sentences each of en de ru
ar sw (3 epochs, about 32 sentences a step, AdamW at a constant 1e-4), learning movement pruning's
scores on the way and pruning nothing. Then removes the lowest 5, 10, 25 and 50 % of each encoder
matrix at once, ranked by those scores, by magnitude, or at random, and evaluates without further
training: macro F1 over the first 200 test sentences of each language. A model is trained once, so
all rows are the same weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import workload

LANGUAGES = ("en", "de", "ru", "ar", "sw")
SHARES = (0.05, 0.1, 0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, help="JSON file to write; default: only print")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=400, help="per language, for training")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.shared / "data/panx").is_dir():
        sys.exit(f"error: --shared: {args.shared}/data/panx is not there")

    import jax
    import jax.numpy as jnp
    import numpy as np

    from sparsejax import prune
    from sparsejax.config import Config, DataConfig, PruneConfig, TrainConfig
    from sparsejax.data import mixing, packing, preparation, sources, tokenization
    from sparsejax.models import bert, huggingface
    from sparsejax.ner import evaluation, tagging
    from sparsejax.runtime import host_memory, optimization, parallel, steps

    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    data = DataConfig(dir=str(args.shared / "data/panx"), length=128)
    checkpoint = args.shared / "models/e5-small-39"
    tokenizer = tokenization.load_tokenizer(checkpoint)
    head_key = jax.random.split(jax.random.key(args.seed))[0]
    sentences, test = (
        preparation.prepare(sources.parts(data, split, LANGUAGES), tokenizer, data, limit)
        for split, limit in (("train", args.sentences), ("test", 200))
    )
    labels = preparation.label_set(sentences)
    model = bert.BertConfig.from_dict(huggingface.read_config(checkpoint), len(labels))
    params, _ = huggingface.load(checkpoint, model, labels, head_key)

    train = tokenization.concatenate([part.encoded for part in sentences.values()])
    order = np.random.default_rng([args.seed, 0]).permutation(len(train.lengths))
    packed = packing.pack(train, 128, tokenizer.pad_token_id, order)
    rows = packing.rows_per_step(packed, len(train.words), 32)
    total = args.epochs * -(-len(packed.tokens) // rows)
    # A schedule that starts on the step after the last: scores are learned, nothing is pruned.
    learning = TrainConfig(learning_rate=1e-4, warmup=0.0, decay="constant")
    pruning = PruneConfig(method="movement", begin=1.0, end=1.0)
    settings = Config(train=learning, prune=pruning, seed=args.seed)
    program = optimization.program(settings, model)
    values = optimization.numbers(settings, total + 2)
    params = jax.tree.map(jnp.asarray, params)
    state = steps.initial(program, params, values)
    step = steps.make_train_step(program)
    orders = mixing.concatenation(len(packed.tokens), args.epochs, args.seed)
    for i, numbers in enumerate(packing.batches(rows, orders), start=1):
        state, step_metrics = step(state, packed.batch(numbers, rows), values)
        if i % max(1, total // 10) == 0:
            print(f"step {i}/{total}  loss {float(step_metrics['loss']):.3f}", flush=True)

    mesh = parallel.make_mesh()
    predict = tagging.make_predict(model, "float32", mesh)
    test = preparation.relabelled(test, labels)
    encoded = {code: part.encoded for code, part in test.items()}
    everything = {code: np.ones(len(part.encoded.words), bool) for code, part in test.items()}

    def macro_f1(masks: prune.Masks) -> float:
        pruned = prune.apply_masks(state.params, masks)
        pruned = parallel.place(pruned, parallel.whole(mesh))
        tags = tagging.tag(predict, pruned, encoded, 128, tokenizer.pad_token_id, mesh)
        return evaluation.on(test, tags, labels, everything)["macro"]["f1"]

    learned = prune.scores_of(state.opt_state)
    weights = {prune.path(keys): leaf for keys, leaf in jax.tree.leaves_with_path(state.params)}
    keys = jax.random.split(jax.random.key(args.seed), len(learned))
    rankings = {
        "movement": learned,
        "magnitude": {name: jnp.abs(weights[name]) for name in learned},
        "random": {
            name: jax.random.uniform(key, learned[name].shape)
            for name, key in zip(learned, keys, strict=True)
        },
    }
    scores: dict[str, dict[str, float]] = {name: {"0": macro_f1({})} for name in rankings}
    for share in SHARES:
        for name, ranking in rankings.items():
            masks = {
                leaf: prune.top_k_mask(score, round((1 - share) * score.size))
                for leaf, score in ranking.items()
            }
            scores[name][str(share)] = macro_f1(masks)
            print(f"{share:.0%} removed by {name}: macro F1 {scores[name][str(share)]:.3f}")
    report = workload.report(("jax", "optax"), steps=total, seed=args.seed, macro_f1=scores)
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
