"""`narrows.load`: the model of a run, which reads new data as the run does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from narrows.errors import UserError
from narrows.loading.open_run import OpenRun
from narrows.models.autoencoder import Autoencoder
from narrows.new_data.apply import to_memory
from narrows.new_data.open_new import open_new
from narrows.runs.file_names import VOCABULARY


def load(run_dir: str | Path, checkpoint: str | None = None, allow: Sequence[str] = ()) -> Autoencoder:
    """The trained model of a run, in evaluation mode on the CPU.

    The run may come from a stranger: its config can build only components of narrows, torch, torchvision and Lightning
    (`narrows.loading.permitted_classes`), and its checkpoint can hold only tensors and plain values. The model has
    `encode / decode / reconstruct / embed / sample`; see `narrows.models.Autoencoder`. A density that the run fitted to
    the latents of this checkpoint is attached, and samples are drawn from it.

    `embed` and `reconstruct` take new data too: a path, an array or a frame (of texts a list) is read as the run's own,
    and what is rebuilt comes back in its units: `narrows.load(RUN).reconstruct("new.csv")` is a frame.

    Args:
        run_dir: what `narrows train` printed; or a packed run, `digits-vae`, or `hf://OWNER/NAME`: see `OpenRun`.
        checkpoint: `best` or `last`; by default the one that the run's figures belong to.
        allow: packages of your own that the config may name too, such as `["mylab"]`.

    Raises:
        UserError: no such run, it has no readable checkpoint, or its config names what is not allowed.
    """
    try:
        run = OpenRun(run_dir, allow, checkpoint)
        model = run.model
    except UserError as error:
        # Without its causes, whose texts may hold a stranger's control characters.
        raise error from None
    model.reader = Reader(run)
    return model


class Reader:
    """Reads new data for the model of a run, as that run read its own.

    All of it is held in memory, and every example must be readable: `narrows embed` and `narrows reconstruct` stream,
    and keep the place of bad ones.
    """

    def __init__(self, run: OpenRun) -> None:
        self._run = run

    def reads(self, given: Any) -> bool:
        """Whether this is a path, an array, a frame, sparse rows, or, of a run on texts, a list of texts, of one on
        multi-modal data a dictionary of arrays."""
        if isinstance(given, str | Path | np.ndarray | Mapping) or hasattr(given, "iloc") or hasattr(given, "tocsr"):
            return True
        worded = self._run.model.spec.kind == "tokens" or (self._run.path / VOCABULARY).is_file()
        return worded and isinstance(given, list | tuple) and all(isinstance(one, str) for one in given)

    def embed(self, given: Any) -> Tensor:
        """The latents of new data, `[N, D]`.

        Raises:
            UserError: data that the run does not read, or an example that cannot be read.
        """
        model = self._run.model
        return torch.cat([values for _, values in to_memory(model, self._open(given), model.embed)])

    def reconstruct(self, given: Any) -> Any:
        """New data rebuilt, in their own units: an array `[N, ...]`, a frame, a list of texts, or a dictionary of
        arrays.

        Raises:
            UserError: data that the run does not read, or an example that cannot be read.
        """
        model, data = self._run.model, self._open(given)
        found = [data.own_form(values, chunk) for chunk, values in to_memory(model, data, model.reconstruct)]
        if isinstance(found[0], list):
            return [text for texts in found for text in texts]
        if isinstance(found[0], np.ndarray):
            return np.concatenate(found)
        if isinstance(found[0], dict):
            return {name: np.concatenate([one[name] for one in found]) for name in found[0]}
        import pandas as pd  # which made the first one already

        return pd.concat(found, ignore_index=True)

    def _open(self, given: Any) -> Any:
        return open_new(self._run, Path(given).expanduser() if isinstance(given, str) else given)
