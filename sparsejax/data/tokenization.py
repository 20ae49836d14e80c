"""Words to pieces: labels on first pieces, no word without a piece, no sentence cut off."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparsejax.data.sentences import Sentence
from sparsejax.errors import UserError

IGNORE = -100
"""The label of every piece that is not the first of a word."""

SPECIAL = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Tokenised sentences, laid end to end.

    A sentence longer than a row is split between words into several *chunks*; every chunk begins
    with the classification piece and ends with the separator. Chunks and their words are in the
    order of the sentences, so that the positions with `labels != IGNORE`, read from left to right,
    are the words of the corpus in order.
    """

    tokens: np.ndarray  # int32 [pieces]
    labels: np.ndarray  # int32 [pieces]: tag id on the first piece of a word, else IGNORE
    lengths: np.ndarray  # int32 [chunks]: pieces of each chunk
    words: np.ndarray  # int32 [sentences]: words of each sentence
    repairs: np.ndarray  # int64 [4]: how often each of REPAIRS was needed

    REPAIRS = (
        "words without a piece became the unknown piece",
        "words with more pieces than a row were shortened",
        "sentences longer than a row were split between words",
        "I- tags that continued no entity became B-",  # by the reader of the sentences
    )


def concatenate(parts: Sequence[Encoded]) -> Encoded:
    """The sentences of all parts, in order."""
    fields = [f.name for f in dataclasses.fields(Encoded)]
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in fields}
    joined["repairs"] = np.sum([p.repairs for p in parts], axis=0)
    return Encoded(**joined)


class Pieces(NamedTuple):
    """What `encode` needs of a tokenizer; unlike the whole of it, cheap to send to a process."""

    backend_tokenizer: Any
    unk_token_id: int
    cls_token_id: int
    sep_token_id: int


def pieces_of(tokenizer: Any) -> Pieces:
    """The part of a fast Hugging Face tokenizer that `encode` needs."""
    return Pieces(*(getattr(tokenizer, name) for name in Pieces._fields))


def encode(
    sentences: Sequence[Sentence], tokenizer: Any, length: int, labels: Sequence[str]
) -> Encoded:
    """Tokenises sentences into chunks of at most `length` pieces, special pieces included.

    Args:
      sentences: words with their tags.
      tokenizer: `Pieces`, or a fast Hugging Face tokenizer with `cls_token` and `sep_token`.
      length: of a packed row.
      labels: the tags, whose places are the label ids.
    """
    unknown, first, last = (
        tokenizer.unk_token_id,
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
    )
    room = length - 2
    tag_ids = {tag: i for i, tag in enumerate(labels)}
    tokens: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    repairs = [0] * len(Encoded.REPAIRS)
    # The backend does what `tokenizer(..., is_split_into_words=True)` does, without its copies.
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    batch = backend.encode_batch(
        [s.words for s in sentences], is_pretokenized=True, add_special_tokens=False
    )
    # They are saved with the tokenizer, which must not depend on what was encoded with it.
    if truncation is not None:
        backend.enable_truncation(**truncation)
    if padding is not None:
        backend.enable_padding(**padding)
    for sentence, encoding in zip(sentences, batch, strict=True):
        pieces: list[list[int]] = [[] for _ in sentence.words]
        for piece, word in zip(encoding.ids, encoding.word_ids, strict=True):
            pieces[word].append(piece)
        size, chunks = 0, 1
        tokens.append(first)
        targets.append(IGNORE)
        for word, tag in zip(pieces, sentence.tags, strict=True):
            if not word:
                word.append(unknown)
                repairs[0] += 1
            elif len(word) > room:
                del word[room:]
                repairs[1] += 1
            if size + len(word) > room:
                tokens += (last, first)
                targets += (IGNORE, IGNORE)
                lengths.append(size + 2)
                size, chunks = 0, chunks + 1
            tokens += word
            targets.append(tag_ids[tag])
            targets += [IGNORE] * (len(word) - 1)
            size += len(word)
        tokens.append(last)
        targets.append(IGNORE)
        lengths.append(size + 2)
        repairs[2] += chunks > 1
    return Encoded(
        tokens=np.array(tokens, np.int32),
        labels=np.array(targets, np.int32),
        lengths=np.array(lengths, np.int32),
        words=np.array([len(s.words) for s in sentences], np.int32),
        repairs=np.array(repairs, np.int64),
    )


def load_tokenizer(directory: Path) -> Any:
    """The fast tokenizer of a Hugging Face model directory.

    Raises:
      UserError: there is none, it is damaged, slow, or lacks one of the special tokens used here.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    # Asked for a directory without tokenizer files, AutoTokenizer invents an empty tokenizer.
    if not any((directory / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise UserError(f"{directory}: no tokenizer (neither tokenizer.json nor vocab.txt)")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{directory}: the tokenizer cannot be read ({reason})") from error
    if not tokenizer.is_fast:
        raise UserError(f"{directory}: the tokenizer has no fast version (tokenizer.json)")
    missing = [f"{k}_token" for k in SPECIAL if getattr(tokenizer, f"{k}_token_id") is None]
    missing = [name for name in missing if name != "mask_token"]
    if missing:
        raise UserError(f"{directory}: the tokenizer has no {', '.join(missing)}")
    return tokenizer


def train_tokenizer(words: Iterable[str], size: int) -> Any:
    """A cased WordPiece tokenizer learned from words, split as BERT's tokenizer splits text.

    The same words give the same tokenizer, in every process.

    Args:
      words: with repetitions; frequency decides what is merged.
      size: of the vocabulary at most, the five special pieces included; at least 6.
    """
    import tokenizers
    import transformers

    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    splitter = tokenizers.pre_tokenizers.BertPreTokenizer()
    counts: collections.Counter[str] = collections.Counter()
    for word, count in collections.Counter(words).items():
        for part, _ in splitter.pre_tokenize_str(normalizer.normalize_str(word)):
            counts[part] += count

    # The trainer meets letters in the order of a randomly seeded hash table, and that decides their
    # ids, which are left out and, where counts tie, what is merged. So it is given them in order.
    initial, inner = _letters(counts, size)
    special = list(SPECIAL.values())
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=[*special, *inner],  # special only in that their ids are given
        initial_alphabet=initial,
        limit_alphabet=len(initial),
        show_progress=False,
    )
    trained = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token=SPECIAL["unk"]))
    trained.train_from_iterator(counts.elements(), trainer)

    vocabulary = trained.get_vocab()
    raw = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocab=vocabulary, unk_token=SPECIAL["unk"])
    )
    raw.normalizer = normalizer
    raw.pre_tokenizer = splitter
    cls, sep = SPECIAL["cls"], SPECIAL["sep"]
    raw.post_processor = tokenizers.processors.BertProcessing(
        (sep, vocabulary[sep]), (cls, vocabulary[cls])
    )
    raw.decoder = tokenizers.decoders.WordPiece()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, **{f"{name}_token": token for name, token in SPECIAL.items()}
    )


def _letters(counts: collections.Counter[str], size: int) -> tuple[list[str], list[str]]:
    """The letters a vocabulary of `size` begins with: as first in a word, and after the first.

    The most frequent ones, at most size / 2 of them, and as many as fit beside the special pieces.
    """
    frequency: collections.Counter[str] = collections.Counter()
    follows: set[str] = set()
    for part, count in counts.items():
        follows.update(part[1:])
        for letter in part:
            frequency[letter] += count
    initial: list[str] = []
    inner: list[str] = []
    for letter in sorted(frequency, key=lambda letter: (-frequency[letter], letter))[: size // 2]:
        pieces = len(initial) + len(inner) + 1 + (letter in follows)
        if pieces > size - len(SPECIAL):
            break
        initial.append(letter)
        if letter in follows:
            inner.append(f"##{letter}")
    return initial, inner
