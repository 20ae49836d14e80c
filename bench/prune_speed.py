"""What pruning costs: the k-th largest value, the update of each method, and the state.

    python bench/prune_speed.py --out docs/benchmarks/prune_speed.json

1. `prune.top_k_mask`, which counts, against masks by way of `jnp.sort` and of `jax.lax.top_k`: the
   largest tenth of n normal numbers. Where several equal the k-th largest, top_k_mask keeps exactly
   k, and the others, which compare with the k-th value, all of these.
2. `tx.update` and `optax.apply_updates` of each method, compiled together with donated buffers, at
   the shapes of mBERT, against the bare `optax.adamw` that every method has in it: a step on which
   masks are due, and the step after it, where the update decides which; then, as training does it,
   an update on which masks rest, `tx.refresh`, and their mean over an interval of 10.
3. The state of each method beyond that of AdamW, and masks in memory and on disk.
4. What pruning adds to a whole training step of that model, as a share of the dense step.

What is compared runs in turn; a time is the median over the repeats, after one run that does not
count. In (1) a run of more than SLOW seconds counts at once and is not repeated but for
--slow-repeats. Works on CPU and GPU alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import workload

from sparsejax import prune
from sparsejax.config import Config, PruneConfig
from sparsejax.models import bert
from sparsejax.runtime import host_memory, optimization, steps

SLOW = 10  # seconds
TARGETS = prune.ENCODER_KERNELS
INTERVAL = 10
STEP = 500  # masks are due on it; the schedule is half-way through, at 79 % sparsity of 90 %
LENGTH = 128
TRAIN_STEPS = 3


def say(line: str) -> None:
    print(line, flush=True)


def timed(run: Callable[[], Any]) -> float:
    """Milliseconds of a call, to the end of the computation."""
    began = time.perf_counter()
    jax.block_until_ready(run())
    return 1e3 * (time.perf_counter() - began)


def kth_value(n: int, repeats: int, slow_repeats: int) -> dict[str, Any]:
    x = jnp.asarray(np.random.default_rng(0).standard_normal(n, np.float32))
    k = n // 10
    sides = {
        "top_k_mask": lambda x: prune.top_k_mask(x, k),
        "sort": lambda x: x >= jnp.sort(x)[-k],
        "lax.top_k": lambda x: x >= jax.lax.top_k(x, k)[0][-1],
    }
    ms: dict[str, list[float]] = {}
    kept: dict[str, int] = {}
    least: dict[str, float] = {}
    errors: dict[str, str] = {}
    compiled = {}
    for name, mask_of in sides.items():
        try:
            compiled[name] = jax.jit(mask_of).lower(x).compile()
            began = time.perf_counter()
            mask = jax.block_until_ready(compiled[name](x))
            first = 1e3 * (time.perf_counter() - began)
        except (RuntimeError, MemoryError) as error:  # what JAX raises where memory is short
            errors[name] = str(error).splitlines()[0] if str(error) else type(error).__name__
            say(f"  {name}: failed: {errors[name]}")
            continue
        ms[name] = [first] if first > 1e3 * SLOW else []
        kept[name] = int(jnp.sum(mask))
        least[name] = float(jnp.min(jnp.where(mask, x, jnp.inf)))
        del mask
        say(f"  {name}: {first:,.1f} ms in the first run")
    for _ in range(repeats):
        for name in ms:
            slow = bool(ms[name]) and ms[name][0] > 1e3 * SLOW
            if len(ms[name]) < (slow_repeats if slow else repeats):
                ms[name].append(timed(lambda name=name: compiled[name](x)))
    # All keep the same entries but for those that equal the k-th largest.
    threshold = least["top_k_mask"]
    tied = int(jnp.sum(x == threshold))
    assert kept["top_k_mask"] == k
    assert set(least.values()) == {threshold}
    assert set(kept.values()) <= {k, int(jnp.sum(x >= threshold))}
    medians = {name: statistics.median(runs) for name, runs in ms.items()}
    times_sort = {name: t / medians["sort"] for name, t in medians.items() if "sort" in medians}
    for name, t in medians.items():
        ratio = f", {times_sort[name]:.3f} times sort" if times_sort else ""
        say(f"  {name}: {t:,.1f} ms{ratio}; keeps {kept[name]:,}")
    return {
        "n": n,
        "k": k,
        "equal_kth": tied,
        "kept": kept,
        "errors": errors,
        "ms": medians,
        "times_sort": times_sort,
        "repeats_ms": ms,
    }


def schedule(final: float) -> prune.Schedule:
    return prune.cubic(final, begin=0, end=2 * STEP, interval=INTERVAL)


def methods() -> dict[str, optax.GradientTransformation]:
    adamw, adam, when = optax.adamw(5e-5), optax.adam(1e-2), schedule(0.9)
    two_of_four = prune.NofM(2, 4)
    key = jax.random.key(1)
    hard = {
        "magnitude": prune.magnitude(when, TARGETS),
        "magnitude, global": prune.magnitude(when, TARGETS, scope="global"),
        "magnitude, 2:4": prune.magnitude(schedule(0.5), TARGETS, pattern=two_of_four),
        "random": prune.random(when, TARGETS, key=key),
    }
    return {
        "adamw": adamw,
        **{name: prune.last_of_chain(adamw, tx) for name, tx in hard.items()},
        "latent_magnitude": prune.latent_magnitude(adamw, when, TARGETS),
        "movement": prune.movement(adamw, adam, when, TARGETS),
        "soft_movement": prune.soft_movement(adamw, adam, schedule(0.1), TARGETS, penalty=400.0),
    }


def normals_like(tree: Any, key: jax.Array) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


class Optimization:
    """Parameters, an optimizer's state, and what is compiled to update both."""

    def __init__(self, tx: optax.GradientTransformation, params: Any, grads: Any) -> None:
        def init(params: Any) -> Any:
            state = tx.init(params)
            if isinstance(state, prune.LatentState) and jax.tree.leaves(state.scores):
                # Scores all start equal, and after one step of Adam there are still but two
                # values: ranking equals is not what a step of a real run does.
                scores = normals_like(state.scores, jax.random.key(3))
                state = state._replace(scores=scores)
            return state

        def update(params: Any, state: Any, grads: Any, **rest: bool) -> tuple[Any, Any]:
            updates, state = tx.update(grads, state, params, **rest)
            return optax.apply_updates(params, updates), state

        self.params, self.grads = params, grads
        self.state = jax.jit(init)(params)
        began = time.perf_counter()
        jitted = jax.jit(update, donate_argnums=(0, 1))
        self.update = jitted.lower(self.params, self.state, grads).compile()
        self.compile_seconds = time.perf_counter() - began
        if isinstance(tx, prune.PruningTransformation):
            self.at_rest = jax.jit(partial(update, masks_rest=True), donate_argnums=(0, 1))
            self.refreshed = jax.jit(tx.refresh, donate_argnums=(0, 1))

    def go_to(self, step: int) -> None:
        kinds = (prune.HardState, prune.LatentState)

        def move(node: Any) -> Any:
            return node._replace(step=jnp.int32(step)) if isinstance(node, kinds) else node

        self.state = jax.tree.map(move, self.state, is_leaf=lambda node: isinstance(node, kinds))

    def __call__(self) -> Any:
        self.params, self.state = self.update(self.params, self.state, self.grads)
        return self.params, self.state

    def rest(self) -> Any:
        self.params, self.state = self.at_rest(self.params, self.state, self.grads)
        return self.params, self.state

    def refresh(self) -> Any:
        self.params, self.state = self.refreshed(self.params, self.state)
        return self.params, self.state


@jax.jit
def masked_targets(params: Any, state: prune.LatentState) -> list[jax.Array]:
    """What a forward pass of a latent method computes first."""
    # Targets alone: jit would copy the other parameters, which effective_params hands through.
    used = jax.tree.leaves(prune.effective_params(params, state))
    chosen = prune.resolve(TARGETS, params).values()
    return [leaf for leaf, target in zip(used, chosen, strict=True) if target]


def update_cost(
    adamw: Optimization, method: Optimization, repeats: int
) -> tuple[dict[str, Any], str]:
    """Times of one method and, in turn with it, of AdamW; the same as a line to print."""
    runs: dict[str, Callable[[], Any]] = {"adamw": adamw, "due": method, "not_due": method}
    runs |= {"at_rest": method.rest, "refresh": method.refresh}
    if isinstance(method.state, prune.LatentState):
        runs["effective_params"] = lambda: masked_targets(method.params, method.state)
    ms: dict[str, list[float]] = {what: [] for what in runs}
    for repeat in range(repeats + 1):
        due = STEP + INTERVAL * 2 * repeat
        for what, run in runs.items():
            # Masks are due on the former, and refreshed after the latter.
            if what in ("due", "at_rest"):
                method.go_to(due if what == "due" else due + INTERVAL)
            ms[what].append(timed(run))
    ms = {what: times[1:] for what, times in ms.items()}  # the first run does not count
    median = {what: statistics.median(times) for what, times in ms.items()}
    median["amortised"] = median["at_rest"] + median["refresh"] / INTERVAL
    times_adamw = {what: t / median["adamw"] for what, t in median.items() if what != "adamw"}
    masks = prune.masks_of(method.state).values()
    report = {
        "ms": median,
        "times_adamw": times_adamw,
        "pruned": 1 - sum(int(jnp.sum(mask)) for mask in masks) / sum(mask.size for mask in masks),
        "compile_seconds": method.compile_seconds,
        "repeats_ms": ms,
    }
    cells = [f"{what} {t:,.1f} ms" for what, t in median.items()]
    return report, f"{', '.join(cells)} = {times_adamw['amortised']:.2f} times AdamW"


def updates(config: bert.BertConfig, repeats: int) -> dict[str, Any]:
    draw = jax.jit(lambda: bert.init(config, jax.random.key(0)))
    shapes = jax.eval_shape(draw)
    grads = jax.jit(lambda: normals_like(shapes, jax.random.key(2)))()
    transforms = methods()
    adamw = Optimization(transforms.pop("adamw"), draw(), grads)
    report = {}
    for name, tx in transforms.items():  # beside AdamW's, the state of one method at a time
        report[name], line = update_cost(adamw, Optimization(tx, draw(), grads), repeats)
        say(f"  {name}: {line}")
    return report


def n_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def memory(params: Any, n_params: int, n_targets: int) -> dict[str, Any]:
    """Bytes of the states, from shapes alone."""
    states = {name: jax.eval_shape(tx.init, params) for name, tx in methods().items()}
    adamw = n_bytes(states.pop("adamw"))
    report: dict[str, Any] = {"adamw_bytes": adamw, "methods": {}}
    for name, state in states.items():
        extra = n_bytes(state) - adamw
        masks = n_bytes(prune.masks_of(state))
        report["methods"][name] = {
            "extra_bytes": extra,
            "extra_bytes_per_parameter": extra / n_params,
            "extra_bytes_per_target": extra / n_targets,
            "mask_bytes_per_target": masks / n_targets,
        }
        say(
            f"  {name}: {extra / 2**20:,.1f} MiB beyond AdamW's {adamw / 2**20:,.1f}, "
            f"{extra / n_params:.2f} bytes per parameter, {extra / n_targets:.2f} per target"
        )
    shapes = prune.masks_of(states["magnitude"])
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "masks.safetensors")
        prune.write_masks(file, {name: np.ones(mask.shape, bool) for name, mask in shapes.items()})
        size = file.stat().st_size
    report |= {"disk_bytes": size, "disk_bytes_per_target": size / n_targets}
    say(f"  masks on disk: {size:,} bytes, {size / n_targets:.4f} per target")
    return report


def train_step(config: bert.BertConfig, rows: int) -> list[float]:
    """Milliseconds of steps of the dense model: forward, backward, clipping, AdamW."""
    params = jax.jit(lambda: bert.init(config, jax.random.key(0)))()
    settings = Config(prune=PruneConfig(method="none"))
    program = optimization.program(settings, config)
    numbers = jax.tree.map(jnp.asarray, optimization.numbers(settings, 100))
    state = jax.jit(lambda params: steps.initial(program, params, numbers))(params)
    step = steps.make_train_step(program)
    rng = np.random.default_rng(0)
    shape = (rows, LENGTH)
    batch = {
        "tokens": rng.integers(0, config.vocab_size, shape, np.int32),
        "positions": np.broadcast_to(np.arange(LENGTH, dtype=np.int32), shape),
        "segments": np.ones(shape, np.int32),
        "labels": rng.integers(0, config.num_labels, shape, np.int32),
    }
    ms = []
    for _ in range(TRAIN_STEPS + 1):
        began = time.perf_counter()
        state, metrics = step(state, batch, numbers)
        jax.block_until_ready((state, metrics))
        ms.append(1e3 * (time.perf_counter() - began))
    return ms[1:]  # the first one compiles


def shares(step_ms: float, costs: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What pruning adds to a training step, as shares of the dense one."""
    report = {}
    for name, cost in costs.items():
        ms = cost["ms"]
        total = ms["amortised"] - ms["adamw"] + ms.get("effective_params", 0)
        report[name] = {
            "mask_update": ms["refresh"] / INTERVAL / step_ms,
            "total": total / step_ms,
        }
        say(
            f"  {name}: updating masks {report[name]['mask_update']:.2%} of a step, "
            f"all of pruning {report[name]['total']:.2%}"
        )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON file to write; default: only print")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1_000_000, 20_000_000, 92_000_000], help="n of (1)"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slow-repeats", type=int, default=1)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--vocabulary", type=int, default=119_547)
    parser.add_argument("--rows", type=int, default=4, help=f"of {LENGTH} pieces, in (4)")
    parser.add_argument("--train-step-ms", type=float, help="measured elsewhere; default: measure")
    args = parser.parse_args()
    if STEP + 2 * INTERVAL * (args.repeats + 1) > 2 * STEP:
        parser.error(f"--repeats {args.repeats}: too many, the schedule would end before")
    began = time.perf_counter()
    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()

    config = bert.BertConfig(
        vocab_size=args.vocabulary,
        hidden_size=args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=args.width // 64,
        intermediate_size=4 * args.width,
        num_labels=7,
    )
    params = jax.eval_shape(lambda: bert.init(config, jax.random.key(0)))
    leaves, chosen = jax.tree.leaves(params), prune.resolve(TARGETS, params).values()
    n_params = sum(leaf.size for leaf in leaves)
    n_targets = sum(leaf.size for leaf, what in zip(leaves, chosen, strict=True) if what)
    model = {
        "layers": args.layers,
        "width": args.width,
        "vocabulary": args.vocabulary,
        "parameters": n_params,
        "targets": n_targets,
    }
    packages = ("jax", "jaxlib", "optax")
    report = workload.report(packages, repeats=args.repeats, model=model)
    say(f"{report['device']}; {n_params:,} parameters, {n_targets:,} targets")

    report["kth_value"] = []
    for n in args.sizes:
        say(f"the largest tenth of {n:,}:")
        report["kth_value"].append(kth_value(n, args.repeats, args.slow_repeats))
        workload.write(report, args.out)  # so that it outlives what fails later
    say("bytes of state:")
    report["memory"] = memory(params, n_params, n_targets)
    say(f"update, masks due every {INTERVAL} steps:")
    report["update"] = updates(config, args.repeats)
    workload.write(report, args.out)
    runs = [] if args.train_step_ms else train_step(config, args.rows)
    step_ms = args.train_step_ms or statistics.median(runs)
    where = "given" if args.train_step_ms else f"{args.rows} rows of {LENGTH}"
    say(f"a dense training step ({where}): {step_ms:,.1f} ms")
    report["train_step"] = {"ms": step_ms, "rows": None if args.train_step_ms else args.rows}
    report["train_step"] |= {"repeats_ms": runs, "shares": shares(step_ms, report["update"])}
    report["seconds"] = time.perf_counter() - began
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
