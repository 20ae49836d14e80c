"""The tables of docs/benchmarks.md, made from the JSON files in docs/benchmarks/.

    python bench/tables.py           writes them into the page
    python bench/tables.py --check   exit status 1 where the page has other ones

A table stands between `<!-- NAME.json -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
Report = dict[str, Any]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown, the first column to the left."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def about(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    commit = f"commit {report['commit']}; " if report.get("commit") else ""
    return f"{report['device']}; {report['date']}; {commit}{versions}."


def span(values: list[float], form: str = ",.0f") -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


def rows_trained(found: Report) -> str:
    """Of the word embeddings; older reports, in which all are, do not say so."""
    rows = found.get("rows_trained")
    return f", {rows:,} word embeddings trained" if rows else ""


def train_speed(report: Report) -> str:
    several = len(report["batches"]) > 1
    first = next(iter(report["batches"].values()))
    rows = []
    for batch, found in report["batches"].items():
        rates, mfu = found["tokens_per_second"], found.get("mfu")
        for name, rate in rates.items():
            runs = found["repeats"][name]
            # Some reports are what was printed, which steps are not.
            steps = [run["ms_per_step"] for run in runs if "ms_per_step" in run]
            step = f"{statistics.median(steps):,.{1 if steps[0] < 100 else 0}f}" if steps else ""
            cells = [f"{rate:,.0f}", span([run["tokens_per_second"] for run in runs])]
            cells += [step, f"{rate / next(iter(rates.values())):.2f}"]
            note = "" if found.get("settled", {}).get(name, True) else " (not settled)"
            rows.append([batch] * several + [name + note, *cells])
            rows[-1] += [f"{100 * mfu[name]:.1f} %"] if mfu else []
    head = ["sentences a step"] * several
    head += ["", "tokens/s", "least and most", "ms a step", "ratio"] + ["MFU"] * ("mfu" in first)
    settings = f"{report['model']}, {report['dtype']}"
    settings += "" if several else f", {next(iter(report['batches']))} sentences a step"
    if "rows_trained" in first:
        settings += f"; sparsejax trains {first['rows_trained']:,} word embeddings"
    return f"{settings}; {about(report)}\n\n" + table(head, rows)


def step_parts(report: Report) -> str:
    ms, least, tokens = report["ms"], report["least_ms"], report["tokens"]
    rows = [[name, f"{value:,.0f}"] for name, value in ms.items()]
    bound = sum(least.values())
    rows += [[f"{name} at these rates", f"{value:,.0f}"] for name, value in least.items()]
    settings = f"{report['model']}, {report['dtype']}, {report['rows']} rows of 128"
    text = (
        f"{settings} with {tokens:,} pieces{rows_trained(report)}; {about(report)}\n\n"
        f"One product: {report['product_flops_per_second'] / 1e9:,.0f} GFLOP/s; memory: "
        f"{report['memory_bytes_per_second'] / 1e9:,.0f} GB/s. The step makes "
        f"{1e3 * tokens / ms['step']:,.0f} tokens/s; its products and update alone, at these "
        f"rates, would be {1e3 * tokens / bound:,.0f}."
    )
    return f"{text}\n\n" + table(["", "ms"], rows)


def evaluate_speed(report: Report) -> str:
    rates = report["sentences_per_second"]
    best = max(rate for name, rate in rates.items() if name != "sparsejax")
    rows = [
        [name, f"{rate:,.0f}", span(report["repeats"][name]), f"{rate / best:.2f}"]
        for name, rate in rates.items()
    ]
    head = ["", "sentences/s", "least and most", "ratio to the best pipeline"]
    return f"{about(report)}\n\n" + table(head, rows)


def evaluate_all(report: Report) -> str:
    parts = ("packing", "prediction", "unpacking", "clean", "scoring", "total")
    host = report["host_only"] | {"prediction": report["host_only"]["batches"]}
    rows = [
        [name, *(f"{seconds[part]:.3f}" for part in parts)]
        for name, seconds in (("evaluation", report["seconds"]), ("host only", host))
    ]
    mfu = "" if report["mfu"] is None else f", MFU {100 * report['mfu']:.1f} %"
    attention = 100 * report["attention_share_of_flops"]
    text = (
        f"{report['model']}, {report['dtype']}; {about(report)}\n\n"
        f"{report['sentences']:,} sentences of {report['languages']} languages: "
        f"{report['sentences_per_second']:,.0f} sentences/s, "
        f"{report['tokens_per_second']:,.0f} useful tokens/s{mfu}; padding "
        f"{100 * report['padding']:.1f} %; attention {attention:.1f} % of all operations. Seconds:"
    )
    return f"{text}\n\n" + table(["", *parts], rows)


def evaluate_host(report: Report) -> str:
    seconds = report["host_only"]
    text = f"{about(report)} {report['sentences']:,} sentences, {report['rows']:,} rows. Seconds:"
    return f"{text}\n\n" + table(
        ["", *seconds], [["host only", *(f"{s:.2f}" for s in seconds.values())]]
    )


def small_runs(report: Report) -> str:
    rows = []
    for sentences, found in report["by_sentences"].items():
        if found["runs"] == 1:
            continue
        again = found["shares_without_compiling"]
        rows.append(
            [
                f"{int(sentences):,}",
                str(found["runs"]),
                f"{found['first']:.1f}",
                f"{found['later']:.1f}",
                str(found["later_that_compile"]),
                f"{found['later_without_compiling']:.1f}" if again else "",
                f"{100 * again['not training']:.0f} %" if again else "",
                f"{100 * again['checkpoints']:.0f} %" if again else "",
            ]
        )
    head = ["sentences", "runs", "first, s", "later, s", "later that compile"]
    head += ["later, nothing compiled, s", "of it not training", "of it checkpoints"]
    runs = len(report["runs"])
    text = (
        f"{report['model']}; {about(report)} {runs} runs in {report['wall']:,.0f} s; "
        f"{report['programs']} programs were compiled, in {report['compile_seconds']:,.0f} s."
    )
    return f"{text}\n\n" + table(head, rows)


def growth(report: Report) -> str:
    mega = 1e6
    sentences = [
        [
            f"{p['sentences']:,}",
            f"{p['seconds']['reading and tokenising']:.1f}",
            f"{p['seconds']['packing']:.2f}",
            f"{p['peak_bytes'] / mega:,.0f}",
        ]
        for p in report["sentences"]
    ]
    lengths = [
        [
            str(p["length"]),
            f"{p['microseconds_per_token']:,.0f}",
            f"{p['bytes_of_arguments'] / mega:,.0f}",
            f"{p['bytes_of_temporaries'] / mega:,.0f}",
            f"{100 * p['attention_share_of_flops']:.1f} %",
        ]
        for p in report["lengths"]
    ]
    languages = [
        [
            str(p["languages"]),
            f"{p['pieces']:,}",
            f"{p['seconds']['tagging']:.2f}",
            f"{1e3 * p['seconds']['scoring']:.0f}",
            f"{1e3 * p['seconds']['table']:.0f}",
            f"{p['peak_bytes'] / mega:,.0f}",
        ]
        for p in report["languages"]
    ]
    heads = (
        ["training sentences", "reading and tokenising, s", "packing, s", "peak, MB"],
        ["length", "µs/useful token", "arguments, MB", "temporaries, MB", "attention, operations"],
        ["languages", "pieces", "tagging, s", "scoring, ms", "table, ms", "peak, MB"],
    )
    made = (table(h, rows) for h, rows in zip(heads, (sentences, lengths, languages), strict=True))
    return f"{about(report)}\n\n" + "\n\n".join(made)


def grid(report: Report) -> str:
    hours = report["hours"]
    text = (
        f"{report['model']}, {report['dtype']}, {report['batch']} sentences a step, "
        f"{report['epochs']} epochs; {about(report)}\n\n"
        f"One epoch of {report['sentences']:,} sentences ({report['tokens']:,} pieces): "
        f"{report['seconds_of_an_epoch']:,.0f} s. "
        f"{report['runs']:,} runs, hours:"
    )
    rows = [["of the grid", *(f"{value:,.1f}" for value in hours.values())]]
    return f"{text}\n\n" + table(["", *hours], rows)


def prune_speed(report: Report) -> str:
    ranked = [
        [
            f"{one['n'] / 1e6:,.0f} M",
            *(f"{one['ms'][side]:,.0f}" for side in ("top_k_mask", "sort", "lax.top_k")),
            f"{one['ms']['sort'] / one['ms']['top_k_mask']:,.0f}",
        ]
        for one in report["kth_value"]
    ]
    head = ["n", "`prune.top_k_mask`", "by `jnp.sort`", "by `jax.lax.top_k`", "sort / top_k_mask"]
    rows = []
    for name, one in report["update"].items():
        ms, share = one["ms"], report["train_step"]["shares"][name]
        parts = ("adamw", "at_rest", "refresh", "not_due", "due")
        cells = [*(f"{ms[part]:,.0f}" for part in parts), f"{ms['amortised'] / ms['adamw']:.2f}"]
        cells += [f"{100 * share['mask_update']:.1f} %", f"{100 * share['total']:.1f} %"]
        extra = report["memory"]["methods"][name]["extra_bytes_per_target"]
        rows.append([name, *cells, f"{extra:.0f}"])
    columns = ["method", "AdamW", "at rest", "refresh", "alone, at rest", "alone, due"]
    columns += ["mean / AdamW", "mask updates", "all of pruning", "bytes"]
    step = report["train_step"]
    text = (
        f"{about(report)} Medians of {report['repeats']}, of sorts above ten seconds one. A dense "
        f"step of {step['rows']} rows takes {step['ms']:,.0f} ms."
    )
    return f"{text}\n\n{table(head, ranked)}\n\n{table(columns, rows)}"


def profile(report: Report) -> str:
    text = (
        f"{report['model']}, {report['dtype']}, {report['rows']} rows of 128 with "
        f"{report['tokens']:,} pieces{rows_trained(report)}; {about(report)} "
        f"A step: {report['ms_of_a_step']:,.1f} ms."
    )
    rows = [
        [name, f"{one['ms']:,.2f}", f"{one['kernels']:,.0f}"]
        for name, one in report["groups"].items()
    ]
    return f"{text}\n\n" + table(["", "ms a step", "kernels"], rows)


def startup(report: Report) -> str:
    rows = []
    for name, seconds in report["seconds"].items():
        times = report["repeats"][name]
        shown = name if name.startswith("first step") else f"`{name}`"
        rows.append([shown, f"{seconds:.2f}", span(times, ".2f"), str(len(times))])
    head = ["", "s", "least and most", "repeats"]
    return f"{about(report)}\n\n{table(head, rows)}"


def prepare_data(report: Report) -> str:
    first = report["first"]
    different = f", {first['different_pieces']:,} different ones"
    text = (
        f"{about(report)} {first['sentences']:,} sentences of {first['languages']} languages, "
        f"{first['pieces']:,} pieces{different}, which fill "
        f"{100 * first['row_share_filled']:.1f} % of {first['rows']:,} rows of 128."
    )
    rows = [
        [
            name,
            *(f"{report[key][part]:.1f}" for part in ("seconds_to_prepare", "seconds_to_pack")),
            f"{report[key]['cache_bytes'] / 1e6:,.0f}",
            f"{report[key]['peak_bytes'] / 1e9:.2f}",
        ]
        for name, key in (("the first time", "first"), ("from the cache", "second"))
    ]
    head = ["", "reading and tokenising, s", "packing, s", "cache, MB", "peak memory, GB"]
    return f"{text}\n\n{table(head, rows)}"


MAKERS: dict[str, Callable[[Report], str]] = {
    "train_speed": train_speed,
    "train_speed_mbert": train_speed,
    "step_parts": step_parts,
    "step_parts_before": step_parts,
    "step_parts_mbert": step_parts,
    "evaluate_speed": evaluate_speed,
    "evaluate_all": evaluate_all,
    "evaluate_host": evaluate_host,
    "small_runs": small_runs,
    "growth": growth,
    "prune_speed": prune_speed,
    "profile": profile,
    "startup": startup,
    "prepare_data": prepare_data,
    "grid": grid,
    "amd/train_speed": train_speed,
    "amd/step_parts": step_parts,
    "amd/evaluate_speed": evaluate_speed,
    "amd/evaluate_speed_before": evaluate_speed,
    "gpu/train": train_speed,
    "gpu/train_2048": train_speed,
    "gpu/profile": profile,
    "gpu/profile_before": profile,
    "gpu/evaluate": evaluate_all,
    "gpu/small_runs": small_runs,
    "gpu/grid": grid,
}


def made(text: str) -> str:
    """The page with every table as the JSON files have it; the first mistake ends the script."""

    def one(match: re.Match[str]) -> str:
        name = match[1]
        path = DOCS / "benchmarks" / f"{name}.json"
        if name not in MAKERS or not path.exists():
            sys.exit(f"error: {name}.json: there is no such file, or no table of it")
        return f"<!-- {name}.json -->\n{MAKERS[name](json.loads(path.read_text()))}\n<!-- end -->"

    return re.sub(r"<!-- (\S+)\.json -->\n.*?<!-- end -->", one, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    args = parser.parse_args()
    page = DOCS / "benchmarks.md"
    before = page.read_text("utf-8")
    after = made(before)
    if not args.check:
        page.write_text(after, "utf-8")
    elif after != before:
        sys.exit("error: docs/benchmarks.md: other tables than those of the JSON files; run this")


if __name__ == "__main__":
    main()
