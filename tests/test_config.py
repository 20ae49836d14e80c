from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparsejax import config_checks, config_values
from sparsejax.command_line import parse
from sparsejax.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    PruneConfig,
    SweepConfig,
    TrainConfig,
)
from sparsejax.config_checks import validate
from sparsejax.config_files import load, save
from sparsejax.errors import UserError

REPOSITORY = Path(__file__).parents[1]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


def flags(*argv: str) -> Config:
    return parse(argv, "python -m sparsejax.train", "Trains.")


def one_line(caught: pytest.ExceptionInfo[UserError]) -> str:
    message = str(caught.value)
    assert message and "\n" not in message
    return message


@pytest.fixture
def yaml_file(tmp_path: Path) -> Any:
    def write(text: str | bytes, name: str = "x.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


METHODS = "none, magnitude, latent_magnitude, movement, soft_movement, random, fixed"

# Fields whose wrong values are wrong in the same way from YAML and from flags.
WRONG_VALUES = [
    ("prune.sparsity", "1.2", "prune.sparsity: 1.2 is not in [0, 1)"),
    ("prune.sparsity", "1", "prune.sparsity: 1.0 is not in [0, 1)"),
    ("prune.sparsity", "-0.1", "prune.sparsity: -0.1 is not in [0, 1)"),
    ("prune.sparsity", "half", "prune.sparsity: 'half' is not a finite number"),
    ("prune.begin", "0.95", "prune.begin: 0.95 is after prune.end 0.9"),
    ("prune.end", "1.5", "prune.end: 1.5 is not in [0, 1]"),
    ("prune.interval", "0", "prune.interval: 0 is not at least 1"),
    ("prune.method", "magnitde", f"prune.method: 'magnitde' is not one of {METHODS}"),
    ("prune.embeddings", "maybe", "prune.embeddings: 'maybe' is not true or false"),
    ("prune.scope", "layer", "prune.scope: 'layer' is not one of tensor, global"),
    ("prune.pattern", "rows", "prune.pattern: 'rows' is not weights, N:M, RxC, heads or neurons"),
    ("prune.pattern", "4x0", "prune.pattern: '4x0' is not weights, N:M, RxC, heads or neurons"),
    ("prune.threshold", "0", "prune.threshold: 0.0 is not in (0, 1)"),
    ("prune.penalty", "-1", "prune.penalty: -1.0 is not at least 0"),
    ("prune.score_learning_rate", "0", "prune.score_learning_rate: 0.0 is not above 0"),
    ("prune.method", "fixed", "prune.masks: prune.method fixed needs the masks of a pruned model"),
    ("train.epochs", "three", "train.epochs: 'three' is not a whole number"),
    ("train.epochs", "0", "train.epochs: 0 is not at least 1"),
    ("train.epochs", "-3", "train.epochs: -3 is not at least 1"),
    ("train.epochs", "1e3", "train.epochs: '1e3' is not a whole number"),
    ("train.batch_size", "0", "train.batch_size: 0 is not at least 1"),
    ("train.learning_rate", "0", "train.learning_rate: 0.0 is not above 0"),
    ("train.warmup", "-0.5", "train.warmup: -0.5 is not in [0, 1]"),
    ("train.weight_decay", "-1", "train.weight_decay: -1.0 is not at least 0"),
    ("train.clip_norm", "0", "train.clip_norm: 0.0 is not above 0"),
    ("train.decay", "cosine", "train.decay: 'cosine' is not one of linear, constant"),
    ("train.log_every", "0", "train.log_every: 0 is not at least 1"),
    ("data.length", "7", "data.length: 7 is not at least 8"),
    ("data.train_sentences", "0", "data.train_sentences: 0 is not at least 1"),
    ("data.eval_sentences", "many", "data.eval_sentences: 'many' is not a whole number"),
    ("model.width", "130", "model.width: 130 is not divisible by model.heads 4"),
    ("model.heads", "0", "model.heads: 0 is not at least 1"),
    ("model.dropout", "1", "model.dropout: 1.0 is not in [0, 1)"),
    ("model.dtype", "float16", "model.dtype: 'float16' is not one of float32, bfloat16"),
    ("seed", "-1", "seed: -1 is not in [0, 2**32)"),
    ("seed", str(2**32), f"seed: {2**32} is not in [0, 2**32)"),
]


def as_yaml(name: str, value: str) -> str:
    """A YAML file of one field."""
    *sections, last = name.split(".")
    return "".join(f"{part}:\n  " for part in sections) + f"{last}: {value}\n"


@pytest.mark.parametrize(("name", "value", "message"), WRONG_VALUES)
def test_wrong_value_in_yaml(yaml_file: Any, name: str, value: str, message: str) -> None:
    path = yaml_file(as_yaml(name, value))
    with pytest.raises(UserError) as caught:
        load(path)
    assert one_line(caught) == f"{path}: {message}"


@pytest.mark.parametrize(("name", "value", "message"), WRONG_VALUES)
@pytest.mark.parametrize("form", ["--{} {}", "--{}={}"])
def test_wrong_value_in_flag(name: str, value: str, message: str, form: str) -> None:
    with pytest.raises(UserError) as caught:
        flags(*form.format(name, value).split())
    assert one_line(caught) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune: {sparsty: 0.5}", "unknown field prune.sparsty (did you mean prune.sparsity?)"),
        ("sparsity: 0.5", "unknown field sparsity (did you mean prune.sparsity?)"),
        ("train: {sparsity: 0.5}", "unknown field train.sparsity (did you mean prune.sparsity?)"),
        ("config: x.yaml", "unknown field config"),
        ("qqqqq: 0.5", "unknown field qqqqq"),
        ("1: 0.5", "unknown field 1"),
        ("train: {epochs: '3'}", "train.epochs: '3' is not a whole number"),
        ("train: {epochs: 3.0}", "train.epochs: 3.0 is not a whole number"),
        ("train: {epochs: true}", "train.epochs: True is not a whole number"),
        ("train: {epochs: null}", "train.epochs: None is not a whole number"),
        ("train: {epochs: [3]}", "train.epochs: [3] is not a whole number"),
        ("train: {learning_rate: true}", "train.learning_rate: True is not a finite number"),
        ("train: {learning_rate: .nan}", "train.learning_rate: nan is not a finite number"),
        ("train: {weight_decay: .inf}", "train.weight_decay: inf is not a finite number"),
        ("train: {weight_decay: nan}", "train.weight_decay: 'nan' is not a finite number"),
        ("train: {weight_decay: 1" + "0" * 400 + "}", "is not a finite number"),
        ("prune: {embeddings: 1}", "prune.embeddings: 1 is not true or false"),
        ("prune: {embeddings: 'yes'}", "prune.embeddings: 'yes' is not true or false"),
        ("prune: {method: null}", "prune.method: None is not one of none, magnitude"),
        ("prune: {method: [none]}", "prune.method: ['none'] is not one of none, magnitude"),
        ("data: {dir: 3}", "data.dir: 3 is not text (quote it in YAML)"),
        ("data: {dir: ''}", "data.dir: '' is not a name"),
        ("data: {cache: 2024-01-01}", "data.cache: datetime.date(2024, 1, 1) is not text"),
        ("data: {languages: en}", "data.languages: 'en' is not a list, such as [en, de]"),
        ("data: {languages: }", "data.languages: None is not a list"),
        ("data: {languages: {en: 1}}", "data.languages: {'en': 1} is not a list"),
        ("data: {languages: [en, no]}", "data.languages: False is not text (quote it in YAML)"),
        ("data: {languages: [en, de, en]}", "data.languages: 'en' is listed twice"),
        ("data: {languages: [../en]}", "data.languages: '../en' is not a language code"),
        ("data: {languages: ['']}", "data.languages: '' is not a language code"),
        ('data: {languages: ["en\\n"]}', "data.languages: 'en\\n' is not a language code"),
        ("prune:", "prune: None is not a mapping"),
        ("prune: magnitude", "prune: 'magnitude' is not a mapping"),
        ("prune: [magnitude]", "prune: ['magnitude'] is not a mapping"),
        ("prune: {begin: 0.8, end: 0.5}", "prune.begin: 0.8 is after prune.end 0.5"),
        ("seed: 1\nseed: 2", "line 2: seed is there twice"),
        ("train:\n  epochs: 1\n  seed: 2\n  epochs: 2", "line 4: epochs is there twice"),
        ("- 1", "[1] is not a mapping"),
        ("[]", "[] is not a mapping"),
        ("false", "False is not a mapping"),
        ("hello", "'hello' is not a mapping"),
        ("seed: [1", "line 1: while parsing a flow sequence"),
        ("seed:\n\t1", "line 2: while scanning for the next token"),
        ("seed: 1\n---\nseed: 2", "line 2: expected a single document"),
        ("seed: !!python/name:os.system", "line 1: could not determine a constructor"),
        ("? [a, b]\n: 1", "line 1: while constructing a mapping found unhashable key"),
        ("seed: &a [*a]", "seed: [[...]] is not a whole number"),
        ("seed: 2024-13-45", "is not YAML: month must be in 1..12"),
        (b"seed: \xff", "is not YAML: 'utf-8' codec"),
        (b"seed: \x07", "is not YAML: unacceptable character"),
        ("[" * 5000, "is not YAML: maximum recursion depth"),
    ],
)
def test_wrong_yaml(yaml_file: Any, text: str | bytes, message: str) -> None:
    path = yaml_file(text)
    with pytest.raises(UserError) as caught:
        load(path)
    assert one_line(caught).startswith(str(path)) and message in one_line(caught)


def test_wrong_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(UserError, match="cannot be read") as caught:
            load(path)
        assert one_line(caught).startswith(str(path))
        with pytest.raises(UserError, match="cannot be read"):
            flags("--config", str(path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--prune.sparsty 0.5", "unknown flag --prune.sparsty (did you mean --prune.sparsity?)"),
        ("--prune.sparsty=0.5", "unknown flag --prune.sparsty (did you mean --prune.sparsity?)"),
        ("--sparsity 0.5", "unknown flag --sparsity (did you mean --prune.sparsity?)"),
        ("--data.trainsentences 5", "(did you mean --data.train_sentences?)"),
        ("--data.train-sentence 5", "(did you mean --data.train_sentences?)"),
        ("--conf x.yaml", "unknown flag --conf (did you mean --config?)"),
        ("-seed 1", "unknown flag -seed (did you mean --seed?)"),
        ("--no-overwrite", "unknown flag --no-overwrite (did you mean --overwrite?)"),
        ("--qqqqq", "unknown flag --qqqqq"),
        ("en", "unexpected argument 'en'; a flag starts with --"),
        ("-- en", "unexpected argument 'en'; a flag starts with --"),
        ("--seed", "seed: --seed needs a value"),
        ("--seed --overwrite", "seed: --seed needs a value"),
        ("--data.dir --seed 1", "data.dir: --data.dir needs a value"),
        ("--data.languages", "data.languages: --data.languages needs a value"),
        ("--config", "config: --config needs a value"),
        ("--seed 1 2", "seed: --seed takes one value, not '1 2'"),
        ("--overwrite yes please", "overwrite: --overwrite takes one value, not 'yes please'"),
        ("--data.dir=", "data.dir: '' is not a name"),
        ("--data.languages en,de", "data.languages: 'en,de' is not a language code"),
        ("--data.languages en de en", "data.languages: 'en' is listed twice"),
        ("--train.learning-rate nan", "train.learning_rate: 'nan' is not a finite number"),
        ("--train.learning-rate -inf", "train.learning_rate: '-inf' is not a finite number"),
        ("--seed " + "9" * 5000, "is not a whole number"),
    ],
)
def test_wrong_flag(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as caught:
        flags(*line.split(" "))
    assert message in one_line(caught) and len(one_line(caught)) < 200
    assert capsys.readouterr() == ("", "")  # tyro printed nothing of its own


def test_flags() -> None:
    line = (
        "--data.dir X --data.languages en de ru --data.train-sentences 5 --data.eval_sentences=6"
        " --prune.sparsity .5 --prune.embeddings --train.learning-rate 1e-4 --train.warmup 0"
        " --overwrite=false --model.path None --seed 7"
    )
    config = flags(*line.split())
    assert config == Config(
        data=DataConfig(dir="X", languages=("en", "de", "ru"), train_sentences=5, eval_sentences=6),
        prune=PruneConfig(sparsity=0.5, embeddings=True),
        train=TrainConfig(learning_rate=1e-4, warmup=0.0),
        seed=7,
    )
    assert type(config.train.warmup) is float
    assert flags("--overwrite").overwrite and flags("--overwrite", "TRUE").overwrite
    assert flags("--prune.method", "none").prune.method == "none"  # a choice, not a null
    assert flags() == Config()


def test_arguments_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--seed", "3"])
    assert parse(None, "train", "Trains.").seed == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--prune.pattern 2:4", "prune.sparsity: 0.9 is not the 0.5 of prune.pattern 2:4"),
        ("--prune.pattern 4:4", "prune.pattern: 4:4: N of N:M must be less than M"),
        (
            "--prune.pattern 2:4 --prune.sparsity 0.5 --prune.scope global",
            "prune.scope: global does not go with prune.pattern 2:4",
        ),
        (
            "--prune.pattern 2:4 --prune.method soft_movement",
            "prune.pattern: 2:4 does not go with soft_movement",
        ),
        (
            "--prune.scope global --prune.method soft_movement",
            "prune.scope: soft_movement has one threshold for all; leave it at tensor",
        ),
        (
            "--prune.embeddings --prune.pattern heads",
            "prune.embeddings: they have no heads (prune.pattern)",
        ),
        ("--prune.masks m --prune.method none", "prune.masks: prune.method none would not keep"),
    ],
)
def test_pruning_that_does_not_go_together(line: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        flags(*line.split())
    one_line(caught)


def test_pruning_flags() -> None:
    line = "--prune.method movement --prune.pattern 1:4 --prune.sparsity 0.75"
    line += " --prune.score-learning-rate 0.1 --prune.masks m"
    assert flags(*line.split()).prune == PruneConfig(
        method="movement", pattern="1:4", sparsity=0.75, score_learning_rate=0.1, masks="m"
    )


def test_default_file_flag(yaml_file: Any) -> None:
    path = str(yaml_file("train: {epochs: 2, batch_size: 4}\ndata: {train_sentences: 9}\n"))
    expected = Config(data=DataConfig(train_sentences=9), train=TrainConfig(epochs=2, batch_size=4))
    assert load(path) == expected
    assert flags("--config", path) == flags(f"--config={path}") == expected
    # A flag wins over the file wherever it stands, also when it says the default again.
    for argv in (["--train.epochs", "6", "--config", path], ["--config", path, "--train.epochs=6"]):
        config = flags(*argv, "--data.train_sentences", "none")
        assert config == Config(train=TrainConfig(epochs=6, batch_size=4))


def test_ranges_are_checked_after_the_flags(yaml_file: Any) -> None:
    path = str(yaml_file("prune: {begin: 0.95}"))
    assert flags("--config", path, "--prune.end", "1").prune == PruneConfig(begin=0.95, end=1.0)
    with pytest.raises(UserError, match="prune.begin: 0.95 is after"):
        flags("--config", path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Config()),
        ("# nothing\n", Config()),
        ("{}", Config()),
        ("prune: {}", Config()),
        ("train: {learning_rate: 1e-4}", Config(train=TrainConfig(learning_rate=1e-4))),
        ("train: {clip_norm: 2}", Config(train=TrainConfig(clip_norm=2.0))),
        ("prune: {method: none}", Config(prune=PruneConfig(method="none"))),
        ("data: {languages: ['no', en]}", Config(data=DataConfig(languages=("no", "en")))),
        ("data: {dir: ~, hub: None, length: 8}", Config(data=DataConfig(length=8))),
        ("model: {width: 6, heads: 3}", Config(model=ModelConfig(width=6, heads=3))),
    ],
)
def test_right_yaml(yaml_file: Any, text: str, expected: Config) -> None:
    assert load(yaml_file(text)) == expected


names = st.none() | st.text(min_size=1).filter(
    lambda text: text.strip() and text not in ("none", "None")
)
fractions = st.floats(0, 1)
below_1 = st.floats(0, 1, exclude_max=True)
positive = st.integers(1, 10**9)
configs = st.builds(
    Config,
    data=st.builds(
        DataConfig,
        dir=names,
        hub=names,
        languages=st.lists(
            st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True), unique=True, max_size=4
        ).map(tuple),
        train_sentences=st.none() | positive,
        length=st.integers(8, 10**6),
    ),
    model=st.builds(
        lambda heads, head, **rest: ModelConfig(heads=heads, width=heads * head, **rest),
        heads=positive,
        head=positive,
        dropout=below_1,
        dtype=st.sampled_from(["float32", "bfloat16"]),
    ),
    prune=st.builds(
        lambda span, **rest: PruneConfig(begin=min(span), end=max(span), **rest),
        span=st.tuples(fractions, fractions),
        method=st.sampled_from(["none", "magnitude"]),
        sparsity=below_1,
        embeddings=st.booleans(),
    ),
    train=st.builds(
        TrainConfig,
        epochs=positive,
        learning_rate=st.floats(0, 1e300, exclude_min=True),
        decay=st.sampled_from(["linear", "constant"]),
    ),
    seed=st.integers(0, 2**32 - 1),
    output=names,
    overwrite=st.booleans(),
)


@given(config=configs)
@example(config=Config(output="0\x85"))  # PyYAML with allow_unicode=True reads it back as a space
@example(config=Config(output="ü \u2028 \udcff"))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    validate(config)
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    save(config, path)
    assert load(path) == config


def test_save_writes_every_field_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    save(Config(seed=1), path)
    save(Config(seed=2), path)
    assert load(path) == Config(seed=2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]
    for name, _, _ in config_values.leaves(Config()):
        assert re.search(rf"^ *{name.split('.')[-1]}:", path.read_text(), re.MULTILINE)


def test_save_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    save(Config(seed=1), path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="cannot be written: No space left"):
        save(Config(seed=2), path)
    assert load(path) == Config(seed=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]
    for wrong in (tmp_path / "absent" / "config.yaml", path / "config.yaml"):
        with pytest.raises(UserError, match="cannot be written") as caught:
            save(Config(), wrong)
        one_line(caught)


def test_validate_knows_types() -> None:
    wrong: list[tuple[Config, str]] = [
        (Config(seed=True), "seed: True is not a whole number"),
        (Config(train=TrainConfig(learning_rate="1e-4")), "'1e-4' would be read back as 0.0001"),  # type: ignore[arg-type]
        (Config(data=DataConfig(languages=["en"])), "['en'] would be read back as ('en',)"),  # type: ignore[arg-type]
        (Config(output="none"), "output: 'none' would be read back as None"),
    ]
    for config, message in wrong:
        with pytest.raises(UserError) as caught:
            validate(config)
        assert message in one_line(caught)


def test_every_number_and_name_has_a_range() -> None:
    ranged = sorted(name for _, _, names in config_checks._RANGES for name in names.split())
    assert ranged == sorted(
        name
        for name, kind in {
            name: kind
            for config in (Config(), EvaluateConfig(), SweepConfig())
            for name, kind, _ in config_values.leaves(config)
        }.items()
        if kind in (int, float, int | None, str | None)
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_config(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(path)
    text = path.read_text()
    assert text.startswith("# ") and "# Cost: " in text and "# Result: " in text
    # The commands in its comment are ones that parse.
    monkeypatch.chdir(REPOSITORY)
    comment = re.sub(r"\\\n#", "", text)
    commands = re.findall(r"^#   python -m sparsejax\.train (.*)$", comment, re.MULTILINE)
    assert commands
    for command in commands:
        argv = shlex.split(command)
        assert f"configs/{path.name}" in argv
        flags(*argv)
        for extra in re.findall(r"`(--.*?)`", text):
            assert flags(*argv, *extra.split()) != flags(*argv)


def test_shipped_configs_say_what_they_should() -> None:
    assert {path.stem for path in CONFIGS} >= {"embedded", "panx", "wikiann_mbert_magnitude"}
    assert load(REPOSITORY / "configs/embedded.yaml") == Config()
    paper = load(REPOSITORY / "configs/wikiann_mbert_magnitude.yaml")
    assert len(set(paper.data.languages)) == 40
    panx = load(REPOSITORY / "configs/panx.yaml")
    assert (panx.data.train_sentences, panx.train.learning_rate) == (400, 1e-4)


def test_help_names_every_field() -> None:
    code = (
        "import sys; from sparsejax.command_line import parse;"
        "parse(sys.argv[1:], 'python -m sparsejax.train', 'Trains a tagger.')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Trains a tagger." in done.stdout and "--config STR" in done.stdout
    for name, _, _ in config_values.leaves(Config()):
        assert f"--{name} " in done.stdout
    # The comments of the fields are there: a flag with nothing but its default has none.
    flat = " ".join(done.stdout.replace("│", " ").split())
    assert re.findall(r"--(\S+\.\S+) \S+ \(default", flat) == []
    assert "Final fraction of zeros in the targets" in done.stdout


def test_import_is_light() -> None:
    code = (
        "import sys; from sparsejax.command_line import parse; parse(['--seed', '1'], 'x', 'y');"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    heavy = {"jax", "jaxlib", "flax", "optax", "numpy", "transformers", "datasets", "torch"}
    assert not heavy & set(done.stdout.split())
    assert "sparsejax" in done.stdout.split()
