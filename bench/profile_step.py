"""What the kernels of a training step are for, and how long they take, by JAX's own profiler.

    python bench/profile_step.py --model mbert --dtype bfloat16 --batch 256 --out profile.json

Ten steps in a call, as `sparsejax.train` makes them, dense, on packed WikiAnn sentences. What a
kernel is for is read from the compiled program: the forward or the backward pass and the part of
the model, or the update. Matrix products that a library makes have names of their own on a GPU, and
are told by them. Where a kernel serves several identical parts of a program, all of its time is
counted under one of them. On a CPU kernels overlap: there their times are more than the step takes.
"""

from __future__ import annotations

import collections
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import workload
from step_parts import Batch

PRODUCTS = re.compile(r"nvjet|gemm|cublas|cutlass|^dot")
LOOK_UPS = re.compile(r"(?<!reduce_)scatter")
CONTAINERS = ("while", "conditional", "call")  # whose time is that of what is in them
SHOWN = 15  # kernels


def purposes(program: str) -> dict[str, str]:
    """The `op_name` of each instruction of a compiled program, by the name its kernel has."""
    form = r'^\s*(?:ROOT )?%?([\w.\-]+) = .*?[})\]] ([a-z\-]+)\(.*?op_name="([^"]*)"'
    found = re.finditer(form, program, re.M)
    return {plain(one[1]): one[3] for one in found if one[2] not in CONTAINERS}


def plain(name: str) -> str:
    """As a kernel is called, which has no dots."""
    return re.sub(r"[.\-]", "_", name)


def group(kernel: str, purpose: str) -> str:
    """What a kernel is counted under."""
    if PRODUCTS.search(kernel) or purpose.endswith("dot_general"):
        return "matrix products"
    if LOOK_UPS.search(kernel):
        return "gradients of embeddings"
    if "jvp(" not in purpose:
        return "update"
    way = "backward" if "transpose(jvp" in purpose else "forward"
    part = next((p for p in ("embeddings", "norm", "attention", "mlp") if f"/{p}/" in purpose), "")
    return f"{way}, {part or 'rest'}"


def events(directory: Path) -> Iterator[tuple[str, float]]:
    """Names and milliseconds of what ran on an accelerator, or else in the threads of a CPU."""
    import jax

    (path,) = directory.glob("**/*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in devices or planes:
        for line in plane.lines:
            if devices or line.name.startswith("tf_XLA"):
                yield from ((event.name, event.duration_ns / 1e6) for event in line.events)


def summary(ran: Iterable[tuple[str, float]], known: dict[str, str], steps: int) -> dict[str, Any]:
    """Milliseconds and kernels of a step, by what they are for, and those that take longest.

    Copies, and whatever else the program says no purpose of, are in `ms_of_others`; on a CPU, loops
    are, too, and what waits.
    """
    groups: dict[str, list[float]] = collections.defaultdict(list)
    kernels: dict[str, list[float]] = collections.defaultdict(list)
    others = 0.0
    for name, ms in ran:
        kernel = plain(name)
        if kernel in known or PRODUCTS.search(kernel):
            groups[group(kernel, known.get(kernel, ""))].append(ms)
            kernels[f"{kernel}: {known.get(kernel, 'a library')}"].append(ms)
        else:
            others += ms

    def sorted_by_time(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
        longest = sorted(found.items(), key=lambda item: -sum(item[1]))
        return {k: {"ms": sum(v) / steps, "kernels": len(v) / steps} for k, v in longest}

    longest = list(sorted_by_time(kernels).items())[:SHOWN]
    found = {"groups": sorted_by_time(groups), "longest": dict(longest)}
    return found | {"ms_of_others": others / steps}


def main() -> None:
    parser = workload.parser(__doc__)
    workload.model_flags(parser)
    parser.add_argument("--batch", type=int, default=32, help="sentences a step, on average")
    parser.add_argument("--sentences", type=int, default=100, help="of each language")
    parser.add_argument("--all-rows", action="store_true", help="train all word embeddings")
    args = parser.parse_args()
    workload.check(args.shared)

    import jax
    import jax.numpy as jnp

    from sparsejax.runtime import calls, host_memory, steps

    if jax.default_backend() == "cpu":
        host_memory.keep_freed_memory()  # as `sparsejax.train` does
    batch = Batch(args, method="none", all_rows=args.all_rows)
    batches = jax.tree.map(lambda column: jnp.stack([column] * calls.STEPS), batch.batch)
    given = batch.state, batches, jnp.int32(calls.STEPS), batch.numbers
    program = steps.make_train_steps(batch.program).lower(*given).compile()  # type: ignore[attr-defined]
    state = program(*given)[0]
    with tempfile.TemporaryDirectory() as directory:
        jax.block_until_ready(state)
        with jax.profiler.trace(directory):
            began = time.perf_counter()
            jax.block_until_ready(program(state, *given[1:]))
            elapsed = time.perf_counter() - began
        ran = list(events(Path(directory)))
    found: dict[str, Any] = summary(ran, purposes(program.as_text()), calls.STEPS)
    report = workload.report(
        ("jax", "flax", "optax"),
        model=args.model,
        dtype=args.dtype,
        batch=args.batch,
        rows=batch.rows,
        tokens=batch.tokens,
        rows_trained=batch.program.model.vocab_size,
        ms_of_a_step=1e3 * elapsed / calls.STEPS,
        **found,
    )
    for name, one in found["groups"].items():
        print(f"{one['ms']:8.3f} ms {one['kernels']:6.1f} kernels  {name}")
    print(f"{found['ms_of_others']:8.3f} ms                 others")
    print(f"{report['ms_of_a_step']:8.3f} ms                 a step, by the clock; most of it:")
    for name, one in found["longest"].items():
        print(f"{one['ms']:8.3f} ms {one['kernels']:6.1f} kernels  {name}")
    workload.write(report, args.out)


if __name__ == "__main__":
    main()
