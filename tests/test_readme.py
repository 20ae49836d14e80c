"""Every command and every snippet of the README and of the guides in docs does what it says."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparsejax import train
from sparsejax.data import embedded
from sparsejax.grid import spec
from sparsejax.runtime import results

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text("utf-8")
SMALL = "--train.epochs 1 --data.train_sentences 30 --data.eval_sentences 10"

SMALL_MODEL = "--model.layers 1 --model.width 16 --model.heads 2 --model.intermediate 32"


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str = TEXT) -> list[str]:
    lines = "".join(blocks("bash", text)).replace("\\\n", " ").splitlines()
    return [part.strip() for line in lines for part in line.split("&&")]


def test_the_two_commands_stand_at_the_top() -> None:
    assert commands()[:4] == [
        "pip install .",
        "python -m sparsejax.train",
        "pip install '.[test]'",
        "pytest",
    ]


DATA, EVALUATION, RUNS, GRIDS = (
    (README.parent / f"docs/{name}.md").read_text("utf-8")
    for name in ("data", "evaluation", "runs", "grids")
)
EVERY = [*commands(), *commands(DATA), *commands(EVALUATION), *commands(RUNS)]
TRAIN = [c for c in EVERY if c.startswith("python -m sparsejax.train ")]
EVALUATE = [c for c in EVERY if c.startswith("python -m sparsejax.evaluate ")]
EVALUATE_FLAGS = re.findall(r"^\| `(--.*?)` \|", EVALUATION, flags=re.MULTILINE)
FLAGS = re.findall(r"^\| `(--.*?)` \|", TEXT, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the README's capitals stand for: a user's DATA, MODEL and finished RUN."""
    root = tmp_path_factory.mktemp("inputs")
    for code in ("en", "de", "ru", "ar", "sw"):
        (root / "data" / code).mkdir(parents=True)
        for split in ("train", "test"):
            text = "\n".join(
                "".join(f"{word}\t{tag}\n" for word, tag in zip(*sentence, strict=True))
                for sentence in embedded.generate(code, split)[:40]
            )
            (root / "data" / code / f"{split}.tsv").write_text(text, "utf-8")
    small = [*SMALL.split(), *SMALL_MODEL.split()]
    for name in ("run", "other"):
        model = ["--data.length", "128", "--output", str(root / name)]
        run(["python", "-m", "sparsejax.train", *model, *small], root)
    return {
        "DATA": str(root / "data"),
        "MODEL": str(root / "run/model"),
        "RUN": str(root / "run"),
        "OTHER": str(root / "other"),
        "OUT": str(root / "out"),
    }


def run(words: list[str], where: Path) -> None:
    words = [sys.executable if word == "python" else word for word in words]
    result = subprocess.run(words, cwd=where, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", TRAIN)
def test_command(
    command: str, inputs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(README.parent / "configs")
    words = filled(command, inputs)
    if "--output" not in words:
        words += ["--output", "runs/mine"]
    assert words[:3] == ["python", "-m", "sparsejax.train"]
    words += SMALL.split()
    if "--model.path" not in words:
        words += SMALL_MODEL.split()
    if "--parallel.cpu_devices" in words:  # which this process can no longer have
        run(words, tmp_path)
    else:
        train.main(words[3:])
    assert (tmp_path / "runs/mine/results.jsonl").is_file()


def filled(command: str, inputs: dict[str, str]) -> list[str]:
    return [
        re.sub(r"^[A-Z]+\b", lambda m: inputs.get(m[0], m[0]), word)
        for word in shlex.split(command)
    ]


def test_evaluations(
    inputs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process: each of the commands, then all the flags at once."""
    from sparsejax import evaluate

    assert len(EVALUATE) >= 4 and len(EVALUATE_FLAGS) >= 7
    monkeypatch.chdir(tmp_path)
    for command in [*EVALUATE, f"python -m sparsejax.evaluate RUN {' '.join(EVALUATE_FLAGS)}"]:
        python, m, module, *words = filled(command, inputs)
        assert (python, m, module) == ("python", "-m", "sparsejax.evaluate")
        evaluate.main(words)
    assert (Path(inputs["OUT"]) / "noise/sw").is_dir()


def test_predictions_and_exports(
    inputs: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    from sparsejax import export, predict

    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("Anna lives in Berlin.\n\n")
    shutil.copytree(inputs["RUN"], "run")
    programs = {"sparsejax.predict": predict, "sparsejax.export": export}
    done = []
    for command in commands():
        if not command.startswith("python -m "):
            continue
        _, _, module, *words = filled(command, inputs | {"RUN": "run"})
        if module in programs:
            words = words[: words.index(">")] if ">" in words else words
            programs[module].main(words)
            done.append(module)
    assert sorted(done) == ["sparsejax.export"] * 2 + ["sparsejax.predict"] * 2
    lines = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()[:3] if line]
    assert [line["text"] for line in lines][1:] == ["Anna lives in Berlin.", ""]
    assert Path("run/export/compressed-int8/README.md").is_file()


def test_grids_and_their_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand, with a smaller model and fewer sentences; what is for SLURM only listed."""
    from sparsejax import report, sweep

    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(README.parent / "configs")
    asked = [c for c in (*commands(), *commands(GRIDS)) if re.search(r"\.(sweep|report) ", c)]
    assert len(asked) == 6
    for command in asked:
        _, _, module, *words = shlex.split(command)
        if module == "sparsejax.report":
            report.main(words)
        else:
            only_listed = ["--dry-run"] if "slurm" in words else []
            sweep.main([*words, *SMALL.split(), *SMALL_MODEL.split(), *only_listed])
    said = capsys.readouterr().out
    done = "finished: 18 of 18 runs"
    # One for each method, and one for each number of rows: as they are, and three replacements.
    count = re.search(rf"{done}, 18 in this process; programs compiled, or found: (.*)", said)
    assert count is not None and count[1] in [f"3 steps, {n} predict" for n in range(1, 5)]
    found = results.read(tmp_path / "runs/quickstart/results.jsonl")
    assert {row.get("perturbation") for row in found} >= {"none", "language", "script", "family"}
    assert f"{done}, 0 in this process" in said  # the same in the guide
    assert "1845 runs" in said
    assert (tmp_path / "report/index.html").is_file()
    counts = re.findall(r"^\| `(configs/sweeps/\S+)` \| ([\d,]+) \|", GRIDS, re.MULTILINE)
    assert len(counts) == len(list((README.parent / "configs/sweeps").iterdir()))
    for path, number in counts:
        assert len(spec.read(README.parent / path, {}).runs) == int(number.replace(",", ""))


# Those that go with any other; the rest choose what to prune and how.
TOGETHER = [f for f in FLAGS if not f.startswith(("--prune.method", "--prune.pattern"))]


@pytest.mark.parametrize(
    "flags", [" ".join(TOGETHER), *(f for f in FLAGS if f not in TOGETHER)], ids=lambda f: f[:30]
)
def test_flags(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(FLAGS) >= 9
    monkeypatch.chdir(tmp_path)
    small = [*SMALL.split(), *SMALL_MODEL.split()]
    train.main(["--output", "runs/mine", *small, *shlex.split(flags)])
    assert (tmp_path / "runs/mine/model").is_dir()


def test_named_files_exist() -> None:
    named = re.findall(r"\]\((\S+?)\)", TEXT) + re.findall(r"`(configs/\S+?)`", TEXT)
    named += re.findall(r"`(configs/\S+?)`", GRIDS)
    assert named
    assert [name for name in named if not (README.parent / name).exists()] == []


def test_python_snippets(inputs: dict[str, str]) -> None:
    tagger, pruning = blocks("python")
    printed = re.search(r"print\((.*)\)  # ([\d.]+)", pruning)
    assert printed is not None
    names: dict[str, object] = {}
    exec(pruning, names)
    assert float(eval(printed[1], names)) == float(printed[2])
    pytest.importorskip("torch")
    exec(tagger.replace("runs/mine/model", inputs["MODEL"]), names)
    assert names["tagger"]("Anna lives in Berlin") is not None  # type: ignore[operator]


def test_pruning_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its snippets, in their order, print what stands beside or below them."""
    monkeypatch.chdir(tmp_path)
    text = (README.parent / "docs/pruning.md").read_text("utf-8")
    names: dict[str, object] = {}
    shown = 0
    for snippet in blocks("python", text):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(snippet, names)
        for expression, beside in re.findall(r"^print\((.*)\)  # (.*)$", snippet, re.MULTILINE):
            assert beside.split(":")[0] in out.getvalue(), expression
            shown += 1
        if "print(prune.audit" in snippet:
            table = re.search(r"```\n(weights .*?)```", text, flags=re.DOTALL)
            assert table is not None and out.getvalue().split() == table[1].split()
            shown += 1
    assert shown == 4
