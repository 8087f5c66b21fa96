"""The autoencoder: one chain of stages.

batch.x ─ corruption ─▶ x_in ─ encoder ─▶ h ─ bottleneck ─▶ latent ─ decoder ─▶ params ─ likelihood ─▶ p(x|z)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeGuard, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from narrows.bottlenecks.base import Bottleneck
from narrows.corruptions import Corruption
from narrows.errors import UserError, require
from narrows.layers.stages import Decoder, Encoder
from narrows.likelihoods.elementwise import Likelihood
from narrows.types import Batch, DataSpec, Latent, Output, Shape, VariationalLatent

Builder = Callable[..., Any]
Init = Literal["torch", "glorot", "he"]


class FittedDensity(Protocol):
    """A density fitted to the latents after training; see `narrows.densities`."""

    def sample(self, n: int) -> Tensor:
        """`n` latents, `[n, *latent_shape]`."""
        ...


@dataclass(frozen=True)
class Stages:
    """What builds the five stages, once the shapes are known.

    Args:
        encoder: `encoder(in_shape)`.
        bottleneck: `bottleneck(in_shape)`.
        decoder: `decoder(in_shape, out_shape)`, and `data_shape` where it is autoregressive.
        likelihood: `likelihood(spec)`.
        corruption: `corruption(spec)`.
    """

    encoder: Builder
    bottleneck: Builder
    decoder: Builder
    likelihood: Builder
    corruption: Builder


class Autoencoder(nn.Module):
    """Wires the stages; each is built from the shape before it.

    Args:
        spec: of the data, after `datamodule.setup()`.
        stages: what builds them.
        init: `torch`, every layer as torch draws it, or `glorot`, linear and convolutional weights drawn as
            TensorFlow and Keras do ("Understanding the difficulty of training deep feedforward neural
            networks", Glorot and Bengio, 2010, equation 16) and their biases 0, or `he`, those weights normal with
            variance 2 / inputs ("Delving Deep into Rectifiers", He et al., 2015, equation 10).

    Raises:
        UserError: an unknown `init`, two stages whose shapes do not meet, or a stage that cannot read this data.
    """

    def __init__(
        self,
        spec: DataSpec,
        stages: Stages,
        *,
        init: Init = "torch",
    ) -> None:
        super().__init__()
        require(init in get_args(Init), f"model.init must be torch, glorot or he, not '{init}'")
        self.spec = spec
        self.corruption: Corruption = stages.corruption(spec)
        self.likelihood: Likelihood = stages.likelihood(spec)
        self.encoder: Encoder = stages.encoder(self.seen_shape)
        self.bottleneck: Bottleneck = stages.bottleneck(self.encoder.out_shape)
        self.returns(self.bottleneck)
        self.decoder: Decoder = self._build_decoder(stages.decoder)
        self.density: FittedDensity | None = None
        """A density fitted to the latents after training; where there is one, samples are drawn from it."""
        if init != "torch":
            self.apply(_glorot if init == "glorot" else _he)

    @classmethod
    def returns(cls, bottleneck: Bottleneck) -> type[Latent]:
        """The kind of latent that `encode` gives: the bottleneck's, unless the model makes another of it.

        A composition is judged by it before there is a model.

        Raises:
            UserError: a latent of which this model can make nothing.
        """
        return bottleneck.returns

    @classmethod
    def giver(cls, bottleneck: Bottleneck) -> str:
        """What a refusal of the latent names: the model where it makes a latent of its own, else the bottleneck."""
        own = cls.returns(bottleneck) is not bottleneck.returns
        return f"model {cls.__name__}" if own else f"bottleneck {type(bottleneck).__name__}"

    @property
    def latent_kind(self) -> type[Latent]:
        """The kind of latent that `encode` gives."""
        return self.returns(self.bottleneck)

    def _build_decoder(self, builder: Builder) -> Decoder:
        wanted = self.likelihood.out_shape
        target = getattr(builder, "func", builder)
        extra = {"data_shape": self.spec.shape} if getattr(target, "autoregressive", False) else {}
        decoder = builder(self.read_shape, wanted, **extra)
        if tuple(decoder.out_shape) != tuple(wanted):
            raise UserError(
                f"decoder {type(decoder).__name__} gives {list(decoder.out_shape)}, but likelihood "
                f"{type(self.likelihood).__name__} needs {list(wanted)} for data of shape {list(self.spec.shape)}"
            )
        if decoder.tied:
            decoder.tie(self.encoder, self.bottleneck)
        return decoder

    @property
    def seen_shape(self) -> Shape:
        """Of what the encoder reads, without the batch axis."""
        return tuple(self.spec.shape)

    @property
    def read_shape(self) -> Shape:
        """Of what the decoder reads, without the batch axis."""
        return tuple(self.bottleneck.out_shape)

    def features(self, x: Tensor, label: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """What the bottleneck reads, `[B, *encoder.out_shape]`."""
        return self.encoder(x, hidden) if self.encoder.reads_hidden else self.encoder(x)

    def encode(self, x: Tensor, label: Tensor | None = None, hidden: Tensor | None = None) -> Latent:
        """The latent of `x [B, *shape]`, which is not corrupted here.

        Args:
            x: the input.
            label: `[B]`; only a conditional model reads it.
            hidden: bool, `x`'s shape, what a corruption hid or is missing; only an encoder of visible patches and a
                model with a missing indicator read it.
        """
        return self.bottleneck(self.features(x, label, hidden))

    def params(self, z: Tensor, target: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """The likelihood's parameters at `z [B, *latent_shape]`, `[B, *likelihood.out_shape]`; see `decode`."""
        if not self.decoder.autoregressive:
            return self.decoder(z)
        if target is None:
            return self.decoder.generate(z, lambda params: self.likelihood(params).mean)
        return self.decoder(z, target)

    def decode(self, z: Tensor, target: Tensor | None = None, label: Tensor | None = None) -> Distribution:
        """`[B, *latent_shape]` to p(x|z). An autoregressive decoder reads `target` (teacher forcing), or
        runs free where it is None; every other decoder ignores it. Only a conditional model reads `label [B]`."""
        return self.likelihood(self.params(z, target, label))

    def forward(self, batch: Batch) -> Output:
        x_in, hidden = self.corruption(batch.x)
        latent = self.encode(x_in, batch.label, unseen(hidden, batch.observed))
        p_x = self.decode(latent.z, batch.truth, batch.label)
        if self.training:
            self.bottleneck.learn(latent)
        return Output(batch=batch, x_in=x_in, hidden=hidden, latent=latent, p_x=p_x)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one latent, without the batch axis."""
        return tuple(self.bottleneck.out_shape)

    @property
    def variational(self) -> bool:
        """Whether a latent has a posterior and a prior of its own."""
        return issubclass(self.latent_kind, VariationalLatent)

    @property
    def generative(self) -> bool:
        """Whether there is something to sample from: a prior of the bottleneck's, or a fitted density."""
        return self.variational or self.density is not None

    @torch.no_grad()
    def embed(self, x: Tensor, label: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """The noise-free latent, `[B, D]` (maps and sequences flattened). Arguments as of `encode`."""
        return self.encode(x, label, hidden).point.flatten(1)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, label: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """The mean of p(x|z) at the noise-free latent, `[B, *shape]`; free running where autoregressive.

        Arguments as of `encode`.
        """
        return self.decode(self.encode(x, label, hidden).point, label=label).mean

    @torch.no_grad()
    def draw(self, n: int) -> Tensor:
        """`n` latents, `[n, *latent_shape]`, from the fitted density where there is one, else from the prior."""
        return self.draw_own(n) if self.density is None else self.density.sample(n)

    def draw_own(self, n: int) -> Tensor:
        """`n` latents from the model's own prior, `[n, *latent_shape]`."""
        return self.bottleneck.sample_prior(n)

    @torch.no_grad()
    def sample(self, n: int, label: Tensor | None = None) -> Tensor:
        """The means of p(x|z) at `n` draws of z, `[n, *shape]`; see `draw`.

        Args:
            n: how many.
            label: `[n]`, of a conditional model; by default its classes in turn.

        Raises:
            UserError: this bottleneck has no prior, and no density was fitted.
        """
        if not self.generative:
            raise UserError(
                f"bottleneck {type(self.bottleneck).__name__} has no prior to sample from; "
                "use a variational one (bottleneck=gaussian), or fit one to its latents (density=mixture)"
            )
        return self.decode(self.draw(n), label=self.classes(n) if label is None else label).mean

    def classes(self, n: int) -> Tensor | None:
        """The labels of `n` samples that nobody chose, `[n]`; None where the model reads none."""
        return None


def unseen(hidden: Tensor | None, observed: Tensor | None) -> Tensor | None:
    """bool, x's shape: what an encoder cannot know, hidden by a corruption or missing; None where it is nothing."""
    if observed is None:
        return hidden
    return ~observed if hidden is None else hidden | ~observed


@torch.no_grad()
def _glorot(layer: nn.Module) -> None:
    if _is_linear(layer):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _he(layer: nn.Module) -> None:
    if _is_linear(layer):
        nn.init.kaiming_normal_(layer.weight)


def _is_linear(layer: nn.Module) -> TypeGuard[nn.Linear | nn.modules.conv._ConvNd]:
    # By kind and not by name: recurrent layers keep torch's draw, which is made for them.
    return isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))
