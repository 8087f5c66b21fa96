"""`narrows summarise RUN FILE ...`: the sentences of new texts that say most of them.

    narrows summarise RUN FILE [FILE ...] [-n 3 | --words W] [-o OUT] [--allow PKG]

The run must be one of documents (`datamodule=documents`): its vocabulary says which words of a text are counted, and
its model gives each sentence and the whole text a code. Printed are the sentences whose codes lie nearest to the
text's, in the order in which they stand there, one a line; of several texts each summary stands under its file's name.
If the run's config has `task=summary`, `worth` and `cosine` are those of it. The run's data are not needed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.commands import command_line
from narrows.commands.command_line import STANDARD_INPUT, add_allow, new_parser, packages, print_paths
from narrows.errors import printable, require
from narrows.files import require_file, require_no_pipe, require_other, write_atomically
from narrows.runs.overwriting import require_not_recorded

if TYPE_CHECKING:
    from narrows.loading.open_run import OpenRun
    from narrows.tasks.measures.sentence_chooser import SentenceChooser
    from narrows.tasks.measures.summary_figures import Order

DESCRIPTION = "Print the sentences of texts that lie nearest to the whole text in the latent space of a run."
EPILOG = """\
examples
  narrows summarise RUN article.txt                three sentences, in the article's order
  narrows summarise RUN a.txt b.txt --words 60     of each as many sentences as have at most 60 words together
  cat article.txt | narrows summarise RUN - -n 1 -o short.txt
"""
SENTENCES = 3
"""Of a summary, unless told otherwise."""

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("summarise", DESCRIPTION, EPILOG)
    add = made.add_argument
    add("run", type=Path, metavar="RUN", help="a run directory of documents")
    add("files", nargs="+", metavar="FILE", help="a text in UTF-8; - is standard input")
    length = made.add_mutually_exclusive_group()
    length.add_argument(
        "-n", "--sentences", type=int, default=SENTENCES, metavar="N", help=f"of a summary ({SENTENCES})"
    )
    length.add_argument(
        "--words", type=int, metavar="W", help="that a summary has at most, in whole sentences, of which it has one"
    )
    add("-o", "--out", type=Path, metavar="OUT", help="a file to write in place of printing")
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), summarise, arguments)


def summarise(options: argparse.Namespace) -> None:
    """Read all texts, choose, and only then print or write.

    Raises:
        UserError: a run of no documents, a text that is empty, in another encoding or without a known word, a length
            below 1, or a target that is read.
    """
    from narrows.loading.open_run import OpenRun
    from narrows.runs.recorded_threads import as_recorded

    for option in ("sentences", "words"):
        value = getattr(options, option)
        require(value is None or value >= 1, f"--{option} must be at least 1, not {value}")
    run = OpenRun(options.run, packages(options.allow))
    if options.out is not None:
        require_other(options.out, *(Path(name) for name in options.files if name != STANDARD_INPUT))
        require_not_recorded(options.out, run.path)
        require_no_pipe(options.out)
    texts = _read(options.files)
    with as_recorded(run.path):
        orders = _chosen(prepare_chooser(run), texts, run.path)
    summaries = {
        name: [sentences[place] for place in sorted(_shortest(sentences, order, options.sentences, options.words))]
        for (name, sentences), order in zip(texts.items(), orders, strict=True)
    }
    if options.out is None:
        # A text may come from anywhere, and must not take over the terminal.
        print("\n".join(map(printable, _lines(summaries))))
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, "\n".join(_lines(summaries)) + "\n")
        print_paths(options.out)


def _read(files: Sequence[str]) -> dict[str, list[str]]:
    """The sentences of every text, by the name of its file."""
    from narrows.data.text_files import decode, read_text
    from narrows.tasks.measures.sentences import sentences

    found = {}
    for name in files:
        require(name not in found, f"{name} is named twice: a text is summarised once")
        if name == STANDARD_INPUT:
            text, called = decode(sys.stdin.buffer.read(), "standard input"), "standard input"
        else:
            path, called = Path(name), name
            require_file(path)
            text = read_text(path)
        found[name] = sentences(text)
        require(bool(found[name]), f"{called} holds no text")
    return found


def prepare_chooser(run: OpenRun) -> SentenceChooser:
    """The run's model as a summariser, by the run's own vocabulary and options of `task=summary`.

    Raises:
        UserError: a run of no documents, or one whose model cannot be asked about bare texts.
    """
    from narrows.loading.recorded_by_the_data import load_vocabulary
    from narrows.tasks.measures.sentence_chooser import SentenceChooser, counter
    from narrows.tasks.measures.sparse_splits import unfit_for_rows

    vocabulary = load_vocabulary(run.path)
    model = run.model.to(run.device)
    reason = unfit_for_rows(model.spec, model, ("counts",))
    require(reason is None, f"{run.path} summarises no texts: {reason}")
    count = counter(model.spec.feature_names or [], vocabulary)
    return SentenceChooser(model, run.device, count, *_options(run))


def _options(run: OpenRun) -> tuple[float, bool]:
    """`worth` and `cosine` of the run's task `summary`, or of the task as shipped where there is not just one."""
    from narrows.config.building import build
    from narrows.tasks.summary import Summary

    named = f"{Summary.__module__.rpartition('.')[0]}.{Summary.__name__}"
    nodes = [node for node in (run.config.get("tasks") or {}).values() if node.get("_target_") == named]
    task = build(nodes[0], "the run's task summary") if len(nodes) == 1 else Summary()
    return task.worth, task.cosine


def _chosen(chooser: SentenceChooser, texts: dict[str, list[str]], run: Path) -> list[Order]:
    for name, sentences in texts.items():
        called = "standard input" if name == STANDARD_INPUT else name
        known = chooser.count(sentences).sum()
        require(known > 0, f"{called} has none of the words that {run} knows: it was trained on other texts")
    return chooser.orders(list(texts.values()))


def _shortest(sentences: Sequence[str], order: Order, number: int, words: int | None) -> list[int]:
    """The places of the first sentences in `order`: `number` of them, or whole ones that have `words` words at most."""
    from narrows.tasks.measures.sentences import word_number

    if words is None:
        return [int(place) for place in order[:number]]
    taken: list[int] = []
    for place in map(int, order):
        words -= word_number(sentences[place])
        if taken and words < 0:
            break
        taken.append(place)
    return taken


def _lines(summaries: dict[str, list[str]]) -> list[str]:
    found: list[str] = []
    for name, sentences in summaries.items():
        if len(summaries) > 1:
            found += [*([""] if found else []), f"==> {name} <=="]
        found += sentences
    return found


if __name__ == "__main__":
    main()
