"""What several test files share: data outside the repository, a tokenizer, a private cache."""

from __future__ import annotations

import os
import signal
import string
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# No deadline: how long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

# In the background of a shell this signal is ignored, by all that is started from here as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]

# What one test compiles need not be compiled by the next, nor by the programs that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".pytest_cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory with real data and a pretrained model: $SPARSEJAX_SHARED or ../shared."""
    path = Path(os.environ.get("SPARSEJAX_SHARED") or REPOSITORY.parent / "shared")
    if not path.is_dir():
        pytest.skip(f"no real data: {path} is not a directory (set SPARSEJAX_SHARED)")
    return path


@pytest.fixture(autouse=True)
def private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenised data never goes to the user's home, nor from one test to another."""
    monkeypatch.setenv("SPARSEJAX_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def letters() -> Any:
    """A tokenizer whose pieces can be counted by hand: every letter from a to z is one."""
    import tokenizers
    import transformers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase)]
    raw = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            vocab={piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"
        )
    )
    raw.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False)
    raw.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    raw.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    )
