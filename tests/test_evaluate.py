"""`python -m sparsejax.evaluate` on saved runs: what it writes, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparsejax import evaluate, train
from sparsejax.config import Config, DataConfig, ModelConfig, PruneConfig, TrainConfig
from sparsejax.data import embedded, sources
from sparsejax.data.writing import write_tsv

KINDS = ("language", "script", "family", "unseen", "noise")
TINY = Config(
    data=DataConfig(languages=("en", "zh", "jv"), train_sentences=60, eval_sentences=20),
    model=ModelConfig(layers=1, width=32, heads=2, intermediate=64, vocabulary=600),
    prune=PruneConfig(method="none"),
    train=TrainConfig(epochs=12, batch_size=16, learning_rate=3e-3),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs that differ in their seed and in the length of their rows."""
    path = tmp_path_factory.mktemp("runs")
    first, second = (
        train.run(
            dataclasses.replace(
                TINY,
                data=dataclasses.replace(TINY.data, length=length),
                seed=seed,
                output=str(path / str(seed)),
            )
        )
        for seed, length in ((0, 64), (1, 16))
    )
    return first, second


@pytest.fixture
def run(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the first run, which a test may change."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text("utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row.get("kind") != "checksum"]


def scores(path: Path, perturbation: str = "none") -> dict[str, dict[str, Any]]:
    return {
        row["language"]: row
        for row in rows(path / "results.jsonl")
        if row["kind"] == "scores" and row["perturbation"] == perturbation
    }


def refused(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        evaluate.main(words)
    message = str(caught.value)
    assert message.startswith("error: ") and "\n" not in message
    return message


def test_the_same_evaluation_replaces_its_rows(run: Path) -> None:
    before = rows(run / "results.jsonl")
    evaluate.main([str(run)])
    after = rows(run / "results.jsonl")
    # Training wrote these rows: now they are after the sparsity, and every number is the same.
    assert after == [before[-1], *before[:-1]]
    evaluate.main([str(run), "--data.eval_sentences", "5"])
    more = rows(run / "results.jsonl")
    assert more[: len(after)] == after and len(more) == 2 * len(after) - 1
    evaluate.main([str(run), "--split", "dev"])
    assert len(rows(run / "results.jsonl")) == 3 * len(after) - 2


def test_replaced_entities(run: Path, tmp_path: Path) -> None:
    written = tmp_path / "written"
    arguments = [str(run), "--perturb", *KINDS, "--seed", "3", "--write", str(written)]
    evaluate.main(arguments)
    first = (run / "results.jsonl").read_bytes()
    evaluate.main(arguments)
    assert (run / "results.jsonl").read_bytes() == first
    clean = scores(run)
    for kind in KINDS:
        found = scores(run, kind)
        assert {row["seed"] for row in found.values()} == {3}
        for code in TINY.data.languages:
            counts = found[code]["replacement"]
            total = sum(counts[name] for name in counts if name != "replaced")
            assert total == found[code]["sentences"] == 20
            if not counts["changed"]:
                assert found[code]["f1"] == clean[code]["f1"]
                assert found[code]["changed"]["after"]["support"] == 0
        # The files that were written are read as any others, and give the same scores.
        evaluate.main([str(run), "--data.dir", str(written / kind)])
        again = {
            row["language"]: row["f1"]
            for row in rows(run / "results.jsonl")
            if row["kind"] == "scores" and row["data"] == str(written / kind)
        }
        assert again == {code: row["f1"] for code, row in found.items()}
        for code in TINY.data.languages:
            shown = (written / kind / code / "test-side-by-side.txt").read_text("utf-8")
            assert shown.count("[") % 2 == 0
            assert len(shown.splitlines()) == 3 * found[code]["replacement"]["changed"]
    # No other of these languages has the script or the family of Chinese.
    assert scores(run, "script")["zh"]["replacement"]["changed"] == 0
    assert scores(run, "noise")["zh"]["replacement"]["changed"] > 0
    assert scores(run, "unseen")["macro"]["f1"] < clean["macro"]["f1"]


def test_scores_before_and_after_are_of_the_changed_sentences(run: Path, tmp_path: Path) -> None:
    """A language whose sentences are all changed has its whole score as the score before."""
    evaluate.main([str(run), "--perturb", "noise"])
    clean, found = scores(run), scores(run, "noise")
    for code in TINY.data.languages:
        row = found[code]
        assert row["changed"]["after"]["support"] == row["replacement"]["replaced"]
        if row["replacement"]["without_candidate"] == row["replacement"]["without_entity"] == 0:
            assert row["changed"]["before"]["f1"] == clean[code]["f1"]


def test_nothing_is_clean_that_was_trained_on(run: Path) -> None:
    evaluate.main([str(run), "--split", "train", "--data.eval_sentences", "60"])
    for row in rows(run / "results.jsonl"):
        if row["kind"] == "scores" and row["split"] == "train":
            assert (row["clean_sentences"], row["clean"]["f1"]) == (0, None)
            assert row["f1"] > 0
        elif row["kind"] == "scores":
            assert row["clean_sentences"] > 0
    # Of sentences that the run did not take, those are clean that repeat none that it took.
    evaluate.main([str(run), "--split", "train", "--data.eval_sentences", "none"])
    words = [words for words, _ in embedded.generate("en", "train")]
    taken = {tuple(sentence) for sentence in words[:60]}
    (row,) = [
        row
        for row in rows(run / "results.jsonl")
        if row["split" if "split" in row else "kind"] == "train"
        and row["limit"] is None
        and row.get("language") == "en"
    ]
    assert row["clean_sentences"] == sum(tuple(sentence) not in taken for sentence in words) > 0


def test_against_another_run(
    trained: tuple[Path, Path], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.main([str(run), "--against", str(trained[1])])
    assert "two runs tag differently" in capsys.readouterr().out
    found = rows(run / "disagreement.jsonl")
    rates = {row["language"]: row for row in found if row["kind"] == "rates"}
    listed = [row for row in found if row["kind"] == "sentence"]
    assert list(rates) == [*TINY.data.languages, "all"]
    assert rates["all"]["differ"] == len(listed) > 0
    f1 = {code: scores(run)[code] for code in TINY.data.languages}
    other = scores(trained[1])
    for code in TINY.data.languages:
        part = [row for row in listed if row["language"] == code]
        assert len(part) == rates[code]["differ"]
        assert rates[code]["entities"] == f1[code]["support"]
        # Entities that one finds and the other does not are the difference of what they find.
        hits = [round(side[code]["recall"] * side[code]["support"]) for side in (f1, other)]
        assert hits[0] - hits[1] == rates[code]["lost"] - rates[code]["gained"]
        for row in part:
            words, gold = embedded.generate(code, "test")[row["sentence"]]
            assert (row["words"], row["gold"]) == (words, gold)
            assert row["first"] != row["second"] and len(row["first"]) == len(words)
    evaluate.main([str(run), "--against", str(run)])
    more = rows(run / "disagreement.jsonl")
    assert more[: len(found)] == found  # another comparison replaces no other
    assert all(row["kind"] == "rates" and row["differ"] == 0 for row in more[len(found) :])
    evaluate.main([str(run), "--against", str(trained[1])])
    assert len(rows(run / "disagreement.jsonl")) == len(more)


def test_zero_shot(tmp_path: Path) -> None:
    """Trained on one list of languages, evaluated on another, which needs no training split."""
    for code in ("en", "sw"):
        (tmp_path / "data" / code).mkdir(parents=True)
        for split in ("train", "test") if code == "en" else ("test",):
            part = embedded.generate(code, split)[:40]
            sentences = [sources.Sentence(*pair) for pair in part]
            write_tsv(tmp_path / "data" / code / f"{split}.tsv", sentences)
    data = DataConfig(dir=str(tmp_path / "data"), eval_languages=("sw", "en"))
    config = dataclasses.replace(TINY, data=data, train=TrainConfig(epochs=1))
    path = train.run(dataclasses.replace(config, output=str(tmp_path / "run")))
    assert list(scores(path)) == ["sw", "en", "macro", "micro"]
    before = rows(path / "results.jsonl")
    evaluate.main([str(path), "--data.eval_languages", "sw"])
    # The averages are others, so the rows are those of another evaluation.
    after = rows(path / "results.jsonl")
    assert after[: len(before)] == before
    new = after[len(before) :]
    assert [r["language"] for r in new if r["kind"] == "scores"] == ["sw", "macro", "micro"]
    assert {tuple(row["evaluated"]) for row in new} == {("sw",)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the first argument is the directory of a run"),
        (["--split", "test"], "the first argument is the directory of a run"),
        (["/no/such/run"], "/no/such/run: no run (no config.yaml)"),
        (["RUN", "--splt", "dev"], "unknown flag --splt (did you mean --split?)"),
        (["RUN", "--split", "validation"], "split: 'validation' is not one of train, dev, test"),
        (["RUN", "--perturb", "swap"], "perturb: 'swap' is not one of language, script"),
        (["RUN", "--data.eval_languages", "fr"], "data.eval_languages: 'fr' not in the embedded"),
        (["RUN", "--data.eval_languages", "en", "en"], "'en' is listed twice"),
        (["RUN", "--data.dir", "/no"], "data.dir: /no is not a directory"),
        (["RUN", "--data.eval_sentences", "0"], "data.eval_sentences: 0 is not at least 1"),
        (["RUN", "--against", "/no"], "/no: no run"),
        (["RUN", "more"], "unexpected argument 'more'"),
        (["RUN", "--write", "x"], "write: there is nothing to write without --perturb"),
        (["RUN", "--perturb", "noise", "--write", "RUN/out"], "is inside the run"),
        (["RUN", "--perturb", "noise", "--write", __file__], f"write: {__file__}: File exists"),
    ],
)
def test_mistakes_are_one_line(
    trained: tuple[Path, Path],
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [re.sub("^RUN", str(trained[0]), word) for word in words]
    assert message in refused(*words, capsys=capsys)


def test_runs_that_are_not_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "seen.safetensors").write_bytes(b"")
    assert "seen.safetensors: missing or damaged" in refused(str(run), capsys=capsys)
    (run / "results.jsonl").unlink()
    assert "no results.jsonl, so this run was not finished" in refused(str(run), capsys=capsys)
    shutil.rmtree(run / "model")
    assert "no model, so this run was not finished" in refused(str(run), capsys=capsys)


def test_results_that_someone_damaged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(run / "results.jsonl", "a") as file:
        file.write("oops\n")
    before = (run / "results.jsonl").read_bytes()
    number = before.count(b"\n")
    message = refused(str(run), capsys=capsys)
    assert f"results.jsonl:{number}: damaged, not a JSON object" in message
    assert (run / "results.jsonl").read_bytes() == before


def test_tags_of_another_label_set(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "en").mkdir(parents=True)
    (tmp_path / "data" / "en" / "test.tsv").write_text("a\tO\n\nb\tB-MISC\n")
    words = [str(run), "--data.dir", str(tmp_path / "data"), "--data.eval_languages", "en"]
    message = refused(*words, capsys=capsys)
    assert "test.tsv:3: entities of type 'MISC', which the model does not know" in message


def test_a_language_without_entities(run: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "yy").mkdir(parents=True)
    (tmp_path / "data" / "yy" / "test.jsonl").write_text('{"tokens": ["a"], "tags": ["O"]}\n')
    evaluate.main([str(run), "--data.dir", str(tmp_path / "data"), "--data.eval_languages", "yy",
                   "--perturb", "language"])  # fmt: skip
    (row,) = [r for r in rows(run / "results.jsonl") if r.get("language") == "yy"][:1]
    assert (row["f1"], row["recall"], row["support"]) == (None, None, 0)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv = ['evaluate', '--help']\n"
        "try: runpy.run_module('sparsejax.evaluate', run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'jax', 'numpy', 'flax', 'transformers', 'datasets', 'regex'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "sparsejax.evaluate RUN" in result.stdout and "--perturb" in result.stdout


def test_what_a_checkpoint_was_trained_on_is_not_clean(run: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY,
        data=dataclasses.replace(TINY.data, languages=("sw",)),
        model=ModelConfig(path=str(run / "model")),
        train=TrainConfig(epochs=1),
        output=str(tmp_path / "next"),
    )
    path = train.run(config)
    words = ["--split", "train", "--data.eval_languages", "en", "sw", "--data.eval_sentences", "60"]
    evaluate.main([str(path), *words])
    found = [row for row in rows(path / "results.jsonl") if row.get("split") == "train"]
    assert {row["clean_sentences"] for row in found if row["kind"] == "scores"} == {0}


def test_a_sentence_that_no_file_can_hold(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "yy").mkdir(parents=True)
    line = json.dumps({"tokens": ["Ada\tL", "b"], "tags": ["B-PER", "O"]})
    (tmp_path / "data" / "yy" / "test.jsonl").write_text(line + "\n")
    words = [str(run), "--data.dir", str(tmp_path / "data"), "--data.eval_languages", "yy"]
    words += ["--perturb", "noise", "--write", str(tmp_path / "out")]
    assert "write: yy: sentence 1: " in refused(*words, capsys=capsys)


def test_interrupted(run: Path) -> None:
    """Ctrl-C ends it soon, with one line, and the results are as they were."""
    before = rows(run / "results.jsonl")
    words = [sys.executable, "-m", "sparsejax.evaluate", str(run), "--data.eval_sentences", "none"]
    process = subprocess.Popen(
        [*words, "--perturb", *KINDS], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()  # the first scores are there, those of the replaced entities are not
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "stopped before the end of the evaluation\n")
    assert rows(run / "results.jsonl")[: len(before)] == before and not list(run.glob(".*"))
