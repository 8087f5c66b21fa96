"""What an exported file says of itself: all that a program needs to use it, as texts by name."""

from __future__ import annotations

import json
from collections.abc import Mapping

from omegaconf import OmegaConf
from torch import Tensor

import narrows
from narrows.exporting.model_parts import MEANINGS, Part
from narrows.loading.open_run import OpenRun
from narrows.runs.file_names import ENCODING, SIGNALS, TOKENISER, VOCABULARY

READ_WITH = (ENCODING, VOCABULARY, TOKENISER, SIGNALS)
"""What a run keeps of how its data were read; the files' names without their ending are the keys."""


def of_run(run: OpenRun) -> dict[str, str]:
    """`narrows` (the version), `weights` (their SHA-256), `spec` and `encoding`, `vocabulary`, `tokeniser` or `signals`
    as JSON, `config` as YAML."""
    told = {
        "narrows": narrows.__version__,
        "weights": run.checksum,
        "spec": json.dumps(run.model.spec.to_dict(), sort_keys=True),
        "config": OmegaConf.to_yaml(run.config, resolve=True),
    }
    for path in (run.path / name for name in READ_WITH):
        if path.is_file():
            told[path.stem] = path.read_text(encoding="utf-8")
    return told


def of_part(part: Part, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, str]:
    """`part` (its name), `inputs` and `outputs`: of each the shape, the type and what it is, as JSON."""
    return {"part": part.name, "inputs": _described(inputs), "outputs": _described(outputs)}


def _described(tensors: Mapping[str, Tensor]) -> str:
    told = {
        name: {
            "shape": ["batch", *tensor.shape[1:]],
            "type": str(tensor.dtype).removeprefix("torch."),
            "meaning": MEANINGS[name],
        }
        for name, tensor in tensors.items()
    }
    return json.dumps(told)
