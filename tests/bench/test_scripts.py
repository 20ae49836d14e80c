"""The benchmarks run; what they measure is another matter."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


def test_a_report_says_what_it_ran_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the CPU does is not said to be the work of an accelerator that is there as well."""
    monkeypatch.syspath_prepend(str(BENCH))
    workload = importlib.import_module("workload")
    monkeypatch.setattr(workload, "device", lambda: "1 x accelerator")
    assert workload.report(("numpy",))["device"] == "1 x accelerator"
    assert workload.report(("numpy",), workload.host())["device"] == workload.host()
    assert workload.host().startswith(f"{len(os.sched_getaffinity(0))} CPU cores, ")


def train_speed(
    shared: Path, out: Path, batches: list[str], sides: list[str]
) -> dict[str, dict[str, float]]:
    """Rates by batch and side of a short run, whose report is consistent in itself."""
    pytest.importorskip("torch")
    line = [sys.executable, str(BENCH / "train_speed.py"), "--shared", str(shared)]
    line += ["--out", str(out), "--repeats", "1", "--seconds", "0.5"]
    line += ["--sentences", "100", "--batches", *batches, "--sides", *sides]
    subprocess.run(line, check=True, timeout=900)
    report: dict[str, Any] = json.loads(out.read_text())
    assert set(report["batches"]) == set(batches)
    mean = []
    for batch, found in report["batches"].items():
        rates = found["tokens_per_second"]
        first = next(iter(rates))
        for name, rate in rates.items():
            (run,) = found["repeats"][name]
            assert run["tokens_per_second"] == rate > 0 < run["ms_per_step"]
            assert found[f"ratio_to_{first}"][name] == rate / rates[first]
            if name != "pytorch, best":  # which has sentences of like lengths in a batch
                mean.append(rate * run["ms_per_step"] / 1e3 / int(batch))
    # The same sentences on average, however few batches there was time for.
    assert all(0.5 * mean[0] < tokens < 2 * mean[0] for tokens in mean)
    return {batch: found["tokens_per_second"] for batch, found in report["batches"].items()}


def test_train_speed(shared: Path, tmp_path: Path) -> None:
    sides = ["hugging face", "sparsejax dense"]
    rates = train_speed(shared, tmp_path / "speed.json", ["8"], sides)["8"]  # they fill a row
    # 1.3 times where the machine is not busy, and 1.9 with 32; other tests run at the same time.
    assert rates["sparsejax dense"] > 0.5 * rates["hugging face"]


@pytest.mark.parametrize(
    ("rates", "counted", "settled"),
    [([10, 10], 2, True), ([1, 50, 99, 100], 4, True), ([10, 8], 2, False), ([1, 2] * 9, 6, False)],
)
def test_a_side_settles(
    monkeypatch: pytest.MonkeyPatch, rates: list[int], counted: int, settled: bool
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    kind = importlib.import_module("train_speed").Process
    process = kind.__new__(kind)
    process.settling, process.settled, turns = [], False, iter(rates)
    process.measure = lambda note: {"tokens_per_second": rate} if (rate := next(turns, 0)) else None
    process.settle()
    assert (len(process.settling), process.settled) == (counted, settled)


@pytest.mark.slow
def test_train_speed_of_the_other_sides(shared: Path, tmp_path: Path) -> None:
    sides = ["pytorch, best", "sparsejax magnitude", "sparsejax movement"]
    rates = train_speed(shared, tmp_path / "speed.json", ["8", "16"], sides)["16"]
    assert rates["sparsejax movement"] > 0.3 * rates["sparsejax magnitude"]


def test_prune_speed(tmp_path: Path) -> None:
    out = tmp_path / "prune.json"
    line = [sys.executable, str(BENCH / "prune_speed.py"), "--out", str(out)]
    line += ["--sizes", "10000", "--layers", "1", "--width", "64", "--vocabulary", "1000"]
    line += ["--repeats", "2", "--rows", "1"]
    subprocess.run(line, check=True, timeout=900)
    report = json.loads(out.read_text())
    assert report.keys() >= {"date", "device", "versions", "kth_value", "memory", "update"}

    (ranking,) = report["kth_value"]
    assert ranking["k"] == ranking["kept"]["top_k_mask"] == 1000
    assert ranking["ms"].keys() == {"top_k_mask", "sort", "lax.top_k"}
    assert all(len(times) == 2 for times in ranking["repeats_ms"].values())

    hard = {"magnitude", "magnitude, global", "magnitude, 2:4", "random"}
    latent = {"latent_magnitude", "movement", "soft_movement"}
    assert report["update"].keys() == hard | latent
    for name, cost in report["update"].items():
        timed = {"adamw", "due", "not_due", "at_rest", "refresh"} | (
            {"effective_params"} if name in latent else set()
        )
        assert cost["ms"].keys() == timed | {"amortised"}
        assert cost["repeats_ms"].keys() == timed
    # Masks were brought up to date: the last time on step 550 of a schedule that ends with 1000.
    assert report["update"]["magnitude"]["pruned"] == pytest.approx(0.9 * (1 - 0.45**3), abs=1e-4)

    memory = report["memory"]
    targets = report["model"]["targets"]
    for name, cost in memory["methods"].items():
        assert cost["mask_bytes_per_target"] == 1, name
        learned = 12 if "movement" in name else 0  # a score and Adam's two moments
        assert cost["extra_bytes_per_target"] == pytest.approx(1 + learned, abs=1e-3), name
    assert targets / 8 <= memory["disk_bytes"] < targets / 8 + 4096

    assert report["train_step"]["ms"] > 0
    assert report["train_step"]["shares"].keys() == hard | latent


@pytest.mark.slow
def test_one_shot_damage(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "damage.json"
    line = [sys.executable, str(BENCH / "one_shot_damage.py"), "--shared", str(shared)]
    subprocess.run([*line, "--out", str(out), "--epochs", "1", "--sentences", "8"], check=True)
    scores = json.loads(out.read_text())["macro_f1"]
    assert set(scores) == {"movement", "magnitude", "random"}
    assert len({of["0"] for of in scores.values()}) == 1  # nothing removed: the same model
    assert all(set(of) == {"0", "0.05", "0.1", "0.25", "0.5"} for of in scores.values())


def test_evaluate_speed(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "speed.json"
    line = [sys.executable, str(BENCH / "evaluate_speed.py"), "--shared", str(shared)]
    subprocess.run(
        [*line, "--out", str(out), "--repeats", "1", "--sentences", "2"], check=True, timeout=900
    )
    report = json.loads(out.read_text())
    assert len(report["sentences_per_second"]) == 4 and report["sentences"] == 16
    rates = report["sentences_per_second"]
    ours = rates.pop("sparsejax")
    assert ours > 0.2 * max(rates.values())  # generous: other tests run at the same time


@pytest.mark.slow
def test_prepare_data(shared: Path, tmp_path: Path) -> None:
    for code in ("jv", "yo"):
        (tmp_path / "data" / code).mkdir(parents=True)
        text = (shared / "data/panx" / code / "train.tsv").read_text("utf-8")
        (tmp_path / "data" / code / "train.tsv").write_text(text, "utf-8")
    line = [sys.executable, str(BENCH / "prepare_data.py"), "--data", str(tmp_path / "data")]
    line += ["--model", str(shared / "models/e5-small-39"), "--out", str(tmp_path / "out.json")]
    subprocess.run(line, check=True, timeout=900)
    report = json.loads((tmp_path / "out.json").read_text())
    for found in (report["first"], report["second"]):
        assert (found["languages"], found["sentences"]) == (2, 200)
        assert 0.5 < found["row_share_filled"] <= 1


@pytest.mark.slow
def test_cut_speed(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "cut.json"
    line = [sys.executable, str(BENCH / "cut_speed.py"), "--shared", str(shared)]
    subprocess.run(
        [*line, "--out", str(out), "--rounds", "1", "--rows", "1"], check=True, timeout=900
    )
    report = json.loads(out.read_text())
    sizes = report["encoder_parameters"]
    for side in ("sparsejax", "pytorch"):
        assert set(report["tokens_per_second"][side]) == set(sizes)
        assert all(x < 1e-4 for x in report["largest_difference_of_logits"][side].values())
    assert (
        sizes["half of both, cut"] < 0.51 * sizes["whole"] == 0.51 * sizes["half of both, masked"]
    )


def test_startup(tmp_path: Path) -> None:
    out = tmp_path / "startup.json"
    line = [sys.executable, str(BENCH / "startup.py"), "--out", str(out), "--repeats", "1"]
    subprocess.run(line, check=True, timeout=600)
    seconds = json.loads(out.read_text())["seconds"]
    # What was compiled is found; and --help does not wait for JAX.
    assert seconds["first step, warm"] < 0.9 * seconds["first step, cold"]
    assert seconds["train --help"] < 0.5 * seconds["first step, warm"]
