"""Where the time of a training step goes, and how long it has to take at least.

    python bench/step_parts.py --out docs/benchmarks/step_parts.json

One batch of packed WikiAnn sentences, the training step, alone and as one of ten in a call, as
`sparsejax.train` makes them, then with all rows of the word embeddings trained, and not only those
of the sentences; and parts of it that are compiled apart: the loss; its gradient; the gradient
without any dropout, without that of the attention, and with random bits as JAX makes them; the
update of a gradient that is there already (clipping, AdamW, pruning). They take turns, and
medians count. What a part costs within the step may differ: the compiler fuses across.

For comparison: the matrix products of the step at the rate of one product of the shape of the
MLP's, measured in the same turns, and the bytes of the update (weights, gradients and both moments
read, all but the gradients written) at the rate of adding a number to an array.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import workload

LANGUAGES = ("en", "de", "ru", "ar", "sw")
LENGTH, BATCH = 128, 32
TEN = "step, one of ten in a call"
ALL = "step, one of ten, all rows trained"
NUMBERS = 40_000_000  # of the array that is read and written
Run = Callable[[], Any]


class Batch:
    """One batch of the model's step, and what is made of it."""

    def __init__(self, args: Any, method: Any = "magnitude", all_rows: bool = False) -> None:
        import jax
        import jax.numpy as jnp
        import numpy as np

        from sparsejax.config import Config, ModelConfig, PruneConfig
        from sparsejax.data import packing, tokenization
        from sparsejax.runtime import optimization, steps, vocabulary

        tokenizer, shape = workload.tokenizer_and_shape(args.shared, args.model)
        corpus = workload.sentences(args.shared, "train", LANGUAGES, args.sentences)
        encoded = tokenization.concatenate(
            [tokenization.encode(s, tokenizer, LENGTH, workload.TAGS) for s in corpus.values()]
        )
        order = np.random.default_rng(0).permutation(len(encoded.lengths))
        packed = packing.pack(encoded, LENGTH, tokenizer.pad_token_id, order)
        self.rows = packing.rows_per_step(packed, len(encoded.words), args.batch)
        # Masks change on every tenth step.
        pruning = PruneConfig(method=method, sparsity=0.9, begin=0.0, end=1.0, interval=10)
        self.config = Config(model=ModelConfig(dtype=args.dtype), prune=pruning)
        params = workload.parameters(args.shared, args.model, shape)
        trained = vocabulary.choose(self.config, packed.tokens, params, None)
        if trained is not None and not all_rows:
            shape, packed, params = trained.part(shape, packed, params)
        batch = packed.batch(np.arange(self.rows), self.rows)
        self.tokens = int(np.count_nonzero(batch["segments"]))
        self.batch = jax.tree.map(jnp.asarray, batch)
        self.program = optimization.program(self.config, shape)
        self.numbers = jax.tree.map(jnp.asarray, optimization.numbers(self.config, 10_000))
        params = jax.tree.map(jnp.asarray, params)
        self.state = jax.jit(partial(steps.initial, self.program))(params, self.numbers)

    def gradient(self, **dropout: float) -> Run:
        """The gradient with other rates of dropout than the model's."""
        import jax

        from sparsejax.runtime import steps

        model = dataclasses.replace(self.program.model, **dropout)
        program = dataclasses.replace(self.program, model=model)
        found = jax.jit(steps.make_gradient(program))
        return lambda: found(self.state, self.batch, self.numbers)

    def loss(self) -> Run:
        import jax

        from sparsejax.runtime import steps

        gradient = steps.make_gradient(self.program)
        found = jax.jit(lambda *given: gradient(*given)[0])  # what else there is falls away
        return lambda: found(self.state, self.batch, self.numbers)

    def gradient_with_bits_of_jax(self) -> Run:
        """The gradient with the same random bits, made by JAX's own function."""
        import jax
        import jax.numpy as jnp

        from sparsejax.models import random_bits

        def bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.bits(key, shape, jnp.uint16)

        run = self.gradient()
        with mock.patch.object(random_bits, "bits", bits):
            jax.block_until_ready(run())  # traced once, here
        return run

    def one_of_ten(self) -> Run:
        """Ten steps in a call; `measure` divides by them."""
        import jax
        import jax.numpy as jnp

        from sparsejax.runtime import calls, steps

        made = steps.make_train_steps(self.program)
        batches = jax.tree.map(lambda column: jnp.stack([column] * calls.STEPS), self.batch)
        count = jnp.int32(calls.STEPS)
        return self.in_place(lambda state: made(state, batches, count, self.numbers)[0])

    def step(self) -> Run:
        from sparsejax.runtime import steps

        made = steps.make_train_step(self.program)
        return self.in_place(lambda state: made(state, self.batch, self.numbers)[0])

    def update(self) -> Run:
        import jax
        import optax

        from sparsejax.runtime import optimization, steps

        def apply(state: Any, grads: Any, numbers: Any) -> Any:
            tx = optimization.optimizer(self.program, numbers)
            rest = {"masks_rest": True}  # as within a call of steps
            updates, opt_state = tx.update(grads, state.opt_state, state.params, **rest)
            params = optax.apply_updates(state.params, updates)
            return state._replace(params=params, opt_state=opt_state)

        grads = jax.jit(steps.make_gradient(self.program))(self.state, self.batch, self.numbers)[1]
        made = jax.jit(apply, donate_argnums=0)
        return self.in_place(lambda state: made(state, grads, self.numbers))

    def in_place(self, function: Callable[[Any], Any]) -> Run:
        """Gives its state over each time, and begins with a copy."""
        import jax
        import jax.numpy as jnp

        state = jax.tree.map(jnp.copy, self.state)

        def run() -> Any:
            nonlocal state
            state = function(state)
            return state

        return run


def machine(batch: Batch) -> tuple[dict[str, Run], float, float]:
    """A matrix product and a pass over memory, with their operations and bytes."""
    import jax
    import jax.numpy as jnp

    model, places = batch.program.model, batch.rows * LENGTH
    left = jnp.ones((places, model.hidden_size), batch.program.dtype)
    right = jnp.ones((model.hidden_size, model.intermediate_size), batch.program.dtype)
    product = jax.jit(lambda a, b: a @ b)
    added = jax.jit(lambda x: x + 1, donate_argnums=0)  # in place, as the update
    array = jnp.zeros(NUMBERS)

    def memory() -> Any:
        nonlocal array
        array = added(array)
        return array

    flops = 2 * places * model.hidden_size * model.intermediate_size
    # One after the other, for a single one is over before it is timed well.
    runs = {
        "product": lambda: [product(left, right) for _ in range(20)][-1],
        "memory": memory,
    }
    return runs, 20.0 * flops, 8.0 * NUMBERS


def measure(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each, in turns; the first two do not count, for they compile."""
    import jax

    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 2):
        for name, run in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            made = 10 if name in (TEN, ALL) else 1
            found[name].append(1e3 * (time.perf_counter() - began) / made)
    return {name: times[2:] for name, times in found.items()}


def main() -> None:
    parser = workload.parser(__doc__)
    workload.model_flags(parser)
    parser.add_argument("--batch", type=int, default=BATCH, help="sentences a step, on average")
    parser.add_argument("--sentences", type=int, default=100, help="of each language")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    workload.check(args.shared)

    import jax

    from sparsejax.runtime import chips, host_memory

    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()
    batch = Batch(args)
    hardware, flops, moved = machine(batch)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    runs = {
        "step": batch.step(),
        TEN: batch.one_of_ten(),
        ALL: Batch(args, all_rows=True).one_of_ten(),
        "loss": batch.loss(),
        "gradient": batch.gradient(),
        "gradient, no dropout": batch.gradient(**none),
        "gradient, no dropout in attention": batch.gradient(attention_probs_dropout_prob=0.0),
        "gradient, random bits of JAX": batch.gradient_with_bits_of_jax(),
        "update": batch.update(),
    }
    repeats = measure(runs | hardware, args.repeats)
    ms = {name: statistics.median(times) for name, times in repeats.items()}
    rate, memory_rate = 1e3 * flops / ms.pop("product"), 1e3 * moved / ms.pop("memory")
    places = batch.rows * LENGTH
    model = batch.program.model
    needed = chips.matrix_flops(batch.state.params, places, training=True)
    needed += chips.attention_flops(model, LENGTH, places, training=True)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(batch.state.params))
    update = 7 * 4 * parameters
    least = {"products": 1e3 * needed / rate, "update": 1e3 * update / memory_rate}
    report = workload.report(
        ("jax", "flax", "optax"),
        model=args.model,
        dtype=args.dtype,
        batch=args.batch,
        rows=batch.rows,
        tokens=batch.tokens,
        rows_trained=batch.program.model.vocab_size,
        ms=ms,
        flops=needed,
        update_bytes=update,
        product_flops_per_second=rate,
        memory_bytes_per_second=memory_rate,
        least_ms=least,
        repeats_ms=repeats,
    )
    for name, value in ms.items():
        print(f"{name}: {value:,.1f} ms")
    print(f"one product: {rate / 1e9:,.0f} GFLOP/s, memory: {memory_rate / 1e9:,.1f} GB/s")
    print(
        f"at these rates: {', '.join(f'{name} {value:,.1f} ms' for name, value in least.items())}"
    )
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
