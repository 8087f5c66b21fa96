"""`narrows score RUN NEW`: new rows of a table, or time steps of signals, with anomaly score, flag and reconstruction.

    narrows score RUN NEW.csv [-o OUT.csv] [--quantile 0.95] [--allow PKG] [KEY=VALUE ...]

`NEW` has the format that the run was trained on: CSV, Parquet or numpy arrays. Its columns are found by name; further
columns are kept and not read. `OUT` has every row of `NEW`, unchanged and in order, with these columns appended:

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
from narrows.commands.appended_columns import FLAG, PROBLEM, REBUILT, SCORE
from narrows.commands.command_line import add_allow, new_parser, packages, places_and_overrides, print_paths
from narrows.errors import nearest, printable, require
from narrows.files import replacing, require_file, require_other
from narrows.runs.file_names import SIGNALS
from narrows.runs.overwriting import require_not_recorded

if TYPE_CHECKING:
    import pandas as pd

    from narrows.data.table_columns import Cells
    from narrows.data.table_files import Chunk
    from narrows.data.table_scaling_and_encoding import Encoding
    from narrows.loading.open_run import OpenRun
    from narrows.models.autoencoder import Autoencoder
    from narrows.tasks.measures.normal_scores import Calibration

DESCRIPTION = "Append anomaly score, flag and reconstruction to every row of a table, or time step of signals."
EPILOG = """\
examples
  narrows score RUN new.csv                            writes new.scored.csv
  narrows score RUN new.csv -o out.csv --quantile 0.99 asks for 1% false alarms
  narrows score RUN new.csv data_dir=DIR               the run's own data lie elsewhere here
  narrows score RUN new.csv "datamodule.source.format.separator=';'"   a file that is written in another way
"""
FORMATS = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".npy", ".npz", ".gz", ".xz", ".bz2", ".zip", ".zst")
"""Endings of names of tables."""
SHOWN = 20
"""Problems that are logged one by one."""
log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("score", DESCRIPTION, EPILOG)
    add = made.add_argument
    add("arguments", nargs="+", metavar="RUN NEW KEY=VALUE", help="a run directory, a file, values of the run's config")
    add("-o", "--out", type=Path, metavar="OUT.csv", help="where the result goes (NEW.scored.csv)")
    add("--quantile", type=float, default=0.95, metavar="Q", help="of the normal scores: the threshold (0.95)")
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), lambda options: print_paths(score(options)), arguments)


def score(options: argparse.Namespace) -> Path:
    """Score the rows of a file; returns the path of the result.

    Raises:
        UserError: no such run or file, a run of no table, a column that is missing, or a file that cannot be read.
    """
    from narrows.loading.open_run import OpenRun
    from narrows.runs.recorded_threads import as_recorded

    places, overrides = places_and_overrides(options.arguments)
    require(len(places) == 2, "name the run and one file: narrows score RUN NEW.csv")
    require(0 < options.quantile < 1, f"--quantile must be in (0, 1), not {options.quantile}")
    run, new = OpenRun(places[0], packages(options.allow)), Path(places[1])
    require_file(new)
    out: Path = options.out or default_target(new)
    require_other(out, new)
    require_not_recorded(out, run.path)
    out.parent.mkdir(parents=True, exist_ok=True)
    with as_recorded(run.path):
        if (run.path / SIGNALS).is_file():
            # Imported for these runs alone: it brings pandas.
            from narrows.commands.score_signals import score_signals

            return score_signals(run, new, out, overrides, options.quantile)
        scorer, how = _prepare_scorer(run, overrides, options.quantile)
        with replacing(out) as file:
            counts = _stream(scorer, new, how, file)
    log.info("%s", counts)
    return out


def default_target(new: Path) -> Path:
    """The file for the scores of `new`, beside it: only endings that name a format are taken off its name."""
    stem = Path(new.name)
    while stem.suffix.lower() in FORMATS:
        stem = stem.with_suffix("")
    return new.with_name(f"{stem}.scored.csv")


def _prepare_scorer(run: OpenRun, overrides: Sequence[str], quantile: float) -> tuple[Scorer, Any]:
    """The scorer, and the format of the file."""
    from narrows.config.building import build
    from narrows.loading import recorded_by_the_data
    from narrows.tasks.measures.normal_scores import calibrate

    encoding, model = recorded_by_the_data.load_encoding(run.path), run.model
    require(model.classes(1) is None, f"{run.path} holds a conditional model, which needs the label that new rows lack")
    run.find_data(overrides)
    model.to(run.device)
    calibration = calibrate(run)
    threshold = calibration.threshold(quantile)
    log.info("threshold %.6g, the %g quantile of the scores of %s's validation normals", threshold, quantile, run.path)
    how = build(run.config.datamodule.source, "datamodule.source").format
    return Scorer(model, encoding, calibration, threshold), how


@dataclass
class Scorer:
    """Appends the new columns to chunks of a table."""

    model: Autoencoder
    encoding: Encoding
    calibration: Calibration
    threshold: float

    @property
    def added(self) -> list[str]:
        """The columns that are appended."""
        rebuilt = [f"{REBUILT}{column.name}" for column in self.encoding.columns]
        return [SCORE, FLAG, *rebuilt, PROBLEM]

    def check(self, frame: pd.DataFrame, path: Path) -> None:
        """Refuse a table without the columns that the model reads.

        Raises:
            UserError: names them.
        """
        names = list(map(str, frame))
        absent = [column.name for column in self.encoding.columns if column.name not in names]
        require(not absent, f"{path} has no column '{', '.join(absent)}': {nearest(''.join(absent[:1]), names)}")
        taken = [name for name in self.added if name in names]
        require(not taken, f"{path} has a column '{', '.join(taken)}' already: is it a scored file?")

    def append(self, chunk: Chunk) -> pd.DataFrame:
        """The rows with their new columns."""
        import numpy as np
        import pandas as pd

        from narrows.data.table_columns import to_cells

        known = chunk.known
        cells = to_cells(known, self.encoding.columns, chunk.marks)
        unfit = np.any(cells.bad, axis=1) | np.all(cells.missing, axis=1)
        unfit[list(chunk.broken)] = True
        table = chunk.frame.set_axis(list(map(str, chunk.frame)), axis=1)
        new = pd.DataFrame(index=table.index, columns=self.added, dtype=object)
        if not unfit.all():
            new.loc[~unfit, self.added[:-1]] = self._scored(cells.values[~unfit], cells.missing[~unfit])
        new[PROBLEM] = self._problems(chunk, known, cells)
        return pd.concat([table, new], axis=1)

    def _problems(self, chunk: Chunk, known: pd.DataFrame, cells: Cells) -> list[str | None]:
        import numpy as np

        from narrows.data.table_columns import complaint

        problems: list[str | None] = [None] * len(known)
        for row in np.flatnonzero((cells.bad | cells.unseen).any(1)).tolist():
            problems[row] = complaint(cells, known, self.encoding.columns, row)
        for row in np.flatnonzero(cells.missing.all(1)).tolist():
            problems[row] = "no column has a value"
        for row, what in chunk.broken.items():
            problems[row] = what
        return problems

    def _scored(self, values: Any, missing: Any) -> Any:
        """Score, flag and reconstruction of rows without problems, as Python objects `[N, added - 1]`."""
        import numpy as np

        from narrows.batches import Batch
        from narrows.compare.table_formats import as_cell

        x, observed = self.encoding.encode(values, missing)
        rebuilt, scores = self.calibration.judge(self.model, Batch(x, observed=observed))
        decoded = self.encoding.decode(rebuilt.double().numpy())
        for name in decoded.select_dtypes(exclude="number"):
            # The levels are the run's, which may be a stranger's.
            decoded[name] = [as_cell(cell) if isinstance(cell, str) else cell for cell in decoded[name]]
        found = np.empty((len(x), len(self.added) - 1), dtype=object)
        found[:, 0], found[:, 1] = scores, (scores > self.threshold).astype(int)
        found[:, 2:] = decoded.to_numpy(dtype=object)
        return found


def _stream(scorer: Scorer, path: Path, how: Any, file: IO[bytes]) -> str:
    """Score a file chunk by chunk into another; returns a sentence that sums it up."""
    from tqdm import tqdm

    from narrows.data.table_files import read_chunks

    rows = flags = troubled = empty = 0
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=1.0, desc=printable(path.name), bar_format=form, disable=not sys.stderr.isatty()) as bar:
        for chunk in read_chunks(path, how):
            if rows == 0:
                scorer.check(chunk.frame, path)
            scored = scorer.append(chunk)
            scored.to_csv(file, index=False, header=rows == 0)
            problems = scored[PROBLEM].dropna()
            for row, problem in problems.iloc[: max(SHOWN - troubled, 0)].items():
                log.warning("line %d of %s: %s", chunk.lines[scored.index.get_loc(row)], path, problem)
            rows, troubled = rows + len(scored), troubled + len(problems)
            flags, empty = flags + int((scored[FLAG] == 1).sum()), empty + int(scored[SCORE].isna().sum())
            bar.update(chunk.done - bar.n)
    require(rows > 0, f"{path} holds no rows")
    if troubled > SHOWN:
        log.warning("and %d more rows have problems: column '%s' says which", troubled - SHOWN, PROBLEM)
    return f"{rows} rows, {flags} flagged as anomalies, {troubled} with problems, {empty} of them not scored"


if __name__ == "__main__":
    main()
