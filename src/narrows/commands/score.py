"""`narrows score RUN NEW`: how odd new pictures, films, arrays, texts, counts, rows of a table or time steps are.

    narrows score RUN NEW [-o OUT.csv] [--quantile 0.95] [--maps DIR] [--frames OUT.csv] [--allow PKG] [KEY=VALUE ...]

`OUT` is a table (.csv or .parquet) with a row for each example of `NEW`, in order: `name`, `score`, `anomaly` and
`problem`, as below. The score is the squared error of the reconstruction per value; of tokens, counts and interactions
`-log p(x|z)` in nats, of texts per token. Of pictures, `--maps DIR` also draws each one beside its reconstruction and
the map of their difference, on one scale. Examples of films are clips, side by side; `--frames` writes another table,
with a row for every frame of every film (`narrows.new_data.frame_scores`).

Of a table `NEW` has the format that the run was trained on: CSV, Parquet or numpy arrays. Its columns are found by
name; further columns are kept and not read. `OUT` has every row of `NEW`, unchanged and in order, with these columns
appended:

- `score`: the squared error of the reconstruction per observed value, of scaled values, as in `task=anomaly`;
- `anomaly`: 1 where the score is above the threshold, else 0. The threshold is a quantile of the scores of the run's
  normal validation rows; these are kept in the run's `calibration.json`, so that later calls need no training data;
- `reconstruction_<column>`: in the data's own units; for a category the likeliest one, for a truth value the likelier;
  a category that a spreadsheet would compute (`=A1`) gets an apostrophe before it, because the run may be a stranger's;
- `problem`: why a row could not be scored (its other new cells are then empty), or which of its categories no training
  row has (it is scored as "other").

Rows are read, scored and written in chunks, and `OUT` appears only once it is complete. Of a run on windows of signals
the rows are time steps, see `narrows.commands.score_signals`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from narrows.commands import command_line
from narrows.commands.command_line import (
    STANDARD_INPUT,
    add_allow,
    new_parser,
    packages,
    places_and_overrides,
    print_paths,
)
from narrows.commands.on_new_data import ending_of, open_given, require_place
from narrows.commands.standard_input import piped
from narrows.errors import printable, require
from narrows.files import replacing, require_file, require_other
from narrows.new_data.result_columns import FLAG, PROBLEM, REBUILT, SCORE
from narrows.runs.file_names import ENCODING, SIGNALS
from narrows.runs.overwriting import require_not_recorded

if TYPE_CHECKING:
    import pandas as pd

    from narrows.data.table_files import Chunk as Rows
    from narrows.loading.open_run import OpenRun
    from narrows.models.autoencoder import Autoencoder
    from narrows.new_data import Chunk, NewTable
    from narrows.tasks.measures.normal_scores import Calibration

DESCRIPTION = """\
Say how odd new examples are: a table of name, score and flag; of a table's rows, or time steps of signals, these and
the reconstruction are appended to it.
"""
EPILOG = """\
examples
  narrows score RUN new.csv                            writes new.scored.csv
  narrows score RUN new.csv -o out.csv --quantile 0.99 asks for 1% false alarms
  narrows score RUN - < new.csv                        from standard input; the result is printed
  narrows score RUN photos/ --maps odd/                writes photos.scored.csv and a picture of each one's errors
  narrows score RUN new.gif --frames frames.csv        also a score for every frame of a film
  narrows score RUN new.csv data_dir=DIR               the run's own data lie elsewhere here
  narrows score RUN new.csv "datamodule.source.format.separator=';'"   a file that is written in another way
"""
log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("score", DESCRIPTION, EPILOG)
    add = made.add_argument
    add("arguments", nargs="+", metavar="RUN NEW KEY=VALUE", help="a run, a file or folder, values of the run's config")
    add("-o", "--out", type=Path, metavar="OUT.csv", help="where the result goes (NEW.scored.csv)")
    add("--maps", type=Path, metavar="DIR", help="of pictures: a new folder for maps of where each one is odd")
    add("--frames", type=Path, metavar="OUT.csv", help="of films: a table of every frame's score, beside that of clips")
    add("--quantile", type=float, default=0.95, metavar="Q", help="of the normal scores: the threshold (0.95)")
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), score, arguments)


def score(options: argparse.Namespace) -> None:
    """Score the examples of a file, a folder or standard input, and print where the result is, or the result itself.

    Raises:
        UserError: no such run or file, a column that is missing, or a file that cannot be read.
    """
    from narrows.loading.open_run import OpenRun

    places, overrides = places_and_overrides(options.arguments)
    require(len(places) == 2, "name the run and one file: narrows score RUN NEW.csv")
    require(0 < options.quantile < 1, f"--quantile must be in (0, 1), not {options.quantile}")
    run = OpenRun(places[0], packages(options.allow))
    ending = ending_of(run, places[1])
    written = piped(places[1], options.out, ending, lambda new, out: _scored(run, new, out, overrides, options))
    if written is not None:
        print_paths(written)


def _scored(run: OpenRun, new: Path, out: Path | None, overrides: Sequence[str], options: argparse.Namespace) -> Path:
    """Score the examples of a file or folder; returns the path of the result."""
    from narrows.runs.recorded_threads import as_recorded

    rows = [name for name in (SIGNALS, ENCODING) if (run.path / name).is_file()]
    if rows:
        require_file(new)
        require(options.maps is None, f"--maps draws where pictures are odd, and {run.path} was trained on none")
        require(options.frames is None, f"--frames is of films, and {run.path} was trained on none")
    out = out or default_target(new)
    require_other(out, new, *([] if run.packed is None else [run.packed]))
    require_not_recorded(out, run.path)
    with as_recorded(run.path):
        if not rows:
            _score_examples(run, new, out, overrides, options)
            return out
        out.parent.mkdir(parents=True, exist_ok=True)
        if SIGNALS in rows:
            # Imported for these runs alone: it brings pandas.
            from narrows.commands.score_signals import score_signals

            return score_signals(run, new, out, overrides, options.quantile)
        scorer = _prepare_scorer(run, new, overrides, options)
        with replacing(out) as file:
            counts = _stream(scorer, new, file)
    log.info("%s", counts)
    return out


def default_target(new: Path) -> Path:
    """The file for the scores of `new`, beside it: only endings that name a format are taken off its name."""
    from narrows.new_data.examples import stem_of  # torch is slow to import

    return stem_of(new, "scored", ".csv")


def _score_examples(run: OpenRun, new: Path, out: Path, overrides: Sequence[str], options: argparse.Namespace) -> None:
    """Score what is no table: see `narrows.new_data.scoring`, and `narrows.new_data.frame_scores`."""
    from narrows.new_data import NewVideo
    from narrows.new_data.frame_scores import score_frames
    from narrows.new_data.scoring import score_examples
    from narrows.new_data.tables import require_table_name
    from narrows.tasks.measures.normal_scores import calibrate

    data = open_given(run, new, overrides, printed=STANDARD_INPUT in options.arguments)
    frames = options.frames
    require(
        frames is None or isinstance(data, NewVideo),
        f"--frames is of films, and {data.called} holds {data.form}",
    )
    for target in filter(None, (out, options.maps, frames)):
        require_place(target, new, run)
    if frames is not None:
        require(frames.resolve() != out.resolve(), f"{out} cannot hold both tables: name another file with --frames")
        require_table_name(frames)
    run.model.to(run.device)
    calibration = calibrate(run, overrides, frames=frames is not None)
    require(
        frames is None or calibration.frames is not None,
        f"no validation frame of {run.path} is in normal clips alone, and the threshold of frames comes from them",
    )
    for target in filter(None, (out, frames)):
        target.parent.mkdir(parents=True, exist_ok=True)
    score_examples(run.model, data, calibration, options.quantile, out, options.maps)
    if frames is not None:
        assert isinstance(data, NewVideo)
        score_frames(run.model, data, calibration, options.quantile, frames)


def _prepare_scorer(run: OpenRun, new: Path, overrides: Sequence[str], options: argparse.Namespace) -> Scorer:
    from narrows.new_data import NewTable
    from narrows.tasks.measures.normal_scores import calibrate

    table = open_given(run, new, overrides, printed=STANDARD_INPUT in options.arguments)
    assert isinstance(table, NewTable)
    run.model.to(run.device)
    calibration = calibrate(run, overrides)
    threshold, quantile = calibration.threshold(options.quantile), options.quantile
    log.info("threshold %.6g, the %g quantile of the scores of %s's validation normals", threshold, quantile, run.path)
    return Scorer(run.model, table, calibration, threshold)


@dataclass
class Scorer:
    """Appends the new columns to chunks of a table."""

    model: Autoencoder
    table: NewTable
    calibration: Calibration
    threshold: float

    @property
    def added(self) -> list[str]:
        """The columns that are appended."""
        rebuilt = [f"{REBUILT}{column.name}" for column in self.table.encoding.columns]
        return [SCORE, FLAG, *rebuilt, PROBLEM]

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse a table that has the columns that are appended already, or lacks those that the model reads.

        Raises:
            UserError: names them.
        """
        self.table.require_columns(frame)
        taken = [name for name in self.added if name in map(str, frame)]
        require(not taken, f"{self.table.called} has a column '{', '.join(taken)}' already: is it a scored file?")

    def append(self, rows: Rows) -> pd.DataFrame:
        """The rows with their new columns."""
        import pandas as pd

        chunk = self.table.chunk_of(rows)
        new = pd.DataFrame(index=chunk.beside.index, columns=self.added, dtype=object)
        if chunk.batch is not None:
            new.iloc[chunk.rows, :-1] = self._scored(chunk)
        new[PROBLEM] = chunk.problems
        return pd.concat([chunk.beside, new], axis=1)

    def _scored(self, chunk: Chunk) -> Any:
        """Score, flag and reconstruction of rows without problems, as Python objects `[M, added - 1]`."""
        import numpy as np

        from narrows.compare.table_formats import as_cell

        assert chunk.batch is not None
        rebuilt, scores = self.calibration.judge(self.model, chunk.batch)
        decoded = self.table.own_form(rebuilt, chunk)
        for name in decoded.select_dtypes(exclude="number"):
            # The levels are the run's, which may be a stranger's.
            decoded[name] = [as_cell(cell) if isinstance(cell, str) else cell for cell in decoded[name]]
        found = np.empty((len(scores), len(self.added) - 1), dtype=object)
        found[:, 0], found[:, 1] = scores, (scores > self.threshold).astype(int)
        found[:, 2:] = decoded.to_numpy(dtype=object)
        return found


def _stream(scorer: Scorer, path: Path, file: IO[bytes]) -> str:
    """Score a file chunk by chunk into another; returns a sentence that sums it up."""
    from tqdm import tqdm

    from narrows.data.table_files import read_chunks
    from narrows.new_data.apply import BAR, SHOWN

    rows = flags = troubled = empty = 0
    with tqdm(total=1.0, desc=printable(path.name), bar_format=BAR, disable=not sys.stderr.isatty()) as bar:
        for chunk in read_chunks(path, scorer.table.format):
            if rows == 0:
                scorer.check(chunk.frame)
            scored = scorer.append(chunk)
            scored.to_csv(file, index=False, header=rows == 0)
            problems = scored[PROBLEM].dropna()
            for row, problem in problems.iloc[: max(SHOWN - troubled, 0)].items():
                log.warning("line %d of %s: %s", chunk.lines[scored.index.get_loc(row)], scorer.table.called, problem)
            rows, troubled = rows + len(scored), troubled + len(problems)
            flags, empty = flags + int((scored[FLAG] == 1).sum()), empty + int(scored[SCORE].isna().sum())
            bar.update(chunk.done - bar.n)
    require(rows > 0, f"{path} holds no rows")
    if troubled > SHOWN:
        log.warning("and %d more rows have problems: column '%s' says which", troubled - SHOWN, PROBLEM)
    return f"{rows} rows, {flags} flagged as anomalies, {troubled} with problems, {empty} of them not scored"


if __name__ == "__main__":
    main()
