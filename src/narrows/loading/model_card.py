"""The card of a model, for people and for model hubs: what it is, how good it is, and how to use and repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from narrows.compare.figure_names import ROWS
from narrows.compare.table_formats import number
from narrows.config.composition import title
from narrows.types import DataSpec

USAGE = """\
## Use

```bash
pip install narrows
narrows sample {file} -n 16 --out samples       # where the model has a prior
narrows train init_from={file} datamodule=...   # go on from its weights
```

```python
import narrows

model = narrows.load("{file}")
z = model.embed(x)  # x [B, {axes}]
model.decode(z).mean, model.reconstruct(x)
```
"""


def model_card(
    name: str, manifest: Mapping[str, Any], figures: Mapping[str, float], spec: DataSpec, notes: str | None = None
) -> str:
    """The card as Markdown, with the front matter that the Hugging Face hub reads.

    Args:
        name: of the packed file, without its ending.
        manifest, figures: of the run.
        spec: of its data.
        notes: the run's own.
    """
    choices = manifest.get("choices") or {}
    variant, data = str(title(choices)), str(choices.get("datamodule", spec.kind))
    shown = {key: value for key, value in figures.items() if key.startswith("test/")} or dict(figures)
    front = yaml.safe_dump(_front_matter(name, variant, data, spec, shown), sort_keys=False).strip()
    parts = [
        f"---\n{front}\n---",
        f"# {name}",
        f"An autoencoder, `{variant}` on `{data}`, trained with [narrows](https://pypi.org/project/narrows).",
        *([" ".join(notes.split())] if notes else []),
        _table("Data", _data(spec)),
        _table("Figures", {ROWS.get(key, key): number(value) for key, value in shown.items()}),
        USAGE.format(file=f"{name}.narrows", axes=", ".join(map(str, spec.shape))).strip(),
        _provenance(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(name: str, variant: str, data: str, spec: DataSpec, figures: Mapping[str, float]) -> dict[str, Any]:
    metrics = [{"type": key, "value": round(float(value), 6)} for key, value in figures.items()]
    result = {
        "task": {"type": "feature-extraction", "name": "Autoencoding"},
        "dataset": {"type": data, "name": data, "split": "test"},
        "metrics": metrics,
    }
    return {
        "library_name": "narrows",
        "tags": ["autoencoder", variant, spec.kind],
        "model-index": [{"name": name, "results": [result] if metrics else []}],
    }


def _data(spec: DataSpec) -> dict[str, str]:
    low_high = "unbounded" if spec.value_range is None else " to ".join(f"{end:g}" for end in spec.value_range)
    told = {
        "kind": spec.kind,
        "shape of an example": " x ".join(map(str, spec.shape)),
        "range of values": low_high,
        "training examples": f"{spec.size:,}",
        "fingerprint (SHA-256)": f"`{spec.fingerprint}`",
    }
    return told | ({"classes": str(spec.num_classes)} if spec.num_classes else {})


def _table(heading: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join([f"## {heading}", "", "| | |", "|---|---|", *lines])


def _provenance(manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions") or {}
    used = ", ".join(f"{name} {versions[name]}" for name in ("torch", "lightning") if name in versions)
    command = str(manifest.get("command", "narrows train")).replace("```", "")
    return (
        f"## Provenance\n\n```bash\n{command}\n```\n\nnarrows {manifest.get('narrows', '?')}, {used or 'torch'}; seed "
        f"{manifest.get('seed')}; `config.yaml` and `manifest.json` in the file hold the rest."
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
