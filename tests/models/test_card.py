"""The card says what the run says, and no text from data or configuration breaks out of it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import yaml

from sparsejax.config import Config, DataConfig, ModelConfig, PruneConfig, TrainConfig
from sparsejax.data import languages
from sparsejax.models import card

CONFIG = Config(
    data=DataConfig(dir="/home/somebody/panx", languages=("en", "sw"), eval_sentences=50),
    model=ModelConfig(path="/home/somebody/models/e5-small"),
    prune=PruneConfig(method="movement", sparsity=0.95, scope="global"),
    train=TrainConfig(epochs=3, learning_rate=5e-5),
    seed=7,
)
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TABLE = languages.table(None)


def row(language: str, f1: float | None, **other: Any) -> dict[str, Any]:
    return {
        "kind": "scores",
        "data": "/home/somebody/panx",
        "split": "test",
        "evaluated": ["en", "sw"],
        "limit": 50,
        "perturbation": "none",
        "language": language,
        "f1": f1,
        "support": 1234,
    } | other


COUNT = {"zeros": 900, "size": 1000, "sparsity": 0.9}
ROWS = [
    row("en", 0.91234),
    row("sw", None),
    row("macro", 0.5, sentences=100, clean_sentences=90, clean={"f1": 0.4}),
    row("micro", 0.6),
    {"kind": "sparsity", "targets": COUNT, "leaves": {},
     "encoder": {"zeros": 900, "size": 1200, "sparsity": 0.75},
     "model": {"zeros": 900, "size": 3600, "sparsity": 0.25}},
]  # fmt: skip


def write(config: Config = CONFIG, rows: Any = ROWS, labels: Any = LABELS, **other: Any) -> str:
    facts = card.of_run(config, rows, labels, TABLE)
    given = {"form": "huggingface", "changes": (), "code": False} | other
    return card.whole(facts, config.data.languages, **given)


def front(text: str) -> dict[str, Any]:
    """As the hub reads it: between the first two lines of three dashes."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1])


def test_front_matter() -> None:
    found = front(write())
    assert found["language"] == ["en", "sw"]
    assert (found["pipeline_tag"], found["library_name"]) == (
        "token-classification",
        "transformers",
    )
    assert "license" not in found
    assert front(write(form="compressed"))["library_name"] == "sparsejax"


def test_numbers_of_the_run() -> None:
    text = write()
    for line in (
        "| en English | 91.2 | 1,234 |",
        "| sw Swahili | - | 1,234 |",
        "| macro | 50.0 | 1,234 |",
        "| micro | 60.0 | 1,234 |",
        "| matrices to prune | 900 | 1,000 | 90.00 |",
        "| whole encoder | 900 | 1,200 | 75.00 |",
        "| whole model | 900 | 3,600 | 25.00 |",
    ):
        assert line in text.splitlines()
    assert "On the 90 of 100 sentences" in text and "macro F1 is 40.0" in text
    for word in ("movement", "0.95", "scope global", "3 epochs", "5e-05", "seed: 7", "LOC, PER",
                 "e5-small", "panx", "at most 50 sentences", "links by a program"):  # fmt: skip
        assert word in text, word


def test_a_run_without_scores() -> None:
    text = write(rows=[{"kind": "group", "language": "x"}])
    assert "holds no scores" in text and "no count of its zeros" in text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DataConfig(), "The data are synthetic"),
        (DataConfig(hub="unimelb-nlp/wikiann"), "by a program"),
        (DataConfig(dir="/data/mine"), "Who labelled these data, and how well, is not known"),
    ],
)
def test_what_it_is_no_evidence_for(data: DataConfig, words: str) -> None:
    data = dataclasses.replace(data, languages=("en",))
    section = write(dataclasses.replace(CONFIG, data=data)).split("no evidence for\n")[1]
    assert words in section.split("\n## ")[0]


def test_no_place_of_this_machine() -> None:
    hub = dataclasses.replace(CONFIG, data=DataConfig(hub="/home/somebody/copy", languages=("en",)))
    for text in (write(), write(hub)):
        assert "somebody" not in text and "home" not in text
    assert "unimelb\\-nlp" not in write() and "copy" in write(hub)


BAD = (
    "<script>alert(1)</script>",
    "a|b",
    "one\n---\n\n# two",
    "\u2028## next",
    "[x](javascript:alert)",
    "`code` **bold** $x$ ~~no~~ &lt;b&gt;",
    "![i](http://example.org/i.png)",
    "\u202egnp.exe\x1b[31m",
    "{{ site }}: #x",
)


def markup(text: str) -> dict[str, int]:
    """What Markdown would make more of than text: marks that no backslash stands before."""
    plain = re.sub(r"\\[!-/:-@\[-`{-~]", "", text)
    marks = {mark: plain.count(mark) for mark in "<>|`[]*_~$#!{}\\\x1b\u202e\u2028"}
    return marks | {"lines": len(text.splitlines())}


@pytest.mark.parametrize("bad", BAD)
def test_text_cannot_break_out(bad: str) -> None:
    """The marks of a card with bad names are those of a card with good ones."""

    def marked(name: str) -> str:
        config = dataclasses.replace(
            CONFIG,
            data=dataclasses.replace(CONFIG.data, dir=f"/home/{name.replace('/', '')}"),
            model=ModelConfig(path=f"/home/{name.replace('/', '')}"),
            prune=dataclasses.replace(CONFIG.prune, pattern=name),
        )
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, languages=(name, "sw"))
        )
        rows = [r | {"data": config.data.dir, "evaluated": sorted((name, "sw"))} for r in ROWS]
        rows[0] |= {"language": name}
        return write(config, rows, [*LABELS, f"B-{name}"])

    found, good = marked(bad), marked("name")
    assert front(found) == front(good) | {"language": [bad, "sw"]}
    assert "| name | 91.2 |" in good  # the row that bad names enter
    body = [text.split("\n---\n\n# Named-entity tagger\n", 1)[1] for text in (found, good)]
    assert markup(body[0]) == markup(body[1])


def test_escaped_text_reads_the_same() -> None:
    assert card.escape("Kiswahili 90,5 a-b/c") == "Kiswahili 90,5 a-b/c"
    assert card.escape("a|b <i>\n_c_") == r"a\|b &lt;i&gt; \_c\_"


# --- cards of cards -----------------------------------------------------------------------------


def test_changes_are_added_to_the_earlier_card() -> None:
    first = write(form="compressed", changes=["weights were rounded"])
    facts, codes = card.parts(first)
    second = card.whole(facts, codes, "huggingface", ["heads were cut"], code=True)
    assert front(second) == front(write())
    changed = second.split("## What was changed afterwards\n\n")[1]
    assert changed.startswith("- weights were rounded\n- heads were cut\n\n## How to use it")
    assert "| en English | 91.2 | 1,234 |" in second
    assert second.count("## How to use it") == 1
    assert "trust_remote_code=True" in second and "python -m sparsejax.export" not in second
    assert card.parts(card.whole(*card.parts(first), "compressed", [], False)) == (facts, codes)


@pytest.mark.parametrize(
    "text",
    ["", "# Somebody's model", "---\n- x\n---\n\n# Named-entity tagger\n\nx\n## How to use it\n",
     "---\n[\n---\n\n# Named-entity tagger\n\nx\n\n## How to use it\n", "---\nlanguage: 3\n---\n"],
)  # fmt: skip
def test_other_cards_are_not_taken_over(text: str) -> None:
    assert card.parts(text) == (card.UNKNOWN, [])
