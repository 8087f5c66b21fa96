"""`narrows train`: compose, fit, test, record. The single entrypoint."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

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

    try:
        return run(config)
    except UserError as error:
        return _stop(str(error))


def _stop(sentence: str) -> Figures:
    print(f"narrows: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Run the command line; a user's mistake ends with one sentence and exit code 2."""
    # Hydra would turn every error into its own text and exit code 1; narrows says it in its own words.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Threads that wait by spinning slow a small network tenfold as soon as anything else uses the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    register_resolvers()
    entry = hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")
    try:
        entry(task)()
    except UserError as error:
        _stop(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _stop(explain(error))
    except OSError as error:
        if error.filename is None:
            raise
        _stop(f"cannot use {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
