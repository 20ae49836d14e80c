"""Checkpoints come in and go out bit by bit, and what does not fit is said in one line."""

import contextlib
import http.server
import json
import pickle
import shutil
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open
from wikiann import TAGS

from sparsejax.config import Config, DataConfig, ModelConfig
from sparsejax.errors import UserError
from sparsejax.models import bert, huggingface
from sparsejax.runtime import setup

GOLDEN = Path(__file__).with_name("golden")  # a tiny model, as save_pretrained wrote it
RAW = json.loads((GOLDEN / "config.json").read_text("utf-8"))
TENSORS = safetensors.numpy.load_file(GOLDEN / "model.safetensors")
CONFIG = bert.BertConfig.from_dict(RAW, len(TAGS))
QUERY = "bert.encoder.layer.1.attention.self.query.weight"


def write(
    directory: Path, tensors: Mapping[str, np.ndarray] = TENSORS, raw: Any = RAW, shards: int = 0
) -> Path:
    """A model directory with these tensors, in one file or in numbered shards with an index."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(raw), "utf-8")
    if not shards:
        safetensors.numpy.save_file(dict(tensors), directory / "model.safetensors")
        return directory
    names = sorted(tensors)
    files = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors"
             for i, name in enumerate(names)}  # fmt: skip
    for file in set(files.values()):
        part = {name: tensors[name] for name in names if files[name] == file}
        safetensors.numpy.save_file(part, directory / file)
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return directory


def load(directory: Path, labels: tuple[str, ...] = TAGS) -> tuple[dict[str, Any], list[str]]:
    """Parameters by path, and the notes."""
    params, notes = huggingface.load(directory, CONFIG, labels, jax.random.key(0))
    return by_path(params), notes


def by_path(params: bert.Params) -> dict[str, Any]:
    return {"/".join(k.key for k in keys): x for keys, x in jax.tree.leaves_with_path(params)}


def assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Bit by bit."""
    assert set(one) == set(other)
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        assert value.shape == other[name].shape, name
        assert value.tobytes() == other[name].tobytes(), name


@contextlib.contextmanager
def refused(*words: str) -> Iterator[None]:
    """A UserError of one line that holds all these words."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return load(GOLDEN)[0]


# --- what is loaded ----------------------------------------------------------------------------


def test_tensors_reach_their_places(golden: dict[str, Any]) -> None:
    """By hand for one of each kind; the logits in test_bert.py depend on all."""
    for ours, theirs in {
        "embeddings/word/embedding": TENSORS["bert.embeddings.word_embeddings.weight"],
        "embeddings/norm/scale": TENSORS["bert.embeddings.LayerNorm.weight"],
        "encoder/layer_1/attention/query/kernel": TENSORS[QUERY].T,
        "encoder/layer_0/mlp/output/bias": TENSORS["bert.encoder.layer.0.output.dense.bias"],
        "classifier/kernel": TENSORS["classifier.weight"].T,
    }.items():
        np.testing.assert_array_equal(golden[ours], theirs)
    assert {x.dtype.name for x in golden.values()} == {"float32"}
    assert sum(x.size for x in golden.values()) == sum(x.size for x in TENSORS.values())


@pytest.mark.parametrize("shards", [0, 1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_every_float_type_and_sharding(dtype: str, shards: int, tmp_path: Path) -> None:
    tensors = {name: x.astype(jnp.dtype(dtype)) for name, x in TENSORS.items()}
    rounded = {name: x.astype(np.float32) for name, x in tensors.items()}
    params, notes = load(write(tmp_path / "stored", tensors, shards=shards))
    assert notes == []
    assert_same(params, load(write(tmp_path / "rounded", rounded))[0])


def old_names(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )


@pytest.mark.parametrize(
    "rename",
    [lambda name: name.removeprefix("bert."), old_names,
     lambda name: old_names(name).removeprefix("bert.")],
    ids=["without bert.", "gamma and beta", "both"],
)  # fmt: skip
def test_other_names_of_the_same_tensors(
    rename: Callable[[str], str], tmp_path: Path, golden: dict[str, Any]
) -> None:
    tensors = {rename(name): x for name, x in TENSORS.items()}
    assert set(tensors) != set(TENSORS)
    params, notes = load(write(tmp_path, tensors))
    assert_same(params, golden)
    assert notes == []


def test_buffers_are_ignored_and_other_heads_reported(
    tmp_path: Path, golden: dict[str, Any]
) -> None:
    buffers = {
        "bert.embeddings.position_ids": np.arange(16)[None],
        "bert.embeddings.token_type_ids": np.zeros((1, 16), np.int64),
    }
    heads = {
        name: np.ones(2, np.float32)
        for name in ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "cls.predictions.bias",
                     "cls.predictions.transform.LayerNorm.gamma", "cls.seq_relationship.weight")
    }  # fmt: skip
    params, notes = load(write(tmp_path, TENSORS | buffers | heads))
    assert_same(params, golden)
    assert notes == ["not used, heads of other tasks: " + ", ".join(sorted(heads))]


def test_a_fresh_classifier_is_reported(tmp_path: Path, golden: dict[str, Any]) -> None:
    encoder = {name: x for name, x in TENSORS.items() if not name.startswith("classifier.")}
    params, notes = load(write(tmp_path, encoder))
    assert notes == ["the classifier is new: classifier/bias, classifier/kernel"]
    assert not params["classifier/bias"].any()
    kernel = params["classifier/kernel"]
    assert kernel.dtype == np.float32
    assert kernel.shape == (24, 7)
    assert abs(kernel.std() / CONFIG.initializer_range - 1) < 5 / np.sqrt(2 * kernel.size)
    rest = {name: x for name, x in params.items() if not name.startswith("classifier/")}
    assert_same(rest, {name: golden[name] for name in rest})
    other, _ = huggingface.load(tmp_path, CONFIG, TAGS, jax.random.key(1))
    assert (other["classifier"]["kernel"] != kernel).all()


@pytest.mark.parametrize(
    ("id2label", "reused"),
    [
        (RAW["id2label"], True),
        (dict(reversed(RAW["id2label"].items())), True),  # JSON objects have no order
        ({str(i): tag for i, tag in enumerate(reversed(TAGS))}, False),
        ({str(i): f"LABEL_{i}" for i in range(7)}, False),
        ({str(i): tag for i, tag in enumerate(TAGS[:5])}, False),
        (None, False),
        (list(TAGS), False),
        ({"zero": "O"}, False),
    ],
    ids=["same", "same, shuffled", "reversed", "unnamed", "fewer", "none", "a list", "no numbers"],
)
def test_a_classifier_is_reused_for_the_same_labels_only(
    id2label: Any, reused: bool, tmp_path: Path, golden: dict[str, Any]
) -> None:
    params, notes = load(write(tmp_path, raw=RAW | {"id2label": id2label}))
    same = (params["classifier/kernel"] == golden["classifier/kernel"]).all()
    assert same == reused
    assert notes == (
        []
        if reused
        else [
            "the classifier is new: classifier/bias, classifier/kernel",
            "not used, heads of other tasks: classifier.bias, classifier.weight",
        ]
    )


def test_a_classifier_of_another_size_is_not_in_the_way(tmp_path: Path) -> None:
    head = {"classifier.weight": np.ones((9, 24), "f"), "classifier.bias": np.ones(9, "f")}
    raw = RAW | {"id2label": {str(i): f"tag{i}" for i in range(9)}}
    params, notes = load(write(tmp_path, TENSORS | head, raw))
    assert params["classifier/kernel"].shape == (24, 7)
    assert len(notes) == 2


# --- what is refused ---------------------------------------------------------------------------


def test_everything_that_does_not_fit_is_in_one_line(tmp_path: Path) -> None:
    tensors = dict(TENSORS)
    del tensors["bert.embeddings.LayerNorm.bias"], tensors["bert.encoder.layer.0.output.dense.bias"]
    tensors["bert.encoder.layer.2.output.dense.bias"] = np.ones(24, "f")
    tensors["bert.adapter.weight"] = np.ones(3, "f")
    tensors["bert.encoder.layer.1.intermediate.dense.weight"] = np.ones((39, 24), "f")
    tensors[QUERY] = np.ones((24, 24), np.int8)
    tensors["embeddings.LayerNorm.gamma"] = TENSORS["bert.embeddings.LayerNorm.weight"]
    with refused(
        str(tmp_path),
        "missing: bert.embeddings.LayerNorm.bias, bert.encoder.layer.0.output.dense.bias;",
        "unexpected: bert.adapter.weight, bert.encoder.layer.2.output.dense.bias;",
        "there twice: embeddings.LayerNorm.gamma;",
        # In the file's own orientation.
        "bert.encoder.layer.1.intermediate.dense.weight [39, 24] instead of [40, 24]",
        f"{QUERY} is I8, not a float",
    ):
        load(write(tmp_path, tensors))


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bool"])
def test_tensors_without_fractions_are_refused(dtype: str, tmp_path: Path) -> None:
    with refused(QUERY, "not a float"):
        load(write(tmp_path, TENSORS | {QUERY: TENSORS[QUERY].astype(dtype)}))


def test_eight_bit_floats_are_refused(tmp_path: Path) -> None:
    with refused(QUERY, "F8_E4M3"):
        load(write(tmp_path, TENSORS | {QUERY: TENSORS[QUERY].astype(jnp.float8_e4m3fn)}))


def test_half_a_classifier_is_refused(tmp_path: Path) -> None:
    tensors = {name: x for name, x in TENSORS.items() if name != "classifier.bias"}
    with refused("missing: classifier.bias"):
        load(write(tmp_path, tensors))


def test_a_model_of_another_size_is_refused(tmp_path: Path) -> None:
    config = bert.BertConfig.from_dict(RAW | {"num_hidden_layers": 3}, len(TAGS))
    with refused("missing: bert.encoder.layer.2."):
        huggingface.load(GOLDEN, config, TAGS, jax.random.key(0))


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = (GOLDEN / "model.safetensors").read_bytes()
    header = int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    sizes = [0, 4, 8, 8 + header, len(whole) - 1]
    sizes += [*rng.integers(8, 8 + header, 10), *rng.integers(8 + header, len(whole), 20)]
    write(tmp_path)
    for size in sizes:
        (tmp_path / "model.safetensors").write_bytes(whole[:size])
        with refused(str(tmp_path / "model.safetensors"), "damaged or cut off"):
            load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        np.random.default_rng(0).bytes(5000),
        (2**63).to_bytes(8, "little") + b"{}",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 79333384\n",
        b'\x44\0\0\0\0\0\0\0{"x":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}   ',
        b"<html>\n<body>404</body>\n</html>\n",
    ],
    ids=["noise", "endless header", "LFS pointer", "no data", "web page"],
)
def test_what_is_no_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with refused(str(tmp_path / "model.safetensors"), "damaged or cut off"):
        load(tmp_path)


def test_a_missing_shard(tmp_path: Path) -> None:
    write(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with refused("model-00002-of-00003.safetensors: no such file, though the index names it"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "sub/x", 5, None, ["x"]])
def test_an_index_cannot_name_files_elsewhere(name: Any, tmp_path: Path) -> None:
    write(tmp_path / "model", shards=1)
    (tmp_path / "x").write_bytes((GOLDEN / "model.safetensors").read_bytes())
    index = {"weight_map": {"classifier.bias": name}}
    path = tmp_path / "model/model.safetensors.index.json"
    path.write_text(json.dumps(index), "utf-8")
    with refused(str(path)):
        load(tmp_path / "model")


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_an_index_cannot_name_directories(name: str, tmp_path: Path) -> None:
    write(tmp_path, shards=1)
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"weight_map": {{"x": "{name}"}}}}')
    with refused(str(tmp_path)):
        load(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"weight_map": []}', "\udcff", "[" * 100_000],
    ids=["empty", "cut off", "list", "no map", "no names", "not UTF-8", "nested"],
)
def test_a_damaged_index(content: str, tmp_path: Path) -> None:
    path = write(tmp_path, shards=1) / "model.safetensors.index.json"
    path.write_text(content, "utf-8", errors="surrogateescape")
    with refused(str(path), "cannot be read"):
        load(tmp_path)


def test_no_weights(tmp_path: Path) -> None:
    (write(tmp_path) / "model.safetensors").unlink()
    with refused(str(tmp_path), "no weights", "model.safetensors"):
        load(tmp_path)


def test_no_config(tmp_path: Path) -> None:
    with refused(str(tmp_path), "no config.json"):
        huggingface.read_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "what"),
    [("{", "cannot be read"), ("", "cannot be read"), ("\udcff", "cannot be read"),
     ("[" * 100_000, "cannot be read"),
     ("[]", "not a JSON object"), ("null", "not a JSON object"), ("7", "not a JSON object")],
    ids=["cut off", "empty", "not UTF-8", "nested", "list", "null", "number"],
)  # fmt: skip
def test_a_damaged_config(content: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, "utf-8", errors="surrogateescape")
    with refused(str(tmp_path / "config.json"), what):
        huggingface.read_config(tmp_path)


# --- pytorch_model.bin -------------------------------------------------------------------------


def write_pickled(directory: Path, content: Any) -> Path:
    torch = pytest.importorskip("torch")
    write(directory)
    (directory / "model.safetensors").unlink()
    torch.save(content, directory / "pytorch_model.bin")
    return directory


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_pickled_weights_equal_safetensors(dtype: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {
        name: torch.nn.Parameter(torch.tensor(x, dtype=getattr(torch, dtype)))
        for name, x in TENSORS.items()
    }
    rounded = {name: x.detach().float().numpy() for name, x in tensors.items()}
    params, notes = load(write_pickled(tmp_path / "pickled", tensors))
    assert notes == []
    assert_same(params, load(write(tmp_path / "rounded", rounded))[0])


class Payload:
    """Makes a directory when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (self.target,)


def test_a_pickle_is_left_alone_by_a_torch_that_would_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    directory = write_pickled(tmp_path / "model", {"classifier.bias": torch.zeros(7)})
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with refused("needs torch 2.6 or newer, not 2.5.1+cpu"):
        load(directory)


@pytest.mark.parametrize("plain", [False, True])
def test_a_pickle_cannot_run_code(plain: bool, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    directory = write_pickled(tmp_path / "model", {"classifier.bias": Payload(target)})
    path = directory / "pytorch_model.bin"
    if plain:
        path.write_bytes(pickle.dumps(Payload(target), protocol=2))
    with refused(str(path), "could run code"):
        load(directory)
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))  # the payload does work
    assert target.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [([1, 2], "list"), ({"state_dict": {}}, "state_dict"), ({"x": 1}, "'x'"), ({7: 1}, "7")],
)
def test_a_pickle_of_something_else(content: Any, word: str, tmp_path: Path) -> None:
    with refused("pytorch_model.bin", word):
        load(write_pickled(tmp_path, content))


def test_a_pickle_of_integers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(x) for name, x in TENSORS.items()}
    with refused(f"{QUERY} is int8, not a float"):
        load(write_pickled(tmp_path, tensors | {QUERY: tensors[QUERY].to(torch.int8)}))


@pytest.mark.parametrize("size", [0, 3, 1000, -100])
def test_a_pickle_cut_off(size: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = write_pickled(tmp_path, {"x": torch.zeros(1000)}) / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:size])
    with refused(str(path), "damaged"):
        load(tmp_path)


def test_a_pickle_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with refused("pytorch_model.bin", "needs torch", "model.safetensors"):
        load(tmp_path)


# --- what is saved -----------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path, letters: Any) -> Path:
    """The golden model, loaded and saved, its parameters on the device in between."""
    params, _ = huggingface.load(GOLDEN, CONFIG, TAGS, jax.random.key(0))
    path = tmp_path / "saved"
    path.mkdir()
    huggingface.save(path, jax.tree.map(jnp.asarray, params), CONFIG, TAGS, letters)
    return path


def test_the_saved_tensors_are_the_original_ones(saved: Path) -> None:
    assert_same(safetensors.numpy.load_file(saved / "model.safetensors"), TENSORS)
    with safe_open(saved / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_load_save_load_is_exact(saved: Path, golden: dict[str, Any]) -> None:
    raw = huggingface.read_config(saved)
    assert bert.BertConfig.from_dict(raw, len(TAGS)) == CONFIG
    params, notes = load(saved)
    assert notes == []
    assert_same(params, golden)


def test_special_values_survive(tmp_path: Path, letters: Any, golden: dict[str, Any]) -> None:
    """Zeros of pruning, of either sign, and denormals."""
    params, _ = huggingface.load(GOLDEN, CONFIG, TAGS, jax.random.key(0))
    kernel = np.array(params["encoder"]["layer_0"]["mlp"]["output"]["kernel"])
    kernel[0, :4] = 0.0, -0.0, 1e-45, np.finfo(np.float32).max
    params["encoder"]["layer_0"]["mlp"]["output"]["kernel"] = kernel
    huggingface.save(tmp_path, params, CONFIG, TAGS, letters)
    assert_same(load(tmp_path)[0], by_path(params))


def test_the_saved_config(saved: Path) -> None:
    raw = json.loads((saved / "config.json").read_text("utf-8"))
    assert raw["id2label"] == {"0": "O", "1": "B-PER", "2": "I-PER", "3": "B-ORG", "4": "I-ORG",
                               "5": "B-LOC", "6": "I-LOC"}  # fmt: skip
    assert raw["label2id"] == {tag: i for i, tag in enumerate(TAGS)}
    assert raw["architectures"] == ["BertForTokenClassification"]
    assert (raw["model_type"], raw["dtype"]) == ("bert", "float32")
    shape = set(RAW) & set(CONFIG.__dataclass_fields__)
    assert {name: raw[name] for name in shape} == {name: RAW[name] for name in shape}


def test_transformers_loads_what_is_saved(saved: Path, letters: Any) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    theirs, info = transformers.AutoModelForTokenClassification.from_pretrained(
        saved, output_loading_info=True
    )
    assert type(theirs) is transformers.BertForTokenClassification
    assert {name for name, problem in info.items() if problem} == set()
    assert {"missing_keys", "unexpected_keys", "mismatched_keys"} <= set(info)
    assert theirs.config.id2label == dict(enumerate(TAGS))
    assert theirs.dtype == torch.float32
    assert_same({name: x.numpy() for name, x in theirs.state_dict().items()}, TENSORS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(saved)
    assert tokenizer("abc de")["input_ids"] == letters("abc de")["input_ids"]

    params, _ = huggingface.load(saved, CONFIG, TAGS, jax.random.key(0))
    tokens = np.random.default_rng(0).integers(1, 53, (2, 9)).astype(np.int32)
    positions = np.tile(np.arange(9, dtype=np.int32), (2, 1))
    ours = bert.apply(CONFIG, params, tokens, positions, np.ones_like(tokens))
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(tokens).long()).logits.numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


# --- where a model is found --------------------------------------------------------------------


def test_a_path_wins_over_the_hub(tmp_path: Path) -> None:
    assert huggingface.find(ModelConfig(path=str(tmp_path), hub="org/name")) == tmp_path
    assert huggingface.find(ModelConfig()) is None


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_path_that_is_no_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(f"model.path: {tmp_path / name} is not a directory"):
        huggingface.find(ModelConfig(path=str(tmp_path / name)))


SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


def fill(cache: Path) -> Path:
    """The layout in which the hub's client keeps what it has downloaded."""
    folder = cache / "models--org--name"
    shutil.copytree(GOLDEN, folder / "snapshots" / SHA)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(SHA)
    return folder / "snapshots" / SHA


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which connections are refused."""
    with socket.socket() as held:  # bound, not listening: nobody else can take the port
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def silence() -> Iterator[str]:
    """An address that accepts connections and never answers, as behind some firewalls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        end = threading.Timer(10, server.close)  # so that the test fails and does not hang
        end.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        end.cancel()


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("state", ["offline", "nobody", "silence"])
def test_without_the_hub(
    state: str,
    cached: bool,
    hub_cache: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is in the cache is used; what is not is an error, soon."""
    from huggingface_hub import constants

    if state == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        use_hub(monkeypatch, request.getfixturevalue(state))
    monkeypatch.setattr(huggingface, "HUB_TIMEOUT", 0.5)
    begin = time.monotonic()
    if cached:
        expected = fill(hub_cache)
        assert huggingface.find(ModelConfig(hub="org/name")) == expected
    else:
        with refused("model.hub", "'org/name'", "--model.path"):
            huggingface.find(ModelConfig(hub="org/name"))
    assert time.monotonic() - begin < 5


def test_the_limit_is_a_few_seconds() -> None:
    assert 2 <= huggingface.HUB_TIMEOUT <= 10


@pytest.mark.parametrize("name", ["a/b/c", "with space", "../x"])
def test_a_name_that_cannot_be_on_the_hub(name: str, hub_cache: Path) -> None:
    with refused("model.hub", repr(name), "Repo id", "--model.path"):
        huggingface.find(ModelConfig(hub=name))


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as downloading the golden model takes."""

    FILES = ("config.json", "model.safetensors", "expected.json")

    def do_GET(self) -> None:
        path = urllib.parse.urlparse(self.path).path
        if path in ("/api/models/org/name", "/api/models/org/name/revision/main"):
            self.answer({"id": "org/name", "sha": SHA, "siblings": []})
        elif path.startswith(f"/api/models/org/name/tree/{SHA}"):
            self.answer(
                [
                    {"type": "file", "path": f, "oid": f, "size": (GOLDEN / f).stat().st_size}
                    for f in self.FILES
                ]
            )
        elif path.startswith(f"/org/name/resolve/{SHA}/"):
            name = path.rsplit("/", 1)[1]
            self.respond(200, (GOLDEN / name).read_bytes(), {"ETag": f'"{name}"'})
        else:
            self.respond(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, content: Any) -> None:
        self.respond(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def respond(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "X-Repo-Commit": SHA, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_once_and_then_found_without_the_hub(
    hub: None, monkeypatch: pytest.MonkeyPatch, golden: dict[str, Any]
) -> None:
    from huggingface_hub import constants

    directory = huggingface.find(ModelConfig(hub="org/name"))
    assert directory is not None
    assert sorted(p.name for p in directory.iterdir()) == ["config.json", "model.safetensors"]
    assert_same(load(directory)[0], golden)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert huggingface.find(ModelConfig(hub="org/name")) == directory


def test_a_model_that_the_hub_does_not_have(hub: None) -> None:
    with refused("model.hub", "'org/other'", "404", "Repository Not Found", "--model.path"):
        huggingface.find(ModelConfig(hub="org/other"))


# --- together with the tokenizer ---------------------------------------------------------------


def load_tokenizer(directory: Path, length: int) -> Any:
    return setup.load_tokenizer(Config(data=DataConfig(length=length)), directory, {})


def test_parts_that_do_not_fit_each_other(tmp_path: Path, letters: Any) -> None:
    letters.save_pretrained(tmp_path)  # 57 pieces
    write(tmp_path)
    with refused(str(tmp_path), "57 pieces", "53 word embeddings"):
        load_tokenizer(tmp_path, 16)
    words = np.ones((60, 24), "f")
    write(
        tmp_path,
        TENSORS | {"bert.embeddings.word_embeddings.weight": words},
        RAW | {"vocab_size": 60},
    )
    with refused("data.length: 17", "16 positions"):
        load_tokenizer(tmp_path, 17)
    tokenizer, shape = load_tokenizer(tmp_path, 16)
    shape, params, notes = setup.load_model(tmp_path, shape, TAGS, jax.random.key(0))
    assert (len(tokenizer), shape.vocab_size, notes) == (57, 60, [])
    np.testing.assert_array_equal(params["embeddings"]["word"]["embedding"], words)
