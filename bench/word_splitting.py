"""How much of WikiAnn's own word splitting comes back from plain text, and what the rest costs.

    python bench/word_splitting.py RUN --out docs/benchmarks/word_splitting.json

Test sentences become text as people write it: with spaces between words, but none before a comma
and the like, nor within brackets; in Chinese and Japanese only where WikiAnn has #, which stands
for one there. `words` is the share of gold words that the splitter gives back exactly. F1 is that
of the tagger on the first sentences, given the gold words and the split ones; entities are places
in the text. `bare`: without the signs at the ends of entities, on both sides; in some languages
WikiAnn does not split them off.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import statistics
import sys
from pathlib import Path

import regex

WITHOUT_SPACE_BEFORE = {*",.;:!?)]}%/", "'s", "،", "؛", "؟"}
SIGNS = r"[\p{P}\p{S}]*"


def as_text(code: str, words: list[str]):
    """The sentence as a `Text` that is split as it was."""
    from sparsejax.data.texts import Text

    unspaced = code in ("ja", "zh")
    text, kept, places = "", [], []
    for word in words:
        if unspaced and word == "#":
            text += " "
            continue
        attached = unspaced or word in WITHOUT_SPACE_BEFORE or text[-1:] in ("(", "[", "{", "/")
        text += "" if attached or not text else " "
        kept.append(word)
        places.append((len(text), len(text) + len(word)))
        text += word
    return Text({"text": text}, kept, places)


def spans(mentions, bare: bool):
    """The entities as (start, end, type)."""
    found = set()
    for kind, text, start, end, _ in mentions:
        if bare:
            end = start + regex.search(SIGNS + "$", text).start()
            start += regex.match(SIGNS, text).end()
        found.add((start, end, kind))
    return found


def f1(gold, found, bare: bool = False) -> float:
    """Of the entities of some texts."""
    gold, found = ([spans(mentions, bare) for mentions in side] for side in (gold, found))
    right = sum(len(a & b) for a, b in zip(gold, found, strict=True))
    return 200 * right / (sum(map(len, gold)) + sum(map(len, found)) or 1)


def measure(code: str, sentences, tagger, length: int, limit: int) -> dict[str, float]:
    """One row of the table, all numbers in percent."""
    from sparsejax import predict
    from sparsejax.data import texts
    from sparsejax.ner.mentions import mentions

    given = [as_text(code, sentence.words) for sentence in sentences]
    split = list(texts.read((("", text.row["text"]) for text in given), as_json=False))
    right = sum(len({*a.places} & {*b.places}) for a, b in zip(given, split, strict=True))
    gold = []
    for text, (words, tags) in zip(given[:limit], sentences, strict=False):
        kept = [t for w, t in zip(words, tags, strict=True) if w != "#" or code not in ("ja", "zh")]
        gold.append(mentions(text, kept, [1.0] * len(kept)))
    row = {"words": 100 * right / sum(len(text.words) for text in given)}
    for name, side in (("gold", given[:limit]), ("split", split[:limit])):
        tagged = predict.tag(tagger, side, length, None, lambda texts, share: None)[0]
        row |= {f"f1_{name}": f1(gold, tagged), f"f1_{name}_bare": f1(gold, tagged, bare=True)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run, or a model directory")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, help="JSON file to write; default: only print")
    parser.add_argument("--sentences", type=int, default=200, help="of each language, for F1")
    parser.add_argument("--languages", nargs="*", help="default: all")
    args = parser.parse_args()
    data = args.shared / "data/panx"
    if not data.is_dir():
        sys.exit(f"error: --shared: {data} is not there")

    from sparsejax import predict
    from sparsejax.data.readers import Reader

    tagger, length = predict.load(args.run)
    rows = {}
    for code in args.languages or sorted(path.name for path in data.iterdir()):
        sentences = list(itertools.islice(Reader(data / code / "test.tsv"), 10_000))
        rows[code] = measure(code, sentences, tagger, length, args.sentences)
        print(code, *(f"{name} {value:.1f}" for name, value in rows[code].items()), flush=True)
    names = next(iter(rows.values()))
    mean = {name: statistics.mean(row[name] for row in rows.values()) for name in names}
    print("mean", *(f"{name} {value:.1f}" for name, value in mean.items()))
    if args.out:
        report = {"date": datetime.date.today().isoformat(), "sentences": args.sentences}
        report |= {"mean": mean, "languages": rows}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
