"""Let a torchvision that was built for CUDA be imported beside a CPU-only torch.

In that case torchvision cannot load its compiled operators, and `import torchvision` fails while it registers
fakes for two of them (`operator torchvision::nms does not exist`), and with it `import lightning`. Declaring
the two schemas first is enough for datasets, transforms, `make_grid` and models; only the compiled image
reader and nms stay absent. Where the builds match, nothing is changed.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_declared: list[Any] = []  # keeps the operator library alive: the schemas vanish with it


def operators_load(folder: Path) -> bool:
    """Whether the compiled operators of the torchvision in `folder` load into this torch."""
    import torch

    libraries = [*folder.glob("_C*.so"), *folder.glob("_C*.pyd"), *folder.glob("_C*.dylib")]
    if not libraries:
        return False
    try:
        torch.ops.load_library(str(libraries[0]))
    except OSError:
        return False
    return True


def declare_missing_operators(folder: Path) -> bool:
    """Declare the schemas that torchvision expects if its own operators cannot load; returns whether it did."""
    if _declared or operators_load(folder):
        return False
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + SCHEMA)
    _declared.append(library)
    return True


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Import hook that declares the operators at the first import of torchvision, and then removes itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        # Ask the remaining finders here: the calling import would now skip one of them.
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.origin is not None:
            declare_missing_operators(Path(spec.origin).parent)
        return spec


def install() -> None:
    """Install the import hook, unless torchvision is imported already."""
    waiting = any(isinstance(finder, _BeforeTorchvision) for finder in sys.meta_path)
    if "torchvision" not in sys.modules and not waiting:
        sys.meta_path.insert(0, _BeforeTorchvision())
