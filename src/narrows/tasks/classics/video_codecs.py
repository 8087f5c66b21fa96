"""The classic codec of clips: H.264 through PyAV.

What counts is what a decoder needs: the NAL units of all pictures and, once, the two parameter sets. No container, no
start codes and not the encoder's description of itself (a SEI unit of 700 bytes) count, and the decoder here is given
none of them but the start codes. Clips are one film, one after another, so that a clip may refer to those before it and
none pays for parameter sets of its own; where frames are smaller than `TINY`, clips also lie side by side in one film
as long as a clip, because the headers of slices are most of a small frame. narrows' file pays for its header, its
layout and its checksum.

"Overview of the H.264/AVC video coding standard" (Wiegand et al., 2003, https://doi.org/10.1109/TCSVT.2003.815165); the
encoder is x264.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.data.film_files import import_av
from narrows.tasks.classics.image_codecs import TINY, Classic, Coded, Pictures, sheets, unsheeted

Frames = NDArray[np.uint8]
"""`[T, C, H, W]`."""
SAFE = "asm=sse2" if platform.machine().lower() in ("x86_64", "amd64") else ""
"""x264's AVX-512 reads memory that nothing has written where frames are a few macroblocks wide, so that files of one
film differ (build 165); its SSE2, AVX, AVX2 and plain C make one and the same."""
START = b"\0\0\0\1"
PARAMETERS, DESCRIPTION = (7, 8), 6
"""Types of NAL units: sequence and picture parameter sets, and SEI."""
RATE = 25
"""Frames of a second, which decides nothing here."""
QUALITIES = (*range(51, 0, -1), 0)
"""Constant rate factors of x264; 0 loses nothing."""


class H264(Classic):
    """All clips as one film, with the slowest preset, tuned for PSNR, and no key frame but where the encoder wants one.

    Colours are not halved in resolution (4:4:4).

    Args:
        clips: uint8 `[N, C, T, H, W]`.
        mosaic: whether they lie side by side, not one after another.

    Raises:
        UserError: the library av is not installed.
    """

    def __init__(self, clips: Pictures, *, mosaic: bool = False) -> None:
        import_av()
        super().__init__(QUALITIES)
        self.clips, self.mosaic = clips, mosaic

    def code(self, setting: Any) -> Coded:
        film = self._film()
        told, units = encode(film, setting)
        size = sum(map(len, told)) + sum(len(unit) for units_of_one in units for unit in units_of_one)
        return Coded(size, self._clips(decode(told, units, len(film[0]))))

    def _film(self) -> Frames:
        if self.mosaic:
            return np.stack([sheets(self.clips[:, :, step])[0] for step in range(self.clips.shape[2])])
        count, channels, steps, *sides = self.clips.shape
        return np.ascontiguousarray(self.clips.swapaxes(1, 2)).reshape(count * steps, channels, *sides)

    def _clips(self, film: Frames) -> Pictures:
        count, channels, steps, *sides = self.clips.shape
        if self.mosaic:
            return np.stack([unsheeted(frame[None], (count, channels, *sides)) for frame in film], axis=2)
        return np.ascontiguousarray(film.reshape(count, steps, channels, *sides).swapaxes(1, 2))


def codecs_of_clips(clips: Pictures) -> dict[str, Classic]:
    """H.264, and side by side where frames are small.

    Raises:
        UserError: the library av is not installed.
    """
    found: dict[str, Classic] = {"h264": H264(clips)}
    if max(clips.shape[3:]) < TINY:
        found["h264_mosaic"] = H264(clips, mosaic=True)
    return found


def encode(film: Frames, quality: float) -> tuple[list[bytes], list[list[bytes]]]:
    """The parameter sets, and the units of every picture in the order of decoding."""
    library = import_av()
    context = library.CodecContext.create("libx264", "w")
    context.width, context.height = film.shape[3], film.shape[2]
    context.pix_fmt = "gray" if film.shape[1] == 1 else "yuv444p"
    context.time_base, context.framerate = Fraction(1, RATE), RATE
    context.thread_count = 1  # with more, slices and so figures would depend on the processor
    own = ":".join(filter(None, ("keyint=infinite", SAFE)))
    context.options = {"preset": "veryslow", "tune": "psnr", "crf": f"{quality:g}", "x264-params": own}
    context.flags |= library.codec.context.Flags.global_header
    context.open()
    packets = []
    for number, pixels in enumerate(film):
        frame = _frame(library, pixels, context.pix_fmt)
        frame.pts = number
        packets += [bytes(packet) for packet in context.encode(frame)]
    packets += [bytes(packet) for packet in context.encode(None)]
    told = [unit for unit in units_of(bytes(context.extradata)) if _type(unit) in PARAMETERS]
    return told, [[unit for unit in units_of(packet) if _type(unit) != DESCRIPTION] for packet in packets]


def decode(told: Sequence[bytes], units: Sequence[Sequence[bytes]], channels: int) -> Frames:
    """The film `[T, C, H, W]` of these units."""
    library = import_av()
    context = library.CodecContext.create("h264", "r")
    context.thread_count = 1
    context.extradata = b"".join(START + unit for unit in told)
    frames = []
    for of_one in units:
        frames += context.decode(library.Packet(b"".join(START + unit for unit in of_one)))
    frames += context.decode(None)
    return np.stack([_pixels(frame, channels) for frame in frames])


def _frame(library: Any, pixels: NDArray[np.uint8], form: str) -> Any:
    if len(pixels) == 1:
        return library.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[0]), format=form)
    coloured = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return library.VideoFrame.from_ndarray(coloured, format="rgb24").reformat(format=form)


def _pixels(frame: Any, channels: int) -> NDArray[np.uint8]:
    if channels == 1:  # to a film without colours the decoder may add some
        luma = frame.planes[0]
        rows = np.frombuffer(luma, np.uint8).reshape(luma.height, luma.line_size)
        return rows[None, :, : luma.width].copy()
    coloured: NDArray[np.uint8] = frame.reformat(format="rgb24").to_ndarray()
    return coloured.transpose(2, 0, 1)


def units_of(stream: bytes) -> list[bytes]:
    """The NAL units between the start codes of a byte stream (Annex B), in which none occurs within a unit.

    Example:
        >>> units_of(bytes([0, 0, 0, 1, 103, 5, 0, 0, 1, 104, 6]))
        [b'g\\x05', b'h\\x06']
    """
    return [unit for unit in re.split(rb"\x00{2,}\x01", stream) if unit]


def _type(unit: bytes) -> int:
    return unit[0] & 31
