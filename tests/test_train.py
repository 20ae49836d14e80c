"""Whole runs: what they leave behind, what they refuse, and that the numbers are true."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sparsejax import prune, train
from sparsejax.config import Config, DataConfig, ModelConfig, PruneConfig, TrainConfig
from sparsejax.config_files import load, settled
from sparsejax.data import embedded
from sparsejax.errors import UserError
from sparsejax.runtime.checkpoint import Checkpoints

TINY = Config(
    data=DataConfig(languages=("en", "sw"), train_sentences=80, eval_sentences=20, length=64),
    model=ModelConfig(layers=2, width=32, heads=2, intermediate=64, vocabulary=600),
    prune=PruneConfig(sparsity=0.9, interval=7),
    train=TrainConfig(epochs=12, batch_size=16, learning_rate=3e-3, log_every=3),
)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def tiny(path: Path, **sections: Any) -> Config:
    return dataclasses.replace(TINY, output=str(path), **sections)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train.run(tiny(tmp_path_factory.mktemp("runs") / "run"))


def test_directory_is_complete(finished: Path) -> None:
    names = {"config.yaml", "metrics.jsonl", "results.jsonl", "log.txt", "model"}
    names |= {"masks.safetensors", "seen.safetensors", "checkpoints", "tensorboard"}
    names.add("counts.safetensors")
    assert {path.name for path in finished.iterdir()} == names
    assert load(finished / "config.yaml") == TINY
    log = (finished / "log.txt").read_text("utf-8")
    assert "Swahili" in log and "macro" in log and "saved in" in log


def test_metrics_follow_the_run(finished: Path) -> None:
    metrics = rows(finished / "metrics.jsonl")
    steps = [row["step"] for row in metrics]
    assert steps[:-1] == list(range(3, steps[-1], 3))  # every third, and the last
    assert all(np.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in metrics)
    sparsity = [row["sparsity"] for row in metrics]
    # The realised one: whole weights of each matrix.
    assert sparsity[-1] == pytest.approx(0.9, abs=1e-3)
    assert sparsity[0] == 0 and sparsity == sorted(sparsity)


def test_sparsity_is_the_one_asked_for(finished: Path) -> None:
    tensors = load_file(finished / "model" / "model.safetensors")
    zeros = total = 0
    for name, value in tensors.items():
        is_kernel = ".encoder." in name and name.endswith(".weight") and "LayerNorm" not in name
        if is_kernel:
            kept = np.count_nonzero(value)
            assert kept == round((1 - 0.9) * value.size), name
            zeros, total = zeros + value.size - kept, total + value.size
        elif name.endswith(("word_embeddings.weight", "classifier.weight")):
            assert np.count_nonzero(value) == value.size, name
    audit = rows(finished / "results.jsonl")[-1]
    assert audit["kind"] == "sparsity"
    assert (audit["targets"]["zeros"], audit["targets"]["size"]) == (zeros, total)


def test_results_are_what_hugging_face_and_seqeval_say(finished: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from seqeval.metrics import f1_score

    by_language = {
        row["language"]: row for row in rows(finished / "results.jsonl") if row["kind"] == "scores"
    }
    assert set(by_language) == {"en", "sw", "macro", "micro"}
    tagger = transformers.AutoModelForTokenClassification.from_pretrained(finished / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(finished / "model")

    def tags_of(words: list[str]) -> list[str]:
        """The tag at each word's first piece."""
        encoding = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            ids = tagger(**encoding).logits[0].argmax(-1).tolist()
        first: dict[int, str] = {}
        for place, word in enumerate(encoding.word_ids()):
            if word is not None:
                first.setdefault(word, tagger.config.id2label[ids[place]])
        return [first[i] for i in range(len(words))]

    for code in ("en", "sw"):
        sentences = embedded.generate(code, "test")[:20]
        gold = [tags for _, tags in sentences]
        predicted = [tags_of(words) for words, _ in sentences]
        assert by_language[code]["f1"] == pytest.approx(f1_score(gold, predicted), abs=1e-12)
        assert by_language[code]["f1"] > 0  # or the comparison would hold for any two models


def test_same_config_same_run(finished: Path, tmp_path: Path) -> None:
    again = train.run(tiny(tmp_path / "again"))
    one, two = (load_file(path / "model" / "model.safetensors") for path in (finished, again))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert (again / "results.jsonl").read_bytes() == (finished / "results.jsonl").read_bytes()
    losses = [[row["loss"] for row in rows(path / "metrics.jsonl")] for path in (finished, again)]
    assert losses[0] == losses[1]


def test_masks_are_those_of_the_saved_model(finished: Path) -> None:
    masks = prune.read_masks(finished / "masks.safetensors")
    tensors = load_file(finished / "model" / "model.safetensors")
    assert len(masks) == 12
    mask = masks["encoder/layer_1/attention/query/kernel"]
    saved = tensors["bert.encoder.layer.1.attention.self.query.weight"].T  # (out, in) there
    np.testing.assert_array_equal(mask, saved != 0)


@pytest.mark.parametrize(
    ("method", "sparsity", "zeros"),
    [("fixed", 0.5, 0.9), ("magnitude", 0.96, 0.96), ("movement", 0.96, 0.96)],
)
def test_a_pruned_run_goes_on(
    finished: Path, tmp_path: Path, method: str, sparsity: float, zeros: float
) -> None:
    pruning = PruneConfig(
        method=method, sparsity=sparsity, masks=str(finished / "masks.safetensors")
    )
    model = ModelConfig(path=str(finished / "model"))
    train_config = dataclasses.replace(TINY.train, epochs=2)
    path = train.run(tiny(tmp_path / "run", model=model, prune=pruning, train=train_config))
    report = rows(path / "results.jsonl")[-1]
    assert report["targets"]["sparsity"] == pytest.approx(zeros, abs=2e-3)
    before = prune.read_masks(finished / "masks.safetensors")
    after = prune.read_masks(path / "masks.safetensors")
    assert all(not np.any(after[name] & ~before[name]) for name in before)
    assert load(path / "config.yaml").prune.masks == str(finished / "masks.safetensors")


@pytest.mark.parametrize(
    "method",
    [
        "movement",
        "soft_movement",
        pytest.param("latent_magnitude", marks=pytest.mark.slow),
        pytest.param("random", marks=pytest.mark.slow),
    ],
)
def test_other_methods_save_what_was_pruned(method: str, tmp_path: Path) -> None:
    # A high threshold, for scores move by a hundredth a step; no penalty, or nothing is left.
    config = tiny(tmp_path / "run", prune=PruneConfig(method=method, threshold=0.49, penalty=0.0))
    path = train.run(dataclasses.replace(config, train=dataclasses.replace(TINY.train, epochs=3)))
    report = rows(path / "results.jsonl")[-1]["leaves"]
    masks = prune.read_masks(path / "masks.safetensors")
    tensors = load_file(path / "model" / "model.safetensors")
    name = "encoder/layer_0/mlp/output/kernel"
    saved = tensors["bert.encoder.layer.0.output.dense.weight"]
    assert np.count_nonzero(masks[name]) == np.count_nonzero(saved) > 0
    assert report[name]["zeros"] == saved.size - np.count_nonzero(saved) > 0


def test_masks_of_another_model_are_refused(finished: Path, tmp_path: Path) -> None:
    pruning = PruneConfig(method="fixed", masks=str(finished / "masks.safetensors"))
    model = dataclasses.replace(TINY.model, width=64)
    with pytest.raises(UserError) as caught:
        train.run(tiny(tmp_path / "run", model=model, prune=pruning))
    assert str(caught.value) == (
        "prune: the mask of encoder/layer_0/attention/key/kernel has the shape (32, 32), "
        "the parameter (64, 64)"
    )
    assert not (tmp_path / "run").exists()


def test_another_seed_is_another_run(finished: Path, tmp_path: Path) -> None:
    other = train.run(tiny(tmp_path / "other", seed=1))
    one, two = (rows(path / "metrics.jsonl")[0]["loss"] for path in (finished, other))
    assert one != two


def test_dense_run_prunes_nothing(tmp_path: Path) -> None:
    path = train.run(tiny(tmp_path / "dense", prune=PruneConfig(method="none")))
    tensors = load_file(path / "model" / "model.safetensors")
    kernel = tensors["bert.encoder.layer.0.attention.self.query.weight"]
    assert np.count_nonzero(kernel) == kernel.size
    assert {row["sparsity"] for row in rows(path / "metrics.jsonl")} == {0.0}


def test_embeddings_are_pruned_on_request(tmp_path: Path) -> None:
    path = train.run(tiny(tmp_path / "run", prune=PruneConfig(sparsity=0.5, embeddings=True)))
    words = load_file(path / "model" / "model.safetensors")[
        "bert.embeddings.word_embeddings.weight"
    ]
    assert np.count_nonzero(words) == round(0.5 * words.size)


def test_a_finished_run_can_be_the_start_of_the_next(finished: Path, tmp_path: Path) -> None:
    """The saved tagger is a checkpoint like any other, its classifier included."""
    config = tiny(
        tmp_path / "next",
        model=ModelConfig(path=str(finished / "model")),
        train=TrainConfig(epochs=1, learning_rate=1e-9, batch_size=16),
        prune=PruneConfig(method="none"),
    )
    path = train.run(config)
    assert "the classifier is new" not in (path / "log.txt").read_text("utf-8")
    scores = [
        {r["language"]: r["f1"] for r in rows(p / "results.jsonl") if r["kind"] == "scores"}
        for p in (finished, path)
    ]
    assert scores[0] == scores[1]


# What is refused, in one line and without a trace on the disk.


def test_output_that_holds_a_run(finished: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    shutil.copytree(finished, taken)
    before = (taken / "results.jsonl").read_bytes()
    with pytest.raises(UserError, match="already holds a run; pass --overwrite"):
        train.run(tiny(taken))
    assert (taken / "results.jsonl").read_bytes() == before
    (taken / "model" / "stale").touch()
    train.run(dataclasses.replace(tiny(taken, train=TrainConfig(epochs=1)), overwrite=True))
    assert not (taken / "model" / "stale").exists()
    assert (taken / "results.jsonl").read_bytes() != before


def test_output_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"thesis\.tex"):
        train.run(dataclasses.replace(tiny(tmp_path), overwrite=True))
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(UserError, match="is a file"):
        train.run(tiny(tmp_path / "thesis.tex"))


def damage_config(model: Path) -> None:
    (model / "config.json").unlink()


def damage_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()


def damage_weights(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def damage_vocabulary(model: Path) -> None:
    raw = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(raw | {"vocab_size": 100}))


def damage_positions(model: Path) -> None:
    raw = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(raw | {"max_position_embeddings": 32}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_config, "no config.json"),
        (damage_tokenizer, "no tokenizer"),
        (damage_weights, "model.safetensors: damaged or cut off"),
        (damage_vocabulary, "pieces, more than the 100 word embeddings"),
        (damage_positions, "data.length: 64 is more than the model's 32 positions"),
    ],
)
def test_model_that_is_not_whole(finished: Path, tmp_path: Path, damage: Any, message: str) -> None:
    shutil.copytree(finished / "model", tmp_path / "model")
    (tmp_path / "model" / "SHA256SUMS").unlink()  # as in a model of someone else's
    damage(tmp_path / "model")
    config = tiny(tmp_path / "run", model=ModelConfig(path=str(tmp_path / "model")))
    with pytest.raises(UserError, match=message) as error:
        train.run(config)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_model_that_is_not_what_it_was(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "model", tmp_path / "model")
    damage_positions(tmp_path / "model")
    config = tiny(tmp_path / "run", model=ModelConfig(path=str(tmp_path / "model")))
    with pytest.raises(UserError, match=r"model/config\.json: damaged or changed"):
        train.run(config)


def test_saved_config_runs_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(
        data=DataConfig(dir="data"), model=ModelConfig(path="model"), output="x", overwrite=True
    )
    monkeypatch.chdir(tmp_path)
    kept = settled(config)
    assert kept.data.dir == str(tmp_path / "data") and kept.model.path == str(tmp_path / "model")
    assert kept.output is None and not kept.overwrite


def test_odd_names_and_odd_sizes(tmp_path: Path) -> None:
    """Brackets in a path are no markup; a batch of more than all sentences is all of them."""
    settings = TrainConfig(epochs=1, batch_size=10**6)
    path = train.run(tiny(tmp_path / "a[/b]", train=settings, prune=PruneConfig(sparsity=0.5)))
    assert f"saved in {path}" in (path / "log.txt").read_text("utf-8")
    assert [row["step"] for row in rows(path / "metrics.jsonl")] == [1]


def test_pipeline_cuts_what_is_longer_than_the_model(finished: Path) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tagger = transformers.pipeline("token-classification", str(finished / "model"))
    assert tagger("Ada lives in London . " * 40) is not None


def test_diverging_run_stops_with_one_line(tmp_path: Path) -> None:
    settings = TrainConfig(epochs=4, learning_rate=1e30, warmup=0.0, clip_norm=1e30, log_every=1)
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+, at learning rate"):
        train.run(tiny(tmp_path / "run", train=settings))
    assert not (tmp_path / "run" / "model").exists()


# The command line.


@pytest.mark.parametrize("fails", [False, True])
def test_results_come_after_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """It is written while the model is evaluated, here until long after that."""
    finish, seen = Checkpoints._finish, []

    def late(self: Checkpoints, about: Any) -> None:
        self._writer.wait_until_finished()
        model = tmp_path / "run" / "model" / "model.safetensors"
        while not model.exists():
            time.sleep(0.01)
        time.sleep(0.5)
        seen.append((tmp_path / "run" / "results.jsonl").exists())
        if fails:
            raise OSError("no space")
        finish(self, about)

    monkeypatch.setattr(Checkpoints, "_finish", late)
    config = tiny(tmp_path / "run")
    if fails:
        with pytest.raises(UserError, match=r"the checkpoint of step \d+ cannot be written"):
            train.run(config)
    else:
        train.run(config)
    assert seen == [False]
    assert (tmp_path / "run" / "results.jsonl").exists() == (not fails)


def test_a_stop_waits_for_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However seldom metrics are logged, the host is at most a call ahead of the devices."""
    import jax

    from sparsejax.runtime import steps

    made, waited, ahead = [], [0], []
    make, block = steps.make_train_steps, jax.block_until_ready

    def make_train_steps(*given: Any) -> Any:
        found = make(*given)

        def step(*batch: Any) -> Any:
            state, metrics = found(*batch)
            made.append(metrics["loss"])
            ahead.append(len(made) - waited[0])
            return state, metrics

        return step

    def block_until_ready(tree: Any) -> Any:
        for number, loss in enumerate(made, start=1):
            if isinstance(tree, dict) and tree.get("loss") is loss:
                waited[0] = number
        return block(tree)

    monkeypatch.setattr(steps, "make_train_steps", make_train_steps)
    monkeypatch.setattr(jax, "block_until_ready", block_until_ready)
    train.run(tiny(tmp_path / "run", train=TrainConfig(epochs=12, batch_size=16, log_every=1000)))
    assert len(made) > 4
    assert max(ahead) <= 2


def command(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "sparsejax.train", *arguments]
    return subprocess.run(
        line, cwd=cwd, capture_output=True, text=True, timeout=600, env=os.environ | env
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prune.sparsity", "1.2"], "error: prune.sparsity: 1.2 is not in [0, 1)"),
        (["--prune.pattern", "24x24"], "error: prune: encoder/layer_0/attention/key/kernel: blo"),
        (["--prune.sparsty", "0.5"], "did you mean --prune.sparsity?"),
        (["--data.languages", "en", "xx"], "'xx' not in the embedded corpus"),
        (["--data.dir", "nowhere"], "error: data.dir: nowhere is not a directory"),
        (["--model.path", "nowhere"], "error: model.path: nowhere is not a directory"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = command(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_papers_setting_without_network_is_one_line(tmp_path: Path) -> None:
    config = Path(__file__).resolve().parents[1] / "configs/wikiann_mbert_magnitude.yaml"
    result = command(
        "--config", str(config), cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub")
    )
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "model.hub: could not load 'google-bert/bert-base-multilingual-cased'" in result.stderr
    assert (
        "pass --model.path with a local copy, and --data.dir with one of 'unimelb-nlp/wikiann'"
        in result.stderr
    )
    assert not (tmp_path / "runs").exists()


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, runpy; sys.argv = ['train', '--help']\n"
        "try: runpy.run_module('sparsejax.train', run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'jax', 'flax', 'optax', 'transformers', 'datasets', 'torch', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--prune.sparsity" in result.stdout


def test_real_model_on_real_data(shared: Path, tmp_path: Path) -> None:
    config = Config(
        data=DataConfig(
            dir=str(shared / "data/panx"),
            languages=("de", "ja", "yo"),
            train_sentences=24,
            eval_sentences=6,
        ),
        model=ModelConfig(path=str(shared / "models/e5-small-39")),
        prune=PruneConfig(sparsity=0.5),
        train=TrainConfig(epochs=1, batch_size=16, learning_rate=1e-4),
        output=str(tmp_path / "run"),
    )
    path = train.run(config)
    assert "the classifier is new" in (path / "log.txt").read_text("utf-8")
    tensors = load_file(path / "model" / "model.safetensors")
    kernel = tensors["bert.encoder.layer.11.output.dense.weight"]
    assert np.count_nonzero(kernel) == kernel.size // 2
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    _, info = transformers.AutoModelForTokenClassification.from_pretrained(
        path / "model", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's first command."""
    where = tmp_path_factory.mktemp("quickstart")
    result = command(cwd=where)
    assert result.returncode == 0, result.stderr
    (path,) = (where / "runs").iterdir()
    assert f"saved in runs/{path.name}" in result.stdout
    return path


def macro(path: Path) -> float:
    (row,) = [r for r in rows(path / "results.jsonl") if r.get("language") == "macro"]
    return row["f1"]


def test_quickstart(quickstart: Path) -> None:
    results = rows(quickstart / "results.jsonl")
    assert {row["language"] for row in results if row["kind"] == "scores"} == {
        *embedded.TRAIN_SENTENCES,
        "macro",
        "micro",
    }
    assert results[-1]["targets"]["sparsity"] == pytest.approx(0.9, abs=1e-3)  # 410 of 64 x 64 left
    assert macro(quickstart) > 0.7


def test_picture_of_the_quickstart(quickstart: Path, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "docs" / "quickstart_picture.py"
    line = [sys.executable, str(script), str(quickstart), str(tmp_path / "picture.svg")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    picture = (tmp_path / "picture.svg").read_text("utf-8")
    assert f"{100 * macro(quickstart):.1f}" in picture and "90.00" in picture


@pytest.mark.slow
def test_corpus_is_learned_dense_and_suffers_at_98_percent(tmp_path: Path) -> None:
    dense = train.run(Config(prune=PruneConfig(method="none"), output=str(tmp_path / "dense")))
    sparse = train.run(Config(prune=PruneConfig(sparsity=0.98), output=str(tmp_path / "sparse")))
    assert macro(dense) > 0.8
    assert macro(sparse) < macro(dense) - 0.02  # seeds differ by 0.008 (standard deviation)
