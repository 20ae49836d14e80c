"""Tag text: its named entities, coloured on a terminal, and as JSON lines anywhere else.

RUN_OR_MODEL, the first argument, is the directory of a run, or a model directory in Hugging Face's
format. The arguments after it are texts; without any, texts are the lines of --file or of standard
input. Texts stand before the flags, or after --.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from sparsejax import command_line, config_values, evaluate
from sparsejax.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy as np

    from sparsejax.data.texts import Text
    from sparsejax.ner.mentions import Mention
    from sparsejax.ner.saved import Tagger

LENGTH = 128  # of a row, for a model whose run is not known
FIRST, MOST = 256, 4096  # texts of the first block, and of the largest


@dataclass(frozen=True)
class PredictConfig:
    """What to tag, and how to show it."""

    file: str | None = None  # Texts, one a line; none: those of the arguments or standard input
    input: Literal["auto", "plain", "json"] = "auto"  # Lines; auto: json if --file is .jsonl
    json: bool = False  # JSON lines on a terminal, too
    color: Literal["auto", "always", "never"] = "auto"  # always: as on a terminal, also when piped


def run(directory: Path, arguments: Sequence[str], config: PredictConfig) -> None:
    """Tags the texts and writes the results to standard output, in order.

    Raises:
      UserError: a mistake in the model or the texts; what is before a malformed line is tagged.
    """
    with open_lines(arguments, config) as (lines, file):
        import jax
        import numpy as np

        from sparsejax.data import texts
        from sparsejax.data.tokenization import Encoded
        from sparsejax.ner.spans import entity_types
        from sparsejax.ner.tagging import max_rows
        from sparsejax.runtime import compilation, host_memory

        compilation.keep_programs()
        if jax.default_backend() == "cpu":
            host_memory.keep_freed_memory()
        tagger, length = load(directory)
        write = writer(config, entity_types(tagger.labels))
        as_json = config.input == "json" or (
            config.input == "auto" and (config.file or "").endswith(".jsonl")
        )
        found = texts.read(lines, as_json)
        asked = file is not None and file.isatty()
        if asked:
            print("waiting for text, a line each; Ctrl-D ends it", file=sys.stderr)
        # One size of batches, so that the model is compiled once: small where each line waits for
        # its answer, and as it suits the texts where a block holds all of them.
        size = tagger.mesh.size if asked else None
        repairs = np.zeros(len(Encoded.REPAIRS), np.int64)
        with progress(file) as show:
            for block, more in texts.blocks(found, *((1, 1) if asked else (FIRST, MOST))):
                if more and size is None:
                    size = max_rows(tagger.mesh, length) * tagger.mesh.size
                results, repaired = tag(tagger, block, length, size, show)
                repairs += repaired
                write(block, results)
        for count, what in zip(repairs.tolist(), Encoded.REPAIRS, strict=True):
            if count:
                print(f"note: {count:,} {what}", file=sys.stderr)


@contextlib.contextmanager
def open_lines(
    arguments: Sequence[str], config: PredictConfig
) -> Iterator[tuple[Iterator[tuple[str, str]], BinaryIO | None]]:
    """The lines to tag, each with its place, and the file they are in.

    Raises:
      UserError: the file cannot be opened; while iterating, what it holds is not UTF-8.
    """
    from sparsejax.data import readers, texts

    if arguments and config.file is not None:
        raise UserError("file: pass texts as arguments or as a file, not both")
    if arguments:
        places = [f"argument {number}" for number in range(1, len(arguments) + 1)]
        for where, text in zip(places, arguments, strict=True):
            texts.check_letters(where, text)
        yield iter(zip(places, arguments, strict=True)), None
        return
    if config.file is None and sys.stdin is None:  # the shell's <&-
        raise UserError("no text: pass it as an argument, with --file or on standard input")
    name = config.file or "standard input"
    with contextlib.ExitStack() as stack:
        file: BinaryIO = sys.stdin.buffer
        if config.file is not None:
            try:
                file = stack.enter_context(open(config.file, "rb"))
            except OSError as error:
                raise UserError(f"file: {name}: {error.strerror}") from None
        yield ((f"{name}:{number}", line) for number, line in readers.decoded(file, name)), file


def load(directory: Path) -> tuple[Tagger, int]:
    """The tagger of a run or of a model directory, and the length of a row.

    Raises:
      UserError: the directory is neither, or the tagger is damaged.
    """
    from sparsejax.ner import saved

    if (directory / "config.yaml").exists():
        trained = evaluate.load_run(directory)
        tagger = saved.load(directory / "model", trained.model.dtype)
        return tagger, min(trained.data.length, tagger.positions)
    if not (directory / "config.json").exists():
        raise UserError(f"{directory}: no run (no config.yaml) and no model (no config.json)")
    tagger = saved.load(directory, "float32")
    return tagger, min(LENGTH, tagger.positions)


def tag(
    tagger: Tagger,
    block: Sequence[Text],
    length: int,
    size: int | None,
    show: Callable[[int, float], None],
) -> tuple[list[list[Mention]], np.ndarray]:
    """The entities of each text, and how often each of `Encoded.REPAIRS` was needed."""
    import numpy as np

    from sparsejax.data.sentences import Sentence
    from sparsejax.data.tokenization import encode
    from sparsejax.ner import tagging
    from sparsejax.ner.mentions import mentions

    sentences = [Sentence(text.words, ["O"] * len(text.words)) for text in block if text.words]
    encoded = encode(sentences, tagger.tokenizer, length, ["O"])
    ids, confidence = np.zeros(0, np.int32), np.zeros(0, np.float32)
    if sentences:
        ids, confidence = tagging.tag(
            tagger.predict,
            tagger.params,
            {"": encoded},
            length,
            tagger.tokenizer.pad_token_id,
            tagger.mesh,
            lambda done, rows: show(len(block), done / rows),
            size,
        )[""]
    tags, scores = [tagger.labels[i] for i in ids.tolist()], confidence.tolist()
    results, begin = [], 0
    for text in block:
        end = begin + len(text.words)
        results.append(mentions(text, tags[begin:end], scores[begin:end]))
        begin = end
    return results, encoded.repairs


def writer(
    config: PredictConfig, types: Sequence[str]
) -> Callable[[Sequence[Text], Sequence[Sequence[Mention]]], None]:
    """A function that writes texts with their entities to standard output."""
    from rich.console import Console

    from sparsejax.ner.mentions import styles, to_json, to_styled

    if config.json or not (sys.stdout.isatty() or config.color == "always"):

        def write_json(block: Sequence[Text], results: Sequence[Sequence[Mention]]) -> None:
            lines = (to_json(*pair) + "\n" for pair in zip(block, results, strict=True))
            sys.stdout.buffer.write("".join(lines).encode())
            sys.stdout.buffer.flush()

        return write_json
    console = Console(
        force_terminal=True if config.color == "always" else None,
        no_color=True if config.color == "never" else None,
        highlight=False,
    )
    style = styles(types)

    def write_styled(block: Sequence[Text], results: Sequence[Sequence[Mention]]) -> None:
        for pair in zip(block, results, strict=True):
            console.print(to_styled(*pair, style), soft_wrap=True)

    return write_styled


@contextlib.contextmanager
def progress(file: BinaryIO | None) -> Iterator[Callable[[int, float], None]]:
    """A progress bar on standard error; gives a function (texts of the block, share done) -> None.

    It follows the bytes of the file. There is none where texts or results are on the same terminal.
    """
    if file is None or file.isatty() or sys.stdout.isatty() or not sys.stderr.isatty():
        yield lambda texts, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    status = os.fstat(file.fileno())
    known = stat.S_ISREG(status.st_mode)
    bar = Progress(
        TextColumn("tagged {task.fields[texts]:,.0f} texts"),
        BarColumn(bar_width=20),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
    )
    before, texts_before = 0, 0
    with bar:
        task = bar.add_task("", total=status.st_size if known else None, texts=0)

        def show(texts: int, share: float) -> None:
            nonlocal before, texts_before
            read = file.tell() if known else 0
            done = before + (read - before) * share
            bar.update(task, completed=done, texts=texts_before + texts * share)
            if share == 1:
                before, texts_before = read, texts_before + texts

        yield show


def main(argv: Sequence[str] | None = None) -> None:
    """The command line: a mistake of the user's ends in one line and exit status 1."""
    words = sys.argv[1:] if argv is None else list(argv)
    with one_line("stopped before the end of the texts"):
        after = words[words.index("--") + 1 :] if "--" in words else []
        words = words[: words.index("--")] if "--" in words else words
        given = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        positional, flags = [*words[:given], *after], words[given:]
        values = command_line.flags(
            PredictConfig,
            flags,
            "python -m sparsejax.predict RUN_OR_MODEL [TEXT ...]",
            __doc__ or "",
        )
        if not positional:
            raise UserError("the first argument is the directory of a run or of a model")
        config = config_values.overlay(PredictConfig(), values)
        run(Path(positional[0]), positional[1:], config)


if __name__ == "__main__":
    main()
