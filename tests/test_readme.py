"""Every command and every snippet of the README does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sparsejax.data import embedded

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text("utf-8")
SMALL = "--train.epochs 1 --data.train_sentences 30 --data.eval_sentences 10"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [part.strip() for line in lines for part in line.split("&&")]


def test_the_two_commands_stand_at_the_top() -> None:
    assert commands()[:4] == [
        "pip install .",
        "python -m sparsejax.train",
        "pip install '.[test]'",
        "pytest",
    ]


TRAIN = [c for c in commands() if c.startswith("python -m sparsejax.train ")]
FLAGS = re.findall(r"^\| `(--.*?)` \|", TEXT, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the README's capitals stand for: a user's DATA and MODEL."""
    root = tmp_path_factory.mktemp("inputs")
    for code in ("en", "de", "ru", "ar", "sw"):
        (root / "data" / code).mkdir(parents=True)
        for split in ("train", "test"):
            text = "\n".join(
                "".join(f"{word}\t{tag}\n" for word, tag in zip(*sentence, strict=True))
                for sentence in embedded.generate(code, split)[:40]
            )
            (root / "data" / code / f"{split}.tsv").write_text(text, "utf-8")
    model = ["--data.length", "128", "--output", str(root / "run")]
    run(["python", "-m", "sparsejax.train", *model, *SMALL.split()], root)
    return {"DATA": str(root / "data"), "MODEL": str(root / "run/model")}


def run(words: list[str], where: Path) -> None:
    words = [sys.executable if word == "python" else word for word in words]
    result = subprocess.run(words, cwd=where, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", TRAIN)
def test_command(command: str, inputs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(README.parent / "configs")
    words = [inputs.get(word, word) for word in shlex.split(command)]
    run([*words, *SMALL.split(), "--output", str(tmp_path / "run")], tmp_path)


def test_flags(tmp_path: Path) -> None:
    """All that go together, in one run."""
    assert len(FLAGS) >= 6
    flags = [word for flag in FLAGS if "method none" not in flag for word in shlex.split(flag)]
    run(["python", "-m", "sparsejax.train", *flags, *SMALL.split()], tmp_path)
    assert (tmp_path / "runs/mine/model").is_dir()


def test_named_files_exist() -> None:
    named = re.findall(r"\]\((\S+?)\)", TEXT) + re.findall(r"`(configs/\S+?)`", TEXT)
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
