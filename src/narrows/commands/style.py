"""`narrows style CONTENT STYLE --run RUN`: a picture in the style of another, by a run's features and its decoder.

    narrows style CONTENT STYLE --run RUN [-o OUT.png] [--strength S ...] [--method adain|wct|transport]
                  [--layers L ...] [--size N] [--allow PKG]

The features that the run's model has of CONTENT take the statistics that it has of STYLE, and its decoder makes the
picture of them. One strength writes that picture at CONTENT's own size; several write one picture of all of them side
by side, between CONTENT and STYLE. At strength 0 it is the plain reconstruction. The run must be one of pictures whose
latent is a map: `narrows train experiment=style_photographs data_dir=DIR` makes one.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.commands import command_line
from narrows.commands.command_line import add_allow, new_parser, packages, print_paths
from narrows.errors import require
from narrows.files import replacing, require_other
from narrows.runs.overwriting import require_outside_runs

if TYPE_CHECKING:
    from torch import Tensor

    from narrows.loading.open_run import OpenRun
    from narrows.models.style_transfer import StyleTransfer

log = logging.getLogger(__name__)

PNG = ".png"
LARGEST = 768
DESCRIPTION = """\
Write CONTENT in the style of STYLE: the statistics of the run's features of the one are brought to those of the other,
and its decoder makes the picture. The plain reconstruction is strength 0.
"""
EPILOG = """\
examples
  narrows style photo.jpg painting.jpg --run RUN                          writes photo.styled.png
  narrows style photo.jpg painting.jpg --run RUN --strength 0 0.5 1       all of them in one picture
  narrows style photo.jpg painting.jpg --run RUN --method wct --layers latent -o out.png
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("style", DESCRIPTION, EPILOG)
    add = made.add_argument
    add("content", type=Path, metavar="CONTENT", help="the picture that is to be seen")
    add("style", type=Path, metavar="STYLE", help="the picture whose style it is to have")
    add("--run", type=Path, required=True, metavar="RUN", help="a trained run whose latent is a map")
    add("-o", "--out", type=Path, metavar="OUT", help=f"the picture that is written (CONTENT.styled{PNG})")
    add("--strength", type=float, nargs="+", default=[1.0], metavar="S", help="0 to 1 (1); several: one picture of all")
    add("--method", default="adain", metavar="NAME", help="adain (mean and deviation), wct or transport (covariance)")
    add("--layers", nargs="+", metavar="L", help="encoder1, ..., latent, decoder1, ... (latent)")
    add("--size", type=int, default=LARGEST, metavar="N", help=f"most pixels of a picture's longer side ({LARGEST})")
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), style, arguments)


def style(options: argparse.Namespace) -> None:
    """Read both pictures, transfer, write.

    Raises:
        UserError: a run that has no style to transfer, a file that is no picture, or an option out of its range.
    """
    from narrows.loading.open_run import OpenRun
    from narrows.models.style_transfer import StyleTransfer
    from narrows.new_data.examples import stem_of
    from narrows.runs.recorded_threads import as_recorded

    for strength in options.strength:
        require(0 <= strength <= 1, f"--strength {strength:g} must be from 0, the plain reconstruction, to 1")
    require(options.size >= 1, f"--size {options.size} must be at least 1")
    run = OpenRun(options.run, packages(options.allow))
    target = options.out or stem_of(options.content, "styled", PNG)
    require(target.suffix.lower() == PNG, f"{target} is to be a picture: let OUT end in {PNG}")
    for given in (options.content, options.style, *([] if run.packed is None else [run.packed])):
        require_other(target, given)
    require_outside_runs(target)
    with as_recorded(run.path):
        transfer = StyleTransfer(run.model, options.method, options.layers)
        own, other = (_read(path, run, transfer, options.size) for path in (options.content, options.style))
        run.model.to(run.device)
        places = own.to(run.device), other.to(run.device)
        made = [found[0].clamp(0, 1).cpu() for found in transfer.at_strengths(*places, options.strength)]
    _write(target, own[0], other[0], dict(zip(options.strength, made, strict=True)))
    log.info("%s at the layers %s of %s", options.method, ", ".join(transfer.layers), run.path.name)
    print_paths(target)


def _read(path: Path, run: OpenRun, transfer: StyleTransfer, largest: int) -> Tensor:
    """A picture `[1, C, H, W]` in [0, 1], at a size that the run reads."""
    from PIL import Image

    from narrows.coding.model_codec import unit_range
    from narrows.data import ImageReader
    from narrows.data.batch_loader import unit
    from narrows.data.dataset_files import existing
    from narrows.data.image_files import open_image

    spec = run.model.spec
    right = unit_range(spec) and spec.kind == "image"
    require(right, "this run's data are no grey or colour pictures of bytes, which files of pictures hold")
    existing(path, "CONTENT and STYLE")
    channels, *sides = spec.shape
    image = open_image(str(path)).convert("RGB" if channels == 3 else "L")
    width, height = image.size
    if transfer.multiples is None:
        read = ImageReader(sides, 3 if channels == 3 else 1).fitted(image)
        if read.size != image.size:
            log.info("%s: %d x %d is scaled and cut to the run's %d x %d", path, height, width, *sides)
    else:
        factor = min(1.0, largest / max(image.size))
        read = image.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BICUBIC)
        if factor < 1:
            log.info("%s: %d x %d is scaled to %d x %d; --size says how large", path, height, width, *read.size[::-1])
    return unit(_pixels(read))[None]


def _pixels(image: object) -> Tensor:
    """uint8 `[C, H, W]`."""
    import numpy as np
    import torch

    values = np.asarray(image)
    return torch.from_numpy(np.atleast_3d(values).transpose(2, 0, 1).copy())


def _write(target: Path, content: Tensor, other: Tensor, made: dict[float, Tensor]) -> None:
    """The picture of one strength, or one picture of several."""
    from narrows.drawing.canvas import save
    from narrows.drawing.style_pictures import strength_grid
    from narrows.new_data.pictures import save_png

    target.parent.mkdir(parents=True, exist_ok=True)
    if len(made) == 1:
        with replacing(target) as file:
            save_png(next(iter(made.values())), file)
        return
    columns = {"content": content, **{f"strength {s:g}": picture for s, picture in made.items()}, "style": other}
    pictures = {name: picture.cpu().double().numpy() for name, picture in columns.items()}
    save(strength_grid(pictures, "Content in the style of another picture"), target)


if __name__ == "__main__":
    main()
