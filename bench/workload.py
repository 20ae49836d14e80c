"""What the benchmarks work on, and what they say of the machine: shared by the scripts here."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsejax.data.sentences import Sentence
    from sparsejax.models.bert import BertConfig, Params

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
SMALL, MBERT = "e5-small", "mbert"


def parser(doc: str | None) -> argparse.ArgumentParser:
    """With the flags that all of them have."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--shared", type=Path, default=Path("../shared"))
    made.add_argument("--out", type=Path, help="JSON file to write; default: only print")
    return made


def model_flags(parser: argparse.ArgumentParser) -> None:
    """Which model, and in what precision."""
    parser.add_argument("--model", choices=[SMALL, MBERT], default=SMALL)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")


def check(shared: Path) -> None:
    """Ends the script where the data are not there."""
    if not (shared / "data/panx").is_dir():
        sys.exit(f"error: --shared: {shared}/data/panx is not there")


def sentences(
    shared: Path, split: str, languages: Iterable[str] | None, number: int | None
) -> dict[str, list[Sentence]]:
    """WikiAnn's first `number` sentences of each language; None: all of them, or all languages."""
    from sparsejax.config import DataConfig
    from sparsejax.data import sources

    config = DataConfig(dir=str(shared / "data/panx"))
    codes = sources.eval_languages(config, split) if languages is None else tuple(languages)
    parts = sources.parts(config, split, codes)
    return {code: list(sources.take(part.open(), number)) for code, part in parts.items()}


def tokenizer_and_shape(shared: Path, model: str) -> tuple[Any, BertConfig]:
    """The pretrained small encoder's, or those of mBERT: its own vocabulary, 12 layers of 768."""
    from sparsejax.data import tokenization
    from sparsejax.models import bert, huggingface

    if model == SMALL:
        return huggingface.load_shape(shared / "models/e5-small-39", len(TAGS))
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "vocab.txt").symlink_to((shared / "data/mbert-vocab.txt").resolve())
        settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
        (Path(directory) / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = tokenization.load_tokenizer(Path(directory))
    # Everything else is what Hugging Face's BertConfig has where a checkpoint says nothing.
    return tokenizer, bert.BertConfig(vocab_size=len(tokenizer), num_labels=len(TAGS))


def parameters(shared: Path, model: str, shape: BertConfig) -> Params:
    """The pretrained ones, or random ones, which are as fast."""
    import jax

    from sparsejax.models import bert, huggingface

    key = jax.random.key(0)
    if model == SMALL:
        return huggingface.load(shared / "models/e5-small-39", shape, TAGS, key)[0]
    return bert.init(shape, key)


def device() -> str:
    """The accelerators of this process, or its CPU, in words."""
    import jax

    found = jax.devices()
    return host() if found[0].platform == "cpu" else f"{len(found)} x {found[0].device_kind}"


def host() -> str:
    """The CPU of this process in words."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    wide = ", AVX-512" if any("avx512f" in line for line in lines) else ""
    return f"{len(os.sched_getaffinity(0))} CPU cores, {name}{wide}"


def commit() -> str | None:
    """Of the repository that this script is part of; None where it is in none.

    Changes that are not committed show as `-dirty`, those of docs/ apart: results go there.
    """
    root = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        line = ["git", "-C", str(root), *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def peak() -> float | None:
    """Operations a second of all devices in bfloat16 by their data sheet, where it is known."""
    import jax

    from sparsejax.runtime.chips import CHIPS

    chip = CHIPS.get(jax.devices()[0].device_kind)
    return None if chip is None else chip.flops * jax.device_count()


def report(packages: Iterable[str], on: str | None = None, **found: Any) -> dict[str, Any]:
    """What was found, with the day, the device and the versions that it was found with.

    Args:
      packages: whose versions matter.
      on: `host()` for what runs on the CPU whatever else is there; None: `device()`.
    """
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "device": on or device(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    return about | found


def write(report: dict[str, Any], out: Path | None) -> None:
    """The report as a JSON file."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n")
