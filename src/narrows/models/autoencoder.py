"""The autoencoder: one chain of stages.

Batch ─ corruption ─▶ x_in ─ input ─▶ encoder ─▶ h ─ bottleneck ─▶ latent ─ decoder ─▶ params ─ likelihood ─▶ p(x|z)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, get_args, overload

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import pad

from narrows.bottlenecks.base import Bottleneck
from narrows.corruptions import Corruption
from narrows.errors import UserError, require
from narrows.inputs import Covariates, Input
from narrows.layers.shapes import Sizes, checked
from narrows.layers.stages import Decoder, Encoder
from narrows.likelihoods.elementwise import Likelihood
from narrows.models.feedback import readout, steps, teacher_forced
from narrows.models.given_values import refusing_others, require_count, require_examples
from narrows.models.initial_weights import INITS, Init
from narrows.models.stage_checks import layout_of, reads_parts, refuse_fixed_length, require_experts, require_topics
from narrows.models.stages import Builder, DataReader, FittedDensity, Stages
from narrows.types import Batch, DataSpec, Given, Latent, Output, Shape, VariationalLatent


class Autoencoder(nn.Module):
    """Wires the stages; each is built from the shape before it.

    Methods that take a batch take a tensor `x [B, *shape]` too, which stands for `Batch(x)`, unless examples differ in
    length: a tensor does not say where an example ends.

    Args:
        spec: the description of the data, after `datamodule.setup()`.
        stages: builders of the stages.
        init: how the weights of linear and convolutional layers are drawn. `torch`: as torch draws them. `glorot`: as
            TensorFlow and Keras do, with biases of 0 ("Understanding the difficulty of training deep feedforward neural
            networks", Glorot and Bengio, 2010, equation 16). `he`: normal with variance 2 / inputs ("Delving Deep into
            Rectifiers", He et al., 2015, https://arxiv.org/abs/1502.01852, equation 10).

    Raises:
        UserError: an unknown `init`, two stages whose shapes do not meet, or a stage that cannot read this data.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(3, 4)))
        >>> out.latent.z.shape, out.p_x.mean.shape, out.log_likelihood.shape
        (torch.Size([3, 8]), torch.Size([3, 4]), torch.Size([3]))
        >>> model.sample(2).shape
        torch.Size([2, 4])
    """

    needs_input: ClassVar[bool] = False
    """Whether p(x|z) depends on the encoder's input besides z, so that no x can be sampled."""
    prior_reads_input: ClassVar[bool] = False
    """Whether the prior depends on x, so that no draw of the posterior bounds log p(x)."""

    if TYPE_CHECKING:

        def __call__(self, batch: Batch) -> Output: ...

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
        self.input: Input = stages.input(spec)
        require(
            not spec.covariates or isinstance(self.input, Covariates),
            f"these data have covariates ({', '.join(spec.covariates or [])}), which input "
            f"{type(self.input).__name__} does not read: set input=covariates",
        )
        own = {"layout": layout_of(spec)} if reads_parts(stages.encoder) else {}
        self.encoder: Encoder = stages.encoder(self.seen_shape, **own)
        require_experts(self.encoder, stages.bottleneck)
        self.bottleneck: Bottleneck = stages.bottleneck(self.encoder.out_shape)
        self.returns(self.bottleneck)
        self.decoder: Decoder = self._build_decoder(stages.decoder)
        if spec.variable:
            refuse_fixed_length(self.corruption, self.input, self.encoder, self.decoder, self.likelihood)
        self.density: FittedDensity | None = None
        """A density fitted to the latents after training; where there is one, samples are drawn from it."""
        self.reader: DataReader | None = None
        """What reads new data for `embed` and `reconstruct`, of a model that was loaded from a run."""
        if init != "torch":
            self.apply(INITS[init])

    @classmethod
    def returns(cls, bottleneck: Bottleneck) -> type[Latent]:
        """The kind of latent that `encode` returns: the bottleneck's, unless the model turns it into another.

        A composition is checked by it before there is a model.

        Raises:
            UserError: a latent that this model cannot use.
        """
        return bottleneck.returns

    @classmethod
    def name_source(cls, bottleneck: Bottleneck) -> str:
        """What a message names as the source of the latent: the model where it makes its own, else the bottleneck."""
        own = cls.returns(bottleneck) is not bottleneck.returns
        return f"model {cls.__name__}" if own else f"bottleneck {type(bottleneck).__name__}"

    @property
    def latent_kind(self) -> type[Latent]:
        """The kind of latent that `encode` returns."""
        return self.returns(self.bottleneck)

    def _build_decoder(self, builder: Builder) -> Decoder:
        wanted = self.written_shape
        target = getattr(builder, "func", builder)
        extra: dict[str, Any] = {"spec": self.spec} if getattr(target, "autoregressive", False) else {}
        if reads_parts(builder):
            extra["layout"] = getattr(self.likelihood, "layout", None) or layout_of(self.spec)
        decoder: Decoder = builder(self.read_shape, wanted, **extra)
        if tuple(decoder.out_shape) != tuple(wanted):
            raise UserError(
                f"decoder {type(decoder).__name__} gives {list(decoder.out_shape)}, but likelihood "
                f"{type(self.likelihood).__name__} needs {list(wanted)} for data of shape {list(self.spec.shape)}"
            )
        if decoder.writes_shares:
            require_topics(decoder, self.likelihood, self.read_shape == self.latent_shape, type(self).__name__)
        if decoder.tied:
            decoder.tie(self.encoder, self.bottleneck)
        return decoder

    @property
    def seen_shape(self) -> Shape:
        """Shape of the encoder's input, without the batch axis."""
        return tuple(self.input.out_shape)

    @property
    def written_shape(self) -> Shape:
        """Shape of the decoder's output, without the batch axis."""
        return tuple(self.likelihood.out_shape)

    @property
    def read_shape(self) -> Shape:
        """Shape of the decoder's input, without the batch axis."""
        return tuple(self.bottleneck.out_shape)

    def _sizes(self, shape: Shape) -> Sizes:
        """The shape, whose last axis has any size where examples differ in length."""
        return (*shape[:-1], None) if self.spec.variable else shape

    def whole(self, batch: Batch | Tensor) -> Batch:
        """The batch itself, or the batch whose input is the tensor.

        Raises:
            UserError: a tensor of examples that differ in length, or no examples such as the model's.
        """
        require(
            isinstance(batch, Batch) or not self.spec.variable,
            "the examples of this model differ in length, which a tensor does not say: give a Batch with `length`",
        )
        require_examples(getattr(batch, "x", batch), self.spec.shape, "x")
        return Batch.of(batch)

    def corrupted(self, batch: Batch | Tensor) -> Batch:
        """The batch as training shows it to the encoder; see `Batch.seen_as`."""
        batch = self.whole(batch)
        x_in, hidden = self.corruption(batch)
        shape = tuple(batch.x.shape[1:])
        return batch.seen_as(checked(self.corruption, batch.x, x_in, (shape, shape)), hidden)

    def shown(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The encoder's input, `[B, *seen_shape]`, and the mask of its values that carry no information, for an encoder
        that reads one (else None)."""
        unseen = batch.unseen if self.encoder.reads_hidden else None
        return self.input(batch), None if unseen is None else self.input.mask(unseen)

    @refusing_others("x")
    def features(self, batch: Batch | Tensor) -> Tensor:
        """The bottleneck's input, `[B, *encoder.out_shape]`."""
        batch = self.whole(batch)
        seen, unseen = self.shown(batch)
        checked(self.input, batch.x, seen, (self._sizes(self.spec.shape), self._sizes(self.seen_shape)))
        told: dict[str, Tensor | None] = {}
        if self.encoder.reads_hidden:
            told["hidden"] = unseen
        if self.encoder.reads_length:
            told["length"] = batch.length
        shapes = self._sizes(self.seen_shape), self.encoder.out_shape
        return checked(self.encoder, seen, self.encoder(seen, **told), shapes)

    def encode(self, batch: Batch | Tensor) -> Latent:
        """The latent of the batch as it is, without corruption."""
        features = self.features(batch)
        latent = self.bottleneck(features)
        for values in (latent.z, latent.point):
            checked(self.bottleneck, features, values, (self.encoder.out_shape, self.bottleneck.out_shape))
        return latent

    @refusing_others("z")
    def params(self, z: Tensor, given: Batch | Given | None = None) -> Tensor:
        """The likelihood's parameters at `z [B, *latent_shape]`, `[B, *likelihood.out_shape]`; see `decode`."""
        read = self.decoder_input(z, given)
        shapes = self.read_shape, self._sizes(tuple(self.likelihood.out_shape))
        return checked(self.decoder, read, self._decoded(read, given), shapes)

    def decoder_input(self, z: Tensor, given: Batch | Given | None) -> Tensor:
        """What the decoder reads, `[B, *read_shape]`: the latent, and what a model puts beside it."""
        return z

    def _decoded(self, read: Tensor, given: Batch | Given | None) -> Tensor:
        if not self.decoder.autoregressive:
            return self.decoder(read)
        if isinstance(given, Batch):
            return teacher_forced(self.decoder, self.likelihood, read, given)
        return self.decoder.generate(read, readout(self.likelihood, given), steps(self.spec, given))

    def decode(self, z: Tensor, given: Batch | Given | None = None) -> Distribution:
        """`[B, *latent_shape]` to p(x|z).

        Args:
            z: as a bottleneck gives it.
            given: what p(x|z) depends on besides z. An autoregressive decoder reads the truth of a `Batch` (teacher
                forcing); without one it feeds back its own values, and of tokens stops at the end mark, so that there
                may be fewer steps. Only a conditional model reads the label.

        Raises:
            UserError: `z` is no batch of this model's latents.
        """
        require_examples(z, self.latent_shape, "z")
        told = given.given if isinstance(given, Batch) else given
        return self.likelihood(self.params(z, given), told)

    def point_at(
        self, z: Tensor, given: Given | None = None, *, draw: bool = False, temperature: float = 1.0
    ) -> Tensor:
        """One value for p(x|z), `[B, *shape]`, see `Likelihood.point`; an autoregressive decoder feeds back its own.
        Tokens are filled up with end marks.

        Args:
            z: as a bottleneck gives it.
            given: what p(x|z) depends on besides z.
            draw: whether values are drawn from p(x|z); an autoregressive decoder then feeds back what was drawn.
            temperature: of the draws, see `Likelihood.draw`.

        Raises:
            UserError: `z` is no batch of this model's latents, or a temperature that the likelihood does not have.
        """
        require_examples(z, self.latent_shape, "z")
        read_out = readout(self.likelihood, given, temperature if draw else None)
        if not self.decoder.autoregressive:
            return read_out(self.params(z, given))
        values = self.decoder.run_free(self.decoder_input(z, given), read_out, steps(self.spec, given))
        if self.spec.end is None:
            return values
        return pad(values, (0, self.spec.shape[-1] - values.shape[-1]), value=self.spec.end)

    def forward(self, batch: Batch) -> Output:
        seen = self.corrupted(batch)
        latent = self.encode(seen)
        p_x = self.decode(latent.z, seen)
        if self.bottleneck.training:  # not where it is frozen
            self.bottleneck.learn(latent)
        return Output(batch=batch, seen=seen, latent=latent, p_x=p_x)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent, without the batch axis."""
        return tuple(self.bottleneck.out_shape)

    @property
    def variational(self) -> bool:
        """Whether a latent has a posterior and a prior of its own."""
        return issubclass(self.latent_kind, VariationalLatent)

    @property
    def bounds_evidence(self) -> bool:
        """Whether `log p(x|z) + log p(z) - log q(z|x)` bounds log p(x) from below in the mean: the ELBO."""
        return self.variational and not self.prior_reads_input

    @property
    def generative(self) -> bool:
        """Whether there is something to sample from: the bottleneck's prior, or a fitted density."""
        return self.variational or self.density is not None

    @torch.no_grad()
    def embed(self, batch: Batch | Tensor | Any) -> Tensor:
        """The noise-free latent, `[B, D]` (maps and sequences flattened); where there is a `reader`, of what it reads
        too."""
        if self.reader is not None and self.reader.reads(batch):
            return self.reader.embed(batch)
        return self.encode(batch).point.flatten(1)

    @overload
    def reconstruct(self, batch: Batch | Tensor) -> Tensor: ...
    @overload
    def reconstruct(self, batch: Any) -> Any: ...

    @torch.no_grad()
    def reconstruct(self, batch: Any) -> Any:
        """`point_at` the noise-free latent, `[B, *shape]`: without corruption, and without teacher forcing. Of what a
        `reader` reads it is in the data's own form and units."""
        if self.reader is not None and self.reader.reads(batch):
            return self.reader.reconstruct(batch)
        batch = self.whole(batch)
        return self.point_at(self.encode(batch).point, batch.given)

    @torch.no_grad()
    def draw(self, n: int, label: Tensor | None = None) -> Tensor:
        """`n` latents, `[n, *latent_shape]`, from the fitted density where there is one, else from the prior.

        Args:
            label: `[n]`, the class of each, which a density by class reads.
        """
        if self.density is None:
            return self.draw_own(n)
        return self.density.sample(n) if label is None else self.density.sample_of(label)

    def draw_own(self, n: int) -> Tensor:
        """`n` latents from the model's own prior, `[n, *latent_shape]`."""
        return self.bottleneck.sample_prior(n)

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, temperature: float | None = None) -> Tensor:
        """`point_at` `n` draws of z, `[n, *shape]`; see `draw`.

        Args:
            n: how many.
            given: what p(x|z) depends on besides z, for each sample; by default `usual(n)`.
            temperature: at which x too is drawn; None: it is the point of p(x|z).

        Raises:
            UserError: this bottleneck has no prior, and no density was fitted; or `n` is no number of samples.
        """
        require_count(n)
        require(not self.needs_input, f"{type(self).__name__} answers with a part of its input, and cannot be sampled")
        if not self.generative:
            raise UserError(
                f"bottleneck {type(self.bottleneck).__name__} has no prior to sample from; "
                "use a variational one (bottleneck=gaussian), or fit one to its latents (density=mixture)"
            )
        told = self.usual(n) if given is None else given
        return self.point_at(
            self.draw(n, told.label),
            told,
            draw=temperature is not None,
            temperature=1.0 if temperature is None else temperature,
        )

    def usual(self, n: int) -> Given:
        """Default of what p(x|z) depends on besides z, for `n` samples: classes in turn, and library sizes from the
        log-normal distribution of the training rows', whole numbers of at least 1."""
        if self.spec.totals is None:
            return Given(self.classes(n))
        mean, deviation = self.spec.totals
        drawn = mean + deviation * torch.randn(n, device=next(self.parameters()).device)
        return Given(self.classes(n), total=drawn.exp().round().clamp_min(1))

    def classes(self, n: int) -> Tensor | None:
        """Default labels of `n` samples, `[n]`; None where neither the model nor a fitted density reads any."""
        return None if self.density is None else self.density.classes(n)
