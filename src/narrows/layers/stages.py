"""The base classes of encoders and decoders.

Every stage is built from the shape before it and says its own `out_shape`, both without the batch axis.
Configs hold partials (`_partial_: true`) of everything but the shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from narrows.errors import UserError, nearest
from narrows.types import Shape

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}


def activation(name: str) -> nn.Module:
    """The activation of that name.

    Raises:
        UserError: the name is none of `ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"unknown activation '{name}': {nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class Encoder(nn.Module):
    """`[B, *in_shape] -> [B, *out_shape]`. Subclasses set both shapes at construction.

    If it `reads_hidden`, it is called with `hidden=`, the mask of unseen values of its input, or None. If it
    `reads_length`, it is called with `length=`, `[B]` or None, and takes examples of different lengths, `[B, C, T]` for
    any T; its output has one shape.
    """

    in_shape: Shape
    out_shape: Shape
    reads_hidden: ClassVar[bool] = False
    reads_length: ClassVar[bool] = False
    reads_parts: ClassVar[bool] = False
    """Whether it is of multi-modal data: it is built with `layout=`, the shape of each part by name (None of other
    data), and gives `[B, F + 1, K]`, the features of each of K parts and whether it is there."""
    initial: ClassVar[tuple[str, ...]] = ()
    """Options that only say where training starts: a trained model is built without them."""

    if TYPE_CHECKING:

        def __call__(self, x: Tensor, **told: Tensor | None) -> Tensor: ...


class Decoder(nn.Module):
    """`[B, *in_shape] -> [B, *out_shape]`, the parameters of the likelihood, stacked on axis 1.

    An autoregressive decoder is built with `spec=` too, reads the target under teacher forcing in
    `forward(z, target)`, and defines `generate(z, readout, steps)`, which runs free: `readout` maps the
    parameters of one step to the value fed back, and `steps` bounds how many there are (None: those of `spec.shape`).
    It stops where every row has written the end mark of tokens, `spec.end`. One of `scheduled_sampling` above 0 is
    called with `readout=` in training too.
    One that `reads_length` takes targets of any number of steps, of examples that differ in length: it is called with
    `length=` beside the target, `[B]` or None.
    """

    in_shape: Shape
    out_shape: Shape
    autoregressive: ClassVar[bool] = False
    reads_length: ClassVar[bool] = False
    writes_shares: ClassVar[bool] = False
    """Whether it is of a topic model: each latent is a topic, each output the logit of a word's share. It then has
    `topics()`, the shares of words in every topic, `[K, V]`."""
    reads_parts: ClassVar[bool] = False
    """Whether it is of multi-modal data: it is built with `layout=`, the shape of each part's parameters by name (None
    of other data)."""
    tied: bool = False
    scheduled_sampling: float = 0.0
    """Probability that a step is fed the decoder's own guess in training, where it is autoregressive."""

    if TYPE_CHECKING:

        def __call__(self, z: Tensor, target: Tensor | None = None, **told: Any) -> Tensor: ...

    def generate(self, z: Tensor, readout: Callable[[Tensor], Tensor], steps: int | None = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not run step by step")

    def run_free(self, z: Tensor, readout: Callable[[Tensor], Tensor], steps: int | None = None) -> Tensor:
        """What `generate` reads out of its steps, `[B, C, S]`, or token ids `[B, S]`."""
        values: list[Tensor] = []

        def kept(params: Tensor) -> Tensor:
            values.append(readout(params))
            return values[-1]

        self.generate(z, kept, steps)
        return torch.cat(values, -1)

    def tie(self, encoder: Encoder, bottleneck: nn.Module) -> None:
        raise NotImplementedError(f"{type(self).__name__} cannot share the encoder's weights")


class AxisLinear(nn.Linear):
    """A linear map over axis 1 at every position: `[B, C, *positions] -> [B, out, *positions]`."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return super().forward(x)
        return torch.movedim(super().forward(torch.movedim(x, 1, -1)), -1, 1)


@contextmanager
def still(*modules: nn.Module) -> Iterator[None]:
    """Inside, `modules` are in evaluation mode: no running statistic moves, nothing is dropped."""
    parts = [(part, part.training) for module in modules for part in module.modules()]
    for part, _ in parts:
        part.training = False
    try:
        yield
    finally:
        for part, training in parts:
            part.training = training
