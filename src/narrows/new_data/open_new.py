"""Finding how a run reads new data: what it recorded, and the form that the data have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from narrows.config.building import build
from narrows.data import Audio, Lesions, Missing, Music, Video, Volumes
from narrows.data.array_scaling import ArrayScaling
from narrows.errors import OWN_CLASSES, UserError, require
from narrows.loading import recorded_by_the_data as recorded
from narrows.new_data.examples import Known, NewData
from narrows.runs.file_names import ENCODING, SCALING, SIGNALS, TOKENISER, VOCABULARY
from narrows.types import COUNTED, PIXELS

if TYPE_CHECKING:
    from narrows.loading.open_run import OpenRun

ARRAYS = (".npy", ".npz")


def open_new(run: OpenRun, given: Any, overrides: Sequence[str] = ()) -> NewData:
    """New data as `run` reads them.

    Args:
        given: a path; in Python also an array or a frame.
        overrides: values of the run's config by which they are read otherwise, such as a CSV's separator.

    Raises:
        UserError: a conditional model, whose label new examples lack; data that this run does not read; or a run that
            did not record how its data were scaled, and whose data are not here.
    """
    model = run.model
    require(
        model.classes(1) is None, f"{run.path} holds a conditional model, which needs the label that new examples lack"
    )
    source = source_of(run, overrides)
    known = known_of(run, overrides)
    require(not isinstance(given, Path) or given.exists(), f"there is no file {given}")
    if model.spec.kind != "features":
        return _opened(source, known, given)
    from narrows.new_data.features import NewFeatures, features_of, pictures

    seen, features = features_of(run, overrides)
    return NewFeatures(_opened(source, pictures(seen, known), given), known, features, run.device)


def source_of(run: OpenRun, overrides: Sequence[str] = ()) -> Any:
    """The source of a run's data, whose options say how files are read; nothing is loaded.

    Raises:
        UserError: its config names what is not allowed, or it cannot be built.
    """
    run.find_data(overrides, needed=False)
    source = build(run.config.datamodule.source, "datamodule.source")
    return source.source if isinstance(source, Missing) else source


def _opened(source: Any, known: Known, given: Any) -> NewData:
    own = getattr(source, "new_data", None)
    if callable(own):
        found = own(known, given)
        require(
            isinstance(found, NewData),
            f"new_data of {type(source).__name__} returns {type(found).__name__}, where a narrows.new_data.NewData is "
            f"due; {OWN_CLASSES}",
        )
        return cast(NewData, found)
    return _class(source, known, given)(source, known, given)


def known_of(run: OpenRun, overrides: Sequence[str] = ()) -> Known:
    """What the run recorded of its data; `overrides` say where these are, should it lack something.

    Raises:
        UserError: a file of it is damaged, or lacks and cannot be found again.
    """
    place, config, spec = run.path, run.config.datamodule, run.model.spec
    drawn = None if config.get("binarise", "none") == "none" else int(config.get("split_seed", 0))
    found = Known(
        spec,
        _scaling(run, overrides),
        recorded.load_encoding(place) if (place / ENCODING).is_file() or spec.columns else None,
        recorded.load_vocabulary(place) if (place / VOCABULARY).is_file() else None,
        recorded.load_tokeniser(place) if (place / TOKENISER).is_file() else None,
        recorded.load_signals(place) if (place / SIGNALS).is_file() else None,
        drawn,
    )
    _require_of_model(found, place)
    return found


def _require_of_model(known: Known, place: Path) -> None:
    """Refuse what was recorded for another model: its records may be a stranger's.

    Raises:
        UserError: names the file.
    """
    spec, signals = known.spec, known.signals
    right = {
        ENCODING: known.encoding is None or (len(known.encoding.feature_names),) == tuple(spec.shape),
        VOCABULARY: known.vocabulary is None or known.vocabulary.words == spec.feature_names,
        TOKENISER: known.tokeniser is None or known.tokeniser.vocabulary == spec.vocabulary,
        SIGNALS: signals is None or (len(signals.channels), signals.window) == tuple(spec.shape),
    }
    for name, fits in right.items():
        require(fits, f"{place / name} is damaged: it is not of the data that the run's model reads")


def _scaling(run: OpenRun, overrides: Sequence[str]) -> ArrayScaling | None:
    """How the run's arrays were standardised; of a run that did not record it, by its data."""
    if (run.path / SCALING).is_file():
        return recorded.load_scaling(run.path, run.model.spec.shape[0])
    others = any((run.path / name).is_file() for name in (ENCODING, SIGNALS))
    node = run.config.datamodule.source
    node = node.get("source") or node  # of a source that wraps another
    if others or node.get("standardise", "none") == "none":
        return None
    try:
        run.find_data(overrides)
        found: ArrayScaling | None = run.data.scaling
    except UserError as error:
        raise UserError(
            f"{run.path} does not say how its data were standardised, as runs of this version do, and they cannot be "
            f"read again ({error})"
        ) from error
    return found


def _class(source: Any, known: Known, given: Any) -> type[NewData]:
    """The form of the data: of an array or a frame in memory its own, of files by the run's kind of data."""
    # Imported here, because each brings what it reads: pandas, Pillow, SciPy.
    from narrows.new_data.arrays import NewArrays
    from narrows.new_data.pictures import NewPictures
    from narrows.new_data.tables import NewTable

    kind = known.spec.kind
    if known.spec.parts is not None:
        from narrows.new_data.parts import NewParts

        return NewParts
    require(
        isinstance(given, Path | np.ndarray) or kind in (*COUNTED, "tokens") or hasattr(given, "iloc"),
        f"a run on {kind} data reads a path, an array or a frame, not a {type(given).__name__}",
    )
    if kind in COUNTED:
        from narrows.new_data.counts import NewCounts

        return NewCounts
    if kind == "tokens":
        from narrows.new_data.texts import NewTexts

        return NewTexts
    if isinstance(given, np.ndarray):
        return NewArrays
    if not isinstance(given, Path):
        return NewTable
    array = given.suffix.lower() in ARRAYS
    if known.encoding is not None:
        return NewTable
    if isinstance(source, Music):
        from narrows.new_data.music import NewMusic

        return NewMusic
    if isinstance(source, Audio) and not array:
        from narrows.new_data.sounds import NewSounds

        return NewSounds
    if isinstance(source, Volumes | Lesions) and not isinstance(given, np.ndarray):
        from narrows.new_data.volumes import NewVolumes

        return NewVolumes
    if isinstance(source, Video) and not isinstance(given, np.ndarray):
        from narrows.new_data.video import NewVideo

        return NewVideo
    require(not known.spec.variable, f"narrows reads no new examples of {type(source).__name__}: they vary in length")
    if array and kind in (*PIXELS, "series", "audio", "vector"):
        return NewArrays
    if kind == "image":
        return NewPictures
    if kind == "vector":
        return NewTable
    require(
        kind not in PIXELS,
        f"new {kind} data of a run on {type(source).__name__} are read from .npy or .npz, which {given} is not by its "
        "name",
    )
    from narrows.new_data.signals import NewSignals

    return NewSignals
