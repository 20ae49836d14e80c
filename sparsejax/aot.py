"""Compile a training for a TPU pod that is not there, and print what it will need.

The training and the evaluation step are those of `sparsejax.train`, compiled by the TPU's own
compiler; no weights and no data are read. The flags are those of a training and three more; those
of its output, its checkpoints and its processes change nothing for a pod. All word embeddings are
trained, since it is not known which ones the sentences need. The exit status is 1 where the steps
do not fit into the memory of a device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsejax import command_line, config_checks, config_files, config_values, files
from sparsejax.config import Config
from sparsejax.errors import UserError, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from sparsejax.runtime.ahead import Report, Step


@dataclass(frozen=True)
class AotConfig(Config):
    """A training, and for what it is compiled."""

    config: str | None = None  # YAML file with values for any of the fields; flags win over it
    topology: str = "local"  # TPU and its shape, such as v5e:16x16; local or gpu: what is here
    rows: int | None = None  # Of a step, over all devices; none: an estimate from train.batch_size
    json: str | None = None  # File that the report goes to as well


def parse(argv: Sequence[str] | None) -> tuple[Config, AotConfig]:
    """The training of a command line, and what is asked of it.

    Raises:
      UserError: for the first mistake.
    """
    given = command_line.flags(AotConfig, argv, "python -m sparsejax.aot", __doc__ or "")
    own = {name: given.pop(name) for name in ("topology", "rows", "json") if name in given}
    asked: AotConfig = config_values.overlay(AotConfig(), own)
    if asked.rows is not None and asked.rows < 1:
        raise UserError(f"rows: {asked.rows} is not at least 1")
    path = given.pop("config", None)
    base = Config() if path is None else config_files.read(path)
    config: Config = config_values.overlay(base, given)
    config_checks.validate(config)
    return config, asked


def run(config: Config, asked: AotConfig) -> None:
    """Compiles, prints and writes the report.

    Raises:
      UserError: see `runtime.ahead.report`.
    """
    from sparsejax.runtime import ahead, logging, processes

    first = processes.is_first()
    log = logging.Log(quiet=not first)
    report = ahead.report(config, asked.topology, asked.rows)
    for line in about(report, asked.rows is None):
        log(line)
    log(memory_table(report), exchange_table(report))
    for line in conclusions(report):
        log(line)
    if asked.json is not None and first:
        text = json.dumps(to_dict(report), indent=1) + "\n"
        files.write_whole(Path(asked.json), text.encode())


def exchanges(step: Step) -> list[dict[str, Any]]:
    """The collectives of a step, those alike together, those with most bytes first."""
    groups = defaultdict(list)
    for one in step.collectives:
        groups[not one.always, one.kind, one.devices].append(one.bytes)
    return [
        {
            "kind": kind,
            "on": "some steps" if sometimes else "every step",
            "devices": devices,
            "count": len(sizes),
            "bytes": sum(sizes),
            "largest": max(sizes),
        }
        for (sometimes, kind, devices), sizes in sorted(
            groups.items(), key=lambda item: (item[0][0], -sum(item[1]))
        )
    ]


def to_dict(report: Report) -> dict[str, Any]:
    """The report as JSON has it."""
    out = dataclasses.asdict(report)
    for name in ("training", "evaluation"):
        out[name]["collectives"] = exchanges(getattr(report, name))
    return out


def about(report: Report, estimated: bool) -> Iterator[str]:
    """What was compiled, in words."""
    hosts = f" of {report.hosts} hosts" if report.hosts > 1 else ""
    divided = f", parameters divided over {report.fsdp}" if report.fsdp > 1 else ""
    yield f"{report.topology}: {report.devices} devices ({report.device}){hosts}{divided}"
    yield (
        f"{report.parameters:,} parameters, {report.method}, {report.dtype}; a training step of "
        f"{report.rows} rows of {report.length}{' (an estimate)' if estimated else ''}, "
        f"{report.training.rows} on each device with the padding; an evaluation step has "
        f"{report.evaluation.rows} on each; compiled in {report.training.compile_seconds:.0f} and "
        f"{report.evaluation.compile_seconds:.0f} s"
    )
    if report.rows < report.devices:
        yield (
            f"note: {report.rows} rows a step leave {report.devices - report.rows} of "
            f"{report.devices} devices without any; raise train.batch_size or pass --rows"
        )


def memory_table(report: Report) -> Table:
    """The memory of each device."""
    from rich.table import Table

    known = "" if report.memory is None else f", of {report.memory / 2**30:.2f}"
    table = Table(title=f"Memory of each device, GiB{known}")
    table.add_column("step")
    names = list(report.training.memory)
    for name in (*names, "state beside", "all"):
        table.add_column(name, justify="right")
    for title, step, beside in (
        ("training", report.training, 0),
        ("evaluation", report.evaluation, report.beside),
    ):
        sizes = [*step.memory.values(), beside, step.total + beside]
        table.add_row(title, *(f"{size / 2**30:.3f}" for size in sizes))
    return table


def exchange_table(report: Report) -> Table:
    """What the devices exchange."""
    from rich.table import Table

    table = Table(title="Exchanges, MB on each device")
    for name in ("step", "when", "operation"):
        table.add_column(name)
    for name in ("among", "count", "MB", "largest"):
        table.add_column(name, justify="right")
    for title, step in (("training", report.training), ("evaluation", report.evaluation)):
        for row in exchanges(step):
            table.add_row(
                title,
                row["on"],
                row["kind"],
                "-" if row["devices"] is None else str(row["devices"]),
                str(row["count"]),
                *(f"{row[name] / 1e6:,.3f}" for name in ("bytes", "largest")),
            )
    return table


def conclusions(report: Report) -> Iterator[str]:
    """The work of a training step, and how long it takes at the least."""
    step = report.training
    model = step.matrix_flops + step.attention_flops
    pruned = "" if report.method in ("none", "fixed") else ", the update of the masks included"
    yield (
        f"a training step, on each device: {model / 1e9:,.1f} GFLOP by the formula (6 for each "
        f"weight of a matrix and token: {step.matrix_flops / 1e9:,.1f}, attention: "
        f"{step.attention_flops / 1e9:,.1f}); {step.xla_flops / 1e9:,.1f} GFLOP and "
        f"{step.xla_bytes_accessed / 1e9:,.1f} GB accessed as XLA counts the compiled program"
        f"{pruned}"
    )
    if report.lower_bound is None:
        yield f"no bound of the time: the peaks of {report.device} are not known here"
        return
    parts = ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in report.lower_bound.items())
    longest = max(report.lower_bound.values())
    yield (
        f"lower bound of a training step: {1e3 * longest:.2f} ms ({parts}, if each ran at its "
        "published peak and all at once). It is a bound, not a measurement"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: a mistake of the user's ends in one line and exit status 1."""
    with one_line("stopped before the end of the compilation"), contextlib.ExitStack() as stack:
        config, asked = parse(argv)
        from sparsejax.runtime import libtpu

        if asked.topology in libtpu.HERE:
            from sparsejax.runtime import processes

            stack.enter_context(processes.joined(config.parallel))
        else:
            libtpu.prepare()
        run(config, asked)


if __name__ == "__main__":
    main()
