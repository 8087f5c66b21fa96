"""The formats of exported files. Each writes a part as bytes, and runs what it has written."""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.export import ExportedProgram

from narrows.errors import UserError, require
from narrows.exporting.model_parts import Part
from narrows.types import Batch

EXTRA = "pip install 'narrows[export]'"
LARGEST = 2**31
"""Bytes that an ONNX file can hold."""
Tensors = Mapping[str, Tensor]


class Safetensors:
    """The weights alone, by the names of the model's `state_dict`."""

    graph: ClassVar[bool] = False
    kept: ClassVar[dict[str, tuple[str, ...]]] = {
        "encoder": ("input.", "encoder.", "bottleneck."),
        "decoder": ("decoder.", "likelihood."),
        "reconstruction": ("",),
    }

    def write(self, part: Part, inputs: Tensors, metadata: dict[str, str]) -> bytes:
        from safetensors.torch import save

        # Copies, because tied weights share memory, and two names of one tensor are refused.
        return save({name: value.clone() for name, value in self._weights(part).items()}, metadata)

    def largest_difference(self, written: bytes, part: Part, batches: Sequence[Batch]) -> tuple[float, float]:
        """The largest difference of a weight, and that by the largest weight."""
        from safetensors.torch import load

        return _largest(load(written), self._weights(part))

    def _weights(self, part: Part) -> dict[str, Tensor]:
        state = part.model.state_dict()
        return {name: value.contiguous() for name, value in state.items() if name.startswith(self.kept[part.name])}


class TorchExport:
    """A `torch.export` program, which `torch.export.load(path).module()(x)` runs without narrows.

    Further inputs follow x in the order in which the metadata name them.
    """

    graph: ClassVar[bool] = True

    def write(self, part: Part, inputs: Tensors, metadata: dict[str, str]) -> bytes:
        file = io.BytesIO()
        with _quietly():
            torch.export.save(program(part, inputs), file, extra_files=dict(metadata))
        return file.getvalue()

    def largest_difference(self, written: bytes, part: Part, batches: Sequence[Batch]) -> tuple[float, float]:
        with _quietly():
            module = torch.export.load(io.BytesIO(written)).module()
        return _against_model(lambda inputs: _named(part, module(*inputs.values())), part, batches)


class Onnx:
    """An ONNX graph, which `onnxruntime` runs without torch.

    Raises:
        UserError: the packages of the extra `export` are not installed.
    """

    graph: ClassVar[bool] = True

    def __init__(self) -> None:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise UserError(f"--to onnx needs {name}, which is not installed: {EXTRA}") from error

    def write(self, part: Part, inputs: Tensors, metadata: dict[str, str]) -> bytes:
        import onnx

        size = sum(value.numel() * value.element_size() for value in part.model.state_dict().values())
        require(size < LARGEST, f"an ONNX file holds at most 2 GiB, and these weights take {size / 2**30:.1f}")
        with _quietly():
            made = torch.onnx.export(
                program(part, inputs),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(part.outputs),
                dynamo=True,
                verbose=False,
            )
        assert made is not None
        model: Any = made.model_proto
        _clean(model.graph)
        onnx.helper.set_model_props(model, metadata)
        content: bytes = model.SerializeToString()
        return content

    def largest_difference(self, written: bytes, part: Part, batches: Sequence[Batch]) -> tuple[float, float]:
        import onnxruntime

        session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]

        def run(inputs: Tensors) -> dict[str, Tensor]:
            found = session.run(None, {name: inputs[name].numpy() for name in names})
            return dict(zip(part.outputs, map(torch.from_numpy, found), strict=True))

        return _against_model(run, part, batches)


Format = Safetensors | Onnx | TorchExport
FORMATS: dict[str, type[Safetensors] | type[Onnx] | type[TorchExport]] = {
    "safetensors": Safetensors,
    "onnx": Onnx,
    "torch_export": TorchExport,
}


class _InOrder(nn.Module):
    """A part that takes what it reads in its order, without names."""

    def __init__(self, part: Part, inputs: Tensors) -> None:
        super().__init__()
        self.part, self.names = part, tuple(inputs)

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        found: Tensor | tuple[Tensor, Tensor] = self.part(**dict(zip(self.names, tensors, strict=True)))
        return found


def program(part: Part, inputs: Tensors) -> ExportedProgram:
    """The part as a graph whose batches may have any size.

    Raises:
        Exception: of whatever kind, where it has no graph.
    """
    validated = Distribution._validate_args
    # Checks of values would be branches that the data decide.
    Distribution.set_default_validate_args(False)
    try:
        any_size = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
        made = torch.export.export(_InOrder(part, inputs), tuple(inputs.values()), dynamic_shapes=(any_size,))
    finally:
        Distribution.set_default_validate_args(validated)
    for node in made.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names source files of this machine
    return made


def _clean(graph: Any) -> None:
    """Leave out what torch notes of the source files of this machine, and call the first axis of what goes in and out
    `batch`."""
    for each in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del each.metadata_props[:]
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.HasField("dim_value"):
            first.dim_param = "batch"


def _named(part: Part, found: Tensor | tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip(part.outputs, found if isinstance(found, tuple) else (found,), strict=True))


def _against_model(run: Callable[[Tensors], Tensors], part: Part, batches: Sequence[Batch]) -> tuple[float, float]:
    """The largest difference from the model over all batches, and that by its largest value."""
    found = [_largest(run(part.examples(batch)), part.expected(batch)) for batch in batches]
    return max(absolute for absolute, _ in found), max(relative for _, relative in found)


def _largest(ours: Tensors, theirs: Tensors) -> tuple[float, float]:
    absolute, relative = [0.0], [0.0]
    for name, right in theirs.items():
        mine = ours[name]
        if mine.shape != right.shape or not bool((mine.isfinite() == right.isfinite()).all()):
            return float("inf"), float("inf")
        apart = float((mine.double() - right.double()).nan_to_num().abs().max()) if right.numel() else 0.0
        absolute.append(apart)
        # Against the largest value, because a value of 0 has no relative error; a whole number is right or wrong.
        size = float(right.double().nan_to_num().abs().max()) if right.is_floating_point() and right.numel() else 1.0
        relative.append(apart / size if size else apart)
    return max(absolute), max(relative)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch's own exporters warn of among themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
