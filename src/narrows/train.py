"""`narrows train`: compose, fit, test, record. The single entrypoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from narrows.config import config_dir, explain, register_resolvers
from narrows.errors import UserError

if TYPE_CHECKING:
    from narrows.experiment import Figures


def task(config: DictConfig) -> Figures:
    """One job: Hydra has composed the config and made the run directory."""
    from narrows.experiment import run

    # Here, and not only around Hydra, which puts a line of its own before any other exception.
    with explained():
        return run(config)


@contextmanager
def explained() -> Iterator[None]:
    """A user's mistake ends with one sentence and exit code 2."""
    try:
        yield
    except UserError as error:
        _stop(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _stop(explain(error))
    except OSError as error:
        if error.filename is None:
            raise
        _stop(f"cannot use {error.filename}: {error.strerror}")


def _stop(sentence: str) -> NoReturn:
    print(f"narrows: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def options_first(arguments: list[str]) -> list[str]:
    """The common options before the overrides: argparse takes no override after one that follows another."""
    options, overrides = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-cd", "--config-dir"):
            options += [argument, *islice(rest, 1)]
        elif argument in ("-m", "--multirun") or argument.startswith("--config-dir="):
            options.append(argument)
        else:
            overrides.append(argument)
    return options + overrides


def main() -> None:
    """Run the command line."""
    # Hydra would turn every error into its own text and exit code 1; narrows says it in its own words.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Threads that wait by spinning slow a small network tenfold as soon as anything else uses the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.argv[1:] = options_first(sys.argv[1:])
    register_resolvers()
    entry = hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")
    with explained():
        entry(task)()


if __name__ == "__main__":
    main()
