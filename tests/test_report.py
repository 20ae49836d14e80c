"""`python -m sparsejax.report`: what it writes, what it leaves out, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic_runs as synthetic

from sparsejax import evaluate, report, train
from sparsejax.config import Config, DataConfig, ModelConfig, PruneConfig, TrainConfig

CODES = ("en", "sw", "yo")
FILES = {
    "analysis.json", "figures", "index.html", "means.csv", "scores.csv", "summary.csv",
    "tables.md", "tables.tex",
}  # fmt: skip


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    for seed in range(2):
        for method in ("none", "magnitude"):
            run = synthetic.config(CODES, method, 0.9, seed)
            f1 = dict.fromkeys(CODES, 0.8 - 0.1 * (method != "none") + 0.01 * seed)
            synthetic.write_run(tmp_path / f"grid/runs/{method}-{seed}", run, f1)
    return tmp_path / "grid"


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_report(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    report.main([str(grid), "--output", str(output), "--title", "Ours & <theirs>"])
    assert {path.name for path in output.iterdir()} == FILES
    figures = {path.name for path in (output / "figures").iterdir()}
    assert "f1-multilingual.svg" in figures and "f1-multilingual.pdf" in figures
    assert not any(name.startswith(("layers", "robustness")) for name in figures)
    tables = (output / "tables.md").read_text("utf-8")
    assert "robustness: no pruned run was evaluated with entities replaced" in tables
    result = json.loads((output / "analysis.json").read_text("utf-8"))
    assert result["title"] == "Ours & <theirs>" and len(result["runs"]) == 4
    assert "<theirs>" not in (output / "index.html").read_text("utf-8")
    assert "4 runs" in capsys.readouterr().out

    before = snapshot(output)
    (output / "figures/layers.svg").write_text("of an earlier report")
    (output / "figures/mine.svg").write_text("not of a report")
    report.main([str(grid), "--output", str(output), "--title", "Ours & <theirs>"])
    assert snapshot(output) == before | {"figures/mine.svg": b"not of a report"}


def test_damaged_and_unfinished_runs_are_left_out(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (grid / "runs/none-1/results.jsonl").write_bytes(b"")
    synthetic.write_run(grid / "runs/begun", synthetic.config(CODES, "magnitude", 0.5))
    report.main([str(grid), "--output", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert f"left out: {grid}/runs/none-1/results.jsonl: empty" in said.err
    notes = json.loads((tmp_path / "out/analysis.json").read_text("utf-8"))["notes"]
    assert any(note.startswith(f"left out: {grid}/runs/none-1") for note in notes)
    assert "1 of 4 runs unfinished, not counted: runs/begun" in notes


def error(arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        report.main(arguments)
    message = str(stopped.value)
    assert message.startswith("error: ") and "\n" not in message
    return message


def test_refused(grid: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    output = ["--output", str(tmp_path / "out")]
    assert "directories of runs" in error(output)
    assert "not a directory" in error([str(tmp_path / "nowhere"), *output])
    assert "no runs" in error([str(tmp_path / "empty"), *output])
    assert "is a file" in error([str(grid), "--output", str(tmp_path / "file")])
    inside = grid / "runs/none-0/model/report"
    assert "inside the run" in error([str(grid), "--output", str(inside)])
    assert "unknown flag --outptu (did you mean --output?)" in error([str(grid), "--outptu", "x"])
    for path in (grid / "runs").iterdir():
        (path / "results.jsonl").write_bytes(b"")
    assert "no run that can be read" in error([str(grid), *output])
    assert not (tmp_path / "out").exists()


def test_without_matplotlib(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = report.importlib.util.find_spec
    monkeypatch.setattr(
        report.importlib.util, "find_spec", lambda n: None if n == "matplotlib" else real(n)
    )
    assert "a report needs matplotlib: pip install 'sparsejax[report]'" in error([str(grid)])


def test_help_loads_nothing_heavy() -> None:
    heavy = ["jax", "transformers", "datasets", "matplotlib", "pandas", "scipy", "numpy"]
    program = (
        "import sys; from sparsejax import report\n"
        "try: report.main(['--help'])\n"
        f"finally: print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "--title" in done.stdout
    assert done.stderr.strip() == "[]"


def test_analysing_loads_neither_jax_nor_matplotlib(grid: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from sparsejax.reporting import analysis, runs, tables, figures\n"
        f"found = runs.find([Path({str(grid)!r})])\n"
        "result = analysis.analyse([runs.read(p, n) for p, n in found.items()], '')\n"
        "tables.tables(result)\n"
        "print([n for n in ('jax', 'transformers', 'datasets', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


TINY = Config(
    data=DataConfig(languages=("en", "jv"), train_sentences=60, eval_sentences=20),
    model=ModelConfig(layers=1, width=32, heads=2, intermediate=64, vocabulary=600),
    train=TrainConfig(epochs=6, batch_size=16, learning_rate=3e-3),
)


def test_real_runs(tmp_path: Path) -> None:
    """Trained and evaluated by this package, so that rows and files are what they really are."""
    for method in ("none", "magnitude"):
        run = train.run(
            dataclasses.replace(
                TINY, prune=PruneConfig(method, 0.5), output=str(tmp_path / f"runs/{method}")
            )
        )
        evaluate.main([str(run), "--perturb", "noise"])
    report.main([str(tmp_path / "runs"), "--output", str(tmp_path / "out")])
    result = json.loads((tmp_path / "out/analysis.json").read_text("utf-8"))
    rows = [
        json.loads(line)
        for line in (tmp_path / "runs/magnitude/results.jsonl").read_text("utf-8").splitlines()
    ]
    for kind in ("none", "noise"):
        (expected,) = (
            row["f1"]
            for row in rows
            if row.get("language") == "macro" and row["perturbation"] == kind
        )
        (found,) = (
            row["f1"]["mean"]
            for row in result["groups"]
            if (row["variant"], row["by"], row["perturbation"]) == (1, "all", kind)
        )
        assert found == pytest.approx(expected, abs=1e-6)
    assert result["variants"][1]["label"] == "multilingual, magnitude, 50 %"
    assert {row["sparsity"] for row in result["layers"]} == {0.5}
    change = next(row for row in result["groups"] if row["variant"] == 1)["change"]
    assert change["of"] == "sentences" and change["n"] == 40
