"""Hugging Face checkpoints to parameters and back: one table of names, nothing skipped silently."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sparsejax import checksums
from sparsejax.config import ModelConfig
from sparsejax.data.tokenization import load_tokenizer
from sparsejax.errors import UserError
from sparsejax.models import bert, weight_files
from sparsejax.ner.spans import entity_types

# (Hugging Face's name, our path, whether the matrix is transposed: PyTorch stores [out, in]).
# `{i}` is a layer's number. A name may carry the prefix `bert.`.
TABLE = (
    ("embeddings.word_embeddings.weight", "embeddings/word/embedding", False),
    ("embeddings.position_embeddings.weight", "embeddings/position/embedding", False),
    ("embeddings.token_type_embeddings.weight", "embeddings/token_type/embedding", False),
    ("embeddings.LayerNorm.weight", "embeddings/norm/scale", False),
    ("embeddings.LayerNorm.bias", "embeddings/norm/bias", False),
    *(
        row
        for theirs, ours in (
            ("attention.self.query", "attention/query"),
            ("attention.self.key", "attention/key"),
            ("attention.self.value", "attention/value"),
            ("attention.output.dense", "attention/output"),
            ("intermediate.dense", "mlp/intermediate"),
            ("output.dense", "mlp/output"),
        )
        for row in (
            (f"encoder.layer.{{i}}.{theirs}.weight", f"encoder/layer_{{i}}/{ours}/kernel", True),
            (f"encoder.layer.{{i}}.{theirs}.bias", f"encoder/layer_{{i}}/{ours}/bias", False),
        )
    ),
    *(
        row
        for theirs, ours in (
            ("attention.output.LayerNorm", "attention/norm"),
            ("output.LayerNorm", "mlp/norm"),
        )
        for row in (
            (f"encoder.layer.{{i}}.{theirs}.weight", f"encoder/layer_{{i}}/{ours}/scale", False),
            (f"encoder.layer.{{i}}.{theirs}.bias", f"encoder/layer_{{i}}/{ours}/bias", False),
        )
    ),
    ("classifier.weight", "classifier/kernel", True),
    ("classifier.bias", "classifier/bias", False),
)

# What BERT checkpoints hold besides: buffers of old versions, and heads of other tasks.
HARMLESS = re.compile(r"embeddings\.(position_ids|token_type_ids)")
OTHER_HEADS = re.compile(r"(pooler|cls\.predictions|cls\.seq_relationship)\..*")

# As safetensors and as PyTorch name them.
FLOATS = ("F64", "F32", "F16", "BF16", "float64", "float32", "float16", "bfloat16")

HUB_TIMEOUT = 5.0  # seconds until the hub counts as unreachable

MODEL_FILES = (
    "config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
)  # fmt: skip


def find(config: ModelConfig) -> Path | None:
    """The local directory of a checkpoint: a path, or the hub's files, downloaded or cached.

    Returns:
      None where the configuration names no checkpoint.

    Raises:
      UserError: the directory does not exist, a file in it is not what its SHA256SUMS says, or the
        hub could not be reached.
    """
    if config.path is not None:
        if not Path(config.path).is_dir():
            raise UserError(f"model.path: {config.path} is not a directory")
        checksums.check(Path(config.path))
        return Path(config.path)
    if config.hub is None:
        return None
    import huggingface_hub

    unreachable = None
    try:
        # snapshot_download asks this first, too, but waits for an answer without a limit.
        huggingface_hub.HfApi().model_info(config.hub, timeout=HUB_TIMEOUT)
    except Exception as error:  # of the hub's client and of whatever network library it uses
        unreachable = error
    try:
        return Path(
            huggingface_hub.snapshot_download(
                config.hub,
                allow_patterns=list(MODEL_FILES),
                local_files_only=unreachable is not None,
            )
        )
    except Exception as error:
        cause = unreachable or error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise UserError(
            f"model.hub: could not load {config.hub!r} ({reason}); "
            "pass --model.path with a local copy"
        ) from error


def read_config(directory: Path) -> dict[str, Any]:
    """`config.json` of a model directory.

    Raises:
      UserError: it is missing or is not a JSON object.
    """
    path = directory / "config.json"
    try:
        raw = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{directory}: no config.json, so this is no model directory") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: not a JSON object")
    return raw


def read_labels(directory: Path) -> tuple[str, ...]:
    """The tags of a checkpoint's classifier in the order of its outputs; () if they are no tags."""
    found: Any = read_config(directory).get("id2label")
    try:
        labels = tuple(found[str(i)] for i in range(len(found)))
        entity_types(labels)
    except (TypeError, KeyError, AttributeError, UserError):  # no such field, or LABEL_0, LABEL_1
        return ()
    return labels


def load_shape(directory: Path, num_labels: int) -> tuple[Any, bert.BertConfig]:
    """Tokenizer and configuration of a checkpoint, for so many labels.

    Raises:
      UserError: one of them is missing, damaged or unsupported, or they do not fit each other.
    """
    raw = read_config(directory)
    try:
        shape = bert.BertConfig.from_dict(raw, num_labels)
    except UserError as error:
        raise UserError(f"{directory}/{error}") from None
    tokenizer = load_tokenizer(directory)
    if len(tokenizer) > shape.vocab_size:
        raise UserError(
            f"{directory}: the tokenizer has {len(tokenizer)} pieces, more than the "
            f"{shape.vocab_size} word embeddings (vocab_size)"
        )
    return tokenizer, shape


def load(
    directory: Path, config: bert.BertConfig, labels: Sequence[str], key: jax.Array
) -> tuple[bert.Params, list[str]]:
    """Parameters from `model.safetensors`, its sharded form, the compressed form of this package
    (`models.compressed`), or (with torch) `pytorch_model.bin`.

    Values of any float type become float32. The classifier is loaded when the checkpoint has one
    for the very same labels in the same order; otherwise it is drawn anew from `key`.

    Returns:
      Parameters as nested dicts of float32 arrays, and notes for the user: what is fresh and
      what was not used.

    Raises:
      UserError: no weights, a damaged file, or names or shapes that do not fit (all listed).
    """
    expected = {
        _path(keys): leaf.shape for keys, leaf in jax.tree.leaves_with_path(bert.shapes(config))
    }
    theirs = read_config(directory).get("id2label")
    same_labels = theirs == {str(i): label for i, label in enumerate(labels)}
    flat: dict[str, np.ndarray] = {}
    unexpected, twice, wrong, unused = [], [], [], []
    for raw_name, dtype, read in weight_files.read(directory):
        name = raw_name.removeprefix("bert.")
        path, transpose = _ours(name)
        if HARMLESS.fullmatch(name):
            continue
        if OTHER_HEADS.fullmatch(name) or (not same_labels and name.startswith("classifier.")):
            unused.append(raw_name)
        elif path not in expected:
            unexpected.append(raw_name)
        elif path in flat:
            twice.append(raw_name)
        elif dtype not in FLOATS:
            wrong.append(f"{raw_name} is {dtype}, not a float of 16, 32 or 64 bits")
            flat[path] = np.empty(0)  # it is there, so it is not missing
        else:
            value = read()
            shape = expected[path][::-1] if transpose else expected[path]
            if value.shape != shape:
                wrong.append(f"{raw_name} {list(value.shape)} instead of {list(shape)}")
            flat[path] = np.ascontiguousarray(value.T if transpose else value, np.float32)
    head = [path for path in expected if path.startswith("classifier/")]
    fresh = [] if any(path in flat for path in head) else head
    missing = [_theirs(path)[0] for path in expected if path not in flat and path not in fresh]
    faults = [
        f"{kind}: {', '.join(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("there twice", twice),
            ("unfit", wrong),
        )
        if names
    ]
    if faults:
        raise UserError(f"{directory}: the weights do not fit the model; {'; '.join(faults)}")
    notes = []
    if fresh:
        notes.append("the classifier is new: " + ", ".join(fresh))
        shape = expected["classifier/kernel"]
        flat["classifier/kernel"] = np.asarray(
            config.initializer_range * jax.random.normal(key, shape)
        )
        flat["classifier/bias"] = np.zeros(shape[1], np.float32)
    if unused:
        notes.append("not used, heads of other tasks: " + ", ".join(sorted(unused)))
    return _nested({path: flat[path] for path in expected}), notes


def save(
    directory: Path,
    params: bert.Params,
    config: bert.BertConfig,
    labels: Sequence[str],
    tokenizer: Any,
) -> None:
    """Writes a directory that `AutoModelForTokenClassification.from_pretrained` loads as it is.

    Where heads were cut out it does so only with `trust_remote_code=True`: the code of such a
    model lies beside the weights.

    Args:
      directory: must exist; the caller makes it appear at once (see `runtime.run_directory`).
      params: float32; they are written bit by bit.
      config, labels: of the model; label i is the meaning of logit i.
      tokenizer: saved beside the weights.
    """
    from safetensors.numpy import save as to_bytes

    # Not save_file: its files are for their owner alone, and a full disk is no OSError there.
    content = to_bytes(tensors(params), metadata={"format": "pt"})
    (directory / "model.safetensors").write_bytes(content)
    code = {}
    if config.kept_attention_heads is not None:
        source = Path(__file__).with_name("modeling_cut_bert.py")
        (directory / source.name).write_bytes(source.read_bytes())
        name = "CutBertForTokenClassification"
        code = {
            "architectures": [name],
            "auto_map": {"AutoModelForTokenClassification": f"{source.stem}.{name}"},
        }
    save_shape(directory, config, labels, tokenizer, code)


def save_shape(
    directory: Path,
    config: bert.BertConfig,
    labels: Sequence[str],
    tokenizer: Any,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Writes what a model directory has besides its weights; `more` are fields of config.json."""
    raw = {f: getattr(config, f) for f in config.__dataclass_fields__ if f != "num_labels"}
    if config.kept_attention_heads is None:
        del raw["kept_attention_heads"]  # not a field that others know
    raw |= {
        "architectures": ["BertForTokenClassification"],
        "model_type": "bert",
        "dtype": "float32",
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        **(more or {}),
    }
    (directory / "config.json").write_text(json.dumps(raw, indent=2) + "\n", "utf-8")
    save_tokenizer(directory, tokenizer)


def save_tokenizer(directory: Path, tokenizer: Any) -> None:
    """Writes the files of a tokenizer."""
    try:
        tokenizer.save_pretrained(directory)
    except Exception as error:  # the tokenizers library raises bare ones
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            code = int(found[1])
            raise OSError(code, os.strerror(code), str(directory)) from None
        raise


def tensors(params: bert.Params) -> dict[str, np.ndarray]:
    """Parameters by Hugging Face's names, matrices as PyTorch has them, [out, in]."""
    found = {}
    for keys, leaf in jax.tree.leaves_with_path(params):
        name, transpose = _theirs(_path(keys))
        value = np.asarray(leaf)
        found[name] = np.ascontiguousarray(value.T if transpose else value)
    return found


def _path(keys: Sequence[Any]) -> str:
    return "/".join(key.key for key in keys)


def _ours(name: str) -> tuple[str | None, bool]:
    layer = re.search(r"(?<=^encoder\.layer\.)\d+", name)
    generic = re.sub(r"^encoder\.layer\.\d+", "encoder.layer.{i}", name)
    # TensorFlow's names, kept by the oldest converted checkpoints.
    generic = generic.replace("LayerNorm.gamma", "LayerNorm.weight")
    generic = generic.replace("LayerNorm.beta", "LayerNorm.bias")
    for theirs, ours, transpose in TABLE:
        if theirs == generic:
            return ours.replace("{i}", layer[0] if layer else ""), transpose
    return None, False


def _theirs(path: str) -> tuple[str, bool]:
    layer = re.search(r"(?<=^encoder/layer_)\d+", path)
    generic = re.sub(r"^encoder/layer_\d+", "encoder/layer_{i}", path)
    for theirs, ours, transpose in TABLE:
        if ours == generic:
            name = theirs.replace("{i}", layer[0] if layer else "")
            return (name if name.startswith("classifier.") else f"bert.{name}"), transpose
    raise KeyError(path)


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *above, name = path.split("/")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[name] = value
    return tree
