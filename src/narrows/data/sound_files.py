"""Files of sound, read and written by the library soundfile, and their sampling rates."""

from __future__ import annotations

import io
import logging
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from narrows.data.folders import files_below, is_hidden
from narrows.errors import UserError, require
from narrows.files import replacing, require_no_pipe

if TYPE_CHECKING:
    from narrows.types import DataSpec

log = logging.getLogger(__name__)

Samples = NDArray[np.float32]
"""`[C, T]`, in [-1, 1] unless the file holds numbers beyond."""
ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64")
MOST_SAMPLES = 2**28
"""Samples of the longest file that is read, all channels together: 1 GiB."""
EXTRA = "pip install 'narrows[audio]'"
WRITTEN = {
    ".wav": ("WAV", ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    ".flac": ("FLAC", ("PCM_16", "PCM_24")),
}
"""By the ending of a name, the format and the sub-types that are written."""
UNBOUNDED = ("FLOAT", "DOUBLE")
"""Sub-types that hold values beyond [-1, 1]."""
FINER = {"PCM_32": "PCM_24", "FLOAT": "PCM_24", "DOUBLE": "PCM_24"}
"""By a sub-type that a format lacks, that which takes its place there."""


@dataclass
class Sound:
    """What a file holds."""

    samples: Samples
    rate: int
    """Samples of a second."""
    subtype: str = "PCM_16"
    """How a sample is stored, in soundfile's words."""


@dataclass(frozen=True)
class SoundFile:
    """A file on the disk or in a zip archive."""

    name: str
    """Below the folder or in the archive, with `/`; of a file by itself its name."""
    path: Path
    archive: zipfile.ZipFile | None = field(default=None, repr=False)
    """Open, where the file is in one: reading its directory for every clip costs more than the clip."""

    @property
    def where(self) -> str:
        return str(self.path) if self.archive is None else f"{self.name} in {self.path}"

    def read(self) -> Sound:
        """The file's samples; see `decode`."""
        require_no_pipe(self.path)
        try:
            content = self.path.read_bytes() if self.archive is None else self.archive.read(self.name)
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{self.where} cannot be read ({' '.join(str(error).split())})") from error
        return decode(content, self.where)


def find_sounds(path: Path) -> list[SoundFile]:
    """The sounds at a path in the order of their names: a file, or those in a folder or zip and below.

    Raises:
        UserError: there are none, or the archive is broken.
    """
    if path.is_dir():
        named = [SoundFile(file.relative_to(path).as_posix(), file) for file in files_below(path)]
    elif path.suffix.lower() == ".zip":
        try:
            archive = zipfile.ZipFile(path)  # open as long as its files are known
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} cannot be read as a zip archive ({error})") from error
        named = [SoundFile(name, path, archive) for name in sorted(archive.namelist())]
    else:
        return [SoundFile(path.name, path)]
    found = [file for file in named if _is_sound(file.name)]
    require(bool(found), f"{path} holds no sound: files ending in {', '.join(ENDINGS)} are looked for")
    return found


def _is_sound(name: str) -> bool:
    path = PurePosixPath(name)
    return not any(map(is_hidden, path.parts)) and path.suffix.lower() in ENDINGS


def decode(content: bytes, where: str) -> Sound:
    """The samples of a file's bytes: whole numbers of 8 bits without sign, 16, 24 or 32 bits are divided by half
    the number of their values, so that they lie in [-1, 1); floating-point numbers stay.

    Raises:
        UserError: soundfile is not installed; no sound, none of a known format, a WAV that ends before its header says,
            or a sample that is no finite number.
    """
    library = import_soundfile()
    require(len(content) > 0, f"{where} is empty")
    _require_whole(content, where)
    try:
        with library.SoundFile(io.BytesIO(content)) as file:
            count = file.frames * file.channels
            require(count > 0, f"{where} holds no sample")
            require(count <= MOST_SAMPLES, f"{where} holds {count:,} samples: at most {MOST_SAMPLES:,} are read")
            rate, subtype = int(file.samplerate), str(file.subtype)
            samples = file.read(dtype="float32", always_2d=True).T
            held = int(file.frames)
    except (library.SoundFileError, TypeError, ValueError) as error:
        reason = re.sub(r"^Error opening <_io.BytesIO object at \w+>: ", "", " ".join(str(error).split()))
        raise UserError(f"{where} cannot be read as sound ({reason.rstrip('.')})") from error
    require(samples.shape[1] == held, f"{where} is cut short: {samples.shape[1]:,} of {held:,} samples are there")
    require(bool(np.isfinite(samples).all()), f"{where} holds samples that are NaN or infinite")
    return Sound(np.ascontiguousarray(samples), rate, subtype)


def _require_whole(content: bytes, where: str) -> None:
    """Refuse a WAV whose samples end before its header says, which the library would read as a shorter one."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    place = 12
    while place + 8 <= len(content):
        (size,) = struct.unpack("<I", content[place + 4 : place + 8])
        if content[place : place + 4] == b"data":
            held = len(content) - place - 8
            # Programs that write into a pipe cannot know the size, and leave 0 or the largest.
            unknown = size in (0, 2**32 - 1) or size >= 2**31 - 1
            require(unknown or size <= held, f"{where} is cut short: {held:,} of {size:,} bytes of samples are there")
            return
        place += 8 + size + size % 2


def encode(
    samples: NDArray[Any], rate: int, ending: str = ".wav", subtype: str = "PCM_16", where: str | None = None
) -> bytes:
    """The bytes of a file of `samples [C, T]`, clipped to [-1, 1] where whole numbers are written.

    Args:
        where: what a warning calls the file, if samples were clipped; None: nobody is warned.

    Raises:
        UserError: soundfile is not installed, or an ending that is not written.
    """
    library = import_soundfile()
    require(ending.lower() in WRITTEN, f"sound is written as {' or '.join(WRITTEN)}, not as '{ending}'")
    kind, subtypes = WRITTEN[ending.lower()]
    chosen = next((name for name in (subtype, FINER.get(subtype)) if name in subtypes), subtypes[0])
    file = io.BytesIO()
    values = np.asarray(samples, np.float32).T
    if chosen not in UNBOUNDED:
        _warn_of_clipped(values, where)
        values = values.clip(-1, 1)
    library.write(file, values, rate, format=kind, subtype=chosen)
    return file.getvalue()


def _warn_of_clipped(values: Samples, where: str | None) -> None:
    beyond = np.abs(values) > 1
    if where is not None and beyond.any():
        log.warning(
            "%s: %s of %s samples lie beyond -1 to 1, the farthest at %.3g, and are clipped; a .wav of a sound that is "
            "stored in floating-point numbers keeps them",
            *(where, f"{int(beyond.sum()):,}", f"{beyond.size:,}", float(np.abs(values).max())),
        )


def written_name(name: str) -> PurePosixPath:
    """The name of a file that takes the place of a sound of this name: its ending is one that is written."""
    path = PurePosixPath(name)
    return path if path.suffix.lower() in WRITTEN else path.with_suffix(".wav")


def write_sound(
    path: Path, samples: NDArray[Any], rate: int, subtype: str = "PCM_16", where: str | None = None
) -> None:
    """Write a file whole or not at all, in the format of its ending; see `encode`."""
    content = encode(samples, rate, path.suffix, subtype, where)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)


def resampled(samples: NDArray[Any], rate: int, wanted: int) -> Samples:
    """`[C, T]` at another rate, `[C, ceil(T wanted / rate)]`, by SciPy's polyphase filter (a Kaiser window)."""
    if rate == wanted:
        return np.asarray(samples, np.float32)
    common = math.gcd(rate, wanted)
    found = resample_poly(np.asarray(samples, np.float64), wanted // common, rate // common, axis=-1)
    return np.ascontiguousarray(found, np.float32)


def in_channels(samples: Samples, wanted: int | None, where: str) -> Samples:
    """`[C, T]` with so many channels: the mean of all for one; null leaves them.

    Raises:
        UserError: another number of channels.
    """
    if wanted is None or len(samples) == wanted:
        return samples
    require(
        wanted == 1,
        f"{where} has {len(samples)} channels, where {wanted} are due: set source.mono=true, or bring files of as many",
    )
    return samples.mean(0, keepdims=True)


def lost_by(sounds: Iterable[Sound], spec: DataSpec, done: str) -> list[str]:
    """Lines of what sounds lose by being brought to the rate and channels of a run.

    Args:
        done: what becomes of them then, such as "coded".
    """
    held, said = list(sounds), []
    others = sorted({sound.rate for sound in held} - {spec.rate})
    if others:
        said.append(
            f"sound of {' and '.join(map(str, others))} samples a second is {done} at the run's {spec.rate} and comes "
            f"back at its own rate, without what lies above {min(*others, spec.rate or 0) / 2000:g} kHz"
        )
    if any(len(sound.samples) != spec.shape[0] for sound in held):
        said.append(
            "channels are averaged to one, as the run was trained: the sound comes back with one channel",
        )
    return said


def import_soundfile() -> Any:
    """The module soundfile.

    Raises:
        UserError: it is not installed.
    """
    try:
        import soundfile  # an extra, which only sound needs
    except (ImportError, OSError) as error:
        raise UserError(f"files of sound need the package soundfile: {EXTRA}") from error
    return soundfile
