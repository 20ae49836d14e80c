"""Whole exports: what others read is the tagger of the run, and mistakes are one line each."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml

from sparsejax import evaluate, export, train
from sparsejax.config import Config, DataConfig, ModelConfig, PruneConfig, TrainConfig
from sparsejax.data import embedded, seen
from sparsejax.models import bert, huggingface
from sparsejax.runtime import results, run_directory

TINY = Config(
    data=DataConfig(languages=("en", "sw"), train_sentences=80, eval_sentences=20, length=64),
    model=ModelConfig(layers=2, width=32, heads=4, intermediate=64, vocabulary=600),
    prune=PruneConfig(sparsity=0.5, pattern="neurons", scope="global", interval=7),
    train=TrainConfig(epochs=2, batch_size=16, learning_rate=3e-3),
)

apply = jax.jit(bert.apply, static_argnums=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    return train.run(dataclasses.replace(TINY, output=str(path)))


def parameters(directory: Path) -> tuple[bert.BertConfig, dict[str, np.ndarray]]:
    labels = huggingface.read_labels(directory)
    _, shape = huggingface.load_shape(directory, len(labels))
    params, notes = huggingface.load(directory, shape, labels, jax.random.key(0))
    assert notes == []
    return shape, {"/".join(k.key for k in keys): np.asarray(x)
                   for keys, x in jax.tree.leaves_with_path(params)}  # fmt: skip


def assert_same(one: Path, other: Path) -> None:
    """Bit by bit, and of the same shape and tags."""
    (shape, first), (other_shape, second) = parameters(one), parameters(other)
    assert shape == other_shape and set(first) == set(second)
    assert huggingface.read_labels(one) == huggingface.read_labels(other)
    for name, value in first.items():
        assert value.tobytes() == second[name].tobytes(), name


def logits_of(directory: Path, words: list[str]) -> np.ndarray:
    """Ours, of one sentence, [pieces, labels]."""
    labels = huggingface.read_labels(directory)
    tokenizer, shape = huggingface.load_shape(directory, len(labels))
    params, _ = huggingface.load(directory, shape, labels, jax.random.key(0))
    tokens = np.array([tokenizer(words, is_split_into_words=True)["input_ids"]], np.int32)
    positions = np.arange(tokens.shape[1], dtype=np.int32)[None]
    with jax.default_matmul_precision("highest"):
        found = apply(shape, params, tokens, positions, np.ones_like(tokens))
    return np.asarray(found)[0]


def refused(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        export.main(list(words))
    message = str(stop.value)
    assert message.startswith("error: ") and "\n" not in message
    return message


# --- what is written ----------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--cut"]], ids=["as it is", "cut"])
def test_transformers_loads_it(flags: list[str], run: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    out = tmp_path / "out"
    export.main([str(run), "--output", str(out), *flags])
    model = transformers.AutoModelForTokenClassification.from_pretrained(out).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    width = model.config.intermediate_size
    assert width < 64 if flags else width == 64
    for words, _ in embedded.generate("sw", "test")[:5]:
        with torch.no_grad():
            inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
            theirs = model(**inputs).logits[0].numpy()
        np.testing.assert_allclose(logits_of(run / "model", words), theirs, atol=1e-4)
    tagger = transformers.pipeline("token-classification", str(out), device="cpu")
    assert {piece["entity"] for piece in tagger("Anna lives in Berlin")} <= {
        "O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"
    }  # fmt: skip


def test_where_it_goes(run: Path) -> None:
    names = {
        "huggingface": [],
        "huggingface-cut": ["--cut"],
        "compressed-float32": ["--format", "compressed"],
        "compressed-int8-cut": ["--format", "compressed", "--values", "int8", "--cut"],
    }
    for name, flags in names.items():
        export.main([str(run), *flags])
        held = {path.name for path in (run / "export" / name).iterdir()}
        assert held >= {"README.md", "config.json", "tokenizer.json"}
        compressed = "model.compressed.safetensors" in held
        assert (compressed, "model.safetensors" in held) == (
            name.startswith("compressed"),
            not name.startswith("compressed"),
        )
    assert {path.name for path in (run / "export").iterdir()} == set(names)
    assert_same(run / "model", run / "export/huggingface")
    assert_same(run / "model", run / "export/compressed-float32")
    # The run is still one: it may be replaced, and a model in it knows what it was trained on.
    run_directory.check(Config(output=str(run), overwrite=True), ())
    known = seen.of_checkpoint(run / "export/compressed-float32")
    assert known is not None
    np.testing.assert_array_equal(known.sentences, seen.load(run / "seen.safetensors").sentences)


def test_there_and_back(run: Path, tmp_path: Path) -> None:
    export.main([str(run), "--format", "compressed", "--output", str(tmp_path / "small")])
    export.main([str(tmp_path / "small"), "--output", str(tmp_path / "back")])
    assert_same(run / "model", tmp_path / "back")
    content = [
        (path / "model.safetensors").read_bytes() for path in (run / "model", tmp_path / "back")
    ]
    assert content[0] == content[1]
    cards = [(tmp_path / name / "README.md").read_text("utf-8") for name in ("small", "back")]
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        if row["kind"] == "scores":
            line = f" | {100 * row['f1']:.1f} | {row['support']:,} |\n"
            assert all(f"| {row['language']}" in text and line in text for text in cards)
    assert all(f"{100 * rows[-1]['encoder']['sparsity']:.2f}" in text for text in cards)
    assert yaml.safe_load(cards[1].split("---\n")[1])["language"] == ["en", "sw"]
    assert str(run.parent) not in "".join(cards)


def test_rounding_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--format", "compressed", "--values", "int8", "--output", str(tmp_path / "out")]
    export.main([str(run), *words])
    printed = " ".join(capsys.readouterr().out.split())
    assert "note: weights were rounded to int8: " in printed and "became zero" in printed
    assert "weights were rounded to int8: " in (tmp_path / "out/README.md").read_text("utf-8")
    _, found = parameters(tmp_path / "out")
    _, exact = parameters(run / "model")
    for name, value in exact.items():
        assert np.abs(found[name] - value).max() <= np.abs(value).max() / 127 + 6e-8, name


def test_the_card_has_the_run_s_own_scores_and_no_others(run: Path, tmp_path: Path) -> None:
    labels = huggingface.read_labels(run / "model")
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("export", "checkpoints"))
    wanted = export.facts_of(run, evaluate.load_run(run), labels)
    rows = results.read(run / "results.jsonl")
    others = [
        row | change | {"f1": 0.123}
        for row in rows
        for change in (
            {"split": "dev"}, {"perturbation": "noise"}, {"limit": None}, {"subsample": 3},
            {"evaluated": ["en"]}, {"data": "/elsewhere"},
        )
        if row["kind"] == "scores"
    ]  # fmt: skip
    old = [{"kind": "scores", "language": "en", "f1": 0.123}]  # before rows had a setting
    results.write(tmp_path / "run/results.jsonl", [*others, *rows, *old])
    copy = tmp_path / "run"
    assert export.facts_of(copy, evaluate.load_run(copy), labels) == wanted


def test_evaluation_and_training_read_it(run: Path, tmp_path: Path) -> None:
    export.main([str(run), "--format", "compressed", "--output", str(tmp_path / "model")])
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    (tmp_path / "seen.safetensors").write_bytes((run / "seen.safetensors").read_bytes())
    results.write(tmp_path / "results.jsonl", [])
    evaluate.main([str(tmp_path)])
    rows = [[json.loads(line) for line in (path / "results.jsonl").read_text("utf-8").splitlines()]
            for path in (run, tmp_path)]  # fmt: skip
    scores = [[row for row in part if row["kind"] == "scores"] for part in rows]
    assert scores[0] == scores[1]
    dense = PruneConfig(method="none")
    again = train.run(
        dataclasses.replace(
            TINY, prune=dense, model=ModelConfig(path=str(tmp_path / "model")),
            train=TrainConfig(epochs=1), output=str(tmp_path / "again"),
        )
    )  # fmt: skip
    assert "classifier is new" not in (again / "log.txt").read_text("utf-8")


def test_the_real_model(shared: Path, tmp_path: Path) -> None:
    """A classifier on it, heads and neurons of each layer dead: smaller, and the same logits."""
    labels = huggingface.read_labels(shared / "models/e5-small-39") or ("O", "B-PER", "I-PER")
    tokenizer, shape = huggingface.load_shape(shared / "models/e5-small-39", len(labels))
    params, _ = huggingface.load(shared / "models/e5-small-39", shape, labels, jax.random.key(0))
    for i, layer in enumerate(params["encoder"].values()):
        layer["attention"]["output"]["kernel"][: 32 * (1 + i % 3)] = 0
        layer["mlp"]["output"]["kernel"][i : 700 + i] = 0
    (tmp_path / "model").mkdir()
    huggingface.save(tmp_path / "model", params, shape, labels, tokenizer)
    export.main([str(tmp_path / "model"), "--cut", "--format", "compressed",
                 "--output", str(tmp_path / "cut")])  # fmt: skip
    export.main([str(tmp_path / "cut"), "--output", str(tmp_path / "back")])
    assert_same(tmp_path / "cut", tmp_path / "back")
    found, _ = parameters(tmp_path / "back")
    assert (found.heads, found.intermediate_size) == (11, 836)
    words = ["Wangari", "Maathai", "alizaliwa", "Nyeri", ",", "Kenya", "."]
    expected = logits_of(tmp_path / "model", words)
    np.testing.assert_allclose(logits_of(tmp_path / "back", words), expected, atol=1e-4)


def test_commands_of_the_guide(run: Path, tmp_path: Path) -> None:
    guide = (Path(__file__).resolve().parents[1] / "docs/export.md").read_text("utf-8")
    commands = re.findall(r"^python -m sparsejax.export RUN(.*)$", guide, re.MULTILINE)
    flags = [flag.split() for flag in re.findall(r"^\| `(--.*?)` \|", guide, re.MULTILINE)]
    assert len(commands) >= 2 and len(flags) >= 4
    given = {name: words for name, *words in flags}
    given["--format"] = ["compressed"]  # the one that all the others go with
    together = [word for name, words in given.items() for word in (name, *words)]
    for i, words in enumerate([*(command.split() for command in commands), together]):
        export.main([str(run), *words, "--output", str(tmp_path / str(i))])


# --- what is refused ----------------------------------------------------------------------------


def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*words: object) -> str:
        return refused(*map(str, words), capsys=capsys)

    out = ("--output", tmp_path / "new")
    assert "the first argument is the directory" in error()
    assert "nowhere: no such directory" in error(tmp_path / "nowhere")
    assert "neither a run (config.yaml) nor a model" in error(tmp_path)
    assert "'gguf' is not one of huggingface, compressed" in error(run, "--format", "gguf")
    assert "int8 goes with --format compressed" in error(run, "--values", "int8")
    assert "pass --output DIR" in error(run / "model")
    assert "unknown flag --form" in error(run, "--form", "compressed")

    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    assert "this run was not finished" in error(unfinished)

    dense = tmp_path / "dense"
    export.main([str(run), "--cut", "--output", str(dense)])
    assert "cut: nothing to remove" in error(dense, "--cut", *out)
    assert not (tmp_path / "new").exists()


def test_a_directory_that_is_taken(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [str(run), "--output", str(out), "--format", "compressed"]
    export.main(words)
    before = (out / "model.compressed.safetensors").read_bytes()
    assert "pass --overwrite to replace it" in refused(*words, capsys=capsys)
    export.main([*words, "--values", "float16", "--overwrite"])
    assert (out / "model.compressed.safetensors").read_bytes() != before
    (out / "notes.txt").write_text("mine")
    message = refused(*words, "--overwrite", capsys=capsys)
    assert "holds 'notes.txt' and is not just an export" in message
    assert (out / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(out)
    for name in ("file", "link"):
        message = refused(str(run), "--overwrite", "--output", str(tmp_path / name), capsys=capsys)
        assert f"{name} is not a directory" in message


@pytest.mark.parametrize("inside", ["", "model", "mine", "model/sub"])
def test_a_run_is_not_written_into(
    inside: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), "--overwrite", "--output", str(run / inside)]
    assert "is inside" in refused(*words, capsys=capsys)
    assert (run / "model/model.safetensors").is_file()


def test_what_is_read_is_not_replaced(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export.main([str(run), "--output", str(tmp_path / "one")])
    one = str(tmp_path / "one")
    assert "is inside" in refused(one, "--output", one, "--overwrite", capsys=capsys)
    words = [one, "--output", str(tmp_path), "--overwrite"]
    assert f"holds {tmp_path / 'one'}, which is read" in refused(*words, capsys=capsys)


def test_a_failed_export_leaves_what_was_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export.main([str(run), "--output", str(out)])
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device", "README.md")

    monkeypatch.setattr("sparsejax.models.card.whole", fail)
    with pytest.raises(SystemExit, match="error: README.md: No space left"):
        export.main([str(run), "--output", str(out), "--overwrite"])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_damaged_model(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    export.main([str(run), "--format", "compressed", "--output", str(out)])
    path = out / "model.compressed.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)
    message = refused(str(out), "--output", str(tmp_path / "back"), capsys=capsys)
    assert f"{path}: damaged or changed: it is not what SHA256SUMS" in message
    (out / "SHA256SUMS").unlink()
    message = refused(str(out), "--output", str(tmp_path / "back"), capsys=capsys)
    assert f"{path}: damaged: its checksum is wrong" in message
    assert not (tmp_path / "back").exists()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv = ['export', '--help']\n"
        "try: runpy.run_module('sparsejax.export', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'jax', 'numpy', 'flax', 'transformers', 'datasets', 'regex', 'safetensors'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "sparsejax.export RUN" in result.stdout and "--cut" in result.stdout
