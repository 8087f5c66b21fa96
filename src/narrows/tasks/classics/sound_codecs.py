"""The classic codecs of sound: Opus and MP3 through PyAV, mu-law and ADPCM at several sampling rates, and the MDCT
under narrows' own coder.

Sounds are `[C, T]` at one rate. Opus and MP3 code them as one long sound, so that no clip pays for a header or the
first frames, and only the bytes of packets count, none of a container. What comes back is late by the codec's delay,
which is measured and taken away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from narrows.coding.ans_entropy_coder import encode, fit_table
from narrows.coding.model_codec import rounded
from narrows.coding.nrwz_file import Header, pack
from narrows.data.sound_files import Samples, resampled
from narrows.errors import UserError, require
from narrows.layers.lapped_transforms import mdct
from narrows.tasks.measures.sound_figures import si_sdr

Setting = tuple[float, ...]

EXTRA = "pip install 'narrows[codecs]'"
LONGEST_DELAY = 0.3
"""Seconds: no codec here is later."""
LISTENED = 20.0
"""Seconds by which the delay is told."""
FULL = 32767


@dataclass
class CodedSound:
    """The result of a codec: total size, and the decoded sounds, each as long as its original."""

    size: int
    """Bytes of all sounds together."""
    sounds: list[Samples]


@dataclass
class ClassicSoundCodec:
    """A codec with settings by rising kilobits a second, and its results on the sounds.

    Args:
        sounds: `[C, T]`.
        rate: samples of a second.
    """

    sounds: Sequence[Samples]
    rate: int
    memo: dict[Setting, CodedSound] = field(default_factory=dict)

    @cached_property
    def settings(self) -> list[Setting]:
        raise NotImplementedError

    def check(self) -> None:
        """Refuse what cannot be measured here.

        Raises:
            UserError: a package that is missing, or sounds that the codec does not take.
        """

    def coded(self, setting: Setting) -> CodedSound:
        if setting not in self.memo:
            self.memo[setting] = self.code(setting)
        return self.memo[setting]

    def code(self, setting: Setting) -> CodedSound:
        raise NotImplementedError

    def within(self, budget: int) -> CodedSound:
        """The result at the largest size that fits in `budget` bytes; at the smallest setting if none fits."""
        low, high = 0, len(self.settings) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.coded(self.settings[middle]).size <= budget else (low, middle - 1)
        return self.coded(self.settings[low])


class Packets(ClassicSoundCodec):
    """An encoder of libavcodec, whose packets it decodes again. Subclasses say which."""

    encoder: ClassVar[str]
    decoder: ClassVar[str]
    kilobits: ClassVar[Sequence[float]]
    rates: ClassVar[Sequence[int]]
    """Samples of a second that it takes, rising; sound of another rate is brought to the next one."""
    sample: ClassVar[str]
    """Format of the samples that the encoder reads."""
    options: ClassVar[dict[str, str]]

    @cached_property
    def settings(self) -> list[Setting]:
        return [(float(rate),) for rate in self.kilobits]

    def check(self) -> None:
        import_av()
        require(all(len(sound) == 1 for sound in self.sounds), "it is measured on sound of one channel")

    @cached_property
    def _whole(self) -> Samples:
        """All sounds one after another `[T]`."""
        return np.concatenate([sound[0] for sound in self.sounds])

    def code(self, setting: Setting) -> CodedSound:
        rate = next((rate for rate in self.rates if rate >= self.rate), self.rates[-1])
        packets, told = self._encode(resampled(self._whole[None], self.rate, rate)[0], rate, setting[0])
        late, heard_at = self._decode(packets, told)
        late = late[delay(late, heard_at, self._whole, self.rate) :]
        back = fitted(resampled(late[None], heard_at, self.rate)[0], len(self._whole))
        ends = np.cumsum([sound.shape[1] for sound in self.sounds])[:-1]
        return CodedSound(sum(map(len, packets)), [part[None] for part in np.split(back, ends)])

    def _encode(self, x: Samples, rate: int, kilobits: float) -> tuple[list[bytes], bytes | None]:
        """The packets, and what the decoder is told before them."""
        library = import_av()
        context = library.CodecContext.create(self.encoder, "w")
        context.sample_rate, context.layout, context.format = rate, "mono", self.sample
        context.bit_rate, context.options = round(1000 * kilobits), dict(self.options)
        context.open()
        whole = np.rint(x.clip(-1, 1) * FULL).astype(np.int16)[None]
        packets: list[bytes] = []
        for start in range(0, whole.shape[1], context.frame_size):
            part = np.ascontiguousarray(whole[:, start : start + context.frame_size])
            frame = library.AudioFrame.from_ndarray(part, format=self.sample, layout="mono")
            frame.sample_rate, frame.pts = rate, start
            packets += [bytes(packet) for packet in context.encode(frame)]
        packets += [bytes(packet) for packet in context.encode(None)]
        return packets, context.extradata

    def _decode(self, packets: Sequence[bytes], told: bytes | None) -> tuple[Samples, int]:
        """All that the packets hold `[T]`, and its rate."""
        library = import_av()
        context = library.CodecContext.create(self.decoder, "r")
        if told:
            context.extradata = told
        frames = [frame for packet in packets for frame in context.decode(library.Packet(packet))]
        frames += context.decode(None)
        parts = [frame.to_ndarray().reshape(-1) for frame in frames]
        scale = FULL + 1 if np.issubdtype(parts[0].dtype, np.integer) else 1
        return np.concatenate(parts).astype(np.float32) / np.float32(scale), int(frames[0].sample_rate)


class Opus(Packets):
    """libopus with variable bit rates, tuned for fidelity (its application `audio`), at its highest complexity.

    "Definition of the Opus Audio Codec" (Valin et al., 2012, https://www.rfc-editor.org/rfc/rfc6716).
    """

    encoder, decoder, sample = "libopus", "libopus", "s16"
    rates = (8000, 12_000, 16_000, 24_000, 48_000)
    kilobits = tuple(np.geomspace(4, 256, 130).round(2).tolist())
    options: ClassVar[dict[str, str]] = {
        "application": "audio",
        "compression_level": "10",
        "vbr": "on",
        "frame_duration": "20",
    }


class MP3(Packets):
    """LAME at constant bit rates, of which the smallest is 8 kbit/s.

    "Coding of moving pictures and associated audio" (ISO/IEC 11172-3, 1993, https://www.iso.org/standard/22412.html).
    """

    encoder, decoder, sample = "libmp3lame", "mp3", "s16p"
    rates = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
    kilobits = (8, 16, 24, 32, 40, 48, 56, 64)
    options: ClassVar[dict[str, str]] = {"compression_level": "0", "reservoir": "1"}


def import_av() -> Any:
    """The module av.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av  # an extra, which only this needs
    except ImportError as error:
        raise UserError(f"Opus and MP3 need the package av: {EXTRA}") from error
    return av


def delay(late: NDArray[Any], rate: int, truth: NDArray[Any], own_rate: int) -> int:
    """Samples at `rate` by which a decoded sound `[T]` is later than its original, from the largest correlation."""
    seconds = min(LISTENED, len(truth) / own_rate)
    original = resampled(truth[None, : round(seconds * own_rate)], own_rate, rate)[0].astype(np.float64)
    most = round(LONGEST_DELAY * rate)
    heard = fitted(late, len(original) + most).astype(np.float64)
    size = 2 ** math.ceil(math.log2(len(heard) + len(original)))
    product = np.fft.rfft(heard, size) * np.fft.rfft(original, size).conj()
    return int(np.argmax(np.fft.irfft(product, size)[:most]))


def fitted(x: NDArray[Any], steps: int) -> NDArray[Any]:
    """`[T]` cut or filled up with zeros to `[steps]`."""
    return np.pad(x[:steps], (0, max(0, steps - len(x))))


FRACTIONS = (8, 6, 5, 4, 3, 2, 1)
"""By how many times the sampling rate is divided."""


class Waveform(ClassicSoundCodec):
    """A codec of single samples, with so many bits for each, of sounds brought to a fraction of their rate: a setting
    is that fraction and the bits. What fits best by SI-SDR in the bytes is taken. Subclasses say how samples are
    coded."""

    bits: Sequence[int]

    @cached_property
    def settings(self) -> list[Setting]:
        every = [(float(fraction), float(bits)) for fraction in FRACTIONS for bits in self.bits]
        return sorted(every, key=lambda setting: setting[1] / setting[0])

    def size(self, setting: Setting) -> int:
        """Bytes of all sounds together."""
        fraction, bits = setting
        return math.ceil(sum(sound.size for sound in self.sounds) / fraction * bits / 8)

    def within(self, budget: int) -> CodedSound:
        inside = [setting for setting in self.settings if self.size(setting) <= budget]
        return max((self.coded(setting) for setting in inside or self.settings[:1]), key=self._mean)

    def _mean(self, coded: CodedSound) -> float:
        return float(np.mean([si_sdr(guess, truth) for guess, truth in zip(coded.sounds, self.sounds, strict=True)]))

    def code(self, setting: Setting) -> CodedSound:
        fraction, bits = round(setting[0]), round(setting[1])
        lower = [resampled(sound, fraction, 1) for sound in self.sounds]
        found = []
        for sound, kept in zip(self.sounds, self.passed(lower, bits), strict=True):
            back = resampled(kept, 1, fraction)[:, : sound.shape[1]]
            found.append(np.pad(back, ((0, 0), (0, sound.shape[1] - back.shape[1]))))
        return CodedSound(self.size(setting), found)

    def passed(self, sounds: Sequence[Samples], bits: int) -> list[Samples]:
        """The sounds coded and decoded."""
        raise NotImplementedError


class MuLaw(Waveform):
    """`sign(x) log(1 + mu |x|) / log(1 + mu)` with mu = 255, rounded to the middles of 2^bits equal intervals.

    "Pulse code modulation (PCM) of voice frequencies" (ITU-T G.711, 1988, https://www.itu.int/rec/T-REC-G.711), whose
    curve is a chain of lines near this one.
    """

    bits = (2, 3, 4, 5, 6, 8)

    def passed(self, sounds: Sequence[Samples], bits: int) -> list[Samples]:
        return [mu_law(sound, bits) for sound in sounds]


def mu_law(x: Samples, bits: int, mu: float = 255.0) -> Samples:
    """What mu-law of so many bits leaves of `x`."""
    x = np.asarray(x, np.float64).clip(-1, 1)
    pressed = np.sign(x) * np.log1p(mu * np.abs(x)) / math.log1p(mu)
    levels = 2**bits
    place = np.minimum(np.floor((pressed + 1) / 2 * levels), levels - 1)
    back = (place + 0.5) / levels * 2 - 1
    return np.asarray(np.sign(back) * np.expm1(np.abs(back) * math.log1p(mu)) / mu, np.float32)


class ADPCM(Waveform):
    """The difference from the sample before, in four bits, of a step that follows the differences.

    "Recommended Practices for Enhancing Digital Audio Compatibility in Multimedia Systems" (IMA, 1992,
    https://www.cs.columbia.edu/~hgs/audio/dvi/IMA_ADPCM.pdf), section 6.
    """

    bits = (4,)

    def passed(self, sounds: Sequence[Samples], bits: int) -> list[Samples]:
        rows = [row for sound in sounds for row in sound]
        longest = max(map(len, rows))
        found = ima_adpcm(np.stack([fitted(row, longest) for row in rows]))
        each = iter(found)
        return [np.stack([next(each)[: sound.shape[1]] for _ in sound]) for sound in sounds]


# fmt: off
STEPS = np.array([
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31,
    34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107, 118, 130, 143,
    157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658,
    724, 796, 876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024,
    3327, 3660, 4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899,
    15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794, 32767,
])
# fmt: on
MOVES = np.array([-1, -1, -1, -1, 2, 4, 6, 8])


def ima_adpcm(x: Samples) -> Samples:
    """What IMA ADPCM leaves of sounds `[N, T]`, all coded at once, sample by sample."""
    samples = np.rint(np.asarray(x, np.float64).clip(-1, 1) * FULL).astype(np.int64)
    guess, place = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
    found = np.empty_like(samples)
    for t in range(samples.shape[1]):
        step = STEPS[place]
        gap = samples[:, t] - guess
        size, code, change = np.abs(gap), np.zeros_like(gap), step >> 3
        for bit, part in ((4, step), (2, step >> 1), (1, step >> 2)):
            taken = size >= part
            code += np.where(taken, bit, 0)
            size -= np.where(taken, part, 0)
            change += np.where(taken, part, 0)
        guess = np.clip(guess + np.where(gap < 0, -change, change), -FULL - 1, FULL)
        place = np.clip(place + MOVES[code], 0, len(STEPS) - 1)
        found[:, t] = guess
    return np.asarray(found / FULL, np.float32)


FRAME = 0.012
"""Seconds from frame to frame of the transform codec, about."""


class TransformCodec(ClassicSoundCodec):
    """The MDCT, every coefficient rounded to a multiple of one step, under tables of narrows' own coder that training
    sounds tell, one for each frequency, in a file with narrows' own header.

    Args:
        sounds: `[C, T]`.
        rate: samples of a second.
        train: other sounds, to which the tables are fitted.
    """

    def __init__(self, sounds: Sequence[Samples], rate: int, train: Sequence[Samples]) -> None:
        super().__init__(sounds, rate)
        self.hop = max(2, 2 * round(FRAME * rate / 2))
        self.rows = mdct(self.hop).numpy().astype(np.float64)
        self.test, self.train = self._coefficients(sounds), self._coefficients(train)

    @cached_property
    def settings(self) -> list[Setting]:
        largest = float(np.abs(self.train).max(initial=1e-9))
        return [(float(step),) for step in np.geomspace(2 * largest, largest / 2**14, 200)]

    def code(self, setting: Setting) -> CodedSound:
        train, test = (rounded(list(values.T), setting[0]) for values in (self.train, self.test))
        code = encode(test, [fit_table(values) for values in train])
        lengths = [sound.shape[1] for sound in self.sounds]
        layout = {"kind": "sounds", "rate": self.rate, "channels": len(self.sounds[0]), "steps": lengths}
        layout |= {"rates": [self.rate] * len(lengths), "subtypes": ["PCM_16"] * len(lengths)}
        layout |= {"names": [f"{number}.wav" for number in range(len(lengths))]}
        size = len(pack(Header(bytes(8), bytes(8), setting[0], len(lengths), layout), code))
        return CodedSound(size, self._sounds(np.stack(test, 1).astype(np.float64) * setting[0]))

    def _frames(self, steps: int) -> int:
        return -(-steps // self.hop) + 1

    def _coefficients(self, sounds: Sequence[Samples]) -> NDArray[np.float64]:
        """`[N, hop]`, the frames of all channels of all sounds."""
        found = []
        for row in (row for sound in sounds for row in sound):
            padded = np.pad(row.astype(np.float64), (self.hop, self._frames(len(row)) * self.hop - len(row)))
            frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * self.hop)[:: self.hop]
            found.append(frames @ self.rows.T)
        return np.concatenate(found)

    def _sounds(self, coefficients: NDArray[np.float64]) -> list[Samples]:
        start, found = 0, []
        for sound in self.sounds:
            rows = []
            for _ in sound:
                count = self._frames(sound.shape[1])
                frames = coefficients[start : start + count] @ self.rows
                start += count
                whole = np.zeros((count + 1) * self.hop)
                for place, frame in enumerate(frames):
                    whole[place * self.hop : (place + 2) * self.hop] += frame
                rows.append(whole[self.hop : self.hop + sound.shape[1]])
            found.append(np.asarray(rows, np.float32))
        return found


def codecs_for(sounds: Sequence[Samples], rate: int, train: Sequence[Samples]) -> dict[str, ClassicSoundCodec]:
    """Every codec, by name, of these sounds; `train` are others, which tell the tables of one."""
    found: dict[str, ClassicSoundCodec] = {
        "opus": Opus(sounds, rate),
        "mp3": MP3(sounds, rate),
        "mu_law": MuLaw(sounds, rate),
        "adpcm": ADPCM(sounds, rate),
        "mdct": TransformCodec(sounds, rate, train),
    }
    return found
