"""`narrows sample RUN`: draw from a run's own prior, or from a density fitted to its latents.

    narrows sample RUN [--density NAME] [-n 64] [--label Y] [--temperature T] [--seed 0] [-o OUT] [--allow PKG]
                       [KEY=VALUE ...]

A density that the run does not have yet is fitted to its training split, which must be on this machine, and stored in
the run's `densities/`, so that it is fitted only once. The samples go to `samples.npy` and `samples.png` in a
directory, or to the one file that OUT names, in the data's own units; those of a table are rows with its own columns.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.commands import command_line, sample_files
from narrows.commands.command_line import add_allow, new_parser, packages, print_paths, require_overrides
from narrows.errors import UserError, nearest, require
from narrows.runs.file_names import DENSITIES, ENCODING, OLD_DENSITIES, SAMPLES
from narrows.runs.overwriting import require_not_recorded, require_outside_runs

if TYPE_CHECKING:
    from torch import Tensor

    from narrows.loading.open_run import OpenRun
    from narrows.models.autoencoder import Autoencoder

DESCRIPTION = """\
Draw latents and decode them: from the density that the run fitted, else from the model's own prior, else from
the one that --density names, which is fitted now and kept.
"""
EPILOG = """\
examples
  narrows sample RUN                                  as the run was trained to
  narrows sample RUN --density mixture -n 256           a Gaussian mixture over its latents
  narrows sample RUN --density flow density.epochs=20     options of the density
  narrows sample RUN --density own                      the model's own prior, whatever was fitted
  narrows sample RUN --label 3                        a class-conditional model's threes
  narrows sample RUN --density by_class --label 3     any model's threes
  narrows sample RUN --temperature 0.8                 x drawn too, and not its likeliest value or mean
  narrows sample RUN -n 10000 -o new.csv               rows of the run's table, or new.parquet
  narrows sample RUN -o new.npz                        x, and label where samples are of a class
"""
OWN = "own"
AT_ONCE = 256
"""Latents decoded together."""


def parser() -> argparse.ArgumentParser:
    """The command line; the run and overrides share one argument, because options may stand between them."""
    made = new_parser("sample", DESCRIPTION, EPILOG)
    add = made.add_argument
    add("arguments", nargs="+", metavar="RUN KEY=VALUE", help="a run directory, and values to change for the fit")
    add("--density", metavar="NAME", help="a choice of the config group density, or own")
    add("-n", "--number", type=int, default=64, metavar="N", help="how many samples (64)")
    add("--label", metavar="Y", help="a class, by number or name; by default the classes in turn, of a table by shares")
    add("--temperature", type=float, metavar="T", help="draw x too, from p(x|z)^(1/T) (its point; of a table 1)")
    add("--seed", type=int, default=0, metavar="S", help="of the draws (0)")
    add(
        "-o",
        "--out",
        type=Path,
        metavar="OUT",
        help="a directory, or .csv .parquet .npz .npy .png .gif .txt (RUN/samples)",
    )
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), lambda options: print_paths(*sample(options)), arguments)


def sample(options: argparse.Namespace) -> list[Path]:
    """Draw samples and write them; returns the paths of the files.

    Raises:
        UserError: no such run or density, no prior to draw from, or data that are not here.
    """
    from narrows.runs.recorded_threads import as_recorded

    require(options.number >= 1, f"-n must be at least 1, not {options.number}")
    require(
        options.temperature is None or 0 < options.temperature < math.inf,
        f"--temperature must be above 0, not {options.temperature}",
    )
    run, overrides = _open_run(options)
    require(
        run.packed is None or run.fetched is not None or options.out is not None,
        f"{run.packed} is a packed run: say where samples go with --out",
    )
    out = options.out or (Path(f"{run.fetched}-{SAMPLES}") if run.fetched else run.path / SAMPLES)
    if sample_files.is_file(options.out):
        require_outside_runs(out)
        sample_files.require_form(run, out)
    for name in ("samples.npy", "samples.npz", "samples.png", "samples.gif", "samples.txt", "samples.csv"):
        require_not_recorded(out / name, run.path)
    with as_recorded(run.path):
        shares = _prepare(run, overrides, options)
        model, temperature = run.model, options.temperature
        if temperature is None and (model.spec.columns is not None or sample_files.is_table(options.out)):
            temperature = 1.0
        _require_memory(model, options.number)
        label = class_of(model, options.label)
        drawn, told = draw(model, options.number, label, options.seed, temperature, shares)
    what = "means" if temperature is None else f"draws at temperature {temperature:g}"
    title = f"Samples: {what} of p(x|z), z drawn from {'the fitted density' if model.density else 'the prior'}"
    return sample_files.write(sample_files.Samples(run, drawn, told, title), out)


def _require_memory(model: Autoencoder, number: int) -> None:
    """Refuse more samples than this machine can hold.

    Raises:
        UserError: says how much memory they take.
    """
    # Latents and samples are float32, and the samples exist twice for a moment.
    needed = 4 * number * (math.prod(model.latent_shape) + 2 * math.prod(model.spec.shape))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    require(
        needed < there,
        f"-n {number} samples would take {needed >> 30:,} GiB of memory, and this machine has "
        f"{there >> 30:,} GiB: draw fewer, each time with another --seed",
    )


def _open_run(options: argparse.Namespace) -> tuple[OpenRun, list[str]]:
    """The run, and the overrides for the fit."""
    from narrows.loading.open_run import OpenRun

    place, *overrides = options.arguments
    require(Path(place).exists() or "=" not in place, "name the run first: narrows sample RUN KEY=VALUE")
    require_overrides(overrides, "only one run is sampled at a time")
    return OpenRun(place, packages(options.allow), "best"), overrides


def _prepare(run: OpenRun, overrides: Sequence[str], options: argparse.Namespace) -> Sequence[float] | None:
    """Attach to the run's model the density that is to be sampled from; the shares of classes among the training rows,
    of a run on a table that recorded them."""
    model = run.model
    if not _is_by_class(options.density):
        class_of(model, options.label)
    if options.density in (None, OWN):
        require(not overrides, f"'{overrides[0] if overrides else ''}' changes nothing without --density NAME")
        if options.density == OWN:
            model.density = None
        if not model.generative:
            raise UserError(_nothing_to_draw_from(run))
    else:
        give(run, options.density, overrides)
    if not (run.path / ENCODING).is_file():
        return None
    from narrows.loading.recorded_by_the_data import load_encoding

    label = load_encoding(run.path).label
    return None if label is None else label.shares


def _is_by_class(density: str | None) -> bool:
    from narrows.config.building import class_of
    from narrows.densities.base import Density
    from narrows.loading import fitted_density

    node = fitted_density.choices().get(density or "")
    return node is not None and class_of(node, "density", Density).by_class


def _nothing_to_draw_from(run: OpenRun) -> str:
    from narrows.loading.fitted_density import fitting

    name, fits = type(run.model.bottleneck).__name__, fitting(run.model)
    return (
        f"bottleneck {name} has no prior to sample from; fit a density to its latents with "
        f"narrows sample {run.path} --density {fits[0]} (those that fit: {', '.join(fits)})"
    )


def give(run: OpenRun, name: str, overrides: Sequence[str]) -> None:
    """Attach the density of that name: the stored one if its options are those asked for, else a newly fitted one.

    Raises:
        UserError: no such density, a latent that it cannot read, or data that are not here.
    """
    from narrows.loading import fitted_density

    known = fitted_density.choices()
    require(name in known, f"there is no density '{name}': {nearest(name, [*known, OWN])}")
    model, config = run.model, run.config
    config.density = known[name]
    run.find_data(overrides)
    model.density = None
    stored = run.path / DENSITIES / f"{name}.ckpt"
    for path in (fitted_density.fitted_path(run.path), stored, run.path / OLD_DENSITIES / stored.name):
        if fitted_density.attach(model, path, run.weights, run.allow, asked=config.density):
            return
    density = fitted_density.build_density(config.density, model, config.seed)
    assert density is not None
    data = run.data
    model.to(run.device)
    fitted_density.fit(density, config.density, model, data, config.seed)
    model.cpu()
    fitted_density.save(density, config.density, run.weights, stored)


def class_of(model: Autoencoder, label: str | int | None) -> int | None:
    """The number of a class, given by its number or its name; None if none is given.

    Raises:
        UserError: a label for a model whose samples are of no class, or of no class of the data.
    """
    if label is None:
        return None
    if model.classes(1) is None:
        raise UserError(
            f"--label {label}: this model is not told the class; variant=conditional_vae is, and --density by_class "
            "draws any model's latents by class"
        )
    names, count = model.spec.class_names or [], model.spec.num_classes or 0
    if str(label) in names:
        return names.index(str(label))
    known = nearest(str(label), names) if names else "it is the number of a class"
    require(str(label).removeprefix("-").isdecimal(), f"--label: there is no class '{label}': {known}")
    require(0 <= int(label) < count, f"--label must be from 0 to {count - 1}, not {label}")
    return int(label)


def draw(
    model: Autoencoder,
    n: int,
    label: int | None,
    seed: int,
    temperature: float | None = None,
    shares: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`n` samples `[n, *shape]` on the CPU, points of p(x|z) or draws at a temperature, and their classes `[n]`, None
    where the model knows none; equal seeds give equal ones.

    Args:
        label: the class of all of them; None: classes in turn, or by these `shares` where they are given.

    Raises:
        UserError: a temperature that the likelihood does not have.
    """
    import torch

    from narrows.evaluation import evaluating

    labels = model.classes(n)
    if labels is not None and label is not None:
        labels.fill_(label)
    elif labels is not None and shares:
        from narrows.random import generator

        rows = torch.multinomial(torch.tensor(shares), n, replacement=True, generator=generator(seed, "sample labels"))
        labels = rows.to(labels)
    with evaluating(model, seed, "sample"):
        told = [None] * n if labels is None else labels.split(AT_ONCE)
        parts = zip(model.draw(n, labels).split(AT_ONCE), told, strict=False)
        drawn = temperature is not None
        how = partial(model.point_at, draw=drawn, temperature=1.0 if temperature is None else temperature)
        rows = torch.cat([how(z, replace(model.usual(len(z)), label=y)).cpu() for z, y in parts])
    return rows, None if labels is None else labels.cpu()


if __name__ == "__main__":
    main()
