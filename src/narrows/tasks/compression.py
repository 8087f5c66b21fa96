"""Task compression: how well a model compresses, in real files at several rates, beside codecs at equal bytes."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from narrows.bottlenecks.hyperprior import ScaleHyperprior
from narrows.coding.coding_tables import Fitted
from narrows.coding.eight_bits import eight_bits
from narrows.coding.example_files import Examples
from narrows.coding.model_codec import Codec, discrete, unfit, unit_range
from narrows.coding.packing import pack_examples, quantise, rebuild_examples, unpack_examples
from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.errors import UserError, require
from narrows.files import read_json
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive
from narrows.runs.file_names import CODING, TASKS
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.image_codecs import (
    OPTIONS,
    Classic,
    Coded,
    PCACodec,
    Pictures,
    PillowCodec,
    png_bytes,
)
from narrows.tasks.classics.mean_pca_ridge import fit_classics
from narrows.tasks.classics.video_codecs import codecs_of_clips
from narrows.tasks.compression_pictures import across, bits_per_pixel, show
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.coded_examples import coded_examples
from narrows.tasks.measures.reconstruction_errors import (
    example_ms_ssim,
    example_mse,
    example_psnr,
    example_ssim,
    frame_psnr,
    has_ms_ssim,
    has_ssim,
)
from narrows.tasks.measures.standard_errors import standard_error
from narrows.types import DataSpec, Kind

log = logging.getLogger(__name__)

PCA_ROWS = 10_000
AT_ONCE = 100
"""Pictures that are judged together."""


@dataclass
class Written:
    """A compressed file of the test examples, and the pictures decoded from it."""

    size: int
    """Bytes on disk."""
    bits: NDArray[np.float64]
    """The bits `[N]` that an ideal coder would need for every example, by the coding tables."""
    side: float | None
    """Those of all side information; None where there is none."""
    pictures: Pictures


class Compression(Task):
    """Compresses the first test examples into one real file, decodes it, and judges size and quality.

    Examples are pictures, scans or clips of eight bits; of clips that share frames those are taken that share none.

    - bpp: 8 x bytes of the file / pixels (of scans voxels), header and checksum included; its standard error is that of
      the examples' own code lengths. `entropy_bpp` is what the tables of code probabilities say an ideal coder would
      need, and `side_bpp` the side information's part of it, where there is some.
    - bytes_per_example: bytes of the file / examples.
    - psnr: mean over examples in dB, of eight bits like the truth, span 1; mse, ssim, ms_ssim likewise; of clips also
      psnr_per_frame.
    - decoder_parameters, decoder_bytes (of its weights and, for codes, the bottleneck's, and of what reads side
      information), decoder_macs_per_pixel (multiplications with addition, torch's own count, which leaves out
      activations and norms).

    Beside it JPEG, WebP and JPEG 2000 at the best quality whose files have at most as many bytes, or at their smallest
    (`bpp` says which), and PCA under the same quantiser and coder; pictures below 64 pixels a side on one mosaic, of
    scans and clips every slice or frame as a picture. Beside clips also H.264 through PyAV
    (`tasks.classics.video_codecs`), all as one film, and small ones side by side too, by the bytes that its decoder
    needs, none of a container. PNG (`png/bpp`) loses nothing. A run of continuous latents is coded at several steps:
    `test/compression/step_S/...` is its rate-distortion curve, each point with the classics at its bytes. Encoding and
    decoding times are in the log.

    Args:
        step: of the quantiser; null: the one the latents were trained for, else the run's stored default. Codes have
            none.
        factors: further steps of the curve, in multiples of that; codes have one point.
        max_examples: of the test split.

    Raises:
        UserError: a value out of its range, a step for codes, or an empty test split.
    """

    name = "compression"
    figures = declared(("bpp", "bytes_per_example", "entropy_bpp", "psnr"), heading="compression")

    def __init__(
        self, *, step: float | None = None, factors: Sequence[float] = (0.5, 0.71, 1.41, 2.0), max_examples: int = 1000
    ) -> None:
        require(step is None or step > 0, f"task compression: step must be above 0, not {step}")
        right = all(factor > 0 and factor != 1 for factor in factors)
        require(right, f"task compression: factors must be above 0 and not 1, which is there anyway, not {factors}")
        require(max_examples >= 1, f"task compression: max_examples must be at least 1, not {max_examples}")
        self.step, self.factors, self.max_examples = step, list(factors), max_examples

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if not unit_range(spec):
            return "bits per pixel are of grey or colour pictures, scans and films with values in [0, 1]"
        return unfit(model)

    def run(self, context: TaskContext) -> FigureTable:
        truth = coded_examples(context, "test", self.max_examples)
        require(len(truth) > 0, "task compression: the test split is empty")
        folder = None if context.directory is None else context.directory / CODING
        fitted = Fitted(Codec(context.model), folder, lambda: context.datamodule)
        step, classics = fitted.step(self.step), _classics(context, truth)
        files = {step: _written(fitted, step, truth)}
        if step is not None:
            files |= {near: _written(fitted, near, truth) for near in (_digits(step * f) for f in self.factors)}
        found = FigureTable(self.name)
        found.add(decoder_cost(context.model))
        found.add({"bpp": bits_per_pixel(png_bytes(truth), truth)}, "png")
        for at, file in sorted(files.items(), key=lambda item: item[0] or 0):
            for method, figures in _judged(file, classics, truth, context.spec.kind).items():
                found.add(figures, method, "" if at == step else f"step_{at:g}")
        self._compare(context, found, truth)
        show(context, found.named(), Coded(files[step].size, files[step].pictures), classics, truth)
        return found

    def _compare(self, context: TaskContext, found: FigureTable, truth: Pictures) -> None:
        x = _unit(truth)
        mean = fit_classics(context, PCA_ROWS).guess_mean(x)
        error = float(example_mse(mean, x, None).mean())
        subject, moral = "what comes back from the compressed file is", "and the mean needs no file"
        context.warn_if_worse_than_mean(subject, "MSE", found.row()["mse"], error, moral)

    def across(self, runs: Sequence[Path]) -> Path | None:
        """The curves of several judged runs in one picture, `figures/compression_runs.png` of the first; none where
        they were judged on different examples."""
        records = [read_json(run / TASKS / f"{self.name}.json") for run in runs]
        if len({(record["data"], record["options"]["max_examples"]) for record in records}) > 1:
            log.info("no picture of these runs together: they were judged on different examples")
            return None
        return across({run: record["figures"] for run, record in zip(runs, records, strict=True)})


def _unit(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures).float() / 255


def _digits(step: float) -> float:
    """The step rounded to two digits, for names of files and figures."""
    return float(f"{step:.2g}")


def _written(fitted: Fitted, step: float | None, truth: Pictures) -> Written:
    """Write the test examples to a real file, and decode them from its bytes."""
    codec, tables = fitted.codec, fitted.tables(step)
    layout = {"kind": "npy", "shape": list(truth.shape[1:]), "dtype": "uint8", "channel": True}
    examples = Examples(layout, [_unit(truth)])
    start = time.perf_counter()
    sent = quantise(codec, examples, step)
    data = pack_examples(tables, sent, examples)
    encoded = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.nrwz"
        path.write_bytes(data)
        size = path.stat().st_size
        header, streams = unpack_examples(codec, tables, path.read_bytes(), str(path))
        pictures = np.concatenate([eight_bits(group) for group in rebuild_examples(codec, header, streams)])
    log.info(
        "compression%s: %d examples encoded in %.2f s, decoded in %.2f s",
        *("" if step is None else f", step {step:g}", len(truth), encoded - start, time.perf_counter() - encoded),
    )
    assert all(np.array_equal(a, b) for a, b in zip(streams, sent, strict=True)), "the file gave other codes back"
    each = [table.bits(values) for values, table in zip(sent, tables.tables, strict=True)]
    bits = codec.by_example(each, sent, len(truth), truth.shape[1:]).sum(1)
    side = None if codec.told is None else float(sum(part.sum() for part in each[: codec.told.own]))
    return Written(size, bits, side, pictures)


def _classics(context: TaskContext, truth: Pictures) -> dict[str, Classic]:
    made: dict[str, Classic] = {name: PillowCodec(name, truth) for name in OPTIONS}
    if context.spec.kind == "video":
        try:
            made |= codecs_of_clips(truth)
        except UserError as reason:
            context.warn(f"task compression: {CLASSICS['h264']} is left out: {reason}")
    made["pca"] = PCACodec(coded_examples(context, "train", PCA_ROWS), truth, derive(context.seed, "pca"))
    return made


def _judged(file: Written, classics: dict[str, Classic], truth: Pictures, kind: Kind) -> dict[str, dict[str, float]]:
    """By method, the figures of one file, and those of every classic codec at as many bytes."""
    pixels = truth.size / truth.shape[1]
    coded = {MODEL: Coded(file.size, file.pictures)}
    coded |= {name: classic.within(file.size) for name, classic in classics.items()}
    found = {
        name: {
            **_quality(one.pictures, truth, kind),
            "bpp": bits_per_pixel(one.size, truth),
            "bytes_per_example": one.size / len(truth),
        }
        for name, one in coded.items()
    }
    found[MODEL]["bpp_stderr"] = standard_error(file.bits) * len(truth) / pixels
    found[MODEL]["entropy_bpp"] = float(file.bits.sum()) / pixels
    if file.side is not None:
        found[MODEL]["side_bpp"] = file.side / pixels
    return found


def _quality(found: Pictures, truth: Pictures, kind: Kind) -> dict[str, float]:
    """Quality of the decoded pictures, as means over pictures."""
    spec = DataSpec(shape=truth.shape[1:], kind=kind, size=len(truth))
    pairs = list(zip(_unit(found).split(AT_ONCE), _unit(truth).split(AT_ONCE), strict=True))
    each = {
        "psnr": torch.cat([example_psnr(guess, true, 1.0) for guess, true in pairs]),
        "mse": torch.cat([example_mse(guess, true, None) for guess, true in pairs]),
    }
    if has_ssim(spec):
        each["ssim"] = torch.cat([example_ssim(guess, true, 1.0) for guess, true in pairs])
    if has_ms_ssim(spec):
        each["ms_ssim"] = torch.cat([example_ms_ssim(guess, true, 1.0) for guess, true in pairs])
    if kind == "video":
        each["psnr_per_frame"] = torch.cat([frame_psnr(guess, true, 1.0) for guess, true in pairs])
    figures = {name: float(values.mean()) for name, values in each.items()}
    return figures | {"psnr_stderr": standard_error(each["psnr"].numpy())}


def decoder_cost(model: Autoencoder) -> dict[str, float]:
    """The parameters and bytes that the receiver needs (decoder, likelihood, for codes the bottleneck, and what reads
    side information), and the multiply-adds per pixel."""
    bottleneck = model.bottleneck
    told = [bottleneck.synthesis] if isinstance(bottleneck, ScaleHyperprior) else []
    parts = [model.decoder, model.likelihood, *([bottleneck] if discrete(model) else []), *told]
    tensors = {tensor.data_ptr(): tensor for part in parts for tensor in part.state_dict().values()}
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        model.params(torch.zeros(1, *model.read_shape, device=device))
        if isinstance(bottleneck, ScaleHyperprior):
            bottleneck.scales(torch.zeros(1, *bottleneck.side.out_shape, device=device), bottleneck.out_shape[1:])
    pixels = math.prod(model.spec.shape[1:])
    return {
        "decoder_parameters": float(sum(tensor.numel() for tensor in tensors.values())),
        "decoder_bytes": float(sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())),
        "decoder_macs_per_pixel": counter.get_total_flops() / 2 / pixels,
    }
