"""Tokenised sentences on disk, keyed by everything that decides them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sparsejax.data.sources import Sentence
from sparsejax.data.tokenization import Encoded, encode
from sparsejax.errors import UserError

VERSION = "1"  # of `encode` and of the file's layout: raised with every change of either


def default_directory() -> Path:
    """$SPARSEJAX_CACHE, else sparsejax in the user's cache directory."""
    if os.environ.get("SPARSEJAX_CACHE"):
        return Path(os.environ["SPARSEJAX_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".cache") / "sparsejax"
    except RuntimeError:  # a user without a home, as in some containers
        raise UserError("data.cache: there is no home directory; pass --data.cache") from None


def encoder(
    tokenizer: Any, length: int, directory: str | None
) -> Callable[[Sequence[Sentence]], Encoded]:
    """`tokenization.encode` for one tokenizer and length, remembered on disk.

    A damaged file is rebuilt. A directory that cannot be written costs the cache and nothing else.

    Args:
      directory: of the cache; None: `default_directory()`.
    """
    where = default_directory() if directory is None else Path(directory)
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id)
    rules = f"{VERSION} {length} {special} {tokenizer.backend_tokenizer.to_str()}"

    def encode_cached(sentences: Sequence[Sentence]) -> Encoded:
        path = where / f"encoded-{_key(rules, sentences)}.safetensors"
        found = _read(path)
        if found is None:
            found = encode(sentences, tokenizer, length)
            _write(path, found)
        return found

    return encode_cached


def _key(rules: str, sentences: Sequence[Sentence]) -> str:
    digest = hashlib.blake2b(rules.encode(), digest_size=20)
    # JSON, where a word ends is part of the text: no two corpora run together into the same bytes.
    for sentence in sentences:
        digest.update(json.dumps(sentence).encode())
    return digest.hexdigest()


def _write(path: Path, encoded: Encoded) -> None:
    arrays = {f.name: getattr(encoded, f.name) for f in dataclasses.fields(Encoded)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError, SafetensorError):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(arrays, temporary, metadata={"checksum": _checksum(arrays)})
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _read(path: Path) -> Encoded | None:
    try:
        with safe_open(path, framework="np") as file:
            arrays = {f.name: file.get_tensor(f.name) for f in dataclasses.fields(Encoded)}
            whole = (file.metadata() or {}).get("checksum") == _checksum(arrays)
    except (OSError, SafetensorError):
        return None
    return Encoded(**arrays) if whole else None


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
