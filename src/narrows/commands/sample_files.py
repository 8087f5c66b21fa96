"""The files of samples: a directory of arrays and pictures, or one file whose form its name says."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.errors import UserError, require
from narrows.files import replacing, write_atomically
from narrows.runs.file_names import SCALING, SIGNALS, TOKENISER

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from narrows.loading.open_run import OpenRun
    from narrows.types import DataSpec

TABLES = (".csv", ".parquet", ".pq")
ARRAYS = (".npz", ".npy")
MOST_SHOWN = 256
"""Samples shown in the picture."""
log = logging.getLogger(__name__)


@dataclass
class Samples:
    """What was drawn from a run."""

    run: OpenRun
    x: Tensor
    """`[N, *shape]`, as the model gives them, on the CPU."""
    label: Tensor | None
    """The class of each, `[N]`; None where samples are of no class."""
    title: str

    @property
    def spec(self) -> DataSpec:
        return self.run.model.spec


def is_file(out: Path | None) -> bool:
    """Whether this is the name of one file, and not of a directory."""
    return out is not None and out.suffix.lower() in (*TABLES, *ARRAYS, ".png", ".gif", ".txt") and not out.is_dir()


def is_table(out: Path | None) -> bool:
    """Whether this is the name of a table."""
    return out is not None and is_file(out) and out.suffix.lower() in TABLES


def require_form(run: OpenRun, out: Path | None) -> None:
    """Refuse a file that cannot hold such samples, before any is drawn.

    Raises:
        UserError: says in what they can be written.
    """
    spec, ending = run.model.spec, "" if out is None else out.suffix.lower()
    if not is_file(out):
        return
    require(
        ending not in TABLES or spec.columns is not None or (spec.kind == "vector" and bool(spec.feature_names)),
        f"{out} is a table by its name, and {run.path} was trained on {spec.kind} data, whose examples are no rows of "
        "one: name a .npz, or a directory",
    )
    require(
        ending != ".gif" or spec.kind == "video",
        f"{out} is an animation by its name, and {run.path} was trained on {spec.kind} data: name a .npz, or a "
        "directory",
    )
    tokens = spec.kind == "tokens"
    require(
        ending != ".png" or not tokens, f"{out} is a picture by its name, and tokens are none: name a .txt or a .npz"
    )
    require(
        ending != ".txt" or (tokens and (run.path / TOKENISER).is_file()),
        f"{out} is a text by its name, and {run.path} has no tokeniser to write samples with: name a .npz",
    )


def write(samples: Samples, out: Path) -> list[Path]:
    """Write samples to a file of the form that its name says, or into a directory; returns the paths.

    Raises:
        UserError: a damaged record of the run.
    """
    if is_file(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _write_one(samples, out)
        return [out]
    names = ["samples.npz" if samples.spec.parts else "samples.npy"]
    if samples.spec.kind != "tokens":
        names += ["samples.png", *(["samples.csv"] if samples.spec.columns else [])]
        names += ["samples.gif"] if samples.spec.kind == "video" else []
    elif (samples.run.path / TOKENISER).is_file():
        names.append("samples.txt")
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        _write_one(samples, out / name)
    return [out / name for name in names]


def _write_one(samples: Samples, path: Path) -> None:
    ending = path.suffix.lower()
    if ending in TABLES:
        from narrows.compare.table_formats import as_cell
        from narrows.new_data.tables import writing_rows

        rows = rows_of(samples)
        if ending == ".csv":
            # The texts are the run's, which may be a stranger's.
            rows = rows.map(lambda cell: as_cell(cell) if isinstance(cell, str) else cell)
        with writing_rows(path) as write_rows:
            write_rows(rows)
    elif ending in ARRAYS:
        _write_arrays(samples, path)
    elif ending == ".png":
        from narrows.drawing import canvas
        from narrows.drawing.examples import sheet

        canvas.save(sheet(samples.x[:MOST_SHOWN].float().numpy(), samples.spec, samples.title), path)
    elif ending == ".gif":
        from narrows.data.film_files import as_gif
        from narrows.drawing.films import film_of

        clips = samples.x[:MOST_SHOWN].float().numpy()
        write_atomically(path, as_gif(film_of(clips, samples.spec.bounds)))
    else:
        _write_text(samples, path)


def _write_arrays(samples: Samples, path: Path) -> None:
    """`x` in the data's own units; a .npz holds `label` too, where samples are of a class, and of multi-modal data the
    parts by their names."""
    import numpy as np

    from narrows.new_data.open_new import known_of

    if samples.spec.parts is not None and path.suffix.lower() == ".npz":
        from narrows.new_data.parts import write_parts

        labels = {} if samples.label is None else {"label": samples.label.numpy()}
        write_parts(path, samples.x, samples.spec, known_of(samples.run).scaling, labels)
        return
    x = (samples.x if samples.spec.kind == "tokens" else _in_own_units(samples).float()).numpy()
    with replacing(path) as file:
        if path.suffix.lower() == ".npy":
            np.save(file, x)
        elif samples.label is None:
            np.savez(file, x=x)
        else:
            np.savez(file, x=x, label=samples.label.numpy())


def _in_own_units(samples: Samples) -> Tensor:
    """Samples as the run's data are written, in their units and axes, which commands that read them expect.

    Raises:
        UserError: a damaged record of the run.
    """
    from narrows.loading.recorded_by_the_data import load_scaling, load_signals

    run, scaling = samples.run, None
    if (run.path / SCALING).is_file():
        scaling = load_scaling(run.path, samples.spec.shape[0])
    elif (run.path / SIGNALS).is_file():
        scaling = load_signals(run.path).of_arrays()
        if scaling is None:
            log.warning("samples stay standardised: each series was scaled by itself (signals.scale=each)")
    x = samples.x if scaling is None else scaling.undo(samples.x)
    last = run.config.datamodule.source.get("channels_last") is True and x.ndim > 2
    return x.moveaxis(1, -1) if last else x


def rows_of(samples: Samples) -> pd.DataFrame:
    """Samples as rows of the run's own table, see `narrows.data.own_rows`; of standardised arrays whose columns have
    names in their own units, the class in a last column `label`.

    Raises:
        UserError: a damaged record of the run.
    """
    import numpy as np

    from narrows.data.table_writing import own_rows
    from narrows.new_data.open_new import known_of
    from narrows.new_data.tables import encoding_of_numbers

    spec, known = samples.spec, known_of(samples.run)
    encoding = known.encoding or encoding_of_numbers(known, "what is written")
    rows = own_rows(encoding, samples.x, samples.label)
    if encoding.label is None and samples.label is not None and "label" not in rows:
        label = samples.label.numpy()
        rows["label"] = label if spec.class_names is None else np.asarray(spec.class_names, dtype=object)[label]
    return rows


def _write_text(samples: Samples, path: Path) -> None:
    """Samples as text, one a line.

    Raises:
        UserError: the tokeniser is not that of the run's data.
    """
    from narrows.loading.recorded_by_the_data import load_tokeniser

    place = samples.run.path
    tokeniser = load_tokeniser(place)
    if tokeniser.vocabulary != samples.spec.vocabulary:
        raise UserError(f"{place / TOKENISER} is damaged: its vocabulary is not that of the run's data")
    lines = (f"{' '.join(tokeniser.decode(row).splitlines())}\n" for row in samples.x.tolist())
    write_atomically(path, "".join(lines))
