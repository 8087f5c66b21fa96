"""`narrows sample RUN`: draw from a run's own prior, or from a density fitted to its latents.

    narrows sample RUN [--prior NAME] [-n 64] [--label Y] [--seed 0] [--out DIR] [--allow PKG] [KEY=VALUE ...]

A density that is not there yet is fitted to the run's training split, which must be here, and stored below the
run's `priors/`, so that it is fitted once. What is drawn lies in `samples.npy`, and in `samples.png`.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narrows.commands.allow_option import add_allow, packages
from narrows.commands.compare import explained
from narrows.errors import UserError, nearest, require

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

    from narrows.models.autoencoder import Autoencoder

DESCRIPTION = """\
Draw latents and decode them: from the density that the run fitted, else from the model's own prior, else from
the one that --prior names, which is fitted now and kept.
"""
EPILOG = """\
examples
  narrows sample RUN                                  as the run was trained to
  narrows sample RUN --prior mixture -n 256           a Gaussian mixture over its latents
  narrows sample RUN --prior flow prior.epochs=20     options of the density
  narrows sample RUN --prior own                      the model's own prior, whatever was fitted
  narrows sample RUN --label 3                        a class-conditional model's threes
"""
OWN = "own"
FOLDER = "priors"
AT_ONCE = 256
"""Latents decoded at once."""
MOST_SHOWN = 256
"""Samples in the picture."""


def parser() -> argparse.ArgumentParser:
    """The command line; values to change are among the places, because options may stand between them."""
    made = argparse.ArgumentParser(
        "narrows sample", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("arguments", nargs="+", metavar="RUN KEY=VALUE", help="a run directory, and values to change for the fit")
    add("--prior", metavar="NAME", help="a choice of the config group prior, or own")
    add("-n", "--number", type=int, default=64, metavar="N", help="how many samples (64)")
    add("--label", type=int, metavar="Y", help="of a class-conditional model; by default its classes in turn")
    add("--seed", type=int, default=0, metavar="S", help="of the draws (0)")
    add("--out", type=Path, metavar="DIR", help="where the files go (RUN/samples)")
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    options = parser().parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with explained():
        for path in sample(options):
            print(path)


def sample(options: argparse.Namespace) -> list[Path]:
    """Draw, and write the files; their paths.

    Raises:
        UserError: no such run or density, no prior to draw from, or data that are not here.
    """
    import numpy as np

    from narrows.drawing import canvas
    from narrows.drawing.examples import sheet

    require(options.number >= 1, f"-n must be at least 1, not {options.number}")
    run, model = _prepared(options)
    drawn = draw(model, options.number, options.label, options.seed).float().numpy()
    out = options.out or run / "samples"
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "samples.npy", drawn)
    if model.spec.kind == "tokens":
        return [out / "samples.npy"]
    title = f"Samples: means of p(x|z), z drawn from {'the fitted density' if model.density else 'the prior'}"
    canvas.save(sheet(drawn[:MOST_SHOWN], model.spec, title), out / "samples.png")
    return [out / "samples.npy", out / "samples.png"]


def _prepared(options: argparse.Namespace) -> tuple[Path, Autoencoder]:
    """The run and its model, with what is to be sampled from."""
    from narrows.loading.load import load

    place, *overrides = options.arguments
    run = Path(place)
    require(run.is_dir() or "=" not in place, "name the run first: narrows sample RUN KEY=VALUE")
    require(run.is_dir(), f"there is no run directory {run}")
    strange = [argument for argument in overrides if "=" not in argument]
    require(not strange, f"'{strange[0] if strange else ''}' is no KEY=VALUE, and only one run is sampled at a time")
    allow = packages(options.allow)
    model = load(run, allow=allow)
    labels_of(model, 1, options.label)
    if options.prior in (None, OWN):
        require(not overrides, f"'{overrides[0] if overrides else ''}' changes nothing without --prior NAME")
        if options.prior == OWN:
            model.density = None
        if not model.generative:
            raise UserError(_nothing_to_draw_from(run, model))
    else:
        give(model, run, options.prior, overrides, allow)
    return run, model


def _nothing_to_draw_from(run: Path, model: Autoencoder) -> str:
    from narrows.loading.fitted_density import fitting

    name, fits = type(model.bottleneck).__name__, fitting(model)
    return (
        f"bottleneck {name} has no prior to sample from; fit a density to its latents with "
        f"narrows sample {run} --prior {fits[0]} (those that fit: {', '.join(fits)})"
    )


def give(model: Autoencoder, run: Path, name: str, overrides: Sequence[str], allow: Sequence[str]) -> None:
    """Attach the density of that name: the stored one where its options are those asked for, else a new one.

    Raises:
        UserError: no such density, a latent that it cannot read, or data that are not here.
    """
    from narrows.config.composition import check_keys
    from narrows.loading import fitted_density
    from narrows.loading.load import checkpoint_path, read_config
    from narrows.loading.run_data import find

    known = fitted_density.choices()
    require(name in known, f"there is no prior '{name}': {nearest(name, [*known, OWN])}")
    config = read_config(run)
    config.prior = known[name]
    find(config, run, overrides)
    check_keys(config)
    model.density = None
    # The weights that `load` took.
    weights, stored = checkpoint_path(run, "best"), run / FOLDER / f"{name}.ckpt"
    for path in (fitted_density.fitted_path(run), stored):
        if fitted_density.attach(model, path, weights, allow, asked=config.prior):
            return
    density = fitted_density.build_density(config.prior, model, config.seed)
    assert density is not None
    _fit(density, config, model, run)
    fitted_density.save(density, config.prior, weights, stored)


def _fit(density: Any, config: DictConfig, model: Autoencoder, run: Path) -> None:
    """On the run's own data, on a GPU where there is one."""
    import torch

    from narrows.loading import fitted_density
    from narrows.loading import run_data as data_of

    data = data_of.load(config, run)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    fitted_density.fit(density, config.prior, model, data, config.seed)
    model.cpu()


def labels_of(model: Autoencoder, n: int, label: int | None) -> Tensor | None:
    """`[n]`: the one that was asked for, else the model's own choice; None where it reads none.

    Raises:
        UserError: a label for a model that reads none, or of no class.
    """
    labels = model.classes(n)
    if label is None:
        return labels
    if labels is None:
        raise UserError(f"--label {label}: this model is not told the class; variant=conditional_vae is")
    count = model.spec.num_classes or 0
    require(0 <= label < count, f"--label must be from 0 to {count - 1}, not {label}")
    return labels.fill_(label)


def draw(model: Autoencoder, n: int, label: int | None, seed: int) -> Tensor:
    """`n` samples, means of p(x|z), `[n, *shape]`, on the CPU: a function of the seed.

    Raises:
        UserError: a label for a model that reads none, or of no class.
    """
    import torch

    from narrows.tasks.base import evaluating

    labels = labels_of(model, n, label)
    with evaluating(model, seed, "sample"):
        told = [None] * n if labels is None else labels.split(AT_ONCE)
        parts = zip(model.draw(n).split(AT_ONCE), told, strict=False)
        return torch.cat([model.point_at(z, replace(model.usual(len(z)), label=y)).cpu() for z, y in parts])


if __name__ == "__main__":
    main()
